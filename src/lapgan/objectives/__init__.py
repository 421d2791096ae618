"""The adversarial objectives: what D and G minimize, as functions of logits.

One module per family. It holds the losses, and the sections by which a recipe asks for them in the
tuple `OBJECTIVES`. `lapgan.objectives.contract` says what an objective is.
"""

from typing import TYPE_CHECKING

from lapgan.objectives.contract import Objective
from lapgan.section import union_of

__all__ = ["FAMILIES", "AnyObjective"]

FAMILIES = ("paper", "relativistic", "hinge")

if TYPE_CHECKING:
    AnyObjective = Objective
else:
    AnyObjective = union_of(__name__, FAMILIES, "OBJECTIVES")
