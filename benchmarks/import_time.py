"""Measure how much time `import progan` adds to `import torch`: medians over interleaved new processes, as JSON.

python benchmarks/import_time.py [--rounds 9] [--out benchmarks/results/import_time.json]
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path

import torch

import progan

TIMED = "import time; begin = time.perf_counter(); import {}; print(time.perf_counter() - begin)"
ADDED = "import torch, time; begin = time.perf_counter(); import progan; print(time.perf_counter() - begin)"


def seconds(program: str) -> float:
    return float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    times: dict[str, list[float]] = {"import_torch_s": [], "progan_adds_s": []}
    for _ in range(options.rounds):
        times["import_torch_s"].append(seconds(TIMED.format("torch")))
        times["progan_adds_s"].append(seconds(ADDED))
    result = {
        **{name: round(statistics.median(values), 4) for name, values in times.items()},
        "rounds": options.rounds,
        "progan": progan.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "date": datetime.date.today().isoformat(),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
