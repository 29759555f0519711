"""The page as files: its parts, what is refused, and that nothing is lost; what it draws: test_page_in_browser."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace

import pytest
import torch
from conftest import small_recipe
from npm_package import FILES, write_package

from progan import Classes, GrownGenerator, export, load_generator, presets
from progan.export.page_directions import directions_of_change
from progan.render import read_png

HOSTILE = "</script><script>alert('1')</script>"


def grown_of(level: int = 1, preset=presets.mel_icon, **settings) -> GrownGenerator:
    recipe = small_recipe(preset)
    recipe = replace(recipe, architecture=replace(recipe.architecture, **settings))
    return GrownGenerator(recipe.build(seed=3)[0], level)


@pytest.fixture
def _onnx():
    pytest.importorskip("onnx", reason="needs the extra export")
    pytest.importorskip("onnxscript", reason="needs the extra export")


@pytest.fixture
def runtime(tmp_path, _onnx):
    return write_package(tmp_path / "package")


def facts_of(text: str) -> dict:
    """What the page knows of its generator."""
    (found,) = re.findall(r'<script type="application/json" id="facts">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def test_a_folder_has_all_that_it_needs(runtime, tmp_path):
    grown = grown_of(2)
    page = export.save_page(grown, tmp_path / "page", runtime=runtime, title="My icons")
    files = {each.relative_to(page.path).as_posix(): each.read_bytes() for each in page.path.rglob("*.*")}
    model = export.save_onnx(grown, tmp_path / "icons.onnx").path.read_bytes()
    assert files.pop("model.onnx") == model
    facts = facts_of(files["index.html"].decode())
    for name, contents in FILES.items():
        packed = files[facts["files"][name]]
        assert (gzip.decompress(packed) if name.endswith(".wasm") else packed) == contents
    assert set(files) == {*facts["files"].values(), "index.html", "LICENSES.txt"} - {"model.onnx"}
    assert (page.size, page.model_size) == (sum(map(len, files.values())) + len(model), len(model))
    assert (page.image_size, page.precision) == ((16, 16), "fp32")
    assert b"onnxruntime-web 1.99.0" in files["LICENSES.txt"]
    assert b"<title>My icons</title>" in files["index.html"]
    for name, contents in {**files, "model.onnx": model}.items():
        assert name == "LICENSES.txt" or not re.search(rb"(https?:)?//\w+\.\w", contents), name


def test_one_file_has_everything_inside(runtime, tmp_path):
    page = export.save_page(grown_of(), tmp_path / "icons.html", single_file=True, runtime=runtime)
    text = page.path.read_text()
    facts = facts_of(text)
    inside = {
        name: base64.b64decode(re.search(f'<script type="text/plain" id="{place}">(.*?)<', text)[1])
        for name, place in facts["files"].items()
    }
    assert inside.pop("model.onnx") == export.save_onnx(grown_of(), tmp_path / "a.onnx").path.read_bytes()
    assert {name: gzip.decompress(each) if each[:1] == b"\x1f" else each for name, each in inside.items()} == {
        name: contents for name, contents in FILES.items() if "webgpu" not in name and "asyncify" not in name
    }
    assert "Copyright (c) Microsoft Corporation" in text
    assert page.size == page.path.stat().st_size


@pytest.mark.parametrize("single_file", [False, True])
def test_the_page_runs_its_own_script_only(runtime, single_file, tmp_path):
    to = tmp_path / ("page.html" if single_file else "page")
    export.save_page(grown_of(), to, runtime=runtime, single_file=single_file)
    text = (to if single_file else to / "index.html").read_text()
    (script,) = re.findall(r'<script type="module">(.*?)</script>', text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # A file on a disk imports its library from its own text, as it has no server.
    assert f"script-src 'sha256-{digest}' 'wasm-unsafe-eval' {'data' if single_file else 'blob'}:;" in text
    assert "default-src 'none';" in text
    assert f"connect-src '{'none' if single_file else 'self'}';" in text


def test_texts_of_users_are_only_texts(runtime, tmp_path):
    grown = grown_of(1, presets.few_images, classes=2)
    grown = GrownGenerator(grown.generator, 1, classes=Classes((3, 1), (HOSTILE, "dogs")))
    said = f"{HOSTILE}\ud800"  # half a character
    source = export.save_generator(grown, tmp_path / "icons.safetensors", licence=said, note=said)
    text = (export.save_page(source, tmp_path / "page", runtime=runtime, title=HOSTILE).path / "index.html").read_text()
    assert rf"{HOSTILE}\ud800" in (tmp_path / "page" / "LICENSES.txt").read_text()
    assert "<script>alert" not in text
    assert facts_of(text)["classes"] == {"names": [HOSTILE, "dogs"], "counts": [3, 1]}


@pytest.mark.parametrize(
    ("settings", "channels", "size"),
    [
        ({"image_channels": 4}, 4, [8, 8]),
        ({"base_size": (6, 4), "latent_shape": (5, 6, 4), "image_channels": 1}, 1, [12, 8]),
        ({"preset": presets.few_images, "classes": 3}, 3, [8, 8]),
    ],
    ids=["RGBA", "grey 3:2", "classes"],
)
def test_stored_pictures_are_the_first_samples(runtime, settings, channels, size, tmp_path):
    grown = grown_of(**settings)
    page = export.save_page(grown.of_class(2) if grown.classes else grown, tmp_path / "page", runtime=runtime)
    facts = facts_of((page.path / "index.html").read_text())
    assert (facts["channels"], facts["size"]) == (channels, size)
    classes = {"names": ["class 0", "class 1", "class 2"], "counts": [1, 1, 1]}
    assert facts["classes"] == (classes if grown.classes else None)
    (tmp_path / "sheet.png").write_bytes(base64.b64decode(facts["sheet"]["uri"].split(",")[1]))
    sheet, samples = read_png(tmp_path / "sheet.png"), grown.sample(12)
    for k in (0, 5):
        top, left = k // 4 * size[0], k % 4 * size[1]
        shown = sheet[:, top : top + size[0], left : left + size[1]] / 255
        torch.testing.assert_close(shown, samples[k], rtol=0, atol=0.6 / 255)


def test_pictures_that_are_drawn_larger(runtime, tmp_path):
    grown = grown_of(preset=presets.few_images, supersampling=2)
    page = export.save_page(grown, tmp_path / "page", runtime=runtime, enlarge=3)
    text = (page.path / "index.html").read_text()
    facts = facts_of(text)
    assert (page.image_size, facts["size"]) == ((24, 24), [24, 24])
    assert "Pictures of 24x24 pixels" in text
    assert "--seed 5 --only 3 --enlarge 3 --out pictures" in text
    model = export.save_onnx(grown.enlarged(3), tmp_path / "icons.onnx").path
    assert (page.path / "model.onnx").read_bytes() == model.read_bytes()
    (tmp_path / "sheet.png").write_bytes(base64.b64decode(facts["sheet"]["uri"].split(",")[1]))
    first = read_png(tmp_path / "sheet.png")[:, :24, :24] / 255
    torch.testing.assert_close(first, grown.enlarged(3).sample(1)[0], rtol=0, atol=0.6 / 255)


def test_a_run_and_its_file_give_the_same_page(runtime, tmp_path):
    grown = grown_of()
    export.save_generator(grown, tmp_path / "icons.safetensors")
    first = export.save_page(tmp_path / "icons.safetensors", tmp_path / "a", runtime=runtime).path
    second = export.save_page(load_generator(tmp_path / "icons.safetensors"), tmp_path / "b", runtime=runtime).path
    assert (first / "model.onnx").read_bytes() == (second / "model.onnx").read_bytes()
    texts = [(page / "index.html").read_text() for page in (first, second)]
    assert facts_of(texts[0])["directions"] == facts_of(texts[1])["directions"]
    assert "<title>icons</title>" in texts[0]


def test_pages_are_replaced_and_nothing_else(runtime, tmp_path, monkeypatch):
    target = tmp_path / "page"
    target.mkdir()
    export.save_page(grown_of(), target, runtime=runtime)  # an empty folder may be filled
    with pytest.raises(FileExistsError, match="page exists; pass overwrite=True or another path"):
        export.save_page(grown_of(), target, runtime=runtime)
    export.save_page(grown_of(), target, runtime=runtime, title="second", overwrite=True)
    assert "<title>second</title>" in (target / "index.html").read_text()
    monkeypatch.chdir(target)
    with pytest.raises(FileExistsError, match=r"\. is the current directory, which a new folder would replace; pass"):
        export.save_page(grown_of(), ".", runtime=runtime, overwrite=True)
    monkeypatch.chdir(tmp_path)
    (target / "CNAME").write_text("mine")
    with pytest.raises(FileExistsError, match="not only a page of progan's"):
        export.save_page(grown_of(), target, runtime=runtime, overwrite=True)
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(FileExistsError, match=r"mine\.html exists and is not only a page"):
        export.save_page(grown_of(), tmp_path / "mine.html", runtime=runtime, single_file=True, overwrite=True)
    assert {each.name for each in tmp_path.iterdir()} == {"page", "package", "mine.html"}


@pytest.mark.parametrize("single_file", [False, True])
def test_nothing_is_half_written(runtime, single_file, tmp_path, hooked):
    target = tmp_path / ("page.html" if single_file else "page")
    export.save_page(grown_of(), target, runtime=runtime, single_file=single_file)
    before = {each: each.read_bytes() for each in tmp_path.rglob("*.*") if each.is_file()}

    def hook(operation, path):
        if operation == "replace" and "partial" in path.name and path.parent == tmp_path:
            raise OSError(28, "No space left on device", str(path))

    hooked(hook)
    with pytest.raises(OSError, match="No space left"):
        export.save_page(grown_of(0), target, runtime=runtime, single_file=single_file, overwrite=True)
    assert {each: each.read_bytes() for each in tmp_path.rglob("*.*") if each.is_file()} == before


def test_wrong_use(tmp_path):
    for path, keywords, said in [
        ("page.html", {}, r"a page is a folder, got .*page\.html; pass single_file=True"),
        ("page", {"single_file": True}, r"a page of a single file must end in \.html, got .*page"),
        ("page", {"precision": "int8"}, "precision must be one of fp32, fp16, got 'int8'"),
        ("page", {"title": " "}, "title must be a text of 1 to"),
    ]:
        with pytest.raises(ValueError, match=said):
            export.save_page(grown_of(), tmp_path / path, **keywords)
    with pytest.raises(NotADirectoryError, match="no is not a directory; make it first"):
        export.save_page(grown_of(), tmp_path / "no/page")
    with pytest.raises(TypeError, match="overwrite must be"):
        export.save_page(grown_of(), tmp_path / "page", overwrite=1)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_too_large_for_one_file(runtime, tmp_path, monkeypatch):
    monkeypatch.setattr("progan.export.page._LARGEST_IN_ONE", 1000)
    with pytest.raises(ValueError, match=r"one HTML file takes at most 0 MB; write a folder, or use precision='fp16'"):
        export.save_page(grown_of(), tmp_path / "page.html", runtime=runtime, single_file=True)


def test_directions_of_a_linear_generator_are_its_eigenvectors():
    strengths = torch.tensor([9.0, 6.0, 4.0, *[0.5] * 9])
    axes = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1))).Q
    matrix = torch.randn(12, 12, generator=torch.Generator().manual_seed(2))
    matrix = torch.linalg.qr(matrix).Q @ torch.diag(strengths) @ axes.T  # the eigenvectors of A^T A are the axes
    found = directions_of_change(lambda z, which: (z.flatten(1) @ matrix.T).reshape(-1, 1, 3, 4), (3, 2, 2), 3)
    assert found.shape == (3, 3, 2, 2)
    flat = found.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(3), rtol=0, atol=1e-5)
    assert (flat @ axes[:, :3]).abs().diagonal().min() > 0.97
    assert (flat.gather(1, flat.abs().argmax(1, keepdim=True)) > 0).all()
