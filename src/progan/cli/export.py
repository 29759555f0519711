"""``progan export``: a generator in one file, an ONNX model, or a program of torch.export."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from progan.cli.command import UsageError
from progan.cli.options import add_which, user_path
from progan.cli.output import show, shown

HELP = "Write the generator of a run into one file, with a model card, as an ONNX model, or as a program for torch."
EXAMPLE = "progan export runs/my_icons icons.safetensors --licence CC-BY-4.0"
KINDS = (".safetensors", ".onnx", ".pt2")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("source", type=user_path, metavar="RUN", help="run directory, checkpoint, or exported file")
    parser.add_argument("out", type=user_path, metavar="OUT", help=f"file to write: {_one_of(KINDS)}")
    add_which(parser)
    parser.add_argument("--precision", choices=("fp32", "fp16"), default="fp32", help="fp16 halves it (default: fp32)")
    parser.add_argument("--licence", metavar="TEXT", help="licence of the generator, which the file and the card state")
    parser.add_argument("--note", metavar="TEXT", help="anything else to state, such as where the pictures came from")
    parser.add_argument("--no-card", action="store_true", help="write no model card")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")


def run(options: argparse.Namespace) -> int:
    """Write the file, and the card beside it."""
    from progan.export import save_generator, save_onnx, save_program, write_card

    out = options.out
    if out.suffix not in KINDS:
        raise UsageError(f"OUT must end in {_one_of(KINDS)}, got {out}")
    is_program = out.suffix != ".safetensors"
    if is_program and (options.licence or options.note):
        raise UsageError("--licence and --note are stated by a .safetensors file and its card; export that one first")
    if out.suffix == ".pt2" and options.precision != "fp32":
        raise UsageError("a .pt2 program has fp32; leave out --precision, or pass a .safetensors or .onnx file as OUT")
    written = [out] if is_program or options.no_card else [out, out.with_suffix(".md"), out.with_suffix(".png")]
    for path in written:
        if path.exists() and not options.overwrite:
            raise UsageError(f"{path} exists; pass --overwrite or another OUT")
    if out.suffix == ".pt2":
        save_program(options.source, out, best=options.best, average=options.average)
        show(f"{out}: {out.stat().st_size / 1e6:.1f} MB, for torch.export.load.")
        return 0
    if is_program:
        model = save_onnx(options.source, out, best=options.best, average=options.average, precision=options.precision)
        show(f"{out}: {out.stat().st_size / 1e6:.1f} MB, opset {model.opset}, inputs {_shapes(model.inputs)}.")
        return 0
    save_generator(
        options.source,
        out,
        best=options.best,
        average=options.average,
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


def _shapes(inputs: Mapping[str, tuple[int | None, ...]]) -> str:
    """Return the names and shapes of inputs."""
    shapes = {name: ", ".join("batch" if n is None else str(n) for n in shape) for name, shape in inputs.items()}
    return " and ".join(f"{name} ({shape})" for name, shape in shapes.items())


def _one_of(names: Sequence[str]) -> str:
    """Return names as a choice."""
    return f"{', '.join(names[:-1])} or {names[-1]}"
