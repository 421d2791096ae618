#!/usr/bin/env bash
# One machine with several GPUs: all of them train each level together, coarsest level first.
# Usage: torchrun.sh GPUS
set -euo pipefail

gpus=${1:?how many GPUs}
torchrun --standalone --nproc-per-node "$gpus" \
    -m lapgan train cifar10-cc --data cifar10 --out runs/cc --device cuda
