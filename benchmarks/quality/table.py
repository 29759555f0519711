"""Print the log of experiments on the quality of pictures as a table.

python benchmarks/quality/table.py [--data NAME]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from run import LOG

COLUMNS = ("feature_distance", "swd", "ms_ssim", "diversity", "fixed_pattern", "corners", "copies")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line for each experiment, those on the same data together, and what real images give."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="only experiments on this folder's name")
    options = parser.parse_args(arguments)
    rows = [json.loads(line) for line in LOG.read_text().splitlines()]
    rows = [row for row in rows if options.data in (None, row["data"])]
    kinds = sorted({kind_of(row) for row in rows})
    for kind in kinds:
        data, resolution, images = kind
        chosen = [row for row in rows if kind_of(row) == kind]
        print(f"\n{data}, {resolution}x{resolution}, {images:,} images shown")
        print(f"| setting | seed | minutes | {' | '.join(COLUMNS)} |\n|{'---|' * (3 + len(COLUMNS))}")
        for row in sorted(chosen, key=lambda row: (row["setting"], row["seed"])):
            minutes = f"{row['minutes']:.0f}" if row["quiet"] else f"({row['minutes']:.0f})"
            print(f"| {row['setting']} | {row['seed']} | {minutes} | {numbers(row['measures'])} |")
        print(f"| real images | | | {numbers(chosen[-1]['floors'])} |")
    print("\nMinutes in brackets: other programs ran beside it.")
    return 0


def kind_of(row: Mapping[str, Any]) -> tuple[str, int, int]:
    """Return data, resolution, and images shown, to two digits: batches do not end at the same image."""
    images = row["images"]
    return row["data"], row["resolution"], round(images, 2 - len(str(images)))


def numbers(values: Mapping[str, float | None]) -> str:
    """Return the columns of a row."""
    return " | ".join("" if values.get(name) is None else f"{values[name]:.3g}" for name in COLUMNS)


if __name__ == "__main__":
    raise SystemExit(main())
