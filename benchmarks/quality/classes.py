"""Are samples of a class recognised as that class? few_images on labelled folders, read by a plain classifier.

python benchmarks/quality/classes.py --data digits/ --images 10000 40000 --seeds 2 --threads 1 --out runs/classes

The data are folders of images named after their classes. A small convolutional network learns the classes from four
fifths of the real images, and its accuracy on the others is reported. Then few_images is trained with classes, as
`progan train DATA --labels` does, for each number of images and each seed, and 100 samples of each class are
given to the classifier. The share that it takes for their class is reported, and how varied they are: their mean
distance from each other, as a share of that of the class's real images.
The same command resumes a run that broke off; there is a sheet with a row for each class in each run directory. The
results are written to benchmarks/results/classes.json.

    --digits makes such folders of the 1,797 digits that scikit-learn brings (8x8, enlarged to 16x16), where --data is
    not there yet.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from progan import GrownGenerator, ImageFolder, Recipe, Trainer, load_generator, presets, write_png
from progan.data import colour_verdict
from progan.reports import class_sheet

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from measuring import report  # noqa: E402

RESULTS = HERE.parent / "results" / "classes.json"
SAMPLES = 100  # of each class
STEPS = 1500  # of the classifier
PASSED = 0.9  # share of a class's samples that are recognised


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the classifier and every run, and write the results."""
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.digits and not options.data.exists():
        write_digits(options.data, options.resolution)
    images = ImageFolder(options.data, options.resolution, options.channels, labels="folders")
    classifier, held_out = train_classifier(images)
    result = {"data": options.data.name, "n_images": len(images), "resolution": options.resolution}
    report(result | {"samples_of_each_class": SAMPLES, "classifier_on_held_out": held_out}, RESULTS)
    for total in options.images:
        for seed in range(options.seeds):
            run_dir = options.out / f"{options.data.name}-{options.resolution}px-{total}-seed{seed}"
            found = train(recipe_of(images, total), images, run_dir, seed)
            generator = load_generator(run_dir)
            found |= judged(generator, classifier, images)
            write_png(run_dir / "classes.png", class_sheet(generator, columns=20, height=32))
            report({f"{total} images, seed {seed}": found}, RESULTS)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of folders named after classes")
    parser.add_argument(
        "--digits", action="store_true", help="make the folder of scikit-learn's digits if it is missing"
    )
    parser.add_argument("--resolution", type=int, default=16)
    parser.add_argument("--channels", type=int, default=1, choices=(1, 3), help="1 = grey")
    parser.add_argument("--images", type=int, nargs="+", default=[10_000], help="real images shown in all, of each run")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each number of images")
    parser.add_argument("--out", type=Path, default=Path("runs/classes"), help="where run directories go")
    parser.add_argument("--threads", type=int, help="threads of the processor")
    return parser.parse_args(arguments)


def write_digits(folder: Path, side: int) -> None:
    """Write scikit-learn's digits as PNG files into folders 0 to 9."""
    from sklearn.datasets import load_digits  # type: ignore[import-not-found, import-untyped, unused-ignore]

    digits = load_digits()
    for index, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / str(label) / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((pixels * (255 / 16)).round().astype("uint8"))
        image.resize((side, side), Image.Resampling.BILINEAR).save(path)


def recipe_of(images: ImageFolder, total_images: int) -> Recipe:
    """Return few_images with classes, in bf16, as the command line makes it."""
    _, channels, side, _ = images.images.shape
    flat = colour_verdict(images.images).flat is not False
    recipe = presets.few_images(side, len(images), total_images=total_images, flat=flat, precision="bf16")
    recipe = replace(recipe, architecture=replace(recipe.architecture, image_channels=channels))
    return recipe.with_classes(len(images.classes))


def train(recipe: Recipe, images: ImageFolder, run_dir: Path, seed: int) -> dict[str, Any]:
    """Train a run, or resume what broke off; return what it saw, and if in one sitting, the processor's minutes."""
    trainer = Trainer.from_recipe(recipe, seed=seed, run_dir=run_dir, device="cpu", judge_every=0)
    whole, begin = trainer.images_seen == 0, time.process_time()
    trainer.fit(images)
    minutes = {"cpu_minutes": round((time.process_time() - begin) / 60, 1)} if whole else {}
    return {"images": trainer.images_seen, "batch_size": recipe.stages[-1].batch_size, **minutes}


def judged(generator: GrownGenerator, classifier: nn.Module, images: ImageFolder) -> dict[str, Any]:
    """Return which share of the samples of each class is recognised as it, and how varied they are."""
    share, variety = {}, {}
    for label, name in enumerate(images.classes):
        samples = generator.sample(SAMPLES, label=label, seed=label)
        real = images.images[images.labels == label].float() / 255
        share[name] = round(float((classes_of(classifier, samples) == label).float().mean()), 2)
        variety[name] = round(float(spread(samples) / spread(real)), 2)
    return {"recognised": share, "variety": variety, "passed": sum(each >= PASSED for each in share.values())}


def spread(images: Tensor) -> Tensor:
    """Return the mean distance of two images of (N, C, H, W)."""
    return torch.pdist(images.flatten(1)).mean()


@torch.no_grad()
def classes_of(classifier: nn.Module, images: Tensor) -> Tensor:
    """Return the label that the classifier gives to each image."""
    scores: Tensor = classifier(images)
    return scores.argmax(1)


def train_classifier(images: ImageFolder) -> tuple[nn.Module, float]:
    """Return a classifier of four fifths of the images, and its accuracy on the others."""
    torch.manual_seed(0)
    order = torch.randperm(len(images))
    assert images.labels is not None
    pixels, labels = images.images[order].float() / 255, images.labels[order]
    held_out = len(images) // 5
    width = images.images.shape[1]
    network = nn.Sequential(
        *(nn.Conv2d(width, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.3), nn.LazyLinear(128), nn.ReLU(), nn.Linear(128, len(images.classes))),
    )
    network(pixels[:1])
    adam = torch.optim.Adam(network.parameters())
    for _ in range(STEPS):
        chosen = torch.randint(held_out, len(images), (64,))
        down, right = torch.randint(-1, 2, (2,)).tolist()
        moved = pixels[chosen].roll((down, right), (2, 3))
        loss = F.cross_entropy(network(moved), labels[chosen])
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
    network.eval()
    return network, round(float((classes_of(network, pixels[:held_out]) == labels[:held_out]).float().mean()), 4)


if __name__ == "__main__":
    main()
