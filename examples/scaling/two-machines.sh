#!/usr/bin/env bash
# Two machines that share the folder `runs`. Start this on both, with the name of one of them:
#   two-machines.sh HOST GPUS
# If a machine is lost, the other one ends; the same command continues from the last checkpoint,
# also on one machine.
set -euo pipefail

host=${1:?the name of the machine on which the ranks meet}
gpus=${2:?GPUs per machine}
torchrun --nnodes 1:2 --nproc-per-node "$gpus" --max-restarts 3 \
    --rdzv-backend c10d --rdzv-endpoint "$host:29400" --rdzv-id lapgan \
    -m lapgan train cifar10-cc --data cifar10 --out runs/cc --device cuda
