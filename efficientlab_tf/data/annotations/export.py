"""What every reader of annotations needs: names, pictures, errors that say where."""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from efficientlab_tf.data.cleaning import Upright, fit_mask, read_image
from efficientlab_tf.data.file_names import composed, garbled, loose, meanings
from efficientlab_tf.data.mask_readings import BACKGROUND_NAMES, Reading
from efficientlab_tf.data.picture_files import (
    IMAGE_SUFFIXES,
    ONE_PAGE,
    Refused,
    read_bytes,
    rgb_array,
)
from efficientlab_tf.errors import UserError, printable
from efficientlab_tf.untrusted import check_parts

UNKNOWN = -1
"""In a reader's masks: pixels whose label is unknown."""

MAX_JSON = 2**27
"""Bytes of the largest export."""

_MOST_CLASSES = 30_000
_KEYS = (str, composed, loose)
_MALFORMED = (
    *(ValueError, TypeError, IndexError, AttributeError, OverflowError),
    RecursionError,
)
_UNKNOWN_NAMES = ("ignored", "__ignore__")
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


class Drawn(NamedTuple):
    """One labelled picture as a reader hands it on.

    Attributes:
      name: of the image file, for people.
      picture: the image, upright, RGB or grey.
      mask: int16 [H, W]; 0 background, n for `Export.names[n - 1]`, or `UNKNOWN`.
    """

    name: str
    picture: Image.Image
    mask: np.ndarray

    @classmethod
    def empty(cls, name: str, upright: Upright) -> "Drawn":
        """A picture on which nothing is marked."""
        picture = upright.picture
        return cls(name, picture, np.zeros(picture.size[::-1], np.int16))


class Export(NamedTuple):
    """What a reader found.

    Attributes:
      format: its name, for people.
      names: all classes that the export declares.
      pictures: the labelled pictures, read one after another; None for one of which
        every outline was left out.
      count: their number.
      notes: what was left out or changed; grows while `pictures` are read.
      reading: of mask files, what they mean; None for outlines.
      annotated: the numbers of the classes that something was labelled as; grows
        while `pictures` are read.
    """

    format: str
    names: tuple[str, ...]
    pictures: Iterable[Drawn | None]
    count: int
    notes: list[str]
    reading: Reading | None = None
    annotated: set[int] = frozenset()


class Labels:
    """Numbers the classes of an export by name.

    "background" and "_background_" are 0, "ignored" and "__ignore__" unknown, as the
    tools that write these names mean them.
    """

    def __init__(self, names: Iterable[str]):
        self.names = tuple(
            name
            for name in dict.fromkeys(names)
            if name.lower() not in (*BACKGROUND_NAMES, *_UNKNOWN_NAMES)
        )
        if len(self.names) > _MOST_CLASSES:
            raise UserError(
                f"{len(self.names)} classes are more than {_MOST_CLASSES}; export fewer"
            )
        self._numbers = {name: i for i, name in enumerate(self.names, start=1)}

    def number(self, name: str) -> int:
        """Returns what stands for a class in `Drawn.mask`."""
        if name.lower() in BACKGROUND_NAMES:
            return 0
        if name.lower() in _UNKNOWN_NAMES:
            return UNKNOWN
        return self._numbers[name]


def label_text(label: object) -> str:
    """Returns the name of a class as exports write it, without spaces around it.

    Raises:
      ValueError: it is empty, or neither text nor a whole number.
    """
    text = label
    if isinstance(label, int | float) and not isinstance(label, bool):
        text = f"{label:.0f}" if label == int(label) else f"{label}"
    text = printable(composed(text).strip()) if isinstance(text, str) else ""
    if not text:
        raise ValueError(f"label {brief(repr(label))}")
    return text


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Turns whatever a malformed file causes into a `UserError` that names it."""
    try:
        yield
    except UserError:
        raise
    except Refused as error:
        raise UserError(f"{what}: {error}") from error
    except KeyError as error:
        raise UserError(f"{what}: {error} is missing; export it again") from error
    except OSError as error:
        raise UserError(f"{what}: {error.strerror or error}") from error
    except _MALFORMED as error:
        raise UserError(
            f"{what}: not as its format says ({brief(error)}); export it again"
        ) from error


@contextlib.contextmanager
def outline(where: str, notes: list[str]) -> Iterator[None]:
    """Leaves out an outline that is malformed, with a note, and nothing else."""
    try:
        yield
    except UserError:
        raise
    except (KeyError, Refused, *_MALFORMED) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else brief(error)
        notes.append(f"{where}: {reason}: left out")


def brief(text: object, most: int = 150) -> str:
    """What an untrusted file says, short enough for one line of a message."""
    line = " ".join(str(text).split())
    line = printable(line[: most + 1])
    return line if len(line) <= most else line[:most] + "..."


def load_json(path: Path) -> object:
    """Returns a JSON file's content.

    Raises:
      UserError: it cannot be read, is not JSON, or larger than `MAX_JSON` or
        `MAX_PARTS` lists and objects.
    """
    with reading(str(path)):
        data = read_bytes(path, MAX_JSON)
        check_parts(data)
        return json.loads(data)


def walk_files(root: Path) -> list[Path]:
    """Returns all visible regular files below a folder, sorted."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders if f[0] != "." and f != "__MACOSX"]
        paths = (Path(folder, name) for name in files if name[0] != ".")
        found += [path for path in paths if path.is_file()]
    return sorted(found)


class PictureFinder:
    """Finds the pictures that an export speaks of, by name, below one folder.

    Whatever path or address an export gives, only files below the folder are found.
    """

    def __init__(self, root: Path, files: Iterable[Path]):
        self._root = root
        pictures = [f for f in files if f.suffix.lower() in IMAGE_SUFFIXES]
        self._by_key = [
            _grouped((key(path.name), path) for path in pictures) for key in _KEYS
        ]
        self._by_stem = [
            _grouped((key(path.stem), path) for path in pictures) for key in _KEYS
        ]
        self._ungarbled = _grouped(
            (composed(name), path) for path in pictures for name in garbled(path.name)
        )

    def find(self, reference: str, exported: Path) -> Path:
        """Returns the file that a reference means.

        The same name goes first, then what the reference may mean otherwise
        (percent codes, a query), then names that differ in how accents are written,
        in case and spaces, in Label Studio's prefix of uploads, in the code page of
        an archive, and at last in the suffix.

        Args:
          reference: a relative or absolute path, of this or another computer, or a
            URL.
          exported: the file that holds the reference, for the message.

        Raises:
          UserError: there is none, or several are equally likely.
        """
        ways = meanings(reference) if isinstance(reference, str) else []
        if not ways:
            shown = brief(repr(reference))
            raise UserError(f"{exported}: {shown} is not the name of a picture")
        for key, by_key in zip(_KEYS, self._by_key, strict=True):
            for parts in ways:
                if found := by_key.get(key(parts[-1])):
                    return self._likeliest(found, parts, exported)
        for parts in ways:
            short = loose(_UPLOAD_PREFIX.sub("", parts[-1]))
            found = self._by_key[-1].get(short) or self._ungarbled.get(
                composed(parts[-1])
            )
            if found:
                return self._likeliest(found, parts, exported)
        named = [p for p in ways if Path(p[-1]).suffix.lower() in IMAGE_SUFFIXES]
        for parts in named:
            found = self._stem(Path(parts[-1]).stem)
            if len(found) == 1:
                return found[0]
        name = (named or ways)[-1][-1]
        raise UserError(
            f"{exported}: no picture {brief(name)} below {self._root}; put the "
            "pictures beside the export, or export it with its pictures"
        )

    @staticmethod
    def is_picture_name(reference: str) -> bool:
        """Whether a text reads like the name of a picture file."""
        return any(
            Path(parts[-1]).suffix.lower() in IMAGE_SUFFIXES
            for parts in meanings(reference)
        )

    def find_stem(self, stem: str, exported: Path) -> Path | None:
        """Returns the picture of a path without suffix, or None."""
        parts = stem.split("/")
        found = self._stem(parts[-1])
        return self._likeliest(found, parts, exported) if found else None

    def _stem(self, stem: str) -> list[Path]:
        found = (
            by.get(key(stem)) for key, by in zip(_KEYS, self._by_stem, strict=True)
        )
        return next(filter(None, found), [])

    def _likeliest(self, found: list[Path], parts: list[str], exported: Path) -> Path:
        def agreement(path: Path) -> int:
            """How many folders above the file are as the reference says."""
            own = [loose(part) for part in path.relative_to(self._root).parts[:-1]]
            count = 0
            for a, b in zip(reversed(own), reversed(parts[:-1]), strict=False):
                if a != loose(b):
                    break
                count += 1
            return count

        best = max(map(agreement, found))
        likely = [path for path in found if agreement(path) == best]
        if len(likely) > 1:
            names = " and ".join(str(p.relative_to(self._root)) for p in likely[:2])
            raise UserError(
                f"{exported}: {'/'.join(parts)} may be {names}; leave only one of them "
                f"below {self._root}"
            )
        return likely[0]


def _grouped(pairs: Iterable[tuple[str, Path]]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for key, path in pairs:
        groups.setdefault(key, []).append(path)
    return groups


def read_picture(path: Path, notes: list[str]) -> Upright:
    """Decodes an image file, see `read_image`.

    Args:
      path: of the file.
      notes: takes what is worth knowing, in words.

    Raises:
      UserError: it cannot be read.
    """
    with reading(str(path)):
        picture = read_image(read_bytes(path), stretch=True)
    if ONE_PAGE in picture.notes:
        notes.append(f"{path.name}: {ONE_PAGE}")
    return picture


def rgb(picture: Upright) -> np.ndarray:
    """Returns a decoded image as uint8 [H, W, 3]."""
    return rgb_array(picture.picture)


def drawn(
    name: str, picture: Upright, mask: np.ndarray, where: str, notes: list[str]
) -> Drawn:
    """Puts a picture and the mask that was drawn on it together.

    Raises:
      UserError: their aspect ratios differ.
    """
    changes: list[str] = []
    with reading(where):
        mask = fit_mask(mask, picture, changes)
    notes.extend(f"{name}: mask {change}" for change in changes)
    return Drawn(name, picture.picture, mask)


def listed(names: Iterable[str], most: int = 5) -> str:
    """Joins names for a message, the first few of them."""
    names = [brief(name, 80) for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
