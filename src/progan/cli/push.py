"""``progan push``: put a generator on a model hub."""

from __future__ import annotations

import argparse

from progan.cli.options import add_which, user_path, which
from progan.cli.output import show

HELP = "Push the generator of a run to a model hub, with a model card and a sheet of its pictures."
EXAMPLE = "progan push runs/my_icons alice/icons --licence CC-BY-4.0"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("source", type=user_path, metavar="RUN", help="run directory, checkpoint, or exported file")
    parser.add_argument("repo", metavar="NAME/REPO", help="user or organisation, and repository; created if missing")
    add_which(parser)
    parser.add_argument("--precision", choices=("fp32", "fp16"), default="fp32", help="fp16 halves it (default: fp32)")
    parser.add_argument("--licence", metavar="TEXT", help="licence of the generator, such as CC-BY-4.0")
    parser.add_argument("--note", metavar="TEXT", help="anything else to state, such as where the pictures came from")
    parser.add_argument("--private", action="store_true", help="create a repository that only you can see")


def run(options: argparse.Namespace) -> int:
    """Push, and print where it is."""
    from progan.export import push_to_hub

    address = push_to_hub(
        options.source,
        options.repo,
        **which(options),
        licence=options.licence,
        note=options.note,
        precision=options.precision,
        private=options.private,
    )
    show(f"{address}: read the model card there before you share it.")
    show(f"progan pull {options.repo} icons.safetensors")
    return 0
