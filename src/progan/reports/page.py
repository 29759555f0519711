"""The page of a report: one HTML file that asks no other host, from the sections and the pictures."""

from __future__ import annotations

import base64
import hashlib
import re
from itertools import groupby
from pathlib import Path

from progan._version import __version__
from progan.reports import sections
from progan.reports.figures import Figures
from progan.reports.gallery import Gallery
from progan.reports.reading import RunFiles
from progan.reports.sentence import percent, standing
from progan.reports.text import escaped

_HERE = Path(__file__).parent
_BADGES = {
    "not begun": "Not begun",
    "training": "Training",
    "stopped": "Stopped",
    "broke off": "Broke off",
    "finished": "Finished",
}
_SLIDERS = '<section id="samples"><h2>Samples through time</h2>'


def page(run: RunFiles, gallery: Gallery, max_bytes: int) -> bytes:
    """Return the page in UTF-8.

    Args:
        run: Files of the run.
        gallery: Pictures of the run.
        max_bytes: Bytes of the whole page; sample grids are left out where it would be larger.
    """
    before, after = _page(run, gallery)
    room = max_bytes - len(_encoded(before + after)) - 5000
    sheets = gallery.fitting(room - 2 * max((len(each.picture.uri) for each in gallery.sheets.values()), default=0))
    return _encoded(before + sections.samples(run, gallery, sheets) + after)


def _page(run: RunFiles, gallery: Gallery) -> tuple[str, str]:
    """Return what stands before and after the sample grids."""
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    sentence = standing(run)
    name = escaped(run.name, 100)
    before = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>{name}: {escaped(sentence)}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n{_header(run, sentence, name)}\n<main>\n{_remarks(run, gallery)}"
        f'<section id="strip"><h2>Progress by resolution</h2>{sections.strip(run, gallery)}</section>\n{_SLIDERS}'
    )
    parts = [
        '</section>\n<section id="measures"><h2>Measures</h2>' + sections.measures(run) + "</section>\n",
        _curves(run),
        '<div class="two"><section id="closest"><h2>Closest training images</h2>' + sections.closest(gallery, run),
        '</section>\n<section id="defects"><h2>Visible defects</h2>' + sections.defects(run) + "</section></div>\n",
        '<section id="schedule"><h2>Schedule</h2>' + sections.schedule(run) + "</section>\n",
        '<section id="warnings"><h2>Warnings</h2>' + sections.warned(run) + "</section>\n",
        '<section id="settings"><h2>Settings</h2>' + sections.settings(run) + "</section>\n",
        f"</main>\n<footer>{_footer(run)}</footer>\n<script>{script}</script>\n</body>\n</html>\n",
    ]
    return before, "".join(parts)


def _header(run: RunFiles, sentence: str, name: str) -> str:
    """Return the top of the page: how the run stands, and the stages with what is done."""
    kind = run.state.replace(" ", "-")
    written = run.read_at.isoformat(timespec="seconds")
    return (
        f'<header><p class="top"><span class="badge {kind}">{_BADGES[run.state]}</span> '
        f'<span>written <time datetime="{written}">{run.read_at:%Y-%m-%d %H:%M}</time></span></p>'
        f'<h1>{name}</h1><p class="standing">{_unbroken(sentence)}.</p>{_bar(run)}</header>'
    )


def _unbroken(sentence: str) -> str:
    """Return a sentence as HTML in which a number and its unit stay on one line."""
    return re.sub(r"(?<=\d) (?=%|s\b|min\b|h\b|days\b|px\b)|(?<=floor) (?=\d)", "&nbsp;", escaped(sentence))


def _bar(run: RunFiles) -> str:
    """Return the schedule as a bar: a part per resolution, filled as far as it is done."""
    plan = run.schedule
    parts = []
    for level, group in groupby(range(len(plan.stages)), key=lambda stage: plan.stages[stage].level):
        stages = list(group)
        begin, end = plan.starts[stages[0]], plan.end(stages[-1])
        done = percent(max(0, run.images_seen - begin), end - begin)
        parts.append(
            f'<li style="flex-grow:{end - begin}"><span class="bar"><span style="width:{done}%"></span></span>'
            f'<span class="size"><span class="full">{run.size(level)}</span>'
            f'<span class="short" aria-hidden="true">{run.short_size(level)}</span></span></li>'
        )
    done = percent(run.images_seen, plan.total_images)
    label = f"Resolutions of the schedule; {done} % of the images are done"
    return f'<ol class="stages" aria-label="{label}">{"".join(parts)}</ol>'


def _remarks(run: RunFiles, gallery: Gallery) -> str:
    found = sections.missing(run, gallery)
    if not found:
        return ""
    inside = "".join(f"<li>{escaped(each)}</li>" for each in found)
    return f'<section id="missing" class="callout"><h2>What this report lacks</h2><ul>{inside}</ul></section>\n'


def _curves(run: RunFiles) -> str:
    """Return the curves, and the switch between images and hours, which needs no script."""
    figures = Figures(run)
    losses, measures = figures.losses(), figures.measures()
    if not losses and not measures:
        return '<section id="curves"><h2>Curves</h2><p class="none">No rows to draw curves from.</p></section>\n'
    switch = (
        '<fieldset class="switch"><legend>Over</legend>'
        '<input type="radio" name="axis" id="axis-images" checked><label for="axis-images">images</label>'
        '<input type="radio" name="axis" id="axis-hours"><label for="axis-hours">hours</label></fieldset>'
        if figures.has_hours
        else ""
    )
    parts = f"<h3>Measures</h3>{measures}" if measures else ""
    parts += f"<h3>Losses</h3>{losses}" if losses else ""
    key = '<p class="note">Vertical lines: a stage begins, with its resolution in pixels. '
    key += "Shaded: a measure's floor, or the range of a loss.</p>"
    return f'<section id="curves"><h2>Curves</h2>{switch}{key}{parts}</section>\n'


def _footer(run: RunFiles) -> str:
    saved = ", ".join(f"{count:,}" for count in run.checkpoints[-20:])
    checkpoints = f"Checkpoints at {saved} images. " if saved else ""
    return f"<p>{checkpoints}Written by progan {escaped(__version__)} from the files of this run directory.</p>"


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")
