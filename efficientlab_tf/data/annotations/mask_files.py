"""Pictures with mask files beside them, in the layouts that people use.

DIR/images + DIR/masks         the same stems
DIR/1.jpg + DIR/1.png          FSS-1000's; a PNG picture has its mask in 1_mask.png
DIR/CLASS/... of either kind   several classes, whose pictures mark that class alone
DIR/JPEGImages + DIR/SegmentationClass     PASCAL VOC's

A mask is either object on background or holds the indices of classes. labels.txt in
DIR may name the indices: one name a line, of 1, 2, ..., or "19 hair" lines.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from efficientlab_tf.data import cleaning
from efficientlab_tf.data.annotations.export import (
    UNKNOWN,
    Drawn,
    Export,
    drawn,
    listed,
    read_picture,
    reading,
)
from efficientlab_tf.data.cleaning import UNKNOWN as UNKNOWN_INDEX
from efficientlab_tf.data.cleaning import (
    Refused,
    holds_indices,
    read_mask,
    require_class,
)
from efficientlab_tf.data.sources.folder import IMAGES, MASKS, folder_jobs
from efficientlab_tf.data.sources.fss1000 import class_job, fss1000_jobs
from efficientlab_tf.data.sources.jobs import (
    ClassJob,
    by_stem,
    list_images,
    match_files,
)
from efficientlab_tf.errors import UserError

FORMAT = "images and masks"
MASK_VALUES = ("auto", "object", "index")
LABELS = "labels.txt"
OBJECT = "object"
"""What the class of masks without any name is called."""
VOC_IMAGES, VOC_MASKS = "JPEGImages", "SegmentationClass"

_WITHOUT_PARTNER = ("image without mask", "mask without image")


def find_jobs(folder: Path) -> list[ClassJob]:
    """Matches the pictures and masks of a folder; [] if it has no such layout.

    Raises:
      UserError: pictures without a mask, or masks without a picture.
    """
    if (folder / IMAGES).is_dir() and (folder / MASKS).is_dir():
        jobs = folder_jobs(folder, None)
    elif (folder / VOC_IMAGES).is_dir() and (folder / VOC_MASKS).is_dir():
        masks = by_stem(folder / VOC_MASKS)
        images = by_stem(folder / VOC_IMAGES)
        jobs = [match_files(OBJECT, images, masks)]
    elif list_images(folder):
        jobs = [class_job(folder)]
    else:
        jobs = _class_folders(folder)
    for job in jobs:
        for problem in _WITHOUT_PARTNER:
            names = [row.file for row in job.rows if row.reason == problem]
            if names:
                raise UserError(
                    f"{folder}: {problem}: {listed(names)}; each picture needs a mask "
                    "of the same name without suffix, and no other files may be there"
                )
    return jobs


def _class_folders(folder: Path) -> list[ClassJob]:
    folders = [f for f in sorted(folder.iterdir()) if f.is_dir() and f.name[0] != "."]
    if any((f / IMAGES).is_dir() and (f / MASKS).is_dir() for f in folders):
        return folder_jobs(folder, None)
    if any(list_images(f) for f in folders):
        return [job for job in fss1000_jobs(folder) if job.files or job.rows]
    return []


def read(folder: Path, jobs: list[ClassJob], mask_values: str = "auto") -> Export:
    """Reads pictures and masks.

    Args:
      folder: of all.
      jobs: from `find_jobs`.
      mask_values: what masks hold: "object", grey levels from 128 on (or 1, if there
        is nothing else); "index", classes and 255 for unknown; "auto" looks.

    Raises:
      UserError: an unreadable mask, or indices in class folders.
    """
    files = [mask for job in jobs for _, mask in job.files]
    levels = set().union(*map(mask_levels, files))
    index_masks = holds_indices(levels) if mask_values == "auto" else False
    index_masks |= mask_values == "index"
    notes = [
        f"{row.file}: {row.reason}"
        for job in jobs
        for row in job.rows
        if row.reason not in _WITHOUT_PARTNER
    ]
    several = len(jobs) > 1
    if levels == {UNKNOWN_INDEX}:
        raise UserError(
            f"{folder}: every mask is 255 all over; a mask is 255 on the object and 0 "
            "elsewhere"
        )
    if several and index_masks and levels - {0, 1, UNKNOWN_INDEX}:
        raise UserError(
            f"{folder}: the masks in its class folders hold several indices; put all "
            f"pictures into one {folder}/{IMAGES} and their masks into {MASKS}, or say "
            "--mask_values=object"
        )
    if several:
        names = tuple(job.class_name for job in jobs)
    elif not index_masks or levels <= {0, 1, UNKNOWN_INDEX}:
        names = (OBJECT,)
    else:
        names = _index_names(folder)

    def pictures() -> Iterable[Drawn]:
        for number, job in enumerate(jobs, start=1):
            for image_path, mask_path in job.files:
                mask = read_mask_file(mask_path, index_masks, notes)
                if several:
                    mask[mask > 0] = number
                name = f"{job.class_name}/" if several else ""
                image = read_picture(image_path)
                name += image_path.name
                yield drawn(name, image, mask, str(mask_path), notes)

    return Export(FORMAT, names, pictures(), len(files), notes, index_masks)


def mask_levels(path: Path) -> set[int]:
    """Returns the values of a mask file, see `cleaning.mask_levels`.

    Raises:
      UserError: it cannot be read.
    """
    with reading(str(path)):
        return cleaning.mask_levels(path.read_bytes())


def read_mask_file(
    path: Path, index_masks: bool, notes: list[str], classless: bool = False
) -> np.ndarray:
    """Returns a mask file as `Drawn.mask`: int32 [H, W].

    Args:
      path: of the file.
      index_masks: whether it holds indices, or object on background.
      notes: takes what was changed, in words.
      classless: whether one of indices may hold only 0 and 255, as of a frame that the
        object has left. Otherwise 255 is taken to mean the object, and refused.

    Raises:
      UserError: it cannot be read, or holds no known pixel.
    """
    with reading(str(path)):
        mask, changes = read_mask(path.read_bytes(), index_masks)
        if index_masks and not classless:
            require_class(mask)
        if index_masks and (mask == UNKNOWN_INDEX).all():
            raise Refused("mask is 255 (unknown) all over; draw the object into it")
        if not index_masks and mask.all():
            notes.append(f"{path.name}: the whole picture is marked as object")
    notes.extend(f"{path.name}: {change}" for change in changes)
    mask = mask.astype(np.int32)
    if index_masks:
        mask[mask == UNKNOWN_INDEX] = UNKNOWN
    return mask


def _index_names(folder: Path) -> tuple[str, ...]:
    """The names of 1 to 254: those in labels.txt, or the numbers themselves."""
    names = {i: str(i) for i in range(1, UNKNOWN_INDEX)}
    path = folder / LABELS
    if path.is_file():
        with reading(str(path)):
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            lines = [line.strip() for line in lines if line.strip()]
            numbered = [re.fullmatch(r"(\d+)\s+(.+)", line) for line in lines]
            if all(numbered):
                given = [(int(m[1]), m[2]) for m in numbered]
            else:
                start = 0 if lines[0].strip("_").lower() == "background" else 1
                given = list(enumerate(lines, start))
            for index, name in given:
                if index in names:
                    names[index] = name
            if len(set(names.values())) < len(names):
                raise ValueError("two indices have the same name")
    return tuple(names.values())
