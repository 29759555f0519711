"""The beginning of a card that hubs read: a few lines of YAML with licence, task and tags."""

from __future__ import annotations

import json

from progan.runs.generator_file import GeneratorRecord

_KINDS = {1: "grayscale", 3: "rgb", 4: "rgba"}
# Licences that hubs know by name, as their lower-case identifiers; any other one is stated by its text.
_KNOWN = {
    "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "bsl-1.0",
    "cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0",
    "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0",
    "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "ecl-2.0", "epl-1.0",
    "epl-2.0", "eupl-1.1", "eupl-1.2", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "isc", "lgpl", "lgpl-2.1",
    "lgpl-3.0", "mit", "mpl-2.0", "odbl", "odc-by", "openrail", "openrail++", "osl-3.0", "pddl",
    "unlicense", "wtfpl", "zlib",
}  # fmt: skip


def front_matter(record: GeneratorRecord) -> str:
    """Return the front matter of a card, with a line of dashes before and after it.

    Args:
        record: Record of the generator.

    Example:
        >>> from progan import presets
        >>> architecture = presets.karras2018(8, channels=(8, 8)).architecture
        >>> print(front_matter(GeneratorRecord(architecture, 1, None, licence="CC-BY-4.0")), end="")
        ---
        library_name: progan
        pipeline_tag: unconditional-image-generation
        license: cc-by-4.0
        tags:
        - progan
        - progressive-gan
        - gan
        - rgb
        - 8x8
        ---
    """
    height, width = record.image_size
    tags = ["progan", "progressive-gan", "gan", _KINDS[record.architecture.image_channels], f"{width}x{height}"]
    if record.classes is not None:
        tags.append("class-conditional")
    lines = ["library_name: progan", "pipeline_tag: unconditional-image-generation", *_licence(record.licence)]
    return "\n".join(["---", *lines, "tags:", *(f"- {tag}" for tag in tags), "---", ""])


def _licence(text: str | None) -> list[str]:
    if text is None:
        return []
    known = text.strip().lower()
    if known in _KNOWN:
        return [f"license: {known}"]
    quoted = json.dumps(text, ensure_ascii=False)  # one of YAML too, but that YAML has no pairs of half characters
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in quoted)
    return ["license: other", f"license_name: {''.join(shown)}"]
