"""Recipes: the two presets stage by stage, the way through JSON, and refusals that say what to do."""

import json
import re
from dataclasses import asdict, dataclass, field, fields, replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from progan import Adam, Ema
from progan.augment.geometric import HorizontalFlip, Translate
from progan.augment.photometric import Contrast
from progan.compatibility import check_fit, check_ranks
from progan.losses.logistic import NonSaturating
from progan.losses.objectives import Wasserstein
from progan.losses.regularizers import GradientPenalty
from progan.losses.zero_centered import R1
from progan.networks.architecture import Architecture
from progan.presets import few_images, karras2018, mel_icon
from progan.recipe import Recipe, Training
from progan.recipe_json import networks_from_json
from progan.reconstruction import Reconstruction
from progan.schedule import Growth, Schedule, Stage

# No field as it is by default, so that one which is lost on the way shows.
UNUSUAL = Recipe(
    Architecture(
        channels=(8, 6),
        latent_shape=(5, 6, 4),
        image_channels=4,
        base_size=(6, 4),
        image_range=(0.0, 1.0),
        minibatch_std_group=None,
        minibatch_std_unbiased=True,
        minibatch_std_consecutive=True,
        padding="reflect",
        equalization="he_twice",
        equalized_ends=False,
        normalize_latent=False,
        norm_before_activation=True,
        norm_in_discriminator=True,
        norm_first_layer=False,
        norm_epsilon=1e-6,
        norm_epsilon_outside_root=True,
        output="sigmoid",
        widen_first=True,
        head_channels=12,
        patch_scores=True,
        classes=3,
        class_embedding=7,
    ),
    (Stage(1, fade_images=32, hold_images=48, batch_size=16, learning_rate=2e-4),),
    Training(
        objective=Wasserstein(drift_weight=0.01),
        regularizers=(GradientPenalty(weight=5.0, target=2.0, every=4), R1(weight=0.5, every=2, per_pixel=True)),
        reconstruction=Reconstruction(weight=2.0, components=8),
        order="generator_first",
        adam=Adam((0.5, 0.9), 1e-7, "level", generator_factor=3.0),
        ema=Ema(0.9, batch=4, warm_up=True, ramp_up=0.1),
        blend_real=True,
        augment_real=(HorizontalFlip(0.25), Contrast(0.5, 1.5)),
        augment_all=(Translate(0.25, probability=0.5),),
        augment_strength=0.5,
        balance_classes=True,
        precision="bf16",
    ),
)
RECIPES = {
    "mel_icon": mel_icon(),
    "contrast": mel_icon(64, contrast=True),
    "few_images": few_images(),
    "karras2018": karras2018(),
    "unusual": UNUSUAL,
}


def rows(recipe):
    return [(s.level, s.fade_images, s.hold_images, s.batch_size, s.learning_rate) for s in recipe.stages]


# JSON


@pytest.mark.parametrize("name", RECIPES)
def test_json_round_trip(name):
    recipe = RECIPES[name]
    again = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
    assert again == recipe
    assert hash(again) == hash(recipe)
    assert again.to_json() == recipe.to_json()
    assert again.schedule == recipe.schedule


def test_the_unusual_recipe_is_unusual_throughout():
    for ours, plain in (
        (UNUSUAL.architecture, Architecture((4,))),
        (UNUSUAL.stages[0], Stage(0)),
        (UNUSUAL.training, Training()),
        (UNUSUAL.training.objective, Wasserstein()),
        (UNUSUAL.training.reconstruction, Reconstruction()),
        (UNUSUAL.training.regularizers[0], GradientPenalty()),
        (UNUSUAL.training.regularizers[1], R1()),
        (UNUSUAL.training.augment_real[0], HorizontalFlip()),
        (UNUSUAL.training.augment_real[1], Contrast()),
        (UNUSUAL.training.augment_all[0], Translate()),
    ):
        same = [field.name for field in fields(ours) if getattr(ours, field.name) == getattr(plain, field.name)]
        needing_a_vector_latent = ["modulation", "palette", "palette_layers", "sharpness", "supersampling"]
        assert same == (needing_a_vector_latent if isinstance(ours, Architecture) else [])


ONCE = "takes each kind at most once, got"
KINDS = "Colour, Contrast, HorizontalFlip, Translate; was this written by a later version of progan?"


def changed(*path, to):
    """Return the unusual recipe's JSON with one entry set; to=None drops it."""
    data = json.loads(json.dumps(UNUSUAL.to_json()))
    inner = data
    for step in path[:-1]:
        inner = inner[step]
    if to is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return data


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            changed("architecture", "colour", to=1),
            "Architecture has no colour; was this written by a later version of progan?",
        ),
        (changed("stages", 0, "speed", to=1), "Stage has no speed; was this written by a later version of progan?"),
        (changed("training", "luck", to=1), "Training has no luck; was this written by a later version of progan?"),
        (
            changed("training", "objective", "settings", "hinge", to=1),
            "Wasserstein has no hinge; was this written by a later version of progan?",
        ),
        (
            changed("training", "objective", "name", to="Hinge"),
            "Training.objective 'Hinge' is unknown; known: NonSaturating, Relativistic, Wasserstein; was this written "
            "by a later version of progan?",
        ),
        (
            changed("training", "augment_real", 0, "name", to="Flip"),
            f"Training.augment_real 'Flip' is unknown; known: {KINDS}",
        ),
        (
            changed("training", "augment_all", 0, "name", to="train.Flip"),
            "Training.augment_all is of the class 'train.Flip', which is not progan's; pass the class in parts=, such "
            "as parts=(Flip,)",
        ),
        (
            changed("training", "regularizers", 1, to=2),
            "Training.regularizers must be a JSON object with name and settings, got 2",
        ),
        (
            changed("training", "augment_all", to="Contrast"),
            "Training.augment_all must be a JSON object with name and settings, got 'Contrast'",
        ),
        (changed("training", "augment_real", 1, "settings", to=[1]), "Contrast must be a JSON object, got [1]"),
        (
            changed("training", "augment_real", to=[{"name": "Contrast", "settings": {}}] * 2),
            f"Training.augment_real {ONCE} Contrast, Contrast",
        ),
        (
            changed("training", "objective", "name", to=["Wasserstein"]),
            "Training.objective must be a JSON object with name and settings, got {'name': ['Wasserstein'], "
            "'settings': {'drift_weight': 0.01}}",
        ),
        (changed("training", "objective", to=[]), "Training.objective must be one part, got 0"),
        (changed("training", "augment_strength", to="1"), "Training.augment_strength must be float, got '1'"),
        (changed("architecture", to=None), "the recipe lacks its architecture"),
        (changed("training", to=None), "the recipe lacks its training"),
        (changed("stages", to=None), "the recipe lacks its list of stages"),
        (changed("stages", 0, to=3), "Stage must be a JSON object, got 3"),
        (changed("stages", 0, "level", to="1"), "Stage.level must be int, got '1'"),
        (changed("stages", 0, "level", to=True), "Stage.level must be int, got True"),
        (
            changed("architecture", "channels", to=[8, 6.0]),
            "Architecture.channels must be tuple[int, ...], got [8, 6.0]",
        ),
        (changed("architecture", "head_channels", to=1.5), "Architecture.head_channels must be int | None, got 1.5"),
        (
            changed("architecture", "norm_epsilon", to=float("nan")),
            "Architecture.norm_epsilon must be float, got nan",
        ),
        (changed("training", "blend_real", to="no"), "Training.blend_real must be bool, got 'no'"),
        (
            changed("stages", 0, "learning_rate", to=10**400),
            "Stage: int too large to convert to float",
        ),
    ],
)
def test_json_refusals(data, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Recipe.from_json(data)


def test_json_that_lacks_a_width_is_refused():
    with pytest.raises(ValueError, match=r"^Architecture: .*'channels'"):
        Recipe.from_json(changed("architecture", "channels", to=None))


def test_json_that_leaves_out_defaults_takes_them():
    data = {"architecture": {"channels": [8]}, "stages": [{"level": 0, "hold_images": 8}], "training": {}}
    assert Recipe.from_json(data) == Recipe(Architecture((8,)), (Stage(0, hold_images=8),))


def test_json_holds_parts_in_their_order():
    flip, contrast = (
        {"name": "HorizontalFlip", "settings": {"probability": 0.25}},
        {"name": "Contrast", "settings": {"low": 0.5, "high": 1.5}},
    )
    assert UNUSUAL.to_json()["training"]["augment_real"] == [flip, contrast]
    assert UNUSUAL.to_json()["training"]["objective"] == {"name": "Wasserstein", "settings": {"drift_weight": 0.01}}
    assert mel_icon().to_json()["training"]["augment_real"] == []
    made = UNUSUAL.training.augment_real
    for came, expected in ((None, ()), (contrast, made[1:]), ([contrast, flip], made[::-1])):
        data = json.loads(json.dumps(UNUSUAL.to_json()))
        data["training"]["augment_real"] = came
        assert Recipe.from_json(data).training.augment_real == expected


# Parts of one's own


@dataclass(frozen=True)
class Hinge:
    """An objective of one's own, with settings of every kind that JSON holds."""

    margin: float = 1.0
    words: tuple[str | None, ...] = ("one", None)
    nested: tuple[tuple[int, bool], ...] = ((1, True),)

    def critic(self, real_scores, fake_scores):
        return (self.margin - real_scores).relu().mean() + (self.margin + fake_scores).relu().mean()

    def generator(self, fake_scores, real_scores):
        return -fake_scores.mean()


@dataclass(frozen=True)
class Rotate:
    """An augmentation of one's own."""

    draws_per_image: int = 1

    def __call__(self, images, draws, strength=1.0):
        return images.rot90(2, (2, 3))


@dataclass(frozen=True)
class ScorePenalty:
    """A regulariser of one's own."""

    weight: float = 1.0
    every: int = 3

    def __call__(self, critic, real, fake, mix):
        return critic(fake).square().mean()


OWN = replace(
    UNUSUAL,
    training=Training(Hinge(0.5, ("two",)), (ScorePenalty(2.0), R1()), augment_real=Rotate(2), augment_all=Rotate()),
)
PARTS = (Hinge, Rotate, ScorePenalty)


def own_json(old="", new=""):
    """Return the JSON of the recipe with parts of one's own, one text in it replaced."""
    return json.loads(json.dumps(OWN.to_json()).replace(old, new))


def test_own_parts_are_recorded_by_qualified_name_and_come_back():
    data = own_json()
    assert data["training"]["objective"] == {
        "name": f"{__name__}.Hinge",
        "settings": {"margin": 0.5, "words": ["two"], "nested": [[1, True]]},
    }
    assert Recipe.from_json(data, parts=PARTS) == OWN
    architecture, schedule = networks_from_json(data)  # which need no parts
    assert (architecture, schedule.stages) == (OWN.architecture, OWN.stages)


@pytest.mark.parametrize("missing", PARTS)
def test_own_parts_that_are_missing_are_named(missing):
    name = f"{__name__}.{missing.__name__}"
    remedy = f"pass the class in parts=, such as parts=({missing.__name__},)"
    text = f"is of the class '{name}', which is not progan's; {remedy}"
    with pytest.raises(ValueError, match=f"^Training.*{re.escape(text)}$"):
        Recipe.from_json(own_json(), parts=[part for part in PARTS if part is not missing])


def test_a_script_and_the_module_that_it_is_have_one_name():
    assert Recipe.from_json(own_json(f"{__name__}.", "__main__."), parts=PARTS) == OWN
    with pytest.raises(ValueError, match=r"is of the class 'another\.module\.Hinge'"):
        Recipe.from_json(own_json(f"{__name__}.", "another.module."), parts=PARTS)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"margins": 1.0}, "Hinge does not take the settings that the run has: .*'margins'"),
        ([1.0], r"the settings of Hinge must be a JSON object, got \[1.0\]"),
        ({"margin": [{}]}, "Training: Training.objective: Hinge.margin must be a value that JSON can hold"),
    ],
)
def test_settings_of_own_parts_that_do_not_fit(settings, text):
    data = own_json()
    data["training"]["objective"]["settings"] = settings
    with pytest.raises(ValueError, match=text):
        Recipe.from_json(data, parts=PARTS)


def test_nothing_is_imported_by_a_name(tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"class 'trap\.Hinge', which is not progan's"):
        Recipe.from_json(own_json(f"{__name__}.Hinge", "trap.Hinge"), parts=PARTS)
    with pytest.raises(TypeError, match="each of parts must be a class, got a Hinge"):
        Recipe.from_json(own_json(), parts=[Hinge()])


class NotADataclass(Hinge):
    def __init__(self):
        super().__init__()


@dataclass
class NotFrozen:
    draws_per_image: int = 1

    def __call__(self, images, draws, strength=1.0):
        return images


@dataclass(frozen=True)
class Computed(Rotate):
    factor: float = field(default=1.0, init=False)


@dataclass(frozen=True)
class Changing(Rotate):
    factor: float = 2.0

    def __post_init__(self):
        object.__setattr__(self, "factor", self.factor * 2)


NEEDS = "with draws_per_image and __call__"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"objective": "Hinge"}, "Training.objective must be an Objective, with critic and generator, got 'Hinge'"),
        ({"objective": None}, "Training.objective must be an Objective, with critic and generator, got None"),
        ({"objective": nn.Identity()}, "must be an Objective, with critic and generator, got an Identity"),
        ({"objective": Hinge}, "Training.objective must be an Objective, got the class Hinge; pass an instance of it"),
        ({"objective": NotADataclass()}, "Training.objective: NotADataclass cannot be built again from its fields"),
        (
            {"objective": Hinge(torch.tensor(1.0))},
            "Training.objective: Hinge.margin must be a value that JSON can hold (None, a bool, an int, a finite "
            "float, a str, or a tuple of such), got a tensor () of torch.float32",
        ),
        ({"objective": Hinge(float("inf"))}, "such), got inf"),
        ({"objective": Hinge(words=["one"])}, "Hinge.words must be a value that JSON can hold"),
        ({"objective": Hinge(nested=({},))}, "Hinge.nested must be a value that JSON can hold"),
        (
            {"regularizers": len},
            "each of Training.regularizers must be a Regularizer, with weight and every and __call__, got the function",
        ),
        ({"regularizers": (ScorePenalty("1"),)}, "ScorePenalty.weight must be a number, got '1'"),
        ({"regularizers": (ScorePenalty(every=1.5),)}, "ScorePenalty.every must be an int, got 1.5"),
        ({"augment_real": 2.0}, f"each of Training.augment_real must be an Augmentation, {NEEDS}, got 2.0"),
        (
            {"augment_all": NotFrozen()},
            "each of Training.augment_all must be a frozen dataclass, whose settings a run can record, got a "
            "NotFrozen; write @dataclass(frozen=True) above it",
        ),
        ({"augment_all": Computed()}, "Computed cannot be built again from its fields"),
        ({"augment_all": Changing()}, "Changing built again from"),
        ({"augment_all": Rotate("2")}, "Rotate.draws_per_image must be an int, got '2'"),
    ],
)
def test_parts_that_a_run_could_not_record_are_refused(settings, text):
    with pytest.raises(TypeError, match=re.escape(text)):
        Training(**settings)


# Presets


def test_mel_icon_stages():
    assert rows(mel_icon()) == [
        (0, 0, 60_000, 8, 5e-4),
        *((level, 60_000, 0, 8, 5e-4) for level in range(1, 7)),
        (6, 0, 30_000, 8, 5e-4),
        (6, 0, 30_000, 8, 1e-4),
    ]
    assert mel_icon().schedule.total_images == 480_000


def test_mel_icon_with_contrast_has_twice_the_images():
    plain, contrast = mel_icon(), mel_icon(contrast=True)
    assert contrast.schedule.total_images == 960_000
    assert rows(contrast) == [(level, 2 * fade, 2 * hold, *more) for level, fade, hold, *more in rows(plain)]
    assert contrast.training == replace(plain.training, augment_real=(Contrast(1.0, 2.0),))
    assert contrast.architecture == plain.architecture


def test_mel_icon_settings():
    architecture, training = mel_icon().architecture, mel_icon().training
    assert architecture.channels == (256, 128, 64, 32, 16, 8, 4)
    assert (architecture.latent_shape, architecture.image_range) == ((512, 4, 4), (0.0, 1.0))
    assert (architecture.minibatch_std_group, architecture.minibatch_std_unbiased) == (8, True)
    assert training == Training(
        objective=Wasserstein(1e-3),
        regularizers=(GradientPenalty(10.0),),
        order="generator_first",
        adam=Adam((0.0, 0.99), 1e-8, "never"),
        ema=Ema(0.995, batch=8, warm_up=True),
    )


def test_karras_stages():
    assert rows(karras2018()) == [
        (0, 0, 600_000, 128, 1e-3),
        (1, 600_000, 600_000, 128, 1e-3),
        (2, 600_000, 600_000, 128, 1e-3),
        (3, 600_000, 600_000, 64, 1e-3),
        (4, 600_000, 600_000, 32, 1e-3),
        (5, 600_000, 600_000, 16, 1e-3),
        (6, 600_000, 600_000, 8, 1e-3),
        (7, 600_000, 600_000, 4, 1e-3),
        (8, 600_000, 2_400_000, 4, 1.5e-3),
    ]
    assert karras2018().schedule.total_images == 12_000_000
    assert rows(karras2018(16))[2] == (2, 600_000, 2_400_000, 128, 1e-3)


def test_karras_settings():
    architecture = karras2018().architecture
    assert architecture.channels == (512, 512, 512, 512, 256, 128, 64, 32, 16)
    assert (architecture.latent_shape, architecture.image_range) == ((512,), (-1.0, 1.0))
    assert (architecture.minibatch_std_group, architecture.minibatch_std_unbiased) == (4, False)
    assert karras2018(32, fmap_base=16_384).architecture.channels == (512, 512, 512, 512)
    assert karras2018(16, fmap_base=256).architecture.channels == (128, 64, 32)
    assert karras2018(16, fmap_base=256).architecture.head_channels == 256
    # As documented, narrower official ones differ: there 128 -> 128 and 128 * 16 -> 256.
    narrow = dict(karras2018(16, fmap_base=256).build()[1].blocks[0].named_parameters())
    assert [narrow[name].shape[:2] for name in narrow if name.endswith("weight")] == [(256, 129), (256, 4096), (1, 256)]
    assert karras2018().training == Training(
        objective=Wasserstein(1e-3),
        regularizers=(GradientPenalty(10.0),),
        order="critic_first",
        adam=Adam((0.0, 0.99), 1e-8, "level_and_fade"),
        ema=Ema(0.999),
        blend_real=True,
    )


@pytest.mark.parametrize("preset", [mel_icon, karras2018])
def test_presets_at_other_resolutions(preset):
    for resolution, levels in ((4, 1), (8, 2), (64, 5), (256, 7)):
        recipe = preset(resolution)
        assert recipe.architecture.channels == preset(256).architecture.channels[:levels]
        assert recipe.architecture.size(recipe.architecture.top_level) == (resolution, resolution)
        assert recipe.stages[-1].level == levels - 1
    assert preset(16, channels=[8, 6, 4]).architecture.channels == (8, 6, 4)
    assert preset(2048, channels=(4,) * 10).stages[-1].level == 9


@pytest.mark.parametrize("preset", [mel_icon, karras2018])
@pytest.mark.parametrize("resolution", [0, 2, 12, 24, 100, 64.0, "64", -8])
def test_presets_refuse_sizes_that_no_level_has(preset, resolution):
    text = f"resolution must be 4 times a power of two (4, 8, 16, ...), got {resolution!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        preset(resolution)


def test_presets_refuse_sizes_beyond_their_widths_and_say_what_to_do():
    text = (
        "mel_icon has widths for up to 256 px, got resolution=512; pass channels= with 8 widths, coarse first, "
        "such as (256, 128, 64, 32, 16, 8, 4, 4)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        mel_icon(512)
    assert mel_icon(512, channels=(256, 128, 64, 32, 16, 8, 4, 4)).stages[-1].level == 7
    with pytest.raises(
        ValueError, match=r"^karras2018 has widths for up to 1024 px, got resolution=2048; pass channels="
    ):
        karras2018(2048)
    with pytest.raises(ValueError, match=r"^resolution 16 has 3 levels, got 2 widths in channels=$"):
        mel_icon(16, channels=(8, 6))


# Training and fit


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (lambda: Adam(reset="often"), "Adam.reset must be one of never, level, level_and_fade, got 'often'"),
        (lambda: Adam((0.0, 1.0)), "Adam.betas must be two numbers in [0, 1), got (0.0, 1.0)"),
        (lambda: Adam((0.5,)), "Adam.betas must be two numbers in [0, 1), got (0.5,)"),
        (lambda: Adam(eps=0.0), "Adam.eps must be positive, got 0.0"),
        (lambda: Adam(generator_factor=0), "Adam.generator_factor must be above 0 and finite, got 0"),
        (lambda: Ema(1.0), "Ema.decay must be in [0, 1), got 1.0"),
        (lambda: Ema(0.5, batch=0), "Ema.batch must be at least 1, or None, got 0"),
    ],
)
def test_optimizer_and_ema_refusals(settings, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        settings()


@pytest.mark.parametrize(
    ("error", "settings", "text"),
    [
        (ValueError, {"order": "both"}, "Training.order must be one of critic_first, generator_first, got 'both'"),
        (ValueError, {"precision": "fp8"}, "Training.precision must be one of fp32, tf32, bf16, got 'fp8'"),
        (TypeError, {"adam": {"eps": 1.0}}, "Training.adam must be an Adam, got a dict; pass Adam(...) of it"),
        (TypeError, {"ema": 0.9}, "Training.ema must be an Ema, got 0.9; pass Ema(decay)"),
        (
            ValueError,
            {"augment_real": [Contrast(), HorizontalFlip(), Contrast(1.0, 1.5)]},
            f"Training.augment_real {ONCE} Contrast, HorizontalFlip, Contrast",
        ),
        (
            ValueError,
            {"regularizers": (GradientPenalty(), GradientPenalty(1.0))},
            f"Training.regularizers {ONCE} penalty, penalty",
        ),
        (
            ValueError,
            {"regularizers": ScorePenalty(-1.0)},
            "ScorePenalty.weight must be at least 0 and finite, got -1.0",
        ),
        (ValueError, {"augment_strength": -0.5}, "Training.augment_strength must be at least 0 and finite, got -0.5"),
    ],
)
def test_training_refusals(error, settings, text):
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        Training(**settings)


@dataclass(frozen=True)
class RandomHUE:
    """Someone else's augmentation."""

    shift: float = 0.1


class ColorJitter(nn.Module):
    """As torchvision's is named, which changes hue too."""


def adjust_hue(images):
    return images


@pytest.mark.parametrize(
    "hue", ["hue", "Random Hue", "color_jitter", RandomHUE(), RandomHUE, ColorJitter(), adjust_hue]
)
def test_hue_is_refused_by_name_and_with_the_reason(hue):
    reason = (
        "; changes of hue give strange colours, as the Mel Icon article found, and the generator learns to draw them; "
        "use Contrast(), x1 to x2, which did little harm there"
    )
    for augment in (hue, (hue,), [Contrast(), hue]):
        with pytest.raises(TypeError, match=f"^each of Training.augment_real must be an Aug.*{re.escape(reason)}$"):
            Training(augment_real=augment)


def test_parts_are_a_tuple_whatever_came():
    both = (Contrast(), HorizontalFlip())
    for came, expected in (
        (None, ()),
        ([], ()),
        (Contrast(), (Contrast(),)),
        (HorizontalFlip(0.1), (HorizontalFlip(0.1),)),
        (list(both), both),
        (both[::-1], both[::-1]),
    ):
        for role in ("augment_real", "augment_all"):
            assert getattr(Training(**{role: came}), role) == expected
            assert Training(**{role: came}) == Training(**{role: expected})
    assert Training(augment_real=both) != Training(augment_real=both[::-1])
    assert hash(Training(augment_real=list(both))) == hash(Training(augment_real=both))
    assert Training(regularizers=R1()).regularizers == (R1(),)
    assert Training(NonSaturating(), None).regularizers == ()


@pytest.mark.parametrize(
    ("before", "after", "level", "level_and_fade"),
    [
        ((1, 0.25), (1, 0.5), False, False),
        ((1, 0.5), (1, None), False, True),
        ((1, None), (1, None), False, False),
        ((1, None), (2, 0.0), True, True),
        ((1, 0.9), (2, 0.0), True, True),
        ((0, None), (1, None), True, True),
    ],
)
def test_resets(before, after, level, level_and_fade):
    before, after = (Growth(0, *growth, 1e-3, 8) for growth in (before, after))
    for reset, expected in (("never", False), ("level", level), ("level_and_fade", level_and_fade)):
        assert Adam(reset=reset).resets(before, after) == expected


def test_stages_that_the_networks_cannot_follow_are_refused():
    architecture = Architecture((8, 6))
    text = "stage 1 is at level 2, but the networks have levels 0 to 1; pass channels= with 3 widths or drop the stage"
    stages = (Stage(1, hold_images=8), Stage(2, hold_images=8))
    for refused in (lambda: Recipe(architecture, stages), lambda: check_fit(architecture, Schedule(stages))):
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            refused()
    stages = (Stage(0, hold_images=8), Stage(1, hold_images=8, batch_size=6))
    with pytest.raises(
        ValueError, match=r"^stage 1: a batch of 6 images cannot be split into MiniBatchStd groups of 4;"
    ):
        Recipe(architecture, stages)
    Recipe(replace(architecture, minibatch_std_group=None), stages)


@pytest.mark.parametrize(
    ("recipe", "processes", "batches"),
    [
        (few_images(64), 1, [4] * 7),
        (few_images(64), 3, [12] * 7),
        (few_images(64, flat=False), 2, [8] * 7),
        (mel_icon(16), 4, [32] * 5),
        (karras2018(1024), 4, [128, 128, 128, 64, 32, 16, 16, 16, 16]),
        (karras2018(1024), 3, [132, 132, 132, 72, 36, 24, 12, 12, 12]),
    ],
)
def test_several_processes_share_the_next_larger_batch_of_whole_groups(recipe, processes, batches):
    shared = recipe.for_processes(processes)
    assert [stage.batch_size for stage in shared.stages] == batches
    assert shared == replace(
        recipe, stages=tuple(replace(each, batch_size=n) for each, n in zip(recipe.stages, batches, strict=True))
    )
    check_ranks(shared.architecture, shared.schedule, processes)
    assert shared.for_processes(processes) == shared


def test_batches_that_no_processes_can_share_are_refused():
    recipe = mel_icon(8)
    whole = replace(recipe, architecture=replace(recipe.architecture, minibatch_std_group=None))
    with pytest.raises(ValueError, match="which 2 processes cannot share evenly; give the architecture a"):
        whole.for_processes(2)
    consecutive = replace(recipe, architecture=replace(recipe.architecture, minibatch_std_consecutive=True))
    with pytest.raises(ValueError, match=r"2 processes cannot share a batch in .* consecutive images"):
        consecutive.for_processes(2)
    assert whole.for_processes(1) == whole
    assert consecutive.for_processes(1) == consecutive
    with pytest.raises(TypeError, match="processes must be an int, got '2'"):
        recipe.for_processes("2")
    with pytest.raises(ValueError, match="processes must be at least 1, got 0"):
        recipe.for_processes(0)


def test_recipes_take_lists():
    recipe = Recipe(Architecture([8]), [Stage(0, hold_images=8)])
    assert recipe == Recipe(Architecture((8,)), (Stage(0, hold_images=8),))
    assert Adam([0.5, 0.9]) == Adam((0.5, 0.9))


def test_build():
    generator, discriminator = UNUSUAL.build(seed=1)
    assert generator.architecture == discriminator.architecture == UNUSUAL.architecture
    labels = torch.tensor([2, 0])
    images = generator(torch.zeros(2, 5, 6, 4), labels=labels)
    assert images.shape == (2, 4, 12, 8)
    assert discriminator(images, labels=labels).shape == (2,)
    assert_close(UNUSUAL.build(seed=1)[0].state_dict(), generator.state_dict(), rtol=0, atol=0)


def test_asdict_of_a_recipe_holds_no_more_than_its_json():
    # A field added to a dataclass and forgotten in to_json would be lost from config.json.
    plain, written = asdict(UNUSUAL), UNUSUAL.to_json()
    assert plain.keys() == written.keys()
    assert all(plain[room].keys() == written[room].keys() for room in ("architecture", "training"))
