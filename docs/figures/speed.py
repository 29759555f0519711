"""Plot the step time by resolution for progan and others, and print the tables, from benchmarks/results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from chart import BLUE, GREY, ORANGE, new_chart
from command_line import HERE, parse
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

RESULTS = HERE.parent.parent / "benchmarks/results"
NAMES = {
    "plain": "the plain loop",
    "fp32": "progan",
    "bf16": "progan, bf16",
    "pro_gan_pth": "pro-gan-pth 3.4",
}
COLORS = {"plain": GREY, "fp32": BLUE, "bf16": BLUE, "pro_gan_pth": ORANGE}


def results(name: str) -> Any:
    """Return the results of a benchmark."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def precisions(ratios: dict[str, float]) -> list[str]:
    """Return progan's precisions that were measured."""
    return [each for each in ("fp32", "bf16") if each in ratios]


def table(name: str) -> str:
    """Return a Markdown table of the article's eight phases: times, memory, and speedup over the plain loop.

    Args:
        name: Name of the results file.
    """
    measured = results(name)
    faster = measured["article_faster_than_plain"]
    ours = precisions(faster)
    heads = ["step at", "plain, ms", *(head for each in ours for head in (f"{each}, ms", "speedup"))]
    heads += [f"{each}, MB" for each in ("plain", *ours)]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for size, phase in measured["article"].items():
        times, ratios, memory = phase["ms"], phase["faster_than_plain"], phase["mb"]
        cells = [size, f"{times['plain']:.0f}"]
        for each in ours:
            cells += [f"{times[each]:.0f}", f"{ratios[each]:.2f}x"]
        lines.append(f"| {' | '.join([*cells, *(f'{memory[each]:.0f}' for each in ('plain', *ours))])} |")
    hours = measured["article_hours"]
    cells = ["the full recipe", f"{hours['plain']:.1f} h"]
    for each in ours:
        cells += [f"{hours[each]:.1f} h", f"{faster[each]:.2f}x"]
    lines.append(f"| {' | '.join(cells)} |{' |' * (1 + len(ours))}")
    return "\n".join(lines)


def convolutions() -> str:
    """Return a Markdown table of each phase's step time and the time of its convolutions alone."""
    phases = results("step_time")["convolutions"]
    ours = precisions(next(iter(phases.values()))["share"])
    heads = ["step at", *(head for each in ours for head in (f"{each} step, ms", "convolutions, ms", "share"))]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for size, phase in phases.items():
        cells = [size]
        for each in ours:
            times = (f"{phase['ms'][f'{each} {what}']:.0f}" for what in ("step", "convolutions"))
            cells += [*times, f"{100 * phase['share'][each]:.0f} %"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def others() -> str:
    """Return the other measurements as Markdown tables."""
    ranks, sampling, planning = (results(name) for name in ("ranks", "sampling", "planning"))
    rows = {
        f"training step at {size}, 512 channels: progan in {each} vs. pro-gan-pth 3.4": ratio
        for size, phase in results("step_time")["peer"].items()
        for each, ratio in phase["faster_than_pro_gan_pth"].items()
    }
    rows |= {
        "sampling at 256 px, batch 8: progan vs. the plain generator": sampling["faster_than_plain"]["fp32"],
        "64 px: two one-thread processes with 8 images each vs. one process with 8 images": ranks[
            "two_of_8_faster_than_one_of_8"
        ],
        "the same with 16 images per process": ranks["two_of_16_faster_than_one_of_16"],
        "two processes sharing a batch of 16 vs. one process with that batch": ranks["two_of_8_faster_than_one_of_16"],
    }
    lines = ["| compared | speedup |", "|---|---|", *(f"| {what} | {ratio:.2f}x |" for what, ratio in rows.items())]
    whole = planning["whole"]
    ((hours, given),) = planning["hours"].items()
    rows = {
        "planned time of a run of minutes / measured time": whole["ratio"],
        "planned memory / measured peak": whole["memory_ratio"],
        f"measured time of a run planned for {hours} hours / {hours} hours": given["median_ratio"],
    }
    lines += [
        "",
        "| planner | ratio |",
        "|---|---|",
        *(f"| {what} | {share:.2f} |" for what, share in rows.items()),
    ]
    return "\n".join(lines)


def gpu() -> str:
    """Return a Markdown table of step times on a GPU, and a sentence on the full recipe."""
    measured = results("gpu")
    heads = ["plain loop, ms", "progan without graph, ms", "progan, ms", "speedup", "tf32, ms", "bf16, ms"]
    lines = [f"| {' | '.join(['step at', *heads])} |", "|" + "---|" * (1 + len(heads))]
    steps = {name: step for name, step in measured["time"].items() if isinstance(step, dict)}
    peers = {name: steps.pop(name) for name in list(steps) if name.endswith("pro_gan_pth")}
    for name in sorted(steps, key=lambda name: (int(name.split()[0]), "fading" not in name)):
        times, faster = steps[name]["ms"], steps[name]["faster_by_graph"]["loop"]
        loop, plain = f"{times['loop']:.0f}", f"{times['plain']:.0f}"
        graph, tf32, bf16 = (f"{times[each]:.1f}" for each in ("graph", "graph tf32", "graph bf16"))
        lines.append(f"| {name} | {loop} | {plain} | {graph} | {faster:.1f}x | {tf32} | {bf16} |")
    for name, peer in peers.items():
        size = name.removesuffix(" pro_gan_pth")
        when = f", {peer['when']}" if "when" in peer else ""
        lines += ["", f"pro-gan-pth 3.4, its own networks, took {peer['ms']:,.0f} ms for a step at {size}{when}."]
    train = measured["train"]
    whole = train["whole"]
    lines += [
        "",
        f"The article's recipe in {train['began_with']['precision']}, on {train['began_with']['images']} portraits, "
        f"previews and checkpoints included: {whole['images_seen']:,} images in {whole['minutes']:.1f} minutes.",
    ]
    return "\n".join(lines)


def draw(axes: Axes, phases: dict[str, Any], contenders: Sequence[str], title: str) -> None:
    """Plot milliseconds by resolution, one line per contender; of two phases at one resolution, the later."""
    times = {name.split()[0]: phase["ms"] for name, phase in phases.items()}
    for each in contenders:
        taken = [phase[each] for phase in times.values()]
        line = "--" if each == "bf16" else "-"
        axes.plot(list(times), taken, marker="o", label=NAMES[each], color=COLORS[each], linestyle=line)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_xlabel("resolution, px")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    out = parse(__doc__, arguments).out
    print(table("step_time"), convolutions(), table("step_time_avx2"), others(), gpu(), sep="\n\n")
    measured = results("step_time")
    ours = precisions(measured["article_faster_than_plain"])
    figure = new_chart(height=7)
    above, below = figure.subplots(2)
    figure.supylabel("a step of both networks, ms")
    draw(above, measured["article"], ("plain", *ours), "the article's networks")
    draw(below, measured["peer"], ("pro_gan_pth", *ours), "512 channels throughout")
    figure.savefig(out / "speed.png")


if __name__ == "__main__":
    main()
