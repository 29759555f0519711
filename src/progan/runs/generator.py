"""Loading the averaged generator of a run, or a generator in one file."""

from __future__ import annotations

from os import PathLike

import torch

from progan.arguments import check_flag
from progan.errors import CheckpointError
from progan.networks.base import Block
from progan.networks.generator import ProgressiveGenerator
from progan.runs.average_choice import average_in_use, recorded_averages
from progan.runs.blocks import check_block
from progan.runs.checkpoint import read_tensors
from progan.runs.generator_file import is_file, read_generator
from progan.runs.judging import best_checkpoint
from progan.runs.rebuild import check_tensors, without_memory
from progan.runs.record import RunRecord
from progan.runtime.device import choose_device
from progan.sampling import GrownGenerator
from progan.storage.paths import user_path


def load_generator(
    path: str | PathLike[str],
    device: str | torch.device | None = None,
    *,
    block: Block | None = None,
    best: bool = False,
    average: str | None = None,
) -> GrownGenerator:
    """Load the averaged generator of a run, at the level to which it has grown, or a generator in one file.

    Of a run that keeps several averages, it is the one that was chosen at the checkpoint's count of images, at the end
    of the schedule or by `Trainer.choose_average`; without a choice, the first one.

    Args:
        path: Run directory, for its newest sound checkpoint; the folder of one checkpoint; or a ``.safetensors`` file
            that `progan.export.save_generator` wrote.
        device: Device to put the generator on; None = the CPU.
        block: Class of the custom block that the generator was built with, if any.
        best: Whether to take the run's best checkpoint by the leading measure of its judgements instead of the newest.
        average: Name of another average, such as ``ema_1``, one of the attribute ``averages`` of `Trainer`.

    Raises:
        CheckpointError: If there is no sound checkpoint, it was made with another block, or best is wanted and no
            checkpoint was judged; or if the file is damaged, or not such a file.
        ValueError: If the device cannot be used here; if the checkpoint has no average of this name; or if a block,
            best or an average is given for a file, which holds one generator of built-in blocks.
    """
    check_flag("best", best)
    target = choose_device("cpu" if device is None else device, "fp32")
    if is_file(file := user_path(path)):
        given = {"best": best or None, "block": block, "average": average}
        if unfit := [name for name, value in given.items() if value is not None]:
            raise ValueError(
                f"{file} holds one generator, of built-in blocks; leave out {' and '.join(unfit)}, or pass a run "
                "directory"
            )
        return read_generator(file).to(target)
    record = RunRecord.from_checkpoint(best_checkpoint(user_path(path)) if best else user_path(path))
    folder, recorded = record.path, record.blocks["generator"]
    prefix = f"{_name_of_average(record, average)}/"
    if block is None:
        check_block(None, recorded, folder, "block")
        generator = without_memory(ProgressiveGenerator, record.architecture, record.file)
        check_tensors(generator, folder, prefix)
    else:
        with torch.random.fork_rng(devices=[]):
            generator = ProgressiveGenerator(record.architecture, block=block)
        check_block(generator.block_name, recorded, folder, "block")
    state = read_tensors(folder, prefix)
    try:
        generator.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{folder}: its average does not fit its architecture: {error}") from error
    generator.requires_grad_(False)
    reached = record.schedule.reached(record.images_seen)
    return GrownGenerator(generator, *reached, classes=record.classes).to(target)


def _name_of_average(record: RunRecord, wanted: str | None) -> str:
    """Return the name of the average to load from a checkpoint: the wanted one, the chosen one, or the first one."""
    if wanted is None:
        return average_in_use(record)
    if wanted not in (there := recorded_averages(record)):
        raise ValueError(f"the averages in {record.path} are {', '.join(there)}, got {wanted!r}")
    return wanted
