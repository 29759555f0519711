"""Options of a run: where it writes, what watches it, and what it trains on."""

from __future__ import annotations

import difflib
import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch

from progan.arguments import check_flag, check_int, tuple_of, wrong_type
from progan.data.held_out import HeldOut, check_held_out
from progan.recipe import Training
from progan.runs.record import INTERVALS, check_counts
from progan.runs.recovery import Recovery
from progan.storage.paths import user_path
from progan.training.callbacks import (
    Callback,
    CallbackList,
    FlipCheck,
    Judge,
    LossRows,
    MetricsLog,
    PaletteCheck,
    Previews,
    Progress,
    ReportPage,
    WarningsLog,
)
from progan.training.callbacks.base import listens_to_rows
from progan.training.callbacks.choice_record import ChoiceRecord
from progan.training.callbacks.data_changes import DataChanges
from progan.training.callbacks.data_checks import mirrors
from progan.training.callbacks.diversity_watch import MEASURE, DiversityWatch
from progan.training.identity import RunIdentity
from progan.training.state import TrainingState

OnFailedSave = Literal["raise", "go_on"]
_LONGEST_NOTES = 100_000


class ResumeKeywords(TypedDict, total=False):
    """Keywords that `Trainer.from_run` accepts; `RunOptions` documents them."""

    run_dir: str | PathLike[str] | None
    device: str | torch.device | None
    callbacks: Sequence[Callback]
    on_failed_save: OnFailedSave
    workers: int
    graph: bool | None
    micro_batch: int | None
    progress: bool
    held_out: HeldOut | None
    recover: Recovery | int
    data_may_change: bool


class RunKeywords(ResumeKeywords, total=False):
    """Keywords that `Trainer` and `Trainer.from_recipe` accept; `RunOptions` documents them."""

    seed: int
    log_every: int
    save_every: int
    preview_every: int
    keep: int
    keep_every: int | None
    judge_every: int | None
    overwrite: bool
    start: str | PathLike[str] | None
    notes: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of a run, which are keyword arguments of `Trainer` and `Trainer.from_recipe`.

    Args:
        seed: Random seed for all draws and for the data order. The networks keep the weights that they have.
        run_dir: Directory for config.json, metrics.jsonl, samples/, progress.png, report.html and checkpoints/; None =
            nothing is written.
        device: Device to train on: ``cpu``, ``cuda``, ``mps``, ...; None = CUDA if available, else MPS, else the CPU.
            Each of several processes on a machine takes a GPU of its own.
        callbacks: Called in addition to the built-in metrics log, previews, judgements and progress display. A
            `MetricsLog`, `Previews` or `Judge` among them replaces the built-in one.
        log_every: Number of real images between two lines of metrics.jsonl.
        save_every: Number of real images between two checkpoints; the end of fit is saved too.
        preview_every: Number of real images between two sample grids; the end of a stage gets a grid too.
        keep: Number of checkpoints to keep, newest first.
        keep_every: Number of real images; the first checkpoint at or after each multiple is kept for good. None = no
            such checkpoints.
        judge_every: Number of real images between two judgements, rounded up to a multiple of save_every; the end of a
            stage is judged too. None = as often as 2 % of the training's time allow; 0 = never. See `Judge`.
        held_out: Images that are never trained on, with which judgements detect overfitting: a share of the images,
            above 0 and below 0.5, chosen by the seed; or a folder of pictures, a tensor or a data set, as for
            `Trainer.fit`. The run records them. None = there are none.
        on_failed_save: What fit does when a checkpoint or a line of metrics cannot be written during training:
            ``"raise"`` the error, or ``"go_on"`` with a warning and try again at the next save. The save at the end of
            fit and the one at a signal always raise.
        workers: Number of worker processes that fetch the items of a data set; 0 = none. Tensors and folders need none.
            Where processes are not forked (macOS, Windows, Python 3.14), the script needs
            ``if __name__ == "__main__":``.
        graph: Whether to launch the kernels of a step together, as a CUDA graph; None = on CUDA, unless the networks
            have a custom block or several processes train. A warning says why when a graph cannot be used.
        micro_batch: Number of real images that a process trains on at once; None = its whole batch. A larger batch is
            taken in such parts, one after another, which takes less memory and more time: gradients and losses are
            means over the parts, the same as of the whole batch up to rounding. It divides every larger batch of the
            schedule into whole MiniBatchStd groups. In parts, a custom objective or regulariser that is not a mean over
            images gives other results, and so does a custom block or augmentation that compares images or draws random
            numbers of its own. A run may resume with another value.
        progress: Whether to show a progress bar, or lines where there is no terminal.
        recover: How often `Trainer.fit` goes back to an earlier checkpoint, with half the learning rate, when training
            has diverged, before it raises `DivergenceError`: a number of times, or a `Recovery`; 0 = never. It needs a
            run_dir. The run records each return: see `Trainer.setbacks`.
        data_may_change: Whether a run that resumes may train on with other images than so far, such as with a larger
            folder. A warning says what differs, and the run records it: see `Trainer.data_history`.
        overwrite: Whether `Trainer.fit` removes the run that is in run_dir, once settings and data have been checked,
            and starts from the beginning.
        start: Run directory, folder of a checkpoint or ``.safetensors`` file whose weights a new run begins with:
            generator, discriminator and average, layer by layer where names and shapes match; a warning lists what does
            not match. The count of images and Adam start from zero. The start is no longer read once run_dir holds a
            checkpoint of the new run.
        notes: Anything of JSON that config.json is to record under this name, such as where its data lies; not compared
            when the run resumes. None = what it has recorded already, or nothing.

    Raises:
        TypeError: If an option is unknown or of a wrong type.
        ValueError: If an option is out of its range.

    Example:
        Fine-tune: begin with the weights of another run, at full size from the first step on.

        >>> from dataclasses import replace
        >>> from tempfile import TemporaryDirectory
        >>> from progan import Stage, Trainer, presets
        >>> recipe, folder = presets.mel_icon(8, channels=(16, 8)), TemporaryDirectory()
        >>> old = replace(recipe, stages=(Stage(1, 0, 16),))
        >>> Trainer.from_recipe(old, run_dir=folder.name, progress=False).fit(torch.rand(20, 3, 8, 8))
        >>> new = replace(recipe, stages=(Stage(1, 0, 60_000, learning_rate=1e-4),))
        >>> trainer = Trainer.from_recipe(new, start=folder.name, progress=False)
        >>> trainer.images_seen, trainer.start.images_seen
        (0, 16)
        >>> folder.cleanup()
    """

    seed: int = 0
    run_dir: str | PathLike[str] | None = None
    device: str | torch.device | None = None
    callbacks: Sequence[Callback] = ()
    log_every: int = 1000
    save_every: int = 10_000
    preview_every: int = 10_000
    keep: int = 3
    keep_every: int | None = None
    judge_every: int | None = None
    held_out: HeldOut | None = field(default=None, compare=False, repr=False)
    on_failed_save: OnFailedSave = "raise"
    workers: int = 0
    graph: bool | None = None
    micro_batch: int | None = None
    progress: bool = True
    recover: Recovery | int = 0
    data_may_change: bool = False
    overwrite: bool = False
    start: str | PathLike[str] | None = None
    notes: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check each option."""
        check_int("seed", self.seed)
        object.__setattr__(self, "seed", operator.index(self.seed))
        for name in ("progress", "overwrite", "data_may_change", "graph"):
            if name != "graph" or self.graph is not None:
                check_flag(name, getattr(self, name))
        if isinstance(self.callbacks, Callback):
            raise wrong_type("callbacks", "a sequence of callbacks", self.callbacks, "pass [it]")
        object.__setattr__(self, "callbacks", tuple_of("callbacks", self.callbacks, "callbacks"))
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise wrong_type("each of callbacks", "an instance of a class derived from progan.Callback", callback)
        check_counts({**recorded_options(self), "workers": self.workers})
        if self.micro_batch is not None:
            check_int("micro_batch", self.micro_batch, 1)
        check_held_out(self.held_out)
        if self.on_failed_save not in ("raise", "go_on"):
            raise ValueError(f"on_failed_save must be 'raise' or 'go_on', got {self.on_failed_save!r}")
        _check_judged(self)
        _check_notes(self.notes)
        if self.run_dir is not None:
            user_path(self.run_dir, "run_dir")

    @property
    def directory(self) -> Path | None:
        """The run directory as an absolute path, if there is one."""
        return None if self.run_dir is None else user_path(self.run_dir, "run_dir").absolute()

    @property
    def recovery(self) -> Recovery:
        """How the run goes on after trouble."""
        return Recovery.of(self.recover)


def _check_judged(options: RunOptions) -> None:
    """Raise ValueError where a run is to recover from a collapse, and is not judged so that one would be found."""
    if not (options.recovery.collapse and options.recovery.times):
        return
    judge = next((callback for callback in options.callbacks if isinstance(callback, Judge)), None)
    if judge is not None and MEASURE not in judge.measures:
        raise ValueError(
            f"Recovery(collapse=True) needs the measure {MEASURE}, which the Judge in callbacks does not have; make it "
            "with built_in=True"
        )
    if not (options.judge_every if judge is None else judge.every):
        raise ValueError(
            "Recovery(collapse=True) needs judgements at fixed counts of images, so that two runs of a seed go back "
            f"alike; pass judge_every= to the trainer, such as {2 * options.save_every}, or every= to the Judge"
        )


def _check_notes(notes: object) -> None:
    """Raise where notes are no JSON object."""
    if notes is None:
        return
    if not isinstance(notes, Mapping):
        raise wrong_type("notes", "a dict", notes)
    try:
        size = len(json.dumps(dict(notes), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"notes must be texts, finite numbers, lists and dicts of them: {error}") from None
    if size > _LONGEST_NOTES:
        raise ValueError(f"notes take {size:,} characters as JSON, and at most {_LONGEST_NOTES:,} are recorded")


def recorded_options(options: RunOptions) -> dict[str, Any]:
    """Return the options that config.json records."""
    return {name: getattr(options, name) for name in INTERVALS}


def build_callbacks(
    options: RunOptions, training: Training, state: TrainingState, identity: RunIdentity, first: bool
) -> tuple[CallbackList, MetricsLog]:
    """Return all callbacks of a trainer, built-in ones included, and its metrics log.

    Args:
        options: Options of the run.
        training: How a step trains.
        state: State of the training, to whose records callbacks write.
        identity: Identity of the run, which knows of changes to the data.
        first: Whether this is the first of the processes that train together; the others have no callbacks.
    """
    own = options.callbacks
    logs = [callback for callback in own if isinstance(callback, MetricsLog)]
    log = logs[0] if logs else MetricsLog(options.log_every, go_on=options.on_failed_save == "go_on")
    built_in: list[Callback] = [] if options.run_dir is None else [WarningsLog()]
    built_in += [*[FlipCheck()] * mirrors(training), PaletteCheck()]
    if options.run_dir is not None:
        built_in += [] if logs else [log]
        if options.judge_every != 0 and not any(isinstance(callback, Judge) for callback in own):
            built_in.append(Judge(options.judge_every))
        if not any(isinstance(callback, Previews) for callback in own):
            built_in.append(Previews(options.preview_every))  # the last grid, of the average that the judge chose
    elif not logs and any(listens_to_rows(callback) for callback in own):
        built_in.append(LossRows(options.log_every))
    if options.recovery.collapse:
        built_in.append(DiversityWatch(state.recovery))
    if training.ema.other_half_lives:
        built_in.append(ChoiceRecord(state))
    report = [] if options.run_dir is None else [ReportPage(options.preview_every)]
    shown = [Progress()] if options.progress else []
    changes = DataChanges(identity)
    return CallbackList([*built_in, *own, *report, *shown, changes] if first else []), log


def check_keywords(function: str, keywords: Mapping[str, object], kind: type[ResumeKeywords]) -> None:
    """Raise TypeError where a function is called with a keyword argument that it does not have.

    Args:
        function: Name of the function.
        keywords: Keyword arguments of the call.
        kind: Class that lists the known ones.
    """
    known = sorted(kind.__annotations__)
    for name in keywords:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"it accepts {', '.join(known)}"
            raise TypeError(f"{function} got an unexpected keyword argument {name!r}; {hint}")
