"""The site's settings. `make docs` builds it without a network, and a warning is an error."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from sphinx.application import Sphinx
from torch.utils.data import Dataset

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

import progan

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

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True

copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

# References to these become links where the variable is set: the inventories come from their sites.
if os.environ.get("PROGAN_INVENTORIES"):
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "numpy": ("https://numpy.org/doc/stable", None),
    }

default_role = "py:obj"
nitpicky = True  # a reference that leads nowhere is an error
nitpick_ignore_regex = [(r"py:.*", r"(torch|numpy|abc|collections|json|os|pathlib|typing_extensions)\..*|Tensor")]
# Not public: named so that a reader of the source finds them.
nitpick_ignore = [
    ("py:class", "progan.data.survey.Facts"),
    ("py:class", "progan.trainer.TrainerKeywords"),
    ("py:obj", "DiscriminatorBlock"),
    ("py:obj", "GeneratorBlock"),
    ("py:obj", "Training.augment"),
    ("py:obj", "Training.loss"),
]


def name_bases(app: Sphinx, name: str, obj: object, options: object, bases: list[Any]) -> None:
    """Show the public bases of torch by their public names, and leave out progan's private ones."""
    for index, base in enumerate(bases):
        kind = getattr(base, "__origin__", base)  # of Dataset[Tensor] Dataset
        if isinstance(kind, type) and issubclass(kind, torch.nn.Module):
            bases[index] = ":py:class:`torch.nn.Module`"
        elif isinstance(kind, type) and issubclass(kind, Dataset):
            bases[index] = ":py:class:`torch.utils.data.Dataset`"


def setup(app: Sphinx) -> None:
    """Connect the hook."""
    app.connect("autodoc-process-bases", name_bases)
