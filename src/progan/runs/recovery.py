"""Going back after trouble: the settings, the record of what happened, and which checkpoints a run may go back to.

Everything here is a function of counts of images: the schedule, the interval of saves, and the recorded setbacks. So a
run that was interrupted, and has other checkpoints beside those of the interval, goes back to the same one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from progan.arguments import check_flag, check_int, check_number, wrong_type
from progan.schedule import Growth, Schedule
from progan.storage.files import write_file
from progan.storage.untrusted import read_json

SETBACKS = "setbacks.json"
COLLAPSED_IN_A_ROW = 2  # judgements of a fully grown level; one alone may be an accident
_FORMAT, _VERSION = "progan setbacks", 1
_LIMIT = 1_000_000  # bytes; a setback has 150
_MOST = 1000  # setbacks
_LONGEST_REASON = 300  # characters
_CANDIDATES = 3  # of the newest checkpoints: what led to a divergence may have begun before the newest one
_SOUND_CANDIDATES = 2  # up to the last judgement without a collapse


@dataclass(frozen=True)
class Recovery:
    """How a run goes on after trouble: back to an earlier checkpoint, with a lower learning rate.

    Args:
        times: Number of times that a run may go back, over all resumes; then the trouble ends it as without recovery.
        factor: Factor of the learning rate from the checkpoint on, in (0, 1); those of several setbacks multiply.
        collapse: Whether a collapse counts as trouble, in addition to a divergence: two judgements in a row of a fully
            grown level in which the samples are less than 40 % as diverse as the data, after one in which they were
            not. It needs judgements at fixed counts of images (``judge_every``).

    Raises:
        TypeError: If a setting is of a wrong kind.
        ValueError: If a setting is out of its range.

    Example:
        >>> Recovery(times=3, collapse=True)
        Recovery(times=3, factor=0.5, collapse=True)
    """

    times: int = 2
    factor: float = 0.5
    collapse: bool = False

    def __post_init__(self) -> None:
        """Check each setting once, here."""
        check_int("Recovery.times", self.times, 0)
        check_number("Recovery.factor", self.factor)
        check_flag("Recovery.collapse", self.collapse)
        if self.times > _MOST:
            raise ValueError(f"Recovery.times must be at most {_MOST}, got {self.times}")
        if not 0 < self.factor < 1:
            raise ValueError(
                f"Recovery.factor must be in (0, 1), got {self.factor!r}: at the same rate, the same would happen again"
            )

    @classmethod
    def of(cls, recover: Recovery | int) -> Recovery:
        """Return the settings that an option stands for: settings, or the number of times.

        Raises:
            TypeError: If it is neither.
            ValueError: If the number is not valid.
        """
        if isinstance(recover, Recovery):
            return recover
        if not isinstance(recover, int) or isinstance(recover, bool):
            raise wrong_type("recover", "a number of times, or a progan.Recovery", recover)
        if not 0 <= recover <= _MOST:
            raise ValueError(f"recover must be a number of times from 0 to {_MOST}, got {recover!r}")
        return cls(int(recover))

    def to_json(self) -> dict[str, Any]:
        """Return a dict that `json.dump` accepts."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Recovery:
        """Rebuild settings from what `to_json` returned; None stands for no recovery.

        Raises:
            TypeError: If a setting is of a wrong kind.
            ValueError: If the data is not of such settings.
        """
        if data is None:
            return cls(0)
        if not isinstance(data, Mapping) or set(data) != {"times", "factor", "collapse"}:
            raise ValueError(f"recover must have times, factor and collapse, got {data!r}")
        return cls(**data)


@dataclass(frozen=True)
class Setback:
    """A return of a run to an earlier checkpoint.

    Attributes:
        at: Real images shown when the trouble came.
        back_to: Real images shown at the checkpoint that the run went back to.
        factor: Factor of the learning rate from there on.
        reason: What the trouble was.

    Example:
        >>> Setback(at=14_200, back_to=10_000, factor=0.5, reason="critic_loss was not finite").to_json()
        {'at': 14200, 'back_to': 10000, 'factor': 0.5, 'reason': 'critic_loss was not finite'}
    """

    at: int
    back_to: int
    factor: float
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return a dict that `json.dump` accepts."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Setback:
        """Rebuild a setback from what `to_json` returned.

        Raises:
            ValueError: If the data is not one.
        """
        if not isinstance(data, Mapping) or set(data) != {"at", "back_to", "factor", "reason"}:
            raise ValueError(f"a setback must have at, back_to, factor and reason, got {data!r}")
        at, back_to, factor, reason = (data[name] for name in ("at", "back_to", "factor", "reason"))
        if type(at) is not int or type(back_to) is not int or not 0 <= back_to <= at:
            raise ValueError(f"a setback must go back from a count to one of at most that, got {at!r} to {back_to!r}")
        if type(factor) not in (int, float) or not 0 < factor < 1:
            raise ValueError(f"the factor of a setback must be in (0, 1), got {factor!r}")
        if not isinstance(reason, str) or len(reason) > _LONGEST_REASON:
            raise ValueError(f"the reason of a setback must be a text of at most {_LONGEST_REASON} characters")
        return cls(at, back_to, float(factor), reason)


@dataclass
class RecoveryRecord:
    """What a run has recorded for its recovery; part of its state.

    Attributes:
        setbacks: Setbacks so far, in their order.
        sound: Count of the last judgement of a fully grown level without a collapse; None = there is none.
        collapsed: Number of such judgements with a collapse since then.
    """

    setbacks: tuple[Setback, ...] = ()
    sound: int | None = None
    collapsed: int = 0

    def is_empty(self) -> bool:
        """Return whether nothing has been recorded."""
        return self == RecoveryRecord()

    def lowered(self, growth: Growth, images_seen: int) -> Growth:
        """Return the growth of the step that begins at ``images_seen``, with the learning rate that the setbacks allow.

        The rate is a function of the count and of the setbacks: that of the schedule times the factor of each setback
        that went back to this count or to one before it.

        Example:
            >>> record = RecoveryRecord((Setback(900, 400, 0.5, "critic_loss was not finite"),))
            >>> growth = Growth(0, 0, None, 1e-3, 8)
            >>> record.lowered(growth, 392).learning_rate, record.lowered(growth, 400).learning_rate
            (0.001, 0.0005)
        """
        factor = self.factor_at(images_seen)
        if factor == 1.0:
            return growth
        return replace(growth, learning_rate=growth.learning_rate * factor)

    def factor_at(self, images_seen: int) -> float:
        """Return the factor of the learning rate at a count."""
        return math.prod(setback.factor for setback in self.setbacks if images_seen >= setback.back_to)

    def note_diversity(self, images_seen: int, *, collapsed: bool) -> None:
        """Record whether a judgement of a fully grown level found a collapse."""
        if collapsed:
            self.collapsed += 1
        else:
            self.sound, self.collapsed = images_seen, 0

    def needed(self, schedule: Schedule, save_every: int, images_seen: int) -> set[int]:
        """Return the counts whose checkpoints must not be removed: those that the run may go back to.

        Args:
            schedule: Schedule of the run.
            save_every: Number of real images between two checkpoints.
            images_seen: Real images shown so far.
        """
        counts = set(self._newest(schedule, save_every, images_seen))
        if self.sound is not None:
            counts |= set(islice(saved_counts(schedule, save_every, self.sound), _SOUND_CANDIDATES))
        return counts

    def ways_back(self, schedule: Schedule, save_every: int, at: int, *, collapsed: bool) -> list[int]:
        """Return the counts of the checkpoints to go back to, the preferred one first.

        After a divergence, it is the newest of those that were saved at least half an interval before it, since the
        weights of one saved just before are spoilt already. After a collapse, it is the newest one up to the last
        judgement without a collapse. If the run has not got beyond the checkpoint that it went back to last, the ones
        before that come first.

        Args:
            schedule: Schedule of the run.
            save_every: Number of real images between two checkpoints.
            at: Real images shown when the trouble came.
            collapsed: Whether it is a collapse.
        """
        if collapsed:
            sound = [] if self.sound is None else saved_counts(schedule, save_every, self.sound)
            counts = list(islice(sound, _SOUND_CANDIDATES))
        else:
            latest = max(0, at - save_every // 2)
            counts = [count for count in self._newest(schedule, save_every, at) if count <= latest]
        last = self.setbacks[-1].back_to if self.setbacks else -1
        if counts and counts[0] <= last:
            return [count for count in counts if count < last] + [count for count in counts if count == last]
        return counts

    def _newest(self, schedule: Schedule, save_every: int, images_seen: int) -> list[int]:
        furthest = max([images_seen, *(setback.at for setback in self.setbacks)])
        return list(islice(saved_counts(schedule, save_every, furthest), _CANDIDATES))

    def describe(self) -> str:
        """Return what was tried, in words; empty if nothing was."""
        tried = [
            f"from {setback.at:,} to {setback.back_to:,} images ({setback.reason}; learning rate x {setback.factor:g})"
            for setback in self.setbacks
        ]
        times = {1: "once", 2: "twice"}.get(len(tried), f"{len(tried)} times")
        return f"the run went back {times} before: {', '.join(tried)}" if tried else ""

    def to_json(self) -> dict[str, Any]:
        """Return a dict that `json.dump` accepts."""
        setbacks = [setback.to_json() for setback in self.setbacks]
        return {"setbacks": setbacks, "sound": self.sound, "collapsed": self.collapsed}

    def load(self, data: Any) -> None:
        """Take over what `to_json` returned; None empties the record. All of it is checked before anything is changed.

        Raises:
            ValueError: If the data is not such a record.
        """
        if data is None:
            self.setbacks, self.sound, self.collapsed = (), None, 0
            return
        if not isinstance(data, Mapping) or set(data) != {"setbacks", "sound", "collapsed"}:
            raise ValueError(f"a record of recovery must have setbacks, sound and collapsed, got {data!r}")
        setbacks, sound, collapsed = _setbacks(data["setbacks"]), data["sound"], data["collapsed"]
        for name, count in (("sound", sound), ("collapsed", collapsed)):
            if not (name == "sound" and count is None) and (type(count) is not int or count < 0):
                raise ValueError(f"{name} must be an int of at least 0, got {count!r}")
        self.setbacks, self.sound, self.collapsed = setbacks, sound, collapsed


def saved_counts(schedule: Schedule, save_every: int, images_seen: int) -> Iterator[int]:
    """Yield the counts up to one at which the interval of saves brings a checkpoint, newest first; the last is 0.

    Example:
        >>> from progan import Stage
        >>> list(saved_counts(Schedule([Stage(0, hold_images=800)]), 100, 320))
        [304, 200, 104, 0]
    """
    last = None
    for multiple in range(images_seen // save_every * save_every, 0, -save_every):
        count = schedule.step_from(multiple)
        if count <= images_seen and count != last:
            last = count
            yield count
    yield 0


def read_setbacks(run_dir: Path) -> tuple[Setback, ...]:
    """Return the setbacks in a run's setbacks.json; none where there is no such file, or where it is damaged."""
    try:
        contents, _ = read_json(run_dir / SETBACKS, _LIMIT)
        if contents["format"] != _FORMAT or contents["version"] != _VERSION:
            return ()
        return _setbacks(contents["setbacks"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def write_setbacks(run_dir: Path, setbacks: Sequence[Setback]) -> None:
    """Write a run's setbacks.json.

    Raises:
        OSError: If it cannot be written; what was there before stays.
    """
    contents = {"format": _FORMAT, "version": _VERSION, "setbacks": [setback.to_json() for setback in setbacks]}
    write_file(run_dir / SETBACKS, (json.dumps(contents, indent=1) + "\n").encode())


def _setbacks(data: Any) -> tuple[Setback, ...]:
    if not isinstance(data, list) or len(data) > _MOST:
        raise ValueError(f"setbacks must be a list of at most {_MOST}")
    return tuple(Setback.from_json(each) for each in data)
