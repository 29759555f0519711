"""Captured steps, without a CUDA device: what stands in for a graph remembers the work, and replays it by doing it.

What it cannot show is what a device captures; test_gpu.py does that where there is one.
"""

from __future__ import annotations

import inspect
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from conftest import FakeStream, small_recipe
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from progan import (
    R1,
    Adam,
    Contrast,
    Ema,
    GradientPenalty,
    HorizontalFlip,
    NonSaturating,
    Reconstruction,
    Stage,
    Trainer,
    Translate,
    presets,
)
from progan.randomness import uniform
from progan.runtime import cuda_graphs
from progan.runtime.cuda_graphs import CudaGraphs, Ring
from progan.runtime.ranks import Ranks
from progan.training import captured_step as graph_room
from progan.training import identity, planning
from progan.training.captured_step import WARM_UP, DeviceStep, device_step
from progan.training.draws import Draws
from progan.training.planning import make_plan
from progan.training.step import TrainingStep

# Kinds of steps: 0; 1 fading, 1; 2 fading, 2, 2 with another batch. 32 bits hold the rates and alphas, sums of a few
# powers of two.
STAGES = (
    Stage(0, 0, 56, 8, 2**-10),
    Stage(1, 64, 56, 8, 2**-9),
    Stage(2, 64, 56, 8, 2**-11),
    Stage(2, 0, 36, 4, 2**-10),
)
KINDS = 6
STEPS = 7 + 8 + 7 + 8 + 7 + 9


class Remembering:
    """Stand in for CUDA graphs, and hold a replay to what a graph would do: it runs on the memory of its capture."""

    def __init__(self):
        self.events = []

    @contextmanager
    def beside(self):
        self.events.append("plain")
        yield

    def capture(self, work):
        self.events.append("capture")
        addresses = self.addresses(work)

        def replay():
            self.events.append("replay")
            assert self.addresses(work) == addresses
            self.again(work)

        return replay

    def again(self, work):
        work()

    def wait(self):
        self.events.append("wait")

    @staticmethod
    def addresses(work):
        kind = work.__self__
        state = {**kind._step.moved(), "inputs": [kind._real, *kind._ring.targets]}
        return {name: [tensor.data_ptr() for tensor in tensors] for name, tensors in state.items()}


class Recorder(TorchDispatchMode):
    """Note every operation with the tensors and numbers that it was given, as a device does in a capture."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result

    def replay(self):
        """Do them all again; results go where they went."""
        for func, args, kwargs, result in self.operations:
            again = func(*args, **kwargs)
            given = {memory(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, torch.Tensor)}
            for tensor, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(tensor, torch.Tensor) and memory(tensor) not in given:  # else a view, or done in place
                    tensor.copy_(new)


def memory(tensor):
    return tensor.untyped_storage().data_ptr()


class Recording(Remembering):
    """A graph in earnest but for the device: a replay runs no Python of the step, so what it froze stays frozen."""

    def capture(self, work):
        self.events.append("capture")
        state = {**work.__self__._step.moved(), "seen": [work.__self__.seen]}
        before = {name: [tensor.detach().clone() for tensor in tensors] for name, tensors in state.items()}
        with Recorder() as recorder:
            work()
        with torch.no_grad():
            for name, tensors in state.items():
                for tensor, copy in zip(tensors, before[name], strict=True):
                    tensor.copy_(copy)

        def replay():
            self.events.append("replay")
            with torch.no_grad():
                recorder.replay()

        return replay


def make(graphs=None, preset=presets.mel_icon, dtype=torch.float32, run_dir=None, stages=STAGES, **training):
    """A trainer on the CPU whose steps go through the buffers that a CUDA device's do."""
    recipe = replace(small_recipe(preset, **training), stages=stages)
    generator, discriminator = (network.to(dtype) for network in recipe.build(seed=3))
    trainer = Trainer(
        generator, discriminator, recipe.schedule, recipe.training, run_dir=run_dir, device="cpu", progress=False
    )
    if recipe.training.reconstruction is not None:
        trainer.fit(uniform((20, 3, 16, 16), 0, "images", 0), until=0)  # for its codes
    trainer._engine.device_step = DeviceStep(trainer._engine.step, graphs)
    return trainer


def train(trainer, steps=STEPS):
    """Take some steps on images keyed by the count, and return what they told, and copies of it made at once."""
    told, copies = [], []
    for _ in range(steps):
        growth = trainer.growth
        pixels = torch.Generator().manual_seed(trainer.images_seen)
        size = 4 << growth.level
        real = torch.rand(growth.batch_size, 3, size, size, generator=pixels)
        told.append(trainer.step(real))
        copies.append({name: loss.clone() for name, loss in told[-1].losses.items()})
    return told, copies


def assert_same(ours, theirs):
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert ours["images_seen"] == theirs["images_seen"]
    assert ours["tensors"].keys() == theirs["tensors"].keys()
    for name, tensor in ours["tensors"].items():
        assert torch.equal(tensor, theirs["tensors"][name]), name


RECIPES = {
    "mel_icon": {"preset": presets.mel_icon},
    "karras2018": {"preset": presets.karras2018, "adam": Adam(reset="level_and_fade")},
    "reset at a level": {"preset": presets.mel_icon, "adam": Adam(reset="level")},
    "augmented": {
        "preset": presets.karras2018,
        "augment_real": (Contrast(), HorizontalFlip()),
        "augment_all": (Translate(0.25),),
        "augment_strength": 0.7,
    },
    "averages": {"preset": presets.mel_icon, "ema": Ema(0.9, batch=8, ramp_up=0.5, other_half_lives=(0.5, 3))},
    "bf16": {"preset": presets.mel_icon, "precision": "bf16"},
    "reconstructing": {"preset": presets.karras2018, "reconstruction": Reconstruction(components=3)},
}
NARROW = ["karras2018", "augmented", "reconstructing"]
WIDE = ["mel_icon", "reset at a level", "averages"]


@cache
def plain_run(recipe):
    """A trainer that has taken all steps plain, and copies of its losses."""
    trainer = make(**RECIPES[recipe])
    return trainer, train(trainer)[1]


@pytest.mark.parametrize("recipe", RECIPES)
def test_captured_steps_are_plain_steps(recipe):
    """Over growth, fades, learning rates, Adam's resets and another batch: weights, moments and losses to the bit."""
    graphs = Remembering()
    captured = make(graphs, **RECIPES[recipe])
    plain, expected = plain_run(recipe)
    told, _ = train(captured)
    assert_same(captured, plain)
    for metrics, losses in zip(told, expected, strict=True):  # kept all the while: no later step has changed them
        assert metrics.losses.keys() == losses.keys()
        assert all(torch.equal(metrics.losses[name], losses[name]) for name in losses)
    assert graphs.events.count("capture") == KINDS
    # Of each kind three real steps run plain, and a fourth time the check; that one replays once more than it trains.
    assert graphs.events.count("plain") == KINDS * (WARM_UP + 1)
    assert graphs.events.count("replay") == STEPS - KINDS * WARM_UP + KINDS
    assert graphs.events.count("wait") == KINDS - 1


@pytest.mark.parametrize("recipe", NARROW + [pytest.param(name, marks=pytest.mark.slow) for name in [*WIDE, "bf16"]])
def test_recorded_operations_are_plain_steps(recipe):
    """Nothing that changes from step to step is frozen, and nothing is replaced that a replay works on."""
    graphs = Recording()
    captured = make(graphs, **RECIPES[recipe])
    plain, expected = plain_run(recipe)
    told, _ = train(captured)
    assert_same(captured, plain)
    for metrics, losses in zip(told, expected, strict=True):
        assert all(torch.equal(metrics.losses[name], losses[name]) for name in losses)
    assert graphs.events.count("capture") == KINDS


@pytest.mark.parametrize("recipe", NARROW + [pytest.param(name, marks=pytest.mark.slow) for name in WIDE])
def test_a_step_through_buffers_is_a_step(recipe):
    """With tensors where the CPU's step takes numbers: in float64 the same, but for 32 bits of the average's weight."""
    settings = {**RECIPES[recipe], "dtype": torch.float64}
    buffered, direct = make(**settings), make(**settings)
    direct._engine.device_step = None
    train(buffered)
    train(direct)
    tensors = direct.state_dict()["tensors"]
    for name, tensor in buffered.state_dict()["tensors"].items():
        close = 1e-6 if name.startswith("ema") else 1e-9
        torch.testing.assert_close(tensor, tensors[name], rtol=close, atol=close, msg=name)


LAZY = {
    "preset": presets.karras2018,
    "objective": NonSaturating(),
    "regularizers": (R1(1.0, every=2), GradientPenalty(every=3)),
    "augment_all": (Translate(),),
}


@pytest.mark.parametrize("graphs", [Remembering, Recording])
def test_lazy_regularisers_have_graphs_of_their_own(graphs):
    """Of both regularisers, one, the other and none; the same weights and losses as plain, to the bit."""
    graphs = graphs()
    stages = (Stage(0, 0, 40 * 8, 8, 2**-10), Stage(1, 16 * 8, 0, 8, 2**-10))
    captured, plain = make(graphs, stages=stages, **LAZY), make(stages=stages, **LAZY)
    told, _ = train(captured, 56)
    expected, _ = train(plain, 56)
    assert_same(captured, plain)
    for number, (ours, theirs) in enumerate(zip(told, expected, strict=True)):
        step = number % 40  # of its stage
        assert ("r1" in ours.losses, "penalty" in ours.losses) == (step % 2 == 0, step % 3 == 0)
        assert all(torch.equal(loss, theirs.losses[name]) for name, loss in ours.losses.items())
        assert ours.losses.keys() == theirs.losses.keys()
    # Every 6 steps: both once, R1 twice, the penalty once, none twice. All four in the first stage's 40; in 16 two.
    assert graphs.events.count("capture") == 4 + 2
    assert graphs.events.count("replay") == (40 - 4 * WARM_UP) + (16 - 2 * WARM_UP - 3 - 3) + 4 + 2


def test_order_of_a_kind():
    graphs = Remembering()
    train(make(graphs), 6)
    assert graphs.events == ["plain"] * 3 + ["capture", "plain", "replay", "replay", "replay", "replay"]


def test_a_graph_is_dropped_after_a_load():
    graphs = Remembering()
    captured, plain = make(graphs), make()
    for trainer in (captured, plain):
        train(trainer, 5)
        state = {**trainer.state_dict(), "tensors": {n: t.clone() for n, t in trainer.state_dict()["tensors"].items()}}
        train(trainer, 1)
        trainer.load_state_dict(state)
        train(trainer, 9)
    assert_same(captured, plain)
    # One before the load; of the same kind only two steps are left after it; and one of the next kind.
    assert graphs.events.count("capture") == 2
    assert graphs.events.count("wait") == 1


def test_a_run_that_stops_goes_on_with_a_graph(tmp_path):
    graphs = Remembering()
    first, plain = make(graphs, run_dir=tmp_path), make()
    train(first, 12)
    first.save()
    second = make(graphs, run_dir=tmp_path)
    assert second.images_seen == 12 * 8
    train(second, STEPS - 12)
    train(plain)
    assert_same(second, plain)


def test_fit_holds_no_graph_from_before_nor_afterwards(images):
    graphs = Remembering()
    trainer, plain = make(graphs), make()
    train(trainer, 5)
    train(plain, 5)
    assert trainer._engine.device_step._kinds
    trainer.fit(images, until=15 * 8)
    plain.fit(images, until=15 * 8)
    assert not trainer._engine.device_step._kinds
    assert_same(trainer, plain)
    assert (
        graphs.events.count("capture") == 2
    )  # of level 0 before; in fit only two steps are left of it, then of level 1
    assert graphs.events.count("wait") == 2


class Freezing(Remembering):
    """A graph that has frozen an input as it was at the capture."""

    def __init__(self, frozen):
        super().__init__()
        self.frozen = frozen

    def capture(self, work):
        self.then = self.input_of(work).clone()
        return super().capture(work)

    def again(self, work):
        self.input_of(work).copy_(self.then)
        work()

    def input_of(self, work):
        kind = work.__self__
        *_, numbers, _ = kind._ring.targets
        numbers = dict(zip(("learning rate", "alpha", "average's weight"), numbers.unbind(), strict=True))
        return {"real": kind._real, **kind._draws, **numbers}[self.frozen]


class Idle(Remembering):
    def again(self, work):
        pass


class Twice(Remembering):
    def again(self, work):
        work()
        work()


class Failing(Remembering):
    def capture(self, work):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


WRONG = {
    **{
        name: lambda name=name: Freezing(name)
        for name in (
            "real",
            "z_critic",
            "z_generator",
            "mix",
            "real/Contrast",
            "critic/Translate",
            "learning rate",
            "average's weight",
        )
    },
    "idle": Idle,
    "twice": Twice,
    "failing": Failing,
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_replay_is_noticed_and_the_plain_step_goes_on(wrong):
    settings = {"preset": presets.mel_icon, "augment_real": (Contrast(),), "augment_all": (Translate(0.5),)}
    graphs = WRONG[wrong]()
    trainer, plain = make(graphs, **settings), make(**settings)
    train(trainer, 3)
    text = "cannot be captured .operation not permitted when stream is capturing." if wrong == "failing" else "not do"
    with pytest.warns(UserWarning, match=text) as told:
        train(trainer, 1)
    assert len(told) == 1
    assert "at level 0" in str(told[0].message)
    assert "graph=False" in str(told[0].message)
    with warnings.catch_warnings(action="error"):  # once is enough
        train(trainer, 14)
    train(plain, 18)
    assert_same(trainer, plain)
    assert not trainer._engine.device_step.captures


def test_a_frozen_alpha_is_noticed():
    graphs = Freezing("alpha")
    trainer, plain = make(graphs), make()
    train(trainer, 7 + 3)  # level 0 has no alpha, and a graph of it is right
    with pytest.warns(UserWarning, match="at level 1"):
        train(trainer, 1)
    train(trainer, 8)
    train(plain, 19)
    assert_same(trainer, plain)


class Interrupted(Remembering):
    """A Ctrl-C in the middle of the first check."""

    def again(self, work):
        work()
        if self.events.count("replay") == 1:
            raise KeyboardInterrupt


def test_an_interrupted_check_changes_nothing():
    graphs = Interrupted()
    trainer, plain = make(graphs), make()
    train(trainer, 3)
    train(plain, 3)
    with pytest.raises(KeyboardInterrupt):
        train(trainer, 1)
    assert_same(trainer, plain)
    train(trainer, 4)
    train(plain, 4)
    assert_same(trainer, plain)
    assert graphs.events.count("capture") == 2  # what was not checked is not used


def test_buffers_are_of_no_caller():
    trainer, untouched = make(Remembering()), make(Remembering())
    for _ in range(6):
        seen = trainer.images_seen
        real = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(seen))
        draws = Draws.at(seen, 8, trainer.generator.architecture.latent_shape, 0, trainer.training)
        given = real.clone(), Draws({name: draw.clone() for name, draw in draws.items()})
        for step, (images, numbers) in ((trainer, given), (untouched, (real, draws))):
            with step._engine.tracker.own_changes():
                step._engine.device_step(images, numbers, step.growth, step.images_seen)
            step._engine.state.images_seen += 8
        for tensor in (given[0], *given[1].values()):  # a caller may fill what it handed in with something else
            tensor.fill_(7.0)
    assert_same(trainer, untouched)


class Slot:
    """Stand in for an event: note when it was waited for."""

    def __init__(self, log, number):
        self.log, self.number = log, number

    def synchronize(self):
        self.log.append(f"wait {self.number}")


def test_a_ring_fills_a_buffer_again_only_once_it_is_sent():
    log = []

    def mark():
        log.append("sent")
        return Slot(log, log.count("sent") - 1)

    ring = Ring([((2,), torch.float32), ((), torch.int64)], torch.device("cpu"), slots=3, mark=mark)
    target, other = ring.targets
    for number in range(7):
        ring.send([torch.full((2,), float(number)), torch.tensor(number)])
        assert target.tolist() == [number, number]
        assert other.item() == number
    # The fourth sending waits for the first, whose buffer it takes, and so on.
    assert log == ["sent"] * 3 + ["wait 0", "sent", "wait 1", "sent", "wait 2", "sent", "wait 3", "sent"]
    buffers = [values[0] for values in ring._values]
    assert [buffer[0].item() for buffer in buffers] == [6, 4, 5]
    assert len({buffer.data_ptr() for buffer in (*buffers, target)}) == 4


def test_a_ring_takes_values_of_another_dtype_and_of_no_size():
    dtypes = torch.float64, torch.float32, torch.float16, torch.bfloat16
    ring = Ring([*(((3, 2), dtype) for dtype in dtypes), ((0, 2), torch.float32)], torch.device("cpu"))
    values = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]).T
    ring.send([*[values] * len(dtypes), torch.zeros(0, 2)])
    for target, dtype in zip(ring.targets, dtypes, strict=False):
        assert torch.equal(target, values.to(dtype))
    assert ring.targets[-1].shape == (0, 2)


def test_a_ring_is_filled_by_the_thread_that_sends():
    """Not by torch, which asks other threads for help with what is large, and waits for them."""
    ring = Ring([((8, 8192), torch.float32)], torch.device("cpu"))
    with profile(activities=[ProfilerActivity.CPU]) as found:
        ring.send([torch.ones(8, 8192)])
    assert [event.name for event in found.events()].count("aten::copy_") == 1, "to the device alone"
    assert ring.targets[0].min() == 1


class Fetches(TorchDispatchMode):
    """Note every operation that waits for the device to look at a value."""

    NAMES = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in self.NAMES:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_step_fetches_nothing_from_the_device(recipe):
    trainer = make(**RECIPES[recipe])
    train(trainer, 9)
    *_, kind = trainer._engine.device_step._kinds.values()
    with Fetches() as fetches:
        kind.run()
    assert fetches.found == []
    with Fetches() as fetches:
        float(kind.seen[0])
    assert fetches.found


def test_what_is_not_finite_is_noticed_by_a_replay():
    trainer = make(Recording())
    train(trainer, 5)
    assert trainer._engine.step.watch.found() is None
    seen = trainer.images_seen
    trainer.step(torch.full((8, 3, 4, 4), float("nan")))
    name, count = trainer._engine.step.watch.found()
    assert count == seen
    train(trainer, 1)
    assert trainer._engine.step.watch.found() == (name, seen)  # the first, not the last


CUDA = torch.device("cuda", 0)


def two_ranks(rank):
    ranks = Ranks()
    ranks.rank, ranks.size = rank, 2
    return ranks


def test_where_steps_are_captured(monkeypatch):
    monkeypatch.setattr(graph_room, "CudaGraphs", lambda device: Remembering())
    step = make()._engine.step
    for device in ("cpu", "mps"):
        assert device_step(step, torch.device(device), None, Ranks(), own_blocks=False) is None
        with pytest.raises(ValueError, match=f"graph=True is for CUDA devices, got device {device}; leave graph out"):
            device_step(step, torch.device(device), True, Ranks(), own_blocks=False)
    for graph, own_blocks, captures in (
        (None, False, True),
        (None, True, False),
        (True, True, True),
        (False, False, False),
    ):
        assert device_step(step, CUDA, graph, Ranks(), own_blocks=own_blocks).captures is captures
    with pytest.warns(UserWarning, match="2 processes exchange gradients within a step; pass graph=False"):
        assert not device_step(step, CUDA, None, two_ranks(0), own_blocks=False).captures
    with warnings.catch_warnings(action="error"):  # rank 0 alone says so
        assert not device_step(step, CUDA, None, two_ranks(1), own_blocks=False).captures
        assert not device_step(step, CUDA, False, two_ranks(0), own_blocks=False).captures


def test_the_trainer_takes_graph(tmp_path):
    with pytest.raises(ValueError, match="graph=True is for CUDA devices, got device cpu"):
        Trainer.from_recipe(small_recipe(), device="cpu", graph=True, progress=False)
    trainer = Trainer.from_recipe(small_recipe(), device="cpu", graph=False, progress=False, run_dir=tmp_path)
    trainer.save()
    with pytest.raises(ValueError, match="graph=True is for CUDA devices, got device cpu"):
        Trainer.from_run(tmp_path, device="cpu", graph=True, progress=False)
    assert trainer._engine.device_step is None
    assert "graph" not in trainer._engine.environment()


@pytest.fixture
def cuda_calls(monkeypatch):
    """What `CudaGraphs` asks of torch.cuda, in order."""
    log = []
    outside, side = FakeStream("outside", log), FakeStream("side", log)
    signature = inspect.signature(torch.cuda.graph)

    @contextmanager
    def on(stream):
        log.append(f"on {stream.name}")
        yield

    @contextmanager
    def graph(*arguments, **settings):
        given = signature.bind(*arguments, **settings).arguments
        log.append(f"capture on {given['stream'].name}, {given['capture_error_mode']}")
        yield

    monkeypatch.setattr(cuda_graphs, "stream_for", lambda device, purpose: side)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: outside)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: log.append(f"set {stream.name}"))
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: type("Graph", (), {"replay": None})())
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    return log


def test_what_is_asked_of_cuda(cuda_calls):
    """One stream for what is captured and for what runs plain before; the one that was current is so again."""
    graphs = CudaGraphs(CUDA)
    with graphs.beside():
        cuda_calls.append("work")
    assert cuda_calls == ["side waits for outside", "on side", "work", "outside waits for side"]
    cuda_calls.clear()
    graphs.capture(lambda: cuda_calls.append("work"))
    assert cuda_calls == ["capture on side, thread_local", "work", "set outside"]
    cuda_calls.clear()
    with pytest.raises(ZeroDivisionError):
        graphs.capture(lambda: 1 / 0)
    assert cuda_calls == ["capture on side, thread_local", "set outside"]


def test_the_environment_tells_of_graphs_and_kernels(monkeypatch):
    trainer = make(Remembering())
    trainer._engine.device = CUDA
    monkeypatch.setattr(identity, "triton_kernels", lambda device: SimpleNamespace(triton_version="3.6.0"))
    there = trainer._engine.environment()
    assert (there["graph"], there["kernels"]) == (True, "triton 3.6.0")
    trainer._engine.device_step = DeviceStep(trainer._engine.step, None)
    monkeypatch.setattr(identity, "triton_kernels", lambda device: None)
    there = trainer._engine.environment()
    assert (there["graph"], there["kernels"]) == (False, None)


def test_a_plan_times_captured_steps(monkeypatch):
    graphs = Remembering()
    monkeypatch.setattr(planning, "CudaGraphs", lambda device: graphs)
    trainer, untouched = make(), make()
    plan = make_plan(
        trainer.generator, trainer.discriminator, trainer.schedule, trainer.training, 0, timed_steps=2, graph=True
    )
    assert all(seconds > 0 for seconds in plan.stage_s)
    assert graphs.events.count("capture") == KINDS
    assert_same(trainer, untouched)


def test_tensors_stand_for_numbers_in_the_average():
    for weight in (0.0, 0.3, 1.0):
        step, other = make(dtype=torch.float64)._engine.step, make(dtype=torch.float64)._engine.step
        assert isinstance(step, TrainingStep)
        with torch.no_grad():
            for parameter in (*step.state.generator.parameters(), *other.state.generator.parameters()):
                parameter.add_(torch.linspace(0, 1, parameter.numel(), dtype=torch.float64).view_as(parameter))
        step.state.ema.blend(step.state.generator, weight)
        other.state.ema.blend(other.state.generator, torch.tensor(weight, dtype=torch.float64))
        torch.testing.assert_close(step.state.ema.state_dict(), other.state.ema.state_dict())
