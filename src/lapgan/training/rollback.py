"""Going back: when training explodes, a level goes on from an earlier state at half the rate.

Every 100 steps the means of figures over these steps are compared with limits (`Limits`). Every 500
steps that pass, the state is kept in a file; the last two are. An explosion is noticed when it is
under way, so training goes back to the older of the two, 500 to 1,000 steps.

The states are files, not copies in memory, so that they outlive an interruption; and all of this
follows from images seen, nothing from the clock. So an interrupted run goes back to the states to
which an uninterrupted one does, and ends in the same weights.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lapgan.distributed import current_ranks, wait_for_ranks
from lapgan.errors import LapganError
from lapgan.objectives import AnyObjective
from lapgan.recipe.schema import TrainingRecipe
from lapgan.run_folder import PartFolder
from lapgan.training.state import TrainingState, load_state, save_state, saved_images

__all__ = ["ExplosionError", "Limits", "Safeguard", "Window", "limits_of"]

_CHECK_STEPS = 100
_KEEP_STEPS = 500
# A D that has just begun is often wrong, and no harm comes of it.
_FIRST_STEPS = 500


class ExplosionError(LapganError):
    """Figures of training are beyond their limits."""


@dataclass(frozen=True)
class Limits:
    """Beyond which training has exploded, and how often it may then go back.

    Args:
        rollbacks: how often.
        batch: examples per step.
        loss_d: the largest mean loss of D.
        loss_g: the largest mean loss of G.
        right: the smallest fraction of examples, or of pairs, that D classifies correctly, after
            the first 500 steps.
    """

    rollbacks: int
    batch: int
    loss_d: float
    loss_g: float = 20.0
    right: float = 0.42

    def explain(self, means: Mapping[str, float], steps: int) -> str | None:
        """Says which figure is beyond its limit after so many steps; None if none is."""
        # A figure that is not a number is on neither side of a limit.
        if not means["loss_d"] <= self.loss_d:
            return f"the loss of D was {means['loss_d']:,.3g}, expected at most {self.loss_d:.3g}"
        if not means["loss_g"] <= self.loss_g:
            return f"the loss of G was {means['loss_g']:,.3g}, expected at most {self.loss_g:.3g}"
        if steps > _FIRST_STEPS and not means["right"] >= self.right:
            return f"D was right on {means['right']:.0%}, expected at least {self.right:.0%}"
        return None


def limits_of(training: TrainingRecipe) -> Limits | None:
    """Returns the limits of a level; None if the recipe lets no level go back.

    The loss of D may be 3 where an undecided D has log 2, and as many times the loss of an
    undecided D with other objectives.
    """
    if not training.rollbacks:
        return None
    undecided = _undecided_loss(training.objective)
    return Limits(training.rollbacks, training.batch, loss_d=3 / math.log(2) * undecided)


class Window(nn.Module):
    """Sums of figures since they were last compared with the limits.

    A module, so that the state's file has them: an interruption does not begin the sums anew.
    """

    sums: Tensor
    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("sums", torch.zeros(3))
        self.register_buffer("steps", torch.zeros(()))

    def add(self, figures: Mapping[str, Tensor]) -> None:
        """Adds the figures of one step, without waiting for the device."""
        right = (figures["real_accuracy"] + figures["fake_accuracy"]) / 2
        self.sums += torch.stack((figures["loss_d"], figures["loss_g"], right))
        self.steps += 1

    def take(self) -> dict[str, float]:
        """Returns the means and starts anew."""
        means = (self.sums / self.steps).tolist()
        self.sums.zero_()
        self.steps.zero_()
        return dict(zip(("loss_d", "loss_g", "right"), means, strict=True))


class Safeguard:
    """Keeps good states of a level and brings one back; does nothing without limits."""

    def __init__(self, folder: PartFolder, limits: Limits | None) -> None:
        self.files, self.limits = folder.kept, limits

    def begin(self, state: TrainingState) -> None:
        """Drops states that were kept after this one, and keeps this one if there is no other."""
        if self.limits is None:
            return
        if current_ranks().is_main:
            for path in self._kept():
                if saved_images(path) > state.images_seen:
                    path.unlink()
            if not self._kept():
                self._keep(state)
        wait_for_ranks()

    def check(self, state: TrainingState) -> None:
        """Compares figures with the limits, if it is time to; called after every step.

        Raises:
            ExplosionError: a figure is beyond its limit.
            NotFiniteError: a weight is infinite or not a number.
        """
        window = state.modules.get("window")
        if self.limits is None or not isinstance(window, Window):
            return
        steps = state.images_seen // self.limits.batch
        if steps % _CHECK_STEPS == 0:
            if reason := self.limits.explain(window.take(), steps):
                raise ExplosionError(f"{reason}.")
            if steps % _KEEP_STEPS == 0:
                self._keep(state)

    def restore(self, state: TrainingState) -> bool:
        """Sets a state to the older of the kept ones; time and rollbacks stay as they are.

        Returns:
            Whether there was one.
        """
        seconds, rollbacks = state.seconds, state.rollbacks
        wait_for_ranks()
        kept = self._kept() if self.limits else []
        wait_for_ranks()
        if current_ranks().is_main:
            for path in kept[1:]:
                path.unlink()
        if kept:
            load_state(kept[0], state)
            state.seconds, state.rollbacks = seconds, rollbacks
        return bool(kept)

    def _keep(self, state: TrainingState) -> None:
        """Writes a state in place of the older one, or where there is none yet."""
        free = (path for path in self.files if not path.exists())
        save_state(next(free, None) or self._kept()[0], state)

    def _kept(self) -> list[Path]:
        """Returns the files that there are, the older state first."""
        return sorted((path for path in self.files if path.exists()), key=saved_images)


def _undecided_loss(objective: AnyObjective) -> float:
    logit = torch.zeros(1)
    return objective.discriminator_loss(real=logit, fake=logit).item()
