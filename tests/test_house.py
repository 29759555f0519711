"""The house keeps its order: who imports whom, what the top level offers, what it never does."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT

import progan
from progan import importers

SOURCE = ROOT / "src/progan"
STANDARD = sys.stdlib_module_names
TORCH = {"torch", "numpy", "typing_extensions"}

# What progan may import from outside, anywhere; which room may take which is in pyproject.toml, held by import-linter.
OUTSIDE = {*TORCH, "PIL", "huggingface_hub", "onnx", "onnxscript", "shtab", "torch_fidelity", "tqdm", "triton"}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            found.add((node.module or "").split(".")[0])
    return found - STANDARD - {"__future__"}


def test_nothing_else_is_imported():
    assert {name for path in modules() for name in imported(path)} == {*OUTSIDE, "progan"}


def test_every_room_opens_with_what_it_is():
    for path in SOURCE.rglob("__init__.py"):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert len(docstring.split()) >= 6, path
        if path.parent not in (SOURCE, SOURCE / "data"):
            assert "import" in docstring.lower(), f"{path} does not say what it may import"


def test_the_public_names():
    assert len(set(progan.__all__)) == len(progan.__all__)  # ruff keeps them sorted
    for name in progan.__all__:
        assert getattr(progan, name).__doc__, f"{name} has no docstring"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == ["torch>=2.6", "numpy", "typing-extensions"]


def test_examples_use_public_names_and_what_the_commands_share():
    rooms = (progan, progan.data, progan.export, progan.metrics, progan.reports, importers)
    public = {room.__name__: {*room.__all__} for room in rooms}
    for room in (SOURCE / "cli").glob("*.py"):
        names = {
            node.name for node in ast.parse(room.read_text()).body if isinstance(node, ast.ClassDef | ast.FunctionDef)
        }
        public[f"progan.cli.{room.stem}"] = {name for name in names if not name.startswith("_")}
    for path in sorted((ROOT / "examples").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "progan":
                assert node.module in public, f"{path.name} imports {node.module}"
                assert {alias.name for alias in node.names} <= public[node.module]
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "progan":
                assert node.attr in public["progan"], f"{path.name} uses progan.{node.attr}"


# Ways to run what a file holds.
RUNS_CODE = (
    *("eval", "exec", "compile", "__import__", "runpy", "importlib", "builtins"),
    *("pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"),
    *(
        "torch.load",
        "torch.save",
        "torch.jit",
        "torch.hub",
        "torch.package",
        "torch.serialization",
        "torch.utils.model_zoo",
        "torch.ops.load_library",
        "torch.classes.load_library",
    ),
    *("numpy.load", "numpy.lib.format", "numpy.lib.npyio"),
    *("ctypes", "zipimport", "codeop", "dbm", "yaml", "torch.*", "numpy.*"),
)
# The one place that reads pickles, after a check of its own, and all that it may use of the above.
FOREIGN = SOURCE / "importers/foreign_file.py"
FOREIGN_USES = {"torch.load", "torch.serialization", "torch.serialization.safe_globals"}
# Ways to change the disk.
CHANGES = {
    *("write_text", "write_bytes", "unlink", "rmdir", "mkdir", "makedirs", "rename", "renames", "touch", "chmod"),
    *("symlink_to", "hardlink_to", "symlink", "link", "removedirs", "truncate", "ftruncate", "mkfifo", "rmtree"),
    *("copyfile", "copytree", "copy2", "tofile", "savez", "savetxt"),
}


def dotted(node: ast.AST, names: dict[str, str]) -> str:
    """The full name of what an expression calls, whatever it was imported as; empty where it has none."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        before = dotted(node.value, names)
        return f"{before}.{node.attr}" if before else ""
    if isinstance(node, ast.Call) and dotted(node.func, names) == "getattr" and len(node.args) > 1:
        before, name = dotted(node.args[0], names), node.args[1]
        return f"{before}.{name.value}" if before and isinstance(name, ast.Constant) else ""
    return ""


def imports(tree: ast.AST) -> dict[str, str]:
    """What each imported name stands for, and each that such a one was assigned to."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
            names |= {name: name for name in (alias.name.split(".")[0] for alias in node.names if not alias.asname)}
            names |= {alias.name: alias.name for alias in node.names}  # the whole, to be looked at
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            stands_for = dotted(node.value, names)
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if stands_for.split(".")[0] in names or stands_for in RUNS_CODE:
                names |= {target.id: stands_for for target in targets if isinstance(target, ast.Name)}
    return names


def runs_code(source: str) -> list[str]:
    """The places of a program that could run what a file holds."""
    tree = ast.parse(source)
    names = imports(tree)
    used = [*names.values()]
    used += [dotted(node, names) for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute | ast.Call)]
    nodes = list(ast.walk(tree))
    used += ["allow_pickle" for node in nodes if isinstance(node, ast.keyword) and node.arg == "allow_pickle"]
    used += ["allow_pickle" for node in nodes if isinstance(node, ast.Constant) and node.value == "allow_pickle"]
    return [name for name in used if any(f"{name}.".startswith(f"{bad}.") for bad in (*RUNS_CODE, "allow_pickle"))]


def loads_weights_only(source: str) -> bool:
    """Whether a program calls torch.load once, with a literal weights_only=True, and adds one class without code."""
    tree = ast.parse(source)
    names = imports(tree)
    calls: dict[str, list[ast.Call]] = {"torch.load": [], "torch.serialization.safe_globals": []}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := dotted(node.func, names)) in calls:
            calls[name].append(node)
    if sorted(runs_code(source)) != sorted(FOREIGN_USES) or [len(found) for found in calls.values()] != [1, 1]:
        return False
    (load,), (added,) = calls.values()
    options = {option.arg: ast.unparse(option.value) for option in load.keywords}
    settings = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings"]
    return (
        len(load.args) == 1
        and options == {"map_location": "'cpu'", "weights_only": "True"}
        and [ast.unparse(argument) for argument in added.args] == ["[(Settings, SETTINGS)]"]
        and not added.keywords
        and len(settings) == 1
        and [type(node) for node in settings[0].body] == [ast.Expr]  # its docstring
        and not (settings[0].bases or settings[0].keywords or settings[0].decorator_list)
    )


def changes_the_disk(source: str) -> list[str]:
    """The calls of a program that could write, move or remove files."""
    tree = ast.parse(source)
    names = imports(tree)
    found = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = dotted(call.func, names)
        last = call.func.attr if isinstance(call.func, ast.Attribute) else name.split(".")[-1]
        texts = [
            node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        writes = any(set(text) <= set("rwaxbt+") and set(text) & set("wax+") for text in texts)
        flags = {node.attr for node in ast.walk(call) if isinstance(node, ast.Attribute)}
        if (
            last in CHANGES
            or name in ("os.replace", "os.remove", "shutil.move")
            or (last == "replace" and len(call.args) == 1 and not call.keywords)  # of a path; of a text it takes two
            or (last in ("open", "fdopen", "memmap") and (writes or flags & {"O_WRONLY", "O_RDWR", "O_CREAT"}))
        ):
            found.append(ast.unparse(call))
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_nothing_runs_code_from_files(path):
    if path == FOREIGN:
        assert loads_weights_only(path.read_text())
    else:
        assert runs_code(path.read_text()) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("weights_only=True", "weights_only=False"),
        ("weights_only=True", "weights_only=flag"),
        ("weights_only=True", "weights_only=not False"),
        (", weights_only=True", ""),
        ("weights_only=True", "weights_only=True, pickle_module=reader"),
        ("weights_only=True", "**{'weights_only': True}"),
        ('map_location="cpu"', "map_location=function"),
        ("return contents", "return torch.load(file, map_location='cpu', weights_only=True)"),
        ("return contents", "return (torch.load)"),
        ("return contents", "torch.serialization.add_safe_globals([print])"),
        ("[(Settings, SETTINGS)]", "[print]"),
        ("[(Settings, SETTINGS)]", "[(Settings, SETTINGS), print]"),
        ("class Settings:", "class Settings(dict):"),
        ("class Settings:", "class Settings:\n    __setstate__ = print\n"),
        ("import zipfile", "import zipfile, pickle"),
    ],
)
def test_the_one_load_is_looked_at(old, new):
    source = FOREIGN.read_text()
    assert loads_weights_only(source)
    assert source.count(old) == 1
    assert not loads_weights_only(source.replace(old, new))


def test_ruff_looks_for_code_from_files_too():
    """S301: pickle and its kind; S302: marshal; S307: eval. In progan itself no line is let off."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    let_off = [*settings["ignore"], *(rule for rules in settings["per-file-ignores"].values() for rule in rules)]
    for rule in ("S301", "S302", "S307"):
        assert any(rule.startswith(chosen) for chosen in settings["select"])
        assert not any(rule.startswith(ignored) for ignored in let_off)
    for path in modules():
        assert not re.search(r"noqa(?!:)|noqa:.*\bS3", path.read_text()), path


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_one_module_changes_the_disk(path):
    if path.name != "files.py":
        assert changes_the_disk(path.read_text()) == []


@pytest.mark.parametrize(
    "program",
    [
        "import pickle as p",
        "from torch import load as read\nread('a')",
        "import torch as t\nt.load('a', weights_only=True)",
        "import torch\nread = torch.jit.load",
        "import torch.serialization",
        "import numpy as np\nnp.load('a')",
        "from numpy import lib\nlib.format.read_array(f)",
        "f(x, allow_pickle=False)",
        "import importlib as i\ni.import_module('a')",
        "eval('1')",
        "run = eval\nrun('1')",
        "import marshal as m\nm.loads(b'')",
        "from shelve import open as shelf\nshelf('a')",
        "from pickle import Unpickler as Reader",
        "import _pickle",
        "from torch import jit as j\nj.load('a')",
        "from torch.jit import load as read",
        "import torch\nlibrary = torch\nlibrary.load('a')",
        "import torch\nif read := torch.load:\n    read('a')",
        "import torch\ngetattr(torch, 'load')('a')",
        "import torch\nj = getattr(torch, 'jit')\nj.load('a')",
        "from torch import *\nload('a')",
        "from numpy import load as read\nread('a', allow_pickle=True)",
        "import numpy as n\nn.load('a', mmap_mode='r')",
        "read(path, **{'allow_pickle': True})",
    ],
)
def test_ways_to_run_code_are_seen(program):
    assert runs_code(program)


@pytest.mark.parametrize(
    "program",
    [
        "open('a', 'w')",
        "open(path, mode='r+b')",
        "path.open('ab')",
        "path.write_bytes(b'')",
        "from shutil import rmtree as clear\nclear('a')",
        "import os as o\no.replace(a, b)",
        "path.replace(other)",
        "import os\nos.open('a', os.O_WRONLY)",
        "import numpy as np\nnp.memmap('a', 'uint8', 'w+')",
        "path.unlink(missing_ok=True)",
    ],
)
def test_ways_to_change_the_disk_are_seen(program):
    assert changes_the_disk(program)


def test_import_brings_no_extra():
    # torch itself takes tqdm where it is installed
    program = (
        "import sys, torch; had = set(sys.modules); import progan; "
        "print({'PIL', 'onnx', 'torch_fidelity', 'tqdm'} & set(sys.modules) - had)"
    )
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "set()"


# What a reader of the mathematics meets nowhere: devices, kinds of CPU, caches, compilers.
TUNING = re.compile(
    r"\b(devices?\.type|\.device\b|is_(cuda|cpu|mps|compiling)|cuda|cpu|\w*avx\w*|onednn|triton|_foreach\w*|\w*cached?\w*)\b",
    re.IGNORECASE,
)
DEVICE = re.compile(r"\b(devices?\.type|\.device\b|is_(cuda|cpu|mps)|cuda|mps|cpu)\b", re.IGNORECASE)
MATHEMATICS = [
    *(path for path in sorted((SOURCE / "networks").glob("*.py")) if path.name != "fused.py"),
    *sorted((SOURCE / "losses").glob("*.py")),
    *sorted((SOURCE / "augment").glob("*.py")),
]
# What somebody reads who wants to know how a recipe becomes a step: with the default parts, without their alternatives
# and the refusals of settings.
ALTERNATIVES = ("logistic.py", "zero_centered.py", "colour.py", "classes.py", "palette.py", "drawing.py", "patches.py")
READING = [
    *(path for path in MATHEMATICS if path.name not in (*ALTERNATIVES, "architecture_checks.py")),
    *(SOURCE / "networks/fused.py", SOURCE / "recipe.py", SOURCE / "training/step.py"),
]


@pytest.mark.parametrize("path", MATHEMATICS, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_mathematics_names_no_device(path):
    assert [line for line in path.read_text().splitlines() if TUNING.search(line)] == []


def lines_of_code(path: Path) -> int:
    """The lines of a file without those that are blank, a comment, or of a docstring."""
    source = path.read_text()
    documentation: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            documentation |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            code |= set(range(token.start[0], token.end[0] + 1)) if token.string else set()
    return len(code - documentation)


def test_from_a_recipe_to_a_step_is_one_sitting():
    assert sum(map(lines_of_code, READING)) <= 1300
    for path in READING:
        if path.name != "fused.py":
            assert [line for line in path.read_text().splitlines() if DEVICE.search(line)] == [], path


def test_lines_of_code(tmp_path):
    source = [
        '"""A file."""',
        "",
        "# why",
        "x = [",
        "    1,",
        "]",
        "def f():",
        '    """Two',
        '    lines."""',
        "    pass",
    ]
    (tmp_path / "file.py").write_text("\n".join(source))
    assert lines_of_code(tmp_path / "file.py") == 5


def test_no_room_is_long():
    assert [path for path in modules() if len(path.read_text().splitlines()) > 400] == []


@pytest.mark.parametrize(
    "line",
    [
        'if x.device.type == "cpu":',
        "if x.is_cuda:",
        "torch._foreach_mul(a, b)",
        "if torch.compiler.is_compiling():",
        "with weight_cache():",
        "noise.to(x.device)",
        "from functools import cache",
        "if has_avx512():",
    ],
)
def test_tuning_is_seen(line):
    assert TUNING.search(line)
