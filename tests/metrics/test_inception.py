"""The Inception numbers: what progan does itself, and torch-fidelity where it is installed, with random weights."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from drawn import drawings
from torch.testing import assert_close

from progan.metrics import InceptionScores, inception_features, inception_scores, kernel_distance
from progan.metrics.features import features_of
from progan.metrics.images import ImageSet
from progan.metrics.inception import rgb_bytes


@pytest.mark.parametrize("call", [inception_features, lambda: inception_scores(drawings(10), drawings(10, seed=1))])
def test_without_torch_fidelity_an_error_says_what_to_install(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ImportError, match=r'^FID, KID .* need torch-fidelity; .* pip install "progan\[fidelity\]"$'):
        call()


def test_a_torchvision_of_another_torch_is_named(monkeypatch):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "torch_fidelity":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.delitem(sys.modules, "torch_fidelity", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(ImportError, match=r"nms does not exist\); install the torchvision that belongs to torch \d"):
        inception_features()


def test_every_byte_reaches_the_network_as_it_is():
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert_close(rgb_bytes(every / 255), every.expand(1, 3, 16, 16), rtol=0, atol=0)
    colours = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert_close(rgb_bytes(colours / 255), colours, rtol=0, atol=0)


def test_transparent_images_lie_over_white():
    image = torch.tensor([0.2, 0.4, 0.6, 0.0]).view(1, 4, 1, 1).repeat(3, 1, 1, 1)
    image[1:, 3] = torch.tensor([0.5, 1.0]).view(2, 1, 1)
    assert rgb_bytes(image).flatten(1).tolist() == [[255, 255, 255], [153, 178, 204], [51, 102, 153]]


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), TypeError, r"floats in \[0, 1\], got torch.uint8"),
        (torch.zeros(1, 2, 16, 16), ValueError, r"1, 3 or 4 channels, got \(1, 2, 16, 16\)"),
        (torch.zeros(3, 16, 16), ValueError, r"must be \(B, C, H, W\)"),
        (np.zeros((1, 3, 16, 16)), TypeError, "pass torch.from_numpy"),
    ],
)
def test_what_is_no_batch_of_images(images, error, message):
    with pytest.raises(error, match=message):
        rgb_bytes(images)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fake": drawings(9)}, ValueError, "fake must be at least 10 images, got 9"),
        ({"fake": drawings(10, 16, 16)}, ValueError, "must have one size"),
        ({"seed": 0.5}, TypeError, "seed must be an int"),
        ({"weights": 3}, TypeError, "weights must be a path, or None for the download, got 3"),
        ({"device": "no"}, ValueError, "device 'no' cannot be used here: .*; pass device='cpu'"),
    ],
)
def test_wrong_arguments(options, error, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", torch)  # it is not reached
    with pytest.raises(error, match=message):
        inception_scores(**({"real": drawings(10), "fake": drawings(10)} | options))


@pytest.fixture
def fidelity():
    return pytest.importorskip("torch_fidelity", reason="needs the extra fidelity")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Random weights, in a file like torch-fidelity's: a dict of tensors."""
    fidelity = pytest.importorskip("torch_fidelity", reason="needs the extra fidelity")
    network_class = fidelity.FeatureExtractorInceptionV3
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        patch.setattr(fidelity.feature_extractor_inceptionv3, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(network_class, "load_state_dict", lambda *_: None)
        network = network_class("inception-v3-compat", ["2048"])
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        torch.nn.init.normal_(network.fc.weight, std=0.02)
    torch.save(dict(network.state_dict()), path)
    return path


class Bytes(torch.utils.data.Dataset):
    """A data set as torch-fidelity takes it."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def test_the_features_are_those_of_the_network(fidelity, weights):
    images = drawings(18, 24, 32)  # more than one batch
    network = fidelity.FeatureExtractorInceptionV3("any", ["2048"], feature_extractor_weights_path=weights)
    features = inception_features(weights=weights, device="cpu")
    found = features_of(ImageSet("real", images), features)
    assert found.shape == (18, 2048)
    assert found.std(dim=0).mean() > 0.01
    assert_close(found.float(), network(images)[0], rtol=1e-4, atol=1e-5)
    grey = images[:2, :1]
    assert_close(features(grey / 255), network(grey.repeat(1, 3, 1, 1))[0], rtol=1e-4, atol=1e-5)


def test_the_scores_are_torch_fidelitys(fidelity, weights, tmp_path, monkeypatch):
    """And neither random states, nor the environment, nor torch's cache change."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    real, fake = drawings(20), (drawings(24, seed=1) // 2)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), dict(os.environ)
    found = inception_scores(Bytes(real), fake, weights=weights, device="cpu")
    assert_close(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), dict(os.environ)) == before[1:]
    assert list(tmp_path.iterdir()) == []

    expected = fidelity.calculate_metrics(
        input1=Bytes(fake),
        input2=Bytes(real),
        isc=True,
        fid=True,
        kid=True,
        kid_subset_size=20,
        feature_extractor_weights_path=weights,
        cuda=False,
        save_cpu_ram=True,
        cache=False,
        verbose=False,
    )
    names = ("frechet_inception_distance", "kernel_inception_distance_mean", "kernel_inception_distance_std")
    names += ("inception_score_mean", "inception_score_std")
    assert isinstance(found, InceptionScores)
    assert min(found.fid, found.kid_std) > 0
    for value, name in zip((found.fid, found.kid, found.kid_std, found.isc, found.isc_std), names, strict=True):
        assert_close(value, expected[name], rtol=1e-3, atol=1e-5)


def test_the_kernel_distance_of_the_features_is_1000_times_kid(fidelity, weights):
    sets = drawings(10), drawings(10, seed=1) // 2
    features = inception_features(weights=weights, device="cpu")
    pooled = [features_of(ImageSet("real", images), features).float() for images in sets]
    kid = fidelity.metric_kid.kid_features_to_metric(*pooled, kid_subsets=1, kid_subset_size=10, verbose=False)
    distance = kernel_distance(*sets, features=features)
    assert_close(1000 * kid["kernel_inception_distance_mean"], distance, rtol=1e-2, atol=0)


class RunsCode:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["code", "other weights", "text"])
def test_another_file_is_refused(kind, fidelity, tmp_path):
    path, ran = tmp_path / "weights.pth", tmp_path / "ran"
    if kind == "text":
        path.write_text("not weights")
    elif kind == "code":
        torch.save({"fc.weight": RunsCode(ran)}, path)
    else:
        torch.save({"fc.weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"weights must be torch-fidelity's weights-.*, got .*weights.pth \("):
        inception_features(weights=path)
    assert not ran.exists()


def test_files_that_are_not_there(fidelity, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"weights must be the file weights-inception-.*, got .*missing.pth"):
        inception_features(weights=tmp_path / "missing.pth")

    def no_network(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(fidelity.feature_extractor_inceptionv3, "load_state_dict_from_url", no_network)
    with pytest.raises(OSError, match=r"cannot be downloaded: .*no network.*; get https://.* and pass weights="):
        inception_features()
