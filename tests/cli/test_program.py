"""The command line: help without torch, one line for each error, exit statuses, settings from a file."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from conftest import small_recipe
from PIL import Image

from progan import GrownGenerator, __main__, export, presets
from progan.cli import program
from progan.cli.output import in_options


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("card.md").mkdir()
    Path("loop").symlink_to("loop")
    Path("icons").mkdir()
    for index in range(3):
        Image.new("RGB", (16, 16), (80 * index, 0, 99)).save(f"icons/{index}.png")
    for name in ("file.txt", "a.onnx", "a.html", "a.pth"):
        Path(name).write_text("no picture")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_help_and_errors_in_options_need_no_torch():
    done = python(
        "import sys\n"
        "from progan.cli.program import COMMANDS, main\n"
        "assert main(['--help']) == 0\n"
        "for name in COMMANDS:\n"
        "    assert main([name, '--help']) == 0, name\n"
        "assert main(['train', 'icons', '--hours', 'much']) == 2\n"
        "assert main(['train', '--config', 'missing.toml']) == 2\n"
        "sys.exit(sorted(name for name in ('torch', 'numpy', 'PIL', 'huggingface_hub') if name in sys.modules))"
    )
    assert done.stderr.splitlines()[-1] == "[]", done.stderr


def test_every_command_has_help_with_an_example_that_parses(capsys):
    for name, command in program.COMMANDS.items():
        assert program.main([name, "--help"]) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert command.EXAMPLE in printed
        assert command.HELP in printed
        words = command.EXAMPLE.split(" > ")[0].split()
        assert words[:2] == ["progan", name]
        assert program.parse(program.build_parser(), words[1:]).command == name


def test_as_a_module_and_its_version():
    done = subprocess.run([sys.executable, "-m", "progan", "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"progan \d+\.\d+\S*\n", done.stdout)


def test_an_interrupt_while_the_program_is_imported(monkeypatch, capsys):
    class Interrupted(types.ModuleType):
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "progan.cli.program", Interrupted("progan.cli.program"))
    assert __main__.main() == 130
    assert capsys.readouterr().err == "progan: interrupted\n"


NO_FOLDER = "pass a folder of pictures"


def chosen(number: int) -> str:
    """A number that is no choice, as argparse of this version of Python quotes it."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--n", type=int, choices=[0])
    with pytest.raises(argparse.ArgumentError) as caught:
        parser.parse_args(["--n", str(number)])
    return str(caught.value).removeprefix("argument --n: ").partition(" (")[0]


WRONG = [
    ([], "the following arguments are required: COMMAND"),
    (["trian"], "invalid choice: 'trian'"),
    (["train"], "progan train: pass a folder of pictures, such as: progan train my_icons/"),
    (["train", "missing"], f"progan train: there is no missing; {NO_FOLDER}"),
    (["train", "empty"], "progan train: empty has no picture; pass a folder of PNG, JPEG"),
    (["train", "file.txt"], "progan train: file.txt is a file, and no pack: "),
    (["train", "icons", "--hours", "0"], "argument --hours: must be a number above 0, got '0'"),
    (["train", "icons", "--hours", "nan"], "argument --hours: must be a number above 0, got 'nan'"),
    (["train", "icons", "--hours", "1", "--images", "100"], "argument --images: not allowed with argument --hours"),
    (["train", "icons", "--images", "0"], "argument --images: must be a whole number of at least 1, got '0'"),
    (["train", "icons", "--images", "100"], "few_images needs at least 160 images in all for 3 levels, got 100"),
    (["train", "icons", "--resolution", "100"], "argument --resolution: must be one of 4, 8, 16, 32, 64, 128"),
    (["train", "icons", "--resolution", "1024"], "few_images has widths for up to 256 px, got --resolution 1024"),
    (["train", "icons", "--preset", "stylegan"], "argument --preset: invalid choice: 'stylegan'"),
    (["train", "icons", "--precision", "fp8"], "argument --precision: invalid choice: 'fp8'"),
    (["train", "icons", "--device", "tpu"], "progan train: "),
    (["train", "icons", "--held-out", "0.9"], "must be a share above 0 and below 0.5, such as 0.1 or 10%"),
    (["train", "icons", "--held-out", "much"], "must be a share above 0 and below 0.5"),
    (["train", "icons", "--run-dir", "icons/run"], "icons/run lies in icons: its samples would be data too"),
    (["train", "icons", "--run-dir", "file.txt"], "--run-dir must be a folder, and"),
    (["train", "icons", "--run-dir", "icons_and", "--start", "missing"], "cannot start from missing: nothing is there"),
    (["train", "icons", "--only", "missing.txt"], "missing.txt"),
    (["train", "icons", "--labels"], "icons: 3 of 3 pictures lie in no sub-folder, such as 0.png; with --labels"),
    (["train", "icons", "--balanced"], "--balanced is about the classes of --labels; pass both"),
    (["train", "icons", "--channels", "2"], f"argument --channels: {chosen(2)}"),
    (["train", "icons", "--batch-size", "-1"], "argument --batch-size: must be a whole number of at least 1, got '-1'"),
    (["train", "icons", "--micro-batch", "3"], "--micro-batch"),
    (["train", "icons", "--bit-depth", "7"], f"argument --bit-depth: {chosen(7)}"),
    (["train", "icons", "--recover", "11"], f"argument --recover: {chosen(11)}"),
    (["train", "icons", "--seed", "x"], "argument --seed: invalid int value: 'x'"),
    (["train", "~nobody-here/icons"], "~nobody-here is not a user with a home directory here"),
    (["train", ""], "is an empty path; pass . for the current directory"),
    (["train", "icons", "--config", "missing.toml"], "progan: --config missing.toml: No such file or directory"),
    (["train", "icons", "--config", "file.txt"], "progan: --config file.txt is not TOML: "),
    (["plan"], "progan plan: pass a folder of pictures"),
    (["plan", "missing"], f"there is no missing; {NO_FOLDER}"),
    (["check", "missing"], f"progan check: there is no missing; {NO_FOLDER}"),
    (["check", "file.txt"], f"progan check: file.txt is a file; {NO_FOLDER}"),
    (["check"], "the following arguments are required: FOLDER"),
    (["curate", "icons"], "the following arguments are required: --out"),
    (["curate", "empty", "--out", "report"], "progan curate: empty has no picture; pass a folder of PNG, JPEG, WebP"),
    (["curate", "missing", "--out", "report"], f"there is no missing; {NO_FOLDER}"),
    (["curate", "icons", "--out", "report", "--max-similar", "0"], "must be a whole number of at least 1, got '0'"),
    (["curate", "icons", "--out", "icons/report"], "progan curate: "),
    (["pack", "icons", "icons.pack"], "the following arguments are required: --resolution"),
    (["pack", "missing", "icons.pack", "--resolution", "16"], f"there is no missing; {NO_FOLDER}"),
    (["pack", "icons", "file.txt", "--resolution", "16"], "file.txt exists already and is not a pack; pass another"),
    (["pack", "icons", "no/such.pack", "--resolution", "16"], "no is not a directory; make it first"),
    (["resume", "missing"], "progan resume: there is no missing; pass a run directory"),
    (["resume", "icons"], "progan resume: "),
    (["status", "missing"], "progan status: there is no missing; pass a run directory"),
    (["status", "icons"], "icons holds no progan run: it has no valid config.json"),
    (["status", "file.txt"], "file.txt is a file; pass a run directory"),
    (["report", "icons"], "icons holds no progan run"),
    (["report", "icons", "--max-mb", "-1"], "argument --max-mb: must be a number above 0, got '-1'"),
    (["generate", "icons"], "the following arguments are required: --out"),
    (["generate", "icons", "--out", "new"], "icons is not a checkpoint, nor a run with one"),
    (["generate", "icons", "--out", "icons"], "--out icons exists and is not an empty folder; pass a new one"),
    (["generate", "icons", "--out", "new", "--n", "0"], "argument --n: must be a whole number of at least 1, got '0'"),
    (["generate", "icons", "--out", "new", "--only", "a"], "must be numbers and ranges such as 0-7,12, got 'a'"),
    (["generate", "icons", "--out", "new", "--only", "1,0-99999999999999999999"], "must be at most 1,000,000 numbers"),
    (["generate", "icons", "--out", "new", "--only", "9" * 5000], "such as 0-7,12, got '" + 60 * "9" + "...'"),
    (["generate", "icons", "--out", "new", "--n", "9" * 5000], "of at least 1, got '" + 60 * "9" + "...'"),
    (["generate", "icons", "--out", "new", "--n", "2", "--only", "3"], "not allowed with argument"),
    (["generate", "icons", "--out", "new", "--enlarge", "17"], "argument --enlarge: must be at most 16, got '17'"),
    (["generate", "icons", "--out", "new", "--n", "99999999999"], "argument --n: must be at most 1,000,000, got '9999"),
    (["walk", "icons", "walk.png", "--stops", "1001"], "argument --stops: must be at most 1,000, got '1001'"),
    (["walk", "icons", "walk.png", "--seconds", "1e9"], "argument --seconds: must be at most 3,600, got '1e9'"),
    (["walk", "icons"], "the following arguments are required: FILE"),
    (["walk", "icons", "walk.png"], "icons is not a checkpoint, nor a run with one"),
    (["evaluate", "file.txt"], "file.txt does not say which pictures it was trained on; pass --data"),
    (["evaluate", "icons"], "progan evaluate: icons holds no progan run"),
    (["inspect", "missing"], "progan inspect: there is no missing"),
    (["inspect", "icons"], "icons is a folder without a run or a checkpoint; progan check describes folders"),
    (["inspect", "a.onnx"], "progan inspect: a.onnx was not exported by progan, or is damaged"),
    (["inspect", "a.pth"], "a.pth may be a checkpoint of another program, which only loading shows: progan import"),
    (["inspect", "a.html"], "progan inspect: a.html is no page that progan exported, or damaged"),
    (["inspect", "file.txt"], "file.txt is no pack and no file of tensors in the safetensors layout"),
    (
        ["export", "icons", "icons.pt"],
        "OUT must end in .safetensors, .onnx or .pt2, or be a folder, such as page/, got icons.pt",
    ),
    (["export", "icons", "icons.html"], "icons.html would be a page in one file; pass --single-file too"),
    (
        ["export", "icons", "page/", "--single-file"],
        "--single-file writes one HTML file: OUT must end in .html, got page",
    ),
    (["export", "icons", "new.onnx", "--title", "Icons"], "--single-file, --title and --runtime are for web pages"),
    (["export", "icons", "page/", "--note", "Mine"], "--licence and --note are stated by a .safetensors file"),
    (["export", "icons", "no/page/"], "no is not a directory; make it first"),
    (["export", "icons", "icons/"], "icons exists and is not only a page of progan's; pass another path"),
    (["export", "icons", "loop"], "loop is a symlink loop; remove it"),
    (["export", "icons", "no/new.onnx"], "no is not a directory; make it first"),
    (["export", "icons", "card.safetensors", "--overwrite"], "card.md is a directory; pass another OUT"),
    (["export", "a.safetensors", "new.onnx", "--best"], "--best chooses among the checkpoints of a run; pass its dir"),
    (["export", "icons", "new.safetensors"], "progan export: "),
    (["export", "missing", "new.safetensors"], "progan export: "),
    (["export", "icons", "new.onnx", "--licence", "MIT"], "--licence and --note are stated by a .safetensors file"),
    (["export", "icons", "new.pt2", "--note", "mine"], "--licence and --note are stated by a .safetensors file"),
    (["export", "icons", "new.pt2", "--precision", "fp16"], "a .pt2 program has fp32; leave out --precision, or pass"),
    (["export", "icons"], "the following arguments are required: OUT"),
    (["push", "icons", "icons"], "a repository is named by its owner and its name, of letters, digits, -, _ and ."),
    (["push", "icons", "me/../icons"], "such as alice/icons; got 'me/../icons'"),
    (["push", "icons"], "the following arguments are required: NAME/REPO"),
    (["pull", "alice/icons"], "the following arguments are required: OUT"),
    (["pull", "alice/icons", "file.txt"], "OUT must end in .safetensors, got file.txt"),
    (["pull", "alice", "new.safetensors"], "such as alice/icons; got 'alice'"),
    (["pull", "alice/icons", "no/new.safetensors"], "no is not a directory; make it first"),
    (["pull", "a/b", "new.safetensors", "--file", "../b.safetensors"], "file must be the name of a .safetensors file"),
    (["import", "file.txt"], "the following arguments are required: OUT"),
    (
        ["import", "missing.pth", "new.safetensors"],
        "progan import: missing.pth is no file; pass a checkpoint of image_",
    ),
    (["import", "file.txt", "new.safetensors"], "progan import: file.txt"),
    (["import", "file.txt", "new.pth"], "progan import: "),
    (["import", "file.txt", "file.txt"], "file.txt exists; pass --overwrite or another OUT"),
    (["import", "file.txt", "new.safetensors", "--level", "-1"], "argument --level: "),
    (["convert", "file.txt"], "the following arguments are required: OUT"),
    (
        ["convert", "missing", "new"],
        "there is no missing; pass a pack, or a checkpoint of image_generator_2, pro_gan_pth",
    ),
    (["convert", "icons", "icons.pack"], "icons is a folder: progan pack icons OUT --resolution PX packs the pictures"),
    (["convert", "file.txt", "new"], "for a checkpoint of another program, pass a .safetensors file as OUT"),
    (["convert", "file.txt", "new.safetensors"], "progan convert: file.txt"),
    (
        ["convert", "file.txt", "new.onnx"],
        "becomes a .safetensors file, got OUT new.onnx; convert to one, then progan export",
    ),
    (["completion", "tcsh"], "argument SHELL: invalid choice: 'tcsh'"),
]


@pytest.mark.parametrize(("arguments", "text"), WRONG, ids=[" ".join(arguments) or "nothing" for arguments, _ in WRONG])
def test_wrong_use_is_said_in_one_line_and_writes_nothing(arguments, text, capsys):
    before = sorted(Path().rglob("*"))
    assert program.main(arguments) == 2
    said = capsys.readouterr().err
    assert text in said
    assert "Traceback" not in said
    if "usage:" not in said:
        assert len(said.splitlines()) <= 2, said
    assert sorted(Path().rglob("*")) == before


def test_unexpected_errors_and_where_they_were_raised(capsys, monkeypatch):
    def run(options):
        raise KeyError("something")

    monkeypatch.setattr(program.COMMANDS["status"], "run", run)
    assert program.main(["status", "icons"]) == 1
    assert capsys.readouterr().err == "progan status: KeyError: 'something'; --debug shows where\n"
    assert program.main(["status", "icons", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_name_that_is_too_long_is_no_traceback(capsys):
    assert program.main(["export", "icons", "x" * 300 + ".onnx"]) == 1
    assert capsys.readouterr().err.endswith("x.onnx: File name too long\n")


def test_notes_of_an_error_are_shown_too(capsys, monkeypatch):
    def run(options):
        error = MemoryError("out of memory")
        error.add_note("a step on 16 images at once: pass micro_batch=8 to train on the same batch in parts")
        raise error

    monkeypatch.setattr(program.COMMANDS["status"], "run", run)
    assert program.main(["status", "icons"]) == 1
    assert "at once: pass --micro-batch 8 to train on the same batch" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (OSError(28, "No space left", "f"), 1)])
def test_statuses_of_what_happens_outside(error, status, capsys, monkeypatch):
    def run(options):
        raise error

    monkeypatch.setattr(program.COMMANDS["status"], "run", run)
    assert program.main(["status", "icons"]) == status
    assert capsys.readouterr().err in (
        "progan status: interrupted\n",
        "progan status: f: No space left; free some space, then run the command again\n",
    )


def test_sigterm_ends_a_command_as_ctrl_c_does(capsys, monkeypatch):
    def run(options):
        signal.raise_signal(signal.SIGTERM)
        Path("done").touch()

    monkeypatch.setattr(program.COMMANDS["status"], "run", run)
    before = signal.getsignal(signal.SIGTERM)
    assert before is signal.SIG_DFL
    assert program.main(["status", "icons"]) == 143
    assert capsys.readouterr().err == "progan status: terminated\n"
    assert not Path("done").exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_handler_of_sigterm_that_is_there_stays(monkeypatch):
    heard = []

    def run(options):
        signal.raise_signal(signal.SIGTERM)
        return 0

    def handle(number, _):
        heard.append(number)

    monkeypatch.setattr(program.COMMANDS["status"], "run", run)
    before = signal.signal(signal.SIGTERM, handle)
    try:
        assert program.main(["status", "icons"]) == 0
        assert (heard, signal.getsignal(signal.SIGTERM)) == ([signal.SIGTERM], handle)
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.skipif(os.name == "nt", reason="a signal from outside ends a process at once there")
@pytest.mark.parametrize("name", ["walk.png", "walk.mp4"])
def test_a_film_that_sigterm_cuts_short_leaves_nothing(name):
    if name.endswith(".mp4") and shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg")
    generator, _ = presets.few_images(8).build()
    export.save_generator(GrownGenerator(generator, level=1), "a.safetensors")
    before = set(Path().iterdir())
    command = [sys.executable, "-m", "progan", "walk", "a.safetensors", name, "--seconds", "3600"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not set(Path().iterdir()) - before and process.poll() is None:
            time.sleep(0.05)
        process.terminate()
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (143, "progan walk: terminated\n")
    assert set(Path().iterdir()) == before


def test_a_reader_that_goes_away_is_no_error():
    code = "from progan.cli.program import main; import sys; sys.exit(main(['check', 'icons']))"
    reader = subprocess.Popen(["head", "-c", "0"], stdin=subprocess.PIPE)
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=reader.stdin, stderr=subprocess.PIPE, text=True, check=False
    )
    reader.communicate()
    assert done.returncode in (0, 141)
    assert done.stderr == ""


def test_check_as_text_and_as_json(capsys):
    assert program.main(["check", "icons"]) == 0
    assert "files             3 read as pictures" in capsys.readouterr().out
    assert program.main(["check", "icons", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pictures"] == 3
    assert found["unreadable"] == {}


def test_curate_writes_a_list_that_is_not_replaced_by_chance(capsys):
    assert program.main(["curate", "icons", "--out", "report", "--hidden"]) == 0
    assert "progan train icons --hidden --only report/list.txt" in capsys.readouterr().out
    Path("report/list.txt").write_text("# edited\n")
    assert program.main(["curate", "icons", "--out", "report"]) == 2
    assert "perhaps edited; pass --overwrite or another --out" in capsys.readouterr().err
    assert Path("report/list.txt").read_text() == "# edited\n"


def test_settings_come_from_a_file_and_the_command_line_wins():
    Path("train.toml").write_text('data = "icons"\nhours = 2\nbatch_size = 8\nflips = true\nlabels = false\n')
    options = program.parse(program.build_parser(), ["train", "--config", "train.toml", "--batch-size", "4"])
    assert (options.data, options.hours, options.batch_size, options.flips) == (Path("icons"), 2.0, 4, True)
    assert options.labels is False
    assert options.config_read["batch_size"] == 8
    others = program.parse(program.build_parser(), ["train", "--config", "train.toml", "--images", "500", "--no-flips"])
    assert (others.hours, others.images, others.flips) == (None, 500, False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hour = 2", "hour is no option of progan train; there are balanced, batch-size, "),
        ("flips = 1", "flips must be true or false, got 1"),
        ("hours = [1, 2]", "hours must be one value, got [1, 2]"),
        ("hours = 0", "argument --hours: must be a number above 0, got '0'"),
        ("data = 3", "--config train.toml: data must be a path in quotes, got 3"),
        ("data = ''", "--config train.toml: data is an empty path; pass . for the current directory"),
        ("data = '~nobody-here/icons'", "data ~nobody-here is not a user with a home directory here"),
    ],
)
def test_wrong_settings_in_a_file(text, said, capsys):
    Path("train.toml").write_text(text)
    assert program.main(["train", "icons", "--config", "train.toml"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_commands(shell, capsys):
    pytest.importorskip("shtab", reason="shtab is not installed")
    assert program.main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    for name in program.COMMANDS:
        assert name in printed


def test_completion_without_its_library_says_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert program.main(["completion", "bash"]) == 2
    assert 'completion needs shtab: pip install "progan[completion]"' in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["push", "icons", "a/b"], ["pull", "a/b", "new.safetensors"]])
def test_a_hub_without_its_library_says_how_to_get_it(arguments, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert program.main(arguments) == 2
    assert 'a hub is reached by huggingface_hub; install it: pip install "progan[hub]"' in capsys.readouterr().err


def test_texts_of_a_file_are_neither_lines_nor_orders_to_a_terminal(capsys):
    grown = GrownGenerator(small_recipe().build()[0], 1)
    export.save_generator(grown, "a.safetensors", licence="mine\n  classes         9", note="\x1b[2J\u202e")
    assert program.main(["inspect", "a.safetensors"]) == 0
    said = capsys.readouterr().out
    assert "  licence         mine   classes         9\n" in said
    assert r"  note            \x1b[2J\u202e" in said


def test_messages_name_options():
    text = (
        'pass on_unreadable="skip", max_pixels=26_000_000 or hidden=True, or overwrite=True; pass another run_dir, '
        "runtime= with a folder, single_file=True or precision='fp16'"
    )
    said = (
        "pass --skip-unreadable, --max-pixels 26_000_000 or --hidden, or --overwrite; pass another --run-dir, "
        "--runtime with a folder, --single-file or --precision fp16"
    )
    assert in_options(text) == said
    assert in_options("or data_may_change=True to train on") == "or --data-may-change to train on"
    assert (
        in_options("psi is the weight; leave micro_batch out") == "--truncation is the weight; leave --micro-batch out"
    )
    assert in_options("runs/run_dir/psi.png and psi.png stay") == "runs/run_dir/psi.png and psi.png stay"


def test_a_program_without_an_output(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert program.main(["check", "icons"]) == 0
