"""The model card of a generator: what it is, how it was trained, how good it is and is not, as a page of Markdown."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from torch import Tensor

from progan.arguments import wrong_type
from progan.export.card_text import MOST_ROWS, card_text
from progan.export.source import Source, open_source, path_to_write
from progan.render import png_bytes
from progan.reports.sheets import class_sheet, sample_sheet
from progan.runs.checkpoint import SUFFIX
from progan.runs.generator_file import is_file
from progan.sampling import GrownGenerator
from progan.storage.files import write_file
from progan.storage.paths import user_path

_SHEET_SIDE = 1600  # pixels


def model_card(
    source: Source,
    *,
    best: bool = False,
    average: str | None = None,
    name: str | None = None,
    file: str | None = None,
    picture: str | None = None,
) -> str:
    """Describe a trained generator in Markdown: training, measures with their floors, limits, and how to use it.

    Args:
        source: File that `save_generator` wrote, or another source as for that function.
        best: Whether to take the run's best checkpoint by its judgements instead of the newest.
        average: Name of another average of the run than the chosen one, as for `progan.load_generator`.
        name: Name of the generator; None = that of the file without its ending.
        file: Name of the generator's file, for the code that loads it; None = that of the source, or
            ``generator.safetensors``.
        picture: Name of a sheet of samples beside the card; None = the card shows none.

    Returns:
        The page, whose Python block runs in the folder of the file.

    Raises:
        CheckpointError: If the file is damaged, or the run has no sound checkpoint.
        TypeError: If an argument is of a wrong kind.
        ValueError: If the generator is not what a file can hold.

    Example:
        >>> from progan import GrownGenerator, presets
        >>> grown = GrownGenerator(presets.karras2018(8, channels=(8, 8)).build()[0], level=1)
        >>> print(model_card(grown, name="noise").splitlines()[0])
        # noise
    """
    for argument, value in (("name", name), ("file", file), ("picture", picture)):
        if not isinstance(value, str | None):
            raise wrong_type(argument, "a text, or None", value)
    if file is None:
        file = _file_name(source) or f"generator{SUFFIX}"
    grown, record = open_source(source, best=best, average=average)
    return card_text(record, _weights(grown), Path(file).stem if name is None else name, file, picture)


def write_card(
    source: Source,
    path: str | PathLike[str] | None = None,
    *,
    best: bool = False,
    average: str | None = None,
    name: str | None = None,
    file: str | None = None,
    seed: int = 0,
) -> Path:
    """Write the model card of a generator, and a sheet of samples beside it, a PNG of the same name.

    Args:
        source: File that `save_generator` wrote, or another source as for that function.
        path: Path of the card, which ends in ``.md``; None = beside the file. Existing files are replaced.
        best: Whether to take the run's best checkpoint by its judgements instead of the newest.
        average: Name of another average of the run than the chosen one, as for `progan.load_generator`.
        name: Name of the generator; None = that of the card without its ending.
        file: Name of the generator's file, for the code that loads it; None = that of the source, or of the card with
            another ending.
        seed: Random seed of the samples.

    Returns:
        Path of the card.

    Raises:
        CheckpointError: If the file is damaged, or the run has no sound checkpoint.
        TypeError: If an argument is of a wrong kind.
        ValueError: If the generator is not what a file can hold, or there is no path.
        OSError: If a file cannot be written; an existing one is kept.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from progan import GrownGenerator, presets
        >>> grown = GrownGenerator(presets.karras2018(8, channels=(8, 8)).build()[0], level=1)
        >>> with TemporaryDirectory() as folder:
        ...     card = write_card(grown, f"{folder}/icons.md")
        ...     sorted(each.name for each in card.parent.iterdir())
        ['icons.md', 'icons.png']
    """
    own = _file_name(source)
    if path is not None:
        target = user_path(path)
    elif own is not None and isinstance(source, str | PathLike):
        target = user_path(source).with_suffix(".md")
    else:
        raise ValueError("path is needed for a source that is not a file, such as path='icons.md'")
    path_to_write(target, ".md")
    if file is None:
        file = own or target.with_suffix(SUFFIX).name
    grown, record = open_source(source, best=best, average=average)
    picture = target.with_suffix(".png")
    text = card_text(record, _weights(grown), target.stem if name is None else name, file, picture.name)
    write_file(picture, png_bytes(_sheet(grown, seed)))
    write_file(target, text.encode())
    return target


def _file_name(source: Source) -> str | None:
    """Return the name of a source that is a file; None of another one."""
    if isinstance(source, str | PathLike) and is_file(path := user_path(source, "source")):
        return path.name
    return None


def _weights(grown: GrownGenerator) -> int:
    """Return the number of weights that images of the grown level are made from."""
    return sum(parameter.numel() for parameter in grown.generator.in_use(grown.level).values())


def _sheet(grown: GrownGenerator, seed: int) -> Tensor:
    """Return a sheet of random samples, (C, H, W), uint8, of at most about 1600 pixels a side."""
    height, width = grown.image_size
    shown = max(96, height) / height * width
    columns = max(2, min(8, int(_SHEET_SIDE // max(shown, height))))
    if grown.classes is not None and len(grown.classes) <= MOST_ROWS:
        return class_sheet(grown, columns, seed=seed, numbers=False)
    return sample_sheet(grown, columns**2, seed=seed, columns=columns, numbers=False)
