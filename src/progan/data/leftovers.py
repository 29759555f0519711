"""Files that systems, network drives and cameras leave in folders, such as hidden files and thumbnails: not data.

Names are judged below the folder that the user passes only: a folder within ``~/.cache`` is read like any other.
"""

from __future__ import annotations

import os
import re
import stat

# Files and folders that systems, network drives and cameras leave among pictures; in lower case. Those whose names
# begin with a dot are not listed.
_SYSTEM_NAMES = frozenset(
    {
        *("__macosx", "network trash folder", "temporary items", "icon\r"),  # macOS
        *("$recycle.bin", "system volume information", "msocache"),  # Windows
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"),
        *("lost+found", "lost.dir"),  # file systems of Linux and Android
        *("@eadir", "@tmp", "#recycle", "#snapshot", "@sharebin"),  # Synology
        *("@recycle", "@recently-snapshot", "@__thumb", "~snapshot"),  # QNAP, NetApp
    }
)
_SYSTEM_FOLDER = re.compile(r"found\.\d{3}")  # of chkdsk
_SYSTEM_SUFFIXES = (".thm", ".part", ".partial", ".crdownload")  # cameras' previews of films; unfinished downloads
APPLE_DOUBLE = b"\x00\x05\x16\x07"  # ._a.png: what macOS keeps beside a.png on other file systems
_ATTRIBUTES = hasattr(os.stat_result, "st_file_attributes") or hasattr(os.stat_result, "st_flags")


def may_be_apple_double(name: str) -> bool:
    """Return whether a name is one that macOS uses for metadata of another file."""
    return name.rsplit("/", 1)[-1].startswith("._")


def is_leftover(entry: os.DirEntry[str], *, is_folder: bool) -> bool:
    """Return whether an entry of a folder is hidden, or one that systems leave there."""
    if has_system_name(entry.name) or (not is_folder and entry.name.lower().endswith(_SYSTEM_SUFFIXES)):
        return True
    if not _ATTRIBUTES:
        return False
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    attributes = getattr(status, "st_file_attributes", 0)  # Windows
    flags = getattr(status, "st_flags", 0)  # macOS
    return bool(attributes & stat.FILE_ATTRIBUTE_HIDDEN or flags & stat.UF_HIDDEN)


def is_system_file(path: str) -> bool:
    """Return whether a hidden file need not be opened: it belongs to a system, or is part of something else.

    Previews of videos and unfinished downloads may be pictures, but nobody misses them. Git's objects are compressed.
    """
    name = path.rsplit("/", 1)[-1].lower()
    return (
        name in (".ds_store", *_SYSTEM_NAMES)
        or name.endswith(_SYSTEM_SUFFIXES)
        or "/.git/objects/" in f"/{path.lower()}"
    )


def has_system_name(name: str) -> bool:
    """Return whether the name of a file or folder, without its parents, is hidden or a system's."""
    lower = name.lower()
    return name.startswith(".") or lower in _SYSTEM_NAMES or bool(_SYSTEM_FOLDER.fullmatch(lower))


def hidden_folder(name: str) -> str:
    """Return the folder that hides a file of this path, as a short name for people."""
    *folders, _ = name.split("/")
    return next((part for part in folders if has_system_name(part)), "hidden files")
