"""Kinds of files that progan does not read but that may hold the user's pictures, and what converts them.

A kind is recognised by the file's first bytes, and by its suffix where the first bytes do not identify it: many camera
RAW formats are TIFF files inside, and a TGA file begins with nothing in particular.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

HEAD = 512  # bytes that are read of a file to recognise its kind


class Kind(NamedTuple):
    """A kind of file that is not read."""

    name: str
    remedy: str
    """What the user can do, with a command or a program."""


def _by_imagemagick(name: str, suffix: str) -> Kind:
    return Kind(name, f"convert with ImageMagick: magick mogrify -format png *.{suffix}")


HEIC = Kind(
    "HEIC", "convert with ImageMagick: magick mogrify -format png *.heic; on a Mac: sips -s format png *.heic --out ."
)
AVIF = _by_imagemagick("AVIF", "avif")
JPEG_2000 = _by_imagemagick("JPEG 2000", "jp2")
JPEG_XL = Kind("JPEG XL", "convert with libjxl: djxl photo.jxl photo.png")
JPEG_XR = _by_imagemagick("JPEG XR", "jxr")
RAW = Kind("camera RAW", "develop with darktable: darktable-cli photo.nef photo.png")
PSD = Kind("PSD", "export as PNG from Photoshop, GIMP or Krita")
XCF = Kind("XCF", "export as PNG from GIMP")
PROJECT = Kind("project of a drawing program", "export as PNG from that program")
PNM = _by_imagemagick("plain PNM, PAM or PFM", "ppm")
TGA = _by_imagemagick("TGA", "tga")
DDS = _by_imagemagick("DDS", "dds")
QOI = _by_imagemagick("QOI", "qoi")
PCX = _by_imagemagick("PCX", "pcx")
SGI = _by_imagemagick("SGI", "sgi")
XPM = _by_imagemagick("XPM or XBM", "xpm")
CURSOR = _by_imagemagick("CUR", "cur")
ICNS = Kind("ICNS", "on a Mac: sips -s format png *.icns --out .")
EXR = _by_imagemagick("OpenEXR", "exr")
HDR = _by_imagemagick("Radiance HDR", "hdr")
FITS = _by_imagemagick("FITS", "fits")
DICOM = Kind("DICOM", "convert with DCMTK: dcmj2pnm --write-png scan.dcm scan.png")
SVG = Kind("SVG", "convert with Inkscape: inkscape --export-type=png *.svg")
PDF = Kind("PDF", "convert with Poppler: pdftoppm -png document.pdf page")
POSTSCRIPT = Kind("PostScript", "convert with Ghostscript: gs -o page_%d.png -sDEVICE=png16m -r300 file.eps")
NUMPY = Kind(
    "NumPy", "convert in Python: PIL.Image.fromarray(array).save('name.png'), or pass torch.from_numpy(arrays) to fit"
)
VIDEO = Kind("video", "extract frames with FFmpeg: ffmpeg -i film.mp4 -vf fps=1 frame_%05d.png")
ARCHIVE = Kind("archive", "unpack, for example with tar -xf")

_BRANDS = {  # of an ISO base media file, at byte 8
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), HEIC),
    **dict.fromkeys((b"avif", b"avis"), AVIF),
    b"crx ": RAW,
    **dict.fromkeys((b"jp2 ", b"jpx ", b"jpm "), JPEG_2000),
}
_AUDIO_BRANDS = (b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B ")

_FIRST_BYTES: list[tuple[bytes, Kind]] = [
    (rb"\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", JPEG_2000),
    (rb"\x00\x00\x00\x0cJXL \r\n\x87\n|\xff\x0a", JPEG_XL),
    (rb"II\xbc\x01", JPEG_XR),
    (rb"II\*\x00....CR|II\x1a\x00\x00\x00HEAPCCDR|IIR[OS]|MMOR|IIU\x00|FUJIFILMCCD-RAW|FOVb|\x00MRM", RAW),
    (rb"8BPS\x00", PSD),
    (rb"gimp xcf ", XCF),
    (rb"P[1-3]\s(?:#[^\n]*\n|\s)*\d+\s+\d+\s|P7\nWIDTH |P[Ff]\n\d+ \d+\n", PNM),
    (rb"DDS \x7c\x00\x00\x00", DDS),
    (rb"qoif........[\x03\x04][\x00\x01]", QOI),
    (rb"\x01\xda[\x00\x01][\x01\x02]\x00[\x01-\x03]", SGI),
    (rb"\x00\x00\x02\x00[^\x00]\x00", CURSOR),
    (rb"icns\x00", ICNS),
    (rb"v/1\x01", EXR),
    (rb"#\?(?:RADIANCE|RGBE)\s", HDR),
    (rb"/\* XPM \*/|#define \w+_width \d", XPM),
    (rb"SIMPLE  =", FITS),
    (rb".{128}DICM", DICOM),
    (rb"(?:\xef\xbb\xbf)?\s*<(?:(?:\?xml|!--|!DOCTYPE svg).*<(?:svg:)?)?svg[\s>]", SVG),
    (rb"%PDF-", PDF),
    (rb"%!PS|\xc5\xd0\xd3\xc6", POSTSCRIPT),
    (rb"\x93NUMPY", NUMPY),
    (rb"RIFF....AVI |\x1a\x45\xdf\xa3|\x00\x00\x01[\xba\xb3]|FLV\x01|\x30\x26\xb2\x75\x8e\x66\xcf\x11", VIDEO),
    (rb"\x00...(?:moov|mdat|wide|free|skip)", VIDEO),
    # MPEG transport streams: packets of 188 bytes, with a time of 4 bytes before each on Blu-ray discs.
    (rb"(?:....)?G[\x00-\x7f].[\x10-\x3f].{184}(?:....)?G[\x00-\x7f].[\x10-\x3f].{184}(?:....)?G", VIDEO),
    (rb"Rar!\x1a\x07|7z\xbc\xaf\x27\x1c|.{257}ustar", ARCHIVE),
]

# zip, gzip, bzip2, xz and zstd. Documents, models and compressed texts begin so too, so the name must fit.
_COMPRESSED = rb"PK\x03\x04|\x1f\x8b\x08|BZh[1-9]1AY&SY|\xfd7zXZ\x00|\x28\xb5\x2f\xfd"
_COMPRESSOR = re.compile(r"\.(?:gz|bz2|xz|zst|bak|old|backup|\d+)$", re.IGNORECASE)  # and what backups are called

_SUFFIXES: dict[Kind, str] = {
    HEIC: ".heic .heif .hif",
    AVIF: ".avif .avifs",
    JPEG_2000: ".jp2 .j2k .j2c .jpf .jpx .jpm",
    JPEG_XL: ".jxl",
    JPEG_XR: ".jxr .wdp .hdp",
    RAW: (
        ".3fr .arw .bay .cr2 .cr3 .crw .dcr .dng .erf .fff .gpr .iiq .k25 .kdc .mef .mos .mrw .nef .nrw .orf .pef "
        ".ptx .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f"
    ),
    PSD: ".psd .psb",
    XCF: ".xcf",
    PNM: ".pam .pfm",
    TGA: ".tga .icb .vda .vst",
    DDS: ".dds",
    QOI: ".qoi",
    PCX: ".pcx",
    SGI: ".sgi",
    XPM: ".xpm .xbm",
    PROJECT: ".kra .ora .clip .procreate .afphoto .afdesign .sai .sai2 .mdp .ase .aseprite",
    CURSOR: ".cur",
    ICNS: ".icns",
    EXR: ".exr",
    HDR: ".hdr",
    FITS: ".fits",
    DICOM: ".dcm .dicom",
    SVG: ".svg .svgz",
    PDF: ".pdf",
    POSTSCRIPT: ".ps .eps .ai",
    NUMPY: ".npy .npz",
    VIDEO: ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .flv .3gp .mts .m2ts .ogv",
    ARCHIVE: ".zip .cbz .rar .cbr .7z .tar .tgz .tbz2 .txz .tar.gz .tar.bz2 .tar.xz .tar.zst",
}
_KIND_OF_SUFFIX = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}


def first_bytes(path: Path) -> bytes:
    """Return the first bytes of a regular file, 512 at most.

    Anything else, such as a named pipe, is not opened: that could wait forever.

    Returns:
        The bytes; empty if it is not a regular file, or missing.

    Raises:
        OSError: If there is a regular file and it cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return b""
    except OSError:
        return b""
    # Should it have become a named pipe meanwhile, nobody is waited for.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        return os.read(descriptor, HEAD)
    finally:
        os.close(descriptor)


def kind_by_bytes(head: bytes) -> Kind | None:
    """Recognise a kind that is not read by a file's first bytes; of archives, those that are nothing else.

    Args:
        head: The first 512 bytes of the file, or fewer.

    Returns:
        The kind; None where the bytes belong to none of them.
    """
    if head[4:8] == b"ftyp":
        return _kind_by_brand(head)
    return next((kind for pattern, kind in _FIRST_BYTES if re.match(pattern, head, re.DOTALL)), None)


def is_compressed(head: bytes) -> bool:
    """Return whether a file begins like an archive or a compressor that many other kinds are based on."""
    return re.match(_COMPRESSED, head) is not None


def without_compression(name: str) -> str:
    """Return a file's name without the suffixes of compressors and backups: ``pics.gz`` -> ``pics``."""
    while _COMPRESSOR.search(name):
        name = _COMPRESSOR.sub("", name)
    return name


def has_suffix(name: str) -> bool:
    """Return whether a file's name ends in what looks like a suffix; a leading dot alone is none."""
    return re.search(r"[^/]\.[A-Za-z][A-Za-z0-9_]*$", name) is not None


def _kind_by_brand(head: bytes) -> Kind | None:
    """Distinguish kinds in the same container: HEIC, AVIF, video. The first known brand counts."""
    length = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(length, len(head)), 4))]
    if brands[0] in _AUDIO_BRANDS:
        return None
    known = next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)
    return known or (HEIC if brands[0] in (b"mif1", b"msf1") else VIDEO)


def kind_by_suffix(name: str) -> Kind | None:
    """Recognise a kind that is not read by a file's name."""
    parts = name.lower().rsplit("/", 1)[-1].split(".")
    endings = (f".{'.'.join(parts[-count:])}" for count in (2, 1) if len(parts) > count)
    return next((_KIND_OF_SUFFIX[ending] for ending in endings if ending in _KIND_OF_SUFFIX), None)
