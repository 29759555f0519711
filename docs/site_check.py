"""Open the built site in headless Chromium, at phone and desktop width, light and dark, and print the problems.

    make site-check

Every page is opened in all four ways. It must have no console error, no request to another host, nothing wider than
the window, and no serious finding of axe. Search must find Trainer. Look at the screenshots yourself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BUILD = Path(__file__).parent / "_build"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS = (390, 1440)  # pixels
SCHEMES = ("light", "dark")
SHOWN = ("index", "first_icons", "growing", "speed", "troubleshooting", "reference/index", "reference/training")
SERIOUS = ("serious", "critical")
SEARCH_MS = 10_000
# On a phone, Furo's text column can scroll sideways by itself, so it is measured in addition to the whole page.
TOO_WIDE = "Math.max(...[...document.querySelectorAll('html, .content')].map(box => box.scrollWidth - box.clientWidth))"
# Chromium checks for updates and the like by itself, which does not concern the site.
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")


class Handler(SimpleHTTPRequestHandler):
    """Serve the site without logging requests."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's name for it)
        """Log nothing."""


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Serve a folder on this machine only, and yield its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def page_names(site: Path) -> list[str]:
    """List the hand-written and autodoc pages, without the source listings."""
    names = [path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")]
    return sorted(name for name in names if not name.startswith("_modules/"))


def wrong_with(page: Any, axe: Any) -> list[str]:
    """Return the problems of the open page."""
    found = []
    wide = page.evaluate(TOO_WIDE)
    if wide > 0:
        found.append(f"{wide} px wider than the window")
    for violation in axe.run(page).response["violations"]:
        if violation["impact"] in SERIOUS:
            places = [node["target"][0] for node in violation["nodes"]]
            found.append(f"axe: {violation['help']}: {len(places)} places, such as {places[0]}")
    return found


def check_search(page: Any, address: str) -> list[str]:
    """Search for Trainer, and return the problems of the results."""
    from playwright.sync_api import TimeoutError as NothingFound

    page.goto(f"{address}/search.html?q=Trainer")
    results = page.locator("#search-results ul.search li a", has_text="Trainer")
    try:
        results.first.wait_for(timeout=SEARCH_MS)
    except NothingFound:
        return [f"search does not find Trainer within {SEARCH_MS // 1000} s"]
    return []


def check_site(browser: Any, axe: Any, address: str, names: Sequence[str], screenshots: Path) -> list[str]:
    """Open every page in every way, and return the problems, one per line."""
    problems = []
    for width in WIDTHS:
        for scheme in SCHEMES:
            way = f"at {width} px, {scheme}"
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page = context.new_page()
            seen: list[str] = []  # errors and requests of the open page
            page.on("console", lambda line: seen.append(f"console: {line.text}") if line.type == "error" else None)  # noqa: B023
            page.on("pageerror", lambda error: seen.append(f"error: {error}"))  # noqa: B023
            page.on("request", lambda request: seen.append(f"request: {request.url}"))  # noqa: B023
            own = (f"request: {address}/", "request: data:")
            for name in names:
                seen.clear()
                page.goto(f"{address}/{name}.html", wait_until="networkidle")
                wrong = wrong_with(page, axe) + [what for what in seen if not what.startswith(own)]
                problems += [f"{name} {way}: {what}" for what in wrong]
                if name in SHOWN:
                    path = screenshots / f"{name.replace('/', '_')}_{width}_{scheme}.png"
                    page.screenshot(path=path, full_page=True)
            problems += [f"search {way}: {what}" for what in check_search(page, address)]
            context.close()
    return problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", type=Path, default=BUILD / "html", help="the built site (default: %(default)s)")
    parser.add_argument(
        "--screenshots", type=Path, default=BUILD / "screenshots", help="folder for screenshots (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    found = [path for path in map(shutil.which, BROWSERS) if path is not None]
    if not found:
        print(f"site-check skipped: none of {', '.join(BROWSERS)} was found")
        return 0
    names = page_names(options.site)
    if not names:
        print(f"{options.site} holds no pages; build them with make docs")
        return 1
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    options.screenshots.mkdir(parents=True, exist_ok=True)
    # Chromium's sandbox refuses to run as root.
    flags = [*QUIET, "--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else list(QUIET)
    with served(options.site) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found[0], args=flags)
        problems = check_site(browser, Axe(), address, names, options.screenshots)
        browser.close()
    print("\n".join(problems) or f"{len(names)} pages are as they should be; look at {options.screenshots}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
