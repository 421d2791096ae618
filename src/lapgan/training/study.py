"""The first share of a level's budget, in which the classifier of D learns from real images alone.

The adversarial game begins when it has learnt: judges that work on maps which still change learn
less in the same time, the classifier's included.
"""

from lapgan.batches import Batches
from lapgan.models.projected import ProjectedDiscriminator
from lapgan.training.examples import real_examples
from lapgan.training.job import LevelTask
from lapgan.training.optimizers import set_schedule
from lapgan.training.state import LevelState
from lapgan.training.step import step

__all__ = ["study_share", "study_step"]

# The classifier is small: with the minibatches of the game it would mostly wait.
_LARGER = 4


def study_share(job: LevelTask) -> float:
    """Returns the share of the level's budget that comes before the game; 0 for most nets."""
    discriminator = job.recipe.level(job.k).discriminator
    return discriminator.study if discriminator.kind == "projected" else 0.0


def study_step(
    job: LevelTask, state: LevelState, batches: Batches, progress: float
) -> tuple[dict[str, float], int]:
    """Updates the classifier of D once, on a larger minibatch.

    Args:
        job: what is trained; its D is a `ProjectedDiscriminator`.
        state: of the level.
        batches: of the game.
        progress: how much of the study is over, from 0 to 1.

    Returns:
        The figures of the step, and how many images it saw.
    """
    assert isinstance(state.discriminator, ProjectedDiscriminator)
    real = real_examples(job, batches, state.images_seen, _LARGER * batches.batch)
    epochs = state.images_seen / batches.epoch
    recipe = job.recipe.training.optimiser
    set_schedule(state.discriminator_optimizer, recipe, epochs, progress)
    with job.compute.autocast():
        learnt = state.discriminator.study(real.high, real.low, real.label)
    step(state.discriminator_optimizer, learnt.loss)
    figures = {"loss_classifier": learnt.loss.item(), "accuracy": learnt.accuracy.item()}
    return figures, len(real)
