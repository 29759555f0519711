"""Reports in a browser, by `docs/report_check.py`; and that it finds what it looks for, on reports that are broken."""

from __future__ import annotations

import shutil

import pytest
import report_check
import site_check
from report_runs import finished_run, loss_row, save, write_config, write_rows

from progan.reports import write_report

BROKEN = [  # what is said, and what is put for what
    ("light: console: ", "</main>", "</main><script>alert(1)</script>"),  # which the policy refuses
    ("light: console: ", "</main>", '</main><img alt="a" src="https://a.invalid/a.png">'),
    ("light: 1 pictures do not show", "</main>", '</main><img alt="a" src="data:image/png;base64,AAAA">'),
    ("light: 110 px wider than the window", "<h1>", '<h1 style="position: absolute; left: 0; width: 500px">'),
    ("light: axe: Elements must meet minimum color contrast", 'class="standing"', 'style="color: #aaa"'),
    ("light: the curves do not switch to hours", ":has(#axis-hours:checked)", ""),
    ("light: the later slider does not move", 'id="later" min="0"', 'id="later" disabled min="0"'),
    ("light: the later slider does not show", "</style>", ".slider { display: none !important }</style>"),
    ("without scripts: sliders show", "[hidden]", "[absent]"),
]


def check(*paths) -> int:
    """Check reports."""
    return report_check.main([*map(str, paths), "--screenshots", str(paths[0].parent / "screenshots")])


@pytest.fixture
def _browser():
    pytest.importorskip("playwright", reason="make site-check installs it")
    if not any(map(shutil.which, site_check.BROWSERS)):
        pytest.skip("no browser")


def test_without_a_browser_it_skips(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert check(tmp_path / "run") == 0
    assert capsys.readouterr().out.startswith("report-check skipped: none of chromium, ")


@pytest.mark.slow
@pytest.mark.usefixtures("_browser")
def test_reports_are_as_they_should_be(tmp_path, capsys):
    finished_run(tmp_path / "finished")
    write_config(tmp_path / "begun")
    recipe = write_config(tmp_path / "broken_off")
    write_rows(tmp_path / "broken_off", *(loss_row(recipe, count, count) for count in (300, 400)), end='\n{"im')
    save(tmp_path / "broken_off", 300)
    assert check(tmp_path / "finished", tmp_path / "begun", tmp_path / "broken_off") == 0, capsys.readouterr().out
    assert len(list((tmp_path / "screenshots").iterdir())) == 3 * 4


@pytest.mark.slow
@pytest.mark.usefixtures("_browser")
@pytest.mark.parametrize(("said", "old", "new"), BROKEN, ids=[said for said, _, _ in BROKEN])
def test_what_is_broken_is_found(said, old, new, tmp_path, capsys):
    finished_run(tmp_path)
    path = write_report(tmp_path)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert check(path) == 1
    assert said in capsys.readouterr().out
