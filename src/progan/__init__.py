"""Progressive growing of GANs (Karras et al. 2018) for PyTorch."""

from typing import TYPE_CHECKING, Any

from progan._version import __version__ as __version__

if TYPE_CHECKING:
    from progan._names import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Import the public names when the first one is used, since the command line prints its help without torch.

    Export, measures and reports are imported by themselves: a program that trains starts sooner without them.
    """
    if name == "export":
        import progan.export as export

        return export
    if name == "metrics":
        import progan.metrics as metrics

        return metrics
    if name == "reports":
        import progan.reports as reports

        return reports
    if name == "__all__" or not name.startswith("_"):
        import progan._names as names

        public = {each: getattr(names, each) for each in names.__all__ if hasattr(names, each)}
        globals().update(public, __all__=names.__all__)
        if name in globals():
            return globals()[name]
    raise AttributeError(f"module 'progan' has no attribute {name!r}")


def __dir__() -> list[str]:
    __getattr__("__all__")
    return sorted(globals())
