"""Figures of a run: of which rows, with which floor, over which axes."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from test_sentence import SCHEDULE, run

from progan import Architecture
from progan.reports import figures
from progan.reports.figures import Figures
from progan.reports.rows import Band, Judgement, LossRow, Rows


def losses(*counts: int, hour_s: float = 1.0) -> Rows:
    """Rows whose loss is their count, of which the last one is at a time."""
    return Rows(tuple(LossRow(n, 0, {"loss": float(n)}, n, n * hour_s / counts[-1]) for n in counts))


def test_a_verdict_is_that_of_the_newest_judgement_and_its_floor():
    before = Judgement(1000, {"swd": 30.0}, {"swd": Band(9.0, 8.0, 10.0)})
    newest = Judgement(1500, {"swd": 18.0}, {"swd": Band(18.5, 16.0, 20.0)})
    shown = Figures(run(1500, "training", Rows(judgements=(before, newest)))).measures()
    assert "As good as the data allows." in shown
    assert "SWD: from 30 at 1,000 images to 18 at 1,500 images. Floor: 18.5." in shown


@pytest.mark.parametrize(("seconds", "end"), [(7190.0, "100 minutes"), (7200.0, "2 hours")])
def test_short_trainings_are_drawn_over_minutes(seconds, end):
    assert f">{end}</text>" in Figures(run(900, "training", losses(100, 900, hour_s=seconds))).losses()


def test_stages_are_named_where_their_resolution_is_new():
    shown = Figures(run(4000, "training", Rows(losses(100, 4000).losses))).losses()
    assert re.findall(r'<text class="stage"[^>]*>([^<]*)', shown) == ["4", "8", "16"] * 2


def test_of_many_rows_some_are_drawn_and_the_newest_among_them(monkeypatch):
    monkeypatch.setattr(figures, "_MOST_ROWS", 4)
    shown = Figures(run(900, "training", losses(*range(100, 1000, 100)))).losses()
    assert "Loss: from 300 at 300 images to 900 at 900 images." in shown
    assert shown.count("<circle") == 3 * 2


def test_resolutions_that_are_not_square_have_both_sides():
    tall = replace(run(0, "not begun"), architecture=Architecture(channels=(16, 8, 8), base_size=(6, 4)))
    assert (tall.size(1), tall.short_size(1)) == ("8x12", "8x12")
    assert run(0, "not begun", schedule=SCHEDULE).short_size(1) == "8"
