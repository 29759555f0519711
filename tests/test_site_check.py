"""`make site-check` finds what it looks for, each on a small site that was broken on purpose."""

from __future__ import annotations

import shutil

import pytest
import site_check

HEAD = '<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><title>site</title>'
PAGE = f'{HEAD}<link rel="icon" href="data:,"><style></style><main><h1>progan</h1><p>Icons.</p></main>'
FOUND = '<div id="search-results"><ul class="search"><li><a href="training.html">progan.Trainer</a></ul></div>'
CONTRAST = "axe: Elements must meet minimum color contrast"
BROKEN = [  # what is said, and what is put for what
    ("light: 90 px wider than the window", "<p>", '<p style="position: absolute; left: 0; width: 480px">'),
    ("light: 106 px wider than the window", "<p>", "<div class=content style=overflow:auto><p style=width:480px>"),
    ("light: console: broken", "</main>", "</main><script>console.error('broken')</script>"),
    ("light: error: broken", "</main>", "</main><script>throw new Error('broken')</script>"),
    ("light: console: Failed to load resource", "</main>", "</main><script src='missing.js'></script>"),
    ("light: request: http://a.invalid/a.js", "</main>", "</main><script src='http://a.invalid/a.js'></script>"),
    ("light: " + CONTRAST, "<p>", '<p style="color: #ddd">'),
    ("dark: " + CONTRAST, "<style>", "<style>@media (prefers-color-scheme: dark) { p { color: #ddd } }"),
    ("light: axe: Images must have alternative text", "<p>", '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">'),
]


def write_site(path, page=PAGE, found=FOUND):
    """Write a site of two pages."""
    path.mkdir()
    (path / "index.html").write_text(page)
    (path / "search.html").write_text(page.replace("</main>", f"{found}</main>"))


def check(tmp_path) -> int:
    """Check the site."""
    return site_check.main(["--site", str(tmp_path / "site"), "--screenshots", str(tmp_path / "screenshots")])


@pytest.fixture
def _browser():
    pytest.importorskip("playwright", reason="make site-check installs it")
    if not any(map(shutil.which, site_check.BROWSERS)):
        pytest.skip("no browser")


def test_without_a_browser_it_skips(tmp_path, monkeypatch, capsys):
    write_site(tmp_path / "site")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert check(tmp_path) == 0
    assert capsys.readouterr().out.startswith("site-check skipped: none of chromium, ")


def test_without_pages_it_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    assert check(tmp_path) == 1
    assert "holds no pages; build them with make docs" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("_browser")
def test_a_sound_site_passes(tmp_path, capsys):
    write_site(tmp_path / "site")
    assert check(tmp_path) == 0, capsys.readouterr().out
    ways = [f"index_{width}_{scheme}.png" for width in site_check.WIDTHS for scheme in site_check.SCHEMES]
    assert sorted(path.name for path in (tmp_path / "screenshots").iterdir()) == sorted(ways)


@pytest.mark.slow
@pytest.mark.usefixtures("_browser")
@pytest.mark.parametrize(("said", "old", "new"), BROKEN, ids=[said for said, _, _ in BROKEN])
def test_what_is_broken_is_found(said, old, new, tmp_path, capsys):
    write_site(tmp_path / "site", page=PAGE.replace(old, new))
    assert check(tmp_path) == 1
    assert f"index at 390 px, {said}" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("_browser")
def test_a_search_that_finds_nothing_is_found(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(site_check, "SEARCH_MS", 100)
    write_site(tmp_path / "site", found='<div id="search-results"></div>')
    assert check(tmp_path) == 1
    assert capsys.readouterr().out.count("search does not find Trainer") == 4
