"""The site says all there is to say of the public names, and only what is true of the presets."""

from __future__ import annotations

import ast
import inspect
import re
import types

import pytest
from conftest import ROOT

import progan
import progan.data
from progan import export, importers, metrics, presets, reports

REFERENCE = ROOT / "docs/reference"
PAGES = {path.stem: path.read_text() for path in sorted(REFERENCE.glob("*.md")) if path.stem != "index"}
ROOMS = {"progan.data": progan.data, "progan.metrics": metrics, "progan.reports": reports}
ROOMS |= {"progan.export": export, "progan.importers": importers}  # each with names of its own
IN_ROOMS = {name for room in ROOMS.values() for name in room.__all__}
PRESETS = ["few_images", "mel_icon", "karras2018"]
PUBLIC = sorted({*progan.__all__, *IN_ROOMS, *PRESETS} - {"presets", "export", "metrics", "reports"})


def public(name: str) -> object:
    """Return what a public name stands for."""
    (found,) = {getattr(room, name) for room in (progan, *ROOMS.values(), presets) if hasattr(room, name)}
    return found


def entries(page: str) -> list[str]:
    """Return the names that a page of the reference has entries for."""
    names = re.findall(r"^\.\. auto(?:class|exception|function):: (\w+)$", PAGES[page], re.MULTILINE)
    for members in re.findall(r"^   :members: (.+)$", PAGES[page], re.MULTILINE):
        names += members.split(", ")
    return names


def examples(text: str) -> str:
    """Return the Python blocks of a text."""
    return "".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


def members(kind: type) -> list[tuple[str, object]]:
    """Return the methods and properties that a class of progan, or a base of progan's, brings."""
    found = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("progan"):
            found |= {name: getattr(kind, name) for name, value in vars(base).items() if is_member(name, value)}
    return sorted(found.items())


def is_member(name: str, value: object) -> bool:
    kinds = (types.FunctionType, property, classmethod, staticmethod)
    return isinstance(value, kinds) and not name.startswith("_")


def test_every_public_name_has_one_entry():
    assert sorted(name for page in PAGES for name in entries(page)) == PUBLIC


def test_the_index_lists_every_public_name():
    rows = [line.split("|")[1:3] for line in (REFERENCE / "index.md").read_text().splitlines() if "](" in line]
    assert {re.search(r"\((\w+)\.md\)", page)[1] for page, _ in rows} == set(PAGES)
    for page, listed in rows:
        names = [name.removeprefix("presets.") for name in re.findall(r"`([\w.]+)`", listed) if name not in ROOMS]
        assert sorted(names) == sorted(entries(re.search(r"\((\w+)\.md\)", page)[1]))


@pytest.mark.parametrize("page", PAGES)
def test_every_public_name_has_an_example(page):
    for name in entries(page):
        in_docstring = "Example:" in (public(name).__doc__ or "")
        assert in_docstring or re.search(rf"\b{name}\b", examples(PAGES[page])), f"{name} has no example"


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_member_has_a_docstring(name):
    kind = public(name)
    assert inspect.getdoc(kind)
    if isinstance(kind, type):
        for member, value in members(kind):
            assert inspect.getdoc(value), f"{name}.{member} has no docstring"


@pytest.mark.parametrize("preset", PRESETS)
def test_the_tables_of_the_presets_are_theirs(preset):
    recipe = getattr(presets, preset)()
    page = PAGES["presets"]
    assert f"```text\n{recipe.schedule.table()}\n```" in page
    rows = re.findall(r"^\| `(\w+)` \| `(.+)` \| `(.+)` \| `(.+)` \|$", page, re.MULTILINE)
    shown = {row[0]: row[1 + PRESETS.index(preset)] for row in rows}
    settings = vars(recipe.architecture) | vars(recipe.training)
    assert shown == {name: repr(value) for name, value in settings.items()}


def words_of_the_source() -> str:
    """Return all texts in progan, a line each, with three dots for what is filled in."""
    texts = []
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "..." for part in node.values]
                texts.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def test_what_is_quoted_is_said():
    quoted = re.findall(r"^> (.+)$", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    words = words_of_the_source()
    assert len(quoted) > 5
    assert [each for each in quoted if each not in words] == []
