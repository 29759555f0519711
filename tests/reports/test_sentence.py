"""The sentence on top, word for word."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from progan import Architecture, Schedule, Stage
from progan.metrics.copying import ALARM_SHARE
from progan.reports.measures import phrase, verdict
from progan.reports.reading import RunFiles
from progan.reports.rows import Band, Judgement, LossRow, Rows
from progan.reports.sentence import standing

SCHEDULE = Schedule([Stage(0, 0, 1000), Stage(1, 500, 500), Stage(1, 0, 1000, learning_rate=1e-4), Stage(2, 500, 500)])
LAST = Schedule(SCHEDULE.stages[:3])


def losses(*rows: tuple[int, int, float]) -> tuple[LossRow, ...]:
    return tuple(LossRow(count, stage, {}, elapsed, elapsed) for count, stage, elapsed in rows)


def run(images_seen: int, state: str, rows: Rows | None = None, schedule: Schedule = SCHEDULE) -> RunFiles:
    return RunFiles(
        path=Path("run"),
        read_at=datetime.now(UTC),
        config={},
        schedule=schedule,
        architecture=Architecture(channels=(16, 8, 8)),
        images_seen=images_seen,
        state=state,
        rows=rows or Rows(),
        sheets={},
        level_rows={},
        checkpoints=(),
    )


def test_all_that_is_known():
    measures = {"swd": 23.04, "copies": 0.0, "diversity": 0.97, "feature_distance": 2.5}
    floors = {"swd": Band(9.0, 8.0, 10.0)}
    judgement = Judgement(1800, measures, floors, "feature_distance")
    rows = Rows(losses((1600, 1, 10.0), (1800, 1, 130.0)), (judgement,))
    assert standing(run(1830, "training", rows, LAST)) == (
        "8x8, 61 % done, diversity as the data's, no copying found, feature distance 2.5, SWD 23 (floor 9), 12 min left"
    )


@pytest.mark.parametrize(
    ("images_seen", "state", "said"),
    [
        (0, "not begun", "4x4, not begun"),
        (1250, "training", "8x8 fading in, 31 % done, at least 5 min left"),
        (1250, "broke off", "8x8 fading in, broke off at 31 %, at least 5 min of training left"),
        (1250, "stopped", "8x8 fading in, stopped at 31 %, at least 5 min of training left"),
        (4000, "finished", "16x16, finished, 25 s of training"),
        (3999, "training", "16x16, 99 % done"),
    ],
)
def test_how_the_run_stands(images_seen, state, said):
    rows = Rows(losses((1000, 0, 4.0), (1100, 1, 14.0), (1200, 1, 25.0))) if images_seen else None
    assert standing(run(images_seen, state, rows)) == said


def test_the_whole_time_is_known_where_the_level_stays():
    rows = Rows(losses((1100, 1, 0.0), (1200, 1, 20.0)))
    assert standing(run(1200, "training", rows, LAST)).endswith(", 40 % done, 6 min left")


def test_without_rows_there_is_no_time():
    rows = Rows(losses((1600, 1, 10.0)))
    assert standing(run(1800, "training", rows)) == "8x8, 45 % done"
    assert standing(run(1800, "training")) == "8x8, 45 % done"
    cut = replace(Rows(losses((4000, 3, 10.0))), is_whole=False)
    assert standing(run(4000, "finished", cut)) == "16x16, finished"


@pytest.mark.parametrize(
    ("name", "value", "band", "said"),
    [
        ("swd", 9.9, Band(9, 8, 10), "as good as the data allows"),
        ("swd", 23.0, Band(9, 8, 10), "2.6 times the floor"),
        ("swd", 7.0, Band(9, 8, 10), "nearer to the data than real images are, as copies would be"),
        ("feature_distance", 72.0, Band(0.8, -3.0, 5.0), "14.4 times the upper end of the floor"),
        ("swd", 23.0, None, ""),
        ("swd", None, Band(9, 8, 10), ""),
        ("feature_distance", 0.2, Band(0.0, 0.0, 0.0), "above the floor"),
        ("diversity", 0.95, None, "as the data"),
        ("diversity", 0.31, Band(0.98, 0.96, 1.0), "31 % of the data's"),
        ("diversity", 0.85, Band(1.0, 0.8, 1.2), "as the data"),
        ("density", 0.5, Band(1.0, 0.9, 1.1), "50 % of the data's"),
        ("ms_ssim", 0.31, Band(0.3, 0.28, 0.32), "as varied as the data"),
        ("ms_ssim", 0.6, Band(0.3, 0.28, 0.32), "less varied than the data"),
        ("fixed_pattern", 0.41, Band(0.13, 0.12, 0.14), "3.2 times the data's"),
        ("fixed_pattern", 0.14, Band(0.13, 0.13, 0.13), "as in the data"),
        ("fixed_pattern", 0.12, Band(0.13, 0.13, 0.13), "as in the data"),
        ("fixed_pattern", 0.09, Band(0.33, 0.33, 0.33), "less than in the data"),
        ("corners", 20.6, Band(0.0, 0.0, 0.0), "above the data's"),
        ("corners", 1.5, Band(0.0, 0.0, 0.0), "as in the data"),
        ("copies", ALARM_SHARE, None, "no copies found"),
        ("copies", ALARM_SHARE + 0.001, None, "copies of training images"),
        ("copies", 0.1, None, "copies of training images"),
        ("copies", 0.03, Band(0.02, 0.01, 0.04), "no copies found"),
        ("dead_directions", 0.0, None, "all directions matter"),
        ("dead_directions", 0.3, None, ""),
        ("dead_directions", 0.6, None, "the pictures ignore most of the latent"),
        ("critic_overfitting", 0.1, None, "no overfitting"),
        ("critic_overfitting", 0.3, None, "some overfitting"),
        ("critic_overfitting", 0.9, None, "overfits"),
        ("my_score", 3.0, Band(9, 8, 10), ""),
    ],
)
def test_what_a_value_means(name, value, band, said):
    assert verdict(name, value, band) == said


def test_phrases():
    assert phrase("diversity", 0.31, None) == "diversity 31 % of the data's"
    assert phrase("copies", 0.1, None) == "copies: 10 % of the samples"
    assert phrase("my_score", 3.0, Band(2.0, 1.0, 3.0)) == "my score 3 (floor 2)"
    assert phrase("swd", None, None) == ""
