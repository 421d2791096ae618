"""Optimizers and their schedules: the learning rate and momentum of every step are decided here."""

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from lapgan.distributed import average_over_ranks
from lapgan.section import Fraction, NotNegative, Positive, Section

__all__ = ["Adam", "AnyOptimizer", "Sgd", "update_weights"]


class Sgd(Section):
    """Gradient descent with the paper's schedule.

    After e whole epochs:

        rate = learning_rate / (1 + decay)^e,  momentum = min(momentum + momentum_step e, maximum)

    A step moves the weights w against a running sum v of gradients g, after a first v = g:

        v <- momentum v + (1 - dampening) g,   w <- w - rate v

    Args:
        dampening: `momentum` dampens by the momentum, so that v is a mean of gradients, as Torch7
            does, for which the paper's rates were chosen; `none` is a dampening of 0, as PyTorch
            does, and takes steps that are 1 / (1 - momentum) times as long: 2 to 5 times in the
            paper's schedule.

    References:
        Denton et al. (2015), section 4.1; `optim.sgd` of Torch7, in which `dampening` is the
        momentum unless it is set.
    """

    kind: Literal["sgd"] = "sgd"
    learning_rate: Positive = 0.02
    decay: NotNegative = 4e-5
    momentum: Fraction = 0.5
    momentum_step: NotNegative = 0.0008
    momentum_max: Fraction = 0.8
    dampening: Literal["none", "momentum"] = "none"

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Makes the optimizer."""
        weights = list(parameters)
        # Moments are the same in both forms, so a run may go on with the other one.
        form = {"fused": True} if _are_on_cuda(weights) else {"foreach": True}
        return _place_rates(
            torch.optim.SGD(weights, lr=self.learning_rate, momentum=self.momentum, **form)
        )

    def set_schedule(
        self,
        optimizer: torch.optim.Optimizer,
        epochs: float,
        progress: float = 0.0,
        rate_scale: float = 1.0,
    ) -> None:
        """Sets learning rate and momentum; see `Adam.set_schedule` for the arguments."""
        for group in optimizer.param_groups:
            _set_rate(group, rate_scale * self.learning_rate / (1 + self.decay) ** int(epochs))
            momentum = self.momentum + self.momentum_step * int(epochs)
            group["momentum"] = min(momentum, self.momentum_max)
            if self.dampening == "momentum":
                group["dampening"] = group["momentum"]


class Adam(Section):
    """Adam with a constant learning rate, or one that falls along half a cosine.

    With `decay = "cosine"`, after a fraction p of the budget in images or in time:

        rate = learning_rate (1 + 19 (1 + cos(pi p)) / 2) / 20

    A run that is then given a larger budget continues at the rate of that budget.

    References:
        Kingma and Ba (2015); Loshchilov and Hutter (2017), equation 5, for the cosine.
    """

    kind: Literal["adam"] = "adam"
    learning_rate: Positive = 2e-4
    betas: tuple[Fraction, Fraction] = (0.5, 0.999)
    decay: Literal["none", "cosine"] = "none"

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Makes the optimizer, which updates a weight in one kernel on every device.

        Moments are those of the other forms, so a run that was begun with one goes on.
        """
        weights = list(parameters)
        form = {"fused": True, "capturable": _are_on_cuda(weights)}
        return _place_rates(
            torch.optim.Adam(weights, lr=self.learning_rate, betas=self.betas, **form)
        )

    def set_schedule(
        self,
        optimizer: torch.optim.Optimizer,
        epochs: float,
        progress: float = 0.0,
        rate_scale: float = 1.0,
    ) -> None:
        """Sets the learning rate.

        Args:
            optimizer: what `build` made.
            epochs: how often the data were seen.
            progress: the fraction of the budget that is spent; from 0 to 1.
            rate_scale: multiplies the rate: G and D may have different ones, and it is lower in
                warm-up and after a rollback.
        """
        for group in optimizer.param_groups:
            _set_rate(group, rate_scale * self._rate(min(progress, 1.0)))

    def _rate(self, progress: float) -> float:
        if self.decay == "none":
            return self.learning_rate
        return self.learning_rate * (1 + 19 * (1 + math.cos(math.pi * progress)) / 2) / 20


AnyOptimizer = Annotated[Sgd | Adam, Field(discriminator="kind")]


def _are_on_cuda(weights: list[nn.Parameter]) -> bool:
    return bool(weights) and weights[0].device.type == "cuda"


def _place_rates(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Puts learning rates beside weights on a CUDA device, and returns the optimizer.

    A step that is replayed as a CUDA graph (`lapgan.training.graphs`) reads them there.
    """
    for group in optimizer.param_groups:
        if _are_on_cuda(group["params"]):
            group["lr"] = torch.full((), group["lr"], device=group["params"][0].device)
    return optimizer


def _set_rate(group: dict[str, Any], rate: float) -> None:
    """Sets the learning rate of a group, in place where it is a tensor."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def update_weights(
    optimizer: torch.optim.Optimizer, loss: Tensor, clip: float | None = None
) -> Tensor:
    """Moves the optimizer's weights down the gradient of a loss, averaged over the ranks.

    Args:
        optimizer: of the weights.
        loss: a single number.
        clip: the largest norm of all gradients together; longer ones are scaled down to it.

    Returns:
        The norm of the gradients before they were clipped, without copying it from the device.

    References:
        Pascanu et al. (2013), algorithm 1, for the clipping.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    average_over_ranks(gradients)
    norm = nn.utils.get_total_norm(gradients)
    if clip is not None:
        nn.utils.clip_grads_with_norm_(weights, clip, norm)
    optimizer.step()
    return norm
