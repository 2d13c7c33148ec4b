"""Opens picture files from anywhere: which files, which formats, how large."""

import contextlib
import ctypes
import functools
import importlib.util
import io
import os
import re
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".jpf"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "HEIF": (".heic", ".heif", ".hif"),
}
"""The formats that are read, by Pillow's names, and the endings of their files. No
other is ever tried: Pillow knows some that start programs (EPS), and rarely used ones.
HEIF is read if pillow-heif is installed."""
IMAGE_SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)

ONE_PAGE = "only the first page was taken"
"""What is said of a file of several pages or an animation."""

MAX_PIXELS = 61_000_000
"""Largest picture: two copies of it, at four bytes a pixel, fit into 500 MiB."""
MAX_PIXELS_OF = {"JPEG2000": 2**24, "WEBP": 24_000_000, "AVIF": 2**25, "HEIF": 2**25}
"""The same of formats whose decoders take a multiple of the picture's memory."""
MAX_SIDE = 2**16 - 1
"""Longest side, JPEG's own limit: resizing takes memory by the side, too."""
MAX_BYTES = 2**29
MAX_PAGES = 1000

MAX_SCANS = 16
MAX_SCANNED = 2**31
"""A progressive JPEG of more scans goes over so many pixels at most, a few seconds:
encoders write about ten, an attacker thousands, each as long as the whole picture."""

_EXIF_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_ANIMATED = ("TIFF", "GIF", "WEBP", "PNG", "AVIF")
_BAND = 2**20
_FEW_VALUES = 2**17
_MAX_SEGMENTS = 100_000
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_SCAN, _END = 0xDA, 0xD9
_START = 4096
_REDUCED, _DNG_VERSION = 254, 50706

# What a file is that is a picture or a drawing of another kind, by its first bytes.
_OTHER_KINDS = (
    (re.compile(rb"....ftyp(hei|hev|mif1|msf1)", re.DOTALL), "HEIF"),
    (re.compile(rb"8BPS"), "Photoshop"),
    (re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"), "PostScript"),
    (re.compile(rb"%PDF"), "PDF"),
    (re.compile(rb"\xff\x0a|....JXL ", re.DOTALL), "JPEG XL"),
    (re.compile(rb"\x76\x2f\x31\x01"), "OpenEXR"),
    (re.compile(rb"#\?RADIANCE"), "Radiance HDR"),
    (re.compile(rb".{128}DICM", re.DOTALL), "DICOM"),
    (re.compile(rb"gimp xcf"), "GIMP"),
    (re.compile(rb"\x00\x00\x01\x00"), "icon"),
    (re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<svg", re.DOTALL), "SVG"),
)
_KINDS_READ = (
    re.compile(rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|RIFF....WEBP|II\*\0|MM\0\*"),
    re.compile(rb"....ftyp(avif|avis)|\0\0\0\x0cjP  |\xff\x4f\xff\x51", re.DOTALL),
)
_SUFFIXES_NOT_READ = (
    *(".psd", ".eps", ".ps", ".svg", ".jxl", ".exr", ".hdr", ".dcm", ".xcf", ".ico"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".tga"),
)


class Refused(Exception):
    """A file that cannot be used; the message is the reason."""


@contextlib.contextmanager
def open_file(path: str | os.PathLike, most: int = MAX_BYTES) -> Iterator[BinaryIO]:
    """Opens a file to read from it, see `read_bytes`."""
    # Opening a pipe would wait for its writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise Refused("not a regular file; give a file that can be read to its end")
        if status.st_size > most:
            raise Refused(
                f"{status.st_size / 1e6:.0f} MB are more than {most / 1e6:.0f} MB; "
                "save it smaller"
            )
        yield file


def read_bytes(path: str | os.PathLike, most: int = MAX_BYTES) -> bytes:
    """Returns a file's content.

    Args:
      path: of the file; a link to one will do.
      most: bytes.

    Raises:
      Refused: it is larger, or no regular file: devices and pipes may never end.
      OSError: it cannot be read.
    """
    with open_file(path, most) as file:
        return file.read()


def open_picture(data: bytes, page: int = 0) -> Image.Image:
    """Decodes a picture file as it is.

    Args:
      data: the file's bytes, of one of `FORMATS`.
      page: of a TIFF of several pages or an animation.

    Raises:
      Refused: of no such format, damaged, or larger than `MAX_PIXELS` or `MAX_SIDE`.
    """
    try:
        with _opened(io.BytesIO(data)) as picture:
            picture.seek(page)
            width, height = picture.size
            most = MAX_PIXELS_OF.get(picture.format, MAX_PIXELS)
            if width * height > most:
                other = " or as PNG," if most < width * height <= MAX_PIXELS else ""
                raise Refused(
                    f"too large: {width}x{height} pixels are more than "
                    f"{most / 1e6:.0f} million; save it smaller,{other} or in pieces"
                )
            if max(width, height) > MAX_SIDE:
                raise Refused(
                    f"too long: {width}x{height} pixels, and a side may have at most "
                    f"{MAX_SIDE}; save it in pieces"
                )
            if picture.format in ("JPEG", "MPO"):
                _check_scans(data, width * height)
            if page == 0 and picture.format == "TIFF" and _is_raw(picture, data):
                raise Refused(
                    "a camera's raw file, of which only the preview can be read; "
                    "develop it and save it as JPEG or PNG"
                )
            picture.load()
            return picture
    except UnidentifiedImageError:
        raise Refused(_unread(data)) from None


def has_pages(picture: Image.Image) -> bool:
    """Whether a picture's file holds more than one: pages or an animation.

    Cameras' JPEG files with a second, smaller picture behind the first do not count.
    """
    if picture.format not in _ANIMATED:
        return False
    try:
        return bool(getattr(picture, "is_animated", False))
    except Exception:  # Of a damaged second page, which is as good as none.
        return False


def count_pages(path: Path, every: bool) -> int:
    """Returns the number of pages or frames of a file, at most `MAX_PAGES`.

    Args:
      path: of the file. One that cannot be read has one page.
      every: count them all, which takes as long as decoding an animation; otherwise
        2 stands for several.

    Raises:
      Refused: not a regular file.
      OSError: it cannot be opened.
    """
    with open_file(path) as file:
        try:
            with _opened(file) as picture:
                if not has_pages(picture):
                    return 1
                for count in range(1, MAX_PAGES if every else 2):
                    try:
                        picture.seek(count)
                    except EOFError:
                        return count
        except (Refused, UnidentifiedImageError):
            return 1
    return MAX_PAGES if every else 2


def header_size(path: str | os.PathLike) -> tuple[int, int, int]:
    """Returns width, height and EXIF orientation of a file without decoding it.

    Raises:
      Refused: not a picture that can be read.
      OSError: the file cannot be read.
    """
    with open_file(path) as file:
        return header_of(file)


def header_of(file: BinaryIO) -> tuple[int, int, int]:
    """As `header_size`, of an open file."""
    try:
        with _opened(file) as picture:
            return *picture.size, orientation(picture)
    except UnidentifiedImageError:
        file.seek(0)
        raise Refused(_unread(file.read(_START))) from None


def orientation(picture: Image.Image) -> int:
    """Returns EXIF's orientation of a picture, 1 for upright."""
    try:
        return picture.getexif().get(0x0112, 1)
    except Exception:  # Pillow's parser has no common error for broken EXIF data.
        return 1


def upright(picture: Image.Image) -> Image.Image:
    """Turns a picture as EXIF says that it is to be shown."""
    turn = _EXIF_TRANSPOSE.get(orientation(picture))
    return picture if turn is None else picture.transpose(turn)


def looks_like_a_picture(path: Path) -> bool:
    """Whether a file is, or is meant to be, a picture of any kind, readable or not."""
    if path.suffix.lower() in (*IMAGE_SUFFIXES, *_SUFFIXES_NOT_READ):
        return True
    try:
        with open_file(path) as file:
            start = file.read(_START)
    except (Refused, OSError):
        return False
    kinds = (*_KINDS_READ, *(kind for kind, _ in _OTHER_KINDS))
    return any(kind.match(start) for kind in kinds)


def bands(height: int, width: int) -> Iterator[slice]:
    """Cuts rows into bands of about a million pixels, to keep copies of them small."""
    rows = max(1, _BAND // max(width, 1))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def band_of(picture: Image.Image, rows: slice) -> Image.Image:
    """Cuts a band of rows from a picture."""
    return picture.crop((0, rows.start, picture.width, rows.stop))


def rgb_array(picture: Image.Image) -> np.ndarray:
    """Returns a picture as uint8 [H, W, 3]."""
    width, height = picture.size
    result = np.empty((height, width, 3), np.uint8)
    for rows in bands(height, width):
        band = band_of(picture, rows)
        result[rows] = np.asarray(band if band.mode == "RGB" else band.convert("RGB"))
    return result


def count_values(values: np.ndarray) -> dict[int, int]:
    """Returns the whole numbers in an array [H, W] or [N] and how often each occurs."""
    if values.ndim == 1:
        return _count_band(values)
    counts: dict[int, int] = {}
    for rows in bands(*values.shape):
        for value, number in _count_band(values[rows].ravel()).items():
            counts[value] = counts.get(value, 0) + number
    return counts


def _count_band(values: np.ndarray) -> dict[int, int]:
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if high - low > _FEW_VALUES:
        found, numbers = np.unique(values, return_counts=True)
        return dict(zip(found.tolist(), numbers.tolist(), strict=True))
    numbers = np.bincount(values.astype(np.int32) - low)
    return {low + i: int(numbers[i]) for i in np.flatnonzero(numbers).tolist()}


@contextlib.contextmanager
def _opened(file: BinaryIO) -> Iterator[Image.Image]:
    """Yields a picture whose header was read; makes one error of whatever fails."""
    try:
        with warnings.catch_warnings():
            # Large pictures and odd metadata are no concern of the user's here.
            warnings.simplefilter("ignore")
            yield Image.open(file, formats=_formats())
    except (Refused, UnidentifiedImageError):
        raise
    except Image.DecompressionBombError as error:
        raise Refused(f"far too large; save it smaller ({error})") from None
    except MemoryError:
        raise Refused("too large for the memory; save it smaller") from None
    except Exception as error:  # Pillow's plugins have no common error for damage.
        reason = " ".join(str(error).split())
        raise Refused(f"truncated or corrupt image file ({reason})") from None


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    # Of damage libtiff prints lines of its own, beside the one error that is raised.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)
    if importlib.util.find_spec("pillow_heif"):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _is_raw(picture: Image.Image, data: bytes) -> bool:
    tags = picture.tag_v2
    return data[8:10] == b"CR" or _DNG_VERSION in tags or tags.get(_REDUCED) == 1


def _check_scans(data: bytes, pixels: int) -> None:
    """Refuses a JPEG that goes over its picture far more often than encoders do."""
    place, scans = 2, 0
    for _ in range(_MAX_SEGMENTS):
        match = _MARKER.search(data, place)
        if match is None or match[0][1] == _END:
            return
        scans += match[0][1] == _SCAN
        if scans > MAX_SCANS and scans * pixels > MAX_SCANNED:
            break
        length = int.from_bytes(data[match.end() : match.end() + 2], "big")
        place = match.end() + max(length, 2)
    raise Refused(
        f"a JPEG of more than {scans - 1} scans, which no camera or program writes; "
        "save it again"
    )


def _unread(data: bytes) -> str:
    if not data:
        return "empty file"
    kind = next(
        (name for kind, name in _OTHER_KINDS if kind.match(data[:_START])), None
    )
    if kind == "HEIF" and "HEIF" not in _formats():
        return "HEIF is read if pillow-heif is installed; install it, or save as JPEG"
    if kind and kind != "HEIF":
        return f"{kind} files are not read; save it as PNG or JPEG"
    return "not an image file that can be read; save it as PNG or JPEG"
