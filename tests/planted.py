"""Pictures of several styles drawn by code, and odd ones of many kinds to plant among them; all seeded."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

Rng = np.random.Generator
Colour = tuple[int, int, int]

SIZE = 128
_LARGE = 3 * SIZE  # drawn larger, then reduced, which smooths the edges


def pale(rng: Rng) -> Colour:
    """Return a pale colour."""
    weakest = int(rng.integers(190, 235))
    red, green, blue = rng.permutation([255, int(rng.integers(weakest, 256)), weakest]).tolist()
    return red, green, blue


def vivid(rng: Rng) -> Colour:
    """Return a strong colour."""
    red, green, blue = rng.permutation([230, int(rng.integers(30, 200)), int(rng.integers(20, 60))]).tolist()
    return red, green, blue


def _blend(one: Colour, other: Colour, share: NDArray[np.float64]) -> Image.Image:
    """Mix two colours, (H, W) in [0, 1] of the other."""
    values = np.array(one) + share[..., None] * (np.array(other) - np.array(one))
    return Image.fromarray(np.rint(values).clip(0, 255).astype(np.uint8))


def _grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    return x, y


class _Pen:
    """Draw with rounded strokes on a large canvas, in units of the picture's side."""

    def __init__(self, ground: Colour, ink: Colour = (0, 0, 0), width: float = 0.02) -> None:
        self.image = Image.new("RGB", (_LARGE, _LARGE), ground)
        self.draw = ImageDraw.Draw(self.image)
        self.ink, self.width = ink, width

    def line(self, points: NDArray[np.float64], width: float | None = None) -> None:
        w = max(2, round((width or self.width) * _LARGE))
        at = [(float(x) * _LARGE, float(y) * _LARGE) for x, y in points]
        self.draw.line(at, self.ink, w, joint="curve")
        for x, y in (at[0], at[-1]):
            self.draw.ellipse((x - w / 2, y - w / 2, x + w / 2, y + w / 2), self.ink)

    def fill(self, points: NDArray[np.float64], colour: Colour | None = None) -> None:
        self.draw.polygon([(float(x) * _LARGE, float(y) * _LARGE) for x, y in points], colour or self.ink)

    def done(self) -> Image.Image:
        return self.image.reduce(_LARGE // SIZE)


def _ring(x: float, y: float, rx: float, ry: float, begin: float = 0, end: float = 1) -> NDArray[np.float64]:
    turn = np.linspace(begin, end, 48) * math.tau
    return np.stack([x + rx * np.cos(turn), y + ry * np.sin(turn)], axis=1)


def _curve(rng: Rng, points: int) -> NDArray[np.float64]:
    """Return a smooth curve through random points in the middle of the picture."""
    anchors = rng.uniform(0.15, 0.85, (points, 2))
    powers = np.vander(np.linspace(0, 1, 60), points)  # a polynomial, so smooth
    share = np.linalg.solve(np.vander(np.linspace(0, 1, points), points).T, powers.T).T
    return np.asarray((share @ anchors).clip(0.08, 0.92))


def _drawn_face(pen: _Pen, rng: Rng) -> None:
    x, y = rng.uniform(0.42, 0.58, 2)
    r = rng.uniform(0.22, 0.3)
    if rng.random() < 0.5:  # hair
        pen.fill(_ring(x, y - 0.25 * r, 1.2 * r, 1.2 * r, 0.45, 1.05))
        pen.fill(_ring(x, y, r, 1.2 * r), (255, 255, 255))
    pen.line(_ring(x, y, r, 1.2 * r))
    for side in (-1, 1):
        pen.fill(_ring(x + side * 0.4 * r, y - 0.1 * r, 0.09 * r, rng.uniform(0.05, 0.2) * r))
        pen.line(_ring(x + side * 0.4 * r, y - 0.3 * r, 0.2 * r, 0.1 * r, 0.55, 0.95))
    pen.line(_ring(x, y + 0.1 * r, 0.1 * r, 0.2 * r, 0.8, 1.2))
    pen.line(_ring(x, y + 0.5 * r, rng.uniform(0.2, 0.4) * r, 0.2 * r, 0.05, 0.45))
    pen.line(np.array([[x - 0.3 * r, y + 1.15 * r], [x - r, 0.98], [x + r, 0.98], [x + 0.3 * r, y + 1.15 * r]]))


def _drawn_hand(pen: _Pen, rng: Rng) -> None:
    x, y, r = rng.uniform(0.45, 0.55), rng.uniform(0.55, 0.65), rng.uniform(0.13, 0.18)
    pen.line(_ring(x, y, r, r, 0.1, 0.4))
    for finger, angle in enumerate(np.linspace(-1.2, 0.6, 5) + rng.uniform(-0.2, 0.2)):
        length = r * (1.4 if finger == 0 else rng.uniform(1.6, 2.4))
        along, across = np.array([math.sin(angle), -math.cos(angle)]), np.array([math.cos(angle), math.sin(angle)])
        base = np.array([x, y]) + along * r
        half = across * r * 0.22
        pen.line(np.array([base - half, base - half + along * length, base + half + along * length, base + half]))


def _drawn_house(pen: _Pen, rng: Rng) -> None:
    x, y, w, h = *rng.uniform(0.2, 0.3, 2), *rng.uniform(0.35, 0.5, 2)
    y += 0.15
    corners = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h], [x, y]])
    pen.line(corners)
    pen.line(np.array([[x - 0.05, y], [x + w / 2, y - rng.uniform(0.15, 0.25)], [x + w + 0.05, y]]))
    for k in range(int(rng.integers(1, 4))):
        pen.line((corners - [x, y]) * 0.22 + [x + (0.1 + 0.3 * k) * w, y + 0.2 * h])


def _drawn_polygons(pen: _Pen, rng: Rng) -> None:
    for _ in range(int(rng.integers(2, 5))):
        corners, turn = int(rng.integers(3, 8)), rng.random()
        ring = _ring(*rng.uniform(0.3, 0.7, 2), *rng.uniform(0.1, 0.25, 2), turn, turn + 1)
        pen.line(ring[np.linspace(0, 47, corners + 1).astype(int)])


def _drawn_curves(pen: _Pen, rng: Rng) -> None:
    for _ in range(int(rng.integers(2, 5))):
        pen.line(_curve(rng, int(rng.integers(3, 6))))


def _drawn_flower(pen: _Pen, rng: Rng) -> None:
    x, y, r = rng.uniform(0.4, 0.6), rng.uniform(0.3, 0.4), rng.uniform(0.07, 0.11)
    for turn in np.arange(petals := int(rng.integers(5, 9))) / petals * math.tau:
        pen.line(_ring(x + 1.8 * r * math.cos(turn), y + 1.8 * r * math.sin(turn), r, r))
    pen.fill(_ring(x, y, 0.8 * r, 0.8 * r))
    pen.line(np.array([[x, y + 2.8 * r], [x + rng.uniform(-0.05, 0.05), 0.95]]))
    pen.line(_ring(x + 0.1, 0.75, 0.1, 0.05))


DRAWN = (_drawn_face, _drawn_hand, _drawn_house, _drawn_polygons, _drawn_curves, _drawn_flower)


def line_drawing(rng: Rng, ground: Colour | None = None, ink: Colour = (0, 0, 0)) -> Image.Image:
    """Draw a face, a hand, a house, polygons, curves or a flower: black strokes on a pale plain ground."""
    pen = _Pen(ground or pale(rng), ink, rng.uniform(0.014, 0.024))
    DRAWN[int(rng.integers(len(DRAWN)))](pen, rng)
    return pen.done()


def drawn_face(rng: Rng) -> Image.Image:
    """Draw a face: black strokes on a pale plain ground."""
    pen = _Pen(pale(rng), width=rng.uniform(0.014, 0.024))
    _drawn_face(pen, rng)
    return pen.done()


def _rough(rng: Rng, slope: float) -> NDArray[np.float64]:
    """Return noise in [0, 1] whose amplitude falls with frequency, as in photographs."""
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None])
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.normal(size=(SIZE, SIZE))) / frequency**slope
    spectrum[0, 0] = 0
    values = np.fft.irfft2(spectrum, (SIZE, SIZE))
    return np.clip(0.5 + values / (5 * values.std()), 0, 1)


def photograph(rng: Rng) -> Image.Image:
    """Draw what has the statistics of a photograph: rough surfaces, one before the other, lit from a side."""
    x, y = _grid()
    values = np.zeros((SIZE, SIZE, 3))
    for layer in range(int(rng.integers(3, 6))):
        tint = rng.uniform(0.1, 0.9, 3) * 0.5 + rng.uniform(0.1, 0.9) * 0.5
        light = 0.7 + 0.6 * _rough(rng, rng.uniform(1.0, 1.8)) * rng.uniform(0.2, 1)
        light = light + rng.uniform(-0.3, 0.3) * x + rng.uniform(-0.3, 0.3) * y
        surface = tint * light[..., None]
        (cx, cy), (rx, ry) = rng.uniform(0, 1, 2), rng.uniform(0.15, 0.5, 2)
        inside = np.hypot((x - cx) / rx, (y - cy) / ry) + 0.6 * (_rough(rng, 1.5) - 0.5)
        cover = np.clip((1 - inside) * rng.uniform(5, 30) + 0.5, 0, 1)[..., None] if layer else 1.0
        values = values + cover * (surface - values)
    values += rng.normal(scale=0.01, size=values.shape)
    return Image.fromarray(np.rint(255 * values.clip(0, 1)).astype(np.uint8))


def _gradient(rng: Rng, one: Colour, other: Colour) -> Image.Image:
    x, y = _grid()
    if rng.random() < 0.5:
        angle = rng.random() * math.tau
        share = 0.5 + ((x - 0.5) * math.cos(angle) + (y - 0.5) * math.sin(angle)) / 1.5
    else:
        share = np.hypot(x - rng.uniform(0.3, 0.7), y - rng.uniform(0.3, 0.7)) / 1.1
    return _blend(one, other, share.clip(0, 1))


def _clouds(rng: Rng) -> Image.Image:
    x, y = _grid()
    share = np.zeros((SIZE, SIZE))
    for _ in range(3):
        share += np.exp(-((x - rng.random()) ** 2 + (y - rng.random()) ** 2) / rng.uniform(0.02, 0.1))
    return _blend(pale(rng), pale(rng), share.clip(0, 1))


def _symbol(rng: Rng, ground: Colour, colour: Colour) -> Image.Image:
    pen = _Pen(ground, colour, 0.06)
    turn = rng.random()
    corners = _ring(0.5, 0.5, 0.3, 0.3, turn, turn + 1)[np.linspace(0, 47, int(rng.integers(4, 8))).astype(int)]
    [
        lambda: pen.fill(corners),
        lambda: pen.line(_ring(0.5, 0.5, 0.3, 0.3)),
        lambda: pen.line(corners),
        lambda: [pen.line(_ring(0.5, 0.5, r, r), 0.05) for r in (0.1, 0.22, 0.34)],
    ][int(rng.integers(4))]()
    return pen.done()


def _letters(rng: Rng, ground: Colour, ink: Colour, size: float) -> Image.Image:
    image = Image.new("RGB", (SIZE, SIZE), ground)
    text = "".join(chr(code) for code in rng.integers(65, 91, 2))
    ImageDraw.Draw(image).text((SIZE / 2, SIZE / 2), text, ink, ImageFont.load_default(size * SIZE), anchor="mm")
    return image


def _page(rng: Rng) -> Image.Image:
    image = Image.new("RGB", (SIZE, SIZE), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    for y in range(6, SIZE - 8, 9):
        words = ["".join(chr(code) for code in rng.integers(97, 123, int(rng.integers(2, 9)))) for _ in range(8)]
        draw.text((6, y), " ".join(words)[:22], (20, 20, 20), ImageFont.load_default(9))
    return image


def _screenshot(rng: Rng) -> Image.Image:
    image = Image.new("RGB", (SIZE, SIZE), (245, 245, 247))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, SIZE, 14), vivid(rng))
    draw.rectangle((0, 15, 30, SIZE), (60, 64, 72))
    for y in range(20, SIZE, 12):
        draw.rectangle((5, y, int(rng.integers(12, 28)), y + 3), (200, 200, 205))
    for k in range(6):
        x, y = 36 + 46 * (k % 2), 20 + 36 * (k // 2)
        draw.rectangle((x, y, x + 40, y + 30), (255, 255, 255), (190, 190, 195))
        draw.rectangle((x + 3, y + 3, x + 37, y + 16), vivid(rng))
        draw.rectangle((x + 3, y + 20, x + int(rng.integers(15, 37)), y + 22), (120, 120, 120))
    return image


def _cells(rng: Rng, count: int, one: Colour, other: Colour, *, mirrored: bool = False) -> Image.Image:
    cells = rng.random((count, count)) > 0.5
    if mirrored:
        cells[:, count // 2 + 1 :] = cells[:, : count // 2][:, ::-1]
    image = Image.fromarray(np.where(cells[..., None], one, other).astype(np.uint8))
    return image.resize((SIZE, SIZE), Image.Resampling.NEAREST)


def _stripes(rng: Rng) -> Image.Image:
    x, y = _grid()
    angle = rng.random() * math.pi
    return _blend(vivid(rng), pale(rng), np.floor((x * math.cos(angle) + y * math.sin(angle)) * 9) % 2)


def _in_a_corner(rng: Rng) -> Image.Image:
    ground = pale(rng)
    image = Image.new("RGB", (SIZE, SIZE), ground)
    image.paste(line_drawing(rng, ground).resize((28, 28)), [int(at) for at in rng.choice([4, 96], 2)])
    return image


def _flat_icon(rng: Rng) -> Image.Image:
    pen = _Pen(vivid(rng), vivid(rng), 0.08)
    pen.fill(_ring(0.5, 0.5, 0.45, 0.45))
    for _ in range(3):
        pen.fill(_ring(*rng.uniform(0.2, 0.8, 2), *rng.uniform(0.1, 0.3, 2)), vivid(rng))
    return pen.done()


def _blurred(rng: Rng) -> Image.Image:
    return line_drawing(rng).filter(ImageFilter.GaussianBlur(9))


ODD: dict[str, Callable[[Rng], Image.Image]] = {
    "blank white": lambda rng: Image.new("RGB", (SIZE, SIZE), (255, 255, 255)),
    "blank pale": lambda rng: Image.new("RGB", (SIZE, SIZE), pale(rng)),
    "blank black": lambda rng: Image.new("RGB", (SIZE, SIZE), (0, 0, 0)),
    "pale gradient": lambda rng: _gradient(rng, pale(rng), pale(rng)),
    "pale to white": lambda rng: _gradient(rng, pale(rng), (255, 255, 255)),
    "strong gradient": lambda rng: _gradient(rng, vivid(rng), pale(rng)),
    "pale clouds": _clouds,
    "pale symbol": lambda rng: _symbol(rng, pale(rng), pale(rng)),
    "pale on white": lambda rng: _symbol(rng, (255, 255, 255), pale(rng)),
    "pale letters": lambda rng: _letters(rng, pale(rng), (255, 255, 255), 0.5),
    "letters": lambda rng: _letters(rng, vivid(rng), (255, 255, 255), 0.5),
    "noise": lambda rng: Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)),
    "photograph": photograph,
    "text page": _page,
    "screenshot": _screenshot,
    "inverted drawing": lambda rng: ImageChops.invert(line_drawing(rng, (255, 255, 255))),
    "drawing in a corner": _in_a_corner,
    "flat icon": _flat_icon,
    "code": lambda rng: _cells(rng, 25, (0, 0, 0), (255, 255, 255)),
    "identicon": lambda rng: _cells(rng, 5, vivid(rng), pale(rng), mirrored=True),
    "check": lambda rng: _cells(rng, 8, vivid(rng), vivid(rng)),
    "stripes": _stripes,
    "blurred drawing": _blurred,
}
