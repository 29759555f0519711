"""The sentence on top of a report: how the run stands, from what is known."""

from __future__ import annotations

from progan.reports.measures import phrase
from progan.reports.reading import RunFiles
from progan.reports.rows import seconds_per_image

_TELLING = ("diversity", "copies")  # measures that the sentence names before the distances


def standing(run: RunFiles) -> str:
    """Return a sentence such as ``32x32, 61 % done, diversity as the data's, no copying found, 12 min left``."""
    parts = [resolution(run), progress(run)]
    if (judgement := run.judgement) is not None:
        distances = [name for name in (judgement.leading, "swd") if name is not None and name not in _TELLING]
        names = dict.fromkeys([*_TELLING, *distances])
        parts += [phrase(name, judgement.measures.get(name), judgement.floors.get(name)) for name in names]
    return ", ".join(part for part in [*parts, time(run)] if part)


def resolution(run: RunFiles) -> str:
    """Return the resolution of the samples, and whether it is fading in."""
    level, alpha = run.schedule.reached(run.images_seen)
    return run.size(level) + ("" if alpha is None else " fading in")


def progress(run: RunFiles) -> str:
    """Return how much is done, and whether it goes on."""
    share = f"{percent(run.images_seen, run.schedule.total_images)} %"
    return {
        "not begun": "not begun",
        "training": f"{share} done",
        "stopped": f"stopped at {share}",
        "broke off": f"broke off at {share}",
        "finished": "finished",
    }[run.state]


def time(run: RunFiles) -> str:
    """Return the time that is left, or that a finished run took."""
    if run.state == "finished":
        took = next((row.trained_s for row in reversed(run.rows.losses) if row.trained_s is not None), None)
        return f"{rough(took)} of training" if took is not None and run.rows.is_whole else ""
    left = time_left(run)
    if left is None:
        return ""
    seconds, is_all = left
    what = "left" if run.state == "training" else "of training left"
    return f"{'' if is_all else 'at least '}{rough(seconds)} {what}"


def time_left(run: RunFiles) -> tuple[float, bool] | None:
    """Return the seconds of training left, and whether that is an estimate or the least; None if it is not known.

    The pace is that of the current stage since training was last resumed. That of a later stage at a higher level is
    not known before it begins; it is at least as slow per image.
    """
    schedule, rows = run.schedule, run.rows.losses
    if not rows or run.images_seen >= schedule.total_images:
        return None
    stage = schedule.at(run.images_seen).stage
    image_s = seconds_per_image(rows, stage)
    if image_s is None:
        return None
    same_level = schedule.stages[stage].level == schedule.stages[-1].level
    return (schedule.total_images - run.images_seen) * image_s, same_level


def percent(part: int, whole: int) -> int:
    """Return a share in whole percent; 100 only if nothing is missing.

    Example:
        >>> percent(61, 100), percent(99_999, 100_000), percent(120, 100)
        (61, 99, 100)
    """
    return min(100, 100 * part // whole)


def rough(seconds: float) -> str:
    """Return a duration in the two digits that matter.

    Example:
        >>> [rough(seconds) for seconds in (42, 740, 4 * 3600 + 1200, 76 * 3600)]
        ['42 s', '12 min', '4 h 20 min', '3.2 days']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        minutes = round(seconds / 60)
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{seconds / 86400:.1f} days"
