"""``progan pull``: get a generator from a model hub."""

from __future__ import annotations

import argparse

from progan.cli.command import UsageError
from progan.cli.options import user_path
from progan.cli.output import on_one_line, show, shown

HELP = "Download a generator from a model hub, and check it; nothing in it is run."
EXAMPLE = "progan pull alice/icons icons.safetensors"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("repo", metavar="NAME/REPO", help="user or organisation, and repository")
    parser.add_argument("out", type=user_path, metavar="OUT", help=".safetensors file to write")
    parser.add_argument("--file", metavar="NAME", help="its name in the repository (default: generator.safetensors)")
    parser.add_argument("--revision", metavar="TEXT", help="branch, tag or commit (default: the newest)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing OUT")


def run(options: argparse.Namespace) -> int:
    """Download, and print what has come."""
    from progan.export import describe, pull_from_hub

    out = options.out
    if out.suffix != ".safetensors":
        raise UsageError(f"OUT must end in .safetensors, got {out}")
    if out.exists() and not options.overwrite:
        raise UsageError(f"{out} exists; pass --overwrite or another OUT")
    named = {} if options.file is None else {"file": options.file}
    record = describe(pull_from_hub(options.repo, out, revision=options.revision, **named))
    height, width = record.image_size
    licence = "licence not stated" if record.licence is None else f"licence {on_one_line(record.licence)}"
    show(f"{out}: a generator of {width}x{height} pictures, {out.stat().st_size / 1e6:.1f} MB, {licence}.")
    show(f"progan generate {shown(out)} --out icons")
    return 0
