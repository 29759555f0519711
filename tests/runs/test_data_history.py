"""A run trains on with other images: from where on, to which bits, and what it records and says of it."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import contents, small_recipe
from recovering import TWICE, brittle
from running import make, pixels, program

from progan import CheckpointError, DataRecord, ImageFolder, Stage, Trainer, write_png
from progan.data.order import Order
from progan.reports import write_report
from progan.reports.rows import read_rows
from progan.runs.checkpoint import checkpoints, read_manifest
from progan.runs.data_history import history_from_json, with_change

CHANGES = pytest.warns(UserWarning, match="real images on, the run trains on")


def more_pixels(n: int = 5) -> torch.Tensor:
    """The images of `pixels`, and n more."""
    more = torch.randint(0, 256, (n, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return torch.cat([pixels(), more])


def grown(run_dir: Path, until: int | None = None, **keywords) -> Trainer:
    """A run of the 21 images up to 40 shown, and from there on of 26."""
    make(small_recipe(), run_dir).fit(pixels(), until=40)
    trainer = make(small_recipe(), run_dir, data_may_change=True, **keywords)
    with CHANGES:
        trainer.fit(more_pixels(), until=until)
    return trainer


def rows_of(run_dir: Path, name: str = "metrics.jsonl") -> list[dict]:
    return [json.loads(line) for line in (run_dir / name).read_text().splitlines()]


def changes(run_dir: Path) -> list[dict]:
    return [row for row in rows_of(run_dir) if "data_change" in row]


# What is trained


def test_the_order_is_a_function_of_seed_count_and_number_of_images(tmp_path, monkeypatch):
    shown = []
    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda run, real: (shown.append(real.images.clone()), step(run, real))[1])
    grown(tmp_path / "run", until=96)
    before, after = Order(21, seed=3), Order(26, seed=3)
    images = more_pixels().float() / 255
    for number, batch in enumerate(shown):
        order = before if number < 5 else after
        expected = images[[order[position] for position in range(8 * number, 8 * number + 8)]]
        side = batch.shape[-1]
        torch.testing.assert_close(batch, torch.nn.functional.avg_pool2d(expected, 16 // side))
    uses = np.bincount([after[position] for position in range(40, 96)], minlength=26)
    assert uses.min() >= 1, "every image, of the added ones too, is shown soon"
    assert uses.max() - uses.min() <= 2


def test_a_run_with_added_images_resumes_to_the_bit(tmp_path):
    grown(tmp_path / "whole")
    grown(tmp_path / "run", until=48)
    for until in (64, 72, None):  # the data has not changed since, so nothing is said
        make(small_recipe(), tmp_path / "run", data_may_change=True).fit(more_pixels(), until=until)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    make(small_recipe(), tmp_path / "other").fit(pixels())
    assert (
        contents(tmp_path / "other")["checkpoints/000000096/tensors.safetensors"]
        != contents(tmp_path / "whole")["checkpoints/000000096/tensors.safetensors"]
    )


def test_a_finished_run_goes_on_with_more_images_and_stages(tmp_path):
    recipe, run = small_recipe(), tmp_path / "run"
    make(recipe, run).fit(pixels())
    longer = replace(recipe, stages=(*recipe.stages, Stage(2, 0, 40)))
    trainer = make(longer, run, data_may_change=True)
    with CHANGES:
        trainer.fit(more_pixels())
    ended = recipe.schedule.step_from(recipe.schedule.total_images)
    assert [(record.images_seen, record.n_images) for record in trainer.data_history] == [(0, 21), (ended, 26)]


def test_a_run_that_dies_before_its_next_checkpoint_reports_the_change_once(tmp_path):
    grown(tmp_path / "whole")
    make(small_recipe(), tmp_path / "run").fit(pixels(), until=40)
    text = """
import os, sys, warnings
from pathlib import Path
from conftest import small_recipe
from running import make
from test_data_history import more_pixels
from progan import Callback

class Dies(Callback):
    def on_step(self, run, metrics):
        os._exit(9)

warnings.simplefilter("ignore")
make(small_recipe(), Path(sys.argv[1]), data_may_change=True, callbacks=[Dies()]).fit(more_pixels())
"""
    died = program(text, str(tmp_path / "run"), check=False, cwd=Path(__file__).parent)
    assert died.returncode == 9, died.stderr
    assert len(changes(tmp_path / "run")) == 1
    assert checkpoints(tmp_path / "run")[-1].name == "000000040"
    with CHANGES:
        make(small_recipe(), tmp_path / "run", data_may_change=True).fit(more_pixels())
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_a_run_that_never_changes_has_the_files_that_it_had(tmp_path):
    make(small_recipe(), tmp_path / "one").fit(pixels())
    make(small_recipe(), tmp_path / "other", data_may_change=True).fit(pixels())
    assert contents(tmp_path / "one") == contents(tmp_path / "other")
    assert "data_history" not in json.loads((tmp_path / "one/config.json").read_text())


# What is recorded


def test_the_run_records_how_many_images_it_was_trained_on_and_from_when(tmp_path):
    trainer = grown(tmp_path / "run", until=64)
    first, second = trainer.data_history
    assert (first.images_seen, first.n_images, second.images_seen, second.n_images) == (0, 21, 40, 26)
    manifests = {int(folder.name): read_manifest(folder) for folder in checkpoints(tmp_path / "run")}
    assert "data_history" not in manifests[40]
    for record in (manifests[64], json.loads((tmp_path / "run/config.json").read_text())):
        assert history_from_json(record["data_history"]) == trainer.data_history
        assert DataRecord.of(40, record["data"]) == second
    (row,) = changes(tmp_path / "run")
    assert row == {"images_seen": 40, "data_change": {"before": first.to_json(), "after": second.to_json()}}
    (warned,) = rows_of(tmp_path / "run", "warnings.jsonl")
    assert warned["text"].startswith("from 40 real images on, the run trains on 26 images instead of 21 images")
    assert [row.images_seen for row in read_rows(tmp_path / "run/metrics.jsonl").losses] == list(range(8, 65, 8))
    report = write_report(tmp_path / "run").read_text()
    assert re.search(r"from 0 images shown.{0,40}21 images.*from 40 images shown.{0,40}26 images", report)
    again = Trainer.from_run(tmp_path / "run", device="cpu", progress=False)
    assert again.data_history == trainer.data_history
    with CHANGES:
        make(small_recipe(), tmp_path / "run", data_may_change=True).fit(pixels(), until=80)
    back = make(small_recipe(), tmp_path / "run")
    assert [record.n_images for record in back.data_history] == [21, 26, 21]
    assert len(changes(tmp_path / "run")) == 2


def test_a_trainer_without_a_directory_knows_its_data_too(images):
    trainer = make(small_recipe(), data_may_change=True)
    assert trainer.data_history == ()
    trainer.fit(images, until=8)
    assert [(record.images_seen, record.n_images) for record in trainer.data_history] == [(0, 21)]
    with CHANGES:
        trainer.fit(more_pixels(), until=16)
    trainer.check(images)  # says nothing, and is not the data of a step
    trainer.fit(more_pixels(), until=24)
    assert [(record.images_seen, record.n_images) for record in trainer.data_history] == [(0, 21), (8, 26)]


def test_data_that_nothing_was_trained_on_leaves_no_trace(images, tmp_path):
    run = tmp_path / "run"
    make(small_recipe(), run).fit(images, until=0)
    make(small_recipe(), run, data_may_change=True).fit(more_pixels(), until=8)
    assert [record.n_images for record in make(small_recipe(), run).data_history] == [26]
    assert changes(run) == []


def test_the_history_goes_back_with_the_run(tmp_path):
    brittle(tmp_path / "run", TWICE).fit(pixels(), until=64)
    trainer = brittle(tmp_path / "run", TWICE, data_may_change=True)
    with pytest.warns(UserWarning, match="trains on 26 images|went back from 72 to 64|went back from 80 to 48"):
        trainer.fit(more_pixels())
    assert [setback.back_to for setback in trainer.setbacks] == [64, 48]
    assert [(record.images_seen, record.n_images) for record in trainer.data_history] == [(0, 21), (48, 26)]
    assert [row["images_seen"] for row in changes(tmp_path / "run")] == [48]
    manifest = read_manifest(checkpoints(tmp_path / "run")[-1])
    assert history_from_json(manifest["data_history"]) == trainer.data_history


def test_another_directory_takes_the_history_along(tmp_path):
    grown(tmp_path / "run", until=64)
    folder = tmp_path / "run/checkpoints"
    forked = Trainer.from_run(folder / "000000064", run_dir=tmp_path / "fork", device="cpu", progress=False)
    forked.fit(more_pixels())
    assert [record.n_images for record in forked.data_history] == [21, 26]
    options = {"device": "cpu", "progress": False, "data_may_change": True}
    earlier = Trainer.from_run(folder / "000000040", run_dir=tmp_path / "earlier", **options)
    with CHANGES:
        earlier.fit(more_pixels(3), until=48)
    assert [(record.images_seen, record.n_images) for record in earlier.data_history] == [(0, 21), (40, 24)]


# What is said


def test_other_data_is_refused_unless_it_may_change(images, tmp_path):
    make(small_recipe(), tmp_path / "run").fit(images, until=8)
    before = contents(tmp_path / "run")
    for other in (more_pixels(), images[:15], 255 - images):
        trainer = make(small_recipe(), tmp_path / "run")
        for method in (trainer.fit, trainer.check):
            with pytest.raises(
                ValueError,
                match=r"the data is not that of the run \(there -> here\): .*content .*; pass the same data, or "
                r"another run_dir, or data_may_change=True to train on with this data",
            ):
                method(other)
    assert contents(tmp_path / "run") == before
    with pytest.raises(TypeError, match="data_may_change must be True or False, got 'yes'"):
        make(small_recipe(), data_may_change="yes")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda images: images[:15], r"trains on 15 images instead of 21 images \(there -> here\): shape \[21, 3"),
        (lambda images: 255 - images, r"trains on 21 images instead of 21 images \(there -> here\): content '\w+' -> "),
    ],
)
def test_a_smaller_or_another_set_is_said_and_trained_on(other, words, images, tmp_path):
    make(small_recipe(), tmp_path / "run").fit(images, until=8)
    trainer = make(small_recipe(), tmp_path / "run", data_may_change=True)
    with pytest.warns(UserWarning, match=words):
        trainer.fit(other(images), until=16)
    assert trainer.images_seen == 16
    assert len(trainer.data_history) == 2


def test_added_pictures_are_named(tmp_path):
    folder = tmp_path / "icons"
    folder.mkdir()
    for index, image in enumerate(more_pixels()):
        if index < 21:
            write_png(folder / f"{index:02d}.png", image)
    make(small_recipe(), tmp_path / "run").fit(ImageFolder(folder, 16), until=8)
    write_png(folder / "new.png", more_pixels()[-1])
    (folder / "03.png").unlink()
    with pytest.warns(UserWarning, match=r"\(there -> here\): 1 gone: 03.png; 1 new: new.png$"):
        make(small_recipe(), tmp_path / "run", data_may_change=True).fit(ImageFolder(folder, 16), until=16)


def test_a_share_that_is_held_out_is_chosen_anew_and_said(images, tmp_path):
    make(small_recipe(), tmp_path / "run", held_out=0.2).fit(images, until=8)
    text = r"the images that are held out are chosen anew, so some of them have been trained on"
    with pytest.warns(UserWarning, match=text):
        make(small_recipe(), tmp_path / "run", held_out=0.2, data_may_change=True).fit(more_pixels(), until=16)


def test_classes_that_changed_in_number_are_an_error_and_their_counts_are_said(tmp_path):
    def labelled(n: int, classes: tuple[str, ...] = ("a", "b")):
        class Data(torch.utils.data.Dataset):
            def __len__(self):
                return n

            def __getitem__(self, index):
                return more_pixels()[index], index % len(classes)

        data = Data()
        data.classes = classes
        return data

    recipe = small_recipe().with_classes(2)
    make(recipe, tmp_path / "run").fit(labelled(20), until=8)
    with pytest.raises(ValueError, match="the networks have 2 classes, and the data has 3"):
        make(recipe, tmp_path / "run", data_may_change=True).fit(labelled(21, ("a", "b", "c")))
    trainer = make(recipe, tmp_path / "run", data_may_change=True)
    with pytest.warns(UserWarning, match=r"labels.counts \[10, 10\] -> \[12, 12\]"):
        trainer.fit(labelled(24), until=16)
    assert trainer.grown().classes.counts == (12, 12)


# Records


def test_the_history_of_a_change():
    sets = [{"shape": [n, 3, 8, 8], "content": f"of {n}"} for n in (20, 25, 30)]
    history = with_change((), sets[0], sets[1], 80)
    assert history == (DataRecord.of(0, sets[0]), DataRecord.of(80, sets[1]))
    assert [(record.images_seen, record.n_images) for record in history] == [(0, 20), (80, 25)]
    assert with_change(history, sets[1], sets[2], 96) == (*history, DataRecord.of(96, sets[2]))
    assert with_change(history, sets[1], sets[2], 80) == (history[0], DataRecord.of(80, sets[2]))
    renamed = sets[1] | {"labels": {"names": ["a"], "counts": [25]}}
    assert [record.n_images for record in with_change(history, sets[1], renamed, 96)] == [20, 25, 25]
    assert with_change(history, sets[1], sets[0], 80) == (), "as if nothing had happened"
    assert with_change(history, sets[1], sets[2], 0) == ()
    assert history_from_json(json.loads(json.dumps([record.to_json() for record in history]))) == history
    for odd in (
        {},
        {"shape": []},
        {"shape": [True]},
        {"shape": "x", "content": 3},
        {"shape": [-1], "content": "x" * 999},
    ):
        assert DataRecord.of(8, odd).counted() == "an unknown number of images"


@pytest.mark.parametrize(
    ("history", "words"),
    [
        ({}, "data_history must be a list of at most 1000 records"),
        ([{"images_seen": 0}] * 1001, "data_history must be a list of at most 1000 records"),
        ([{"images_seen": 0}], "a record of data must have images_seen, n_images and content"),
        ([{"images_seen": -1, "n_images": 2, "content": None}], "ints of at least 0, got -1"),
        ([{"images_seen": 1, "n_images": True, "content": None}], "ints of at least 0, got True"),
        ([{"images_seen": 1, "n_images": 2, "content": "x" * 32}], "must be 32 hexadecimal digits, got 'xxx"),
        ([{"images_seen": 1, "n_images": 2, "content": None}], "must be 32 hexadecimal digits, got None"),
        ([{"images_seen": 1, "n_images": 2, "content": "0" * 32}] * 2, "must have rising counts"),
    ],
)
def test_a_crafted_history_is_refused(history, words, images, tmp_path):
    with pytest.raises(ValueError, match=re.escape(words)):
        history_from_json(history)
    make(small_recipe(), tmp_path / "run").fit(images, until=8)
    shutil.rmtree(tmp_path / "run/checkpoints")
    config = json.loads((tmp_path / "run/config.json").read_text())
    (tmp_path / "run/config.json").write_text(json.dumps(config | {"data_history": history}))
    with pytest.raises(CheckpointError, match=r"config.json does not describe a run: "):
        Trainer.from_run(tmp_path / "run", device="cpu", progress=False)
    assert "Data over time" not in write_report(tmp_path / "run").read_text()


def test_held_out_images_that_differ_leave_the_history_as_it_is(images, tmp_path):
    held = more_pixels()[-5:]
    make(small_recipe(), tmp_path / "run", held_out=held).fit(images, until=8)
    trainer = make(small_recipe(), tmp_path / "run", held_out=255 - held, data_may_change=True)
    with pytest.raises(ValueError, match="the held-out images are not those of the run"):
        trainer.fit(more_pixels(3))
    assert [record.n_images for record in trainer.data_history] == [21]
