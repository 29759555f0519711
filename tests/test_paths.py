"""A path from a user may begin with ~, at every public function that takes one."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import torch
from conftest import small_recipe
from foreign_programs import write_ig2
from npm_package import write_package

import progan
import progan.data
from progan import ImageFolder, TensorBoard, Trainer, export, importers, load_generator, to_uint8, write_png
from progan.data import Curation, Pack, Reading, check, curate, pack, read_image, unpack
from progan.reports import time_lapse, walk_film, write_film, write_report
from progan.storage.paths import user_path

QUIET = {"device": "cpu", "progress": False}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home directory with pictures; the current directory is another one, and stays empty."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))  # on Windows
    (tmp_path / "home/icons").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for index in range(3):
        picture = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(index))
        write_png(tmp_path / f"home/icons/{index}.png", to_uint8(picture))
    yield tmp_path / "home"
    assert not list((tmp_path / "here").iterdir())


def trained(run_dir) -> Trainer:
    trainer = Trainer.from_recipe(small_recipe(), run_dir=run_dir, preview_every=8, **QUIET)
    trainer.fit(torch.rand(9, 3, 16, 16), until=8)
    return trainer


def test_runs(home):
    generator, discriminator = small_recipe().build()
    assert Trainer(generator, discriminator, small_recipe().schedule, run_dir="~/run", **QUIET).run_dir == home / "run"
    assert trained(Path("~/run")).run_dir == home / "run"
    assert (home / "run/checkpoints/000000008").is_dir()
    assert Trainer.from_run("~/run", **QUIET).run_dir == home / "run"
    older = "~/run/checkpoints/000000008"
    assert Trainer.from_run(older, run_dir="~/fork", **QUIET).run_dir == home / "fork"
    start = Trainer.from_recipe(small_recipe(), start=older, **QUIET).start
    assert start is not None
    assert start.images_seen == 8
    assert load_generator("~/run").sample(1).shape == (1, 3, 4, 4)
    assert load_generator("~/run/checkpoints/000000008").level == 0
    recipe = Trainer.recipe_for_hours(small_recipe(), 1.0, run_dir="~/run", **QUIET)
    assert recipe == small_recipe(), "the length of the run that is there"


def test_pictures(home):
    pytest.importorskip("PIL.Image")
    images = ImageFolder("~/icons", 16).images
    assert images.shape == (3, 3, 16, 16)
    assert torch.equal(read_image("~/icons/0.png", Reading(16)), images[0])
    assert torch.equal(pack("~/icons", "~/icons.pack", 16, progress=False).images, images)
    assert Pack("~/icons.pack").path == home / "icons.pack"
    assert unpack("~/icons.pack", "~/unpacked", progress=False) == home / "unpacked"
    report = check("~/icons", sheets="~/sheets", printed=False)
    assert report.folder == home / "icons"
    assert all(path.is_relative_to(home / "more") for path in report.save_sheets("~/more"))
    curation = curate("~/icons")
    assert curation.folder == home / "icons"
    curation.save("~/list.txt")
    assert (home / "list.txt").is_file()
    assert Curation.load("~/list.txt", "~/icons") == curation
    write_png("~/icon.png", images[0])
    assert (home / "icon.png").is_file()


def test_importers(home):
    write_ig2(home)
    imported = importers.load("~/generator_trained_model_cpu.pth", discriminator="~/discriminator.pth")
    imported.save("~/imported.safetensors")
    assert (home / "imported.safetensors").is_file()


def test_export(home):
    pytest.importorskip("onnxscript")
    trained("~/run")
    write_package(home / "package")
    file = export.save_generator("~/run", "~/icons.safetensors")
    assert file == home / "icons.safetensors"
    assert export.describe("~/icons.safetensors").level == 0
    assert export.write_card("~/icons.safetensors", "~/card.md") == home / "card.md"
    assert export.save_onnx("~/icons.safetensors", "~/icons.onnx").path == home / "icons.onnx"
    assert export.save_program("~/run", "~/icons.pt2") == home / "icons.pt2"
    page = export.save_page("~/run", "~/page", runtime="~/package")
    assert page.path == home / "page"
    assert all(path.exists() for path in (file, home / "icons.onnx", home / "icons.pt2", home / "page/index.html"))
    with pytest.raises(NotADirectoryError, match=f"^{re.escape(str(home / 'missing'))} is not a directory"):
        export.pull_from_hub("alice/icons", "~/missing/icons.safetensors")


def test_reports_and_films(home):
    trainer = trained("~/run")
    assert write_report("~/run") == home / "run/report.html"
    assert time_lapse("~/run", "~/training.png").path == home / "training.png"
    assert walk_film(trainer.grown(), "~/walk.png", duration_s=0.1, height=16).path == home / "walk.png"
    frames = [torch.zeros(3, 16, 16, dtype=torch.uint8)] * 2
    assert write_film("~/film.png", frames).path == home / "film.png"
    assert TensorBoard("~/board").log_dir == home / "board"


def test_no_public_function_that_takes_a_path_is_left_out():
    """The tests above go over all of these."""
    tested = {
        *("RunOptions.run_dir", "RunOptions.start", "Trainer.from_run.path"),
        *("load_generator.path", "write_png.path"),
        *("ImageFolder.path", "Pack.path", "pack.folder", "pack.path", "read_image.path", "check.folder"),
        *("unpack.path", "unpack.folder"),
        *("check.sheets", "curate.folder", "Report.save_sheets.folder", "Curation.save.path", "Curation.load.path"),
        *("Curation.load.folder", "TensorBoard.log_dir", "write_report.run_dir"),
        *("load.path", "load.discriminator", "Imported.save.path"),
        *("save_generator.path", "write_card.path", "save_onnx.path", "save_program.path", "save_page.path"),
        *("save_page.runtime", "pull_from_hub.path"),
        *("time_lapse.run_dir", "time_lapse.path", "walk_film.path", "write_film.path"),
    }
    found = set()
    for room in (progan, progan.data, export, progan.reports, progan.presets, importers):
        public = room.__all__ if hasattr(room, "__all__") else ("mel_icon", "karras2018")
        for name in public:
            value = getattr(room, name)
            functions = {name: value} if callable(value) else {}
            if inspect.isclass(value):
                functions |= {
                    f"{name}.{member}": getattr(value, member)
                    for member in vars(value)
                    if not member.startswith("_") and callable(getattr(value, member))
                }
            for function, called in functions.items():
                try:
                    parameters = inspect.signature(called).parameters.values()
                except ValueError:  # of some exceptions
                    continue
                found |= {
                    f"{function}.{parameter.name}"
                    for parameter in parameters
                    if "PathLike" in str(parameter.annotation) and parameter.name != "only"  # names in a folder
                }
    assert found == tested


@pytest.mark.parametrize(
    ("path", "error", "text"),
    [
        ("~nobody-of-this-name/run", ValueError, r": ~nobody-of-this-name is not a user with a home directory"),
        ("", ValueError, r" is an empty path; pass '\.' for the current directory"),
        (3, TypeError, r" must be a path, a str or an os.PathLike of str, got 3"),
        (b"run", TypeError, r" must be a path, .* got b'run'"),
    ],
)
def test_what_is_not_a_path_is_refused(path, error, text, home):
    with pytest.raises(error, match=f"^run_dir{text}"):
        Trainer.from_recipe(small_recipe(), run_dir=path, **QUIET)
    with pytest.raises(error, match=f"^start{text}"):
        Trainer.from_recipe(small_recipe(), start=path, **QUIET)
    with pytest.raises(error, match=f"^path{text}"):
        Trainer.from_run(path)


def test_a_directory_whose_name_begins_with_a_tilde_is_reached(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    once = user_path("./~icons")
    assert user_path(once) == once == tmp_path / "~icons"
    assert trained("./~icons").run_dir == tmp_path / "~icons"
    assert Trainer.from_run("./~icons", **QUIET).images_seen == 8


def test_pictures_whose_names_begin_with_a_tilde_are_read(tmp_path, monkeypatch):
    pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    for name in ("~icon.png", "~root"):
        write_png(f"./{name}", to_uint8(torch.rand(3, 8, 8)))
    (tmp_path / "~root").rename(tmp_path / "~root.png")
    assert ImageFolder(".", 8).paths == ["~icon.png", "~root.png"]
    assert curate(".").folder == Path()
