"""``progan export``: a generator in one file, an ONNX model, a program of torch.export, or a web page."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from progan.cli.command import UsageError
from progan.cli.generator import add_enlarging
from progan.cli.options import add_which, user_path, which
from progan.cli.output import show, shown

HELP = "Write the generator of a run into one file, with a model card, an ONNX model, a web page, or a torch program."
EXAMPLE = "progan export runs/my_icons page/"
KINDS = (".safetensors", ".onnx", ".pt2")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("source", type=user_path, metavar="RUN", help="run directory, checkpoint, or exported file")
    parser.add_argument(
        "out",
        type=_out,
        metavar="OUT",
        help=f"file to write: {_one_of(KINDS)}; or a folder, such as page/, for a web page that draws",
    )
    add_which(parser)
    add_enlarging(parser)
    parser.add_argument("--precision", choices=("fp32", "fp16"), default="fp32", help="fp16 halves it (default: fp32)")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    file = parser.add_argument_group("a file")
    file.add_argument("--licence", metavar="TEXT", help="licence of the generator, which the file and the card state")
    file.add_argument("--note", metavar="TEXT", help="anything else to state, such as where the pictures came from")
    file.add_argument("--no-card", action="store_true", help="write no model card")
    page = parser.add_argument_group("a web page")
    page.add_argument("--single-file", action="store_true", help="one HTML file with the model inside; OUT is .html")
    page.add_argument("--title", metavar="TEXT", help="title of the page (default: the name of the source)")
    page.add_argument(
        "--runtime", type=user_path, metavar="PATH", help="npm package onnxruntime-web (default: npm downloads it once)"
    )


def run(options: argparse.Namespace) -> int:
    """Write the file and the card beside it, or the page."""
    out, is_folder = options.out
    is_folder = is_folder or out.is_dir()
    is_file = out.suffix in KINDS and not is_folder
    if (options.licence or options.note) and (out.suffix != KINDS[0] or is_folder):
        raise UsageError("--licence and --note are stated by a .safetensors file and its card; export that one first")
    if is_file and (options.single_file or options.title or options.runtime):
        raise UsageError(f"--single-file, --title and --runtime are for web pages, and OUT is {out}")
    if not is_file:
        return _page(options, out, is_folder)
    return _file(options, out)


def _out(text: str) -> tuple[Path, bool]:
    """Parse OUT: its path, and whether it is named as a folder is."""
    path = user_path(text)
    return path, path.suffix == "" or text.endswith(("/", "\\"))


def _exists(path: Path) -> bool:
    """Return whether a path exists; a name that is too long is an error, which `Path.exists` hides from 3.14 on."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def _file(options: argparse.Namespace, out: Path) -> int:
    from progan.export import save_generator, save_onnx, save_program, write_card

    is_program = out.suffix != ".safetensors"
    if out.suffix == ".pt2" and options.precision != "fp32":
        raise UsageError("a .pt2 program has fp32; leave out --precision, or pass a .safetensors or .onnx file as OUT")
    written = [out] if is_program or options.no_card else [out, out.with_suffix(".md"), out.with_suffix(".png")]
    if not out.parent.is_dir():
        raise UsageError(f"{out.parent} is not a directory; make it first")
    for path in written:
        if path.is_dir():
            raise UsageError(f"{path} is a directory; pass another OUT")
        if _exists(path) and not options.overwrite:
            raise UsageError(f"{path} exists; pass --overwrite or another OUT")
    if out.suffix == ".pt2":
        save_program(options.source, out, **which(options), enlarge=options.enlarge)
        show(f"{out}: {out.stat().st_size / 1e6:.1f} MB, for torch.export.load.")
        return 0
    if is_program:
        model = save_onnx(options.source, out, precision=options.precision, **which(options), enlarge=options.enlarge)
        show(f"{out}: {out.stat().st_size / 1e6:.1f} MB, opset {model.opset}, inputs {_shapes(model.inputs)}.")
        return 0
    save_generator(
        options.source,
        out,
        **which(options),
        enlarge=options.enlarge,
        licence=options.licence,
        note=options.note,
        precision=options.precision,
    )
    show(f"{out}: {out.stat().st_size / 1e6:.1f} MB.")
    if not options.no_card:
        write_card(out)
        show(f"{written[1]} is its model card, with {written[2].name}; read it before you publish.")
    show(f"progan generate {shown(out)} --out icons")
    return 0


def _page(options: argparse.Namespace, out: Path, is_folder: bool) -> int:
    if options.single_file and (is_folder or out.suffix != ".html"):
        raise UsageError(f"--single-file writes one HTML file: OUT must end in .html, got {out}")
    if not options.single_file and not is_folder:
        if out.suffix == ".html":
            raise UsageError(f"{out} would be a page in one file; pass --single-file too, or a folder, such as page/")
        raise UsageError(f"OUT must end in {_one_of(KINDS)}, or be a folder, such as page/, got {out}")
    from progan.export import save_page

    page = save_page(
        options.source,
        out,
        **which(options),
        enlarge=options.enlarge,
        precision=options.precision,
        single_file=options.single_file,
        title=options.title,
        runtime=options.runtime,
        overwrite=options.overwrite,
    )
    height, width = page.image_size
    show(f"{out}: a page that draws pictures of {width}x{height}, {page.size / 1e6:.1f} MB.")
    if options.single_file:
        show("Open it in a browser.")
    else:
        show(f"Put it on any web server; or here: python -m http.server --directory {shown(out)}")
    return 0


def _shapes(inputs: Mapping[str, tuple[int | None, ...]]) -> str:
    """Return the names and shapes of inputs."""
    shapes = {name: ", ".join("batch" if n is None else str(n) for n in shape) for name, shape in inputs.items()}
    return " and ".join(f"{name} ({shape})" for name, shape in shapes.items())


def _one_of(names: Sequence[str]) -> str:
    """Return names as a choice."""
    return f"{', '.join(names[:-1])} or {names[-1]}"
