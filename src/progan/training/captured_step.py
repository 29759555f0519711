"""Training steps on a CUDA device: captured as a graph, whose replay launches all kernels of a step at once.

A graph holds addresses and numbers as they were at its capture. So whatever changes from step to step is a tensor at a
fixed address, filled before each replay; and a graph is dropped when what it points at is replaced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from progan.errors import warn
from progan.runtime.cuda_graphs import CudaGraphs, Graphs, Ring
from progan.runtime.ranks import Ranks
from progan.schedule import Growth
from progan.training.draws import Draws
from progan.training.step import TrainingStep, losses_of
from progan.training.step_growth import StepGrowth

WARM_UP = 3  # real steps of each kind that run plain before it is captured
# What a replay may differ by from the plain step, as a share of what the step changes: sums on CUDA vary in their last
# bits, a number that was frozen makes all the difference.
_TOLERANCE = 0.01

Key = tuple[object, ...]


class DeviceStep:
    """Run training steps through buffers at fixed addresses; captured, one graph per kind of step, where asked.

    A kind is (level, fading or not, batch), and which regularisers are applied. Its first steps run plain; then it is
    captured, which trains nothing, and compared with the plain step from a copy of the state, which is put back. Where
    the two disagree, or a step cannot be captured, a warning says so and the plain step goes on.

    Held are the kinds that differ in the regularisers only. They are dropped when another level, batch or end of a fade
    comes, when Adam's state is replaced, and by `forget`.

    Args:
        step: Step, on its device.
        graphs: capture it; None = all steps run plain.
    """

    def __init__(self, step: TrainingStep, graphs: Graphs | None) -> None:
        self._step = step
        self._graphs = graphs
        self._key: Key = ()
        self._kinds: dict[tuple[bool, ...], _Kind] = {}  # by the regularisers that are applied

    @property
    def captures(self) -> bool:
        """Whether steps are captured: asked for, and no capture has failed."""
        return self._graphs is not None

    def __call__(
        self, real: Tensor, draws: Draws, growth: Growth, images_seen: int, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Train on one batch, as `TrainingStep` does.

        Args:
            real: (B, C, H, W), on the device.
            draws: Random numbers of the step, on the CPU.
            growth: Growth of the step.
            images_seen: Real images shown when it begins.
            labels: Labels of the images, (B,), on the device; None where the networks have no classes.

        Returns:
            The losses, 0-d, on the device; no later step changes them.
        """
        now = self._step.growth_of(growth, images_seen)
        key = (now.level, now.alpha is None, real.shape, real.dtype, self._step.state.adam_version)
        if self._key != key:
            self.forget()
            self._key = key
        if now.regularized not in self._kinds:
            self._kinds[now.regularized] = _Kind(self._step, real, draws, now, labels)
        kind = self._kinds[now.regularized]
        kind.fill(real, draws, now, labels)
        if self._graphs is not None and kind.replay is None and kind.steps == WARM_UP:
            self._capture(self._graphs, kind, real, draws, now, labels)
        if kind.replay is not None:
            kind.replay()
        elif self._graphs is not None:
            with self._graphs.beside():
                kind.run()
        else:
            kind.run()
        kind.steps += 1
        return kind.losses()

    def forget(self) -> None:
        """Drop the buffers and the graphs; the next step begins anew."""
        if self._graphs is not None and any(kind.replay is not None for kind in self._kinds.values()):
            self._graphs.wait()  # their memory may be in use
        self._key = ()
        self._kinds.clear()

    @contextmanager
    def anew(self) -> Iterator[None]:
        """Hold no graph from before, nor afterwards: it would keep settings, such as TF32, as they were."""
        self.forget()
        try:
            yield
        finally:
            self.forget()

    def _capture(
        self, graphs: Graphs, kind: _Kind, real: Tensor, draws: Draws, now: StepGrowth, labels: Tensor | None
    ) -> None:
        """Capture a kind of step, and compare it with the plain one; nothing of the training changes."""
        try:
            replay = graphs.capture(kind.run)
        except Exception as error:
            self._go_on_plain(kind, f"it cannot be captured ({(str(error) or repr(error)).splitlines()[0]})")
            return
        if differing := self._differing(graphs, kind, replay, real, draws, now, labels):
            self._go_on_plain(kind, f"it does not do what the plain step does to {', '.join(differing)}")
        else:
            kind.replay = replay
        kind.fill(real, draws, now, labels)

    def _differing(
        self,
        graphs: Graphs,
        kind: _Kind,
        replay: Callable[[], None],
        real: Tensor,
        draws: Draws,
        now: StepGrowth,
        labels: Tensor | None,
    ) -> list[str]:
        """Return what a replay changes in another way than the plain step does, from the same state."""
        others = None if labels is None else self._step.state.generator.architecture.classes - 1 - labels
        kind.fill(*_others(real, draws, now), others)
        state = {**self._step.moved(), "the losses": [kind.seen]}
        before = _copies(state)
        try:
            with graphs.beside():
                kind.run()
            plain = _copies(state)
            _put_back(state, before)
            replay()
            return [
                name
                for name, tensors in state.items()
                if not _distance(plain[name], tensors) <= _TOLERANCE * _distance(plain[name], before[name])
            ]
        finally:
            _put_back(state, before)

    def _go_on_plain(self, kind: _Kind, reason: str) -> None:
        """Capture nothing any more, and say why."""
        self._graphs = None
        warn(
            f"training goes on without a CUDA graph, more slowly: at level {kind.level} {reason}; pass graph=False to "
            "train without this warning"
        )


class _Kind:
    """Hold the buffers of one kind of step, and what replays it.

    Attributes:
        level: Level of the step.
        steps: Steps of this kind so far.
        replay: Runs the captured step on the buffers; None before the capture, and where there is none.
        seen: What the step reported last, one number each.
    """

    seen: Tensor

    def __init__(self, step: TrainingStep, real: Tensor, draws: Draws, now: StepGrowth, labels: Tensor | None) -> None:
        self.level = now.level
        self.steps = 0
        self.replay: Callable[[], None] | None = None
        self._step = step
        self._names: list[str] = []
        self._real = torch.empty(real.shape, dtype=real.dtype, device=real.device)
        self._labels = None if labels is None else torch.empty_like(labels)
        kinds = [(draw.shape, real.dtype) for draw in draws.values()]
        self._ring = Ring([*kinds, ((len(now.numbers()),), torch.float32), ((), torch.int64)], real.device)
        *sent, numbers, images_seen = self._ring.targets
        self._draws = Draws(zip(draws, sent, strict=True))
        self._growth = now.with_tensors(numbers, images_seen)

    def fill(self, real: Tensor, draws: Draws, now: StepGrowth, labels: Tensor | None) -> None:
        """Put the values of a step into the buffers."""
        self._real.copy_(real, non_blocking=True)
        if self._labels is not None and labels is not None:
            self._labels.copy_(labels, non_blocking=True)
        self._ring.send([*draws.values(), torch.tensor(now.numbers()), torch.tensor(now.images_seen)])

    def run(self) -> None:
        """Train on what the buffers hold."""
        seen = self._step.update(self._real, self._draws, self._growth, self._labels)
        values = list(seen.values())
        if not self._names:
            self._names, self.seen = list(seen), torch.stack(values)
        else:
            torch.stack(values, out=self.seen)

    def losses(self) -> dict[str, Tensor]:
        """Return copies of the last step's losses."""
        return losses_of(dict(zip(self._names, self.seen.clone().unbind(), strict=True)))


def device_step(
    step: TrainingStep, device: torch.device, graph: bool | None, ranks: Ranks, *, own_blocks: bool
) -> DeviceStep | None:
    """Return how steps are to run on a CUDA device; None on any other, where the plain step does.

    Args:
        step: Step, on the device.
        device: Device of the networks.
        graph: Whether to capture; None = where it is known to work.
        ranks: Processes that train together.
        own_blocks: Whether the networks have blocks of the user's own, whose Python a graph would not run.

    Raises:
        ValueError: If a graph is requested on another device.
    """
    if device.type != "cuda":
        if graph:
            raise ValueError(f"graph=True is for CUDA devices, got device {device}; leave graph out")
        return None
    if graph is None:
        graph = not own_blocks
    if graph and ranks.size > 1:
        graph = False
        if ranks.rank == 0:
            warn(
                f"training runs without a CUDA graph, more slowly: {ranks.size} processes exchange gradients within a "
                "step; pass graph=False to train without this warning"
            )
    return DeviceStep(step, CudaGraphs(device) if graph else None)


def _others(real: Tensor, draws: Draws, now: StepGrowth) -> tuple[Tensor, Draws, StepGrowth]:
    """Return other values than those of the capture, so that one that it froze is noticed."""
    return (
        real.flip(-1),
        draws.mirrored(),
        now._replace(
            alpha=None if now.alpha is None else (now.alpha + 0.5) % 1,
            learning_rate=now.learning_rate / 2,
            ema_weights=tuple((weight + 0.5) % 1 for weight in now.ema_weights),
        ),
    )


def _copies(state: Mapping[str, Sequence[Tensor]]) -> dict[str, list[Tensor]]:
    """Return copies of tensors."""
    return {name: [tensor.detach().clone() for tensor in tensors] for name, tensors in state.items()}


@torch.no_grad()
def _put_back(state: Mapping[str, Sequence[Tensor]], copies: Mapping[str, Sequence[Tensor]]) -> None:
    """Fill tensors with what was copied from them."""
    for name, tensors in state.items():
        for tensor, copy in zip(tensors, copies[name], strict=True):
            tensor.copy_(copy)


@torch.no_grad()
def _distance(ones: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """Return the Euclidean distance between the values of two lists of tensors."""
    squares = [(one.double() - other.double()).square().sum() for one, other in zip(ones, others, strict=True)]
    return math.sqrt(float(torch.stack(squares).sum())) if squares else 0.0
