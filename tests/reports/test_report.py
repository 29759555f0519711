"""The report of runs of every kind: what the page says, that it is sound HTML, and that it holds nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from report_runs import (
    finished_run,
    judgement_row,
    loss_row,
    recipe_of,
    save,
    write_config,
    write_rows,
    write_sheets,
)

from progan import CheckpointError, Trainer
from progan.render import write_png
from progan.reports import gallery, pictures, write_report
from progan.runs.directory import REPORT
from progan.runs.judging import Judged, JudgingRecord
from progan.storage.files import OWNER, owned

VOID = {"meta", "link", "img", "input", "br", "wbr"}
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\u202e\x00</style>\ud800'
SHORT = HOSTILE[:60]  # as long as names of losses and measures may be


class Page(HTMLParser):
    """A report, parsed: elements must be closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.feed(self.html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"an attribute of {tag} stands twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts))

    @property
    def standing(self) -> str:
        return re.search(r'<p class="standing">(.*?)</p>', self.html)[1].replace("&nbsp;", " ").replace("&#x27;", "'")

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        wanted = {("class" if name == "kind" else name): value for name, value in attributes.items()}
        return [found for name, found in self.elements if name == tag and wanted.items() <= found.items()]


def report(run_dir, **options) -> Page:
    path = write_report(run_dir, **options)
    assert path == run_dir / REPORT
    page = Page(path)
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(set(ids)) == len(ids)
    labels = {found["for"] for found in page.all("label")}
    assert labels <= set(ids)
    for found in page.all("img"):
        assert found["src"].startswith("data:image/")
        assert len(found["alt"].split()) >= 4
    addresses = [value for _, found in page.elements for name, value in found.items() if name in ("src", "href")]
    assert all(address.startswith("data:") for address in addresses)
    assert not any(name.startswith("on") for _, found in page.elements for name in found)
    return page


def test_a_finished_run(tmp_path):
    finished_run(tmp_path)
    page = report(tmp_path)
    assert page.standing == (
        "8x8, finished, diversity as the data's, no copying found, feature distance 1.3 (floor 0.9), SWD 12 (floor 9), "
        "2 min of training."
    )
    assert "What this report lacks" not in page.text
    assert "Best checkpoint by feature distance: 1,200 images (1.2)." in page.text
    assert "The samples become better" in page.text
    assert "300 images training is slower than it could be" in page.text
    assert "Measured at 1,200 images." in page.text
    assert "0 % of the samples are flagged: no copies found." in page.text
    assert len(page.all("script", kind="sheet")) == 6
    assert [found["value"] for found in page.all("input", type="range")] == ["2", "5"]  # the middle, and the newest
    labels = [found["data-label"] for found in page.all("script", kind="sheet")]
    assert labels[2::3] == ["600 images, 8x8, fading in (50 %)", "1,200 images, 8x8"]
    assert len(page.all("svg", role="img")) == 2 * (10 + 4)  # ten measures and four losses, over images and over hours
    assert len(page.all("li", style="flex-grow:800")) == 1
    for section in ("strip", "samples", "measures", "curves", "closest", "defects", "schedule", "warnings", "settings"):
        assert page.all("section", id=section)


def test_the_table_of_measures_begins_with_the_leading_one(tmp_path):
    recipe = write_config(tmp_path / "R&D")
    floors = {
        "swd": {"value": 9.0, "low": 8.0, "high": 10.0},
        "ms_ssim": {"value": 0.3, "low": 0.3, "high": 0.3},
        "copies": {"value": 0.03, "low": 0.02, "high": 0.04},
    }
    measures = {"ms_ssim": 0.31, "copies": 0.035, "swd": 23.0}
    write_rows(tmp_path / "R&D", judgement_row(recipe, 100, measures=measures, floors=floors, leading="swd"))
    (tmp_path / "R&D/samples").mkdir()
    write_png(tmp_path / "R&D/samples/closest.png", torch.zeros(3, 40, 60, dtype=torch.uint8))
    page = report(tmp_path / "R&D")
    assert re.findall(r'<th scope="row">([^<]+)', page.html) == ["SWD ", "MS-SSIM", "Copies"]
    assert re.findall(r">([^<]+ to [^<]+)</span></td>", page.html) == ["8 to 10", "2 % to 4 %"]
    assert "3.5 % of the samples are flagged: no copies found." in page.text
    assert "<title>R&amp;D: " in page.html
    assert "<h1>R&amp;D</h1>" in page.html


def test_the_policy_allows_the_script_of_the_page_and_nothing_else(tmp_path):
    finished_run(tmp_path)
    page = report(tmp_path)
    (policy,) = [found["content"] for found in page.all("meta") if found.get("http-equiv")]
    programs = [script for script in page.scripts if not script.startswith("data:")]
    digests = {base64.b64encode(hashlib.sha256(program.encode()).digest()).decode() for program in programs}
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digests.pop()}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not digests


def test_while_it_trains_and_when_it_stopped(tmp_path):
    recipe = write_config(tmp_path)
    write_rows(tmp_path, *(loss_row(recipe, count, count * 6.0) for count in (500, 600, 700)))
    save(tmp_path, 700)
    with owned(tmp_path):
        assert report(tmp_path).standing == "8x8 fading in, 58 % done, 50 min left."
        assert report(tmp_path, training=False).standing.startswith("8x8 fading in, stopped at 58 %")
    page = report(tmp_path)
    assert page.standing == "8x8 fading in, stopped at 58 %, 50 min of training left."
    assert page.html.count('<span style="width:37%">') == 2  # of 8x8, in the bar and in the schedule
    assert "<td>0</td><td>400</td>" in page.html  # fade and hold of 4x4
    assert len(page.all("tr", **{"aria-current": "step"})) == 1
    assert report(tmp_path, training=True).all("span", kind="badge training")


def test_while_another_process_trains(tmp_path):
    write_config(tmp_path)
    program = (
        "import sys, pathlib; from progan.storage.files import owned\n"
        "with owned(pathlib.Path(sys.argv[1])): print('owned', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as trainer:
        assert trainer.stdout.readline() == "owned\n"
        assert report(tmp_path).all("span", kind="badge training")
        assert (tmp_path / OWNER).exists()
        trainer.kill()
    assert report(tmp_path).all("span", kind="badge broke-off")  # the file of its lock is still there


def test_a_run_that_broke_off(tmp_path):
    recipe = write_config(tmp_path)
    write_rows(tmp_path, *(loss_row(recipe, count, count / 2) for count in (100, 200, 300)))
    for count in range(10, 220, 10):
        save(tmp_path, count)
    page = report(tmp_path)
    assert page.standing.startswith("4x4, broke off at 25 %")
    assert "The run broke off; its newest checkpoint is at 210 images." in page.text
    assert "Checkpoints at 20, 30, " in page.text  # the newest ones
    assert ", 210 images." in page.text


def test_how_far_a_run_is_without_rows(tmp_path):
    recipe = write_config(tmp_path)
    write_sheets(tmp_path, recipe, [500])
    assert report(tmp_path).standing == "8x8 fading in, broke off at 41 %."
    save(tmp_path, 600)
    assert report(tmp_path).standing == "8x8 fading in, stopped at 50 %."
    write_rows(tmp_path, loss_row(recipe, 1200, 60.0))
    assert "broke off at 100 %" in report(tmp_path).standing  # before its last save
    shutil.rmtree(tmp_path / "checkpoints")  # by a person
    assert report(tmp_path).standing == "8x8, finished, 60 s of training."


def test_a_run_that_has_not_begun(tmp_path):
    write_config(tmp_path)
    page = report(tmp_path)
    assert page.standing == "4x4, not begun."
    assert "samples/ is missing or empty. The trainer writes one every 100 images." in page.text
    assert "metrics.jsonl is missing: there are no curves." in page.text
    assert "There is no checkpoint yet." in page.text
    assert not page.all("tr", **{"aria-current": "step"})
    assert "No rows to draw curves from." in page.text


def test_rows_of_an_older_run_without_judgements(tmp_path):
    recipe = write_config(tmp_path)
    write_rows(tmp_path, *(loss_row(recipe, count, count / 2) for count in (100, 200)), end='\n{"images_seen": 30')
    write_sheets(tmp_path, recipe, [100])
    page = report(tmp_path)
    assert "No judgement yet: metrics.jsonl holds losses only" in page.text
    assert "1 line of metrics.jsonl could not be read (cut off or damaged)." in page.text
    assert not page.all("input", type="range")  # of one grid there is nothing to slide through
    assert page.all("img", alt="Sample grid after 100 images, 4x4")


def test_other_intervals_than_those_of_this_version(tmp_path):
    write_config(tmp_path, intervals={"log_every": 100}, environment=None)
    assert "Environment Not recorded." in re.sub(r"(?<=[a-z])(?=[A-Z])", " ", report(tmp_path).text)


def test_the_newest_warnings_come_first_and_a_long_log_is_named(tmp_path, monkeypatch):
    recipe = write_config(tmp_path)
    write_rows(tmp_path, *(loss_row(recipe, count, count / 10) for count in range(8, 88, 8)))
    lines = [json.dumps({"images_seen": count, "text": f"warning {count}"}) for count in range(60)]
    (tmp_path / "warnings.jsonl").write_text("\n".join(lines))
    monkeypatch.setattr("progan.reports.rows._MOST_LINES", 5)
    page = report(tmp_path)
    assert page.text.index("warning 59") < page.text.index("warning 58") < page.text.index("warning 10")
    assert "warning 9" not in page.text
    assert "10 earlier ones are in warnings.jsonl." in page.text
    assert "metrics.jsonl is very long: only its end was read" in page.text


def test_a_trainer_that_tidies_up_does_not_stop_a_report(tmp_path, monkeypatch):
    write_config(tmp_path)
    failures = [FileNotFoundError("its unfinished file is gone")] * 2

    def write(path: Path, contents: bytes) -> None:
        if failures:
            raise failures.pop()
        path.write_bytes(contents)

    monkeypatch.setattr("progan.reports.report.write_file", write)
    assert write_report(tmp_path).is_file()
    failures += [FileNotFoundError("there is no such directory")] * 3
    with pytest.raises(FileNotFoundError):
        write_report(tmp_path)


def test_rows_without_times_have_no_hours(tmp_path):
    recipe = write_config(tmp_path)
    write_rows(tmp_path, {"images_seen": 100, "critic_loss": float("nan")}, judgement_row(recipe, 100, floors=None))
    page = report(tmp_path)
    assert not page.all("input", type="radio")
    assert not page.all("div", kind="by-hours")


def test_pictures_that_a_person_has_changed(tmp_path):
    recipe = finished_run(tmp_path)
    (tmp_path / "samples" / "000000200.png").write_bytes(b"GIF89a")
    for name in ("closest.png", "level_123.png"):  # there is no such level
        (tmp_path / "samples" / name).write_bytes(b"")
    page = report(tmp_path)
    assert "not written by progan: closest.png, 000000200.png." in page.text
    assert len(page.all("script", kind="sheet")) == 5
    for path in (tmp_path / "samples").glob("0*.png"):
        path.write_bytes(b"")
    page = report(tmp_path)
    assert "None of the 6 sample grids in samples/ can be read." in page.text
    names = ", ".join(f"{count:09d}.png" for count in (200, 400, 600, 800))
    assert f"not written by progan: closest.png, {names}, ...." in page.text
    for path in (tmp_path / "samples").iterdir():
        path.unlink()
    assert "Progress strip: a row of samples" in report(tmp_path).all("img")[0]["alt"]
    assert recipe.schedule.total_images == 1200


def test_hostile_texts_stay_texts(tmp_path):
    recipe = write_config(
        tmp_path,
        environment={HOSTILE: HOSTILE, "long": "x" * 100_000},
        data={"kind": HOSTILE, "names": [HOSTILE] * 3, "deep": [{"a": {"b": HOSTILE}}]},
    )
    write_rows(
        tmp_path,
        loss_row(recipe, 100, 1.0, **{SHORT: 1.0}),
        judgement_row(recipe, 100, measures={SHORT: 1.0}, leading=SHORT, remarks=[HOSTILE, "x" * 90_000]),
    )
    JudgingRecord(best=Judged(1, 1, None, HOSTILE, 1.0)).write(tmp_path)
    (tmp_path / "warnings.jsonl").write_text(json.dumps({"images_seen": 5, "text": HOSTILE}) + "\n[]\n")
    page = report(tmp_path)
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert page.text.count("<script>alert(1)</script>") >= 10  # as text
    assert "could not be read" not in page.text  # all rows are there
    assert len(page.all("svg", role="img")) == 2 * (1 + 5)  # curves of the measure and of all losses, by both axes
    assert "\u202e" not in page.html
    assert len(page.html) < 100_000


@pytest.mark.parametrize(
    ("contents", "said"),
    [(None, "holds no progan run"), ("{}", "holds no progan run"), ('{"format": "progan run", "version": 1}', "lacks")],
)
def test_what_is_no_run_is_refused(contents, said, tmp_path):
    if contents is not None:
        (tmp_path / "config.json").write_text(contents)
    with pytest.raises(CheckpointError, match=said):
        write_report(tmp_path)
    with pytest.raises(CheckpointError, match="holds no progan run"):
        write_report(tmp_path / "missing")
    assert not list(tmp_path.glob("*report*"))


def test_arguments_are_checked(tmp_path):
    write_config(tmp_path)
    with pytest.raises(ValueError, match="max_mb must be at least 2, got 1"):
        write_report(tmp_path, max_mb=1)
    with pytest.raises(ValueError, match="max_mb must be at least 2, got nan"):
        write_report(tmp_path, max_mb=float("nan"))
    with pytest.raises(TypeError, match="training"):
        write_report(tmp_path, training="yes")


def test_only_one_process_writes_it_at_a_time(tmp_path):
    finished_run(tmp_path)
    before = write_report(tmp_path).read_bytes()
    with owned(tmp_path, ".report.partial"), pytest.raises(BlockingIOError, match=r"report\.html is being written"):
        write_report(tmp_path)
    assert (tmp_path / REPORT).read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_nothing_else_in_the_run_changes(tmp_path):
    finished_run(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write_report(tmp_path)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {tmp_path / REPORT} == after.keys() - before.keys()
    assert {path: after[path] for path in before} == before


def test_grids_are_encoded_once(tmp_path, monkeypatch):
    finished_run(tmp_path)
    first = report(tmp_path)
    read: list[str] = []
    monkeypatch.setattr(
        gallery, "load_picture", lambda path, n: read.append(path.name) or pictures.load_picture(path, n)
    )
    second = report(tmp_path)
    assert sorted(read) == ["closest.png", "level_0.png", "level_1.png"]
    assert [script for script in first.scripts if script.startswith("data:")] == [
        script for script in second.scripts if script.startswith("data:")
    ]
    os.utime(tmp_path / "samples" / "000000400.png", (1, 1))
    report(tmp_path)
    assert "000000400.png" in read


@pytest.mark.parametrize("with_pillow", [True, False])
def test_many_large_grids_fit(tmp_path, monkeypatch, with_pillow):
    if with_pillow:
        pytest.importorskip("PIL")
    else:
        monkeypatch.setattr(pictures, "_pillow", lambda: None)
        monkeypatch.setattr(gallery, "makes_webp", lambda: False)
    recipe = write_config(tmp_path, recipe_of((16, 8, 8, 8, 8), 4000))
    total = recipe.schedule.total_images
    (tmp_path / "samples").mkdir()
    noise = torch.randint(0, 256, (3, 256, 256), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    counts = [*range(total // 70, total, total // 70), total]
    for count in counts:
        write_png(tmp_path / "samples" / f"{count:09d}.png", noise.roll(count, 1))
    save(tmp_path, total)
    path = write_report(tmp_path, max_mb=2)
    assert 300_000 < path.stat().st_size <= 2_000_000
    page = Page(path)
    shown = [int(re.sub(r"\D", "", found["data-label"].split(" ")[0])) for found in page.all("script", kind="sheet")]
    assert (shown[0], shown[-1]) == (counts[0], counts[-1])
    assert len(shown) >= 15
    if len(shown) < len(counts):
        assert f"{len(shown)} of {len(counts)} grids, evenly spread" in page.text
    assert ("Pillow is missing" in page.text) != with_pillow


def test_a_run_of_the_trainer(tmp_path):
    recipe = recipe_of((16, 8), 64)
    trainer = Trainer.from_recipe(recipe, run_dir=tmp_path, progress=False, log_every=16, preview_every=32)
    images = torch.rand(20, 3, 8, 8)
    trainer.fit(images, until=80)
    page = report(tmp_path)
    assert page.standing.startswith("8x8 fading in, stopped at ")
    assert len(page.all("script", kind="sheet")) == 2
    trainer.fit(images)
    assert "8x8, finished" in report(tmp_path).standing


def test_a_long_run_does_not_take_long_to_draw(tmp_path):
    recipe = write_config(tmp_path)
    write_rows(tmp_path, *(loss_row(recipe, count, count / 100) for count in range(1, 1201)))
    page = report(tmp_path)
    assert len(page.html) < 250_000
    assert time.strptime(page.all("time")[0]["datetime"][:19], "%Y-%m-%dT%H:%M:%S")
