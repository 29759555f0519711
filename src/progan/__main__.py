"""Run the command line: ``progan``, or ``python -m progan``."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line, and return the exit status; an interrupt ends it in one line from the first import on."""
    try:
        from progan.cli.program import main as run

        return run()
    except KeyboardInterrupt:
        print("progan: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
