"""A run from the command line: what is decided, trained, resumed, shown and made of it."""

from __future__ import annotations

import errno
import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from draw_icons import draw_icons
from npm_package import write_package
from PIL import Image

from progan import CheckpointError, GrownGenerator, ImageFolder, Trainer, load_generator, presets
from progan.cli import finish, settings, training
from progan.cli.folder import shape_of
from progan.cli.output import printed_once, show
from progan.cli.program import build_parser, main
from progan.data.curation.survey import Facts
from progan.export import save_generator
from progan.render import read_png, write_png
from progan.runs.record import RunRecord
from progan.runtime import connections, device

LENGTH = ["--images", "352", "--device", "cpu", "--recover", "0"]


def folder_of_pictures(path: Path, n: int = 60, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Path:
    path.mkdir(parents=True)
    rng = np.random.default_rng(0)
    shape = (n, size[1], size[0], len(mode)) if len(mode) > 1 else (n, size[1], size[0])
    for index, pixels in enumerate(rng.integers(0, 200, shape, dtype=np.uint8)):
        Image.fromarray(pixels, mode).save(path / f"{index}.png")
    return path


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Networks that train in a moment, few checkpoints, and few samples to judge."""
    monkeypatch.setattr(presets, "_FEW_CHANNELS", (8, 6, 4))
    monkeypatch.setattr(training, "_GRIDS", 4)
    monkeypatch.setattr(finish, "_JUDGED", 40)
    monkeypatch.setattr(device, "_cpu_flags", set)  # of a machine that computes in fp32


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a finished run in it, and what was printed."""
    folder = tmp_path_factory.mktemp("trained")
    folder_of_pictures(folder / "icons")
    return folder


@pytest.fixture
def run(trained, monkeypatch, capsys):
    """The directory of the run, trained by the first test that needs it."""
    monkeypatch.chdir(trained)
    if not Path("runs/icons/config.json").exists():
        assert main(["train", "icons", *LENGTH]) == 0
        Path("printed.txt").write_text(capsys.readouterr().out)
    return Path("runs/icons")


def test_train_says_what_it_found_decided_and_made(run):
    printed = Path("printed.txt").read_text()
    for text in (
        "found    60 pictures in icons (PNG, 8x8)\n",
        "decided  few_images at 8x8 in colour (flat), on cpu, in fp32\n",
        "         352 real images will be shown, each 6 times\n",
        "run      runs/icons\n",
        "stage  resolution  batch  images/s  time left",
        "sheet    runs/icons/films/samples.png\n",
        "report   runs/icons/report.html\n",
        "progan generate runs/icons --out icons",
    ):
        assert text in printed
    assert read_png(run / "films/samples.png").shape[0] == 3
    assert (run / "films/training.png").exists()
    notes = json.loads((run / "config.json").read_text())["notes"]["command"]
    assert notes["options"]["images"] == 352
    assert notes["options"]["data"] == str(Path("icons").absolute())
    assert notes["config"] is None


def test_the_recipe_follows_the_colours_of_the_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(presets, "_FEW_CHANNELS", (8, 6, 4, 4))
    monkeypatch.chdir(tmp_path)
    folder_of_pictures(Path("photographs"), 45, (32, 32))
    Path("drawings").mkdir()
    for index, icon in enumerate(draw_icons(45, size=32)):
        write_png(Path(f"drawings/{index}.png"), icon)

    def palette(*arguments):
        assert main(["train", *arguments, "--images", "600", "--device", "cpu", "--recover", "0"]) == 0
        printed = capsys.readouterr()
        assert ("is for flat ones" in printed.err) is ("--colours" in arguments and "flat" in arguments)
        return printed.out, RunRecord.from_config(Path("runs") / arguments[0]).architecture.palette

    assert main(["train", "photographs", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["colours"] == "shaded"
    assert main(["train", "drawings", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["colours"] == "flat"
    printed, n = palette("photographs")
    assert "decided  few_images at 32x32 in colour (shaded), on cpu" in printed
    assert n == 0
    printed, n = palette("photographs", "--colours", "flat", "--overwrite")
    assert "in colour (flat), on cpu" in printed
    assert n == 12
    assert main(["train", "photographs", "--images", "600", "--device", "cpu", "--recover", "0"]) == 0  # the same run
    assert "The run in runs/photographs is finished" in capsys.readouterr().out


def test_a_finished_run_is_not_trained_again(run, capsys):
    assert main(["train", "icons", *LENGTH]) == 0
    assert capsys.readouterr().out == "The run in runs/icons is finished; --overwrite replaces it.\n"
    assert main(["train", "icons", *LENGTH, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images_seen"], found["total_images"], found["seconds"]) == (352, 352, 0)
    assert main(["resume", "runs/icons"]) == 0
    assert "is finished: progan generate runs/icons" in capsys.readouterr().out
    assert main(["train", "icons", "--images", "900", "--device", "cpu"]) == 2
    assert "runs/icons holds another run" in capsys.readouterr().err


def test_status_report_and_inspect(run, capsys):
    assert main(["status", "runs/icons"]) == 0
    assert "runs/icons: 8x8, finished" in capsys.readouterr().out
    assert main(["status", "runs/icons", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["images_seen"], found["total_images"]) == ("finished", 352, 352)
    assert main(["report", "runs/icons"]) == 0
    assert "<html" in (run / "report.html").read_text()
    capsys.readouterr()
    for path, kind in ((run, "run"), (sorted((run / "checkpoints").iterdir())[-1], "checkpoint")):
        assert main(["inspect", str(path), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["kind"], found["size"], found["images_seen"]) == (kind, "8x8", 352)
        assert main(["inspect", str(path)]) == 0
        assert f"{path}: {kind}\n" in capsys.readouterr().out
    tensors = next((run / "checkpoints").rglob("*.safetensors"))
    assert main(["inspect", str(tensors)]) == 0
    assert "file of tensors" in capsys.readouterr().out


def test_generate_draws_the_pictures_of_the_seed(run, capsys):
    assert main(["generate", "runs/icons", "--n", "5", "--seed", "3", "--out", "five"]) == 0
    assert "5 pictures of 8x8 and sheet.png are in five." in capsys.readouterr().out
    assert main(["generate", "runs/icons", "--only", "4,1-2", "--seed", "3", "--out", "three"]) == 0
    assert sorted(path.name for path in Path("three").iterdir()) == ["0001.png", "0002.png", "0004.png", "sheet.png"]
    expected = (load_generator(run).sample(5, seed=3) * 255).round()
    for index in (1, 2, 4):
        assert Path(f"three/{index:04d}.png").read_bytes() == Path(f"five/{index:04d}.png").read_bytes()
        assert (read_png(Path(f"five/{index:04d}.png")).float() - expected[index]).abs().max() <= 1
    assert main(["generate", "runs/icons", "--between", "3", "17", "--truncation", "0.5", "--out", "way"]) == 0
    assert len(list(Path("way").iterdir())) == 10


def test_pictures_are_drawn_larger(run, monkeypatch, capsys):
    monkeypatch.setattr("progan.cli.generate._SHEET_PIXELS", 2 * 48 * 48)
    assert main(["generate", "runs/icons", "--n", "3", "--enlarge", "6", "--out", "large"]) == 0
    assert "3 pictures of 48x48 and sheet.png, of the first 2, are in large." in capsys.readouterr().out
    expected = (load_generator(run).enlarged(6).sample(3) * 255).round()
    for index in range(3):
        assert (read_png(Path(f"large/{index:04d}.png")).float() - expected[index]).abs().max() <= 1
    film = ["--enlarge", "16", "--truncation", "0.5", "--seconds", "0.1", "--stops", "2"]
    assert main(["walk", "runs/icons", "large.png", *film]) == 0
    assert "frames of 256x256" in capsys.readouterr().out
    save_generator(GrownGenerator(presets.karras2018(8, channels=(4, 4)).build()[0], 1), "plain.safetensors")
    assert main(["generate", "plain.safetensors", "--enlarge", "2", "--out", "new"]) == 2
    assert "so its images cannot be drawn larger; resize them instead" in capsys.readouterr().err
    assert not Path("new").exists()


@pytest.mark.parametrize("command", [["generate", "--out", "new"], ["evaluate", "--n", "8"], ["walk", "new.png"]])
@pytest.mark.parametrize("device", ["tpu", "meta"])
def test_a_device_that_is_not_here(run, command, device, capsys):
    name, *others = command
    assert main([name, "runs/icons", *others, "--device", device]) == 2
    assert f"device '{device}' cannot be used here" in capsys.readouterr().err
    assert not Path("new").exists()


def test_train_prints_json_alone(run, capsys):
    assert main(["train", "icons", *LENGTH, "--run-dir", "runs/json", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["run_dir"] == "runs/json"
    assert "sheet    runs/json/films/samples.png" in printed.err


def test_a_sheet_has_the_first_of_many_pictures(run, monkeypatch, capsys):
    monkeypatch.setattr("progan.cli.generate._AT_ONCE", 3)
    monkeypatch.setattr("progan.cli.generate._ON_SHEET", 4)
    assert main(["generate", "runs/icons", "--n", "8", "--out", "eight"]) == 0
    assert "8 pictures of 8x8 and sheet.png, of the first 4, are in eight." in capsys.readouterr().out
    assert len(list(Path("eight").iterdir())) == 9
    sheet = read_png(Path("eight/sheet.png"))
    assert sheet.shape == (3, 2 * 96 + 2, 2 * 96 + 2)
    for index, (top, left) in enumerate([(0, 0), (0, 98), (98, 0), (98, 98)]):
        assert torch.equal(
            sheet[:, top : top + 96 : 12, left : left + 96 : 12], read_png(Path(f"eight/{index:04d}.png"))
        )


def test_pictures_appear_once_all_are_drawn(run, monkeypatch, capsys):
    def full(path, image):
        if path.name == "0002.png":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_png(path, image)

    before = sorted(Path().iterdir())
    with monkeypatch.context() as patched:
        patched.setattr("progan.write_png", full)
        assert main(["generate", "runs/icons", "--n", "5", "--out", "full"]) == 1
    assert "No space left on device; free some space, then run the command again" in capsys.readouterr().err
    assert sorted(Path().iterdir()) == before
    Path("there").mkdir()
    assert main(["generate", "runs/icons", "--n", "2", "--out", "there"]) == 0
    assert len(list(Path("there").iterdir())) == 3


def test_walk_writes_a_film(run, capsys):
    assert main(["walk", "runs/icons", "walk.png", "--seconds", "0.5", "--stops", "3"]) == 0
    assert Path("walk.png").read_bytes().startswith(b"\x89PNG")
    assert main(["walk", "runs/icons", "walk.txt"]) == 2
    assert "walk.txt" in capsys.readouterr().err


def test_export_writes_a_file_with_its_card(run, capsys):
    assert main(["export", "runs/icons", "icons.safetensors", "--licence", "CC0-1.0"]) == 0
    assert "icons.md is its model card, with icons.png; read it before you publish." in capsys.readouterr().out
    assert "CC0-1.0" in Path("icons.md").read_text()
    assert load_generator("icons.safetensors").sample(3).equal(load_generator(run).sample(3))
    assert main(["inspect", "icons.safetensors"]) == 0
    printed = capsys.readouterr().out
    assert "icons.safetensors: generator\n" in printed
    assert "licence         CC0-1.0\n" in printed
    assert main(["export", "runs/icons", "icons.safetensors"]) == 2
    assert "icons.safetensors exists; pass --overwrite or another OUT" in capsys.readouterr().err
    assert main(["export", "icons.safetensors", "small.safetensors", "--precision", "fp16", "--no-card"]) == 0
    assert not Path("small.md").exists()
    assert Path("small.safetensors").stat().st_size < Path("icons.safetensors").stat().st_size
    assert main(["generate", "small.safetensors", "--n", "2", "--out", "small"]) == 0
    assert main(["export", "runs/icons", "large.safetensors", "--enlarge", "4", "--no-card"]) == 0
    capsys.readouterr()
    assert main(["generate", "large.safetensors", "--n", "2", "--enlarge", "2", "--out", "double"]) == 0
    assert "2 pictures of 64x64" in capsys.readouterr().out
    assert main(["inspect", "large.safetensors"]) == 0
    assert "size            32x32\n" in capsys.readouterr().out


def test_export_writes_an_onnx_model(run, capsys):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    assert main(["export", "runs/icons", "icons.onnx"]) == 0
    assert "opset 18, inputs z (batch, 128).\n" in capsys.readouterr().out
    onnx.checker.check_model(onnx.load("icons.onnx"))
    assert main(["export", "runs/icons", "large.onnx", "--enlarge", "2"]) == 0
    (images,) = onnx.load("large.onnx").graph.output
    assert [side.dim_value for side in images.type.tensor_type.shape.dim[2:]] == [16, 16]


def test_export_writes_a_page(run, tmp_path, capsys):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    runtime = ["--runtime", str(write_package(tmp_path / "package"))]
    assert main(["export", "runs/icons", "page.v1/", *runtime]) == 0
    printed = capsys.readouterr().out
    assert "page.v1: a page that draws pictures of 8x8, 0." in printed
    assert "python -m http.server --directory page.v1\n" in printed
    assert "<title>icons</title>" in Path("page.v1/index.html").read_text()
    assert main(["export", "runs/icons", "page.v1/", *runtime]) == 2
    assert "page.v1 exists; pass --overwrite or another path" in capsys.readouterr().err
    assert main(["export", "runs/icons", "icons.html", "--single-file", "--title", "Mine", *runtime]) == 0
    assert "Open it in a browser." in capsys.readouterr().out
    assert "<title>Mine</title>" in Path("icons.html").read_text()
    assert main(["export", "runs/icons", "other", "--runtime", "missing.tgz"]) == 2
    assert "missing.tgz: No such file" in capsys.readouterr().err
    assert not Path("other").exists()


def test_a_start_leaves_out_the_levels_that_its_run_had_reached(run, tmp_path, monkeypatch, capsys):
    source = run.absolute()
    monkeypatch.chdir(tmp_path)
    folder_of_pictures(Path("more"), 50, (16, 16))
    for size, first in (("8", (1, 0.0)), ("16", (2, 0.3))):
        start = ["--start", str(source), "--resolution", size, "--run-dir", size]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the larger run's highest level is new
            assert main(["train", "more", *LENGTH, *start]) == 0
        stages = json.loads(Path(size, "config.json").read_text())["recipe"]["stages"]
        assert stages[0]["level"] == first[0]
        assert (stages[0]["fade_images"] > 0) == (first[1] > 0)
        capsys.readouterr()
        assert main(["train", "more", *LENGTH, *start]) == 0
        assert "is finished" in capsys.readouterr().out


def test_pictures_may_be_added_if_that_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder_of_pictures(Path("icons"))
    assert main(["train", "icons", *LENGTH]) == 0
    folders = sorted(Path("runs/icons/checkpoints").iterdir())
    for folder in folders[1:]:  # as if it had been killed
        shutil.rmtree(folder)
    Image.new("RGB", (8, 8), (9, 99, 199)).save("icons/new.png")
    capsys.readouterr()
    assert main(["resume", "runs/icons", "--device", "cpu"]) == 2
    assert "the data is not that of the run" in capsys.readouterr().err
    assert main(["resume", "runs/icons", "--device", "cpu", "--data-may-change"]) == 0
    assert "61" in capsys.readouterr().err


def test_options_of_classes_need_classes(run, capsys):
    assert main(["generate", "runs/icons", "--label", "3", "--out", "classes"]) == 2
    assert "the generator has no classes, got label" in capsys.readouterr().err
    assert not Path("classes").exists()


def test_evaluate_finds_the_pictures_of_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder_of_pictures(Path("icons"), size=(16, 16))
    length = ["--images", "352", "--device", "cpu", "--recover", "0"]
    assert main(["train", "icons", *length]) == 0
    assert "40 samples against 60 real images, at 16x16:" in capsys.readouterr().out
    assert main(["evaluate", "runs/icons", "--n", "20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_samples"] == 20
    Path("icons").rename("moved")
    assert main(["evaluate", "runs/icons"]) == 2
    assert "are no longer at" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "used", "expected"),
    [({"avx512_bf16"}, "AVX512", "bf16"), ({"avx512f"}, "AVX512", "fp32"), ({"avx512_bf16"}, "AVX2", "fp32")],
)
def test_the_precision_is_the_fastest_and_kept_on_resume(flags, used, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder_of_pictures(Path("icons"))
    monkeypatch.setattr(device, "_cpu_flags", lambda: flags)
    monkeypatch.setattr(device.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: used)
    assert main(["plan", "icons", *LENGTH, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["precision"] == expected
    if expected == "bf16":
        assert main(["train", "icons", *LENGTH]) == 0
        monkeypatch.setattr(device, "_cpu_flags", set)
        assert main(["train", "icons", *LENGTH]) == 0
        assert "is finished" in capsys.readouterr().out


def test_all_commands_read_the_pictures_that_a_list_keeps(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder_of_pictures(Path("icons"), size=(16, 16))
    lines = [f"{'drop' if index < 10 else 'keep'}\t{index}.png\n" for index in range(60)]
    Path("list.txt").write_text("".join(lines))
    assert main(["train", "icons", *LENGTH, "--only", "list.txt"]) == 0
    assert "40 samples against 50 real images, at 16x16:" in capsys.readouterr().out
    assert main(["evaluate", "runs/icons", "--n", "20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_real"] == 50
    assert main(["pack", "icons", "icons.pack", "--resolution", "16", "--only", "list.txt"]) == 0
    assert "50 pictures of 16x16 with 3 channels are in icons.pack." in capsys.readouterr().out


def test_pictures_that_cannot_be_read_are_counted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("broken").mkdir()
    for index in range(5):
        Path(f"broken/{index}.png").write_text("no picture")
    for arguments in (["train", "broken"], ["pack", "broken", "new.pack", "--resolution", "16"]):
        assert main(arguments) == 2
        assert "broken has 5 pictures, of which none can be read (0.png: " in capsys.readouterr().err


def test_dry_run_and_plan_write_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder_of_pictures(Path("icons"))
    for arguments in (["train", "icons", *LENGTH, "--dry-run"], ["plan", "icons", *LENGTH]):
        assert main(arguments) == 0
        assert "in all: " in capsys.readouterr().out
    assert main(["plan", "icons", *LENGTH, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["total_images"] == 352
    assert found["seconds"] == pytest.approx(sum(found["stage_seconds"]))
    assert [path.name for path in Path().iterdir()] == ["icons"]


def test_a_stopped_run_is_resumed_from_where_its_pictures_were(run, tmp_path, monkeypatch, capsys):
    shutil.copytree(run, tmp_path / "parts")
    whole = load_generator(run).sample(3)
    monkeypatch.chdir(tmp_path)
    newest = sorted(Path("parts/checkpoints").iterdir())
    for folder in newest[1:]:  # as if it had been killed after an earlier one
        shutil.rmtree(folder)
    assert main(["resume", "parts", "--device", "cpu"]) == 0
    assert f"Resuming parts after {int(newest[0].name):,} of 352 images." in capsys.readouterr().out
    assert load_generator("parts").sample(3).equal(whole)


def test_classes_go_from_sub_folders_to_samples(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("cats", "dogs"):
        folder_of_pictures(Path("pets", name), 30)
    with pytest.raises(CheckpointError):
        load_generator("runs/pets")
    assert main(["train", "pets", *LENGTH, "--labels", "--balanced"]) == 0
    assert "on cpu, in fp32, 2 classes\n" in capsys.readouterr().out
    assert main(["generate", "runs/pets", "--label", "dogs", "--n", "3", "--out", "dogs"]) == 0
    assert main(["generate", "runs/pets", "--label", "1", "--n", "3", "--out", "ones"]) == 0
    assert Path("dogs/0002.png").read_bytes() == Path("ones/0002.png").read_bytes()
    assert main(["generate", "runs/pets", "--label", "birds", "--out", "birds"]) == 2
    assert "there is no class 'birds', there are 2 classes ('cats', 'dogs')" in capsys.readouterr().err


def test_a_pack_is_trained_on_as_its_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder_of_pictures(Path("grey"), mode="L", size=(12, 8))
    assert main(["pack", "grey", "grey.pack", "--resolution", "8"]) == 0
    assert "60 pictures of 12x8 with 1 channels are in grey.pack." in capsys.readouterr().out
    assert main(["inspect", "grey.pack"]) == 0
    assert "grey.pack: pack\n" in capsys.readouterr().out
    for data in ("grey", "grey.pack"):
        assert main(["plan", data, *LENGTH, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["size"], found["channels"], found["pictures"]) == ([12, 8], 1, 60)
    assert main(["train", "grey.pack", "--labels"]) == 2
    assert "grey.pack was packed without classes; pack the folder again with --labels" in capsys.readouterr().err
    assert main(["train", "grey.pack", "--channels", "3"]) == 2
    assert "--channels is about the files of a folder, and grey.pack is a pack" in capsys.readouterr().err
    assert main(["train", "grey.pack", "--only", "list.txt"]) == 2
    assert (
        "--only is about the files of a folder, and grey.pack is a pack; pass it to progan pack"
        in capsys.readouterr().err
    )


def picture(width: int, height: int, mode: str = "RGB", *, transparent: bool = False) -> Facts:
    return Facts("PNG", mode, width, height, transparent, None, dark=False, constant=False)


@pytest.mark.parametrize(
    ("facts", "short_side", "channels", "base_size"),
    [
        ([picture(256, 256)] * 3, 256, 3, (4, 4)),
        ([picture(100, 102)] * 3, 100, 3, (4, 4)),
        ([picture(300, 200)] * 2 + [picture(600, 400)], 200, 3, (4, 6)),
        ([picture(200, 300)] * 3, 200, 3, (6, 4)),
        ([picture(300, 200), picture(200, 300), picture(200, 200)], 200, 3, (4, 4)),
        ([picture(640, 480)] * 3, 480, 3, (6, 8)),
        ([picture(64, 64, "L")] * 3, 64, 1, (4, 4)),
        ([picture(64, 64, "L"), picture(64, 64)], 64, 3, (4, 4)),
        ([picture(64, 64, "RGBA", transparent=True)] * 2 + [picture(64, 64)], 64, 4, (4, 4)),
        ([picture(64, 64, "RGBA")] * 3, 64, 3, (4, 4)),
    ],
)
def test_what_pictures_have_in_common(facts, short_side, channels, base_size):
    shape = shape_of(facts)
    assert (shape.short_side, shape.channels, shape.base_size) == (short_side, channels, base_size)


@pytest.mark.parametrize(
    ("short_side", "device", "hours", "expected"),
    [
        (256, "cpu", None, 64),
        (256, "cpu", 0.1, 32),
        (256, "cpu", 1.0, 64),
        (1000, "cuda", None, 256),
        (100, "cuda", None, 64),
        (40, "cpu", None, 32),
        (3, "cpu", None, 8),
    ],
)
def test_the_resolution_follows_from_pictures_device_and_time(short_side, device, hours, expected):
    assert settings._resolution(short_side, device, hours) == expected


def test_flips_that_look_unsafe_are_warned_of(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("icons").mkdir()
    rng = np.random.default_rng(0)
    for index in range(60):
        pixels = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        pixels[:, 16:] //= 3  # the right half is the darker one in all
        Image.fromarray(pixels).save(f"icons/{index}.png")
    assert main(["train", "icons", "--resolution", "8", *LENGTH, "--flips", "--dry-run"]) == 0
    warned = capsys.readouterr().err
    assert re.search(r"warning: left-right flips look unsafe: \d+ of 100 .*; leave --flips out\n", warned)


def test_a_film_that_cannot_be_made_is_said(run, monkeypatch):
    def time_lapse(run_dir, film):
        raise OSError("no space left on the disk")

    trainer = Trainer.from_run(run, device="cpu")
    monkeypatch.setattr("progan.reports.time_lapse", time_lapse)
    with pytest.warns(UserWarning, match="no film of the training was made: no space left on the disk"):
        finish._finish(trainer, ImageFolder("icons", 8), run)


# Several processes


@pytest.mark.skipif(sys.platform != "linux", reason="torchrun and gloo as on Linux")
def test_processes_share_larger_batches_and_print_once(tmp_path):
    folder_of_pictures(tmp_path / "icons")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = ["-m", "progan", "train", "icons", "--images", "352", "--device", "cpu", "--precision", "fp32"]

    def printed(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    shown = printed(*torchrun, *command)
    for text in ("2 processes share batches of 8\n", "stage  resolution  batch", "sheet    runs/icons"):
        assert shown.count(text) == 1
    assert {stage.batch_size for stage in RunRecord.from_config(tmp_path / "runs/icons").recipe().stages} == {8}
    assert "The run in runs/icons is finished" in printed(*command), "the same run for one process"


def test_batches_are_those_passed_or_of_the_run_or_what_the_processes_can_share(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder_of_pictures(Path("icons"))
    monkeypatch.setattr(connections, "world_size", lambda: 4)
    parser = build_parser()

    def batches(*arguments: str) -> set[int]:
        options = parser.parse_args(["train", "icons", *LENGTH, *arguments])

        def make(total_images):
            return training.with_run_options(presets.few_images(8, 60, total_images=600), options)

        return {
            stage.batch_size for stage in training.recipe_of_length(make, options, Path("runs/icons"), "cpu").stages
        }

    assert batches() == {16}
    assert batches("--batch-size", "32") == {32}
    monkeypatch.setattr(connections, "world_size", lambda: 1)
    assert batches() == {4}
    assert main(["train", "icons", *LENGTH, "--batch-size", "8"]) == 0
    assert batches() == {8}, "as in the run that is there"
    assert batches("--batch-size", "4") == {4}
    assert batches("--overwrite") == {4}
    capsys.readouterr()
    assert main(["train", "icons", *LENGTH, "--batch-size", "4"]) == 2
    assert "batch_size" in capsys.readouterr().err


def test_only_the_first_process_prints(monkeypatch, capsys):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    for rank, printed in {"1": "", "0": "printed\n"}.items():
        monkeypatch.setenv("RANK", rank)
        with printed_once():
            show("printed")
        assert capsys.readouterr().out == printed
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("MASTER_ADDR")  # of another program
    with printed_once():
        show("printed")
    assert capsys.readouterr().out == "printed\n"
