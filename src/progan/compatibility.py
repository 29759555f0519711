"""Whether a schedule fits the networks, and the processes that are to share its batches."""

from __future__ import annotations

from dataclasses import replace

from progan.arguments import check_int
from progan.networks.architecture import Architecture
from progan.networks.layers import fitting_group_size
from progan.schedule import Schedule, Stage


def check_fit(architecture: Architecture, schedule: Schedule) -> None:
    """Raise where a schedule asks of the networks what they cannot do."""
    for index, stage in enumerate(schedule.stages):
        if stage.level > architecture.top_level:
            raise ValueError(
                f"stage {index} is at level {stage.level}, but the networks have levels 0 to {architecture.top_level}; "
                f"pass channels= with {stage.level + 1} widths or drop the stage"
            )
        try:
            fitting_group_size(stage.batch_size, architecture.minibatch_std_group)
        except ValueError as error:
            raise ValueError(f"stage {index}: {error}") from None


def micro_batch_sizes(architecture: Architecture, schedule: Schedule, ranks: int) -> list[int]:
    """Return the values of micro_batch that suit the batches of all stages, rising; the last one splits none of them.

    Args:
        architecture: Architecture of both networks.
        schedule: Schedule of the run.
        ranks: Number of processes that share each batch; a micro-batch is a part of one process's share.
    """
    largest = max(stage.batch_size for stage in schedule.stages) // ranks
    sizes = range(1, largest + 1)
    return [size for size in sizes if _unsplit(architecture, schedule, ranks, size) is None]


def check_micro_batch(architecture: Architecture, schedule: Schedule, ranks: int, micro_batch: int) -> None:
    """Raise where the batch of a stage cannot be split into micro-batches of whole MiniBatchStd groups."""
    index = _unsplit(architecture, schedule, ranks, micro_batch)
    if index is None:
        return
    batch = schedule.stages[index].batch_size
    share = f"{batch}" if ranks == 1 else f"{batch // ranks} in each of {ranks} processes"
    *smaller, _ = micro_batch_sizes(architecture, schedule, ranks)
    remedy = f"pass micro_batch={' or '.join(map(str, smaller))}" if smaller else "leave micro_batch out"
    consecutive = " consecutive images" if architecture.minibatch_std_consecutive else ""
    raise ValueError(
        f"micro_batch={micro_batch} does not split the batch of stage {index}, {share}, into equal parts of whole "
        f"MiniBatchStd groups of {fitting_group_size(batch, architecture.minibatch_std_group)}{consecutive}; {remedy}"
    )


def _unsplit(architecture: Architecture, schedule: Schedule, ranks: int, micro_batch: int) -> int | None:
    """Return the first stage whose batch is larger than a micro-batch, and cannot be split into such; else None."""
    for index, stage in enumerate(schedule.stages):
        group = fitting_group_size(stage.batch_size, architecture.minibatch_std_group)
        batch = stage.batch_size // ranks
        whole = micro_batch % group == 0 and not architecture.minibatch_std_consecutive  # parts take every n-th image
        if micro_batch < batch and (not whole or batch % micro_batch):
            return index
    return None


def check_ranks(architecture: Architecture, schedule: Schedule, ranks: int) -> None:
    """Raise where processes cannot share a schedule's batches so that each MiniBatchStd group lies on one of them."""
    for index, stage in enumerate(schedule.stages):
        group = fitting_group_size(stage.batch_size, architecture.minibatch_std_group)
        groups = stage.batch_size // group
        if architecture.minibatch_std_consecutive and ranks > 1:
            raise ValueError(
                f"{ranks} processes cannot share a batch in MiniBatchStd groups of consecutive images; pass "
                "Architecture(minibatch_std_consecutive=False), or start one process"
            )
        if groups % ranks:
            many = f"{groups} MiniBatchStd group{'s' * (groups > 1)} of {group} images"
            remedy = (
                "give the architecture a minibatch_std_group; None makes the whole batch one group"
                if architecture.minibatch_std_group is None
                else f"use a batch_size that is a multiple of {ranks * architecture.minibatch_std_group} in every "
                f"stage, as recipe.for_processes({ranks}) does"
            )
            raise ValueError(
                f"stage {index} has a batch of {stage.batch_size}: {many}, which {ranks} processes cannot share "
                f"evenly; {remedy}, or start another number of processes"
            )


def shared_stages(architecture: Architecture, schedule: Schedule, ranks: int) -> tuple[Stage, ...]:
    """Return the stages with batches that processes can share: where they cannot, the next larger batch that they can.

    Raises:
        TypeError: If the number of processes is not an int.
        ValueError: If it is below 1, or there is no such batch.
    """
    check_int("processes", ranks, 1)
    unit = ranks * (architecture.minibatch_std_group or 1)
    stages = []
    for stage in schedule.stages:
        batch = stage.batch_size
        groups = batch // fitting_group_size(batch, architecture.minibatch_std_group)
        stages.append(replace(stage, batch_size=-(-batch // unit) * unit) if groups % ranks else stage)
    check_ranks(architecture, Schedule(stages), ranks)
    return tuple(stages)
