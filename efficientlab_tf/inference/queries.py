"""Pictures to segment: which files, which masks to judge by, names of the results."""

import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from efficientlab_tf.data.annotations.export import UNKNOWN, listed
from efficientlab_tf.data.annotations.mask_files import read_mask_file
from efficientlab_tf.data.annotations.support import Support
from efficientlab_tf.data.cleaning import Upright, fit_mask, read_image
from efficientlab_tf.data.file_names import match_stems, of_picture
from efficientlab_tf.data.mask_deciding import decide
from efficientlab_tf.data.mask_planes import read_plane, survey
from efficientlab_tf.data.mask_possibilities import possible_readings
from efficientlab_tf.data.mask_readings import AUTO, Reading
from efficientlab_tf.data.picture_files import (
    ONE_PAGE,
    Refused,
    count_pages,
    looks_like_a_picture,
    read_bytes,
)
from efficientlab_tf.data.sources.folder import IMAGES, MASKS, has_both, within
from efficientlab_tf.data.sources.fss1000 import MASK_SUFFIXES
from efficientlab_tf.data.sources.jobs import by_stem, natural_key
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError

NO_MASKS = "none"
FIRST, ALL = "first", "all"


class Query(NamedTuple):
    """One picture to segment.

    Attributes:
      path: of the picture.
      mask: the file that it is judged by, or None.
      output: the name of its results, without suffix; no other query has it.
      page: which of a file of several pages or frames, from 0.
      data: returns the picture file's bytes, where it is a part of `path`; else None.
    """

    path: Path
    mask: Path | None
    output: str
    page: int = 0
    data: Callable[[], bytes] | None = None

    def read(self) -> Upright:
        """Decodes the picture, upright and in 8 bits.

        Raises:
          Refused: it cannot be read, or is no picture.
        """
        if self.data is None:
            return read_query(self.path, self.page)
        return read_image(self.data(), stretch=True)


def find_queries(
    path: Path, masks: str, pages: str = FIRST
) -> tuple[list[Query], list[str]]:
    """Lists the pictures of a folder, with the masks to judge by.

    Files that look like pictures and are none that can be read are listed, too:
    reading them says why.

    Args:
      path: a picture; a folder of pictures; DIR/images with DIR/masks; or pictures
        1.jpg with masks 1.png beside them. There a PNG is a mask if it looks like
        one; if it does not, or is the only one of its name, it is a picture.
      masks: a folder of masks of the same stems, or DIR/masks in it; "" looks beside
        the pictures; "none" takes every file for a picture.
      pages: of TIFF files of several pages and animations: "first" or "all".

    Returns:
      The queries, and what is worth knowing about them.

    Raises:
      UserError: no such path, no picture, or no mask where some were said to be.
    """
    path = Path(path).expanduser()
    if not path.is_dir() and not path.is_file():
        raise UserError(f"no such file or folder: {path}; give pictures to segment")
    folder = within(path, IMAGES)
    folder = folder if folder.is_dir() else path
    pictures = [path] if path.is_file() else _pictures_in(folder)
    if not pictures:
        raise UserError(
            f"{folder} holds no pictures (jpg, png, webp, tif, ...); give a folder of "
            "pictures to segment"
        )
    found: dict[Path, Path] = {}
    notes = []
    if masks and masks != NO_MASKS:
        source = Path(masks).expanduser()
        if not source.is_dir():
            raise UserError(f"`query_masks`: no such folder: {source}")
        inner = within(source, MASKS)
        source = inner if inner.is_dir() else source
        found = _matched(pictures, source, notes)
        if not found:
            raise UserError(
                f"`query_masks`: no file in {source} has the name of a picture in "
                f"{folder}; masks are named like their pictures"
            )
    elif masks != NO_MASKS and path.is_dir():
        if folder != path and has_both(path):
            found = _matched(pictures, within(path, MASKS), notes)
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
    return _with_pages(queries, pages, notes), notes


def _pictures_in(folder: Path) -> list[Path]:
    """All visible files that are, or look like, pictures."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.name[0] != "." and path.is_file() and looks_like_a_picture(path)
    ]


def _with_pages(queries: list[Query], pages: str, notes: list[str]) -> list[Query]:
    """Lists each page of files that hold several, or says that one is taken."""
    listed_pages, several = [], []
    for query in queries:
        count = 1
        with contextlib.suppress(Refused, OSError):
            count = count_pages(query.path, pages == ALL)
        if count > 1 and pages == ALL:
            digits = len(str(count - 1))
            listed_pages += [
                query._replace(
                    output=f"{query.output}_page{page:0{digits}d}", page=page
                )
                for page in range(count)
            ]
            continue
        several += [query.path.name] * (count > 1)
        listed_pages.append(query)
    if several:
        notes.append(
            f"{listed(several)}: {ONE_PAGE} of several; set `pages` to all to segment "
            "every one"
        )
    return listed_pages


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


def read_query(path: Path, page: int = 0) -> Upright:
    """Decodes a picture, upright and in 8 bits.

    Raises:
      Refused: the file cannot be read, or is no picture.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise Refused(error.strerror or str(error)) from error
    return read_image(data, stretch=True, page=page)


class Truth:
    """Reads the masks that predictions are judged by.

    They mean what the support set's mask files mean; beside another kind of support
    they say themselves what they are. Where that is several classes, they are the
    numbers of the support set's classes.

    Args:
      support: the support set.
      masks: all mask files.
      mask_values: one of `mask_readings.MASK_VALUES`.

    Raises:
      UserError: it is not clear what the masks mean.
    """

    def __init__(self, support: Support, masks: list[Path], mask_values: str = AUTO):
        classes = len(support.classes)
        self._values = {c: c for c in range(1, classes + 1)}
        means = support.reading
        if means is None or (means.is_binary and classes > 1):
            # `read` tells of the files that cannot be read.
            means = decide(masks, mask_values, refused={})
        elif not means.is_binary:
            self._values = dict(enumerate(support.values, start=1))
        if means.is_binary and classes == 1:
            self._values = {1: next(iter(means.names), 1)}
        self._means: Reading = means

    def read(self, path: Path, picture: Upright) -> np.ndarray:
        """Returns the mask of a picture, uint8 [H, W]; 0..K, 255 unknown.

        Raises:
          UserError: it cannot be read.
          Refused: it is not of the picture's aspect ratio.
        """
        raw = fit_mask(read_mask_file(path, self._means, []), picture, [])
        truth = np.zeros(raw.shape, np.uint8)
        for index, value in self._values.items():
            truth[raw == value] = index
        truth[raw == UNKNOWN] = IGNORE
        return truth


def _matched(pictures: list[Path], masks: Path, notes: list[str]) -> dict[Path, Path]:
    """Matches pictures and a folder's masks by name, see `match_stems`."""
    files = by_stem(masks)
    shared = Counter(picture.stem for picture in pictures)
    partners = match_stems(shared, files)
    found = {}
    for picture in pictures:
        if picture.stem not in partners:
            continue
        mask = files[partners[picture.stem]][0]
        if shared[picture.stem] > 1:
            notes.append(f"{mask.name} may belong to several pictures: not used")
        else:
            found[picture] = mask
    return found


def _beside(pictures: list[Path]) -> dict[Path, Path]:
    """Finds masks among the pictures: 1.png of 1.jpg, 1_mask.png of 1.png."""
    found = {}
    for picture in pictures:
        for mask in pictures:
            same = mask.stem == picture.stem and mask.suffix.lower() in MASK_SUFFIXES
            ending = mask.stem != picture.stem == of_picture(mask.stem)
            if mask == picture or not (same or ending):
                continue
            if _looks_like_a_mask(mask):
                found[picture] = mask
                break
    # A mask has no mask of its own.
    return {p: m for p, m in found.items() if p not in found.values()}


def _looks_like_a_mask(path: Path) -> bool:
    """Whether a file holds what masks hold, rather than a picture."""
    try:
        possible_readings(survey(read_plane(read_bytes(path)), path.name))
    except (Refused, OSError):
        return False
    return True
