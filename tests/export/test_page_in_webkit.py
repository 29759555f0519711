"""The page in WebKit, which Linux has as WebKitGTK: its pictures are Python's. Needs a display, as of xvfb-run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import site_check
from test_page_in_browser import KINDS, PIXELS, assert_equal, grown_of, write_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:setting remote_server_addr:DeprecationWarning"),  # by Selenium's own driver
]

MINI_BROWSER = "*/webkit2gtk-4.*/MiniBrowser"  # in /usr/lib, by Debian's package webkit2gtk-driver
SHOWN = f"return [...document.querySelectorAll(arguments[0])].map({PIXELS})"
TYPE_SEED = """
const field = document.querySelector("#seed");
field.value = arguments[0];
field.dispatchEvent(new Event("change", { bubbles: true }));
"""


@pytest.fixture(scope="module")
def webkit():
    webdriver = pytest.importorskip("selenium.webdriver", reason="make site-check installs it")
    driver, browsers = shutil.which("WebKitWebDriver"), [*Path("/usr/lib").glob(MINI_BROWSER)]
    if driver is None or not browsers or "DISPLAY" not in os.environ:
        pytest.skip("no WebKitGTK with its driver, or no display: xvfb-run is one")
    options = webdriver.webkitgtk.options.Options()
    options.binary_location = str(browsers[0])
    options.add_argument("--automation")
    service = webdriver.webkitgtk.service.Service(driver)
    with webdriver.WebKitGTK(options=options, service=service) as started:
        started.set_script_timeout(60)
        yield started


def drawn(webkit) -> None:
    """Wait until nothing is left to draw."""
    webkit.execute_async_script("""
        const done = arguments[0];
        (function look() { document.body.matches(".idle") ? done() : setTimeout(look, 50); })();
    """)


def shown(webkit, image, name: str = "#grid canvas"):
    """The pictures of canvases, as large as a given image: (N, 4, H, W), 0 to 255."""
    pixels = np.array(webkit.execute_script(SHOWN, name), dtype=float)
    return pixels.reshape(-1, *image.shape[1:], 4).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_python_s(webkit, kind, tmp_path):
    grown = grown_of(**KINDS[kind])
    samples = grown.sample(12)
    with site_check.served(write_page(grown, tmp_path / "page")) as address:
        webkit.get(f"{address}/")
        drawn(webkit)
        assert_equal(shown(webkit, samples[0]), samples)
        assert_equal(shown(webkit, samples[0], "#chosen"), samples[:1])
        webkit.execute_script(TYPE_SEED, "123456789")
        drawn(webkit)
        assert_equal(shown(webkit, samples[0]), grown.sample(12, seed=123456789))


def test_one_file_opens_from_a_disk(webkit, tmp_path):
    grown = grown_of()
    path = write_page(grown, tmp_path / "icons.html", single_file=True)
    webkit.get(f"{path.as_uri()}#seed=4&icon=2")
    drawn(webkit)
    samples = grown.sample(12, seed=4)
    assert_equal(shown(webkit, samples[0]), samples)
    assert_equal(shown(webkit, samples[0], "#chosen"), samples[2:3])
