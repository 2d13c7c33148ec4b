"""Pictures with mask files beside them, in the layouts that people use.

DIR/images + DIR/masks         the same stems
DIR/1.jpg + DIR/1.png          FSS-1000's; a PNG picture has its mask in 1_mask.png
DIR/CLASS/... of either kind   several classes, whose pictures mark that class alone
DIR/JPEGImages + DIR/SegmentationClass     PASCAL VOC's

What masks mean is decided for all of them, see `mask_deciding`. In DIR labels.txt (or
class_names.txt) may name numbers: one name a line, of 1, 2, ..., or "19 hair" lines,
as Roboflow's _classes.csv has them;
labelmap.txt may name colours, as CVAT writes it.
"""

import re
from pathlib import Path

import numpy as np

from efficientlab_tf.data.annotations.cvat import LABELMAP, read_labelmap
from efficientlab_tf.data.annotations.export import (
    UNKNOWN,
    Drawn,
    Export,
    drawn,
    label_text,
    listed,
    read_picture,
    reading,
)
from efficientlab_tf.data.mask_deciding import decide
from efficientlab_tf.data.mask_readings import (
    AUTO,
    BACKGROUND_NAMES,
    INDEX,
    THE_OBJECT,
    Reading,
    require_class,
)
from efficientlab_tf.data.mask_readings import UNKNOWN as UNKNOWN_INDEX
from efficientlab_tf.data.picture_files import (
    IMAGE_SUFFIXES,
    Refused,
    count_values,
    read_bytes,
)
from efficientlab_tf.data.sources.folder import (
    IMAGES,
    MASKS,
    folder_jobs,
    has_both,
    within,
)
from efficientlab_tf.data.sources.fss1000 import class_job, fss1000_jobs
from efficientlab_tf.data.sources.jobs import (
    ClassJob,
    by_stem,
    list_images,
    match_files,
)
from efficientlab_tf.data.sources.voc import VOC_CLASSES
from efficientlab_tf.errors import UserError

FORMAT = "images and masks"
LABELS = ("labels.txt", "class_names.txt", "_classes.csv")
VOC_IMAGES, VOC_MASKS = "JPEGImages", "SegmentationClass"

_WITHOUT_PARTNER = ("image without mask", "mask without image")
_OF_VOC = re.compile(r"20\d\d_\d{6}")


def find_jobs(folder: Path) -> list[ClassJob]:
    """Matches the pictures and masks of a folder; [] if it has no such layout.

    Raises:
      UserError: pictures without a mask, or masks without a picture.
    """
    if has_both(folder):
        jobs = folder_jobs(folder, None)
    elif (folder / VOC_IMAGES).is_dir() and (folder / VOC_MASKS).is_dir():
        masks = by_stem(folder / VOC_MASKS)
        images = by_stem(folder / VOC_IMAGES)
        jobs = [match_files(THE_OBJECT, images, masks)]
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
                    "of the same name without suffix (or ending in _mask), beside it "
                    f"or in folders called {IMAGES} and {MASKS}, and no other files "
                    f"may be there{_unread(folder)}"
                )
    return jobs


def _unread(folder: Path) -> str:
    """Says which files may be what is missing, but are of no kind that is read."""
    others = [
        path.name
        for path in sorted(folder.rglob("*"))
        if not path.is_dir()
        if not any(part[0] == "." for part in path.relative_to(folder).parts)
        if path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file()
        if path.name not in (*LABELS, LABELMAP)
    ]
    read = "exports of LabelMe, COCO, CVAT and Label Studio are"
    return f"; not read: {listed(others)} ({read})" if others else ""


def _class_folders(folder: Path) -> list[ClassJob]:
    folders = [f for f in sorted(folder.iterdir()) if f.is_dir() and f.name[0] != "."]
    if any(map(has_both, folders)):
        return folder_jobs(folder, None)
    if any(list_images(f) for f in folders):
        return [job for job in fss1000_jobs(folder) if job.files or job.rows]
    return []


def read(folder: Path, jobs: list[ClassJob], mask_values: str = AUTO) -> Export:
    """Reads pictures and masks.

    Args:
      folder: of all.
      jobs: from `find_jobs`.
      mask_values: one of `mask_readings.MASK_VALUES`.

    Raises:
      UserError: an unreadable mask, masks that do not say what they mean, or several
        classes in the masks of class folders.
    """
    files = [mask for job in jobs for _, mask in job.files]
    several = len(jobs) > 1
    means = decide(
        files, mask_values, names=_names(folder, files), colors=_colors(folder)
    )
    if several and not means.is_binary:
        raise UserError(
            f"{folder}: the masks in its class folders hold several classes "
            f"({means.text}); put all pictures into one {folder}/{IMAGES} and their "
            f"masks into {MASKS}, or set `mask_values` to object or instances"
        )
    if several:
        names = tuple(job.class_name for job in jobs)
    else:
        last = max(means.names, default=1)
        names = tuple(means.names.get(i, str(i)) for i in range(1, last + 1))
    notes = [
        f"{row.file}: {row.reason}"
        for job in jobs
        for row in job.rows
        if row.reason not in _WITHOUT_PARTNER
    ]
    annotated: set[int] = set()

    def draw(number: int, image_path: Path, mask_path: Path) -> Drawn:
        mask = read_mask_file(mask_path, means, notes)
        name = image_path.name
        if several:
            mask[mask > 0] = number
            name = f"{jobs[number - 1].class_name}/{name}"
        annotated.update(n for n in count_values(mask) if n > 0)
        image = read_picture(image_path, notes)
        return drawn(name, image, mask, str(mask_path), notes)

    pictures = (
        draw(number, *pair)
        for number, job in enumerate(jobs, start=1)
        for pair in job.files
    )
    return Export(FORMAT, names, pictures, len(files), notes, means, annotated)


def read_mask_file(
    path: Path, means: Reading, notes: list[str], classless: bool = False
) -> np.ndarray:
    """Returns a mask file as `Drawn.mask`: int16 [H, W].

    Args:
      path: of the file.
      means: what the files of its set mean.
      notes: takes what was changed, in words.
      classless: whether one of numbers may hold only 0 and 255, as of a frame that the
        object has left. Otherwise 255 is taken to mean the object, and refused.

    Raises:
      UserError: it cannot be read, or holds no known pixel.
    """
    with reading(str(path)):
        mask, changes = means.read(path)
        if means.kind == INDEX and not classless:
            require_class(mask)
        if (mask == UNKNOWN_INDEX).all():
            raise Refused("mask is 255 (unknown) all over; draw the object into it")
    notes.extend(f"{path.name}: {change}" for change in changes)
    mask = mask.astype(np.int16)
    mask[mask == UNKNOWN_INDEX] = UNKNOWN
    return mask


def _names(folder: Path, files: list[Path]) -> dict[int, str]:
    """The names of the numbers in masks, where a list of labels gives them."""
    path = _beside(folder, *LABELS)
    if path is None:
        if files and all(
            f.parent.name == VOC_MASKS and _OF_VOC.fullmatch(f.stem) for f in files
        ):
            return dict(VOC_CLASSES)
        return {}
    with reading(str(path)):
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
        lines = [line.strip() for line in lines if line.strip()]
        if path.suffix == ".csv":
            del lines[0]
        numbered = [re.fullmatch(r"(\d{1,9})[\s:,]+(.+)", line) for line in lines]
        if all(numbered):
            given = [(int(m[1]), label_text(m[2])) for m in numbered]
        else:
            known = [line.lower() for line in lines]
            start = 0 if known[0].strip("_") in BACKGROUND_NAMES else 1
            start = -1 if known[0] == "__ignore__" else start
            given = [(i, label_text(n)) for i, n in enumerate(lines, start)]
        names = {i: name for i, name in given if 0 < i < UNKNOWN_INDEX}
        unnamed = {str(i) for i in range(1, UNKNOWN_INDEX) if i not in names}
        if len(set(names.values())) < len(names) or unnamed & set(names.values()):
            raise ValueError("two indices have the same name")
    return names


def _colors(folder: Path) -> dict[int, str]:
    """The names of colours, where a map of labels gives them."""
    path = _beside(folder, LABELMAP)
    if path is None:
        return {}
    return {code: name for name, code in read_labelmap(path).items()}


def _beside(folder: Path, *names: str) -> Path | None:
    """The first of some files in a folder, or in that of the masks."""
    places = (folder, within(folder, MASKS), folder / VOC_MASKS)
    paths = (place / name for name in names for place in places)
    return next((path for path in paths if path.is_file()), None)
