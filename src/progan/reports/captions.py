"""Small text below pictures, in letters of 5 x 7 pixels that need no font file and no Pillow."""

from __future__ import annotations

import torch
from torch import Tensor

HEIGHT, _WIDTH = 7, 5
_LETTERS = {
    "0": ".###. #...# #..## #.#.# ##..# #...# .###.",
    "1": "..#.. .##.. ..#.. ..#.. ..#.. ..#.. .###.",
    "2": ".###. #...# ....# ...#. ..#.. .#... #####",
    "3": "##### ...#. ..#.. ...#. ....# #...# .###.",
    "4": "...#. ..##. .#.#. #..#. ##### ...#. ...#.",
    "5": "##### #.... ####. ....# ....# #...# .###.",
    "6": "..##. .#... #.... ####. #...# #...# .###.",
    "7": "##### ....# ...#. ..#.. .#... .#... .#...",
    "8": ".###. #...# #...# .###. #...# #...# .###.",
    "9": ".###. #...# #...# .#### ....# ...#. .##..",
    ",": "..... ..... ..... ..... ..#.. ..#.. .#...",
    "a": "..... ..... .###. ....# .#### #...# .####",
    "e": "..... ..... .###. #...# ##### #.... .###.",
    "g": "..... .#### #...# #...# .#### ....# .###.",
    "i": "..#.. ..... .##.. ..#.. ..#.. ..#.. .###.",
    "m": "..... ..... ##.#. #.#.# #.#.# #.#.# #.#.#",
    "s": "..... ..... .#### #.... .###. ....# ####.",
    " ": "..... ..... ..... ..... ..... ..... .....",
}


def captioned(image: Tensor, text: str, *, scale: int = 1) -> Tensor:
    """Return an image with a line of black text on white below it.

    Args:
        image: (C, H, W), uint8, with 1, 3 or 4 channels.
        text: Digits, commas, spaces and the letters of "images"; what does not fit into the width is cut off.
        scale: Size of a letter's pixels.

    Returns:
        (C, H + 11 * scale, W), uint8.
    """
    mask = _mask(text).repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    channels, _, width = image.shape
    strip = image.new_full((channels, (HEIGHT + 4) * scale, width), 255)
    left = 2 * scale
    shown = mask[:, : max(0, width - left)].to(image.device)
    area = strip[: min(channels, 3), 2 * scale : (2 + HEIGHT) * scale, left : left + shown.shape[1]]
    area[:, shown] = 0
    return torch.cat([image, strip], dim=1)


def _mask(text: str) -> Tensor:
    """Return where a text is black: (7, 6 * letters), bool."""
    letters = [[[dot == "#" for dot in f"{row}."] for row in _LETTERS[letter].split()] for letter in text]
    return torch.cat([torch.tensor(letter) for letter in letters], dim=1)
