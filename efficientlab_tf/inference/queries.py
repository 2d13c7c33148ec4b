"""Pictures to segment: which files, which masks to judge by, names of the results."""

import contextlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from efficientlab_tf.data.annotations.export import UNKNOWN, listed
from efficientlab_tf.data.annotations.mask_files import (
    by_stem,
    holds_indices,
    mask_levels,
    read_mask_file,
)
from efficientlab_tf.data.annotations.support import Support
from efficientlab_tf.data.cleaning import (
    Refused,
    Upright,
    fit_mask,
    open_picture,
    read_image,
)
from efficientlab_tf.data.sources.folder import IMAGES, MASKS
from efficientlab_tf.data.sources.fss1000 import MASK_ENDING, MASK_SUFFIX
from efficientlab_tf.data.sources.jobs import list_images, natural_key
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError

NO_MASKS = "none"
_FEW_LEVELS = 32
_EXTREMES = 0.9


class Query(NamedTuple):
    """One picture to segment.

    Attributes:
      path: of the picture.
      mask: the file that it is judged by, or None.
      output: the name of its results, without suffix; no other query has it.
    """

    path: Path
    mask: Path | None
    output: str


def find_queries(path: Path, masks: str) -> tuple[list[Query], list[str]]:
    """Lists the pictures of a folder, with the masks to judge by.

    Args:
      path: a picture; a folder of pictures; DIR/images with DIR/masks; or pictures
        1.jpg with masks 1.png beside them. There a PNG is a mask if it looks like
        one; if it does not, or is the only one of its name, it is a picture.
      masks: a folder of masks of the same stems, or DIR/masks in it; "" looks beside
        the pictures; "none" takes every file for a picture.

    Returns:
      The queries, and what is worth knowing about the masks.

    Raises:
      UserError: no such path, no picture, or no mask where some were said to be.
    """
    if not path.exists():
        raise UserError(f"no such file or folder: {path}; give pictures to segment")
    folder = path / IMAGES if (path / IMAGES).is_dir() else path
    pictures = [path] if path.is_file() else list_images(folder)
    if not pictures:
        raise UserError(
            f"{folder} holds no pictures (jpg, png, webp, bmp, tif); give a folder of "
            "pictures to segment"
        )
    found: dict[Path, Path] = {}
    notes = []
    if masks and masks != NO_MASKS:
        source = Path(masks)
        if not source.is_dir():
            raise UserError(f"--query_masks: no such folder: {source}")
        source = source / MASKS if (source / MASKS).is_dir() else source
        found = _matched(pictures, source, notes)
        if not found:
            raise UserError(
                f"--query_masks: no file in {source} has the name of a picture in "
                f"{folder}; masks are named like their pictures"
            )
    elif masks != NO_MASKS and path.is_dir():
        if folder != path and (path / MASKS).is_dir():
            found = _matched(pictures, path / MASKS, notes)
        else:
            found = _beside(pictures)
            taken = set(found.values())
            pictures = [picture for picture in pictures if picture not in taken]
        if found:
            names = listed(mask.name for mask in found.values())
            notes.append(
                f"judged by {len(found)} masks found with the queries: {names}"
            )
    if found and len(found) < len(pictures):
        lacking = listed(p.name for p in pictures if p not in found)
        notes.append(f"not judged, for want of a mask: {lacking}")
    pictures.sort(key=lambda picture: natural_key(picture.stem))
    names = output_names([picture.name for picture in pictures])
    queries = [
        Query(picture, found.get(picture), name)
        for picture, name in zip(pictures, names, strict=True)
    ]
    return queries, notes


def output_names(files: list[str]) -> list[str]:
    """Names results after pictures: a.jpg is "a", but "a_jpg" beside an a.png.

    The names differ in more than upper and lower case, which some disks ignore.
    """
    stems = [Path(file).stem for file in files]
    counts = Counter(stem.lower() for stem in stems)
    names: list[str] = []
    used = {stem.lower() for stem in stems if counts[stem.lower()] == 1}
    for file, stem in zip(files, stems, strict=True):
        name = stem
        if counts[stem.lower()] > 1:
            base = name = f"{stem}_{Path(file).suffix[1:].lower()}"
            number = 2
            while name.lower() in used:
                name, number = f"{base}_{number}", number + 1
            used.add(name.lower())
        names.append(name)
    return names


def read_query(path: Path) -> Upright:
    """Decodes a picture, upright and in 8 bits.

    Raises:
      Refused: the file cannot be read, or is no picture.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Refused(error.strerror or str(error)) from error
    return read_image(data, stretch=True)


class Truth:
    """Reads the masks that predictions are judged by.

    Their values mean what those of the support's mask files mean; beside another kind
    of support they are the numbers of its classes, or object on background if it has
    one.

    Args:
      support: the support set.
      masks: all mask files.
      mask_values: "auto", "object" or "index".
    """

    def __init__(self, support: Support, masks: list[Path], mask_values: str):
        classes = len(support.classes)
        self._values = dict(enumerate(support.values, start=1))
        self._index_masks = support.index_masks
        if not support.from_mask_files:
            self._values = {c: c for c in range(1, classes + 1)}
            indices = mask_values == "auto" and holds_indices(_all_levels(masks))
            self._index_masks = classes > 1 or indices
            self._index_masks |= mask_values == "index"
        elif not self._index_masks:
            # Masks of single classes cannot show several; numbers can.
            self._values = {c: c for c in range(1, classes + 1)}
            self._index_masks = classes > 1

    def read(self, path: Path, picture: Upright) -> np.ndarray:
        """Returns the mask of a picture, uint8 [H, W]; 0..K, 255 unknown.

        Raises:
          UserError: it cannot be read.
          Refused: it is not of the picture's aspect ratio.
        """
        raw = fit_mask(read_mask_file(path, self._index_masks, []), picture, [])
        truth = np.zeros(raw.shape, np.uint8)
        for index, value in self._values.items():
            truth[raw == value] = index
        truth[raw == UNKNOWN] = IGNORE
        return truth


def _all_levels(masks: list[Path]) -> set[int]:
    """The levels of all masks that can be read; `Truth.read` reports the others."""
    levels: set[int] = set()
    for path in masks:
        with contextlib.suppress(UserError):
            levels |= mask_levels(path)
    return levels


def _matched(pictures: list[Path], masks: Path, notes: list[str]) -> dict[Path, Path]:
    """Matches pictures and a folder's masks by stem."""
    files = by_stem(masks)
    shared = Counter(picture.stem for picture in pictures)
    found = {}
    for picture in pictures:
        own = files.get(picture.stem) or files.get(picture.stem + MASK_ENDING)
        if not own:
            continue
        if shared[picture.stem] > 1:
            notes.append(f"{own[0].name} may belong to several pictures: not used")
        else:
            found[picture] = own[0]
    return found


def _beside(pictures: list[Path]) -> dict[Path, Path]:
    """Finds masks among the pictures: 1.png of 1.jpg, 1_mask.png of 1.png."""
    by_name = {picture.name: picture for picture in pictures}
    found = {}
    for picture in pictures:
        for name in (picture.stem + MASK_SUFFIX, picture.stem + MASK_ENDING + ".png"):
            mask = by_name.get(name)
            if mask not in (None, picture) and _looks_like_a_mask(mask):
                found[picture] = mask
                break
    # A mask has no mask of its own.
    return {p: m for p, m in found.items() if p not in found.values()}


def _looks_like_a_mask(path: Path) -> bool:
    """Whether a file has few grey levels or indices, or hardly any but 0 and 255."""
    try:
        levels = mask_levels(path)
    except UserError:
        return False
    if not levels or len(levels) <= _FEW_LEVELS:
        return bool(levels)
    gray = np.asarray(open_picture(path.read_bytes()).convert("L"))
    return bool(np.isin(gray, (0, 255)).mean() > _EXTREMES)
