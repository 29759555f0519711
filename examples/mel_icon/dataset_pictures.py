"""Draw pixel-wise statistics of a data set: mean, standard deviation, median, mode, minimum and maximum.

The images stay in their stored form (uint8) and are processed one strip of rows at a time, so little extra memory is
needed.
"""

import argparse
import random
from collections.abc import Callable, Sequence

import torch
from draw_icons import draw_icons

from progan import ImageFolder, image_grid, write_png
from progan.cli.folder import choice_keywords
from progan.cli.options import add_choice, at_least_1, user_path
from progan.cli.output import in_options, warnings_as_lines

# Numbers per strip, over all images. A million numbers take 8 MB as float64, and the statistics make several copies.
STRIP_NUMBERS = 1_000_000

# Functions of images (N, C, rows, W), uint8, that return one image (C, rows, W) with values of 0 to 255.
STATISTICS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": lambda images: torch.mean(images.double(), dim=0),
    "std": lambda images: torch.std(images.double(), dim=0),
    "median": lambda images: torch.median(images, dim=0).values,
    "mode": lambda images: torch.mode(images, dim=0).values,
    "min": lambda images: torch.amin(images, dim=0),
    "max": lambda images: torch.amax(images, dim=0),
}
# Statistics of a few random images: name of the statistic, number of images.
SAMPLED = {"std_of_5": ("std", 5), "min_of_7": ("min", 7)}


def over_images(images: torch.Tensor, statistic: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Apply a statistic to every pixel over all images, strip by strip.

    Args:
        images: Images, uint8 (N, C, H, W).
        statistic: Function of images (N, C, rows, W) that returns one image (C, rows, W) with values of 0 to 255.

    Returns:
        The picture, uint8 (C, H, W).
    """
    n, channels, height, width = images.shape
    rows = max(1, STRIP_NUMBERS // (n * channels * width))
    # Allocated before the strips: small results between them would prevent the strips' memory from being reused.
    picture = torch.empty(channels, height, width, dtype=torch.uint8)
    for top in range(0, height, rows):
        picture[:, top : top + rows] = statistic(images[:, :, top : top + rows]).round()
    return picture


def with_contrast(image: torch.Tensor, factor: float) -> torch.Tensor:
    """Change an image's contrast about its mean grey: mean + factor * (x - mean), clamped.

    The mean grey is the mean of the luma 0.299 R + 0.587 G + 0.114 B over the image, as in the contrast adjustment of
    Pillow and torchvision; all channels are scaled about this grey.

    Args:
        image: Image, uint8 (3, H, W).
        factor: Contrast factor: 1 changes nothing, 0 gives plain grey, 2 doubles the contrast.

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
        images: Images, uint8 (N, 3, H, W), 7 or more.
        seed: Random seed for the statistics of a few images.

    Returns:
        The pictures by name, each uint8 (3, H, W), except "contrast", which shows two images side by side.
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
    """Arrange pictures in rows, in order; a wide picture is split into its images.

    Args:
        pictures: Pictures, each uint8 (3, H, a whole number times W), the first one (3, H, W).
        columns: Number of images per row.

    Returns:
        The sheet, uint8 (3, rows * H, columns * W).
    """
    width = pictures[0].shape[2]
    parts = [part for picture in pictures for part in torch.split(picture, width, dim=2)]
    return image_grid(torch.stack(parts), columns)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the statistics of the embedded icons, or of a folder of images, as PNG files."""
    parser = argparse.ArgumentParser(description="Draw pixel-wise statistics of a data set.")
    parser.add_argument("--data", type=user_path, help="folder of images (default: the embedded icons)")
    add_choice(parser)
    parser.add_argument("--size", type=at_least_1, default=256, help="width and height in pixels (default 256)")
    parser.add_argument("--seed", type=int, default=0, help="random seed for the selected images (default 0)")
    parser.add_argument("--out", type=user_path, required=True, help="folder for the pictures")
    options = parser.parse_args(arguments)
    try:
        with warnings_as_lines():
            images = load_images(options)
    except (ValueError, OSError, ImportError) as error:
        parser.exit(2, f"{parser.prog}: {in_options(str(error))}\n")
    fewest = max(count for _, count in SAMPLED.values())
    if len(images) < fewest:
        parser.error(f"the pictures need {fewest} images or more, and there are {len(images)}")
    options.out.mkdir(parents=True, exist_ok=True)
    pictures = dataset_pictures(images, options.seed)
    for name, picture in pictures.items():
        write_png(options.out / f"{name}.png", picture)
    write_png(options.out / "all.png", overview(list(pictures.values())))
    print(f"all.png shows, in rows: {', '.join(pictures)} (an image, then the same with its contrast doubled)")


def load_images(options: argparse.Namespace) -> torch.Tensor:
    """Return the images of --data, or the embedded icons without it, as uint8 (N, 3, size, size)."""
    if options.data is None:
        return draw_icons(size=options.size)
    return ImageFolder(options.data, options.size, **choice_keywords(options.data, options)).images


if __name__ == "__main__":
    main()
