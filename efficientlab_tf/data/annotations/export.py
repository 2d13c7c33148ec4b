"""What every reader of annotations needs: names, pictures, errors that say where."""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from efficientlab_tf.data.cleaning import Refused, Upright, fit_mask, read_image
from efficientlab_tf.data.sources.jobs import IMAGE_SUFFIXES
from efficientlab_tf.errors import UserError

UNKNOWN = -1
"""In a reader's masks: pixels whose label is unknown."""

_BACKGROUND_NAMES = ("background", "_background_")
_UNKNOWN_NAMES = ("ignored", "__ignore__")
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


class Drawn(NamedTuple):
    """One labelled picture as a reader hands it on.

    Attributes:
      name: of the image file, for people.
      image: uint8 [H, W, 3], RGB.
      mask: int32 [H, W]; 0 background, n for `Export.names[n - 1]`, or `UNKNOWN`.
    """

    name: str
    image: np.ndarray
    mask: np.ndarray


class Export(NamedTuple):
    """What a reader found.

    Attributes:
      format: its name, for people.
      names: all classes that the export declares.
      pictures: the labelled pictures, read one after another.
      count: their number.
      notes: what was left out or changed; grows while `pictures` are read.
      index_masks: for mask files, whether their values are those of `Drawn.mask`.
    """

    format: str
    names: tuple[str, ...]
    pictures: Iterable[Drawn]
    count: int
    notes: list[str]
    index_masks: bool = False


class Labels:
    """Numbers the classes of an export by name.

    "background" and "_background_" are 0, "ignored" and "__ignore__" unknown, as the
    tools that write these names mean them.
    """

    def __init__(self, names: Iterable[str]):
        self.names = tuple(
            name
            for name in dict.fromkeys(names)
            if name.lower() not in (*_BACKGROUND_NAMES, *_UNKNOWN_NAMES)
        )
        self._numbers = {name: i for i, name in enumerate(self.names, start=1)}

    def number(self, name: str) -> int:
        """Returns what stands for a class in `Drawn.mask`."""
        if name.lower() in _BACKGROUND_NAMES:
            return 0
        if name.lower() in _UNKNOWN_NAMES:
            return UNKNOWN
        return self._numbers[name]


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
    except (
        *(ValueError, TypeError, IndexError, AttributeError, OverflowError),
        RecursionError,
    ) as error:
        raise UserError(
            f"{what}: not as its format says ({error}); export it again"
        ) from error


def load_json(path: Path) -> object:
    """Returns a JSON file's content.

    Raises:
      UserError: it cannot be read, or is not JSON.
    """
    with reading(str(path)):
        return json.loads(path.read_bytes())


def walk_files(root: Path) -> list[Path]:
    """Returns all visible files below a folder, sorted."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders if f[0] != "." and f != "__MACOSX"]
        found += [Path(folder, name) for name in files if name[0] != "."]
    return sorted(found)


class PictureFinder:
    """Finds the pictures that an export speaks of, by name, below one folder.

    Whatever path or address an export gives, only files below the folder are found.
    """

    def __init__(self, root: Path, files: Iterable[Path]):
        self._root = root
        self._by_name: dict[str, list[Path]] = {}
        for path in files:
            if path.suffix.lower() in IMAGE_SUFFIXES:
                self._by_name.setdefault(_key(path.name), []).append(path)

    def find(self, reference: str, exported: Path) -> Path:
        """Returns the file that a reference means.

        Args:
          reference: a relative or absolute path, of this or another computer, or a
            URL; Label Studio's prefix of uploaded files may be missing from either.
          exported: the file that holds the reference, for the message.

        Raises:
          UserError: there is none, or several are equally likely.
        """
        parts = _parts(reference)
        if not parts:
            raise UserError(f"{exported}: {reference!r} is not the name of a picture")
        short = _UPLOAD_PREFIX.sub("", parts[-1])
        found = self._by_name.get(parts[-1]) or self._by_name.get(short)
        if not found:
            raise UserError(
                f"{exported}: no picture {parts[-1]} below {self._root}; put the "
                "pictures beside the export, or export it with its pictures"
            )
        return self._likeliest(found, parts, exported)

    def find_stem(self, stem: str, exported: Path) -> Path | None:
        """Returns the picture of a path without suffix, or None."""
        parts = _parts(stem)
        found = [
            path
            for suffix in IMAGE_SUFFIXES
            for path in self._by_name.get(parts[-1] + suffix, [])
        ]
        return self._likeliest(found, parts, exported) if found else None

    def _likeliest(self, found: list[Path], parts: list[str], exported: Path) -> Path:
        def agreement(path: Path) -> int:
            """How many folders above the file are as the reference says."""
            own = [_key(part) for part in path.relative_to(self._root).parts[:-1]]
            count = 0
            for a, b in zip(reversed(own), reversed(parts[:-1]), strict=False):
                if a != b:
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


def read_picture(path: Path) -> Upright:
    """Decodes an image file, see `read_image`.

    Raises:
      UserError: it cannot be read.
    """
    with reading(str(path)):
        return read_image(path.read_bytes(), stretch=True)


def rgb(picture: Upright) -> np.ndarray:
    """Returns a decoded image as uint8 [H, W, 3]."""
    return np.asarray(picture.picture.convert("RGB"))


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
    return Drawn(name, rgb(picture), mask)


def listed(names: Iterable[str], most: int = 5) -> str:
    """Joins names for a message, the first few of them."""
    names = [str(name) for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _parts(reference: str) -> list[str]:
    address = urlsplit(str(reference))
    if address.scheme and address.netloc or address.query:
        # Label Studio's local files are /data/local-files/?d=folder/name.jpg.
        reference = parse_qs(address.query).get("d", [address.path])[0]
    path = unquote(str(reference)).replace("\\", "/")
    return [_key(part) for part in path.split("/") if part not in ("", ".", "..")]


def _key(name: str) -> str:
    # Uploads turn spaces into underscores.
    return name.lower().replace(" ", "_")
