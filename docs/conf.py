"""Sphinx configuration. `make docs` builds the site without network access and treats warnings as errors."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from torch.utils.data import Dataset

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

import progan
import progan.data

project = "progan"
author = "the progan authors"
copyright = author  # noqa: A001 (Sphinx's name for it)
version = release = progan.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"progan {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_logo = html_favicon = "_static/icon.svg"
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#5b3fd6", "color-brand-content": "#5b3fd6"},
    "dark_css_variables": {"color-brand-primary": "#a99bff", "color-brand-content": "#a99bff"},
    "top_of_page_buttons": [],
}
pygments_dark_style = "github-dark"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True

copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

# References to these become links if the variable is set; the inventories are downloaded.
if os.environ.get("PROGAN_INVENTORIES"):
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "numpy": ("https://numpy.org/doc/stable", None),
    }

default_role = "py:obj"
nitpicky = True  # an unresolved reference is an error
nitpick_ignore_regex = [(r"py:.*", r"(torch|numpy|abc|collections|json|os|pathlib|typing_extensions)\..*|Tensor")]
# Not public: docstrings name them for readers of the source.
nitpick_ignore = [
    ("py:class", "progan.data.curation.survey.Facts"),
    ("py:class", "progan.metrics.evaluation.Sampler"),
    ("py:class", "progan.metrics.images.MapDataset"),
    ("py:class", "progan.networks.drawing.Drawing"),
    ("py:class", "progan.networks.patches.Scored"),
    ("py:class", "progan.training.callbacks.judged_images.CriticScores"),
    ("py:class", "progan.training.callbacks.judged_images.LevelImages"),
    ("py:class", "progan.training.callbacks.judged_images.RealImages"),
    ("py:class", "progan.training.callbacks.judged_images.Result"),
    ("py:class", "progan.training.callbacks.metrics_log.LossRows"),
    ("py:class", "progan.training.callbacks.trackers.LogTarget"),
    ("py:class", "progan.training.options.ResumeKeywords"),
    ("py:class", "progan.training.options.RunKeywords"),
    ("py:obj", "DiscriminatorBlock"),
    ("py:obj", "GeneratorBlock"),
    ("py:obj", "Training.augment_all"),
]


def name_bases(app: Sphinx, name: str, obj: object, options: object, bases: list[Any]) -> None:
    """Show torch's public base classes by their public names."""
    for index, base in enumerate(bases):
        kind = getattr(base, "__origin__", base)  # of Dataset[Tensor] Dataset
        if isinstance(kind, type) and issubclass(kind, torch.nn.Module):
            bases[index] = ":py:class:`torch.nn.Module`"
        elif isinstance(kind, type) and issubclass(kind, Dataset):
            bases[index] = ":py:class:`torch.utils.data.Dataset`"


# What users of a keyboard or a screen reader need and the HTML of Sphinx and Furo lacks.
ACCESSIBLE = {
    'role="heading"': 'role="heading" aria-level="2"',  # above the groups of the sidebar
    "<pre>": '<pre tabindex="0">',  # so that the keyboard scrolls it
    '<div class="table-wrapper ': '<div tabindex="0" class="table-wrapper ',
    # Parameters on separate lines are not a definition list.
    '<dl>\n<dd><em class="sig-param">': '<dl role="none">\n<dd><em class="sig-param">',
    '<dd><em class="sig-param">': '<dd role="none"><em class="sig-param">',
}


def make_accessible(app: Sphinx, name: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Add what ACCESSIBLE lists to the HTML of a page and of its sidebar."""
    for part in {"body", "furo_navigation_tree"} & context.keys():
        for old, new in ACCESSIBLE.items():
            context[part] = context[part].replace(old, new)


ENTRIES = {name: f"progan.data.{name}" for name in progan.data.__all__}
ENTRIES |= {name: f"progan.export.{name}" for name in progan.export.__all__}
ENTRIES |= {name: f"progan.metrics.{name}" for name in progan.metrics.__all__}
ENTRIES["importers.load"] = "progan.importers.load"
ENTRIES |= {name: f"progan.{name}" for name in progan.__all__ if name not in ("presets", "metrics", "export")}
ENTRIES |= {f"presets.{name}": f"progan.presets.{name}" for name in ("mel_icon", "karras2018")}


def link_names(app: Sphinx, doctree: nodes.document) -> None:
    """Link public names in code style to their entries in the reference."""
    for code in list(doctree.findall(nodes.literal)):
        entry = ENTRIES.get(code.astext())
        if entry and isinstance(code.parent, nodes.paragraph):
            link = addnodes.pending_xref("", refdomain="py", reftype="obj", reftarget=entry, refexplicit=True)
            code.replace_self(link)
            link += code


def setup(app: Sphinx) -> None:
    """Register the hooks."""
    app.connect("autodoc-process-bases", name_bases)
    app.connect("doctree-read", link_names)
    app.connect("html-page-context", make_accessible, priority=900)  # after Furo's
