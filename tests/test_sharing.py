"""Several processes sample and evaluate together, as `torchrun` starts them.

Each rank works in a folder and with a cache of its own, as on machines without a shared file
system, so that what a rank writes is known by its place.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lapgan.cascade import Cascade
from lapgan.compute import choose_compute
from lapgan.distributed import Ranks
from lapgan.evaluation.config import QUICK, EvaluationConfig
from lapgan.evaluation.features.extract import Extractor, extract_features
from lapgan.evaluation.report import describe
from lapgan.evaluation.suite import evaluate
from lapgan.files import encode_json

_MODEL = "cifar10-cc-small"
_DATA = "dead-leaves:80"
# Three blocks, so that one rank has one more than the other.
_IMAGES = 130
_COMPUTE = ("--device", "cpu", "--precision", "float32")
_RANK = """
import os, pathlib
from lapgan.cli import main
folder = pathlib.Path(__file__).parent / f"rank-{os.environ['RANK']}"
folder.mkdir(exist_ok=True)
os.chdir(folder)
os.environ["LAPGAN_CACHE"] = "cache"
main()
"""


def _run_two_ranks(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    script = folder / "rank.py"
    script.write_text(_RANK)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    return subprocess.run(
        [*torchrun, str(script), *command, *_COMPUTE], text=True, timeout=600, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}, capture_output=True,
    )  # fmt: skip


@pytest.mark.slow
def test_two_ranks_generate_the_images_of_one_and_the_first_writes_them(tmp_path: Path) -> None:
    command = ["sample", _MODEL, "-n", str(_IMAGES), "--seed", "3", "--out", "images.npz"]
    done = _run_two_ranks(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote images.npz") == 1
    assert not (tmp_path / "rank-1" / "images.npz").exists()
    cascade = Cascade.load(_MODEL, choose_compute("cpu", "float32"))
    with np.load(tmp_path / "rank-0" / "images.npz") as archive:
        images = torch.from_numpy(archive["images"]).permute(0, 3, 1, 2)
    assert torch.equal(images, cascade.sample(_IMAGES, seed=3))


@pytest.mark.slow
def test_two_ranks_write_the_report_of_one(tmp_path: Path) -> None:
    # The multi-scale likelihood generates on the first rank alone.
    names = ("kid", "multiscale-parzen")
    command = ["evaluate", _MODEL, "--data", _DATA, "--images", "70", "--quick"]
    done = _run_two_ranks(tmp_path, *command, "--metrics", ",".join(names), "--out", "report")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote") == 2  # a page and its figures
    assert not (tmp_path / "rank-1" / "report").exists()
    assert not (tmp_path / "rank-1" / "cache" / "features").exists()
    report = json.loads((tmp_path / "rank-0" / "report" / "report.json").read_text())
    alone = evaluate(
        EvaluationConfig([_MODEL], _DATA, names, QUICK, 70, device="cpu", precision="float32")
    )
    assert report == json.loads(encode_json(describe(alone)))


@pytest.mark.slow
def test_what_the_first_rank_refuses_is_said_once_and_ends_all(tmp_path: Path) -> None:
    existing = tmp_path / "rank-0" / "images"
    existing.mkdir(parents=True)
    (existing / "000000.png").write_bytes(b"")
    done = _run_two_ranks(tmp_path, "sample", _MODEL, "--out", "images")
    assert done.returncode != 0
    assert done.stderr.count("already exists") == 1
    assert "rank 1: another rank has ended" in done.stderr
    assert [path.name for path in existing.iterdir()] == ["000000.png"]
    assert not (tmp_path / "rank-1" / "images").exists()


def test_each_rank_computes_its_share_of_the_blocks_of_one(
    cascade: Cascade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks that ranks compute, gathered by hand, are those of one process."""
    alone = list(cascade.stream(_IMAGES, seed=3))
    own: dict[int, list[Tensor]] = {}
    for rank in range(2):
        ranks = Ranks(rank, 2)
        monkeypatch.setattr("lapgan.cascade.cascade.sharing_ranks", lambda ranks=ranks: ranks)
        monkeypatch.setattr(
            "lapgan.cascade.cascade.gather_in_order", lambda results, empty, ranks: results
        )
        own[rank] = list(cascade.stream(_IMAGES, seed=3))
    gathered = [own[0][0], own[1][0], own[0][1]]
    assert len(own[1]) == 1
    assert all(torch.equal(a, b) for a, b in zip(gathered, alone, strict=True))


@pytest.mark.parametrize("count", [130, 7])
def test_each_rank_extracts_features_of_its_share_of_the_images(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images too few for all ranks are not divided: each rank then has all features."""

    class Means(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            means = x.double().mean((2, 3))
            return means, -means

    images = torch.randint(256, (count, 3, 4, 4), dtype=torch.uint8)
    monkeypatch.setattr("lapgan.evaluation.features.extract.gather_rows", lambda x, ranks: [x])
    extractor = Extractor("lite0", "1", Means())
    shares = []
    for rank in range(2):
        ranks = Ranks(rank, 2)
        monkeypatch.setattr(
            "lapgan.evaluation.features.extract.sharing_ranks", lambda ranks=ranks: ranks
        )
        shares.append(extract_features(images, extractor))
    means = images.double().mean((2, 3))
    if count < 16:
        assert all(torch.equal(share.values, means) for share in shares)
        return
    assert abs(len(shares[0]) - len(shares[1])) <= 16
    assert torch.equal(torch.cat([share.values for share in shares]), means)
    assert torch.equal(torch.cat([share.logits for share in shares]), -means)
