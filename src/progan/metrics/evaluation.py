"""The evaluation of a generator, or of a set of samples: all measures, as one table that a person understands."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from progan.arguments import check_flag, check_int, wrong_type
from progan.metrics.comparison import (
    LEADING,
    PARTS,
    Reference,
    compare_latents,
)
from progan.metrics.copying import Copying
from progan.metrics.floor import Floor, compare_with_floor
from progan.metrics.images import Images, ImageSet
from progan.ops.resampling import downsample
from progan.runtime.contention import watched_cores

MOST_SAMPLES = 1000  # that are drawn unless more are asked for
_TRIAL = 32  # images of which the time is measured first
_LEAST_TRIAL = 4 * _TRIAL  # smaller sets take no time worth announcing
_AT_ONCE = 32  # samples that are drawn at once

TITLES: Mapping[str, str] = {
    "feature_distance": "feature distance x 1000",
    "kernel_distance": "kernel distance x 1000",
    "density": "density",
    "coverage": "coverage",
    "swd": "sliced Wasserstein distance x 1000",
    "ms_ssim": "similarity of pairs (MS-SSIM)",
    "diversity": "diversity, of the data's",
    "fixed_pattern": "fixed pattern, share of fine detail",
    "corners": "unevenness of corners, of 255",
    "copies": "copies of training images, share",
    "dead_directions": "dead latent directions, share",
}
"""What each number is called in a table."""

_HIGHER_IS_BETTER = ("density", "coverage")
_ANY_NUMBER = ("feature_distance", "kernel_distance", "density")  # their mean is the same for any number of images


@runtime_checkable
class Sampler(Protocol):
    """A generator that draws samples, such as `progan.GrownGenerator`."""

    def latents(self, which: Iterable[int], *, seed: int = 0) -> Tensor:
        """Return the latents of some samples, ``(n, *latent_shape)``, by their indices."""
        ...

    def images(self, z: Tensor) -> Tensor:
        """Return images of latents, (n, C, H, W), in [0, 1]."""
        ...


@runtime_checkable
class ClassSampler(Sampler, Protocol):
    """A generator that draws samples of several classes, or of one, such as `progan.GrownGenerator`."""

    def labels(self, which: Iterable[int], *, seed: int = 0) -> Tensor | None:
        """Return the labels of some samples, (n,), by their indices; None without classes."""
        ...

    def one_class(self) -> Sampler:
        """Return a generator of images from latents alone."""
        ...

    def images(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images of latents and labels, (n, C, H, W), in [0, 1]."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """All measures of samples against real images; the result of `evaluate`.

    Attributes:
        values: Numbers by name; None where one could not be computed.
        floors: What real images give, by the name of the number.
        remarks: Sentences that say what the numbers mean.
        alarms: Those among them that say that something is wrong.
        shape: (C, H, W) of the images that were compared.
        n_samples: Number of samples.
        n_real: Number of real images.
        n_held_out: Number of held-out images, 0 without them.
        copies: Closest pairs and further results of `copying`; None where there are too few images.
        seconds_s: Time that it took, in seconds.
    """

    values: Mapping[str, float | None]
    floors: Mapping[str, Floor]
    remarks: tuple[str, ...]
    alarms: tuple[str, ...]
    shape: tuple[int, int, int]
    n_samples: int
    n_real: int
    n_held_out: int
    copies: Copying | None
    seconds_s: float

    @property
    def leading(self) -> float | None:
        """The feature distance, the number that comes first; lower is better."""
        return self.values.get(LEADING)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as dicts, lists, texts and numbers, for `json.dumps`."""
        return asdict(self)

    def table(self) -> str:
        """Return the numbers beside their floors, and the remarks, as plain text."""
        _, height, width = self.shape
        held_out = f", {self.n_held_out:,} held out" if self.n_held_out else ""
        lines = [f"{self.n_samples:,} samples against {self.n_real:,} real images{held_out}, at {width}x{height}:", ""]
        rows = [("", "samples", "real images", "")]
        for name, value in self.values.items():
            floor = self.floors.get(name)
            rows.append((TITLES.get(name, _level_title(name)), _text(value), _floor_text(floor), self._word(name)))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        for title, *numbers, word in rows:
            cells = [title.ljust(widths[0]), *(n.rjust(w) for n, w in zip(numbers, widths[1:], strict=True))]
            lines.append(("  " + "   ".join(cells) + ("   " + word if word else "")).rstrip())
        lines += ["", *(f"- {remark}" for remark in (*self.alarms, *self.remarks))]
        return "\n".join(lines).rstrip()

    __str__ = table

    def _word(self, name: str) -> str:
        """Return how a number stands against an interval of real images, in a few words."""
        value, floor = self.values[name], self.floors.get(name)
        if value is None or floor is None or floor.low == floor.high:
            return ""
        images = min(self.n_samples, self.n_real)
        if name in _ANY_NUMBER and floor.images is not None:
            images = min(images, floor.images)
        higher = name in _HIGHER_IS_BETTER
        return compare_with_floor(value, floor, images=images, higher_is_better=higher).partition(":")[0]


@watched_cores()
def evaluate(
    generator_or_images: Sampler | Images,
    data: Images,
    *,
    held_out: Images | None = None,
    n: int | None = None,
    seed: int = 0,
    printed: bool = True,
) -> Evaluation:
    """Compare samples with real images by all measures.

    The real images may be larger than the samples by a whole factor; they are then averaged down to their size. Before
    it begins, it prints how long it will take, from a trial with a few images.

    Args:
        generator_or_images: Generator, such as what `progan.load_generator` returns; or samples, (N, C, H, W), uint8 or
            floats in [0, 1], or a map-style data set of images.
        data: Training images, (M, C, H, W), uint8 or floats in [0, 1], or a map-style data set of images, such as
            `progan.ImageFolder`.
        held_out: Real images that the networks were not trained on; None = there are none. Copying is judged better
            with them.
        n: Number of samples to draw from a generator; None = as many as there are real images, at most 1000.
        seed: Random seed of the samples and of the measures.
        printed: Whether to print the expected time and the table.

    Raises:
        TypeError: If the first argument is neither a generator nor images, or a set is not one of images.
        ValueError: If a set has fewer than 2 images, the images' shapes do not fit, or values are not in [0, 1].

    Example:
        >>> real = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> found = evaluate(real * 0.5, real, printed=False)
        >>> found.leading > found.floors["feature_distance"].high
        True
    """
    check_int("seed", seed)
    check_flag("printed", printed)
    real = ImageSet("data", data)
    if n is not None:
        check_int("n", n, 2)
        if not isinstance(generator_or_images, Sampler):
            raise ValueError("n is the number of samples that a generator draws; of images, pass as many as you want")
    if hasattr(generator_or_images, "grown"):
        raise wrong_type("generator_or_images", "a generator or images", generator_or_images, "pass its grown()")
    samples = generator_or_images
    if isinstance(samples, Sampler):
        samples = _draw(samples, min(len(real), MOST_SAMPLES) if n is None else n, seed)
    shape = ImageSet("samples", samples).shape
    adapted, remarks = _adapted(real, shape, "data")
    apart, more = (None, ()) if held_out is None else _adapted(ImageSet("held_out", held_out), shape, "held_out")
    generator = generator_or_images if isinstance(generator_or_images, Sampler) else None
    if printed and min(len(real), len(ImageSet("samples", samples))) >= _LEAST_TRIAL:
        few = range(_TRIAL)
        trial = _measured(_first(samples, few), _first(adapted, few), None, None, seed)
        times = (len(real) + len(ImageSet("samples", samples))) / (2 * _TRIAL)
        print(f"Judging takes about {_duration(trial.seconds_s * times)}.", flush=True)
    found = _measured(samples, adapted, apart, generator, seed, (*remarks, *more))
    if printed:
        print(found.table())
    return found


def _measured(
    samples: Images,
    real: Images,
    held_out: Images | None,
    generator: Sampler | None,
    seed: int,
    remarks: tuple[str, ...] = (),
) -> Evaluation:
    begun = time.perf_counter()
    sample_set, n_held_out = (
        ImageSet("samples", samples),
        0 if held_out is None else len(ImageSet("held_out", held_out)),
    )
    reference = Reference(real, held_out=held_out, n_samples=len(sample_set), seed=seed)
    parts = [part(reference, samples) for part in PARTS.values()]
    if generator is not None:
        one = generator.one_class() if isinstance(generator, ClassSampler) else generator
        parts.append(compare_latents(one.images, tuple(one.latents([0]).shape[1:]), seed=seed))
    return Evaluation(
        {name: value for part in parts for name, value in part.values.items()},
        {name: floor for part in parts for name, floor in part.floors.items()},
        (*remarks, *_small(reference), *(remark for part in parts for remark in part.remarks)),
        tuple(alarm for part in parts for alarm in part.alarms),
        sample_set.shape,
        len(sample_set),
        len(reference.images),
        n_held_out,
        next((part.copies for part in parts if part.copies is not None), None),
        time.perf_counter() - begun,
    )


def _draw(generator: Sampler, n: int, seed: int) -> Tensor:
    """Draw samples: (n, C, H, W), uint8."""
    batches = []
    for begin in range(0, n, _AT_ONCE):
        chosen = range(begin, min(begin + _AT_ONCE, n))
        z = generator.latents(chosen, seed=seed)
        labels = generator.labels(chosen, seed=seed) if isinstance(generator, ClassSampler) else None
        if isinstance(generator, ClassSampler) and labels is not None:
            images = generator.images(z, labels)
        else:
            images = generator.images(z)
        if not bool(images.isfinite().all()):
            raise ValueError(
                "the generator's samples are not finite, so its training diverged; load an older checkpoint"
            )
        batches.append((images * 255).round().to(torch.uint8))
    return torch.cat(batches)


def _adapted(images: ImageSet, shape: tuple[int, int, int], name: str) -> tuple[Images, tuple[str, ...]]:
    """Return real images at the size of the samples, and what was done to them in words."""
    if images.shape == shape:
        return images.source, ()
    (channels, height, width), (wanted_channels, wanted_height, wanted_width) = images.shape, shape
    factor = height // wanted_height
    if channels != wanted_channels or (height, width) != (factor * wanted_height, factor * wanted_width):
        remedy = "read them at that size with progan.ImageFolder(path, size)"
        if channels != wanted_channels:
            remedy = "read both with the same channels= of progan.ImageFolder"
        raise ValueError(
            f"{name} must have the samples' shape {shape} (C, H, W) or be larger by a whole factor, got "
            f"{images.shape}; {remedy}"
        )
    small = [(downsample(batch, factor) * 255).round().to(torch.uint8) for batch in images.batches(_AT_ONCE)]
    remark = f"{name} was averaged from {width}x{height} down to {wanted_width}x{wanted_height}, the samples' size."
    return torch.cat(small), (remark,)


def _first(images: Images, few: range) -> Tensor:
    return torch.cat([*ImageSet("images", images).batches(indices=few)])


def _small(reference: Reference) -> tuple[str, ...]:
    """Return a remark where there are too few real images for floors."""
    n = len(reference.images)
    return () if reference.splits else (f"{n} real images are too few to say what real images themselves give.",)


def _level_title(name: str) -> str:
    """Return the title of a level of the sliced Wasserstein distance, and of others their name."""
    prefix, _, size = name.rpartition("_")
    return f"  its level of {size} px" if prefix == "swd" and size.isdecimal() else name


def _text(value: float | None) -> str:
    """Return a number for a table, with three digits.

    Example:
        >>> _text(215.34), _text(0.4321), _text(-0.02), _text(None)
        ('215', '0.432', '-0.02', '-')
    """
    return "-" if value is None else f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _floor_text(floor: Floor | None) -> str:
    if floor is None:
        return "-"
    interval = "" if floor.low == floor.high else f" ({_text(floor.low)} to {_text(floor.high)})"
    return _text(floor.value) + interval


def _duration(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60)} min"
