"""PASCAL VOC's segmentation layout: many classes in one picture, one index each.

JPEGImages/NAME.jpg has its mask in SegmentationClass/NAME.png, whose values (also of a
palette PNG) are 0 for background, 1, 2, ... for classes and 255 for "void", or VOC's
colours of these.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from efficientlab_tf.data.example import REFUSED, ReportRow
from efficientlab_tf.data.mask_readings import INDEX, Reading
from efficientlab_tf.data.picture_files import Refused, read_bytes
from efficientlab_tf.data.sbd_masks import SBD_SUFFIX, read_sbd_mask
from efficientlab_tf.data.sources.jobs import ClassJob, list_images
from efficientlab_tf.errors import UserError

IMAGES = "JPEGImages"
MASKS = "SegmentationClass"
SETS = Path("ImageSets") / "Segmentation"

_NAMES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
    *("sheep", "sofa", "train", "tvmonitor"),
)
VOC_CLASSES: Mapping[int, str] = dict(enumerate(_NAMES, start=1))
"""Index to name of the 20 classes of PASCAL VOC."""


def read_labels(path: Path) -> dict[int, str]:
    """Reads class names from lines of "INDEX NAME"; index 0 is the background.

    Raises:
      UserError: unreadable, or a line of another form.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"cannot read `labels` {path}: {error.strerror}") from error
    labels = {}
    for number, line in enumerate(lines, start=1):
        index, _, name = line.strip().partition(" ")
        if not line.strip() or index == "0":
            continue
        if not index.isdecimal() or not 0 < int(index) < 255 or not name.strip():
            raise UserError(
                f"{path}:{number}: expected an index from 1 to 254, a space and the "
                f"name of a class; received {line!r}"
            )
        labels[int(index)] = name.strip()
    return labels


def voc_jobs(
    root: Path,
    labels: Mapping[int, str] = VOC_CLASSES,
    *,
    image_set: str | None = None,
    classes: Collection[str] | None = None,
) -> list[ClassJob]:
    """Lists the classes of a folder in VOC's layout, with progress.

    Args:
      root: holds JPEGImages and SegmentationClass.
      labels: index to class name.
      image_set: takes only the pictures of this list in ImageSets/Segmentation, such
        as "trainval".
      classes: takes only these classes.

    Returns:
      One job for each class that occurs, by index, its files by name. A mask without
      picture is reported for every class that it shows.

    Raises:
      UserError: not this layout, an unknown set or class, or an unreadable mask.
    """
    root = Path(root)
    check_layout(root)
    if unknown := sorted(set(classes or ()) - set(labels.values())):
        known = ", ".join(labels.values())
        raise UserError(f"unknown class {unknown[0]!r}; choose from {known}")
    images = {path.stem: path for path in list_images(root / IMAGES)}
    masks = {path.stem: path for path in list_images(root / MASKS)}
    stems = sorted(masks)
    if image_set is not None:
        stems = _image_set(root / SETS / f"{image_set}.txt", masks)
    files: dict[int, list[tuple[Path, Path]]] = {index: [] for index in labels}
    rows: dict[int, list[ReportRow]] = {index: [] for index in labels}
    for stem in tqdm(stems, desc="masks", unit="mask", dynamic_ncols=True):
        try:
            indices = mask_indices(masks[stem])
        except Refused as error:
            raise UserError(
                f"cannot read mask {masks[stem]}: {error}; replace it"
            ) from error
        for index in indices & labels.keys():
            if stem in images:
                files[index].append((images[stem], masks[stem]))
            else:
                row = labels[index], masks[stem].name, REFUSED, "mask without image"
                rows[index].append(ReportRow(*row))
    return [
        ClassJob(name, files[index], rows[index], index)
        for index, name in labels.items()
        if (files[index] or rows[index]) and (classes is None or name in classes)
    ]


def check_layout(root: Path) -> None:
    """Raises UserError if a folder is not in VOC's layout."""
    for folder in (IMAGES, MASKS):
        if not (root / folder).is_dir():
            raise UserError(
                f"{root} has no folder {folder}; expected PASCAL VOC's layout: "
                f"{IMAGES}/ with pictures and {MASKS}/ with their masks"
            )


def mask_indices(path: Path) -> set[int]:
    """Returns which indices a mask holds; a mask of SBD is a .mat file.

    Raises:
      Refused: it cannot be read, or has colours that are not VOC's.
    """
    try:
        if path.suffix.lower() == SBD_SUFFIX:
            mask = read_sbd_mask(read_bytes(path))
        else:
            mask, _ = Reading(INDEX).read(path)
    except OSError as error:
        raise Refused(error.strerror) from error
    return set(np.unique(mask).tolist())


def _image_set(path: Path, masks: Mapping[str, Path]) -> list[str]:
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.txt")))
        raise UserError(f"no such image set: {path}; there are {known or 'none'}")
    stems = path.read_text(encoding="utf-8").split()
    missing = [stem for stem in stems if stem not in masks]
    if missing:
        raise UserError(
            f"{path} lists {missing[0]}, which has no mask in {MASKS} ({len(missing)} "
            "such names); complete the download"
        )
    return stems
