"""DAVIS's layout: frames of videos with a mask each.

    ROOT/JPEGImages/480p/SEQ/00000.jpg
    ROOT/Annotations/480p/SEQ/00000.png
    ROOT/ImageSets/.../val.txt

Masks of DAVIS 2016 show one object as 0 and 255; those of DAVIS 2017 show several
objects by the indices of a palette PNG, with 255 for unknown, or by its colours. Every
object of a video is a class of its own. Its examples are the frames that show it, in
the order of time.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from efficientlab_tf.data.example import LEFT_OUT, ReportRow
from efficientlab_tf.data.mask_deciding import decide
from efficientlab_tf.data.mask_readings import COLORS, INDEX, UNKNOWN
from efficientlab_tf.data.picture_files import Refused
from efficientlab_tf.data.sources.jobs import (
    ClassJob,
    by_stem,
    list_folders,
    match_files,
)
from efficientlab_tf.errors import UserError

IMAGES, MASKS, SETS = "JPEGImages", "Annotations", "ImageSets"
RESOLUTION = "480p"
ABSENT = "the object is not in the frame"


class DavisSequence(NamedTuple):
    """One video: its folder's name, and the folders of its frames and masks."""

    name: str
    frames: Path
    masks: Path


def find_sequences(
    root: Path,
    *,
    resolution: str = RESOLUTION,
    split: str = "",
    names: Sequence[str] = (),
) -> list[DavisSequence]:
    """Lists the sequences of a folder in DAVIS's layout, by name.

    Args:
      root: holds JPEGImages and Annotations.
      resolution: the folder below them.
      split: takes only the sequences of this list in ImageSets, such as 2017/val. A
        line of it is a sequence's name, or the paths of a frame and its mask (DAVIS
        2016).
      names: takes only these sequences.

    Raises:
      UserError: not this layout, or no such list or sequence.
    """
    root = Path(root)
    images, masks = (root / folder / resolution for folder in (IMAGES, MASKS))
    for folder in (images, masks):
        if not folder.is_dir():
            raise UserError(
                f"{root} has no folder {folder.relative_to(root)}; expected DAVIS's "
                f"layout: {IMAGES}/{resolution}/SEQ/00000.jpg and "
                f"{MASKS}/{resolution}/SEQ/00000.png"
            )
    found = {folder.name: folder for folder in list_folders(images)}
    if not found:
        raise UserError(f"{images} has no folders of sequences")
    wanted = _split(root, split) if split else list(found)
    if names:
        _check(names, wanted, f"`split` {split}" if split else str(images))
        wanted = [name for name in wanted if name in names]
    _check(wanted, list(found), str(images))
    _check(wanted, [f.name for f in list_folders(masks)], str(masks))
    return [DavisSequence(n, found[n], masks / n) for n in sorted(wanted)]


def davis_jobs(sequences: Sequence[DavisSequence]) -> list[ClassJob]:
    """Lists the objects of sequences, with progress.

    An object of masks with indices is called SEQ_INDEX, that of 0/255 masks SEQ.

    Raises:
      UserError: a mask that cannot be read.
    """
    jobs = []
    for sequence in tqdm(sequences, desc="masks", unit="sequence", dynamic_ncols=True):
        job = match_files(
            sequence.name, by_stem(sequence.frames), by_stem(sequence.masks)
        )
        files = [mask for _, mask in job.files]
        means = decide(files)
        try:
            values = {m: set(np.unique(means.read(m)[0]).tolist()) for m in files}
        except (Refused, OSError) as error:
            raise UserError(f"{sequence.masks}: {error}; replace the mask") from error
        if means.kind in (INDEX, COLORS):
            for index in sorted(set().union(*values.values()) - {0, UNKNOWN}):
                files = [pair for pair in job.files if index in values[pair[1]]]
                name = f"{sequence.name}_{index}"
                rows = [row._replace(class_name=name) for row in job.rows]
                jobs.append(ClassJob(name, files, rows, index, means))
            continue
        rows = [
            ReportRow(job.class_name, image.name, LEFT_OUT, ABSENT)
            for image, mask in job.files
            if 1 not in values[mask]
        ]
        files = [pair for pair in job.files if 1 in values[pair[1]]]
        jobs.append(job._replace(files=files, rows=job.rows + rows, reading=means))
    return jobs


def _split(root: Path, split: str) -> list[str]:
    folder = root / SETS
    path = folder / f"{split}.txt"
    if not path.is_file():
        lists = (p.relative_to(folder) for p in folder.glob("**/*.txt"))
        known = ", ".join(sorted(p.with_suffix("").as_posix() for p in lists))
        raise UserError(f"no such split: {path}; there are {known or 'none'}")
    entries = map(str.split, path.read_text(encoding="utf-8").splitlines())
    frames = [Path(entry[0]) for entry in entries if entry]
    return list(dict.fromkeys(frame.parent.name or frame.name for frame in frames))


def _check(names: Sequence[str], known: Sequence[str], where: str) -> None:
    for name in names:
        if name not in known:
            there = ", ".join(sorted(known)[:20])
            raise UserError(f"no sequence {name!r} in {where}; there are {there}")
