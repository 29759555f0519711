"""What only a CUDA device can show: captured steps, resumes, memory, and that the host does not wait for the device."""

from __future__ import annotations

import gc
import math
import warnings
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from conftest import gradients_of_a_step, small_recipe

from progan import (
    R1,
    Adam,
    Contrast,
    EmaGenerator,
    GradientPenalty,
    HorizontalFlip,
    NonSaturating,
    ProgressiveDiscriminator,
    ProgressiveGenerator,
    Reconstruction,
    Stage,
    Trainer,
    Translate,
    presets,
)
from progan.data import Conversion, open_feed, tensor_feed
from progan.networks.blocks import GeneratorBlock
from progan.runtime.cuda_graphs import Ring
from progan.runtime.device import precision_scope
from progan.training import step as step_module
from progan.training.captured_step import WARM_UP
from progan.training.draws import Draws
from progan.training.micro_batches import StepBatch
from progan.training.step_growth import StepGrowth

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CUDA = torch.device("cuda")
# Kinds of steps: 0; 1 fading, 1; 2 fading, 2, 2 with another batch.
STAGES = (Stage(0, 0, 56, 8, 1e-3), Stage(1, 64, 56, 8, 2e-3), Stage(2, 64, 56, 8, 5e-4), Stage(2, 0, 36, 4, 1e-3))
STEPS = 7 + 8 + 7 + 8 + 7 + 9
# Of what a training changes; where sums have one order there should be no difference at all.
CLOSE = 1e-3


@pytest.fixture(autouse=True)
def one_order(monkeypatch):
    """Let sums on the device have one order."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def make(graph, preset=presets.mel_icon, run_dir=None, stages=STAGES, micro_batch=None, **training):
    recipe = replace(small_recipe(preset, **training), stages=stages)
    options = {"run_dir": run_dir, "device": CUDA, "graph": graph, "seed": 3, "progress": False}
    trainer = Trainer.from_recipe(recipe, micro_batch=micro_batch, **options)
    if recipe.training.reconstruction is not None:
        trainer.fit(torch.rand(20, 3, 16, 16), until=0)  # for its codes
    return trainer


def kind_of(trainer):
    """The one kind of step that is held."""
    (kind,) = trainer._engine.device_step._kinds.values()
    return kind


def train(trainer, steps=STEPS):
    """Take some steps on images keyed by the count, and return their losses."""
    told = []
    for _ in range(steps):
        growth = trainer.growth
        size = 4 << growth.level
        pixels = torch.Generator().manual_seed(trainer.images_seen)
        real = torch.rand(growth.batch_size, 3, size, size, generator=pixels).to(CUDA)
        told.append(trainer.step(real).losses)
    return told


def tensors(trainer):
    return {name: tensor.clone() for name, tensor in trainer.state_dict()["tensors"].items()}


def apart(ours, theirs, start):
    """How far two trainings are apart, as a share of what the first changed in both networks."""
    names = [name for name in start if name.startswith(("generator/", "discriminator/"))]

    def distance(one, other):
        return math.sqrt(sum(float((one[name] - other[name]).double().square().sum()) for name in names))

    assert ours.keys() == theirs.keys()
    return distance(ours, theirs) / distance(ours, start)


RECIPES = {
    "mel_icon": {"preset": presets.mel_icon},
    "karras2018": {"preset": presets.karras2018, "adam": Adam(reset="level_and_fade")},
    "lazy and augmented": {
        "preset": presets.karras2018,
        "objective": NonSaturating(),
        "regularizers": (R1(1.0, every=2), GradientPenalty()),
        "augment_real": (Contrast(), HorizontalFlip()),
        "augment_all": (Translate(0.25),),
        "augment_strength": 0.7,
    },
    "tf32": {"preset": presets.mel_icon, "precision": "tf32"},
    "bf16": {"preset": presets.mel_icon, "precision": "bf16"},
    "reconstructing": {"preset": presets.karras2018, "reconstruction": Reconstruction(components=3)},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_captured_steps_are_plain_steps(recipe):
    captured, plain = make(True, **RECIPES[recipe]), make(False, **RECIPES[recipe])
    start = tensors(plain)
    told, expected = train(captured), train(plain)  # pytest makes errors of the warnings that a fall back tells
    assert captured._engine.device_step.captures
    assert apart(tensors(plain), tensors(captured), start) < CLOSE
    for ours, theirs in zip(told, expected, strict=True):  # fetched only now, many replays later
        for name, loss in theirs.items():
            torch.testing.assert_close(ours[name], loss, rtol=1e-2, atol=1e-2, msg=name)


def test_captured_steps_in_micro_batches_are_steps_on_whole_batches():
    stages = (Stage(0, 0, 7 * 16, 16, 1e-3), Stage(1, 7 * 16, 0, 16, 1e-3))
    whole, parts = (
        make(graph, presets.few_images, stages=stages, micro_batch=size) for graph, size in ((False, None), (True, 4))
    )
    start = tensors(whole)
    train(whole, 14)
    train(parts, 14)
    assert parts._engine.device_step.captures
    assert apart(tensors(whole), tensors(parts), start) < 0.02


def test_it_is_captured_by_default():
    trainer = make(None)
    train(trainer, WARM_UP + 1)
    assert kind_of(trainer).replay is not None
    assert trainer._engine.environment()["graph"] is True


def test_numbers_on_the_device_are_numbers_on_the_host():
    """The plain step on CUDA is the CPU's, but for the last bits."""
    recipe = replace(small_recipe(), stages=STAGES)
    trainers = [
        Trainer.from_recipe(recipe, device=device, graph=False, seed=3, progress=False) for device in ("cpu", CUDA)
    ]
    start = {name: tensor.cpu() for name, tensor in tensors(trainers[0]).items()}
    states = []
    for trainer in trainers:
        train(trainer, 7 + 3)
        states.append({name: tensor.cpu() for name, tensor in tensors(trainer).items()})
    assert apart(*states, start) < 0.01


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize("preset", [presets.mel_icon, presets.karras2018])
def test_works_at_once_have_the_gradients_of_one_after_the_other(preset, dtype, bound, monkeypatch):
    trainer = make(False, preset)
    step = trainer._engine.step
    trainer.generator.to(dtype), trainer.discriminator.to(dtype)
    growth = StepGrowth(2, 0.3, (True,), 1e-3, (0.1,), 0)
    real = torch.rand(8, 3, 16, 16, dtype=dtype, generator=torch.Generator().manual_seed(0)).to(CUDA)
    draws = Draws.at(0, 8, trainer.generator.architecture.latent_shape, 3, trainer.training).beside(real)

    def gradients():
        return list(step._critic_gradient(StepBatch(real, draws, None), growth).gradients.values())

    ours = gradients()
    monkeypatch.setattr(step_module, "run_concurrently_beside", lambda beside, first, second: (first(), second()))
    theirs = gradients()
    largest = max(gradient.norm() for gradient in theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine - other).norm() <= bound * largest
    assert largest > 0


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 5e-3), ("tf32", 0.1)])  # on a CPU: 7e-4, bf16 0.3
@pytest.mark.parametrize("level", [4, 6])
def test_our_kernels_have_the_gradients_of_torchs_operations(level, precision, bound):
    """The article's networks, at 64 and 256 px; in float64, none of our kernels is used."""
    recipe = presets.mel_icon()
    recipe = replace(recipe, training=replace(recipe.training, precision=precision))
    with precision_scope(CUDA, recipe.training.precision):
        ours, exact = (gradients_of_a_step(recipe, level, 8, CUDA, each) for each in (torch.float32, torch.float64))
    for mine, true in zip(ours, exact, strict=True):
        largest = max(gradient.norm() for gradient in true)
        assert all((a - b).norm() <= bound * largest for a, b in zip(mine, true, strict=True))


def test_what_cannot_be_captured_goes_on_plain(monkeypatch):
    original = EmaGenerator.blend

    def fetching(self, generator, weight):
        original(self, generator, float(weight))  # waits for the device, which no capture allows

    monkeypatch.setattr(EmaGenerator, "blend", fetching)
    trainer, plain = make(True), make(False)
    start = tensors(plain)
    train(trainer, WARM_UP)
    with pytest.warns(UserWarning, match="cannot be captured"):
        train(trainer, 1)
    train(trainer, 8)
    train(plain, WARM_UP + 9)
    assert apart(tensors(plain), tensors(trainer), start) < CLOSE
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert not torch.cuda.is_current_stream_capturing()


def test_a_frozen_number_is_noticed(monkeypatch):
    original = EmaGenerator.blend
    frozen = []

    def freezing(self, generator, weight):
        if not torch.cuda.is_current_stream_capturing():
            frozen[:] = [float(weight)]
            original(self, generator, weight)
        else:
            original(self, generator, frozen[0])

    monkeypatch.setattr(EmaGenerator, "blend", freezing)
    trainer, plain = make(True), make(False)
    start = tensors(plain)
    train(trainer, WARM_UP)
    with pytest.warns(UserWarning, match="does not do what the plain step does to average"):
        train(trainer, 1)
    train(plain, WARM_UP + 1)
    assert apart(tensors(plain), tensors(trainer), start) < CLOSE


def test_the_same_command_gives_the_same_bits(tmp_path):
    """By the trainer's own settings, not the tests'."""
    torch.use_deterministic_algorithms(False)
    images = torch.randint(0, 256, (21, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    runs = []
    for name, graph in (("one", True), ("two", True), ("plain", False)):
        trainer = make(graph, run_dir=tmp_path / name)
        trainer.fit(images)
        runs.append(tensors(trainer))
    for other in runs[1:]:
        assert all(torch.equal(tensor, other[name]) for name, tensor in runs[0].items())


def test_a_plan_is_made_and_changes_nothing():
    trainer = make(True)
    before = tensors(trainer)
    plan = trainer.plan(printed=False)
    assert plan.total_s > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors(trainer).items())


@pytest.mark.parametrize("graph", [False, True])
def test_a_run_that_stops_goes_on(graph, tmp_path):
    """Plain to the bit; captured closely, since a resume begins with plain steps."""
    images = torch.randint(0, 256, (21, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = make(graph, run_dir=tmp_path / "whole")
    start = tensors(whole)
    whole.fit(images)
    make(graph, run_dir=tmp_path / "parts").fit(images, until=21 * 8)
    parts = make(graph, run_dir=tmp_path / "parts")
    assert parts.images_seen == 21 * 8
    parts.fit(images)
    ours, theirs = tensors(whole), tensors(parts)
    if not graph:
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert apart(ours, theirs, start) < CLOSE


def test_a_state_moves_between_devices():
    trainer = make(True)
    train(trainer, 12)
    recipe = replace(small_recipe(), stages=STAGES)
    there = Trainer.from_recipe(recipe, device="cpu", seed=3, progress=False)
    there.load_state_dict(trainer.state_dict())
    real = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    there.step(real)  # of a state of capturable moments
    trainer.load_state_dict(there.state_dict())
    train(trainer, 6)
    assert all(tensor.isfinite().all() for tensor in tensors(trainer).values())


@contextmanager
def no_waiting():
    """Raise where the host waits for the device to look at a value."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says that the mode is new
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("graph", [False, True])
def test_a_step_does_not_wait_for_the_device(graph):
    trainer = make(graph, stages=(Stage(0, 0, 800, 8),))
    train(trainer, WARM_UP + 2)
    reals = [torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(k)).to(CUDA) for k in range(6)]
    with no_waiting():
        for real in reals:
            trainer.step(real)


@pytest.mark.parametrize("held", [True, False])
def test_a_batch_does_not_wait_for_the_device(held, monkeypatch):
    monkeypatch.setattr(tensor_feed, "fits", lambda images, device: held)
    images = torch.randint(0, 256, (21, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    trainer = make(True)
    feed = open_feed(images, image_channels=3, base_size=(4, 4), level=2, seed=3, workers=0, device=CUDA)
    batches = feed.batches(0, 80, lambda count: 8, conversion=Conversion(lambda count: 1, trainer._engine.to_level))
    next(batches)
    with no_waiting():
        for batch in batches:
            assert batch.images.device.type == "cuda"


def test_a_ring_is_pinned_and_right_while_the_device_lags():
    ring = Ring([((1000,), torch.float32), ((), torch.int64)], CUDA, slots=3)
    targets = ring.targets
    assert all(slot.is_pinned() for slot in ring._slots)
    seen = []
    for number in range(30):
        torch.cuda._sleep(3_000_000)  # cycles, a millisecond or two
        ring.send([torch.full((1000,), float(number)), torch.tensor(number)])
        seen.append((targets[0].clone(), targets[1].clone()))
    for number, (values, count) in enumerate(seen):
        assert torch.equal(values.cpu(), torch.full((1000,), float(number)))
        assert count.item() == number


def test_draws_reach_the_device_as_they_were_made():
    trainer = make(True, stages=(Stage(0, 0, 800, 8),))
    shape = trainer.generator.architecture.latent_shape
    for _ in range(12):
        seen = trainer.images_seen
        train(trainer, 1)
        there = kind_of(trainer)._draws
        for name, draw in Draws.at(seen, 8, shape, 3, trainer.training).items():
            assert torch.equal(draw, there[name].cpu())


def allocated():
    gc.collect()
    torch.cuda.synchronize()
    return torch.cuda.memory_allocated()


def test_memory_does_not_grow():
    trainer = make(True, stages=(Stage(0, 0, 8000, 8),))
    train(trainer, 10)
    before = allocated()
    train(trainer, 200)
    assert allocated() <= before


def test_a_dropped_graph_gives_its_memory_back():
    def held_by_training(graph):
        before = allocated()
        trainer = make(graph)
        train(trainer, 7 + 8 + 7 + 8 + 5)
        trainer._engine.device_step.forget()
        return allocated() - before

    held_by_training(True), held_by_training(False)  # what libraries take for themselves, once and for all
    assert held_by_training(True) <= held_by_training(False) + 100_000


def test_fit_leaves_nothing_behind(tmp_path):
    images = torch.randint(0, 256, (21, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    stream, random = torch.cuda.current_stream(), torch.cuda.get_rng_state()
    trainer = make(True, run_dir=tmp_path)
    trainer.fit(images)
    assert torch.cuda.current_stream() == stream
    assert torch.equal(torch.cuda.get_rng_state(), random)
    assert not trainer._engine.device_step._kinds


def test_data_is_held_on_the_device():
    images = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    feed = open_feed(images, image_channels=3, base_size=(4, 4), level=2, seed=0, workers=0, device=CUDA)
    batches = [batch.images for batch in feed.batches(0, 80, lambda count: 8)]
    assert all(batch.device.type == "cuda" for batch in batches)
    here = open_feed(images, image_channels=3, base_size=(4, 4), level=2, seed=0, workers=0, device=torch.device("cpu"))
    expected = [batch.images for batch in here.batches(0, 80, lambda count: 8)]
    assert all(torch.equal(ours.cpu(), theirs) for ours, theirs in zip(batches, expected, strict=True))


def test_a_block_of_ones_own_runs_plain_unless_asked():
    recipe = replace(small_recipe(), stages=STAGES)

    class Own(GeneratorBlock):
        pass

    def trainer(graph):
        generator = ProgressiveGenerator(recipe.architecture, block=Own)
        discriminator = ProgressiveDiscriminator(recipe.architecture)
        return Trainer(
            generator, discriminator, recipe.schedule, recipe.training, device=CUDA, graph=graph, progress=False
        )

    assert not trainer(None)._engine.device_step.captures
    asked = trainer(True)
    with warnings.catch_warnings(action="error"):
        train(asked, 7 + 5)
    assert kind_of(asked).replay is not None
