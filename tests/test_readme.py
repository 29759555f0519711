"""What the documents say runs: every Python block, every command."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import train
from conftest import ROOT
from draw_icons import draw_icons
from foreign_programs import write_ig2
from npm_package import write_package

from progan import write_png
from progan.cli import program

DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/reference/*.md")]
DOCUMENTS += ROOT.glob("examples/*/README.md")
BLOCKS = [
    (path.relative_to(ROOT).as_posix(), number, language, text)
    for path in DOCUMENTS
    for number, (language, text) in enumerate(re.findall(r"```(\w+)\n(.*?)```", path.read_text(), re.DOTALL), 1)
]


# The Python blocks of each of these are one program, from top to bottom.
TUTORIALS = [f"docs/{name}.md" for name in ("first_icons", "own_folder", "own_loop", "own_parts")]


def blocks(*languages: str) -> list:
    chosen = [block for block in BLOCKS if block[2] in languages]
    return [pytest.param(text, id=f"{path} {number}") for path, number, _, text in chosen]


def test_every_block_is_of_a_kind_that_is_tested():
    assert {language for _, _, language, _ in BLOCKS} <= {"python", "sh", "text"}
    assert len(blocks("python")) >= 3


def run_twice(text: str) -> None:
    """Run a program twice: "the same program again goes on"."""
    for _ in range(2):
        exec(compile(text, "block", "exec", dont_inherit=True), {"__name__": "block"})


def draw_folder(path: Path) -> None:
    """Draw what a block takes for the reader's own pictures."""
    path.mkdir()
    for index, icon in enumerate(draw_icons(60, size=48)):
        write_png(path / f"{index}.png", icon)


@pytest.mark.parametrize("text", [block for block in blocks("python") if block.id.split()[0] not in TUTORIALS])
def test_python_blocks_run(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if '"my_icons"' in text:
        draw_folder(tmp_path / "my_icons")
    if "importers.load" in text:
        write_ig2(tmp_path)
    if "save_page" in text:
        write_package(tmp_path / "onnxruntime-web")
    if "save_onnx" in text or "save_page" in text:
        for package in ("onnxscript", "onnxruntime"):
            pytest.importorskip(package, reason="needs the extra export, and onnxruntime")
    run_twice(text)


@pytest.mark.parametrize("path", TUTORIALS)
def test_tutorials_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_twice("".join(text for name, _, language, text in BLOCKS if name == path and language == "python"))


def test_a_loop_of_ones_own_takes_under_40_lines():
    (text,) = [text for path, *_, text in BLOCKS if path == "README.md" and "wgan_gp_loss(critic" in text]
    assert len(text.strip().splitlines()) < 40


@pytest.mark.parametrize("text", blocks("sh"))
def test_commands_exist(text):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in text.strip().splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] == "make":
            assert words[1] in targets
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file()
            if words[1].endswith("train.py"):
                train.argument_parser().parse_args(words[2:])
        elif words[0] == "progan":
            named = [word for word in words[1:] if word not in ("--config", "train.toml")]
            program.parse(program.build_parser(), named[: named.index(">")] if ">" in named else named)
        else:
            assert words[:2] in (["pip", "install"], ["pip", "download"], ["tar", "-xzf"], ["cd", "progan-*/"])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_and_pictures_are_there(path):
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target.split("#")[0]).exists(), target


def test_nothing_speaks_of_where_it_was_made():
    kinds = ("**/*.md", "**/*.py", "**/*.yml", "**/*.yaml", "*.cff", "*.t*", "Makefile")
    for path in (path for kind in kinds for path in ROOT.glob(kind)):
        if not {".venv", "runs"} & set(path.relative_to(ROOT).parts):
            assert not re.search(r"/(?:work|home|root)/|@[A-Z]{4,}@", path.read_text()), path
