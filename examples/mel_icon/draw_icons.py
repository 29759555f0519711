"""Draw the Mel icons: seeded portrait icons that grow out of the bottom left corner.

Each icon is composed from the tables below (colours, hair, eyes, clothes and so on). It is drawn as filled polygons at
a larger size and then reduced, which smooths the edges. Shapes are defined in two frames, the head's (origin in the
middle of the face, which looks to the right) and the body's (origin at the base of the neck). The unit of both is the
radius of the head, and their y axis points down. Both lean to the right, so that no icon looks right when flipped.
"""

import argparse
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageColor, ImageDraw

from progan.cli.options import user_path

Colour = tuple[int, int, int]
Shape = NDArray[np.float64]  # points (n, 2)
Anchors = tuple[tuple[float, ...], ...]  # points that a curve runs through; one with a third number is a corner
Pieces = tuple[tuple[str, Anchors], ...]  # shapes, each preceded by the name of its colour

OVERSAMPLING = 3
EDGE = 0.03  # width of the dark edges, in radii of the head


def colours(text: str) -> list[Colour]:
    """Return the colours of a text of hexadecimal numbers separated by spaces."""
    return [ImageColor.getrgb(f"#{word}")[:3] for word in text.split()]


def bumps(count: int, x: float, y: float, rx: float, ry: float) -> Anchors:
    """Return the anchors of an ellipse with the given number of bumps on its edge."""
    turns = [(2 * math.pi * (k - 0.5) / (3 * count), k % 3 == 0) for k in range(3 * count)]
    return tuple((x + rx * math.cos(a) * 0.88, y + ry * math.sin(a) * 0.88, 1) if corner else
                 (x + rx * math.cos(a), y + ry * math.sin(a)) for a, corner in turns)  # fmt: skip


# fmt: off
WHITE, INK, ROSE, LIP, NIGHT = colours("fffdfa 2c1c34 f06e78 be3e50 3a185c")
SKINS = colours("ffe3d0 ffd6bd f9c9a6 eeb48a d9976b b97850 8f5a3c 6b412d")
HAIRS = colours("2b2433 2b2433 3d2a2a 3d2a2a 5d3a2a 5d3a2a 8a5230 8a5230 b8743a e0a84e b8392f e4683a d85c96 8a63c4 "
                "4b62c0 3fa7b8")
# Pale, so that every head stands out and a small network need not learn both light and dark scenes.
BACKDROPS = colours("f7e7ce fbd3c8 f6b8a8 fbdf8a c7e3a8 bfe4ea a9d8ee c9c2ee efb6d3 f4f1ea b5d0f0 b9e2cf")
CLOTHES = colours("f4f1ea e24f55 f2a33a f7d35e 58a773 2f7f86 4c8fd0 2f437e 7b57b0 e78db1 3a3546 8c6a52 a8d8cf c33d74")
IRISES = colours("5a3422 8a5a2b 2f6fb0 2c9a9a 3f8f4f 7a4fb5 b5443c c98a1e 4a5568")

# The front hair's outline runs over the crown from the near side (left), then back along a lower edge, the fringe.
CROWN: Anchors = ((-1.07, .15), (-1.03, -.45), (-.64, -1.03), (.05, -1.2), (.7, -.98), (1.04, -.4), (1, .1, 1))
SPIKES: Anchors = (
    (-1, .25, 1), (-1.28, -.05), (-1.38, -.5, 1), (-1.1, -.55, 1), (-1.22, -.95), (-1.12, -1.3, 1), (-.82, -1.02, 1),
    (-.7, -1.42), (-.38, -1.68, 1), (-.25, -1.3, 1), (.08, -1.5), (.55, -1.62, 1), (.5, -1.2, 1), (.85, -1.25),
    (1.25, -1.12, 1), (.98, -.78, 1), (1.2, -.7), (1.42, -.42, 1), (1.05, -.25, 1), (1, .1, 1))
FRINGES: dict[str, Anchors] = {
    "straight": ((1, .62, 1), (.86, .2), (.84, -.14, 1), (.5, -.08), (.3, -.1, 1), (.26, -.2, 1), (.2, -.08, 1),
                 (-.2, -.08), (-.58, -.14, 1), (-.64, .3), (-.7, .82, 1), (-1, .86, 1)),
    "swept": ((.98, .34, 1), (.84, -.12), (.5, -.2), (0, -.42), (-.4, -.9, 1), (-.56, -.4), (-.66, .1), (-.8, .56, 1),
              (-.86, .2, 1), (-1, .5, 1)),
    "tufts": ((.92, .3, 1), (.8, -.22, 1), (.62, -.04, 1), (.46, -.36, 1), (.16, .06, 1), (.02, -.4, 1),
              (-.38, -.06, 1), (-.5, -.34, 1), (-.72, .5, 1), (-.84, .05, 1), (-1, .46, 1)),
    "curtain": ((.98, .55, 1), (.88, -.05), (.62, -.45), (.28, -.9, 1), (0, -.45), (-.45, -.12), (-.7, .6, 1),
                (-.84, .3, 1), (-.98, .66, 1)),
    "slick": ((.9, -.3, 1), (.62, -.62), (.1, -.7), (-.38, -.58), (-.6, -.2), (-.64, .1, 1), (-.76, .34, 1),
              (-.96, .2, 1)),
    "wave": ((.98, .3, 1), (.86, -.2), (.62, -.48), (.42, -.4), (.34, -.08), (.12, -.06), (-.3, -.3), (-.56, -.1),
             (-.7, .5, 1), (-.98, .6, 1)),
    "curls": ((.98, .1, 1), (.9, .02), (.76, -.2, 1), (.66, -.08), (.46, -.12), (.4, -.3, 1), (.26, -.08), (.06, -.12),
              (0, -.34, 1), (-.14, -.1), (-.4, -.1), (-.44, -.32, 1), (-.5, 0), (-.7, .05), (-.66, .34), (-.8, .5),
              (-1.02, .44))}
BACKS: dict[str, tuple[Anchors, ...]] = {
    "none": (),
    "nape": (((-1.02, -.4), (-1.16, .2), (-1, .75), (-.72, 1.02, 1), (0, .8), (.4, 0), (0, -1)),),
    "bob": (((-1, -.7), (-1.3, 0), (-1.36, .7), (-1, 1.2, 1), (0, 1.1), (.9, 1.12, 1), (1.22, .7), (1.16, 0),
             (.9, -.8), (0, -1.15)),),
    "flick": (((-1, -.7), (-1.22, 0), (-1.3, .6), (-1.75, 1, 1), (-1, 1.15), (-.2, 1), (.7, 1.1), (1.5, .9, 1),
               (1.14, .5), (1.1, -.1), (.9, -.8), (0, -1.15)),),
    "long": (((-1, -.7), (-1.28, .1), (-1.36, 1), (-1.5, 2), (-1.7, 3.6, 1), (1.3, 3.6, 1), (1.3, 2.2), (1.22, 1),
              (1.12, 0), (.9, -.8), (0, -1.15)),),
    "waves": (((-1, -.7), (-1.4, 0), (-1.22, .5), (-1.62, 1), (-1.42, 1.5), (-1.85, 2.2), (-1.6, 3.4, 1), (1, 2.3, 1),
               (1.42, 1.8), (1.1, 1.35), (1.46, .9), (1.12, .4), (1.2, -.1), (.9, -.8), (0, -1.15)),),
    "ponytail": (((-.5, -.85), (-1.2, -1.3), (-1.85, -.9), (-1.85, 0), (-1.6, .6), (-1.95, 1.25, 1), (-1.2, .95),
                  (-1.15, .2), (-1.3, -.4), (-.9, -.5)),),
    "twintails": (((-.7, -.7), (-1.35, -.95), (-1.8, -.3), (-1.62, .5), (-1.9, 1.3, 1), (-1.25, .9), (-1.12, .1)),
                  ((.75, -.75), (1.35, -.95), (1.66, -.3), (1.45, .5), (1.6, 1.25, 1), (1.1, .8), (1, 0))),
    "bun": (((-.6, -1), (-.72, -1.4), (-.4, -1.72), (.1, -1.68), (.34, -1.35), (.2, -1)),),
    "buns": (((-1.2, -.9), (-1.2, -1.3), (-.85, -1.48), (-.48, -1.25), (-.5, -.85), (-.9, -.65)),
             ((.48, -.95), (.5, -1.3), (.85, -1.48), (1.2, -1.25), (1.15, -.85), (.85, -.65))),
    "cloud": (bumps(11, -.05, -.3, 1.55, 1.4),)}
NO_HAT_OVER = ("bun", "buns", "cloud")
FACES: tuple[Anchors, ...] = (
    ((0, -1), (.66, -.75), (.93, -.15), (.9, .32), (.72, .72), (.3, .98), (-.1, .93), (-.6, .68), (-.88, .25),
     (-.96, -.2), (-.66, -.75)),
    ((0, -1), (.66, -.75), (.92, -.15), (.9, .25), (.68, .7), (.36, 1.03), (.16, 1.02), (-.45, .74), (-.82, .3),
     (-.95, -.2), (-.66, -.75)),
    ((0, -1), (.66, -.75), (.93, -.15), (.91, .32), (.78, .82), (.46, 1.06), (.08, 1.04), (-.55, .82), (-.85, .35),
     (-.96, -.2), (-.66, -.75)))
BEARD: Anchors = ((-.95, .1, 1), (-.66, .5), (-.2, .55), (.27, .5), (.6, .55), (.95, .2, 1), (1, 1.2, 1), (-1, 1.2, 1))
# Weight, half the height, how far the lid is open (1: fully) and how far the outer corner is raised.
EYES: dict[str, tuple[int, float, float, float]] = {
    "round": (5, .29, 1, 0), "tall": (5, .34, 1, .04), "cat": (4, .28, .9, .1), "droopy": (3, .29, .9, -.08),
    "sleepy": (1, .29, .35, 0), "dot": (2, .2, 0, 0), "happy": (2, .2, 0, 0), "shut": (1, -.14, 0, 0),
    "wink": (1, .3, 1, .02)}
# The outlines of glasses' lenses: round and square.
LENSES: tuple[Anchors, ...] = (
    ((0, -.34), (.24, -.24), (.33, 0), (.24, .24), (0, .34), (-.24, .24), (-.33, 0), (-.24, -.24)),
    ((0, -.28), (.27, -.25), (.34, 0), (.27, .27), (0, .31), (-.27, .27), (-.34, 0), (-.27, -.25)))
# Weight, whether open (a closed curve) or a line, and the shape around the middle of the mouth.
MOUTHS: dict[str, tuple[int, bool, Anchors]] = {
    "smile": (4, False, ((-.2, -.03), (0, .06), (.17, -.04))),
    "laugh": (4, True, ((-.24, -.08, 1), (0, -.04), (.22, -.1, 1), (.16, .12), (0, .2), (-.16, .13))),
    "grin": (2, True, ((-.2, -.05, 1), (.2, -.07, 1), (.12, .08), (-.1, .09))),
    "oh": (2, True, ((-.09, 0), (0, -.1), (.09, 0), (0, .13))),
    "cat": (2, False, ((-.2, -.04), (-.1, .05), (0, -.04, 1), (.1, .05), (.18, -.05))),
    "smirk": (2, False, ((-.14, .04), (.08, .05), (.2, -.07))),
    "flat": (1, False, ((-.15, .02), (.15, 0))), "pout": (1, False, ((-.13, .06), (0, -.02), (.12, .06)))}
BROWS: dict[str, tuple[int, Anchors]] = {
    "arched": (4, ((-.24, .04), (0, -.05), (.22, .02))), "level": (3, ((-.2, 0), (.2, 0))),
    "bold": (1, ((-.22, -.06), (.22, .04))), "worried": (1, ((-.24, .06), (.2, -.06)))}

TORSO: Anchors = ((-.36, -.02, 1), (-.85, .2), (-1.3, .6), (-1.5, 1.3), (-1.7, 4, 1), (1.7, 4, 1), (1.45, 1.3),
                  (1.2, .6), (.82, .2), (.36, -.02, 1))
ROUND: Anchors = ((-.4, 0), (0, -.1), (.4, 0), (.3, .2), (0, .28), (-.3, .2))
POINTED: Anchors = ((-.42, 0, 1), (.42, 0, 1), (.05, .72, 1))
# The skin that a collar leaves visible, then the pieces over the neck.
COLLARS: dict[str, tuple[Anchors, Pieces]] = {
    "crew": (ROUND, ()),
    "vee": (POINTED, ()),
    "roll": (ROUND, (("cloth", ((-.46, -.22), (0, -.06), (.46, -.22), (.5, .16), (0, .32), (-.5, .16))),)),
    "shirt": (ROUND, (("white", ((-.46, -.2, 1), (.04, .3, 1), (-.36, .6, 1), (-.62, .15, 1))),
                      ("white", ((.46, -.2, 1), (.04, .3, 1), (.42, .6, 1), (.62, .15, 1))))),
    "sailor": (POINTED, (("trim", ((-.46, -.15, 1), (.04, .85, 1), (-.3, .95, 1), (-1.2, .55, 1))),
                         ("trim", ((.46, -.15, 1), (.04, .85, 1), (.4, .95, 1), (1.15, .5, 1))),
                         ("white", ((.04, .85, 1), (-.35, .65), (-.4, 1.1))),
                         ("white", ((.04, .85, 1), (.45, .65), (.45, 1.1))))),
    "scarf": (ROUND, (("trim", ((.1, .1, 1), (.5, .1, 1), (.75, 1.1, 1), (.3, 1.15, 1))),
                      ("trim", ((-.58, -.3), (0, -.12), (.56, -.3), (.66, .12), (.1, .42), (-.6, .2))))),
    "wrap": (POINTED, (("trim", ((.38, -.2, 1), (.6, 0, 1), (-.5, 1.6, 1), (-.75, 1.45, 1))),
                       ("trim", ((-.38, -.2, 1), (-.6, 0, 1), (.5, 1.7, 1), (.8, 1.6, 1))))),
    "hoodie": (ROUND, (("cloth", ((-.46, -.3), (-.2, .25), (.1, .5, 1), (-.3, .55), (-.8, .2), (-.75, -.15))),
                       ("cloth", ((.46, -.3), (.35, .2), (.1, .5, 1), (.45, .52), (.78, .2), (.72, -.15))),
                       ("white", ((-.18, .5, 1), (-.1, .5, 1), (-.16, 1, 1), (-.24, 1, 1))),
                       ("white", ((.28, .5, 1), (.36, .5, 1), (.4, .95, 1), (.32, .95, 1)))))}
HATS: dict[str, Pieces] = {
    "beanie": (("white", bumps(7, 0, -1.58, .27, .25)),
               ("trim", ((-1.12, -.45), (-1.02, -1.05), (-.5, -1.48), (.4, -1.48), (.98, -1), (1.1, -.45), (0, -.6))),
               ("white", ((-1.18, -.32), (-1.14, -.62), (0, -.82), (1.12, -.64), (1.16, -.34), (0, -.46)))),
    "cap": (("trim", ((-1.12, -.3, 1), (-1.04, -.95), (-.5, -1.42), (.35, -1.4), (.95, -.98), (1.08, -.4, 1),
                      (0, -.55))),
            ("cloth", ((-.1, -.55, 1), (.5, -.72), (1.06, -.62), (1.75, -.28, 1), (1.3, -.22), (.6, -.36)))),
    "beret": (("dark", ((-.35, -1.3, 1), (-.26, -1.62, 1), (-.1, -1.6, 1), (-.15, -1.3, 1))),
              ("trim", ((-1.2, -.4), (-1.52, -.76), (-1, -1.25), (-.1, -1.44), (.75, -1.18), (1.04, -.72), (.2, -.7),
                        (-.7, -.5)))),
    "straw": (("white", ((-.98, -.6, 1), (-.9, -1.2), (-.3, -1.6), (.4, -1.58), (.88, -1.2), (.98, -.62, 1))),
              ("trim", ((-1, -.5, 1), (-.97, -.85, 1), (0, -1), (.96, -.86, 1), (1, -.5, 1))),
              ("white", ((-1.7, -.3), (-1.3, -.62), (0, -.76), (1.3, -.64), (1.66, -.34), (1.1, -.38), (0, -.5),
                         (-1.1, -.32)))),
    "witch": (("trim", ((-.95, -.6, 1), (-.5, -1.4), (.1, -2.2), (.9, -2.2, 1), (.6, -1.6), (.95, -.62, 1))),
              ("white", ((-.97, -.5, 1), (-.85, -.86, 1), (0, -1), (.86, -.86, 1), (.98, -.5, 1))),
              ("trim", ((-1.75, -.25), (-1.3, -.62), (0, -.74), (1.3, -.62), (1.75, -.4), (1.1, -.36), (0, -.46),
                        (-1.1, -.3)))),
    "hood": ()}
# The hood is the only hat behind the head.
HOOD: Pieces = (("cloth", ((-1.35, .2), (-1.4, -.8), (-1.35, -1.75, 1), (-.65, -1.4), (0, -1.5), (.6, -1.4),
                           (1.35, -1.75, 1), (1.38, -.8), (1.35, .2), (.9, 1), (0, 1.4), (-1.3, 1.2))),)
ORNAMENTS: dict[str, Pieces] = {
    "bow": (("trim", ((-.5, -1.05, 1), (-1, -1.5), (-1.25, -1.1), (-1.1, -.7))),
            ("trim", ((-.5, -1.05, 1), (-.35, -1.6), (.1, -1.65), (.15, -1.25))),
            ("trim", ((-.66, -1.08), (-.52, -1.24), (-.36, -1.1), (-.5, -.92)))),
    "band": (("trim", ((-1.12, -.25, 1), (-.8, -.9), (.05, -1.12), (.75, -.86), (1.05, -.4, 1), (1, -.14, 1),
                       (.65, -.66), (.05, -.86), (-.68, -.66), (-1.08, .05, 1))),),
    "flower": (("trim", bumps(5, -.62, -.72, .4, .4)), ("white", bumps(8, -.62, -.72, .14, .14))),
    "headphones": (("dark", ((-1.15, .1, 1), (-1.2, -.6), (-.7, -1.22), (.05, -1.42), (.8, -1.15), (1.15, -.5),
                             (1.1, 0, 1), (1.04, -.5), (.7, -1.02), (.05, -1.25), (-.62, -1.06), (-1.06, -.5),
                             (-1.02, .1, 1))),
                   ("trim", ((-1.2, .3), (-1.12, -.1), (-.9, -.06), (-.76, .3), (-.9, .66), (-1.12, .66)))),
    "ears": (("hair", ((-1, -.55, 1), (-.98, -1.55, 1), (-.3, -1.1, 1))),
             ("trim", ((-.88, -.85, 1), (-.88, -1.3, 1), (-.52, -1.08, 1))),
             ("hair", ((.35, -1.1, 1), (.95, -1.55, 1), (.98, -.6, 1))),
             ("trim", ((.55, -1.08, 1), (.86, -1.3, 1), (.86, -.85, 1)))),
    "clip": (("trim", ((-.8, -.42), (-.5, -.72), (-.4, -.62), (-.7, -.3))),
             ("white", ((-.84, -.2), (-.54, -.5), (-.44, -.4), (-.74, -.08))))}
PATTERNS = ("plain", "stripes", "dots", "slants", "yoke")
# fmt: on


@dataclass
class Frame:
    """A place to draw: an image with an origin (pixels), a unit (pixels) and a lean to the right (radians)."""

    image: Image.Image
    x: float
    y: float
    unit: float
    lean: float

    def axes(self) -> NDArray[np.float64]:
        """Return the frame's x and y axes in pixels, one per row (2, 2)."""
        cos, sin = math.cos(self.lean) * self.unit, math.sin(self.lean) * self.unit
        return np.array([[cos, sin], [-sin, cos]])

    def place(self, shape: Shape) -> Shape:
        """Convert points of this frame (n, 2) to pixels (n, 2)."""
        return shape @ self.axes() + (self.x, self.y)

    def fetch(self, other: "Frame", shape: Shape) -> Shape:
        """Convert points of another frame (n, 2) to points of this one (n, 2)."""
        return (other.place(shape) - (self.x, self.y)) @ np.linalg.inv(self.axes())

    def fill(self, shape: Shape, colour: Colour, edge: Colour | None = None) -> None:
        """Fill a closed shape (n, 2) with a colour, and draw its edge if an edge colour is given."""
        pen, points = ImageDraw.Draw(self.image), self.place(shape)
        pen.polygon(points.ravel().tolist(), fill=colour)
        if edge:
            pen.line(np.vstack([points, points[:2]]).ravel().tolist(), fill=edge, width=round(EDGE * self.unit))

    def stroke(self, path: Shape, width: float, colour: Colour, taper: float = 0.9) -> None:
        """Draw a brush stroke along a path (n, 2), thinner towards its ends by the fraction taper (0 to 1)."""
        along = np.gradient(path, axis=0)
        across = np.stack([-along[:, 1], along[:, 0]], axis=1) / (np.hypot(*along.T)[:, None] + 1e-9)
        swell = 1 - taper * np.linspace(-1, 1, len(path))[:, None] ** 2
        offset = across * swell * width / 2
        self.fill(np.vstack([path + offset, (path - offset)[::-1]]), colour)

    def fill_within(self, limits: Sequence[Shape], shapes: Sequence[Shape], colour: Colour) -> None:
        """Fill shapes, each (n, 2), clipped to the intersection of the limits, each (n, 2)."""
        if not shapes:
            return
        groups = [[self.place(shape) for shape in shapes], *([self.place(limit)] for limit in limits)]
        low = np.max([np.vstack(group).min(axis=0) for group in groups] + [np.zeros(2)], axis=0).astype(int)
        high = np.min([np.vstack(group).max(axis=0) for group in groups] + [np.array(self.image.size)], axis=0)
        width, height = (int(side) for side in high.astype(int) + 1 - low)
        if width < 1 or height < 1:
            return
        mask = Image.new("L", (width, height), 255)
        for group in groups:
            layer = Image.new("L", mask.size)
            for points in group:
                ImageDraw.Draw(layer).polygon((points - low).ravel().tolist(), fill=255)
            mask = ImageChops.darker(mask, layer)
        self.image.paste(colour, (int(low[0]), int(low[1])), mask)


def mix(colour: Colour, other: Colour, part: float) -> Colour:
    """Mix two colours, with the given share (0 to 1) of the other one."""
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def shaded(colour: Colour) -> Colour:
    """Return the colour in shade."""
    return mix(colour, NIGHT, 0.2)


def gleaming(colour: Colour) -> Colour:
    """Return the colour in bright light."""
    red, green, blue = (min(255, round(part * 1.14 + 22)) for part in colour)
    return red, green, blue


def edged(colour: Colour) -> Colour:
    """Return the edge colour for a shape of the given colour."""
    return mix(colour, INK, 0.62)


@lru_cache(maxsize=1000)
def spline(anchors: Anchors, closed: bool = True) -> Shape:
    """Return the points (n, 2) of a Catmull-Rom curve through the anchors; they are cached, so do not change them."""
    points = np.array([anchor[:2] for anchor in anchors])
    corner = np.array([[len(anchor) > 2] for anchor in anchors])
    before, after = np.roll(points, 1, axis=0), np.roll(points, -1, axis=0)
    if not closed:
        before[0], after[-1] = points[0], points[-1]
    leave = (after - np.where(corner, points, before)) / 2
    arrive = (np.where(np.roll(corner, -1, axis=0), after, np.roll(after, -1, axis=0)) - points) / 2
    t = np.linspace(0, 1, 8, endpoint=False)[None, :, None]
    start, end, leave, arrive = (part[:, None, :] for part in (points, after, leave, arrive))
    curve = start * (1 - t) ** 2 * (1 + 2 * t) + end * t**2 * (3 - 2 * t) + (leave * (1 - t) - arrive * t) * t * (1 - t)
    return curve.reshape(-1, 2) if closed else np.vstack([curve[:-1].reshape(-1, 2), points[-1:]])


@lru_cache(maxsize=1000)
def oval(x: float, y: float, rx: float, ry: float, start: float = 0.0, stop: float = 2 * math.pi) -> Shape:
    """Return points (32, 2) of an ellipse, or of its arc between two angles (0: right, pi / 2: below)."""
    angle = np.linspace(start, stop, 32)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def moved(shape: Shape, x: float, y: float) -> Shape:
    """Return the shape (n, 2) moved to the right by x and down by y."""
    step: Shape = np.array([x, y])
    return shape + step


def pattern(name: str) -> list[Shape]:
    """Return the shapes, each (n, 2), of a clothes pattern in the body's frame."""
    stripe = np.array([(-2.0, 0.0), (2.0, 0.0), (2.0, 0.2), (-2.0, 0.2)])
    if name == "stripes":
        return [moved(stripe, 0, 0.5 + 0.42 * k) for k in range(6)]
    if name == "slants":
        return [moved(stripe[:, ::-1] + stripe[:, :1] * (0.5, 0), -3 + 0.5 * k, 0) for k in range(12)]
    if name == "dots":
        return [oval(0.44 * k + 0.22 * (row % 2), 0.35 + 0.3 * row, 0.1, 0.1) for row in range(7) for k in range(-4, 4)]
    if name == "yoke":
        return [np.array([(-2.0, 0.75), (2.0, 0.75), (2.0, 4.0), (-2.0, 4.0)])]
    return []


def pick_apart(rng: random.Random, palette: list[Colour], others: list[Colour], gap: float = 90) -> Colour:
    """Choose a colour from the palette at a distance of at least the gap (in 8-bit steps) from all the others."""
    distances = {colour: min(math.dist(colour, other) for other in others) for colour in palette}
    apart = [colour for colour, distance in distances.items() if distance >= gap]
    return rng.choice(apart or [max(palette, key=distances.__getitem__)])


def choose(rng: random.Random, table: Mapping[str, tuple[Any, ...]]) -> str:
    """Choose a random key from a table whose rows begin with their weight."""
    return rng.choices(list(table), [row[0] for row in table.values()])[0]


class Portrait:
    """One icon: the choices made for it, and the steps that draw it from back to front."""

    def __init__(self, rng: random.Random, size: int) -> None:
        """Make the choices that several steps share; the others are made while drawing."""
        self.rng = rng
        skin = rng.choice(SKINS)
        hair = pick_apart(rng, HAIRS, [skin], 110)
        cloth = pick_apart(rng, CLOTHES, [hair, skin])
        trim = pick_apart(rng, CLOTHES, [cloth, hair, skin], 100)
        backdrop = pick_apart(rng, BACKDROPS, [hair, skin, cloth, trim], 90)
        self.colours = {"skin": skin, "hair": hair, "cloth": cloth, "trim": trim, "white": WHITE, "dark": INK}
        self.back = rng.choice(list(BACKS))
        self.hat = "" if self.back in NO_HAT_OVER or rng.random() < 0.7 else rng.choice(list(HATS))
        if self.hat == "hood":
            self.back = "none"
        self.ornament = "" if self.hat or rng.random() < 0.55 else rng.choice(list(ORNAMENTS))
        fringe = FRINGES["curls" if self.back == "cloud" else rng.choice(list(FRINGES))]
        spiked = not self.hat and not self.ornament and self.back in ("none", "nape") and rng.random() < 0.7
        self.front = spline((SPIKES if spiked else CROWN) + fringe)
        self.face = spline(rng.choice(FACES))
        side = size * OVERSAMPLING
        self.image = Image.new("RGB", (side, side), backdrop)
        unit, lean = side * rng.uniform(0.265, 0.295), math.radians(rng.uniform(6, 20))
        x, y = side * rng.uniform(0.54, 0.58), side * rng.uniform(0.48, 0.52)
        self.head = Frame(self.image, x, y, unit, lean)
        self.body = Frame(self.image, x - 0.68 * unit, y + 1.04 * unit, unit, math.radians(rng.uniform(24, 36)))

    def draw(self) -> Image.Image:
        """Draw the icon from back to front, and return it at OVERSAMPLING times its size."""
        self.draw_behind()
        self.draw_body()
        self.draw_face()
        self.draw_eyes()
        self.draw_mouth()
        self.draw_hair()
        self.add(self.head, HATS.get(self.hat, ()) + ORNAMENTS.get(self.ornament, ()))
        return self.image

    def add(self, frame: Frame, pieces: Pieces) -> None:
        """Draw pieces (colour name and shape) with their edges."""
        for name, anchors in pieces:
            frame.fill(spline(anchors), self.colours[name], edged(self.colours[name]))

    def draw_behind(self) -> None:
        """Draw everything behind the body: the back hair and the hood."""
        self.add(self.head, HOOD if self.hat == "hood" else ())
        hair = self.colours["hair"]
        for anchors in BACKS[self.back]:
            self.head.fill(spline(anchors), shaded(hair), edged(hair))

    def draw_body(self) -> None:
        """Draw the clothes, the neck and the collar around it."""
        body, skin, cloth = self.body, self.colours["skin"], self.colours["cloth"]
        torso = spline(TORSO)
        opening, collar = COLLARS[self.rng.choice(list(COLLARS))]
        body.fill(torso, cloth, edged(cloth))
        body.fill_within([torso], pattern(self.rng.choice(PATTERNS)), self.colours["trim"])
        body.fill(spline(opening), skin, edged(cloth))
        nape_and_throat = body.fetch(self.head, np.array([(-0.6, 0.4), (0.1, 0.7)]))
        neck = np.vstack([nape_and_throat, [(0.42, 0.0), (0.3, 0.18), (0, 0.26), (-0.34, 0.1)]])
        body.fill(neck, skin)
        body.fill_within([neck], [body.fetch(self.head, moved(self.face, -0.05, 0.22))], shaded(skin))
        self.add(body, collar)

    def draw_face(self) -> None:
        """Draw the head with its ear, the hair's shadow, cheeks, nose, and sometimes freckles or a beard."""
        head, rng, skin, hair = self.head, self.rng, self.colours["skin"], self.colours["hair"]
        head.fill(self.face, skin, edged(skin))
        head.fill(oval(-0.87, 0.3, 0.14, 0.2), skin, edged(skin))
        head.fill(oval(-0.86, 0.31, 0.06, 0.11), shaded(skin))
        head.fill_within([self.face], [moved(self.front, 0.03, 0.1)], shaded(skin))
        if rng.random() < 0.6:
            cheeks = [oval(-0.46, 0.6, 0.19, 0.11), oval(0.74, 0.56, 0.14, 0.1)]
            head.fill_within([self.face], cheeks, mix(skin, ROSE, 0.3))
        if rng.random() < 0.15:
            for x, y in ((-0.5, 0.55), (-0.38, 0.62), (-0.26, 0.56), (0.56, 0.53), (0.66, 0.6), (0.76, 0.53)):
                head.fill(oval(x, y, 0.026, 0.026), mix(skin, (130, 60, 30), 0.55))
        self.bearded = self.back in ("none", "nape") and not self.ornament and rng.random() < 0.25
        if self.bearded:
            head.fill_within([self.face], [spline(BEARD)], hair)
        head.stroke(spline(((0.36, 0.36), (0.42, 0.45), (0.33, 0.48)), closed=False), 0.05, mix(skin, INK, 0.5), 0.6)

    def draw_eyes(self) -> None:
        """Draw both eyes, and sometimes glasses around them."""
        head, rng = self.head, self.rng
        style, iris = choose(rng, EYES), rng.choice(IRISES)
        far_style = "happy" if style == "wink" else style
        far_iris = iris if rng.random() < 0.96 else rng.choice(IRISES)
        scale, gaze = rng.uniform(0.94, 1.12), rng.uniform(-0.04, 0.05)
        lens = spline(rng.choice(LENSES))
        lenses = [moved(lens, -0.22, 0.22), moved(lens * (0.8, 1), 0.54, 0.22)] if rng.random() < 0.2 else []
        for shape in lenses:
            head.fill(shape, mix(self.colours["skin"], WHITE, 0.2))
        self.draw_eye(style, -0.22, 0.225 * scale, -1, iris, gaze)
        self.draw_eye(far_style, 0.54, 0.18 * scale, 1, far_iris, gaze)
        rims = [np.vstack([shape, shape[:2]]) for shape in lenses]
        wires = [*rims, np.array([(0.1, 0.2), (0.2, 0.15), (0.29, 0.2)]), np.array([(-0.54, 0.18), (-0.95, 0.12)])]
        colour = rng.choice([INK, *CLOTHES[1:10]])
        for wire in wires if rims else []:
            head.stroke(wire, 0.06, colour, taper=0)

    def draw_eye(self, style: str, x: float, width: float, outer: int, iris: Colour, gaze: float) -> None:
        """Draw one eye around x, given half its width and the side of its outer corner (-1 or 1)."""
        head, (_, height, lid, tilt) = self.head, EYES[style]
        if style in ("happy", "shut"):
            arc = spline(((-1.05, 0), (0, -1), (1.05, 0)), closed=False) * (width, height)
            head.stroke(moved(arc, x, 0.22), 0.1, INK, 0.6)
            return
        if style == "dot":
            head.fill(oval(x, 0.22, width * 0.55, height), INK)
            head.fill(oval(x + 0.03, 0.14, width * 0.2, 0.06), WHITE)
            return
        skew = np.array([[width, -outer * tilt], [0, height]])
        upper = ((-0.72, -0.8 * lid), (0, -lid), (0.72, -0.8 * lid))
        white = moved(spline(((-1, 0), *upper, (1, 0), (0.65, 0.8), (0, 1), (-0.65, 0.8))) @ skew, x, 0.22)
        lash = moved(spline(((-1.15, 0), *upper, (1.15, 0)), closed=False) @ skew, x, 0.22)
        head.fill(white, WHITE)
        # The eyeball from the outside in: offset right and down, radii (all relative to the eye), colour.
        for right, down, rx, ry, colour in (
            (0, 0, 0.76, 0.94, mix(iris, INK, 0.45)),
            (0, 0.34, 0.58, 0.5, mix(iris, WHITE, 0.2)),
            (0, 0, 0.36, 0.46, INK),
            (0.3, -0.42, 0.26, 0.24, WHITE),
        ):
            part = oval(x + gaze + right * width, 0.24 + down * height, rx * width, ry * height)
            head.fill_within([white], [part], colour)
        head.stroke(lash, 0.13, INK, 0.75)

    def draw_mouth(self) -> None:
        """Draw the mouth."""
        _, is_open, anchors = MOUTHS["laugh" if self.bearded else choose(self.rng, MOUTHS)]
        shape = moved(spline(anchors, closed=is_open), 0.27, 0.7)
        if not is_open:
            self.head.stroke(shape, 0.07, mix(self.colours["skin"], (90, 20, 40), 0.75), 0.6)
            return
        self.head.fill(shape, LIP, INK)

    def draw_hair(self) -> None:
        """Draw the front hair with its highlight, and the brows over it."""
        head, hair = self.head, self.colours["hair"]
        head.fill(self.front, hair, edged(hair))
        gleam = np.vstack([oval(-0.02, 0.02, 0.9, 0.9, -2.7, -0.9), oval(-0.02, 0.06, 0.86, 0.76, -2.7, -0.9)[::-1]])
        head.fill_within([self.front], [gleam], gleaming(hair))
        brow = spline(BROWS[choose(self.rng, BROWS)][1], closed=False)
        for x, outer in ((-0.24, 1), (0.54, -0.8)):
            head.stroke(moved(brow * (outer, 1), x, -0.22), 0.07, edged(hair), 0.7)


def draw_icon(index: int, seed: int = 0, size: int = 256) -> Image.Image:
    """Draw one icon.

    Args:
        index: Number of the icon, 0 or more; an icon depends only on this and the seed.
        seed: Random seed of the set of icons.
        size: Width and height of the icon in pixels.

    Returns:
        The RGB image.
    """
    return Portrait(random.Random(f"{seed}/{index}"), size).draw().reduce(OVERSAMPLING)


def draw_icons(n: int = 640, seed: int = 0, size: int = 256) -> torch.Tensor:
    """Draw the first n icons of a seed.

    Args:
        n: Number of icons, 1 or more.
        seed: Random seed of the set of icons.
        size: Width and height of the icons in pixels.

    Returns:
        The icons as a uint8 tensor (n, 3, size, size).
    """
    icons = torch.empty(n, 3, size, size, dtype=torch.uint8)
    for index in range(n):
        icons[index] = torch.from_numpy(np.array(draw_icon(index, seed, size))).permute(2, 0, 1)
    return icons


def draw_sheet(icons: Sequence[Image.Image], columns: int = 8) -> Image.Image:
    """Arrange icons of one size in rows with the given number of columns."""
    side = icons[0].width
    sheet = Image.new("RGB", (columns * side, -(-len(icons) // columns) * side), WHITE)
    for place, icon in enumerate(icons):
        sheet.paste(icon, (place % columns * side, place // columns * side))
    return sheet


def main(arguments: Sequence[str] | None = None) -> None:
    """Write icons as PNG files."""
    parser = argparse.ArgumentParser(description="Draw the Mel icons.")
    parser.add_argument("--out", type=user_path, required=True, help="new or empty folder for 0000.png and so on")
    parser.add_argument("--n", type=int, default=640, help="number of icons (default 640)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the set of icons (default 0)")
    parser.add_argument("--size", type=int, default=256, help="width and height in pixels (default 256)")
    parser.add_argument("--sheet", type=user_path, help="also write the first 64 icons side by side to this file")
    options = parser.parse_args(arguments)
    if options.n < 1 or options.size < 1:
        parser.error("--n and --size must be 1 or more")
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        parser.error(f"--out {options.out} exists and is not an empty folder")
    options.out.mkdir(parents=True, exist_ok=True)
    for index in range(options.n):
        draw_icon(index, options.seed, options.size).save(options.out / f"{index:04}.png")
    if options.sheet:
        first = [draw_icon(index, options.seed, options.size) for index in range(min(options.n, 64))]
        draw_sheet(first).save(options.sheet)


if __name__ == "__main__":
    main()
