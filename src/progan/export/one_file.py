"""A generator as one file that anybody with progan can load, and the safetensors library can read."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from progan.arguments import wrong_type
from progan.export.source import Source, open_source
from progan.networks.generator import ProgressiveGenerator
from progan.runs.generator_file import (
    DTYPES,
    LONGEST_TEXT,
    FilePrecision,
    GeneratorRecord,
    check_precision,
    check_target,
    is_file,
    metadata_of,
    read_record,
)
from progan.sampling import GrownGenerator
from progan.storage.files import write_file
from progan.storage.paths import user_path
from progan.storage.tensor_file import file_pieces


def save_generator(
    source: Source,
    path: str | PathLike[str],
    *,
    best: bool = False,
    average: str | None = None,
    enlarge: int = 1,
    licence: str | None = None,
    note: str | None = None,
    precision: FilePrecision = "fp32",
) -> Path:
    """Write a trained generator into one file, which `progan.load_generator` loads on any machine.

    The file holds the averaged weights that the images of the grown level are made from, in the safetensors layout,
    and one entry of metadata: a `GeneratorRecord` as JSON. Of a run, this is the architecture, the recipe, the numbers
    of images, the names of classes, and the newest measures; names of files and folders of the data, and of the
    machine, are not stored. Images of the loaded generator are the run's to the bit if the networks and the file have
    fp32.

    Args:
        source: Run directory, for its newest sound checkpoint; folder of one checkpoint; another such file; or a
            generator, of which nothing else is known. Its classes are all stored.
        path: Path of the file, which ends in ``.safetensors``; an existing file is replaced.
        best: Whether to take the run's best checkpoint by its judgements instead of the newest.
        average: Name of another average of the run than the chosen one, as for `progan.load_generator`.
        enlarge: Factor by which images are drawn larger than the source's; see `progan.GrownGenerator.enlarged`.
        licence: Licence of the generator, such as ``"CC-BY-4.0"``; None = what a source file has, or none.
        note: Anything else to say of it, such as where the training images came from; None = as for the licence.
        precision: ``fp32``; or ``fp16`` for half the size, with images that differ by rounding.

    Returns:
        Path of the file.

    Raises:
        CheckpointError: If the run has no sound checkpoint, or the source file is damaged.
        TypeError: If an argument is of a wrong kind.
        ValueError: If the generator is not what a file can hold: a level is fading in, blocks or layers are of one's
            own, or a weight is not finite in this precision.
        OSError: If the file cannot be written; an existing one is kept.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from progan import GrownGenerator, load_generator, presets
        >>> grown = GrownGenerator(presets.karras2018(8, channels=(8, 8)).build()[0], level=1)
        >>> with TemporaryDirectory() as folder:
        ...     path = save_generator(grown, f"{folder}/icons.safetensors", licence="CC0-1.0")
        ...     torch.equal(load_generator(path).sample(4), grown.sample(4))
        True
    """
    target = user_path(path)
    check_target(target)
    check_precision(precision)
    for name, text in (("licence", licence), ("note", note)):
        check_text(name, text)
    grown, record = open_source(source, best=best, average=average, enlarge=enlarge)
    record = replace(
        record,
        precision=precision,
        licence=record.licence if licence is None else licence,
        note=record.note if note is None else note,
    )
    write_file(target, file_pieces(tensors_of(grown, record), metadata_of(record)))
    return target


def describe(source: Source, *, best: bool = False, average: str | None = None) -> GeneratorRecord:
    """Return what is known of a generator: what its file holds beside the weights, or would.

    Of a file, only the header is read.

    Args:
        source: File that `save_generator` wrote, or another source as for that function.
        best: Whether to take the run's best checkpoint by its judgements instead of the newest.
        average: Name of another average of the run than the chosen one, as for `progan.load_generator`.

    Raises:
        CheckpointError: If the file is damaged, or the run has no sound checkpoint.
        TypeError: If an argument is of a wrong kind.
        ValueError: If the generator is not what a file can hold.

    Example:
        >>> from progan import GrownGenerator, presets
        >>> record = describe(GrownGenerator(presets.karras2018(8, channels=(8, 8)).build()[0], level=1))
        >>> record.architecture.size(record.level), record.images_seen
        ((8, 8), None)
    """
    if (
        isinstance(source, str | PathLike)
        and is_file(path := user_path(source, "source"))
        and not best
        and average is None
    ):
        return read_record(path)
    return open_source(source, best=best, average=average)[1]


def check_text(name: str, text: object) -> None:
    """Raise where a text cannot be stored: TypeError or ValueError."""
    if text is None:
        return
    if not isinstance(text, str):
        raise wrong_type(name, "a text, or None", text)
    if len(text) > LONGEST_TEXT or not text.strip():
        raise ValueError(f"{name} must be a text of 1 to {LONGEST_TEXT:,} characters, got {len(text):,}")


def tensors_of(grown: GrownGenerator, record: GeneratorRecord) -> dict[str, Tensor]:
    """Return the tensors that images of the grown level are made from, by name, on the CPU, in the record's precision.

    Raises:
        ValueError: If the generator is not made of the built-in layers, or a value is not finite.
    """
    dtype = DTYPES[record.precision]
    own = getattr(grown.generator, "_orig_mod", grown.generator)  # of one that torch.compile has made
    with torch.device("meta"):
        plain = ProgressiveGenerator(record.architecture)
    modules = dict(own.named_modules())
    used = ("blocks.", f"to_rgb.{record.level}")
    for name, module in plain.named_modules():
        mine = modules.get(name)
        hooks = mine is not None and (mine._forward_hooks or mine._forward_pre_hooks)
        if name.startswith(used) and (type(mine) is not type(module) or hooks):
            what = f"is a {type(mine).__name__}" if type(mine) is not type(module) else "has hooks"
            raise ValueError(
                f"{name} of the generator {what}, and a file holds the weights of a plain {type(module).__name__}; "
                "put the original layer back"
            )
    state = own.state_dict()
    found = {}
    for name, parameter in plain.in_use(record.level).items():
        if state[name].shape != parameter.shape:
            raise ValueError(f"{name} must be {tuple(parameter.shape)}, got {tuple(state[name].shape)}")
        found[name] = state[name].detach().to("cpu", dtype)
        if not torch.isfinite(found[name]).all():
            where = f"{dtype}".removeprefix("torch.")
            remedy = "use precision='fp32'" if torch.isfinite(state[name]).all() else "export an earlier checkpoint"
            raise ValueError(f"{name} has values that are not finite in {where}; {remedy}")
    return found
