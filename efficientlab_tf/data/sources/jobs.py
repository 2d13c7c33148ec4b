"""Reads classes of image and mask files, several at a time.

A class is one job, or several jobs of the same name in a row if it has too many
pictures for the memory. Jobs run in spawned processes, since decoding holds the
interpreter lock too often for threads. Neither this module nor what it imports needs
TensorFlow, so a process starts in a fraction of a second.
"""

import dataclasses
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple, Protocol

from efficientlab_tf.data.cleaning import CleaningOptions
from efficientlab_tf.data.example import REFUSED, ClassData, ReportRow
from efficientlab_tf.data.example_files import load_example
from efficientlab_tf.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")

PART = 100
"""Pictures of one job, where a class is read in parts."""


class Job(Protocol):
    """What a worker process reads; it is pickled on its way there."""

    def read(self, options: CleaningOptions) -> ClassData:
        """Reads a class, or a part of it."""


class ClassJob(NamedTuple):
    """One class to read.

    Attributes:
      class_name: the class.
      files: (image, mask) paths in the order to be stored.
      rows: the report on files that were refused because they have no partner.
      index: the index of the class, for masks that hold several classes; None for
        masks that show one class.
    """

    class_name: str
    files: list[tuple[Path, Path]]
    rows: list[ReportRow]
    index: int | None = None

    def read(self, options: CleaningOptions) -> ClassData:
        """Reads the class."""
        if self.index is not None:
            options = dataclasses.replace(options, index_masks=True, index=self.index)
        examples = []
        rows = list(self.rows)
        for image_path, mask_path in self.files:
            example, example_rows = load_example(
                self.class_name, image_path, mask_path, options
            )
            rows += example_rows
            if example is not None:
                examples.append(example)
        return ClassData(self.class_name, examples, rows)


def read_classes(
    jobs: Sequence[Job], options: CleaningOptions, workers: int
) -> Iterator[ClassData]:
    """Runs jobs in `workers` processes (1: in this one) and yields in their order."""
    workers = min(workers, len(jobs))
    if workers <= 1:
        for job in jobs:
            yield run_job(job, options)
        return
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare_worker,
    )
    waiting: deque[Future[ClassData]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(run_job, job, options))
            # Bounds the memory that results take while the shards are written.
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed, probably for lack of memory; `workers` must "
            f"be below {workers} here"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def run_job(job: Job, options: CleaningOptions) -> ClassData:
    """Runs one job; a function, so that worker processes can be given it."""
    return job.read(options)


def match_files(
    class_name: str, images: dict[str, list[Path]], masks: dict[str, list[Path]]
) -> ClassJob:
    """Matches the images and masks of one class by file name without suffix.

    Args:
      class_name: the class.
      images: stem to image files; of several the first is used.
      masks: stem to mask files; of several the first is used.
    """
    files = []
    rows = []
    for stem in sorted(images.keys() | masks.keys(), key=natural_key):
        for kind, found in (("image", images), ("mask", masks)):
            for extra in found.get(stem, [])[1:]:
                reason = f"a second {kind} of the same name; {found[stem][0].name} used"
                rows.append(ReportRow(class_name, extra.name, REFUSED, reason))
        if stem not in masks:
            name = images[stem][0].name
            rows.append(ReportRow(class_name, name, REFUSED, "image without mask"))
        elif stem not in images:
            name = masks[stem][0].name
            rows.append(ReportRow(class_name, name, REFUSED, "mask without image"))
        else:
            files.append((images[stem][0], masks[stem][0]))
    return ClassJob(class_name, files, rows)


def natural_key(text: str) -> tuple:
    """Sort key that puts "2" before "10"."""
    return (0, int(text), text) if text.isdecimal() else (1, 0, text)


def list_folders(directory: Path) -> list[Path]:
    """Returns the visible folders in `directory`, sorted by name.

    Raises:
      UserError: no such folder.
    """
    if not directory.is_dir():
        raise UserError(f"no such folder: {directory}; give the folder of the images")
    return sorted(
        path
        for path in directory.iterdir()
        if path.is_dir() and not path.name.startswith(".")
    )


def list_images(directory: Path) -> list[Path]:
    """Returns the visible image files in `directory`, sorted by name."""
    return sorted(
        path
        for path in directory.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not path.name.startswith(".")
    )


def by_stem(directory: Path) -> dict[str, list[Path]]:
    """Returns the visible image files in `directory` by name without suffix."""
    files: dict[str, list[Path]] = {}
    for path in list_images(directory):
        files.setdefault(path.stem, []).append(path)
    return files


def _prepare_worker() -> None:
    # Ctrl-C reaches the whole group of processes; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A pool's processes would wait for ever if their parent were killed outright.
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
