"""A generator as a program of torch.export, which torch runs without progan: latents to images in [0, 1]."""

from __future__ import annotations

import io
from os import PathLike
from pathlib import Path

import torch

from progan.export.image_module import example_inputs, free_batch, image_module
from progan.export.one_file import tensors_of
from progan.export.source import Source, open_source, path_to_write
from progan.runs.generator_file import metadata_of
from progan.storage.files import write_file

_SUFFIX = ".pt2"


def save_program(
    source: Source, path: str | PathLike[str], *, best: bool = False, average: str | None = None, enlarge: int = 1
) -> Path:
    """Write a trained generator as a program that ``torch.export.load`` loads, also without progan.

    The program takes latents, and labels where there are classes, and returns images in [0, 1]; all are those of
    `progan.GrownGenerator.images`, to rounding. The batch is free, from one image on. It holds the weights of the
    grown level in fp32, and the `GeneratorRecord` as the extra file ``progan``. Paths of this machine, which torch
    writes beside each operation, are removed.

    torch states of these files that another version may be unable to load them, and that one from somebody else must
    never be loaded: loading unpickles. progan writes them and never loads one. To share a generator, use
    `save_generator` or `save_onnx`.

    Args:
        source: As for `save_generator`: a run directory, the folder of a checkpoint, a file, or a generator.
        path: Path of the program, which ends in ``.pt2``; an existing file is replaced.
        best: Whether to take the run's best checkpoint by its judgements instead of the newest.
        average: Name of another average of the run than the chosen one, as for `progan.load_generator`.
        enlarge: Factor by which images are drawn larger than the source's; see `progan.GrownGenerator.enlarged`.

    Returns:
        Path of the program.

    Raises:
        CheckpointError: If the run has no sound checkpoint, or the source file is damaged.
        TypeError: If an argument is of a wrong kind.
        ValueError: If the generator is not what a file can hold, as for `save_generator`.
        OSError: If the file cannot be written; an existing one is kept.
    """
    target = path_to_write(path, _SUFFIX)
    grown, record = open_source(source, best=best, average=average, enlarge=enlarge)
    inputs = example_inputs(record)
    module = image_module(tensors_of(grown, record), record)
    program = torch.export.export(module, inputs, dynamic_shapes=free_batch(inputs), strict=False)
    for node in program.graph.nodes:  # what else it has are traces through the files of torch and progan
        node.meta = {name: value for name, value in node.meta.items() if name == "val"}
    contents = io.BytesIO()
    torch.export.save(program, contents, extra_files=metadata_of(record))
    write_file(target, contents.getvalue())
    return target
