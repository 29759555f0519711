"""The sections of a model card, from the record of a generator. What a file holds is shown as text, whatever it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from progan.recipe_json import networks_from_json
from progan.reports.measures import amount, measure_of, verdict
from progan.reports.rows import Judgement, parse_rows
from progan.reports.sentence import percent, rough
from progan.runs.generator_file import DTYPES, GeneratorRecord

MOST_ROWS = 10  # of classes in a sheet
_KINDS = {1: "grey", 3: "RGB", 4: "RGBA (with transparency)"}
_LISTED = 20  # classes in the card
_LONGEST = 2000  # characters of a text in the card
_FEW_IMAGES = 2000  # below which single pictures are learned by heart sooner or later
_MARKDOWN = frozenset("\\`*_[]<>#|~&")


def card_text(record: GeneratorRecord, weights: int, name: str, file: str, picture: str | None) -> str:
    """Return a model card.

    Args:
        record: Record of the generator.
        weights: Number of its weights.
        name: Name of the generator.
        file: Name of its file.
        picture: Name of a sheet of samples beside the card, if there is one.
    """
    height, width = record.image_size
    kind = _KINDS[record.architecture.image_channels]
    parts = [
        f"# {_plain(name)}",
        f"A generator of {width}x{height} pictures, {kind}, trained with progan "
        f"{_plain(record.progan)}. It is the generator of a progressive GAN (Karras et al. 2018): it makes a picture "
        "from random numbers, its latent" + (", and a class." if record.classes else "."),
    ]
    if picture is not None:
        parts += [f"![Random samples](<{_address(picture)}>)", _caption(record)]
    if record.note is not None:
        parts.append(_plain(record.note))
    parts += ["## Facts", _facts(record, weights), "## Training", _training(record), "## Measures", _measures(record)]
    parts += ["## Limits", "\n".join(f"- {limit}" for limit in _limits(record)), "## Use", *_use(record, file)]
    return "\n\n".join(parts) + "\n"


def _caption(record: GeneratorRecord) -> str:
    if record.classes is not None and len(record.classes) <= MOST_ROWS:
        return "Random samples, not chosen; a row for each class, in the order below, and the same latent in a column."
    return "Random samples, not chosen."


def _facts(record: GeneratorRecord, weights: int) -> str:
    height, width = record.image_size
    latent = "x".join(map(str, record.architecture.latent_shape))
    rows = {
        "Pictures": f"{width}x{height} (width x height), {_KINDS[record.architecture.image_channels]}",
        "Classes": _classes(record),
        "Latent": f"{latent} normally distributed numbers",
        "Weights": f"{weights:,} in {record.precision}, {weights * DTYPES[record.precision].itemsize / 1e6:.1f} MB",
        "Licence": "not stated" if record.licence is None else _plain(record.licence),
    }
    return _table(["", ""], [[f"**{name}**", value] for name, value in rows.items()])


def _classes(record: GeneratorRecord) -> str:
    if record.classes is None:
        return "none"
    names = record.classes.names or [str(label) for label in range(len(record.classes))]
    pairs = [*zip(names, record.classes.counts, strict=True)]
    known = max(record.classes.counts) > 1  # of a generator by itself they are unknown, and taken as equal
    listed = ", ".join(_plain(name) + f" ({count:,} pictures)" * known for name, count in pairs[:_LISTED])
    return f"{len(pairs)}: {listed}" + (f", and {len(pairs) - _LISTED} more" if len(pairs) > _LISTED else "")


def _training(record: GeneratorRecord) -> str:
    data, seen = record.data or {}, record.images_seen
    sentences = []
    if (images := data.get("images")) is not None:
        held = data.get("held_out")
        sentences.append(
            f"Trained on {images:,} pictures" + (f"; {held:,} more were held out to judge it." if held else ".")
        )
    else:
        sentences.append("The number of training pictures is not known.")
    if seen is not None:
        shown = f"{seen:,} real pictures were shown to the discriminator"
        if images := data.get("images"):
            shown += f", each about {seen / images:,.0f} times" if seen >= 2 * images else ""
        took = "" if record.trained_s is None else f", in {rough(record.trained_s)} of training"
        sentences.append(f"{shown}{took}.")
    if record.recipe is not None:
        sentences += _recipe(record.recipe, seen)
    return " ".join(sentences)


def _recipe(recipe: Mapping[str, Any], seen: int | None) -> list[str]:
    """Return sentences about a recipe, which a file may hold in any form."""
    try:
        _, schedule = networks_from_json(recipe)
        training = recipe["training"]
        levels = [stage.level for stage in schedule.stages]
        first, last = schedule.stages[0], schedule.stages[-1]
        parts = [_named(training[role]) for role in ("objective", "regularizers", "augment_all", "augment_real")]
    except (KeyError, TypeError, ValueError, OverflowError):
        return ["Its recipe cannot be read by this version of progan."]
    objective, penalties, augment_all, augment_real = parts
    found = [
        f"The resolution grew over {max(levels) - min(levels) + 1} levels, with batches of {first.batch_size}"
        + (f" to {last.batch_size}" if last.batch_size != first.batch_size else "")
        + f" and {schedule.total_images:,} pictures planned.",
        f"Loss: {objective}; penalties: {penalties or 'none'}; augmentations: "
        + (
            "; ".join(each for each in (augment_all, augment_real and f"{augment_real} of real pictures") if each)
            or "none"
        )
        + ".",
    ]
    if seen is not None and seen < schedule.total_images:
        found.append(f"Training had not ended: {percent(seen, schedule.total_images)} % of it was done.")
    return found


def _named(parts: object) -> str:
    """Return the names of parts of a recipe as JSON."""
    several: list[Any] = parts if isinstance(parts, list) else [parts]
    return ", ".join(_plain(str(part["name"])) for part in several)


def _measures(record: GeneratorRecord) -> str:
    judgement = _judgement(record)
    if judgement is None:
        return "The run was not judged: nothing is known of the quality but what the samples show."
    rows = []
    for name, value in judgement.measures.items():
        floor = judgement.floors.get(name)
        words = verdict(name, value, floor)
        band = (
            ""
            if floor is None
            else f"{amount(name, floor.value)} ({amount(name, floor.low)} to {amount(name, floor.high)})"
        )
        rows.append([_plain(measure_of(name).title), amount(name, value), band, _plain(words)])
    about = [f"- {_plain(measure_of(name).title)}: {_plain(measure_of(name).about)}" for name in judgement.measures]
    return "\n\n".join(
        [
            f"Measured after {judgement.images_seen:,} real pictures, by progan's own measures. The floor is what the "
            "same measure gives for real pictures beside other real pictures, with its range: a generator cannot be "
            "expected to do better.",
            _table(["Measure", "Value", "Floor", "In words"], rows),
            "\n".join(each for each in about if not each.endswith(": ")),
        ]
    ).rstrip()


def _judgement(record: GeneratorRecord) -> Judgement | None:
    """Return the judgement in a record, read as a line of metrics.jsonl is."""
    if record.judgement is None:
        return None
    found = parse_rows([json.dumps(record.judgement).encode()]).judgements
    return found[0] if found and found[0].measures else None


def _limits(record: GeneratorRecord) -> list[str]:
    images, judgement = (record.data or {}).get("images"), _judgement(record)
    limits = ["It makes variations of its training pictures and nothing else; it cannot be told what to draw."]
    if record.classes is not None:
        limits = ["It makes variations of its training pictures, of the class that is asked for, and nothing else."]
        least = min(record.classes.counts)
        if max(record.classes.counts) > 1 and least < _FEW_IMAGES // 10:
            limits.append(f"The smallest class had {least:,} training pictures: its samples vary little, or copy them.")
    if images is not None and images < _FEW_IMAGES:
        limits.append(f"{images:,} training pictures are few: samples may come close to single ones.")
    copies = None if judgement is None else judgement.measures.get("copies")
    if judgement is None or copies is None:
        limits.append("Whether samples are copies of training pictures was not measured.")
    else:
        said = verdict("copies", copies, judgement.floors.get("copies"))
        limits.append(
            f"Of the samples that were compared with the training pictures, {amount('copies', copies)} were flagged as "
            f"copies ({said}). This is a measure of pixels and does not find every likeness."
        )
    if judgement is not None:
        limits.append(
            "The measures compare with this run's own pictures; they say nothing beside those of other data, other "
            "sizes or other programs, such as a published FID."
        )
        if record.images_seen is not None and judgement.images_seen < record.images_seen:
            limits.append(f"They were taken {record.images_seen - judgement.images_seen:,} pictures before the end.")
    if record.precision == "fp16":
        limits.append("The weights are rounded to fp16, so pictures differ slightly from those that were measured.")
    limits.append("Some samples are flawed. The sheet is not a selection; expect to choose from many.")
    limits.append("The rights to the training pictures are not recorded here; ask who trained it.")
    return limits


def _use(record: GeneratorRecord, file: str) -> list[str]:
    height, width = record.image_size
    channels = record.architecture.image_channels
    code = [
        "```python",
        "from progan import image_grid, load_generator, to_uint8, write_png",
        "",
        f"generator = load_generator({json.dumps(file, ensure_ascii=False)})",
        f"images = generator.sample(16, seed=1)  # (16, {channels}, {height}, {width}), values in [0, 1]",
    ]
    if record.classes is not None:
        code.append("images = generator.sample(16, label=0, seed=1)  # of the first class")
    code += ['write_png("samples.png", image_grid(to_uint8(images), columns=4))', "```"]
    return [
        "Install progan with `pip install progan`; no GPU is needed. The file holds numbers and JSON, and nothing in "
        "it is executed. Then, in the folder of the file:",
        "\n".join(code),
        "The same seed makes the same pictures on any machine, up to rounding.",
    ]


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    r"""Return a text of any origin as Markdown that shows it, on one line, without links, HTML or code.

    Example:
        >>> print(_plain("[a](https://b) <script>"))
        \[a\](https://b) \<script\>
    """
    cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    shown = (c if c.isprintable() else " " if c.isspace() else c.encode("unicode_escape").decode() for c in cut)
    return "".join(f"\\{c}" if c in _MARKDOWN else c for c in shown)


def _address(name: str) -> str:
    """Return a file name as the target of a link in angle brackets."""
    return "".join(c if c.isprintable() else "_" for c in name).translate({ord(c): f"\\{c}" for c in "<>\\"})
