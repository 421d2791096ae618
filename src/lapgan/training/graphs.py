"""Steps as CUDA graphs: recorded once, then launched as a whole.

A step of the residual nets launches a thousand kernels, one by one; the processor takes longer to
launch those of a small level than the device to run them. A graph launches all of them at once.

What changes from step to step must be in tensors that keep their place: examples and weights of
terms are copied into those that were recorded, learning rates are tensors of the optimizers, and
random numbers come from the global generator of the device, whose seed a graph reads when it is
launched. What is a number in the recording, such as momentum, belongs to its key; when it changes,
there is another recording.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from lapgan.errors import LapganError
from lapgan.training.examples import Examples
from lapgan.training.update import Scalar, Terms

__all__ = ["CudaGraphs", "Recorder", "StepGraphs"]

Figures = dict[str, Tensor]
Update = Callable[[Examples, Terms], Figures]

# Steps of a kind before it is recorded: they make the optimizers' moments, compile nets and let
# cuDNN choose its algorithms, none of which can be recorded.
_FIRST_STEPS = 3
# Momentum grows by the epoch; each of its values has recordings of its own.
_MOST = 4


class Recorder(Protocol):
    """Runs work, and records it: `CudaGraphs`, or a stand-in where there is no device."""

    def run(self, work: Callable[[], Figures]) -> Figures:
        """Returns the result of work."""

    def record(self, work: Callable[[], Figures]) -> tuple[Callable[[], None], Figures]:
        """Returns what repeats the work, and where its result then is; nothing is computed yet."""


class StepGraphs:
    """The updates of a level, run a few times and from then on replayed.

    Args:
        recorder: how work is recorded.
        optimizers: of the nets. When their states are replaced, as by loading a checkpoint, what
            was recorded is dropped.
        device: where numbers are placed.
    """

    def __init__(
        self, recorder: Recorder, optimizers: Iterable[torch.optim.Optimizer], device: torch.device
    ) -> None:
        self.recorder, self.optimizers, self.device = recorder, tuple(optimizers), device
        self.steps: dict[Hashable, int] = {}
        self.recordings: dict[Hashable, _Recording] = {}
        self.states: list[object] = []

    def step(self, update: Update, examples: Examples, terms: Terms) -> Figures:
        """Makes one update and returns its figures.

        Args:
            update: of the nets, on examples and with terms.
            examples: of this step; always as many.
            terms: of this step.

        Raises:
            LapganError: the update cannot be recorded.
        """
        self._forget_if_loaded()
        key, terms = self._key(terms), _place_numbers(terms, self.device)
        if key not in self.recordings:
            self.steps[key] = self.steps.get(key, 0) + 1
            if self.steps[key] <= _FIRST_STEPS:
                return self.recorder.run(lambda: update(examples, terms))
            self.recordings[key] = self._record(update, examples.clone(), _clone(terms))
        return self.recordings[key].replay(_inputs(examples, terms))

    def _record(self, update: Update, examples: Examples, terms: Terms) -> "_Recording":
        """Records an update on examples and terms that are its alone."""
        if len(self.recordings) >= _MOST:
            self.recordings.clear()
        try:
            launch, figures = self.recorder.record(lambda: update(examples, terms))
        except RuntimeError as error:
            raise LapganError(
                f"the steps cannot be recorded as a CUDA graph ({str(error).splitlines()[0]}). Go "
                "on with --no-cuda-graphs."
            ) from error
        return _Recording(_inputs(examples, terms), launch, figures)

    def _key(self, terms: Terms) -> Hashable:
        """Returns the numbers that are recorded as they are."""
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        momentum = tuple((group.get("momentum"), group.get("dampening")) for group in groups)
        kind = (terms.penalty is None, terms.supervised is None, terms.updates_generator)
        return kind, momentum

    def _forget_if_loaded(self) -> None:
        # The dictionaries themselves: loading makes new ones.
        states = [optimizer.state for optimizer in self.optimizers]
        if any(one is not other for one, other in zip(states, self.states, strict=False)):
            self.recordings.clear()
            self.steps.clear()
        self.states = [*states]


@dataclass(frozen=True)
class _Recording:
    """An update that was recorded.

    Args:
        places: where it reads its inputs.
        launch: repeats it.
        figures: where its figures are then.
    """

    places: Sequence[Tensor]
    launch: Callable[[], None]
    figures: Figures

    def replay(self, inputs: Sequence[Tensor]) -> Figures:
        """Repeats the update with other inputs."""
        for place, value in zip(self.places, inputs, strict=True):
            place.copy_(value)
        self.launch()
        # The next replay overwrites them.
        return {name: figure.clone() for name, figure in self.figures.items()}


class CudaGraphs:
    """Records work on a CUDA device; see `torch.cuda.graph`.

    All of it runs on a stream of its own, before and after it is recorded: gradients of a weight
    are summed on the stream that used the weight first, and a recording must not leave its stream.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.pool = torch.cuda.graph_pool_handle()

    def run(self, work: Callable[[], Figures]) -> Figures:
        """Returns the result of work."""
        with self._own_stream():
            return work()

    def record(self, work: Callable[[], Figures]) -> tuple[Callable[[], None], Figures]:
        """Returns what repeats the work, and where its result then is; nothing is computed yet."""
        graph = torch.cuda.CUDAGraph()
        # Replays follow each other and their figures are copied: they may share their memory. Other
        # threads, which read a stream of data, may go on.
        with torch.cuda.graph(
            graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"
        ):
            result = work()

        def launch() -> None:
            with self._own_stream():
                graph.replay()

        return launch, result

    @contextmanager
    def _own_stream(self) -> Iterator[None]:
        """Runs kernels on the own stream, after those before and before those after."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            yield
        current.wait_stream(self.stream)


def _inputs(examples: Examples, terms: Terms) -> list[Tensor]:
    """Returns what changes from step to step, always in the same order."""
    optional = (examples.low, examples.label, examples.sigma, examples.generated_low)
    parts = (examples.high, examples.z, *optional)
    numbers = (terms.penalty_weight, terms.supervised)
    return [x for x in (*parts, *terms.candidates, *numbers) if isinstance(x, Tensor)]


def _place_numbers(terms: Terms, device: torch.device) -> Terms:
    """Puts the weights of terms on the device, without waiting for it."""

    def place(x: Scalar | None) -> Tensor | None:
        return None if x is None else torch.full((), float(x), device=device)

    return replace(
        terms, penalty_weight=place(terms.penalty_weight), supervised=place(terms.supervised)
    )


def _clone(terms: Terms) -> Terms:
    """Copies what changes from step to step to memory of its own; numbers are new already."""
    return replace(terms, candidates=tuple(x.clone() for x in terms.candidates))
