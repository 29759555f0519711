"""The usual Inception numbers (FID, KID, Inception Score), computed by torch-fidelity, the extra ``fidelity``.

They make results comparable with published ones. For sets of a few hundred images they are of little use: FID (Heusel
et al. 2017) is biased, by an amount that depends on the model (Chong and Forsyth 2020, "Effectively unbiased FID and
Inception Score and where to find them"), and the covariance of 2048 features is singular for fewer images than that.
KID (Binkowski et al. 2018) has no bias.

torch-fidelity provides the network and the statistics; progan reads and converts the images.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from progan.arguments import check_int, check_tensor, wrong_type
from progan.metrics.features import Extractor, features_of
from progan.metrics.images import Images, ImageSet, check_same_shape

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
LEAST_FOR_SCORES = 10  # images: the Inception Score is a mean over 10 parts of the set
_POOLED, _LOGITS = "2048", "logits_unbiased"  # torch-fidelity's names
_POOLED_SIZE = 2048
_KID_SUBSET = 1000  # images
_BATCH = 16  # images at once: 299x299 pixels and up to 64 channels each
_SAFE, _UNSAFE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@dataclass(frozen=True)
class InceptionScores:
    """The numbers of `inception_scores`, in torch-fidelity's units.

    Attributes:
        fid: Fréchet Inception distance; lower is better.
        kid: Kernel Inception distance, the mean over 100 random subsets of 1000 images, or of all images of the smaller
            set; lower is better, and below 0 by chance. `kernel_distance` returns 1000 times this number.
        kid_std: Its standard deviation over the subsets; 0 if they are the whole of both sets.
        isc: Inception Score of the generated images, the mean over 10 parts of the set; higher is better.
        isc_std: Its standard deviation over the parts.
    """

    fid: float
    kid: float
    kid_std: float
    isc: float
    isc_std: float


def inception_features(
    *, weights: str | os.PathLike[str] | None = None, device: str | torch.device | None = None
) -> Extractor:
    """Return an extractor of the 2048 pooled features that FID and KID compare.

    It can be passed to `feature_distance`, `kernel_distance` and `density_coverage`. Values are rounded to 8 bits, as
    the network expects; grey is repeated to three channels, and transparent images (RGBA) are composited over white.

    The first use downloads the weights (91 MB) into torch's cache. On a machine without network, pass the file.

    Args:
        weights: Path of torch-fidelity's file of weights, ``weights-inception-2015-12-05-6726825d.pth``; None = torch's
            cache, or the download. The file is read as data: one that would run code is refused.
        device: Device of the network; None = the first CUDA device, or the CPU if there is none.

    Returns:
        A function of images, (B, C, H, W), floats in [0, 1], to features, (B, 2048), float32.

    Raises:
        ImportError: If torch-fidelity is not installed.
        OSError: If there is no such file, or the download fails.
        TypeError: If weights is not a path.
        ValueError: If the file does not contain these weights, or the device cannot be used here.
    """
    return _extractor((_POOLED,), weights, device)


def inception_scores(
    real: Images,
    fake: Images,
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    seed: int = 2020,
) -> InceptionScores:
    """Measure FID and KID between two sets of images, and the Inception Score of the generated ones.

    FID means little below some thousand images per set: it is too high, by an amount that depends on the model, so that
    even the order of two models can be wrong. Compare it only at equal numbers of images. The Inception Score knows
    nothing of the real images. For small sets use `feature_distance`, or `kernel_distance` on `inception_features`.

    The first use downloads the weights of the network (91 MB). On two CPU cores, expect minutes per thousand images.

    Args:
        real: Real images, (N, C, H, W), uint8 or floats in [0, 1], or a map-style data set of images. Grey is repeated
            to three channels; transparent images (RGBA) are composited over white.
        fake: Generated images, of the same shape; N may differ.
        weights: Path of torch-fidelity's file of weights; None = torch's cache, or the download; as for
            `inception_features`.
        device: Device of the network; None = the first CUDA device, or the CPU if there is none.
        seed: Random seed of KID's subsets and of the Inception Score's parts; 2020 is torch-fidelity's own.

    Raises:
        ImportError: If torch-fidelity is not installed.
        OSError: If there is no such file of weights, or the download fails.
        TypeError: If the images are no such tensors or data sets, or weights is not a path.
        ValueError: If there are fewer than 10 images in a set, or shapes differ, or values are not in [0, 1], or the
            file does not contain these weights, or the device cannot be used here.
    """
    sets = ImageSet("fake", fake, least=LEAST_FOR_SCORES), ImageSet("real", real, least=LEAST_FOR_SCORES)
    check_same_shape(*sets)
    check_int("seed", seed, 0)
    fidelity = _torch_fidelity()
    extractor = _extractor((_POOLED, _LOGITS), weights, device)
    found = [features_of(images, extractor).float() for images in sets]
    pooled = [features[:, :_POOLED_SIZE] for features in found]
    statistics = [fidelity.metric_fid.fid_features_to_statistics(features) for features in pooled]
    scores: dict[str, float] = {
        **fidelity.metric_fid.fid_statistics_to_metric(*statistics, verbose=False),
        **fidelity.metric_kid.kid_features_to_metric(
            *pooled, kid_subset_size=min(_KID_SUBSET, *map(len, sets)), rng_seed=seed, verbose=False
        ),
        **fidelity.metric_isc.isc_features_to_metric(found[0][:, _POOLED_SIZE:], rng_seed=seed),
    }
    return InceptionScores(
        fid=scores[fidelity.KEY_METRIC_FID],
        kid=scores[fidelity.KEY_METRIC_KID_MEAN],
        kid_std=scores[fidelity.KEY_METRIC_KID_STD],
        isc=scores[fidelity.KEY_METRIC_ISC_MEAN],
        isc_std=scores[fidelity.KEY_METRIC_ISC_STD],
    )


def rgb_bytes(images: Tensor) -> Tensor:
    """Return images as the network expects them: (B, C, H, W), floats in [0, 1] -> (B, 3, H, W), uint8."""
    check_tensor("images", images)
    if not images.is_floating_point():
        raise TypeError(f"Inception features need floats in [0, 1], got {images.dtype}; pass images / 255")
    if images.ndim != 4 or images.shape[1] not in (1, 3, 4):
        raise ValueError(f"images must be (B, C, H, W) with 1, 3 or 4 channels, got {tuple(images.shape)}")
    images = images.detach().float()
    if images.shape[1] == 4:
        alpha = images[:, 3:]
        images = images[:, :3] * alpha + (1 - alpha)
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).expand(-1, 3, -1, -1)


def _extractor(
    layers: tuple[str, ...], weights: str | os.PathLike[str] | None, device: str | torch.device | None
) -> Extractor:
    """Return the extractor of the network's outputs of these names, one beside the other."""
    place = _usable(("cuda" if torch.cuda.is_available() else "cpu") if device is None else device)
    network = _network(layers, weights).to(place)

    def features(images: Tensor) -> Tensor:
        batches = torch.split(rgb_bytes(images), _BATCH)
        rows = [torch.cat(network(batch.to(place)), dim=1).to(images.device) for batch in batches]
        return torch.cat(rows)

    return features


def _usable(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # a torch built without CUDA asserts
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"device {str(device)!r} cannot be used here: {reason}; pass device='cpu', or leave it out"
        ) from None


def _network(layers: tuple[str, ...], weights: str | os.PathLike[str] | None) -> Any:
    """Return torch-fidelity's Inception network with its weights, on the CPU."""
    if weights is not None and not isinstance(weights, str | os.PathLike):
        raise wrong_type("weights", "a path, or None for the download", weights)
    path = None if weights is None else Path(weights)
    module = _torch_fidelity().feature_extractor_inceptionv3
    if path is not None and not path.is_file():
        raise FileNotFoundError(f"weights must be the file {WEIGHTS}, got {path}, which is not a file")
    try:
        # The network draws initial weights before it loads them.
        with torch.random.fork_rng(devices=[]), _read_as_data():
            return module.FeatureExtractorInceptionV3(
                "inception-v3-compat", list(layers), feature_extractor_weights_path=path, verbose=False
            )
    except OSError as error:
        if path is not None:
            raise
        raise OSError(
            f"the Inception weights cannot be downloaded: {error}; get {module.URL_INCEPTION_V3} elsewhere and pass "
            "weights=, its path"
        ) from error
    except Exception as error:
        got = "another file in torch's cache; remove it" if path is None else str(path)
        reason = str(error).partition("\n")[0]
        raise ValueError(f"weights must be torch-fidelity's {WEIGHTS}, got {got} ({reason})") from error


@contextmanager
def _read_as_data() -> Iterator[None]:
    """Make torch read files as data only: torch-fidelity asks it to run what a file of weights contains."""
    before = {name: os.environ.pop(name, None) for name in (_SAFE, _UNSAFE)}
    os.environ[_SAFE] = "1"
    try:
        yield
    finally:
        del os.environ[_SAFE]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def _torch_fidelity() -> Any:
    """Return torch-fidelity, or raise the ImportError that says how to install it."""
    try:
        import torch_fidelity
    except ImportError as error:
        raise ImportError(
            'FID, KID and the Inception Score need torch-fidelity; install it: pip install "progan[fidelity]"'
        ) from error
    except RuntimeError as error:  # from torchvision
        raise ImportError(
            f"torch-fidelity cannot be imported ({error}); install the torchvision that belongs to torch "
            f"{torch.__version__}"
        ) from error
    return torch_fidelity
