"""The house keeps its order: who imports whom, what the top level offers, what it never does."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT

import progan

SOURCE = ROOT / "src/progan"
STANDARD = sys.stdlib_module_names
TORCH = {"torch", "numpy", "typing_extensions"}

# Arrows run one way; type-only imports count. data.* stands for the room.
MAY_IMPORT: dict[str, set[str]] = {
    "schedule": {"typing_extensions"},
    "files": set(),
    "progress": {"tqdm"},
    "tensor_file": {"torch"},
    "randomness": {"torch", "numpy"},
    "layers": TORCH,
    "augment": {"torch"},
    "losses": {"torch"},
    "averaging": {"torch", "typing_extensions"},
    "checkpoint": {"torch", "numpy", "files", "tensor_file"},
    "run_directory": {"checkpoint", "files"},
    "scoped": {"torch", "recipe"},
    "render": {"torch", "files", "layers"},
    "networks": {*TORCH, "layers", "randomness"},
    "recipe": {"torch", "augment", "layers", "losses", "networks", "randomness", "schedule"},
    "presets": {"augment", "networks", "recipe", "schedule"},
    "data": {*TORCH, "PIL", "files", "layers", "progress", "randomness", "render", "tensor_file"},
    "step": {*TORCH, "averaging", "checkpoint", "layers", "networks", "randomness", "recipe", "schedule"},
    "planning": {*TORCH, "averaging", "networks", "progress", "randomness", "recipe", "schedule", "step"},
    "sampling": {*TORCH, "checkpoint", "networks", "randomness", "recipe"},
    "callbacks": {
        *(TORCH | {"averaging", "files", "networks", "planning", "progress"}),
        *("randomness", "render", "sampling", "schedule", "step"),
    },
}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    """The top-level packages, or rooms of progan, that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            whole = node.module == "progan"
            names = [f"progan.{alias.name}" for alias in node.names] if whole else [node.module or ""]
        for name in names:
            first, *rest = name.split(".")
            found.add(rest[0] if first == "progan" and rest else first)
    return found - STANDARD - {"__future__"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_arrows_run_one_way(path):
    here = room(path)
    if here in ("__init__", "trainer"):
        return  # one may import everything, and nobody imports them: below
    assert imported(path) - {here} <= MAY_IMPORT[here]


def test_nobody_imports_the_trainer():
    importers = [path.name for path in modules() if "trainer" in imported(path)]
    assert importers == ["__init__.py"]


def test_the_arrows_have_no_circle():
    rooms = set(MAY_IMPORT)
    order: list[str] = []
    while len(order) < len(rooms):
        free = [name for name in sorted(rooms - set(order)) if MAY_IMPORT[name] & rooms <= set(order)]
        assert free, f"a circle among {sorted(rooms - set(order))}"
        order += free


def test_the_public_names():
    assert sorted(progan.__all__) == progan.__all__
    for name in progan.__all__:
        assert getattr(progan, name).__doc__, f"{name} has no docstring"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == progan.__version__
    assert f"## [{progan.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
    assert project["dependencies"] == ["torch>=2.6", "numpy", "typing-extensions"]


def test_examples_use_public_names_only():
    public = {"progan": {*progan.__all__}, "progan.data": {*progan.data.__all__}}
    for path in sorted((ROOT / "examples").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "progan":
                assert node.module in public, f"{path.name} imports {node.module}"
                assert {alias.name for alias in node.names} <= public[node.module]
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "progan":
                assert node.attr in public["progan"], f"{path.name} uses progan.{node.attr}"


def test_nothing_that_runs_code_from_files():
    forbidden = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    for path in modules():
        assert not imported(path) & forbidden
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not {alias.name.split(".")[0] for alias in node.names} & forbidden
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "torch.load", "torch.save", "torch.jit.load", "np.load"), path


def test_import_brings_no_extra():
    # torch itself takes tqdm where it is installed
    program = (
        "import sys, torch; had = set(sys.modules); import progan; print({'PIL', 'tqdm'} & set(sys.modules) - had)"
    )
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "set()"
