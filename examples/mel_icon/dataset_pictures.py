"""Draw the pictures that show a data set: its mean, spread, middle, mode and extremes, pixel by pixel.

All work is on the images as they are stored (uint8), a strip of rows at a time, so that the memory taken beyond the
images themselves stays small.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from draw_icons import draw_icons
from paths import user_path

from progan import image_grid, write_png

# Numbers in one strip of all images: a million take 8 MB as float64, and the statistics make several such copies.
STRIP_NUMBERS = 1_000_000

# Each takes images (N, C, rows, W), uint8, and returns one (C, rows, W) of 0 to 255.
STATISTICS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": lambda images: torch.mean(images.double(), dim=0),
    "std": lambda images: torch.std(images.double(), dim=0),
    "median": lambda images: torch.median(images, dim=0).values,
    "mode": lambda images: torch.mode(images, dim=0).values,
    "min": lambda images: torch.amin(images, dim=0),
    "max": lambda images: torch.amax(images, dim=0),
}
# The same over a few images chosen at random: which statistic, and of how many.
SAMPLED = {"std_of_5": ("std", 5), "min_of_7": ("min", 7)}


def over_images(images: torch.Tensor, statistic: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Apply a statistic to every pixel over all images, strip by strip.

    Args:
        images: the images, uint8 (N, C, H, W).
        statistic: what turns images (N, C, rows, W) into one (C, rows, W) of 0 to 255.

    Returns:
        The picture, uint8 (C, H, W).
    """
    n, channels, height, width = images.shape
    rows = max(1, STRIP_NUMBERS // (n * channels * width))
    # Made before the strips: small results kept between them would keep the strips' memory from being used again.
    picture = torch.empty(channels, height, width, dtype=torch.uint8)
    for top in range(0, height, rows):
        picture[:, top : top + rows] = statistic(images[:, :, top : top + rows]).round()
    return picture


def with_contrast(image: torch.Tensor, factor: float) -> torch.Tensor:
    """Change an image's contrast about its mean grey: mean + factor * (x - mean), clamped.

    The mean grey is the mean of the luma 0.299 R + 0.587 G + 0.114 B over the image, as in Pillow's and torchvision's
    contrast; all channels move away from this one grey.

    Args:
        image: the image, uint8 (3, H, W).
        factor: 1 leaves the image as it is, 0 makes it plain grey, 2 doubles its contrast.

    Returns:
        The image with its contrast changed, uint8 (3, H, W).
    """
    pixels = image.double() / 255
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    mean = (pixels * luma[:, None, None]).sum(dim=0).mean()
    changed = (mean + factor * (pixels - mean)).clamp(0, 1)
    return (changed * 255).round().to(torch.uint8)


def dataset_pictures(images: torch.Tensor, seed: int = 0) -> dict[str, torch.Tensor]:
    """Draw all pictures of a data set.

    Args:
        images: the images, uint8 (N, 3, H, W), 7 or more.
        seed: which images are chosen for the pictures of a few.

    Returns:
        The pictures by name, each uint8 (3, H, W) but "contrast", which has two such side by side.
    """
    rng = random.Random(seed)
    pictures = {name: over_images(images, statistic) for name, statistic in STATISTICS.items()}
    for name, (statistic, count) in SAMPLED.items():
        chosen = images[rng.sample(range(len(images)), count)]
        pictures[name] = over_images(chosen, STATISTICS[statistic])
    icon = images[rng.randrange(len(images))]
    pictures["contrast"] = image_grid(torch.stack([icon, with_contrast(icon, 2)]), 2)
    return pictures


def overview(pictures: Sequence[torch.Tensor], columns: int = 5) -> torch.Tensor:
    """Lay pictures out in rows, in their order, a wide one as the several images it is made of.

    Args:
        pictures: the pictures, each uint8 (3, H, a whole number times W), the first one (3, H, W).
        columns: how many images are in a row.

    Returns:
        The sheet, uint8 (3, rows * H, columns * W).
    """
    width = pictures[0].shape[2]
    parts = [part for picture in pictures for part in torch.split(picture, width, dim=2)]
    return image_grid(torch.stack(parts), columns)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the pictures of the embedded icons, or of a folder of images, as PNG files."""
    parser = argparse.ArgumentParser(description="Draw the pictures that show a data set.")
    parser.add_argument("--data", type=user_path, help="a folder of images (default: the embedded icons)")
    parser.add_argument("--size", type=int, default=256, help="width and height in pixels (default 256)")
    parser.add_argument("--seed", type=int, default=0, help="which images are chosen at random (default 0)")
    parser.add_argument("--out", type=user_path, required=True, help="the folder for the pictures")
    options = parser.parse_args(arguments)
    if options.size < 1:
        parser.error("--size must be 1 or more")
    images = load_images(options.data, options.size)
    fewest = max(count for _, count in SAMPLED.values())
    if len(images) < fewest:
        parser.error(f"the pictures need {fewest} images or more, and there are {len(images)}")
    options.out.mkdir(parents=True, exist_ok=True)
    pictures = dataset_pictures(images, options.seed)
    for name, picture in pictures.items():
        write_png(options.out / f"{name}.png", picture)
    write_png(options.out / "all.png", overview(list(pictures.values())))
    print(f"all.png shows, in rows: {', '.join(pictures)} (an image, then the same with its contrast doubled)")


def load_images(folder: Path | None, size: int) -> torch.Tensor:
    """Return the images of a folder, or the embedded icons where none is given, as uint8 (N, 3, size, size)."""
    if folder is None:
        return draw_icons(size=size)
    # Imported here, since the embedded icons need nothing of the library but its PNG writer.
    from progan import ImageFolder

    images: torch.Tensor = ImageFolder(folder, size).images
    return images


if __name__ == "__main__":
    main()
