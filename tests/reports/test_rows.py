"""Rows of metrics.jsonl: what is kept of them, and what becomes of lines that are none."""

from __future__ import annotations

import json

import pytest

from progan.reports import rows
from progan.reports.rows import Band, Clock, parse_rows, read_rows, seconds_per_image


def lines(*found: object) -> list[bytes]:
    return [each if isinstance(each, bytes) else json.dumps(each).encode() for each in found]


def loss(images_seen: int, elapsed_s: float, stage: int = 0, **values: object) -> dict[str, object]:
    return {"images_seen": images_seen, "stage": stage, "elapsed_s": elapsed_s, **values}


def test_losses_and_judgements_are_told_apart():
    judged = {
        "images_seen": 100,
        "measures": {"swd": 23.0, "density": None},
        "floors": {"swd": {"value": 9.0, "low": 8.0, "high": 10.0}, "density": {"value": None}},
        "leading": "swd",
        "remarks": ["Better.", 7],
        "judge_s": 2.0,
    }
    found = parse_rows(lines(loss(100, 2.0, critic_loss=-1.5, alpha=0.5, step_s=0.1), judged))
    assert found.losses[0].losses == {"critic_loss": -1.5}
    (judgement,) = found.judgements
    assert judgement.measures == {"swd": 23.0, "density": None}
    assert judgement.floors == {"swd": Band(9.0, 8.0, 10.0)}
    assert (judgement.leading, judgement.remarks) == ("swd", ("Better.",))


def test_what_a_judgement_may_say_of_itself():
    floors = {"swd": {"value": 9.0, "low": 12.0, "high": 7.0}, "density": {"value": 1.0}, "copies": 0.1}
    row = {"images_seen": 8, "measures": {"swd": 23.0}, "floors": floors, "remarks": ["x" * 2000] * 40}
    for leading in ("coverage", ["swd"], 7, None):
        (judgement,) = parse_rows(lines(row | {"leading": leading})).judgements
        assert judgement.leading is None, "none of its measures"
    assert judgement.floors == {"swd": Band(9.0, 9.0, 9.0), "density": Band(1.0, 1.0, 1.0)}
    assert list(map(len, judgement.remarks)) == [1000] * 30


def test_setbacks_are_no_losses():
    setback = {"images_seen": 8, "text": "training went back", "setback": {"at": 16, "back_to": 8}}
    found = parse_rows(lines(loss(8, 1.0, a=1), setback, loss(16, 2.0, a=2)))
    assert [(row.images_seen, row.losses) for row in found.losses] == [(8, {"a": 1.0}), (16, {"a": 2.0})]
    assert found.skipped == 0


def test_values_that_are_not_finite_are_gaps():
    text = b'{"images_seen": 8, "a": NaN, "b": -Infinity, "c": 1e999, "d": null, "e": true, "f": "x", "g": 2}'
    assert parse_rows([text]).losses[0].losses == {"a": None, "b": None, "d": None, "g": 2.0}


@pytest.mark.parametrize(
    "line",
    [
        b'{"images_seen": 80, "critic_lo',
        b"\xff\xfe\x00",
        b"[]",
        b'"text"',
        b'{"critic_loss": 1}',
        b'{"images_seen": -8}',
        b'{"images_seen": true}',
        b'{"images_seen": 1e3}',
        b'{"images_seen": 8, "measures": 3}',
        b"[" * 90_000,
        b'{"images_seen": ' + b"9" * 5000 + b"}",
        b'{"images_seen": 8, "text": "' + b"x" * 100_000 + b'"}',
    ],
)
def test_what_is_not_a_row_is_counted(line):
    found = parse_rows([*lines(loss(8, 1.0)), line, *lines(loss(16, 2.0)), b""])
    assert [row.images_seen for row in found.losses] == [8, 16]
    assert found.skipped == 1


def test_hours_add_up_over_resumes():
    found = parse_rows(lines(loss(100, 10), loss(200, 20), loss(300, 5), loss(400, 15), loss(500, 3))).losses
    assert [row.trained_s for row in found] == [10, 20, 25, 35, 38]
    clock = Clock(found)
    assert [clock.hours(count) * 3600 for count in (0, 50, 200, 350, 900)] == pytest.approx([0, 5, 20, 30, 38])
    assert not Clock(parse_rows(lines({"images_seen": 8})).losses).is_known


def test_times_that_cannot_be_are_not_times():
    lines = [json.dumps({"images_seen": 8, "elapsed_s": seconds}).encode() for seconds in (-5, 1e290)]
    assert [row.elapsed_s for line in lines for row in parse_rows([line]).losses] == [None, None]


def test_rows_beyond_a_resume_are_replaced():
    found = parse_rows(lines(loss(100, 10, a=1), loss(200, 20, a=2), loss(300, 30, a=3), loss(200, 9, a=4)))
    assert [(row.images_seen, row.losses["a"]) for row in found.losses] == [(100, 1), (200, 4)]


def test_pace_is_that_of_the_stage_since_the_resume():
    found = parse_rows(lines(loss(100, 100), loss(200, 300), loss(300, 1), loss(400, 11), loss(500, 21))).losses
    assert seconds_per_image(found, 0) == pytest.approx(0.1)
    assert seconds_per_image(found, 1) is None
    assert seconds_per_image(found[:1], 0) is None


def test_of_a_long_file_the_end_is_read(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\n".join(lines(*(loss(count, count) for count in range(1, 1001)))) + b"\n")
    assert read_rows(path).is_whole
    monkeypatch.setattr(rows, "_MOST_LINES", 10)
    found = read_rows(path)
    assert not found.is_whole
    assert found.losses[0].images_seen == 992
    monkeypatch.setattr(rows, "_MOST_BYTES", 1000)
    monkeypatch.setattr(rows, "_MOST_LINES", 100)
    found = read_rows(path)
    assert not found.is_whole
    assert 5 < len(found.losses) < 50
    assert (found.losses[-1].images_seen, found.skipped) == (1000, 0)


def test_many_names_are_bounded():
    found = parse_rows(lines(loss(8, 1.0, **{f"loss_{index}": index for index in range(500)}, **{"n" * 100: 1.0})))
    assert len(found.losses[0].losses) == rows._MOST_NAMES
