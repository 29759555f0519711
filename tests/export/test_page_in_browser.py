"""The page in headless Chromium: its pictures are Python's, its buttons do what they say, and it asks no other host."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from urllib.parse import parse_qsl

import numpy as np
import pytest
import site_check
import torch
from conftest import small_recipe
from PIL import Image

from progan import Classes, GrownGenerator, export, presets, slerp

pytestmark = pytest.mark.slow

KINDS = {
    "colour": {},
    "grey": {"image_channels": 1},
    "RGBA": {"image_channels": 4},
    "classes 3:2": {"preset": presets.karras2018, "base_size": (6, 4), "classes": 3},
}
PIXELS = """canvas => {
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    return [...copy.getImageData(0, 0, canvas.width, canvas.height).data];
}"""
ANGLE = 0.35  # from a picture to one like it


def grown_of(preset=presets.mel_icon, **settings) -> GrownGenerator:
    recipe = small_recipe(preset)
    recipe = replace(recipe, architecture=replace(recipe.architecture, **settings))
    generator = recipe.build(seed=3)[0]
    torch.nn.init.normal_(generator.to_rgb[2].weight, std=3, generator=torch.Generator().manual_seed(1))
    classes = Classes((5, 1, 2), ("cats", "<b>dogs</b>", "birds")) if settings.get("classes") else None
    return GrownGenerator(generator, 2, classes=classes)


def write_page(grown, path, **keywords):
    """Write a page with the true runtime."""
    pytest.importorskip("onnxscript", reason="needs the extra export")
    try:
        return export.save_page(grown, path, **keywords).path
    except (ImportError, OSError) as error:
        pytest.skip(f"no onnxruntime-web: {error}")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="make site-check installs it")
    found = [path for path in map(shutil.which, site_check.BROWSERS) if path]
    if not found:
        pytest.skip("no browser")
    # Chromium's sandbox refuses to run as root.
    flags = [*site_check.QUIET, "--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else [*site_check.QUIET]
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=found[0], args=flags)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A page with classes, its generator and its address."""
    grown = grown_of(**KINDS["classes 3:2"])
    folder = write_page(grown, tmp_path_factory.mktemp("page") / "page", title="Icons")
    with site_check.served(folder) as address:
        yield grown, address


def opened(browser, address, **context):
    """Open a page; return it, and what it complains of or asks for."""
    page = browser.new_context(**context).new_page()
    seen: list[str] = []
    page.on("console", lambda line: seen.append(f"console: {line.text}"))
    page.on("pageerror", lambda error: seen.append(f"error: {error}"))
    page.on("request", lambda request: seen.append(request.url))
    page.goto(address)
    drawn(page)
    return page, seen


def drawn(page) -> None:
    """Wait until nothing is left to draw."""
    page.wait_for_selector("body.idle", timeout=60_000)


def shown(page, name: str = "#grid canvas"):
    """The pictures of canvases, (N, 4, H, W), 0 to 255."""
    height, width = (page.locator(name).first.get_attribute(side) for side in ("height", "width"))
    pixels = [each.evaluate(PIXELS) for each in page.locator(name).all()]
    return np.array(pixels, dtype=float).reshape(-1, int(height), int(width), 4).transpose(0, 3, 1, 2)


def assert_equal(pictures, images: torch.Tensor) -> None:
    """Assert that pictures are images of Python, to 2/255; a canvas multiplies colours by the opacity."""
    images = images.numpy() * 255
    if images.shape[1] == 4:
        np.testing.assert_allclose(pictures[:, 3], images[:, 3], rtol=0, atol=2)
        images = images[:, :3] * images[:, 3:] / 255
        pictures = pictures[:, :3] * pictures[:, 3:] / 255
    np.testing.assert_allclose(pictures[:, :3], np.broadcast_to(images, pictures[:, :3].shape), rtol=0, atol=2)
    assert np.ptp(images) > 50


def steps_of(page) -> list[tuple[str, str]]:
    """The steps in the address."""
    page.wait_for_timeout(400)  # it follows a moment later
    return parse_qsl(page.evaluate("location.hash.slice(1)"))


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_python_s(browser, kind, tmp_path):
    grown = grown_of(**KINDS[kind])
    with site_check.served(write_page(grown, tmp_path / "page")) as address:
        page, seen = opened(browser, f"{address}/")
        assert_equal(shown(page), grown.sample(12))
        assert_equal(shown(page, "#chosen"), grown.sample(1))
        page.locator("#seed").fill("123456789")
        page.keyboard.press("Enter")
        drawn(page)
        assert_equal(shown(page), grown.sample(12, seed=123456789))
        assert steps_of(page) == [("seed", "123456789"), ("icon", "0")]
        assert [each for each in seen if not each.startswith((f"{address}/", f"blob:{address}/"))] == []
        page.context.close()


def test_one_file_opens_from_a_disk(browser, tmp_path):
    grown = grown_of()
    path = write_page(grown, tmp_path / "icons.html", single_file=True)
    page, seen = opened(browser, f"{path.as_uri()}#seed=4&icon=2")
    assert_equal(shown(page), grown.sample(12, seed=4))
    assert_equal(shown(page, "#chosen"), grown.sample(12, seed=4)[2:3])
    assert [each for each in seen if not each.startswith((path.as_uri(), "blob:null/", "data:text/javascript,"))] == []
    page.context.close()


def test_sliders_and_steps_by_keyboard_and_by_link(browser, labelled):
    grown, address = labelled
    page, seen = opened(browser, f"{address}/")
    page.locator("#grid input").first.focus()
    page.keyboard.press("ArrowRight")
    drawn(page)
    assert_equal(shown(page, "#chosen"), grown.sample(2)[1:])
    page.locator("#sliders input").nth(1).focus()
    page.keyboard.press("End")
    drawn(page)
    assert steps_of(page) == [("seed", "0"), ("icon", "1"), ("move", "0,4,0,0,0")]
    moved = shown(page, "#chosen")
    z, direction = grown.latents([1])[0], torch.tensor(page.evaluate("JSON.parse(facts.textContent).directions[1]"))
    z = on_the_sphere(z, 4 * direction)
    assert_equal(moved, grown.images(z[None], grown.labels([1])))
    page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="More like this").click()  # at once: what was there before is not lost
    page.go_back()
    assert steps_of(page)[2:] == [("move", "0,3.95,0,0,0")]
    page.locator("#sliders input").nth(1).focus()
    page.keyboard.press("End")
    drawn(page)
    np.testing.assert_array_equal(shown(page, "#chosen"), moved)
    page.get_by_role("button", name="More like this").click()
    page.locator("#grid label").nth(3).click()
    drawn(page)
    assert steps_of(page)[2:] == [("move", "0,4,0,0,0"), ("like", "3")]
    near = grown.latents([12 + 3])[0]
    near = near - (near @ z) / (z @ z) * z
    assert_equal(
        shown(page, "#chosen"),
        grown.images(on_the_sphere(z, ANGLE * z.norm() * near / near.norm())[None], grown.labels([1])),
    )
    assert_equal(shown(page)[:1], grown.images(z[None], grown.labels([1])))
    other, _ = opened(browser, page.url)
    np.testing.assert_array_equal(shown(other, "#chosen"), shown(page, "#chosen"))
    np.testing.assert_array_equal(shown(other), shown(page))
    page.get_by_role("button", name="Back to all").click()
    drawn(page)
    assert_equal(shown(page), grown.sample(12))
    page.go_back()
    drawn(page)
    np.testing.assert_array_equal(shown(other, "#chosen"), shown(page, "#chosen"))
    assert [each for each in seen if "console" in each or "error" in each] == []
    for each in (page, other):
        each.context.close()


def on_the_sphere(z: torch.Tensor, way: torch.Tensor) -> torch.Tensor:
    """Where a way along the sphere leads from a latent."""
    way = way - (way @ z) / (z @ z) * z
    angle = way.norm() / z.norm()
    return z * torch.cos(angle) + z.norm() * torch.sin(angle) * way / way.norm()


def test_classes_are_a_choice(browser, labelled):
    grown, address = labelled
    page, _ = opened(browser, f"{address}/#seed=3")
    assert page.locator("#label option").all_inner_texts() == ["any", "cats", "<b>dogs</b>", "birds"]
    assert_equal(shown(page), grown.sample(12, seed=3))
    page.locator("#label").select_option("birds")
    drawn(page)
    assert_equal(shown(page), grown.sample(12, seed=3, label="birds"))
    assert steps_of(page) == [("seed", "3"), ("label", "2"), ("icon", "0")]
    assert page.locator("#chosen").get_attribute("aria-label") == "Picture 0 of seed 3, birds"
    page.context.close()


def test_a_walk_goes_on_until_it_is_paused(browser, labelled):
    grown, address = labelled
    page, _ = opened(browser, f"{address}/")
    page.get_by_role("button", name="Walk").click()
    page.wait_for_timeout(1000)
    page.get_by_role("button", name="Pause").click()
    drawn(page)
    (name, text) = steps_of(page)[-1]
    share = float(text)
    assert name == "walk"
    assert 0 < share < 1
    z = slerp(grown.latents([0]), grown.latents([1000]), share)
    assert_equal(shown(page, "#chosen"), grown.images(z, grown.labels([0])))
    page.context.close()
    page, _ = opened(browser, f"{address}/", reduced_motion="reduce")
    page.get_by_role("button", name="Walk a step").click()
    drawn(page)
    page.wait_for_timeout(500)
    assert steps_of(page)[-1] == ("walk", "0.25")
    page.context.close()


def test_buttons(browser, labelled, tmp_path):
    grown, address = labelled
    page, seen = opened(browser, f"{address}/", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="New pictures").click()
    drawn(page)
    seed = int(page.locator("#seed").input_value())
    assert_equal(shown(page), grown.sample(12, seed=seed))
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    assert download.value.suggested_filename == f"Icons_seed_{seed}_icon_0.png"
    download.value.save_as(tmp_path / "icon.png")
    with Image.open(tmp_path / "icon.png") as picture:
        saved = np.asarray(picture.convert("RGBA"), dtype=float).transpose(2, 0, 1)
    assert_equal(saved[None], grown.sample(1, seed=seed))
    page.get_by_role("button", name="Copy link").click()
    page.get_by_text("Link copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == page.url == f"{address}/#seed={seed}&icon=0"
    page.get_by_role("button", name="Copy picture").click()
    page.get_by_text("Picture copied.").wait_for()
    assert page.evaluate("navigator.clipboard.read().then(items => items[0].types)") == ["image/png"]
    assert [each for each in seen if "console" in each or "error" in each] == []
    page.context.close()


def test_what_is_saved_is_the_picture_of_its_name(browser, labelled, tmp_path):
    grown, address = labelled
    page = browser.new_page()
    held = []
    page.route("**/model.onnx", lambda route: held.append(route))
    with page.expect_request("**/model.onnx", timeout=60_000):
        page.goto(f"{address}/#seed=5&icon=2")
    page.get_by_role("button", name="Save PNG").click()
    page.wait_for_timeout(300)
    with page.expect_download(timeout=60_000) as download:
        held[0].continue_()
    assert download.value.suggested_filename == "Icons_seed_5_icon_2.png"
    download.value.save_as(tmp_path / "icon.png")
    with Image.open(tmp_path / "icon.png") as picture:
        saved = np.asarray(picture.convert("RGBA"), dtype=float).transpose(2, 0, 1)
    assert_equal(saved[None], grown.sample(3, seed=5)[2:])
    page.close()


@pytest.mark.parametrize("fragment", ["#seed=-1&icon=99&move=a&walk=x&like=1e9&label=9", "#&&=%", "#seed=1e400&move=1"])
def test_addresses_that_ask_for_nothing_sensible(browser, labelled, fragment):
    grown, address = labelled
    page, seen = opened(browser, f"{address}/{fragment}")
    assert_equal(shown(page), grown.sample(12))
    assert [each for each in seen if "console" in each or "error" in each] == []
    page.context.close()


@pytest.mark.parametrize("width", site_check.WIDTHS)
@pytest.mark.parametrize("scheme", site_check.SCHEMES)
def test_it_is_accessible_and_fits(browser, labelled, width, scheme, tmp_path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="make site-check installs it").Axe()
    page, seen = opened(browser, f"{labelled[1]}/", viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.screenshot(path=tmp_path / f"page_{width}_{scheme}.png", full_page=True)
    assert site_check.wrong_with(page, axe) == []
    page.get_by_role("button", name="More like this").click()
    drawn(page)
    assert site_check.wrong_with(page, axe) == []
    assert [each for each in seen if "console" in each or "error" in each] == []
    page.context.close()


def test_trouble_is_shown(browser, labelled, tmp_path):
    page = browser.new_page()
    page.route("**/*.wasm.gz", lambda route: route.fulfill(status=404))
    page.goto(f"{labelled[1]}/")
    page.get_by_text("The pictures cannot be drawn: ort-wasm-simd-threaded.wasm cannot be loaded: 404").wait_for()
    assert shown(page)[:, :3].max() > 0  # the stored pictures
    page.close()
    for name in ("model.onnx", "ort-wasm-simd-threaded.wasm"):
        page = browser.new_page()
        page.route(f"**/{name}*", lambda route: route.fulfill(body=route.fetch().body()[:-9]))
        page.goto(f"{labelled[1]}/")
        page.get_by_text(f"The pictures cannot be drawn: {name} is not the whole file of ").wait_for()
        page.close()
    page = browser.new_page()
    rule = {"Content-Type": "text/html", "Content-Security-Policy": "worker-src 'none'"}
    page.route("**/", lambda route: route.fulfill(response=route.fetch(), headers=rule))
    page.goto(f"{labelled[1]}/")
    page.get_by_text("a rule of the server, does not let the page start its worker").wait_for()
    page.close()
    folder = write_page(grown_of(), tmp_path / "page")
    page = browser.new_page()
    page.goto((folder / "index.html").as_uri())
    page.get_by_text("In its folder, run: python -m http.server").wait_for()
    page.close()
