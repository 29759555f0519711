"""``progan pack``: write a folder of pictures into one file that training reads at once."""

from __future__ import annotations

import argparse

from progan.cli.folder import facts_of, folder_keywords, shape_of
from progan.cli.options import add_choice_of_pictures, resolution, user_path
from progan.cli.output import show, shown

HELP = "Write the pictures of a folder into one file, which training opens without decoding."
EXAMPLE = "progan pack my_photos/ photos.pack --resolution 256"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("folder", type=user_path, metavar="FOLDER", help="folder of pictures, with its sub-folders")
    parser.add_argument("file", type=user_path, metavar="FILE", help="file to write; an older pack is replaced")
    parser.add_argument("--resolution", type=resolution, required=True, metavar="PX", help="shorter side in pixels")
    add_choice_of_pictures(parser)


def run(options: argparse.Namespace) -> int:
    """Write the pack."""
    from progan.data import pack

    shape = shape_of(facts_of(options.folder, options))
    size, channels = shape.size(options.resolution), options.channels or shape.channels
    packed = pack(options.folder, options.file, size, channels, **folder_keywords(options.folder, options))
    n, channels, height, width = packed.images.shape
    show(f"{n:,} pictures of {width}x{height} with {channels} channels are in {options.file}.")
    show(f"progan train {shown(options.file)}")
    return 0
