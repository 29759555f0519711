"""The choice among the averages of a generator, when it is asked for."""

from __future__ import annotations

from contextlib import ExitStack

from progan.data import Feed
from progan.runs.average_choice import AverageChoice
from progan.training.callbacks import CallbackList, Judge, Run
from progan.training.callbacks.choice_record import choice_row
from progan.training.callbacks.judge import LEAST_SIZE
from progan.training.checkpointer import Checkpointer
from progan.training.engine import Engine


def choose_average(
    run: Run, feed: Feed, engine: Engine, checkpointer: Checkpointer, callbacks: CallbackList
) -> AverageChoice:
    """Choose among the averages of a run, and record the choice: see `Trainer.choose_average`.

    Args:
        run: Run of the averages.
        feed: Its data.
        engine: Engine of the run.
        checkpointer: Saves the run.
        callbacks: Callbacks of the run; the judge among them judges, if there is one.
    """
    if len(engine.averages) == 1:
        raise ValueError("the run keeps one average; to choose among several, train with Ema(other_half_lives=...)")
    size = run.generator.architecture.size(run.schedule.reached(run.images_seen)[0])
    if min(size) < LEAST_SIZE:
        raise ValueError(f"averages are judged from {LEAST_SIZE}x{LEAST_SIZE} pixels on, got {size[1]}x{size[0]}")
    with engine.settings(), ExitStack() as stack:
        checkpointer.open(stack)
        engine.ranks.on_rank_zero(lambda: _judge(run, feed, engine, callbacks))
        engine.share_choice()
        if engine.saves:
            checkpointer.save(run)
    choice = engine.state.choice
    assert choice is not None
    return choice


def _judge(run: Run, feed: Feed, engine: Engine, callbacks: CallbackList) -> None:
    judge = next((callback for callback in callbacks.callbacks if isinstance(callback, Judge)), None) or Judge()
    judge.on_data(run, feed)
    choice = judge.choose(run)
    judge.on_end(run)
    if choice is None:
        if not judge.measures:
            raise ValueError("the judge has no measures to choose by; leave built_in=True, or pass Judge(measures=...)")
        leading = "any measure" if judge.leading is None else f"the leading measure, {judge.leading!r}"
        raise ValueError(
            f"none of the averages has a value of {leading}; the judge's measures are {', '.join(judge.measures)}"
        )
    engine.state.choice = choice
    run.log(choice_row(run, choice))
