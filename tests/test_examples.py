"""The example's programs: what they print, what they write, what they refuse."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import curate
import dataset_pictures
import draw_icons
import generate
import numpy as np
import pytest
import torch
import train
from conftest import ROOT, SHARED
from PIL import Image

from progan import DivergenceError, GrownGenerator, Growth, ImageFolder, Interrupted, Recipe, Trainer, presets
from progan.cli import finish
from progan.cli.output import show
from progan.metrics import evaluate
from progan.render import read_png
from progan.reports import write_report
from progan.training.callbacks.built_in_measures import built_in_measures

WARNED = {"action": "default"}  # of catch_warnings: warnings are printed, and not raised
SMALL = ["--resolution", "8", "--images", "48", "--device", "cpu"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def narrow(monkeypatch):
    """Networks that train in a moment."""
    monkeypatch.setattr(presets, "_MEL_ICON_CHANNELS", (8, 6, 4, 4, 4, 4, 4))
    monkeypatch.setattr(presets, "_FEW_CHANNELS", (8, 6, 4, 4, 4, 4, 4))


@pytest.fixture
def few_icons(monkeypatch, narrow):
    """Forty icons for 640, drawn once."""
    icons = draw_icons.draw_icons(40, size=8)
    monkeypatch.setattr(train, "draw_icons", lambda size: icons if size == 8 else pytest.fail(f"size {size}"))
    return icons


def folder_of_icons(path: Path, n: int = 9, size: int = 16) -> Path:
    path.mkdir()
    for index in range(n):
        draw_icons.draw_icon(index, size=size).save(path / f"{index}.png")
    return path


def test_train_resumes_finishes_and_starts_anew(few_icons, capsys):
    assert train.main(SMALL) == 0
    first = capsys.readouterr().out
    for text in (
        "stage  resolution",
        "On cpu with 1 threads, in fp32: about ",
        "The samples have 8x8 pixels; judging needs 2 pictures and 16x16 pixels.",
        "sheet    runs/mel_icon/films/samples.png",
        "report   runs/mel_icon/report.html",
    ):
        assert text in first
    assert train.main(SMALL) == 0
    again = capsys.readouterr().out
    assert "is finished; --overwrite replaces it" in again
    assert again.splitlines()[-7:] == first.splitlines()[-7:]  # the film, the measures, and where all is
    assert train.main([*SMALL, "--overwrite", "--seed", "1"]) == 0
    assert json.loads(Path("runs/mel_icon/config.json").read_text())["seed"] == 1


def test_train_with_the_recipe_for_few_images(few_icons, capsys, monkeypatch):
    options = ["--preset", "few_images", "--resolution", "8", "--images", "400", "--device", "cpu"]
    with warnings.catch_warnings(**WARNED):
        assert train.main([*options, "--precision", "bf16"]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("warning: 40 images are too few for new pictures")
    assert "report   runs/mel_icon_few_images/report.html" in printed.out
    recipe = json.loads(Path("runs/mel_icon_few_images/config.json").read_text())["recipe"]
    with warnings.catch_warnings(action="ignore"):
        assert Recipe.from_json(recipe) == presets.few_images(8, 40, total_images=400, precision="bf16")
    monkeypatch.setattr(
        train.Trainer, "recipe_for_hours", lambda recipe, *_, **__: presets.few_images(8, total_images=700)
    )
    options = ["--preset", "few_images", *SMALL[:2], "--device", "cpu", "--hours", "0.01", "--run-dir", "timed"]
    with warnings.catch_warnings(**WARNED):
        assert train.main(options) == 0
    recipe = json.loads(Path("timed/config.json").read_text())["recipe"]
    assert sum(stage["fade_images"] + stage["hold_images"] for stage in recipe["stages"]) == 700
    assert recipe["training"]["augment_strength"] == 0.0  # 17 epochs


def test_quick_is_few_images_at_a_size_and_for_a_number_of_images(monkeypatch, narrow, capsys):
    icons = draw_icons.draw_icons(60, size=8)
    monkeypatch.setattr(train, "draw_icons", lambda size: icons)
    monkeypatch.setattr(train, "default_precision", lambda options, run_dir, device: "fp32")
    options = train.argument_parser().parse_args(["--quick", "--preset", "few_images"])
    assert train.make_recipe(options, 32) == presets.few_images(32, 640, total_images=12_000)
    assert train.main(["--quick", "--resolution", "8", "--images", "256", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "On cpu with 1 threads, in fp32: about " in printed
    recipe = json.loads(Path("runs/mel_icon_quick/config.json").read_text())["recipe"]
    assert Recipe.from_json(recipe) == presets.few_images(8, 60, total_images=256)


def test_the_default_precision_is_that_of_the_run_that_is_there(few_icons, monkeypatch):
    command = ["--preset", "few_images", *SMALL[:2], "--images", "256", "--device", "cpu", "--run-dir", "run"]
    with warnings.catch_warnings(**WARNED):
        for fastest, options in (("bf16", []), ("fp32", []), ("fp32", ["--overwrite"])):
            monkeypatch.setattr("progan.runtime.device.fastest_precision", lambda device, fastest=fastest: fastest)
            assert train.main([*command, *options]) == 0
            recipe = json.loads(Path("run/config.json").read_text())["recipe"]
            assert recipe["training"]["precision"] == ("fp32" if options else "bf16")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--preset", "mel_icon", "--quick"], "--quick trains few_images; leave it out, or --preset mel_icon"),
        (["--preset", "few_images", "--contrast"], "--contrast is the article's variant of mel_icon"),
        (["--quick", "--contrast"], "--contrast is the article's variant of mel_icon"),
    ],
)
def test_options_of_one_preset_are_not_for_the_other(options, text, capsys):
    with pytest.raises(SystemExit):
        train.main(options)
    assert text in capsys.readouterr().err


def test_train_starts_from_a_smaller_run_and_needs_it_once(few_icons, capsys, monkeypatch):
    assert train.main([*SMALL, "--run-dir", "old"]) == 0
    larger = draw_icons.draw_icons(40, size=16)
    monkeypatch.setattr(train, "draw_icons", lambda size: larger)
    start = ["--resolution", "16", *SMALL[2:], "--start", "old", "--run-dir", "new"]
    capsys.readouterr()
    assert train.main(start) == 0
    assert "Starting with the weights of old after 48 real images." in capsys.readouterr().out
    config = json.loads(Path("new/config.json").read_text())
    assert [stage["level"] for stage in config["recipe"]["stages"]] == [2, 2, 2]
    shutil.rmtree("old")
    assert train.main(start) == 0
    assert "is finished; --overwrite replaces it" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        train.main([*start, "--overwrite"])
    assert "cannot start from old: nothing is there; pass a run directory, " in capsys.readouterr().err


def test_train_on_a_folder_goes_to_a_run_of_its_name(narrow, capsys):
    folder_of_icons(Path("my icons"))
    options = [*SMALL, "--batch-size", "4", "--precision", "bf16", "--contrast"]
    assert train.main(["--data", "my icons", *options]) == 0
    config = json.loads(Path("runs/my icons/config.json").read_text())["recipe"]
    assert config["training"]["augment_real"] == [{"name": "Contrast", "settings": {"low": 1.0, "high": 2.0}}]
    assert config["training"]["precision"] == "bf16"
    assert [stage["batch_size"] for stage in config["stages"]] == [4] * 4
    assert train.default_run_dir(train.argument_parser().parse_args(["--data", "my icons"])) == Path("runs/my icons")


def test_a_folder_is_checked_chosen_from_and_trained_on(narrow, capsys):
    folder = folder_of_icons(Path("raw"))
    (folder / "copy.png").write_bytes((folder / "3.png").read_bytes())
    (folder / "broken.png").write_bytes(b"")
    options = ["--data", "raw", *SMALL, "--batch-size", "4"]
    with pytest.raises(SystemExit):
        train.main(options)
    printed = capsys.readouterr()
    assert "files      11, of which 1 cannot be read" in printed.out
    assert "alike      1 groups of exact duplicates (2 pictures);" in printed.out
    assert "curate.py --data raw --out report" in printed.out
    assert "broken.png: an empty file" in printed.err
    choose = ["--data", "raw", "--out", "report"]
    assert curate.main(choose) == 0
    assert re.search(
        r"Edit report/list.txt, then:\npython .*/train.py --data raw --only report/list.txt\n", capsys.readouterr().out
    )
    listed = Path("report/list.txt").read_text()
    assert "drop\tbroken.png\tcannot be read: an empty file" in listed
    Path("report/list.txt").write_text(listed.replace("keep\t8.png", "drop\t8.png"))
    with pytest.raises(SystemExit):
        curate.main(choose)
    assert "list.txt is there already, perhaps edited; pass --overwrite" in capsys.readouterr().err
    assert train.main([*options, "--only", "report/list.txt"]) == 0
    assert "over 8 images" in capsys.readouterr().out
    assert train.main([*options, "--only", "report/list.txt"]) == 0
    assert "is finished" in capsys.readouterr().out
    (folder / "later.png").write_bytes((folder / "3.png").read_bytes())
    with warnings.catch_warnings(**WARNED):
        assert train.main([*options, "--only", "report/list.txt"]) == 0
    said = capsys.readouterr().err
    assert re.match(r"warning: .*list.txt does not name 1 of the 12 pictures in raw, such as later.png", said)


def test_what_cannot_be_read_is_left_out_where_that_is_asked_for(narrow, capsys):
    folder = folder_of_icons(Path("raw"))
    (folder / "broken.png").write_bytes(b"")
    options = ["--data", "raw", *SMALL, "--batch-size", "4"]
    with pytest.raises(SystemExit):
        train.main(options)
    assert "repair or remove them, or pass --skip-unreadable to leave them out:" in capsys.readouterr().err
    with warnings.catch_warnings(**WARNED):
        assert train.main([*options, "--skip-unreadable"]) == 0
    printed = capsys.readouterr()
    assert "warning: raw: 1 of 10 files cannot be read and are skipped:\n  broken.png: an empty" in printed.err
    assert "over 9 images" in printed.out
    with pytest.raises(SystemExit):
        train.main(["--skip-unreadable"])
    assert "--skip-unreadable is about the files of a folder; pass it with --data" in capsys.readouterr().err


def test_the_report_before_a_run_says_what_would_be_trained_wrong(narrow, capsys):
    """Pictures of 12 bits, which are read almost black, and what is left out: named with the option that mends it."""
    folder = folder_of_icons(Path("raw"), n=4)
    for index in range(4):
        values = np.random.default_rng(index).permutation(4096)[:256].reshape(16, 16).astype(np.uint16)
        values[0, 0] = 4095
        Image.fromarray(values).save(folder / f"deep_{index}.png")
    Image.new("RGB", (16, 16), "red").save(folder / "red.png")
    (folder / ".more").mkdir()
    draw_icons.draw_icon(20, size=16).save(folder / ".more/20.png")
    options = ["--data", "raw", *SMALL, "--batch-size", "4"]
    remark = "pictures in hidden or system files and folders were skipped: 1 (.more: 1), such as .more/20.png; pass "
    with warnings.catch_warnings(**WARNED):
        assert train.main(options) == 0
    printed = capsys.readouterr()
    assert f"warning: {remark}--hidden to read them" in printed.err.replace("raw: ", "")
    printed = " ".join(printed.out.split())
    assert "16 bits values up to 4,095 in 4 16-bit pictures: they look like 12 bits, and are read too dark; " in printed
    assert "pass --bit-depth 12 wherever they are read dark 4 in which nothing can be seen, such as deep_0" in printed
    assert "one colour 1 of one colour, such as red.png alike" in printed
    assert f"left out {remark}--hidden to read them" in printed
    assert train.main([*options, "--overwrite", "--hidden", "--bit-depth", "12"]) == 0
    printed = capsys.readouterr().out
    assert "files 10, of which 0 cannot be read one colour 1 of one colour" in " ".join(printed.split())
    assert not any(word in printed for word in ("16 bits", "dark", "left out"))
    choose = ["--data", "raw", "--out", "report"]
    assert curate.main(choose) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"left out {remark}--hidden to read them" in printed
    assert "pass --bit-depth 12 wherever they are read" in printed
    assert "train.py --data raw --only report/list.txt" in printed
    assert curate.main([*choose, "--overwrite", "--hidden", "--bit-depth", "12"]) == 0
    printed = capsys.readouterr().out
    assert "read with --bit-depth 12" in printed
    assert "train.py --data raw --hidden --bit-depth 12 --only report/list.txt\n" in printed


def test_messages_name_options_and_every_program_takes_them(narrow, capsys):
    folder = folder_of_icons(Path("raw"))
    Image.new("RGB", (5001, 5000)).save(folder / "scan.png", compress_level=1)
    options = ["--data", "raw", *SMALL, "--batch-size", "4"]
    with pytest.raises(SystemExit):
        train.main(options)
    assert "or pass --max-pixels 26_000_000, which takes up to 416 MB" in capsys.readouterr().err
    assert curate.main(["--data", "raw", "--out", "report"]) == 0
    assert "or pass --max-pixels 26_000_000, which takes" in " ".join(capsys.readouterr().out.split())
    larger = ["--max-pixels", "26_000_000"]
    assert curate.main(["--data", "raw", "--out", "report", "--overwrite", *larger]) == 0
    assert "drop\tscan.png" not in Path("report/list.txt").read_text()
    assert train.main([*options, "--overwrite", *larger, "--only", "report/list.txt"]) == 0
    assert "over 10 images" in capsys.readouterr().out
    for given in (["--hidden"], larger, ["--bit-depth", "12"], ["--skip-unreadable"]):
        with pytest.raises(SystemExit):
            train.main(given)
        assert f"{given[0]} is about the files of a folder; pass it with --data" in capsys.readouterr().err


def test_a_report_with_names_that_the_output_cannot_show_is_printed(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    show("日本.png")
    sys.stdout.flush()
    assert sys.stdout.buffer.getvalue().split() == [rb"\u65e5\u672c.png"]


def test_a_run_is_not_kept_among_its_data(capsys, monkeypatch):
    monkeypatch.chdir(folder_of_icons(Path("icons")))
    with pytest.raises(SystemExit):
        train.main(["--data", ".", *SMALL])
    assert "runs/icons lies in .: its samples would be data too; pass another --run-dir" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_flips_against_the_verdict_are_warned_of(narrow, capsys):
    folder_of_icons(Path("icons"), n=80, size=32)
    with warnings.catch_warnings(**WARNED):
        assert train.main(["--data", "icons", *SMALL, "--flips"]) == 0
    printed = capsys.readouterr()
    assert re.search(r"^warning: HorizontalFlip is on, and left-right flips look unsafe: \d+ of", printed.err, re.M)
    config = json.loads(Path("runs/icons/config.json").read_text())["recipe"]
    assert config["training"]["augment_real"] == [{"name": "HorizontalFlip", "settings": {"probability": 0.5}}]
    assert "flips      left-right flips look unsafe" in printed.out


def test_the_article_is_the_default():
    options = train.argument_parser().parse_args([])
    assert train.make_recipe(options, 256) == presets.mel_icon()
    contrast = train.argument_parser().parse_args(["--contrast"])
    assert train.make_recipe(contrast, 256) == presets.mel_icon(contrast=True)
    assert train.default_run_dir(options) == Path("runs/mel_icon")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--data", "nowhere"], "nowhere is not a directory; pass a folder of pictures"),
        (["--data", ".", "--run-dir", "../run"], "holds no picture that can be read"),
        (["--resolution", "8", "--batch-size", "12"], "cannot be split into MiniBatchStd groups of 8"),
        (
            ["--preset", "few_images", "--resolution", "8", "--images", "4"],
            "needs at least 128 images in all for 2 levels, got 4",
        ),
        (["--resolution", "8", "--precision", "tf32", "--device", "cpu"], "precision tf32 requires CUDA"),
        (["--resolution", "8", "--device", "tpu9"], "tpu9"),
    ],
)
def test_train_refuses_with_one_line(arguments, text, few_icons, capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert text in error
    assert len(error.splitlines()) == 1
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        *(
            (["--resolution", given], f"--resolution: must be one of 4, 8, 16, 32, 64, 128, 256, got '{given}'")
            for given in ("0", "2", "48", "512", "-8", "8.0", "big")
        ),
        *(
            ([option, given], f"{option}: must be a whole number of at least 1, got '{given}'")
            for option in ("--images", "--batch-size")
            for given in ("0", "-8", "1.5", "many")
        ),
    ],
)
def test_the_parser_says_what_may_be_passed(arguments, text, capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"error: argument {text}")


def test_resolutions_are_those_of_the_article():
    for resolution in (4, 8, 16, 32, 64, 128, 256):
        options = train.argument_parser().parse_args(["--resolution", str(resolution)])
        assert train.make_recipe(options, options.resolution).architecture.channels


def test_train_refuses_other_data_and_foreign_folders_before_it_times_anything(few_icons, capsys, monkeypatch):
    run = [*SMALL, "--run-dir", "run"]
    assert train.main(run) == 0
    monkeypatch.setattr(train, "draw_icons", lambda size: 255 - few_icons)
    monkeypatch.setattr(train, "show_plan", lambda *_: pytest.fail("timed first"))
    Path("foreign").mkdir()
    Path("foreign/thesis.txt").write_text("")
    for arguments, text in (
        ([*run, "--images", "48"], "the data is not that of the run"),
        ([*SMALL, "--run-dir", "foreign", "--overwrite"], "is not empty and holds no progan run"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            train.main(arguments)
        assert stopped.value.code == 2
        assert text in capsys.readouterr().err


def test_the_run_ends_with_a_table_of_measures_and_a_report(few_icons, capsys, monkeypatch):
    icons = draw_icons.draw_icons(40, size=16)
    monkeypatch.setattr(train, "draw_icons", lambda size: icons)
    monkeypatch.setattr(finish, "_JUDGED", 40)
    monkeypatch.setattr("progan.training.callbacks.judge.built_in_measures", built_in_measures)
    monkeypatch.setattr("progan.training.callbacks.report_page.write_report", write_report)
    with warnings.catch_warnings(**WARNED):
        assert train.main(["--resolution", "16", *SMALL[2:]]) == 0
    printed, said = capsys.readouterr()
    assert "warning: at 56 images: Collapse: the samples are" in said  # of networks that have hardly trained
    assert "40 samples against 40 real images, at 16x16:" in printed
    assert "  feature distance x 1000 " in printed
    run_dir = Path("runs/mel_icon")
    assert f"report   {run_dir}/report.html" in printed
    assert f"A film of the training: {run_dir}/films/training.png: " in printed
    assert (run_dir / "films/training.png").read_bytes().startswith(b"\x89PNG")
    assert "<html" in (run_dir / "report.html").read_text()
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [row["images_seen"] for row in rows if "measures" in row][-1] == rows[-1]["images_seen"]
    monkeypatch.setattr(train, "draw_icons", lambda size: icons[:1])
    monkeypatch.setattr("progan.training.callbacks.judge.built_in_measures", dict)
    assert train.main(["--resolution", "16", *SMALL[2:], "--overwrite"]) == 0
    assert "There is only one picture; judging needs 2 pictures" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("place", "error", "text"),
    [
        ("draw_icons", KeyboardInterrupt, "Stopped before the training began."),
        ("show_plan", KeyboardInterrupt, "Stopped before the training began."),
        ("fit", Interrupted(2), "Stopped after 0 real images, and saved. To go on: run the same command again"),
        (
            "fit",
            KeyboardInterrupt,
            "Stopped immediately. To go on from the last checkpoint: run the same command again",
        ),
        ("_finish", KeyboardInterrupt, "Stopped. The training is finished and saved in runs/mel_icon."),
    ],
)
def test_ctrl_c_tells_what_is_true(place, error, text, few_icons, capsys, monkeypatch):
    def stop(*_, **__):
        raise error

    monkeypatch.setattr({"fit": Trainer, "_finish": finish}.get(place, train), place, stop)
    assert train.main(SMALL) == 130
    printed = capsys.readouterr()
    assert [line for line in (printed.out + printed.err).splitlines() if "Stopped" in line] == [text]


def test_a_training_that_diverges_for_good_is_a_failure(few_icons, capsys, monkeypatch):
    def diverge(trainer, images):
        raise DivergenceError("the critic's loss", 8, Growth(0, 0, None, 1e-3, 8), saved=False)

    monkeypatch.setattr(Trainer, "fit", diverge)
    assert train.main(SMALL) == 1
    assert capsys.readouterr().err.startswith("\ntraining diverged: the critic's loss is not finite")


def test_train_names_what_differs_from_the_run_that_is_there(few_icons, capsys):
    assert train.main(SMALL) == 0
    with pytest.raises(SystemExit):
        train.main([*SMALL, "--seed", "7"])
    assert "holds another run; differing (there -> here): seed 0 -> 7" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="a program cannot send another Ctrl-C")
def test_ctrl_c_in_a_terminal_saves_and_says_how_to_go_on(tmp_path):
    folder_of_icons(tmp_path / "icons")
    command = [sys.executable, "-W", "error", str(ROOT / "examples/mel_icon/train.py"), "--data", "icons"]
    command += ["--resolution", "8", "--images", "240000", "--device", "cpu", "--run-dir", "run"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    begun = tmp_path / "run/config.json"
    deadline = time.monotonic() + 120
    while not begun.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "real images, and saved. To go on: run the same command again\n" in out
    assert max(int(path.name) for path in (tmp_path / "run/checkpoints").iterdir()) > 0


def test_generate_writes_clean_reproducible_icons(few_icons, capsys):
    assert train.main(SMALL) == 0
    assert generate.main(["--run-dir", "runs/mel_icon", "--n", "5", "--seed", "3", "--out", "a"]) == 0
    checkpoint = sorted(Path("runs/mel_icon/checkpoints").iterdir())[-1]
    assert generate.main(["--checkpoint", str(checkpoint), "--n", "3", "--seed", "3", "--out", "b"]) == 0
    assert sorted(path.name for path in Path("a").iterdir()) == [*(f"{k:04d}.png" for k in range(5)), "sheet.png"]
    for k in range(3):
        assert Path(f"a/{k:04d}.png").read_bytes() == Path(f"b/{k:04d}.png").read_bytes()
    assert read_png("a/0000.png").shape == (3, 8, 8)
    assert not torch.equal(read_png("a/0000.png"), read_png("a/0001.png"))
    between = ["--run-dir", "runs/mel_icon", "--seed", "3", "--between", "4", "1"]
    assert generate.main([*between, "--n", "3", "--out", "walk"]) == 0
    assert sorted(path.name for path in Path("walk").iterdir()) == ["0000.png", "0001.png", "0002.png", "sheet.png"]
    for step, k in ((0, 4), (2, 1)):  # to the last bit but for the number of images made at once
        difference = read_png(f"walk/{step:04d}.png").int() - read_png(f"a/{k:04d}.png").int()
        assert difference.abs().max() <= 1
    assert read_png("walk/sheet.png").shape == (3, 96, 3 * 96 + 2 * 2)
    film = ["--run-dir", "runs/mel_icon", "--truncation", "0.5", "--walk", "walk.png"]
    assert generate.main(film) == 0
    assert "walk.png: 200 frames of 256x256, 10.0 s" in capsys.readouterr().out
    capsys.readouterr()
    for arguments, text in (
        ([*between, "--n", "1", "--out", "c"], "n of at least 2"),
        (["--run-dir", "runs/mel_icon", "--between", "4", "-1", "--out", "c"], "two numbers from 0 on, got 4 -1"),
        (["--run-dir", "runs/mel_icon", "--out=~nobody-of-this-name/c"], "is not a user with a home directory"),
        (["--run-dir", "nowhere", "--out", "c"], "is not a checkpoint, nor a run with one"),
        (["--run-dir", "runs/mel_icon", "--out", "a"], "exists and is not an empty folder"),
        (["--run-dir", "runs/mel_icon", "--out", "c", "--n", "0"], "at least 1"),
        (["--run-dir", "runs/mel_icon", "--out", "a/0000.png/c"], "Not a directory"),
        (["--run-dir", "runs/mel_icon"], "pass --out DIR for icons, --walk FILE for a film, or both"),
        (["--run-dir", "runs/mel_icon", "--walk", "c.avi"], "must end in .gif, .png, .apng, .webp or .mp4"),
        (["--run-dir", "runs/mel_icon", "--truncation", "2", "--out", "c"], "in [0, 1], got 2.0"),
    ):
        with pytest.raises(SystemExit):
            generate.main(arguments)
        assert text in capsys.readouterr().err
        assert not Path("c").exists()


def test_icons_are_reproducible_each_alone_and_all_different():
    icons = draw_icons.draw_icons(24, size=32)
    assert (icons.shape, icons.dtype) == ((24, 3, 32, 32), torch.uint8)
    alone = torch.from_numpy(np.array(draw_icons.draw_icon(7, size=32))).permute(2, 0, 1)
    assert torch.equal(icons[7], alone)
    distances = torch.nn.functional.pdist(icons.flatten(1) / 255) / (3 * 32 * 32) ** 0.5
    assert distances.min() > 0.05
    mirrored = (icons.flip(3) / 255 - icons / 255).square().mean(dim=(1, 2, 3)).sqrt()
    assert mirrored.min() > 0.05, "heads grow from the bottom left"
    assert not torch.equal(draw_icons.draw_icons(1, seed=1, size=32)[0], icons[0])


def test_draw_icons_writes_files_and_a_sheet(capsys):
    draw_icons.main(["--out", "icons", "--n", "3", "--size", "16", "--sheet", "sheet.png"])
    assert ImageFolder("icons", 16).images.shape == (3, 3, 16, 16)
    assert torch.equal(ImageFolder("icons", 16).images, draw_icons.draw_icons(3, size=16))
    with Image.open("sheet.png") as sheet:
        assert sheet.width >= 48
    with pytest.raises(SystemExit):
        draw_icons.main(["--out", "icons"])


def test_dataset_pictures_are_the_statistics(capsys):
    folder_of_icons(Path("icons"), n=9)
    dataset_pictures.main(["--data", "icons", "--size", "16", "--out", "pictures"])
    images = ImageFolder("icons", 16).images.double()
    expected = {
        "mean": images.mean(0),
        "std": images.std(0),
        "median": images.median(0).values,
        "mode": images.mode(0).values,
        "min": images.amin(0),
        "max": images.amax(0),
    }
    for name, picture in expected.items():
        torch.testing.assert_close(read_png(f"pictures/{name}.png").double(), picture.round(), atol=0, rtol=0)
    names = {path.stem for path in Path("pictures").iterdir()}
    assert names == {*expected, "std_of_5", "min_of_7", "contrast", "all"}
    assert (read_png("pictures/min_of_7.png") >= read_png("pictures/min.png")).all()


def test_dataset_pictures_takes_the_options_that_its_errors_name(capsys):
    folder_of_icons(Path("icons"), n=8)
    Image.new("RGB", (40, 50)).save("icons/large.png")
    command = ["--data", "icons", "--size", "16", "--out", "pictures", "--max-pixels", "1999"]
    with pytest.raises(SystemExit, match="2"):
        dataset_pictures.main(command)
    said = capsys.readouterr().err
    assert "large.png: 40x50 pixels, more than the 1,999 that are read" in said
    assert "pass --max-pixels 1_000_000" in said
    assert "pass --skip-unreadable" in said
    with warnings.catch_warnings(**WARNED):
        dataset_pictures.main([*command, "--skip-unreadable"])
    assert "warning: icons: 1 of 9 files cannot be read and are skipped" in capsys.readouterr().err
    dataset_pictures.main([*command[:-1], "2000"])


MOST_DISTANCE, LEAST_DIVERSITY = 150, 0.4


def closing_numbers(text: str) -> tuple[float, float]:
    rows = {line.split("  ")[1].strip(): line for line in text.splitlines() if line.startswith("  ")}
    names = "feature distance x 1000", "diversity, of the data's"
    return tuple(float(rows[name].removeprefix("  " + name).split()[0]) for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_quick_learns_what_an_untrained_network_does_not_have(seed, capsys):
    torch.set_num_threads(2)
    try:
        assert train.main(["--quick", "--seed", str(seed), "--device", "cpu"]) == 0
    finally:
        torch.set_num_threads(1)
    distance, diversity = closing_numbers(capsys.readouterr().out)
    assert distance < MOST_DISTANCE
    assert diversity > LEAST_DIVERSITY


def test_an_untrained_network_fails_the_number(capsys):
    icons = draw_icons.draw_icons(64, size=32)
    recipe = presets.few_images(32)
    print(evaluate(GrownGenerator(recipe.build()[0], level=3), icons, printed=False))
    assert closing_numbers(capsys.readouterr().out)[0] > 2 * MOST_DISTANCE


def test_the_portraits_are_read_as_they_are():
    folder = SHARED / "data/portraits"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    images = ImageFolder(folder, 32).images
    assert images.shape == (640, 3, 32, 32)
    assert 0.15 < (images[:64] / 255).std() < 0.5
