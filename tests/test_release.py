"""A release: one version, files that hold what they should, workflows that run nothing unknown."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import progan

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github/workflows").iterdir())
in_a_checkout = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout of git's")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the source distribution and the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    for builder in (SdistBuilder, WheelBuilder):
        assert len(list(builder(str(ROOT)).build(directory=str(folder), versions=["standard"]))) == 1
    return folder


def test_the_version_stands_once_and_is_the_changelogs_top():
    assert PROJECT["dynamic"] == ["version"]
    assert "\nversion:" not in (ROOT / "CITATION.cff").read_text()
    headings = re.findall(r"^## \[(.+)\] - (?:unreleased|\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0] == progan.__version__


@in_a_checkout
def test_the_source_distribution_holds_what_git_does(built):
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names == {*files, "PKG-INFO"}


def test_the_wheel_holds_the_package_alone(built):
    (path,) = built.glob("*.whl")
    assert path.name == f"progan-{progan.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"progan-{progan.__version__}.dist-info/METADATA").decode()
    package = {path for path in (ROOT / "src").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    described = {name for name in names if ".dist-info/" in name}
    assert names - described == {path.relative_to(ROOT / "src").as_posix() for path in package}
    assert {name.partition("/")[2] for name in described} == {
        *("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }
    required = re.findall(r"^Requires-Dist: (.+)$", metadata, re.M)
    assert [one for one in required if "extra ==" not in one] == ["numpy", "torch>=2.6", "typing-extensions"]


def run_steps(workflow: dict) -> list[str]:
    """Return the commands of a workflow."""
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_known_actions_with_few_rights(path):
    text = path.read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    assert all("permissions" in job for job in workflow["jobs"].values())
    assert "secrets." not in text
    found = (ROOT / "RELEASING.md").read_text()
    for action in re.findall(r"uses: (.+)", text):
        pinned = re.fullmatch(r"([\w/-]+)@[0-9a-f]{40} # v([\d.]+)", action)
        assert pinned, f"{action} is not pinned to a hash"
        assert f"| {pinned[1]} | {pinned[2]} |" in found, f"RELEASING.md does not say where {action} was found"
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    for command in run_steps(workflow):
        assert "${{" not in command
        assert set(re.findall(r"^make ([\w-]+)", command, re.M)) <= set(targets)


def test_every_supported_python_is_tested():
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())
    listed = [found[1] for one in PROJECT["classifiers"] if (found := re.fullmatch(r"Programming.* :: (3\.\d+)", one))]
    assert PROJECT["requires-python"] == f">={listed[0]}"
    for job in ("gate", "tests"):
        assert workflow["jobs"][job]["strategy"]["matrix"]["python"] == listed


def test_nothing_is_invented():
    """No address of progan's own."""
    kinds = ("*.md", "*.toml", "*.cff", ".*.yaml", "docs/**/*.md", ".github/**/*.yml", "src/**/*.py")
    listed = [path for kind in kinds for path in ROOT.glob(kind)]
    assert len(listed) > 80
    for path in listed:
        assert not re.search(r"https?://\S*progan\S*|[\w.]+@[\w-]+\.\w+", path.read_text()), path


NEEDS_PILLOW = """
import sys
sys.modules["PIL"] = sys.modules["tqdm"] = None  # as if they were not installed
from pathlib import Path
from progan import ImageFolder
from progan.data import Curation, Reading, check, curate, pack, read_image
Path("a.png").touch()
Path("list.txt").touch()
for name, read in {
    "ImageFolder": lambda: ImageFolder(".", 8),
    "read_image": lambda: read_image("a.png", Reading(8)),
    "check": lambda: check("."),
    "curate": lambda: curate("."),
    "Curation.load": lambda: Curation.load("list.txt", "."),
    "pack": lambda: pack(".", "there.pack", 8),
}.items():
    try:
        read()
    except ImportError as error:
        assert str(error) == 'pictures are read with Pillow; install it: pip install "progan[images]"', (name, error)
    else:
        raise SystemExit(f"{name} did without Pillow")
"""


def test_a_missing_extra_is_named(tmp_path):
    """Of all; `progress` is not missed: without tqdm there are lines; for `tensorboard` see
    test_trackers, for `fidelity` test_inception, for `completion` test_program, for
    `export` test_onnx, for `hub` test_program.
    """
    extras = {"completion", "export", "hub", "images", "progress", "tensorboard", "fidelity", "all"}
    assert set(PROJECT["optional-dependencies"]) == extras
    done = subprocess.run([sys.executable, "-c", NEEDS_PILLOW], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
