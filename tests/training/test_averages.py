"""Several averages of the generator: against a plain loop, part of the state, and the best one chosen at the end."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import contents, same, small_recipe
from recovering import TWICE, Breaks
from running import make, pixels

from progan import (
    AverageChoice,
    Callback,
    CheckpointError,
    Ema,
    Judge,
    Measured,
    Recipe,
    Stage,
    Trainer,
    Training,
    load_generator,
)
from progan.randomness import latents
from progan.recipe_json import with_later_settings
from progan.render import enlarge, image_grid, read_png, to_uint8
from progan.reports.pictures import Picture
from progan.reports.reading import read_run
from progan.reports.sections import closest as closest_section
from progan.reports.sections import measures as measures_section
from progan.runs.checkpoint import checkpoints, read_manifest, read_tensors
from progan.runs.judging import JudgingRecord
from progan.training.callbacks import judge as judge_module
from progan.training.callbacks import judged_images
from progan.training.callbacks.judging_intervals import JudgingIntervals

# small_recipe is at 16x16, where it can be judged, from 64 images on; its end is at 96.
SEVERAL = Ema(0.5, batch=60, ramp_up=0.25, other_half_lives=(1 / 3, 3.0))
NAMES = ["ema", "ema_1", "ema_2"]
GREY = torch.full((20, 3, 16, 16), 0.5)
WENT_BACK = pytest.warns(UserWarning, match="training went back from")


def several(run_dir: Path | None = None, ema: Ema = SEVERAL, **keywords) -> Trainer:
    return make(small_recipe(ema=ema), run_dir, **keywords)


def mean_image(images) -> float:
    return (images.samples.double().mean(0) - images.real.double().mean(0)).abs().mean().item()


def judge(measure=mean_image) -> Judge:
    return Judge(1000, measures={"mean_image": measure}, built_in=False, n=8)


class Grey(Callback):
    """Let an average make grey images alone, before the run is judged at its end."""

    def __init__(self, name: str) -> None:
        self.name = name

    def on_step(self, run, metrics):
        if run.images_seen >= run.schedule.total_images:
            with torch.no_grad():
                for parameter in run.averages[self.name].parameters():
                    parameter.zero_()


def planted(run_dir: Path | None, name: str = "ema_1", **keywords) -> Trainer:
    """A run of grey images, one of whose averages makes nothing else."""
    callbacks = [Grey(name), *keywords.pop("callbacks", ()), judge()]
    return several(run_dir, callbacks=callbacks, **keywords)


def choice_rows(run_dir: Path) -> list[dict]:
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "average_choice" in row]


def recorded(run_dir: Path) -> dict | None:
    return read_manifest(checkpoints(run_dir)[-1])["numbers"].get("average_choice")


# Settings


def test_each_average_has_its_half_life():
    averages = Ema(0.9, batch=8, warm_up=True, ramp_up=0.05, other_half_lives=[0.5, 3]).averages()
    assert list(averages) == NAMES
    assert averages["ema"] == Ema(0.9, batch=8, warm_up=True, ramp_up=0.05)
    halved = averages["ema_1"]
    assert halved == Ema(halved.decay, batch=8, warm_up=True, ramp_up=0.025)
    assert halved.decay == pytest.approx(0.9**2)
    assert averages["ema_2"].decay ** 3 == pytest.approx(0.9)
    assert averages["ema_2"].ramp_up == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"other_half_lives": 3.0}, TypeError, "Ema.other_half_lives must be a sequence of numbers, got 3.0"),
        ({"other_half_lives": ("3",)}, TypeError, "each of Ema.other_half_lives must be a number, got '3'"),
        ({"other_half_lives": (0.0,)}, ValueError, "each of Ema.other_half_lives must be from 0.001 to 1000, got 0.0"),
        ({"other_half_lives": (2, 3, 4, 5, 6)}, ValueError, "Ema.other_half_lives takes at most 4 numbers, got 5"),
        ({"other_half_lives": (3, 3.0)}, ValueError, "must differ from 1 and from one another, got (3, 3.0)"),
        ({"other_half_lives": (1,)}, ValueError, "must differ from 1 and from one another, got (1,)"),
        ({"decay": 0, "other_half_lives": (2,)}, ValueError, "and one with decay 0 has none"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, error, text):
    with pytest.raises(error, match=re.escape(text)):
        Ema(**{"decay": 0.9, **settings})


def test_averages_are_recorded_and_an_earlier_version_had_one():
    plain, more = small_recipe(ema=Ema(0.9)), small_recipe(ema=SEVERAL)
    for recipe in (plain, more):
        assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    earlier = json.loads(json.dumps(plain.to_json()))
    del earlier["training"]["ema"]["other_half_lives"]
    assert Recipe.from_json(earlier) == plain
    assert with_later_settings(earlier, Training()) == json.loads(json.dumps(plain.to_json()))


# Training


class Weights(Callback):
    """Keep the generator's weights after each step."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, torch.Tensor]] = []

    def on_step(self, run, metrics):
        weights = torch.cat([parameter.detach().flatten() for parameter in run.generator.parameters()])
        self.steps.append((metrics.images_seen - metrics.growth.batch_size, metrics.growth.batch_size, weights))


def test_averages_are_those_of_a_plain_loop():
    recipe, weights = small_recipe(ema=SEVERAL), Weights()
    networks = (network.double() for network in recipe.build())
    trainer = Trainer(
        *networks, recipe.schedule, recipe.training, callbacks=[weights], device="cpu", progress=False, log_every=8
    )
    begun = torch.cat([parameter.detach().flatten() for parameter in trainer.generator.parameters()])
    expected = {1.0: begun, 1 / 3: begun, 3.0: begun}
    trainer.fit(pixels())
    assert len(weights.steps) == 12
    for images_seen, batch, new in weights.steps:
        for multiple, old in expected.items():
            half_life = min(60 * multiple, 0.25 * multiple * images_seen)
            kept = 0.5 ** (batch / half_life) if half_life else 0.0
            expected[multiple] = kept * old + (1 - kept) * new
    found = [torch.cat([value.flatten() for value in each.parameters()]) for each in trainer.averages.values()]
    for average, plain in zip(found, expected.values(), strict=True):
        torch.testing.assert_close(average, plain, rtol=1e-12, atol=1e-14)
    assert min((one - other).abs().max() for one, other in zip(found, [*found[1:], found[0]], strict=True)) > 1e-6


def test_further_averages_change_no_bit_of_the_others(tmp_path):
    for name, ema in {"one": replace(SEVERAL, other_half_lives=()), "three": SEVERAL}.items():
        several(tmp_path / name, ema).fit(pixels())
    one, three = (read_tensors(checkpoints(tmp_path / name)[-1]) for name in ("one", "three"))
    assert {name.partition("/")[0] for name in three.keys() - one.keys()} == {"ema_1", "ema_2"}
    assert same(one, {name: three[name] for name in one})
    assert "average_choice" not in read_manifest(checkpoints(tmp_path / "one")[-1])["numbers"]


@pytest.mark.parametrize("warm_up", [False, True])
def test_averages_resume_to_the_bit(warm_up, tmp_path):
    ema = replace(SEVERAL, warm_up=warm_up)
    several(tmp_path / "whole", ema, callbacks=[judge()]).fit(pixels())
    for until in (16, 72, None):
        several(tmp_path / "run", ema, callbacks=[judge()]).fit(pixels(), until=until)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    with pytest.raises(ValueError, match=r"holds another run; .*recipe.training.ema.other_half_lives"):
        several(tmp_path / "run", Ema(0.5, batch=60, ramp_up=0.25))
    again = Trainer.from_run(tmp_path / "run", device="cpu", progress=False)
    assert list(again.averages) == NAMES
    assert same(again.state_dict()["tensors"], read_tensors(checkpoints(tmp_path / "run")[-1]))


def test_a_run_that_goes_back_has_the_averages_of_one_that_was_stopped(tmp_path):
    keywords = {"save_every": 16, "keep": 1, "recover": 2}
    with WENT_BACK:
        several(tmp_path / "whole", callbacks=[Breaks(TWICE)], **keywords).fit(pixels())
    for until in (64, 80, None):
        with pytest.warns(UserWarning, match="went back") if until != 64 else pytest.MonkeyPatch.context():
            several(tmp_path / "run", callbacks=[Breaks(TWICE)], **keywords).fit(pixels(), until=until)
    whole, stopped = (read_tensors(checkpoints(tmp_path / name)[-1]) for name in ("whole", "run"))
    assert same(whole, stopped)
    assert not torch.equal(whole["ema/to_rgb.2.weight"], whole["ema_1/to_rgb.2.weight"])


def modules(trainer: Trainer) -> dict[str, dict[str, torch.Tensor]]:
    return {name: average.module.state_dict() for name, average in trainer.averages.items()}


def other_weights() -> dict[str, torch.Tensor]:
    return small_recipe().build(seed=7)[0].state_dict()


def test_averages_begin_with_what_is_loaded(tmp_path):
    warm = replace(SEVERAL, warm_up=True)
    trainer = several(ema=warm)
    trainer.generator.load_state_dict(other_weights())
    trainer.grown()
    assert all(same(other_weights(), state) for state in modules(trainer).values())
    assert all(average.warm_up for average in trainer.averages.values())
    trainer = several(ema=warm)
    trainer.ema.module.load_state_dict(other_weights())
    trainer.grown()
    assert all(same(other_weights(), state) for state in modules(trainer).values())
    assert not any(average.warm_up for average in trainer.averages.values())
    trainer, drawn = several(ema=warm), small_recipe().build(seed=3)[0].state_dict()
    trainer.averages["ema_2"].module.load_state_dict(other_weights())
    trainer.grown()
    found = modules(trainer)
    assert same(found["ema_2"], other_weights())
    assert same(found["ema"], drawn)
    assert same(found["ema_1"], drawn)
    several(tmp_path / "old").fit(pixels(), until=8)
    begun = several(ema=warm, start=tmp_path / "old")
    first = read_tensors(checkpoints(tmp_path / "old")[-1], "ema/")
    assert all(same(first, state) for state in modules(begun).values())
    assert not any(average.warm_up for average in begun.averages.values())


def test_a_plan_has_the_averages_too(short_plans):
    trainer = several()
    before = {name: tensor.clone() for name, tensor in trainer.state_dict()["tensors"].items()}
    assert trainer.plan(printed=False).total_s > 0
    assert same(before, trainer.state_dict()["tensors"])


# The choice


@pytest.mark.parametrize("best", NAMES)
def test_the_best_average_is_chosen_and_used(best, tmp_path, capsys):
    trainer = planted(tmp_path, best, progress=True)
    trainer.fit(GREY)
    choice = AverageChoice.from_json(recorded(tmp_path))
    assert (choice.chosen, choice.measure, choice.images_seen, list(choice.values)) == (best, "mean_image", 96, NAMES)
    assert choice.values[best] < 1 < 3 < min(value for name, value in choice.values.items() if name != best)
    tensors = read_tensors(checkpoints(tmp_path)[-1])
    for grown in (load_generator(tmp_path), trainer.grown(), Trainer.from_run(tmp_path, progress=False).grown()):
        assert all(
            torch.equal(value, tensors[f"{best}/{name}"]) for name, value in grown.generator.state_dict().items()
        )
    for name in NAMES:
        assert same(
            load_generator(tmp_path, average=name).generator.state_dict(),
            read_tensors(checkpoints(tmp_path)[-1], f"{name}/"),
        )
        assert torch.equal(load_generator(tmp_path, average=name).sample(1), trainer.grown(name).sample(1))
    (row,) = choice_rows(tmp_path)
    assert row == {"images_seen": 96, "text": row["text"], "average_choice": choice.to_json()}
    multiple = dict(zip(NAMES, ("1", "0.333", "3"), strict=True))[best]
    said = f"average {best} (half-life x {multiple}) is the best of 3 by mean_image after 96 real images: {best} "
    assert row["text"].startswith(said)
    assert capsys.readouterr().err.count(row["text"] + "\n") == 1
    assert f"<li>A{row['text'][1:]}.</li>" in measures_section(read_run(tmp_path))
    assert JudgingRecord.read(tmp_path).judged[96].value == choice.values[best]
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    (judged,) = [each for each in rows if "measures" in each]
    assert judged["average"] == best
    assert judged["measures"]["mean_image"] == choice.values[best]


def test_the_judgement_at_the_end_is_of_the_chosen_average(tmp_path):
    """All measures, the sheet of the closest pairs, and what reads the row; the leading measure is not taken twice."""
    measured, logged = [], []

    def leads(images):
        measured.append(images.samples.double().mean().item())
        return mean_image(images)

    def pairs(images) -> Measured:
        return Measured({"brightness": images.samples.double().mean().item()}, sheet=images.samples[0])

    class Look(Callback):
        def on_log(self, run, row):
            if "measures" in row:
                logged.append((row["images_seen"], row["average"], run.grown().sample(1)))

    own = Judge(88, measures={"pairs": pairs, "leads": leads}, built_in=False, leading="leads", n=8)
    trainer = several(tmp_path, callbacks=[Grey("ema_2"), own, Look()])
    trainer.fit(GREY)
    assert [each[:2] for each in logged] == [(88, "ema"), (96, "ema_2")]
    assert logged[1][2].equal(load_generator(tmp_path).sample(1)), "listeners get the average that was judged"
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if "measures" in row][-1]
    assert recorded(tmp_path)["chosen"] == "ema_2"
    assert len(measured) == 1 + len(NAMES), "at 88, and of each average at the end"
    assert last["measures"] == {"brightness": measured[3], "leads": recorded(tmp_path)["values"]["ema_2"]}
    assert not {*measured[1:3]} & {measured[3]}
    shown = (load_generator(tmp_path).images(latents_of_judgements()[:1]) * 255).round().to(torch.uint8)
    assert torch.equal(read_png(tmp_path / "samples/closest.png"), shown[0])
    run = read_run(tmp_path)
    assert "Measured at 96 images, with the average ema_2." in measures_section(run)
    gallery = SimpleNamespace(closest=Picture("data:,", 16, 16, False))
    assert "the training image that is closest to it, with the average ema_2." in closest_section(gallery, run)


def test_the_last_grid_is_of_the_average_that_was_chosen(tmp_path, monkeypatch):
    values = iter([2.0, 3.0, 1.0])  # of the averages in order
    monkeypatch.setattr(judge_module, "built_in_measures", lambda: {"feature_distance": lambda images: next(values)})
    several(tmp_path, judge_every=96).fit(pixels())
    assert recorded(tmp_path)["chosen"] == "ema_2"
    z = latents(range(16), small_recipe().architecture.latent_shape, 3, "preview")
    grids = {
        name: image_grid(enlarge(to_uint8(load_generator(tmp_path, average=name).images(z)), 128), 4) for name in NAMES
    }
    last = read_png(tmp_path / "samples/000000096.png")
    assert [torch.equal(last, grids[name]) for name in NAMES] == [False, False, True]
    assert torch.equal(read_png(tmp_path / "progress.png")[:, -128:, :512], last[:, :128])


def test_the_choice_is_part_of_the_time_of_judging(tmp_path, monkeypatch):
    """By a clock that stands still but while the leading measure is taken."""
    now, noted = [0.0], []
    for room in (judge_module, judged_images):
        monkeypatch.setattr(room, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    class Noting(JudgingIntervals):
        def add_judgement(self, images_seen, stage, pixels, seconds, **parts):
            noted.append((images_seen, seconds, parts["average_s"], parts["choice_s"]))
            super().add_judgement(images_seen, stage, pixels, seconds, **parts)

    def leads(images):
        now[0] += 2.0
        return mean_image(images)

    def other(images):
        now[0] += 5.0
        return 0.0

    monkeypatch.setattr(judge_module, "JudgingIntervals", Noting)
    own = Judge(88, measures={"leads": leads, "other": other}, built_in=False, n=8)
    several(tmp_path, callbacks=[Grey("ema_1"), own]).fit(GREY)
    assert noted == [(88, 7.0, 2.0, 0.0), (96, 11.0, 2.0, 4.0)], "of each average 2 s, of the chosen one 5 s more"
    assert own._intervals._others == 2
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["judge_s"] for row in rows if "measures" in row] == [7.0, 11.0]


def latents_of_judgements() -> torch.Tensor:
    return latents(range(8), small_recipe().architecture.latent_shape, 3, "metrics")


def test_there_is_no_choice_among_one(tmp_path):
    trainer = make(small_recipe(), tmp_path, callbacks=[judge()])
    trainer.fit(pixels())
    assert recorded(tmp_path) is None
    assert choice_rows(tmp_path) == []
    with pytest.raises(ValueError, match=r"keeps one average; .* train with Ema\(other_half_lives=...\)"):
        trainer.choose_average(pixels())


class Dies(Callback):
    """Die when a choice is logged, or the judgement after it, or when the checkpoint of the end is complete."""

    def __init__(self, at: str) -> None:
        self.at = at

    def on_log(self, run, row):
        if (self.at == "log" and "average_choice" in row) or (self.at == "judged" and "measures" in row):
            raise Killed

    def on_save(self, run, path):
        if self.at == "save" and run.images_seen == 96:
            raise Killed


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.mark.parametrize("at", ["log", "judged", "save", "measure"])
def test_a_choice_that_was_killed_is_made_again(at, tmp_path):
    planted(tmp_path / "whole").fit(GREY)

    def dies(images):
        if images._run.images_seen == 96 and torch.equal(
            next(images.grown.generator.parameters()), next(images._run.averages["ema_2"].parameters())
        ):
            raise Killed
        return mean_image(images)

    callbacks = [Grey("ema_1"), judge(dies if at == "measure" else mean_image), Dies(at)]
    with pytest.raises(Killed):
        several(tmp_path / "run", callbacks=callbacks).fit(GREY)
    assert (recorded(tmp_path / "run") is not None) == (at == "save")
    planted(tmp_path / "run").fit(GREY)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


@pytest.mark.parametrize("with_run_dir", [True, False])
def test_a_run_that_is_not_judged_chooses_when_asked(with_run_dir, tmp_path):
    planted(tmp_path / "judged").fit(GREY)
    run_dir = tmp_path / "run" if with_run_dir else None
    trainer = several(run_dir, callbacks=[Grey("ema_1")])  # with judge_every=0
    trainer.fit(GREY)
    assert trainer.state_dict()["numbers"] == {"ema_warm_up": False}
    assert same(trainer.grown().generator.state_dict(), trainer.ema.module.state_dict())
    if with_run_dir:
        assert recorded(run_dir) is None
        assert same(load_generator(run_dir).generator.state_dict(), trainer.ema.module.state_dict())
        trainer = Trainer.from_run(run_dir, device="cpu", progress=False, callbacks=[judge()])
    else:
        state = trainer.state_dict()
        trainer = several(callbacks=[judge()])
        trainer.load_state_dict(state)
    choice = trainer.choose_average(GREY)
    assert choice == AverageChoice.from_json(recorded(tmp_path / "judged"))
    assert same(trainer.grown().generator.state_dict(), trainer.averages["ema_1"].module.state_dict())
    again = several(callbacks=[judge()])
    again.load_state_dict(trainer.state_dict())
    assert again.grown().sample(1).equal(trainer.grown().sample(1))
    if with_run_dir:
        assert recorded(run_dir) == choice.to_json()
        assert [row["average_choice"] for row in choice_rows(run_dir)] == [choice.to_json()]
        assert same(load_generator(run_dir).generator.state_dict(), trainer.averages["ema_1"].module.state_dict())
        assert f"<p>A{choice_rows(run_dir)[0]['text'][1:]}.</p>" in measures_section(read_run(run_dir))
        assert trainer.choose_average(GREY) == choice
        assert len(choice_rows(run_dir)) == 1


def test_a_choice_holds_for_its_count_of_images(tmp_path):
    planted(tmp_path).fit(GREY)
    longer = replace(small_recipe(ema=SEVERAL), stages=(*small_recipe().stages[:2], Stage(2, 24, 26, 8, 1e-3)))
    trainer = make(longer, tmp_path, callbacks=[Grey("ema_2"), judge()])
    trainer.fit(GREY, until=104)
    assert recorded(tmp_path) is None
    assert same(trainer.grown().generator.state_dict(), trainer.ema.module.state_dict())
    trainer.fit(GREY)
    assert recorded(tmp_path)["chosen"] == "ema_2"
    older = tmp_path / "checkpoints/000000096"
    assert same(load_generator(older).generator.state_dict(), read_tensors(older, "ema_1/"))
    assert load_generator(tmp_path, best=True).sample(1).equal(load_generator(tmp_path, average="ema_2").sample(1))


def test_where_no_average_can_be_judged_the_first_one_is_used(tmp_path):
    def fails(images):
        raise OSError("out of order")

    trainer = several(tmp_path, callbacks=[judge(fails)])
    said = "the measure mean_image failed|no choice among the averages, since none could be judged; the first one"
    with pytest.warns(UserWarning, match=said) as caught:
        trainer.fit(pixels())
    assert len(caught) == 2
    assert recorded(tmp_path) is None
    assert load_generator(tmp_path).sample(1).equal(trainer.grown("ema").sample(1))
    with pytest.raises(ValueError, match="has a value of any measure; the judge's measures are mean_image"):
        trainer.choose_average(pixels())
    trainer = several(tmp_path / "without", callbacks=[Judge(built_in=False)])
    trainer.fit(pixels(), until=72)
    with pytest.raises(ValueError, match=r"the judge has no measures to choose by; .*pass Judge\(measures=...\)"):
        trainer.choose_average(pixels())
    absent = Judge(1000, built_in=False, measures={"mean_image": mean_image}, leading="swd")
    trainer = several(tmp_path / "other", callbacks=[absent])
    trainer.fit(pixels(), until=72)
    with pytest.raises(ValueError, match="of the leading measure, 'swd'; the judge's measures are mean_image"):
        trainer.choose_average(pixels())


def test_one_average_that_is_not_finite_is_not_chosen(tmp_path):
    class Spoils(Callback):
        def on_step(self, run, metrics):
            if run.images_seen == 96:
                with torch.no_grad():
                    next(run.averages["ema_1"].parameters()).fill_(float("nan"))

    several(tmp_path, callbacks=[Spoils(), judge()]).fit(pixels())
    assert recorded(tmp_path)["values"]["ema_1"] is None
    assert recorded(tmp_path)["chosen"] in ("ema", "ema_2")


def test_the_leading_measure_is_found_among_several(tmp_path):
    asked = []

    def other(images):
        asked.append("other")
        return 0.0

    leads = Judge(1000, measures={"other": other, "mean_image": mean_image}, built_in=False, leading="mean_image", n=8)
    several(tmp_path, callbacks=[Grey("ema_2"), leads]).fit(GREY)
    assert recorded(tmp_path)["measure"] == "mean_image"
    assert recorded(tmp_path)["chosen"] == "ema_2"
    assert asked == ["other"], "of the chosen average alone"


def test_averages_that_cannot_be_are_refused(tmp_path):
    trainer = several(tmp_path, callbacks=[judge()])
    trainer.fit(pixels(), until=8)
    with pytest.raises(ValueError, match="averages are judged from 16x16 pixels on, got 4x4"):
        trainer.choose_average(pixels())
    with pytest.raises(ValueError, match="the averages are ema, ema_1, ema_2, got 'ema_3'"):
        trainer.grown("ema_3")
    with pytest.raises(ValueError, match=r"the averages in .*000000008 are ema, ema_1, ema_2, got 'ema_3'"):
        load_generator(tmp_path, average="ema_3")
    with pytest.raises(AttributeError, match="averages cannot be replaced"):
        trainer.averages = {}
    with pytest.raises(TypeError):
        trainer.averages["ema_1"] = trainer.ema


GOOD = {"images_seen": 8, "measure": "swd", "values": {"ema": 2.0, "ema_1": 1.0, "ema_2": None}, "chosen": "ema_1"}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"more": 1}, "must have images_seen, measure, values and chosen"),
        ({"images_seen": True}, "images_seen of a choice must be an int of at least 0, got True"),
        ({"measure": "x" * 201}, "a text of at most 200 characters"),
        ({"values": {}}, "must be by name: ema, ema_1, ema_2"),
        ({"values": {"../ema": 1.0}}, "must be by name: ema, ema_1, ema_2"),
        ({"values": {"ema": float("nan")}}, "must be finite numbers or null"),
        ({"values": {"ema": None}}, "a choice must have a value"),
        ({"chosen": "ema"}, "the chosen average must be the best one, ema_1"),
        (
            {"values": {"ema": 2.0, "ema_1": 1.0}},
            "the state's choice is among ema, ema_1, and there are ema, ema_1, ema_2",
        ),
    ],
)
def test_a_choice_that_is_not_valid_is_refused_before_anything_is_changed(change, text):
    trainer = several()
    state = trainer.state_dict() | {"images_seen": 8}
    state["tensors"] = {name: tensor + 1 for name, tensor in state["tensors"].items()}
    before = next(trainer.generator.parameters()).clone()
    with pytest.raises(CheckpointError, match=text):
        trainer.load_state_dict(state | {"numbers": {"ema_warm_up": True, "average_choice": GOOD | change}})
    assert torch.equal(next(trainer.generator.parameters()), before)
    trainer.load_state_dict(state | {"numbers": {"ema_warm_up": True, "average_choice": GOOD}})
    assert trainer.state_dict()["numbers"] == {"ema_warm_up": True, "average_choice": GOOD}


def test_a_checkpoint_that_lacks_an_average_is_refused(tmp_path, monkeypatch):
    trainer = make(small_recipe(ema=replace(SEVERAL, other_half_lives=())), tmp_path)
    trainer.fit(pixels(), until=8)
    state, identity = trainer._engine.state, trainer._identity
    monkeypatch.setattr(state, "numbers", lambda: {"ema_warm_up": False, "average_choice": GOOD})
    trainer.save()
    with pytest.raises(CheckpointError, match="has no average ema_1, which it says was chosen"):
        load_generator(tmp_path)
    monkeypatch.setattr(state, "numbers", lambda: {"ema_warm_up": False, "average_choice": {"chosen": "ema_1"}})
    trainer.save()
    with pytest.raises(CheckpointError, match="does not describe a run: a choice among averages must have"):
        load_generator(tmp_path)
    identity.recipe = small_recipe(ema=SEVERAL)
    monkeypatch.setattr(state, "numbers", lambda: {"ema_warm_up": False})
    trainer.save()
    with pytest.raises(CheckpointError, match="its ema_1 does not fit its architecture"):
        Trainer.from_run(tmp_path / "checkpoints/000000008", device="cpu", progress=False)


def test_training_takes_several_averages():
    assert Training(ema=SEVERAL).ema.other_half_lives == (1 / 3, 3.0)
