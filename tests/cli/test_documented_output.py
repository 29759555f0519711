"""What the page on the command line shows is what the commands print."""

from __future__ import annotations

import re
import shlex

from conftest import ROOT
from draw_icons import draw_icons

from progan import presets, write_png
from progan.cli import training
from progan.cli.program import COMMANDS, main
from progan.runtime import device

PAGE = (ROOT / "docs/command_line.md").read_text()
SHOWN = re.findall(r"```text\n\$ progan (.*)\n((?:(?!```).*\n)*)```", PAGE)
SOMETIMES = ("- ", "irregular #: ", "# is a copy", "Judging takes about")  # where there is something to say
SOMETIMES += ("average used",)  # which one is best differs
NUMBER = r"-?\d[\d,.]*%?"


def masked(text: str) -> list[str]:
    """Return the lines of a text without what differs from run to run: numbers, and words that follow from them."""
    lines = []
    for line in text.splitlines():
        if line.startswith("runs/my_icons: "):
            line = line.split(",")[0]
        if line[:2] == "  ":
            line = re.sub(r"( 0$| (above|below|within|as good|this number|\d[\d.]* times) .*$)", "", line)
        line = re.sub(r"\b[0-9a-f]{32}\b", "HASH", line)
        line = re.sub(rf"{NUMBER} (?:s|min|h|days)\b( \d+ (?:s|min|h)\b)*", "TIME", line)
        lines.append(" ".join(re.sub(NUMBER, "#", line).split()))
    return lines


def test_every_command_is_described():
    assert {name for name in COMMANDS if f"progan {name}" not in PAGE} == set()


def test_the_outputs_are_real_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(presets, "_FEW_CHANNELS", (8, 6, 4))
    monkeypatch.setattr(training, "_GRIDS", 4)
    monkeypatch.setattr(device, "_cpu_flags", set)  # of a machine that computes in fp32
    (tmp_path / "my_icons").mkdir()
    for index, icon in enumerate(draw_icons(60, size=64)):
        write_png(tmp_path / f"my_icons/{index:04d}.png", icon)
    for command, output in SHOWN:
        arguments = [word.replace("6000", "1000") for word in shlex.split(command)]
        if arguments[0] == "train":
            arguments += ["--device", "cpu"]
        assert main(arguments) == 0
        printed = masked(capsys.readouterr().out)
        missing = [line for line in masked(output) if line not in printed and not line.startswith(SOMETIMES)]
        assert missing == [], (command, printed)
