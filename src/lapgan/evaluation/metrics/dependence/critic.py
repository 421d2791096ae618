"""A critic that is trained to tell which image, or which detail, belongs to which low-pass image.

    T(l, x) = c sum_p <f(l)_p, g(x)_p>

f and g are small convolutional nets, p runs over the positions of their maps. After few steps
pairs are in the right order, long before the scores are large enough, so the gain c is fitted last.
A batch of N pairs gives N true pairs and N (N - 1) shuffled ones for the price of N passes through
f and g.

The loss is a sum of two losses with the same minimum, the log ratio log p(l, x) / p(l) p(x): the
cross-entropy of telling true pairs from shuffled ones (Goodfellow et al., 2014, proposition 1), and
that of finding the partner among the N of the batch (van den Oord et al., 2018, "InfoNCE").
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lapgan.compute import Compute
from lapgan.evaluation.measurement import Estimate, estimate_mean
from lapgan.optimizers import update_weights

__all__ = ["Critic", "Information", "summarize_scores"]

_MAPS = 32
_LEARNING_RATE = 2e-3
_GAINS = torch.logspace(-1, 3, 81)


@dataclass(frozen=True)
class Information:
    """The information between low-pass images and what belongs to them, on held-out pairs.

    Args:
        accuracy: the fraction of correct answers to "true pair or shuffled?", both equally
            frequent: from 1/2 (independent) to 1.
        jensen_shannon: 1 minus the cross-entropy of those answers in bits: a lower bound of the
            Jensen-Shannon divergence between true and shuffled pairs, at most 1.
        mutual_information: the InfoNCE lower bound of I(l; x) in bits, at most log2(candidates).
            A value below 0 (an overconfident critic) is no better a bound than 0.
        candidates: the number of images that the partner of a low-pass image is searched in.
    """

    accuracy: Estimate
    jensen_shannon: Estimate
    mutual_information: Estimate
    candidates: int


class Critic:
    """T(l, x) and the optimizer that trains it.

    Args:
        seed: decides on the initial weights.
        compute: where to run.
    """

    def __init__(self, seed: int, compute: Compute) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.net = compute.place(_PairNet())
        self.gain = 1.0
        self.compute = compute
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=_LEARNING_RATE)

    def train(self, low: Tensor, other: Tensor) -> None:
        """Takes one training step on a batch of true pairs, (N, 3, H, W) each."""
        self.net.train()
        with torch.enable_grad():
            update_weights(self.optimizer, -_log_likelihood(self._scores(low, other)))

    def calibrate(self, low: Tensor, other: Tensor) -> None:
        """Fits the gain of the scores to true pairs; the nets stay as they are."""
        self.gain = 1.0
        scores = self.scores(low, other)
        gains = [_log_likelihood(gain * scores).item() for gain in _GAINS]
        self.gain = _GAINS[int(np.argmax(gains))].item()

    @torch.no_grad()
    def scores(self, low: Tensor, other: Tensor) -> Tensor:
        """Returns T(l_i, x_j) for all i, j of a batch, (N, N); true pairs on the diagonal."""
        self.net.eval()
        return self.gain * self._scores(low, other).cpu()

    def _scores(self, low: Tensor, other: Tensor) -> Tensor:
        scores: Tensor = self.net(self.compute.place(low), self.compute.place(other))
        return scores


class _PairNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.low, self.other = _build_features(), _build_features()
        # Zero features on one side: the critic starts undecided, with T = 0.
        for parameter in self.other[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, low: Tensor, other: Tensor) -> Tensor:
        f, g = self.low(low).flatten(1), self.other(other).flatten(1)
        scores: Tensor = f @ g.T / f.shape[1] ** 0.5
        return scores


def _build_features() -> nn.Sequential:
    """Builds a net from (N, 3, H, W) to maps of half the size, for images of any scale."""
    return nn.Sequential(
        nn.BatchNorm2d(3, affine=False),
        nn.Conv2d(3, _MAPS, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(_MAPS, _MAPS, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(_MAPS, _MAPS, 3, padding=1),
    )


def summarize_scores(scores: list[Tensor]) -> Information:
    """Summarizes a critic's scores of batches of held-out pairs.

    Args:
        scores: for each batch (P, N, N), as `Critic.scores` at P places of the same N pairs; an
            image's places are averaged, since they are not independent.
    """
    accuracy = torch.cat([_average_answers(s > 0, s <= 0).mean(dim=0) for s in scores])
    entropy = torch.cat([_log_answers(s).mean(dim=0) for s in scores])
    partner = torch.cat([_log_partner(s).mean(dim=0) for s in scores])
    candidates = scores[0].shape[-1]
    return Information(
        accuracy=estimate_mean(accuracy),
        jensen_shannon=estimate_mean(1 + entropy / math.log(2)),
        mutual_information=estimate_mean(math.log2(candidates) + partner / math.log(2)),
        candidates=candidates,
    )


def _log_likelihood(scores: Tensor) -> Tensor:
    """Returns the objective of the critic: the log-probability of both its answers."""
    return _log_answers(scores).mean() + _log_partner(scores).mean()


def _log_answers(scores: Tensor) -> Tensor:
    """Returns the log-probability of the correct answers to "true or shuffled?", (..., N)."""
    return _average_answers(F.logsigmoid(scores), F.logsigmoid(-scores))


def _log_partner(scores: Tensor) -> Tensor:
    """Returns log softmax of each true pair among its row and its column, their mean, (..., N)."""
    both = scores.log_softmax(dim=-1) + scores.log_softmax(dim=-2)
    return both.diagonal(dim1=-2, dim2=-1) / 2


def _average_answers(true: Tensor, shuffled: Tensor) -> Tensor:
    """Returns each image's part in (mean over true pairs + mean over shuffled ones) / 2, (..., N).

    A shuffled pair consists of two images, so an image contributes by its row and its column. The
    standard error of the mean follows from these parts to first order (Hoeffding, 1948).
    """
    off = shuffled.float() * (1 - torch.eye(shuffled.shape[-1])).to(shuffled.device)
    off = off / (shuffled.shape[-1] - 1)
    rows, columns = off.sum(dim=-1), off.sum(dim=-2)
    diagonal = true.diagonal(dim1=-2, dim2=-1).float()
    return (diagonal + rows + columns - rows.mean(dim=-1, keepdim=True)) / 2
