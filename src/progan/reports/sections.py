"""The sections of a report as HTML, each from plain data. Whatever comes from a file is escaped here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from progan.optimization import FIRST_AVERAGE
from progan.reports.gallery import Gallery, Sheet
from progan.reports.measures import amount, measure_of, verdict, within_sentence
from progan.reports.pictures import Picture, sheet_attributes
from progan.reports.reading import RunFiles
from progan.reports.rows import Judgement
from progan.reports.sentence import percent
from progan.reports.text import escaped
from progan.runs.data_history import history_from_json
from progan.storage.comparison import flat

_MOST_MEASURES = 24
_MOST_SETTINGS = 150
_LONGEST_VALUE = 200  # characters


def strip(run: RunFiles, gallery: Gallery) -> str:
    """Return the progress strip: a row of samples per resolution."""
    if gallery.rows:
        rows = "".join(
            f'<li><span class="tag">{run.size(level) if level <= run.architecture.top_level else level}</span>'
            f"{image(picture, f'A row of samples at level {level}, {picture.width} by {picture.height} pixels')}</li>"
            for level, picture in gallery.rows.items()
        )
        return f'<ol class="strip" aria-label="Samples by resolution">{rows}</ol>'
    if gallery.progress is not None:
        return image(gallery.progress, "Progress strip: a row of samples per resolution, from coarse to fine")
    return _nothing("No progress strip yet. The trainer writes it with the first sample grid.")


def samples(run: RunFiles, gallery: Gallery, sheets: Mapping[int, Sheet]) -> str:
    """Return the sample grids: two of them side by side, each with a slider through time."""
    if not sheets:
        if gallery.n_sheets:
            return _nothing(f"None of the {gallery.n_sheets:,} sample grids in samples/ can be read.")
        every = _interval(run, "preview_every")
        when = f" The trainer writes one every {every:,} images." if every else ""
        return _nothing(f"This run directory has no sample grids: samples/ is missing or empty.{when}")
    counts = list(sheets)
    middle = min(range(len(counts)), key=lambda index: abs(counts[index] - counts[-1] / 2))
    panels = [
        _panel(run, sheets, counts, index, name)
        for index, name in ((middle, "earlier"), (len(counts) - 1, "later"))
        if name == "later" or len(counts) > 1
    ]
    remarks = []
    if len(sheets) < gallery.n_sheets:
        remarks.append(f"{len(sheets):,} of {gallery.n_sheets:,} grids, evenly spread; all are in samples/.")
    if not gallery.makes_webp:
        remarks.append('Pictures are small because Pillow is missing: pip install "progan[images]".')
    note = f'<p class="note">{escaped(" ".join(remarks))}</p>' if remarks else ""
    stored = "".join(
        f'<script type="text/plain" class="sheet" data-label="{escaped(_label(run, count))}" '
        f"{sheet_attributes(sheet.key, sheet.picture)}>{sheet.picture.uri}</script>\n"
        for count, sheet in sheets.items()
    )
    without = '<noscript><p class="note">The sliders need a script, and scripts are off here.</p></noscript>'
    same = '<p class="note">Every grid shows the same latents. Move the sliders to compare any two counts.</p>'
    return f'{same}<div class="panels">{"".join(panels)}</div>{without}{note}\n{stored}'


def _panel(run: RunFiles, sheets: Mapping[int, Sheet], counts: Sequence[int], index: int, name: str) -> str:
    label = escaped(_label(run, counts[index]))
    picture = sheets[counts[index]].picture
    slider = (
        f'<div class="slider" hidden><label for="{name}">{name.capitalize()} grid</label>'
        f'<input type="range" id="{name}" min="0" max="{len(counts) - 1}" value="{index}" step="1" '
        f'aria-valuetext="{label}"></div>'
        if len(counts) > 1
        else ""
    )
    shown = image(picture, f"Sample grid after {_label(run, counts[index])}")
    return f'<figure class="panel">{shown}<figcaption>{label}</figcaption>{slider}</figure>'


def _label(run: RunFiles, count: int) -> str:
    level, alpha = run.schedule.reached(count)
    fading = "" if alpha is None else f", fading in ({percent(int(alpha * 1000), 1000)} %)"
    return f"{count:,} images, {run.size(level)}{fading}"


def measures(run: RunFiles) -> str:
    """Return the newest judgement: a table, and its remarks."""
    judgement = run.judgement
    if judgement is None:
        return _nothing(
            "No judgement yet: metrics.jsonl holds losses only, which do not tell how good the samples are."
        ) + "".join(f"<p>{escaped(chosen)}</p>" for chosen in _chosen(run))
    rows = []
    names = sorted(judgement.measures, key=lambda name: name != judgement.leading)[:_MOST_MEASURES]
    for name in names:
        value, floor = judgement.measures[name], judgement.floors.get(name)
        interval = (
            ""
            if floor is None or floor.low == floor.high
            else (f'<span class="about">{amount(name, floor.low)} to {amount(name, floor.high)}</span>')
        )
        leads = ' <span class="tag">leading</span>' if name == judgement.leading else ""
        said = verdict(name, value, floor)
        rows.append(
            f'<tr><th scope="row">{escaped(measure_of(name).title)}{leads}'
            f'<span class="about">{escaped(said)}</span></th>'
            f"<td>{amount(name, value)}</td>"
            f"<td>{'' if floor is None else amount(name, floor.value)}{interval}</td></tr>"
        )
    head = '<tr><th scope="col">Measure</th><th scope="col">Samples</th><th scope="col">Data</th></tr>'
    table = f'<table class="measures"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'
    remarks = list(judgement.remarks)
    if run.best is not None:
        best = run.best
        reached = amount(best.measure, best.value)
        remarks.append(f"Best checkpoint by {within_sentence(best.measure)}: {best.images_seen:,} images ({reached}).")
    remarks += _chosen(run)
    said = "".join(f"<li>{escaped(remark)}</li>" for remark in remarks)
    side = f'<div><h3>Remarks</h3><ul class="remarks">{said}</ul></div>' if said else ""
    when = (
        f'<p class="note">Measured at {judgement.images_seen:,} images{_of_average(judgement)}. "Data" is what the '
        "same measure gives for the real images themselves: no samples can be expected to do better.</p>"
    )
    return f'{when}<div class="two"><div>{table}</div>{side}</div>'


def _of_average(judgement: Judgement | None) -> str:
    """Return which average of the generator a judgement is of, as a part of a sentence; empty for the first one."""
    if judgement is None or judgement.average == FIRST_AVERAGE:
        return ""
    return f", with the average {escaped(judgement.average)}"


def _chosen(run: RunFiles) -> list[str]:
    """Return a sentence on the choice among averages, if there is one of the newest judgement or after it."""
    if run.rows.choice is None or (run.judgement is not None and run.rows.choice[0] < run.judgement.images_seen):
        return []
    text = run.rows.choice[1]
    return [f"{text[:1].upper()}{text[1:]}."]


def closest(gallery: Gallery, run: RunFiles) -> str:
    """Return the sheet of the closest training images."""
    if gallery.closest is None:
        return _nothing("No sheet of closest training images yet: samples/closest.png is missing or cannot be read.")
    judgement = run.judgement
    said = ""
    if judgement is not None and "copies" in judgement.measures:
        value, floor = judgement.measures["copies"], judgement.floors.get("copies")
        said = (
            f"<p>{amount('copies', value)} of the samples are flagged: {escaped(verdict('copies', value, floor))}.</p>"
        )
    alt = "Pairs of pictures: a sample, and to its right the training image that is closest to it"
    note = (
        '<p class="note">Pairs: a sample, and to its right the training image that is closest to it'
        f"{_of_average(judgement)}.</p>"
    )
    return f"{said}{note}<figure>{image(gallery.closest, alt)}</figure>"


def defects(run: RunFiles) -> str:
    """Return the two defects that a person sees, in words."""
    judgement = run.judgement
    found = []
    for name in ("fixed_pattern", "corners"):
        if judgement is not None and name in judgement.measures:
            value, floor = judgement.measures[name], judgement.floors.get(name)
            data = "" if floor is None else f" in the samples, {amount(name, floor.value)} in the data"
            said = verdict(name, value, floor)
            about = measure_of(name).about
            found.append(
                f"<dt>{escaped(measure_of(name).title)}</dt><dd><strong>{amount(name, value)}</strong>{data}"
                f'{f" ({escaped(said)})" if said else ""}<span class="about">{escaped(about)}</span></dd>'
            )
    if not found:
        return _nothing("No defects measured yet.")
    return f'<dl class="facts">{"".join(found)}</dl>'


def schedule(run: RunFiles) -> str:
    """Return the stages, and how much of each is done."""
    rows = []
    plan = run.schedule
    for index, stage in enumerate(plan.stages):
        done = percent(max(0, run.images_seen - plan.starts[index]), stage.images)
        bar = f'<span class="bar"><span style="width:{done}%"></span></span>'
        current = ' aria-current="step"' if 0 < done < 100 else ""
        rows.append(
            f'<tr{current}><td>{index + 1}</td><td>{run.size(stage.level)}</td><td class="done">{bar}{done} %</td>'
            f"<td>{stage.fade_images:,}</td><td>{stage.hold_images:,}</td>"
            f"<td>{stage.batch_size}</td><td>{stage.learning_rate:g}</td></tr>"
        )
    names = ("Stage", "Size", "Done", "Fade", "Hold", "Batch", "Learning rate")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    return (
        _scrolling(
            f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>", "Stages of the schedule"
        )
        + f'<p class="note">{run.images_seen:,} of {plan.total_images:,} images. Fade and hold are in real images.</p>'
    )


def settings(run: RunFiles) -> str:
    """Return what config.json records: environment, data, intervals, and the recipe."""
    first = [("Environment", run.config.get("environment")), ("Data", run.config.get("data"))]
    if sets := _data_sets(run.config.get("data_history")):
        first.append(("Data over time", sets))
    if isinstance(run.config.get("start"), Mapping):
        first.append(("Start", run.config["start"]))
    groups: list[tuple[str, Any]] = [("Intervals", run.config.get("intervals"))]
    recipe = run.config.get("recipe")
    if isinstance(recipe, Mapping):
        groups += [("Training", recipe.get("training")), ("Architecture", recipe.get("architecture"))]
    names = ("format", "version", "recipe", "environment", "data", "data_history", "start", "intervals")
    groups.append(("Run", {name: value for name, value in run.config.items() if name not in names}))
    shown, folded = (
        f'<div class="groups">{"".join(_group(title, value) for title, value in each)}</div>'
        for each in (first, groups)
    )
    return f"{shown}<details><summary>All settings</summary>{folded}</details>"


def _data_sets(history: object) -> dict[str, str]:
    """Return how many images the run was trained on, by the count from which on it was."""
    try:
        records = history_from_json(history)
    except ValueError:
        return {}
    return {f"from {record.images_seen:,} images shown": record.counted() for record in records}


def _group(title: str, value: Any) -> str:
    leaves = list(flat(value))[:_MOST_SETTINGS] if isinstance(value, Mapping) and value else []
    rows = "".join(
        f"<div><dt>{_breakable(name)}</dt><dd>{escaped(_shown(leaf), _LONGEST_VALUE)}</dd></div>"
        for name, leaf in leaves
    )
    inside = f"<dl>{rows}</dl>" if rows else _nothing("Not recorded.")
    return f"<section><h3>{escaped(title)}</h3>{inside}</section>"


def _breakable(name: str) -> str:
    """Return a dotted name as HTML that a narrow column breaks between its words."""
    return re.sub(r"([._])", r"\1<wbr>", escaped(name, _LONGEST_VALUE))


def _shown(value: object) -> str:
    """Return a setting as text: lists without brackets, and None as a dash."""
    if value is None or value == []:
        return "–"  # noqa: RUF001
    return ", ".join(map(str, value[:50])) if isinstance(value, list) else str(value)


def warned(run: RunFiles) -> str:
    """Return the warnings of the run, newest first."""
    if not run.n_warnings:
        return _nothing("No warnings recorded.")
    rows = "".join(f"<li><strong>{count:,} images</strong> {escaped(text)}</li>" for count, text in run.warnings)
    more = run.n_warnings - len(run.warnings)
    note = f'<p class="note">{more:,} earlier ones are in warnings.jsonl.</p>' if more else ""
    return f'<ul class="remarks">{rows}</ul>{note}'


def missing(run: RunFiles, gallery: Gallery) -> list[str]:
    """Return sentences on what this report lacks."""
    found = []
    if not run.has_metrics:
        found.append("metrics.jsonl is missing: there are no curves.")
    elif not run.rows.losses and not run.rows.judgements:
        found.append("metrics.jsonl holds no rows yet.")
    if run.rows.skipped:
        lines = "line" if run.rows.skipped == 1 else "lines"
        found.append(f"{run.rows.skipped:,} {lines} of metrics.jsonl could not be read (cut off or damaged).")
    if not run.rows.is_whole:
        found.append("metrics.jsonl is very long: only its end was read, and the hours begin there.")
    if not run.checkpoints:
        found.append("There is no checkpoint yet.")
    if run.state == "broke off" and run.checkpoints:
        found.append(
            f"The run broke off; its newest checkpoint is at {run.checkpoints[-1]:,} images. Run the same script again "
            "to resume from there."
        )
    if gallery.unreadable:
        names = ", ".join(gallery.unreadable[:5]) + (", ..." if len(gallery.unreadable) > 5 else "")
        found.append(f"Pictures that could not be read, as damaged or not written by progan: {names}.")
    return found


def image(picture: Picture, alt: str) -> str:
    """Return an img element."""
    sharp = ' class="sharp"' if picture.is_sharp else ""
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<img src="{picture.uri}" {size} alt="{escaped(alt)}" decoding="async"{sharp}>'


def _scrolling(inside: str, label: str) -> str:
    """Return a block that scrolls sideways where the window is narrow, also by keyboard."""
    return f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">{inside}</div>'


def _interval(run: RunFiles, name: str) -> int | None:
    intervals = run.config.get("intervals")
    value = intervals.get(name) if isinstance(intervals, Mapping) else None
    return value if isinstance(value, int) else None


def _nothing(text: str) -> str:
    return f'<p class="none">{escaped(text)}</p>'
