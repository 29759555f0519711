"""Open reports of runs in headless Chromium, at phone and desktop width, light and dark, and print the problems.

    make report-check RUNS="RUN_DIR ..."

The report of each run directory is written anew and opened in all four ways. It must open within two seconds, be at
most 15 MB, and have no console error, no request to any host, nothing wider than the window, and no serious finding of
axe; its pictures must show, its sliders move, and its curves switch to hours. Without scripts everything but the
sliders must be there. Look at the screenshots yourself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from site_check import BROWSERS, BUILD, QUIET, SCHEMES, WIDTHS, wrong_with

from progan.reports import write_report

MOST_BYTES = 15_000_000
MOST_S = 2.0
TRIES = 3  # of opening a page, of which the fastest counts: the machine may be busy
# Pictures that are there and do not show; those that are still being decoded are waited for.
BROKEN = """Promise.all([...document.images].map(image => image.decode().then(() => 0, () => 1)))
            .then(broken => broken.reduce((sum, each) => sum + each, 0))"""


def wrong_with_sliders(page: Any) -> list[str]:
    """Move every slider by keyboard, and return what does not follow."""
    found = []
    for panel in page.locator(".panel").all():
        slider = panel.locator("input[type=range]")
        if slider.count() == 0:
            continue
        name = slider.get_attribute("id")
        if not slider.is_visible():
            found.append(f"the {name} slider does not show")
            continue
        before = [panel.locator("img").get_attribute("src"), panel.locator("figcaption").inner_text()]
        slider.focus()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        after = [panel.locator("img").get_attribute("src"), panel.locator("figcaption").inner_text()]
        if slider.input_value() != "1":
            found.append(f"the {name} slider does not move by keyboard")
        if int(slider.get_attribute("max")) > 1 and (before[0] == after[0] or before[1] == after[1]):
            found.append(f"the picture or its caption does not follow the {name} slider")
        if slider.get_attribute("aria-valuetext") != after[1]:
            found.append(f"the {name} slider does not say where it is")
    return found


def wrong_with_switch(page: Any) -> list[str]:
    """Switch the curves to hours, and return what does not follow."""
    if page.locator("#axis-hours").count() == 0:
        return []
    shown = []
    for axis in ("hours", "images"):
        page.locator(f"#axis-{axis}").check()
        shown += [page.locator(f".by-{each}").first.is_visible() for each in ("hours", "images")]
    return [] if shown == [True, False, False, True] else ["the curves do not switch to hours"]


def check_report(browser: Any, axe: Any, path: Path, screenshots: Path) -> list[str]:
    """Open a report in every way, and return the problems, one per line."""
    problems = []
    size = path.stat().st_size
    if size > MOST_BYTES:
        problems.append(f"{size:,} bytes, more than {MOST_BYTES:,}")
    for width in WIDTHS:
        for scheme in SCHEMES:
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page = context.new_page()
            seen: list[str] = []
            page.on("console", lambda line: seen.append(f"console: {line.text}") if line.type != "log" else None)  # noqa: B023
            page.on("pageerror", lambda error: seen.append(f"error: {error}"))  # noqa: B023
            page.on("request", lambda request: seen.append(f"request: {request.url[:200]}"))  # noqa: B023
            took = min(opening_s(page, path) for _ in range(TRIES))
            wrong = [] if took < MOST_S else [f"opens in {took:.1f} s"]
            if broken := page.evaluate(BROKEN):
                wrong.append(f"{broken} pictures do not show")
            page.screenshot(path=screenshots / f"{path.parent.name}_{width}_{scheme}.png", full_page=True)
            wrong += wrong_with(page, axe) + wrong_with_sliders(page) + wrong_with_switch(page)
            if broken := page.evaluate(BROKEN):
                wrong.append(f"{broken} pictures do not show once the sliders have moved")
            own = (f"request: {path.as_uri()}"[:200], "request: data:")
            wrong += [what for what in seen if not what.startswith(own)]
            problems += [f"at {width} px, {scheme}: {what}" for what in wrong]
            context.close()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    if page.locator(".slider:visible").count():
        problems.append("without scripts: sliders show that do not work")
    if page.locator(".panel").count() and not page.locator(".panel img:visible").count():
        problems.append("without scripts: no sample grid shows")
    problems += [f"without scripts: {what}" for what in wrong_with_switch(page)]
    context.close()
    return problems


def opening_s(page: Any, path: Path) -> float:
    """Open a report, and return the seconds until it has loaded."""
    begin = time.perf_counter()
    page.goto(path.as_uri(), wait_until="load")
    return time.perf_counter() - begin


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIR", help="run directories, or report.html files")
    parser.add_argument(
        "--screenshots", type=Path, default=BUILD / "screenshots", help="folder for screenshots (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    found = [path for path in map(shutil.which, BROWSERS) if path is not None]
    if not found:
        print(f"report-check skipped: none of {', '.join(BROWSERS)} was found")
        return 0
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    reports = [(run if run.is_file() else write_report(run)).resolve() for run in options.runs]
    options.screenshots.mkdir(parents=True, exist_ok=True)
    # Chromium's sandbox refuses to run as root.
    flags = [*QUIET, "--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else list(QUIET)
    problems = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found[0], args=flags)
        for path in reports:
            problems += [
                f"{path.parent.name}: {what}" for what in check_report(browser, Axe(), path, options.screenshots)
            ]
        browser.close()
    print("\n".join(problems) or f"{len(reports)} reports are as they should be; look at {options.screenshots}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
