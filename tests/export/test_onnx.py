"""Generators as ONNX models: the images of onnxruntime against torch's, and what is missing or refused."""

from __future__ import annotations

import builtins
import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import small_recipe
from running import make

from progan import GrownGenerator, export, load_generator, presets

KINDS = {
    "mel_icon": {},
    "karras2018": {"preset": presets.karras2018},
    "modulation": {"preset": presets.few_images},
    "drawn sharply": {"preset": presets.few_images, "sharpness": 4.0, "supersampling": 2},
    "classes and modulation": {"preset": presets.few_images, "classes": 3},
    "grey": {"preset": presets.karras2018, "image_channels": 1},
    "RGBA": {"image_channels": 4},
    "3:2": {"base_size": (6, 4), "latent_shape": (5, 6, 4), "classes": 2},
}
SLOW = ("grey", "RGBA", "3:2")  # kinds of which only one level is tried


def grown_of(level: int = 1, preset=presets.mel_icon, **settings) -> GrownGenerator:
    recipe = small_recipe(preset)
    recipe = replace(recipe, architecture=replace(recipe.architecture, **settings))
    return GrownGenerator(recipe.build(seed=3)[0], level)


def run_model(path, z, labels=None) -> np.ndarray:
    """Return the images of a model, as another program would."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime, of the group dev")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {"z": z.numpy()} if labels is None else {"z": z.numpy(), "labels": labels.numpy()}
    (images,) = session.run(["images"], feed)
    return images


@pytest.fixture
def onnx():
    pytest.importorskip("onnxscript", reason="needs the extra export")
    return pytest.importorskip("onnx", reason="needs the extra export")


@pytest.mark.parametrize("kind", KINDS)
def test_the_images_are_torch_s(onnx, kind, tmp_path):
    level = 1 if kind in SLOW else 2
    grown = grown_of(level, **KINDS[kind])
    model = export.save_onnx(grown, tmp_path / "icons.onnx")
    for n in (1, 5):
        z, labels = grown.latents(n), grown.labels(n)
        images = run_model(model.path, z, labels)
        assert images.dtype == np.float32
        np.testing.assert_allclose(images, grown.images(z, labels).numpy(), rtol=0, atol=1e-4)
        assert np.ptp(images) > 0.01


def test_images_that_are_drawn_larger(onnx, tmp_path):
    grown = grown_of(preset=presets.few_images, supersampling=2)
    model = export.save_onnx(grown, tmp_path / "icons.onnx", enlarge=3)
    assert model.outputs == {"images": (None, 3, 24, 24)}
    images = grown.enlarged(3).sample(4)
    np.testing.assert_allclose(run_model(model.path, grown.latents(4)), images.numpy(), rtol=0, atol=1e-4)
    again = export.save_onnx(grown.enlarged(3), tmp_path / "again.onnx")
    assert again.path.read_bytes() == model.path.read_bytes()


@pytest.mark.parametrize("kind", ["mel_icon", "classes and modulation"])
def test_fp16_is_close(onnx, kind, tmp_path):
    grown = grown_of(**KINDS[kind])
    model = export.save_onnx(grown, tmp_path / "icons.onnx", precision="fp16")
    z, labels = grown.latents(5), grown.labels(5)
    images = run_model(model.path, z, labels)
    difference = np.abs(images - grown.images(z, labels).numpy()).max()
    assert images.dtype == np.float32
    assert 0 < difference < 2e-2
    assert model.precision == "fp16"


def test_the_record_says_what_the_model_takes(onnx, tmp_path):
    grown = grown_of(1, presets.few_images, classes=3)
    model = export.save_onnx(grown, tmp_path / "icons.onnx")
    assert model.inputs == {"z": (None, 5), "labels": (None,)}
    assert model.outputs == {"images": (None, 3, 8, 8)}
    assert model.size == model.path.stat().st_size
    proto = onnx.load(model.path)
    onnx.checker.check_model(proto, full_check=True)
    assert [(each.domain, each.version) for each in proto.opset_import] == [("", model.opset)]
    (entry,) = proto.metadata_props
    assert (entry.key, json.loads(entry.value)["level"]) == ("progan", 1)


def test_no_path_of_this_machine_is_in_the_model(onnx, tmp_path):
    contents = export.save_onnx(grown_of(), tmp_path / "icons.onnx").path.read_bytes()
    assert b".py" not in contents
    assert b"/home" not in contents
    assert export.save_onnx(grown_of(), tmp_path / "again.onnx").path.read_bytes() == contents


def test_a_run_and_a_file_give_the_same_model(onnx, images, tmp_path, capfd):
    make(small_recipe(), tmp_path / "run").fit(images, until=64)
    before = logging.getLogger("torch.onnx").level
    capfd.readouterr()
    first = export.save_onnx(tmp_path / "run", tmp_path / "a.onnx")
    file = export.save_generator(tmp_path / "run", tmp_path / "icons.safetensors")
    second = export.save_onnx(file, tmp_path / "b.onnx")
    assert first.path.read_bytes() == second.path.read_bytes()
    grown = load_generator(tmp_path / "run")
    np.testing.assert_allclose(run_model(first.path, grown.latents(3)), grown.sample(3).numpy(), rtol=0, atol=1e-4)
    assert logging.getLogger("torch.onnx").level == before
    assert capfd.readouterr() == ("", "")


def test_nothing_is_half_written(onnx, tmp_path, hooked):
    path = export.save_onnx(grown_of(), tmp_path / "icons.onnx").path
    before = path.read_bytes()

    def hook(operation, path):
        if operation == "fsync":
            raise OSError(28, "No space left on device", str(path))

    hooked(hook)
    with pytest.raises(OSError, match="what was there before is as it was"):
        export.save_onnx(grown_of(0), path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["icons.onnx"]


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_missing_packages_are_named(missing, tmp_path, monkeypatch):
    original = builtins.__import__

    def absent(name, *rest):
        if name.split(".")[0] == missing:
            raise ImportError(f"No module named {name!r}")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r'pip install "progan\[export\]"$'):
        export.save_onnx(grown_of(), tmp_path / "icons.onnx")


def test_wrong_use(tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.onnx, got .*icons\.pt"):
        export.save_onnx(grown_of(), tmp_path / "icons.pt")
    with pytest.raises(ValueError, match="precision must be one of fp32, fp16, got 'int8'"):
        export.save_onnx(grown_of(), tmp_path / "icons.onnx", precision="int8")


def test_what_a_file_cannot_hold_is_refused_here_too(onnx, tmp_path):
    recipe = small_recipe()
    with pytest.raises(ValueError, match=r"level 1 is still fading in \(alpha 0.5\)"):
        export.save_onnx(GrownGenerator(recipe.build()[0], 1, 0.5), tmp_path / "icons.onnx")
    grown = grown_of()
    grown.generator.to_rgb[1].bias.data[0] = torch.nan
    with pytest.raises(ValueError, match="not finite in float32"):
        export.save_onnx(grown, tmp_path / "icons.onnx")
    assert list(tmp_path.iterdir()) == []
