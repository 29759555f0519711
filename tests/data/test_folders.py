"""What a folder of pictures gives: leftovers of systems, other kinds, unreadable files, names from other systems."""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import sys
import unicodedata
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from progan import ImageFolder, Trainer
from progan.data import Curation, Pack, check, curate, leftovers, listing, pack, read_image
from progan.data.decoding.header import picture_format
from progan.data.decoding.kinds import HEAD
from progan.data.decoding.read import Reading
from progan.data.listing import Listing
from progan.storage.names import matched, shown, sort_key

NFC, NFD = (unicodedata.normalize(form, "Zoë.png") for form in ("NFC", "NFD"))


def encoded(form: str, value=(10, 20, 30), **options) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), value).save(file, form, **options)
    return file.getvalue()


def put(folder: Path, *names: str, contents: bytes | None = None) -> Path:
    """Write pictures, each of another colour, or files of these contents."""
    for index, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded("PNG", (index, 200, 0)) if contents is None else contents)
    return folder


# Leftovers of systems


LEFT = [
    *(".a.png", ".Trash-1000/files/a.png", ".thumbnails/large/a.png", ".git/a.png", ".cache/a.png", "sub/.x/y/a.png"),
    *(".ipynb_checkpoints/a-checkpoint.png", "@eaDir/photo.png/SYNOPHOTO_THUMB_XL.jpg", ".@__thumb/a.png"),
    *("__MACOSX/a.png", "__macosx/sub/a.png", "$RECYCLE.BIN/S-1-5/a.png", "System Volume Information/a.png"),
    *("lost+found/a.png", "#recycle/a.png", "@Recycle/a.png", "sub/@EADIR/a.png", "found.000/a.png"),
]


@pytest.mark.parametrize("name", LEFT)
def test_what_systems_leave_is_skipped_and_said_once(name, tmp_path):
    put(tmp_path, "a.png", "b.png", name)
    with pytest.warns(UserWarning, match=r"pictures in hidden or system files and folders were skipped: 1 ") as caught:
        assert ImageFolder(tmp_path, 8).paths == ["a.png", "b.png"]
    assert len(caught) == 1
    assert f"such as {name}; pass hidden=True to read" in str(caught[0].message)
    assert Path(caught[0].filename) == Path(__file__)
    assert set(ImageFolder(tmp_path, 8, hidden=True).paths) == {"a.png", "b.png", name}


def test_apple_doubles_and_other_leftovers_without_pictures_are_not_worth_a_word(tmp_path):
    put(tmp_path, "a.png")
    double = b"\0\5\x16\7\0\2\0\0Mac OS X        "
    put(tmp_path, "._a.png", "__MACOSX/._a.png", "sub/._b.jpg", contents=double)
    names = (".DS_Store", "Thumbs.db", "THUMBS.DB", "desktop.ini", "film.thm", "b.png.crdownload", ".git/objects/a/b")
    put(tmp_path, *names, contents=encoded("JPEG"))
    put(tmp_path, ".git/config", ".env", ".cache/model.json", contents=b"a = 3")
    put(tmp_path, ".cache/model.pt", contents=b"PK\3\4")
    for hidden in (False, True):
        found = ImageFolder(tmp_path, 8, hidden=hidden).paths
        assert [name for name in found if "._" in name] == []
        assert (found == ["a.png"]) is not hidden
    put(tmp_path, "._c.png")  # a picture for all that
    with pytest.warns(UserWarning, match=r"pictures in hidden .* 1 \(hidden files: 1\), such as ._c.png"):
        ImageFolder(tmp_path, 8)


def test_skipped_pictures_are_counted_by_place(tmp_path):
    put(tmp_path, "a.png", ".b.png", *(f"{sub}/.thumbnails/{k}.png" for sub in "xy" for k in range(3)))
    for read in (ImageFolder, lambda folder, _: curate(folder), lambda folder, _: pack(folder, folder / "../p", 8)):
        with pytest.warns(
            UserWarning, match=r"pictures in .* skipped: 7 \(.thumbnails: 6, hidden files: 1\), such as .b"
        ) as caught:
            read(tmp_path, 8)
        assert len(caught) == 1
    report = check(tmp_path, printed=False)
    assert len(report.remarks) == 1
    assert "left out          pictures in hidden" in str(report)


def test_skipped_files_are_counted_by_what_they_are(tmp_path):
    put(tmp_path, "a.png", "b.png", ".e")
    put(tmp_path, *(f".phone/IMG_{k}.heic" for k in range(20)), contents=box(b"heic"))
    put(tmp_path, *(f".phone/{k:02}" for k in range(20)), ".phone/also.heic", contents=encoded("JPEG"))
    put(tmp_path, ".phone/notes.txt", ".f", contents=b"notes")
    expected = (
        "possible pictures in hidden or system files and folders were skipped: 42 (.phone: 41, hidden files: 1), such "
        "as .e; of kinds that are not read: 20 HEIC, such as .phone/IMG_0.heic; pass hidden=True to read them, and to "
        "see what converts the others"
    )
    with pytest.warns(UserWarning, match="possible pictures in hidden") as caught:
        assert ImageFolder(tmp_path, 8).paths == ["a.png", "b.png"]
    assert [str(warning.message) for warning in caught] == [f"{tmp_path}: {expected}"]
    assert check(tmp_path, printed=False).remarks == [expected]
    with pytest.warns(UserWarning, match="files of kinds that are not read were left out: 20 HEIC, such as .phone/IMG"):
        assert len(ImageFolder(tmp_path, 8, hidden=True)) == 24
    for name in ("a.png", "b.png"):
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=r"data holds no picture|holds no picture that can be read: possible pictures"):
        ImageFolder(tmp_path, 8)


def test_of_very_many_hidden_files_some_are_opened_and_the_others_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "_MOST_HIDDEN_OPENED", 3)
    put(tmp_path, "a.png", *(f".cache/{k}.png" for k in range(9)))
    for names, contents, text in (
        ((".cache/y.txt", ".cache/z.txt", "._b.png"), b"\0\5\x16\7", ": 9 (.cache: 9), such as .cache/0.png; pass"),
        (("1", "2"), b"", ": 9 (.cache: 9), such as .cache/0.png; 1 files in them were not opened to see what they "),
    ):
        put(tmp_path, *(f".cache/{name}" if "/" not in name else name for name in names), contents=contents)
        with pytest.warns(UserWarning, match=re.escape(f"hidden or system files and folders were skipped{text}")):
            ImageFolder(tmp_path, 8)
    for k in range(9):
        (tmp_path / f".cache/{k}.png").unlink()
    with pytest.warns(UserWarning, match="folders were skipped, and 1 files in them were not opened to see what they"):
        ImageFolder(tmp_path, 8)


@pytest.mark.parametrize("above", [".cache/icons", "__MACOSX/@eaDir", ".hidden.png"])
def test_only_names_below_the_folder_count(above, tmp_path):
    put(tmp_path / above, "a.png")
    assert ImageFolder(tmp_path / above, 8).paths == ["a.png"]
    assert curate(tmp_path / above).kept == [Path("a.png")]


def test_a_folder_is_a_folder_whatever_it_is_called(tmp_path):
    put(tmp_path, "paris.png/a.png", "photo.jpg.d/b.png", "old.heic/c.png", "empty.png/notes.txt")
    names = ["old.heic/c.png", "paris.png/a.png", "photo.jpg.d/b.png"]
    (tmp_path / "empty.png/notes.txt").unlink()
    assert ImageFolder(tmp_path, 8).paths == names
    report = check(tmp_path, printed=False)
    assert (list(map(str, report.facts)), report.unreadable) == (names, {})
    with pytest.raises(ValueError, match=r"lacks 1 of the pictures to read, such as paris.png, which is a folder; cor"):
        ImageFolder(tmp_path, 8, only=["paris.png"])


@pytest.mark.parametrize("value", ["no", 0, None])
def test_hidden_is_true_or_false(value, tmp_path):
    put(tmp_path, "a.png")
    for read in (
        lambda: check(tmp_path, hidden=value, printed=False),
        lambda: curate(tmp_path, hidden=value),
        lambda: ImageFolder(tmp_path, 8, hidden=value),
        lambda: ImageFolder(tmp_path, 8, only=["a.png"], hidden=value),
        lambda: pack(tmp_path, tmp_path / "a.pack", 8, hidden=value, progress=False),
    ):
        with pytest.raises(TypeError, match=re.escape(f"hidden must be True or False, got {value!r}")):
            read()


def test_a_hidden_file_is_not_a_folder(tmp_path):
    put(tmp_path, ".a.png")
    with pytest.raises(NotADirectoryError, match=r"\.a\.png is not a directory; pass a folder"):
        ImageFolder(tmp_path / ".a.png", 8)


def test_hidden_takes_them_in_at_every_door_and_names_are_read_even_if_hidden(tmp_path):
    folder = put(tmp_path / "data", "a.png", ".b.png", ".c/d.png")
    names = [".b.png", ".c/d.png", "a.png"]
    curation = curate(folder, hidden=True, max_similar=9)
    assert list(map(str, curation.kept)) == names
    assert check(folder, 9, hidden=True, printed=False).curation == curation
    assert ImageFolder(folder, 8, only=curation.kept).paths == names
    assert ImageFolder(folder, 8, only=[".c/d.png"]).paths == [".c/d.png"]
    assert pack(folder, tmp_path / "a.pack", 8, only=curation.kept, progress=False).paths == names
    assert pack(folder, tmp_path / "a.pack", 8, hidden=True, progress=False).paths == names
    curation.save(tmp_path / "list.txt")
    assert Curation.load(tmp_path / "list.txt", folder) == curation
    put(folder, ".e.png")
    assert Curation.load(tmp_path / "list.txt", folder) == curation
    with pytest.warns(UserWarning, match=r"does not name 1 of the 4 pictures in .*, such as \.e\.png"):
        Curation.load(tmp_path / "list.txt", folder, hidden=True)


def close(monkeypatch, *names: str) -> None:
    """Let folders of these names be unreadable; the administrator, who runs tests at times, could read them."""
    scandir = os.scandir

    def refusing(path):
        if Path(path).name in names:
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)


def test_a_closed_folder_of_a_system_needs_no_permission(tmp_path, monkeypatch):
    put(tmp_path, "a.png", "lost+found/x.png", ".Trash-0/x.png")
    close(monkeypatch, "lost+found", ".Trash-0")
    assert ImageFolder(tmp_path, 8).paths == ["a.png"]
    with pytest.raises(OSError, match=r"cannot be read: .Trash-0 \(Permission denied\); lost\+found .*on_unreadable"):
        ImageFolder(tmp_path, 8, hidden=True)


@pytest.mark.parametrize(
    "status", [{"st_file_attributes": stat.FILE_ATTRIBUTE_HIDDEN}, {"st_flags": stat.UF_HIDDEN}, {"st_flags": 0}]
)
def test_hidden_attributes_of_windows_and_macos_count(status, monkeypatch):
    entry = SimpleNamespace(name="a.png", stat=lambda follow_symlinks: SimpleNamespace(**status))
    assert not leftovers.is_leftover(entry, is_folder=False) or leftovers._ATTRIBUTES
    monkeypatch.setattr(leftovers, "_ATTRIBUTES", True)
    assert leftovers.is_leftover(entry, is_folder=False) is any(status.values())


# Kinds


def box(brand: bytes, *compatible: bytes) -> bytes:
    brands = b"".join([brand, bytes(4), *compatible])
    return struct.pack(">I4s", 8 + len(brands), b"ftyp") + brands + bytes(40)


def tiff_of(*tags: tuple[int, int]) -> bytes:
    """A TIFF of 1x1 with these tags, of one 32-bit number each."""
    entries = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 200, 277: 1, 278: 1, 279: 1} | dict(tags)
    table = b"".join(struct.pack("<HHII", tag, 4, 1, entries[tag]) for tag in sorted(entries))
    return (b"II*\0" + struct.pack("<IH", 8, len(entries)) + table).ljust(200, b"\0") + b"\x80"


KINDS: dict[str, tuple[str, bytes]] = {
    "a.heic": ("HEIC", box(b"heic", b"mif1")),
    "mif1": ("HEIC", box(b"mif1", b"heic")),
    "a.avif": ("AVIF", box(b"avif", b"mif1", b"miaf")),
    "also.avif": ("AVIF", box(b"mif1", b"avif", b"miaf")),
    "a.jp2": ("JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n"),
    "codestream": ("JPEG 2000", b"\xff\x4f\xff\x51"),
    "a.jxl": ("JPEG XL", b"\xff\x0a\x11"),
    "container": ("JPEG XL", b"\0\0\0\x0cJXL \r\n\x87\n"),
    "a.nef": ("camera RAW", tiff_of((254, 1), (330, 200))),
    "a.NEF": ("camera RAW", tiff_of()),
    "a.dng": ("camera RAW", tiff_of((50_706, 1))),
    "a.arw": ("camera RAW", tiff_of()),
    "cr2": ("camera RAW", b"II*\0\x10\0\0\0CR\2\0"),
    "a.cr3": ("camera RAW", box(b"crx ", b"isom")),
    "a.raf": ("camera RAW", b"FUJIFILMCCD-RAW 0201"),
    "a.orf": ("camera RAW", b"IIRO\x08\0\0\0"),
    "scan": ("DICOM", bytes(128) + b"DICM"),
    "a.dcm": ("DICOM", b"\x08\0\5\0"),
    "a.pdf": ("PDF", b"%PDF-1.7"),
    "a.eps": ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0"),
    "a.svg": ("SVG", b'<?xml version="1.0"?>\n<!-- <b> -->\n<svg xmlns="http://www.w3.org/2000/svg">'),
    "drawn": ("SVG", b"\xef\xbb\xbf <svg viewBox='0 0 1 1'/>"),
    "a.psd": ("PSD", b"8BPS\0\1"),
    "a.tga": ("TGA", bytes((0, 0, 2)) + bytes(15)),
    "a.pam": ("plain PNM, PAM or PFM", b"P7\nWIDTH 3\n"),
    "comment": ("plain PNM, PAM or PFM", b"P2 # by hand\n# again\n 3 2\n15\n"),
    "a.exr": ("OpenEXR", b"v/1\1\2\0\0\0"),
    "a.hdr": ("Radiance HDR", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe"),
    "a.npy": ("NumPy", b"\x93NUMPY\1\0"),
    "a.npz": ("NumPy", b"PK\3\4"),
    "a.mp4": ("video", box(b"isom", b"mp41")),
    "IMG_1.MOV": ("video", box(b"qt  ")),
    "old": ("video", b"\0\0\0\x08wide\0\0\1\0mdat"),
    "a.mkv": ("video", b"\x1a\x45\xdf\xa3"),
    "a.zip": ("archive", b"PK\3\4"),
    "a.tar.gz": ("archive", b"\x1f\x8b"),
    "backup": ("archive", bytes(257) + b"ustar\0"),
    "pics": ("archive", b"PK\3\4"),
    "pics.gz": ("archive", b"\x1f\x8b\x08"),
    "pics.zip.1": ("archive", b"PK\3\4"),
    "photo.png.bz2": ("archive", b"BZh91AY&SY"),
    "more": ("archive", b"\xfd7zXZ\0"),
    "stream.ts": ("video", b"".join(b"G@\0\x10" + bytes(184) for _ in range(3))),
    "stream": ("video", b"".join(bytes(4) + b"G@\0\x10" + bytes(184) for _ in range(3))),
    "a.xpm": ("XPM or XBM", b"/* XPM */\nstatic char"),
    "xbm": ("XPM or XBM", b"#define im_width 32\n"),
    "a.kra": ("project of a drawing program", b"PK\3\4"),
    "a.cur": ("CUR", b"\0\0\2\0\1\0"),
}
UNMENTIONED: dict[str, bytes] = {
    "notes.txt": b"BMW and BMX: BM is how a BMP begins",
    "captions.csv": b"a.png,P1 is the first 12 13\n",
    "scores": b"P5 10 20 255 are the scores of the fifth player\n" * 20,
    "model.pt": b"PK\3\4",
    "weights.safetensors": bytes(16),
    "page.html": b"<!DOCTYPE html><html><svg></svg>",
    "thesis.docx": b"PK\3\4",
    "labels.json.gz": b"\x1f\x8b\x08",
    "captions.csv.bz2": b"BZh91AY&SY",
    "weights.pt.old": b"PK\3\4",
    "code.ts": b"Given a string, " * 40,
    "song.m4a": box(b"M4A ", b"isom"),
    "The wide": b"The wide road",
    "zeros.bin": bytes(600),
    "font": b"\0\1\0\0\0",
    "icons.dat": b"\0\0\1\0\0\0",
    "empty": b"",
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds_that_are_not_read_are_recognised(name, tmp_path):
    kind, contents = KINDS[name]
    put(tmp_path, name, contents=contents)
    (found,) = Listing.of(tmp_path, hidden=True).foreign.values()
    assert (found.name, bool(found.remedy)) == (kind, True)
    if kind != "camera RAW":
        assert picture_format(contents[:HEAD], named=False) is None


def test_what_cannot_be_read_is_counted_by_kind_with_what_converts_it(tmp_path):
    put(tmp_path, "a.png")
    for name, (_, contents) in KINDS.items():
        put(tmp_path / "more", name, contents=contents)
    for name, contents in UNMENTIONED.items():
        put(tmp_path / "more", name, contents=contents)
    with pytest.warns(UserWarning, match="files of kinds that are not read were left out: ") as caught:
        assert ImageFolder(tmp_path, 8).paths == ["a.png"]
    assert len(caught) == 1
    text = str(caught[0].message)
    raw = sum(kind == "camera RAW" for kind, _ in KINDS.values())
    assert f"left out: {raw} camera RAW, such as more/a.NEF (develop with darktable: darktable-cli" in text
    assert "2 AVIF, such as more/a.avif (convert with ImageMagick: magick mogrify -format png *.avif)" in text
    for kind, _ in KINDS.values():
        assert f" {kind}, such as more/" in text
    for name in UNMENTIONED:
        assert f"/{name} " not in text


@pytest.mark.parametrize(
    ("name", "form", "options"),
    [
        *(
            (name, "JPEG", {})
            for name in ("a.jpe", "a.jfif", "a.mpo", "a.pjpeg", "a", "a.jpg_large", "a.heic", "a.dng")
        ),
        *(
            ("a.dib", "BMP", {}),
            ("b.dib", "DIB", {}),
            ("dib", "DIB", {}),
            ("a.txt", "PNG", {}),
            ("a.svg", "WEBP", {}),
            ("b", "GIF", {}),
            ("c.", "TIFF", {}),
            ("a.ppm", "PPM", {}),
            ("ppm", "PPM", {}),
        ),
        *(("d", "ICO", {"sizes": [(16, 16)]}), ("e.data", "BMP", {})),
    ],
)
def test_pictures_are_read_whatever_they_are_called(name, form, options, tmp_path):
    put(tmp_path, name, contents=encoded(form, (250, 0, 0), **options))
    folder = ImageFolder(tmp_path, 16)
    assert folder.paths == [name]
    assert folder.images[0, 0].min() > 240


def test_a_file_named_like_a_picture_stays_unreadable_and_its_kind_is_named(tmp_path):
    put(tmp_path, "IMG_1.jpg", contents=box(b"heic"))
    put(tmp_path, "b.png", contents=b"BM is no bitmap")
    with pytest.raises(ValueError, match="2 of 2 files") as error:
        ImageFolder(tmp_path, 8)
    text = str(error.value)
    assert (
        "IMG_1.jpg: this file is HEIC, which is none of PNG, JPEG, GIF, WEBP, BMP, ICO, TIFF, PPM; convert with" in text
    )
    assert "\n  b.png: " in text


@pytest.mark.parametrize("tags", [[(50_706, 1)], [(254, 1), (330, 200)]])
def test_a_raw_file_is_never_read_as_its_preview(tags, tmp_path):
    put(tmp_path, "a.tif", "photo", contents=tiff_of(*tags))
    for name in ("a.tif", "photo"):
        with pytest.raises(ValueError, match="a camera RAW file, in which only a small preview is a TIFF; develop"):
            read_image(tmp_path / name, Reading(8))
    sound = put(tmp_path, "b.tif", contents=tiff_of((254, 1)))
    assert read_image(sound / "b.tif", Reading(8)).unique().tolist() == [128]


def test_cr2_is_refused_by_its_first_bytes(tmp_path):
    put(tmp_path, "a.tif", contents=KINDS["cr2"][1])
    with pytest.raises(ValueError, match="this file is camera RAW, which is none of PNG"):
        read_image(tmp_path / "a.tif", Reading(8))


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ([], "it is empty"),
        (["a.heic", "b.heic"], r"files of kinds that are not read were left out: 2 HEIC, such as a.heic \(convert"),
        (["link"], "links to folders were not followed: 1, such as link; copy the folders in"),
        ([".thumbnails/a.png"], "pictures in hidden or system files and folders were skipped: 1 "),
        ([".DS_Store", "__MACOSX/._a.png"], "hidden or system files: 2"),
        (["notes.txt", "sub/b.csv"], "files of other kinds: 2, such as notes.txt"),
    ],
)
def test_a_folder_without_pictures_says_what_is_there(entries, text, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for name in entries:
        if name == "link":
            (tmp_path / "data/link").symlink_to(tmp_path / "elsewhere")
        else:
            put(tmp_path / "data", name, contents=b"\0\5\x16\7")
    for read in (lambda: ImageFolder(tmp_path / "data", 8), lambda: curate(tmp_path / "data")):
        with pytest.raises(ValueError, match=rf"data holds no picture that can be read: {text}.*\. Pass a folder with"):
            read()
    assert check(tmp_path / "data", printed=False).curation.kept == []


def test_what_is_named_like_nothing_is_opened_only_where_it_is_a_file(tmp_path, monkeypatch):
    put(tmp_path, "a.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "to_pipe").symlink_to("pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "up").symlink_to("..")
    put(tmp_path, "locked", "locked.heic", contents=b"")
    really_open = os.open

    def opened(path, *arguments, **keywords):
        if "locked" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        assert "pipe" not in str(path), "would wait"
        return really_open(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", opened)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert ImageFolder(tmp_path, 8).paths == ["a.png"]
    texts = sorted(str(warning.message).split(": ", 1)[1] for warning in caught)
    assert len(texts) == 3
    assert texts[0].startswith("files of kinds that are not read were left out: 1 HEIC, such as locked.heic")
    assert texts[1].startswith(
        "files without a picture's suffix could not be opened to see what they are: 1, such as locked"
    )
    assert texts[2].startswith("links to folders were not followed: 1, such as up;")


def test_pictures_by_name_are_not_opened_to_list_them(tmp_path, monkeypatch):
    put(tmp_path, *(f"{k}.{suffix}" for k in range(9) for suffix in ("png", "JPG", "webp")), contents=b"")
    monkeypatch.setattr(os, "open", None)
    assert len(Listing.of(tmp_path).pictures) == 27


def test_a_directory_of_100_000_entries_is_listed(tmp_path, monkeypatch):
    """Entries that are not on disk: the listing needs nothing but their names."""

    class Entry(SimpleNamespace):
        def is_dir(self, *, follow_symlinks=True):
            return False

        is_symlink = is_dir

    class Entries(list):
        __enter__ = list.__iter__

        def __exit__(self, *_):
            pass

    names = [f"{k:06}.png" for k in range(100_000)]
    monkeypatch.setattr(leftovers, "_ATTRIBUTES", False)
    monkeypatch.setattr(os, "scandir", lambda _: Entries(Entry(name=name) for name in reversed(names)))
    assert Listing.of(tmp_path).pictures == names


# Files that cannot be read


def read_quietly(folder: Path) -> ImageFolder:
    """Skip what cannot be read without the warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ImageFolder(folder, 16, on_unreadable="skip")


@pytest.fixture
def damaged(tmp_path) -> Path:
    folder = put(tmp_path / "data", "a.png", "c.png", "sub/d.png")
    put(folder, "b.png", "sub/e.png", contents=b"no picture")
    return folder


def test_the_error_names_the_remedy_and_skip_keeps_all_the_others(damaged, tmp_path):
    with pytest.raises(
        ValueError, match=r'repair or remove them, or pass on_unreadable="skip" to leave them out:\n  b.p'
    ):
        ImageFolder(damaged, 8)
    with pytest.warns(UserWarning, match=r"2 of 5 files cannot be read and are skipped:\n  b.png: a fi"):
        folder = ImageFolder(damaged, 8, on_unreadable="skip")
    assert folder.paths == ["a.png", "c.png", "sub/d.png"]
    assert list(folder.unreadable) == ["b.png", "sub/e.png"]
    assert folder.unreadable["b.png"].startswith("a file of 10 bytes that is none of PNG")
    alone = put(tmp_path / "alone", "a.png", "c.png", "sub/d.png")
    sound = ImageFolder(alone, 8, on_unreadable="skip")
    assert torch.equal(folder.images, sound.images)
    assert sound.unreadable == {}
    assert sound.fingerprint == ImageFolder(alone, 8).fingerprint != folder.fingerprint


def test_a_pack_skips_and_remembers(damaged, tmp_path):
    with pytest.warns(UserWarning, match="2 of 5 files cannot be read and are skipped") as caught:
        packed = pack(damaged, tmp_path / "a.pack", 8, on_unreadable="skip", progress=False)
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)]
    with pytest.warns(UserWarning, match="2 of 5 files cannot be read and are skipped") as caught:
        folder = ImageFolder(damaged, 8, on_unreadable="skip")
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)]
    for each in (packed, Pack(tmp_path / "a.pack")):
        assert torch.equal(each.images, folder.images)
        assert (each.paths, each.unreadable, each.fingerprint) == (folder.paths, folder.unreadable, folder.fingerprint)
        each.verify()
    (damaged / "c.png").write_bytes(b"")
    with pytest.raises(ValueError, match="3 of 5 files"):
        pack(damaged, tmp_path / "a.pack", 8, progress=False)
    assert Pack(tmp_path / "a.pack").fingerprint == folder.fingerprint


def test_a_pack_whose_skipped_files_do_not_fit_is_refused(damaged, tmp_path):
    with pytest.warns(UserWarning, match="are skipped"):
        pack(damaged, tmp_path / "a.pack", 8, on_unreadable="skip", progress=False)
    contents = (tmp_path / "a.pack").read_bytes()
    for old, new, text in (
        (b"b.png\0a file", b"c.png\0a file", "its names are not all different"),
        (b"b.png\0a file", b"b.png.a file", "its parts do not fit"),
        (b"sub/e.png\0", b"../../e.p\0", "leads out of the folder"),
    ):
        assert contents.count(old) == 1
        (tmp_path / "a.pack").write_bytes(contents.replace(old, new))
        with pytest.raises(ValueError, match=f"is damaged: .*{text}"):
            Pack(tmp_path / "a.pack")


def test_long_lists_are_cut_in_the_warning_only(tmp_path):
    put(tmp_path, "z.png")
    put(tmp_path, *(f"{k:02}.png" for k in range(25)), contents=b"")
    with pytest.warns(UserWarning, match=r"25 of 26 files .*\n  00.png: an empty file\n") as caught:
        folder = ImageFolder(tmp_path, 8, on_unreadable="skip")
    lines = str(caught[0].message).splitlines()
    assert (len(lines), lines[-1]) == (22, "  and 5 more; the attribute unreadable has all of them")
    assert len(folder.unreadable) == 25


def test_nothing_left_to_train_on_is_an_error_all_the_same(tmp_path):
    put(tmp_path, "a.png", contents=b"")
    for read in (ImageFolder, lambda *_, **options: pack(tmp_path, tmp_path / "p", 8, progress=False, **options)):
        with pytest.raises(
            ValueError, match=r"1 of 1 files .* cannot be read; repair them, or pass another folder:\n  a.png: an"
        ):
            read(tmp_path, 8, on_unreadable="skip")
        with pytest.raises(ValueError, match="on_unreadable must be 'raise' or 'skip', got 'ignore'"):
            read(tmp_path, 8, on_unreadable="ignore")
    assert not (tmp_path / "p").exists()


def test_a_closed_folder_is_skipped_like_a_file(tmp_path, monkeypatch):
    put(tmp_path, "a.png", "locked/b.png")
    close(monkeypatch, "locked")
    with pytest.warns(
        UserWarning, match=r"1 of 2 files .*\n  locked: a folder that cannot be read \(Permission denied\)"
    ):
        folder = ImageFolder(tmp_path, 8, on_unreadable="skip")
    assert folder.unreadable == {"locked": "a folder that cannot be read (Permission denied)"}
    (tmp_path / "a.png").unlink()
    with pytest.raises(
        ValueError, match=r"can be read: folders that cannot be read: 1, such as locked \(Permission den"
    ):
        ImageFolder(tmp_path, 8, on_unreadable="skip")


def test_a_run_notices_when_what_was_skipped_changes(recipe, damaged, tmp_path):
    trainer = Trainer.from_recipe(recipe, run_dir=tmp_path / "run", progress=False, device="cpu")
    trainer.fit(read_quietly(damaged), until=8)
    trainer = Trainer.from_run(tmp_path / "run", progress=False, device="cpu")
    trainer.check(read_quietly(damaged))
    broken, sound = (damaged / "b.png").read_bytes(), (damaged / "a.png").read_bytes()
    (damaged / "b.png").write_bytes(sound)
    with pytest.raises(ValueError, match=r"there -> here\): 1 can be read now: b.png; pass the same data"):
        trainer.check(read_quietly(damaged))
    (damaged / "b.png").unlink()
    with pytest.raises(ValueError, match=r"there -> here\): 1 gone: b.png; pass the same data"):
        trainer.check(read_quietly(damaged))
    (damaged / "b.png").write_bytes(broken)
    (damaged / "a.png").write_bytes(broken)
    with pytest.raises(ValueError, match=r"there -> here\): 1 cannot be read any more: a.png; pass the same data"):
        trainer.check(read_quietly(damaged))
    (damaged / "a.png").write_bytes(sound)
    trainer.check(read_quietly(damaged))


# Names


def two_systems(tmp_path: Path, *names: str) -> tuple[Path, Path]:
    """Write the same pictures under names in NFC and in NFD."""
    return tuple(
        put(tmp_path / form, *(unicodedata.normalize(form, name) for name in names)) for form in ("NFC", "NFD")
    )


# Sorted as stored, é comes after z in NFC, and before f in NFD.
NAMES = ("z.png", "é.png", "f.png", "Å/ñ.png", "Az.png", "日本.png", "한.png")


def test_the_same_pictures_from_another_system_are_the_same_data(tmp_path):
    linux, mac = two_systems(tmp_path, *NAMES)
    here, there = ImageFolder(linux, 8), ImageFolder(mac, 8)
    assert [unicodedata.normalize("NFC", name) for name in there.paths] == here.paths
    assert there.paths != here.paths
    assert torch.equal(here.images, there.images)
    assert here.fingerprint == there.fingerprint
    assert pack(mac, tmp_path / "a.pack", 8, progress=False).fingerprint == here.fingerprint
    assert [sort_key(str(name))[0] for name in curate(mac, max_similar=9).kept] == here.paths


def test_a_run_goes_on_with_the_pictures_of_another_system(recipe, tmp_path):
    trained = []
    folders = two_systems(tmp_path, *NAMES)
    for name, second in zip(("a", "b"), folders, strict=True):
        for until, folder in ((8, folders[0]), (24, second)):
            trainer = Trainer.from_recipe(recipe, run_dir=tmp_path / name, progress=False, device="cpu")
            trainer.fit(ImageFolder(folder, 16), until=until)
        trained.append(trainer.generator.state_dict())
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])
    put(folders[0], unicodedata.normalize("NFC", "é.png"))
    with pytest.raises(ValueError, match=r"1 changed: .\.png \(same letters, other Unicode normalisation\); pass"):
        trainer.fit(ImageFolder(folders[0], 16))


def test_lists_of_another_system_fit(tmp_path):
    linux, mac = two_systems(tmp_path, *NAMES)
    curation = curate(linux, max_similar=3)
    curation.save(tmp_path / "list.txt")
    loaded = Curation.load(tmp_path / "list.txt", mac)
    there = curate(mac, max_similar=3)
    assert (loaded.kept, set(loaded.dropped)) == (there.kept, set(there.dropped))
    by_list = ImageFolder(mac, 8, only=curation.kept)
    assert by_list.paths == list(map(str, there.kept))
    assert by_list.fingerprint == ImageFolder(linux, 8, only=curation.kept).fingerprint


def both(folder: Path) -> Path:
    put(folder, NFD, NFC, "a.png")
    if len(list(folder.iterdir())) < 3:
        pytest.skip("this file system has one name for both")
    return folder


def test_two_files_of_the_same_letters_are_both_read(recipe, tmp_path):
    folder = both(tmp_path / "data")
    read = ImageFolder(folder, 16)
    assert read.paths == [NFD, NFC, "a.png"]
    assert ImageFolder(folder, 16, only=[NFC]).paths == [NFC]
    assert ImageFolder(folder, 16, only=[NFC, NFD]).paths == [NFD, NFC]
    trainer = Trainer.from_recipe(recipe, run_dir=tmp_path / "run", progress=False, device="cpu")
    trainer.fit(read, until=8)
    (folder / NFD).unlink()
    with pytest.raises(ValueError, match=r"1 gone: .* \(same letters, other Unicode normalisation\); pass"):
        trainer.fit(ImageFolder(folder, 16))
    with pytest.raises(ValueError, match="lacks 1 of the pictures"):
        ImageFolder(folder, 16, only=[NFC, NFD])


def test_a_name_finds_no_partner_that_is_not_its_own():
    assert matched([NFC], [NFD]) == {NFC: NFD}
    assert matched([NFC, NFD], [NFD]) == {NFD: NFD}
    assert matched([NFC], [NFC, NFD]) == {NFC: NFC}
    one, two, three = "a\u0323\u0308", "a\u0308\u0323", "\u1ea1\u0308"
    assert len({one, two, three}) == 3
    assert matched([one], [two, three]) == {}
    assert matched(["a", "b"], ["c"]) == {}


@given(st.lists(st.text(st.sampled_from("e\u0301\xe9\u0323a\udcff/"), min_size=1), unique=True))
def test_matching_is_one_to_one_and_keeps_the_letters(names):
    candidates = [unicodedata.normalize("NFD", name) for name in names]
    found = matched(names, candidates)
    assert len(set(found.values())) == len(found)
    for name, other in found.items():
        assert sort_key(name)[0] == sort_key(other)[0]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such names")
def test_names_of_any_bytes_and_control_characters(recipe, tmp_path):
    undecodable = [name.decode(errors="surrogateescape") for name in (b"a\xff.png", b"e\xcc\x81\xfe.png")]
    odd = [*undecodable, "b\x1b[31m\n.png", "c\xff.png"]
    folder = put(tmp_path / "data", *odd, ".\n.png")
    put(folder, "\x1b.heic", contents=b"")
    put(folder, "\t\udcfe.png", contents=b"")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read = ImageFolder(folder, 16, on_unreadable="skip")
        packed = pack(folder, tmp_path / "a.pack", 16, on_unreadable="skip", progress=False)
    assert len(caught) == 6  # each of the two: another kind, a hidden one, one that cannot be read
    assert sorted(read.paths) == sorted(odd)
    assert (packed.paths, packed.unreadable, packed.fingerprint) == (read.paths, read.unreadable, read.fingerprint)
    texts = [str(warning.message) for warning in caught]
    assert all(line.isprintable() for text in texts for line in text.split("\n  "))
    assert any(r"such as \x1b.heic" in text for text in texts)
    assert any(r"\t\udcfe.png: an empty file" in text for text in texts)
    trainer = Trainer.from_recipe(recipe, run_dir=tmp_path / "run", progress=False, device="cpu")
    trainer.fit(read, until=8)
    (folder / odd[2]).unlink()
    with pytest.raises(ValueError, match=r"1 gone: b\\x1b\[31m\\n.png; pass"):
        trainer.check(read_quietly(folder))
    assert shown(odd[0]) == r"a\udcff.png"
