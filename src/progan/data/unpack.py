"""The pictures of a pack as files again."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from progan.data.folder import content_hash
from progan.data.pack import Pack
from progan.render import png_bytes
from progan.runtime.progress import counted
from progan.storage.files import folder_beside, make_folder, write_file
from progan.storage.names import normalised, shown
from progan.storage.paths import check_replaceable, user_path


def unpack(path: str | PathLike[str], folder: str | PathLike[str], *, progress: bool = True) -> Path:
    """Write the pictures of a pack into a new folder, as PNG files of the size and colours that they have in it.

    A file has the name that its picture was packed under, with the ending ``.png``, in the same sub-folder. So a folder
    that was packed with labels has the same classes again, and a `progan.ImageFolder` of it the same pixels.

    Args:
        path: File that `pack` wrote.
        folder: Folder to write, which must be new or empty. It appears when it is complete.
        progress: Whether to show how many are written, and how long the others will take.

    Returns:
        Path of the folder.

    Raises:
        FileExistsError: If the folder exists and is not empty, or is the current directory.
        NotADirectoryError: If the folder that it is to lie in does not exist.
        OSError: If a file cannot be written; nothing is left behind.
        ValueError: If the file is not a pack, or damaged.
    """
    pack, target = Pack(path), user_path(folder, "folder")
    check_replaceable(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} exists and is not an empty folder; pass a new one")
    if not target.parent.is_dir():
        raise NotADirectoryError(f"{target.parent} is not a directory; make it first")
    names = _png_names(pack.paths)
    with folder_beside(target) as beside:
        for index, name in enumerate(counted(names, len(names), "unpacking") if progress else names):
            if content_hash(pack.images[index]) != pack.hash_of(index):
                raise ValueError(
                    f"{pack.path} is damaged: {shown(pack.paths[index])} is not what was packed; pack the folder again"
                )
            file = beside / name
            make_folder(file.parent)
            write_file(file, png_bytes(pack.images[index]))
    return target


def _png_names(names: Sequence[str]) -> list[str]:
    """Return the names of PNG files for pictures, all different on every system, and none also that of a folder.

    Raises:
        ValueError: If names of pictures cannot be told apart as files.

    Example:
        >>> _png_names(["a/1.jpg", "a/2.PNG"]), _png_names(["1.jpg", "1.png"])
        (['a/1.png', 'a/2.png'], ['1.jpg.png', '1.png.png'])
        >>> _png_names(["1.jpg", "1.png/2.png"])
        ['1.jpg.png', '1.png/2.png.png']
    """
    short = [Path(name).with_suffix(".png").as_posix() for name in names]
    whole = [f"{Path(name).as_posix()}.png" for name in names]
    for found in (short, whole):
        files = {_folded(name) for name in found}
        if len(files) == len(found) and files.isdisjoint(
            _folded(f"{each}") for name in found for each in Path(name).parents
        ):
            return found
    raise ValueError(
        "some pictures of the pack have names that some systems take for the same, such as where they differ in upper "
        "and lower case only; pack them renamed"
    )


def _folded(name: str) -> str:
    """Return what is the same for names that some system takes for the same: those of letters stored in another way."""
    return normalised(normalised(name).casefold())
