"""Whether a schedule fits the networks, and the processes that are to share its batches."""

from __future__ import annotations

from progan.networks.architecture import Architecture
from progan.networks.layers import fitting_group_size
from progan.schedule import Schedule


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


def check_ranks(architecture: Architecture, schedule: Schedule, ranks: int) -> None:
    """Raise where processes cannot share a schedule's batches so that each MiniBatchStd group lies on one of them."""
    for index, stage in enumerate(schedule.stages):
        group = fitting_group_size(stage.batch_size, architecture.minibatch_std_group)
        groups = stage.batch_size // group
        if groups % ranks:
            many = f"{groups} MiniBatchStd group{'s' * (groups > 1)} of {group} images"
            remedy = (
                "give the architecture a minibatch_std_group; None makes the whole batch one group"
                if architecture.minibatch_std_group is None
                else f"use a batch_size that is a multiple of {ranks * architecture.minibatch_std_group} in every stage"
            )
            raise ValueError(
                f"stage {index} has a batch of {stage.batch_size}: {many}, which {ranks} processes cannot share "
                f"evenly; {remedy}, or start another number of processes"
            )
