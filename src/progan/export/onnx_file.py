"""A generator as an ONNX model, which programs without torch can run: latents to images in [0, 1]."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from progan.export.image_module import ImageModule, example_inputs, free_batch, image_module
from progan.export.one_file import tensors_of
from progan.export.source import Source, open_source, path_to_write
from progan.runs.generator_file import FilePrecision, GeneratorRecord, check_precision, metadata_of
from progan.sampling import GrownGenerator
from progan.storage.files import write_file

_SUFFIX = ".onnx"
_OPSET = 18  # what torch's exporter writes from 2.5 on


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX model that was written.

    Attributes:
        path: Path of the file.
        opset: Version of the operators that it needs.
        inputs: Shape of each input by name, None for the batch: ``z``, latents, float32; and ``labels``, int64, where
            there are classes.
        outputs: The same of the output: ``images``, float32, values in [0, 1].
        precision: Precision of the weights and of the computation.
        size: Bytes of the file.
    """

    path: Path
    opset: int
    inputs: dict[str, tuple[int | None, ...]]
    outputs: dict[str, tuple[int | None, ...]]
    precision: FilePrecision
    size: int


def save_onnx(
    source: Source,
    path: str | PathLike[str],
    *,
    best: bool = False,
    average: str | None = None,
    enlarge: int = 1,
    precision: FilePrecision = "fp32",
) -> OnnxModel:
    """Write a trained generator as an ONNX model: latents, and labels where there are classes, to images in [0, 1].

    The batch is free. The model holds the weights of the grown level, and the `GeneratorRecord` as metadata under the
    name ``progan``. Images under onnxruntime are those of `progan.GrownGenerator.images` to about 1e-5 in fp32.

    Args:
        source: As for `save_generator`: a run directory, the folder of a checkpoint, a file, or a generator.
        path: Path of the model, which ends in ``.onnx``; an existing file is replaced.
        best: Whether to take the run's best checkpoint by its judgements instead of the newest.
        average: Name of another average of the run than the chosen one, as for `progan.load_generator`.
        enlarge: Factor by which images are drawn larger than the source's; see `progan.GrownGenerator.enlarged`.
        precision: ``fp32``; or ``fp16`` for half the size, computed in fp16 where the runtime can, with float32 inputs
            and outputs.

    Returns:
        Description of the model that was written, with the shapes of its inputs and outputs.

    Raises:
        CheckpointError: If the run has no sound checkpoint, or the source file is damaged.
        ImportError: If onnx or onnxscript is not installed.
        TypeError: If an argument is of a wrong kind.
        ValueError: If the generator is not what a file can hold, as for `save_generator`.
        OSError: If the file cannot be written; an existing one is kept.
    """
    target = path_to_write(path, _SUFFIX)
    check_precision(precision)
    check_installed()
    grown, record = open_source(source, best=best, average=average, enlarge=enlarge)
    record = replace(record, precision=precision)
    model = onnx_model(grown, record)
    contents: bytes = model.SerializeToString()
    write_file(target, contents)
    (opset,) = (each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    inputs, outputs = (
        {each.name: _shape(each) for each in values} for values in (model.graph.input, model.graph.output)
    )
    return OnnxModel(target, opset, inputs, outputs, precision, len(contents))


def onnx_model(grown: GrownGenerator, record: GeneratorRecord) -> Any:
    """Return a generator as an ONNX model (protobuf), in the record's precision."""
    return _model(image_module(tensors_of(grown, record), record), record)


def check_installed() -> None:
    """Raise ImportError where what writes ONNX models is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'a generator becomes an ONNX model with onnx and onnxscript; install them: pip install "progan[export]"'
        ) from error


def _model(images: ImageModule, record: GeneratorRecord) -> Any:
    """Return the model as protobuf, without names of this machine's files."""
    arguments = example_inputs(record)
    with _quiet():
        program = torch.onnx.export(
            images,
            arguments,
            dynamo=True,
            input_names=["z", "labels"][: len(arguments)],
            output_names=["images"],
            dynamic_shapes=free_batch(arguments),
            opset_version=_OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    graphs = [model.graph, *model.functions]
    for graph in graphs:  # traces through the files of torch and progan
        for node in graph.node:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
        graph.ClearField("metadata_props")
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        value.ClearField("metadata_props")
        value.ClearField("doc_string")
    model.ClearField("metadata_props")
    for name, text in metadata_of(record).items():
        model.metadata_props.add(key=name, value=text)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch's exporter says about itself and about packages that are not needed from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _shape(value: Any) -> tuple[int | None, ...]:
    sides = value.type.tensor_type.shape.dim
    return tuple(side.dim_value if side.HasField("dim_value") else None for side in sides)
