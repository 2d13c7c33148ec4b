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
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple, Protocol

from efficientlab_tf.data.cleaning import CleaningOptions
from efficientlab_tf.data.example import REFUSED, ClassData, Example, ReportRow
from efficientlab_tf.data.example_files import load_example
from efficientlab_tf.data.file_names import match_stems
from efficientlab_tf.data.mask_deciding import decide
from efficientlab_tf.data.mask_readings import AUTO, INDEX, Reading
from efficientlab_tf.data.picture_files import IMAGE_SUFFIXES
from efficientlab_tf.errors import UserError

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
      rows: the report on files without a partner.
      index: of the class, in masks that hold several; None for masks of one class.
      reading: what the masks mean, if they were looked at already.
    """

    class_name: str
    files: list[tuple[Path, Path]]
    rows: list[ReportRow]
    index: int | None = None
    reading: Reading | None = None

    def read(self, options: CleaningOptions) -> ClassData:
        """Reads the class.

        Raises:
          UserError: its masks contradict each other, or hold several classes.
        """
        reading = self.reading
        refused: dict[Path, str] = {}
        if self.index is not None:
            options = dataclasses.replace(options, mask_values=INDEX, index=self.index)
        elif options.mask_values == AUTO and reading is None:
            reading = self._decide(refused)
        rows = [
            ReportRow(self.class_name, mask.name, REFUSED, reason)
            for mask, reason in refused.items()
        ]
        return collected(
            self.class_name,
            self.rows + rows,
            (
                load_example(self.class_name, image, mask, options, reading)
                for image, mask in self.files
                if mask not in refused
            ),
        )

    def _decide(self, refused: dict[Path, str]) -> Reading:
        """Finds out what the masks mean; they are of one class."""
        reading = decide([mask for _, mask in self.files], refused=refused)
        if not reading.is_binary:
            raise UserError(
                f"the masks of class {self.class_name} hold several classes "
                f"({reading.text}); set `mask_values` to index to keep them, or to "
                "instances if each number is an object"
            )
        return reading


def collected(
    class_name: str,
    rows: Iterable[ReportRow],
    loaded: Iterable[tuple[Example | None, list[ReportRow]]],
) -> ClassData:
    """Puts together what loading the examples of a class one by one gave."""
    data = ClassData(class_name, [], list(rows))
    for example, example_rows in loaded:
        data.rows.extend(example_rows)
        if example is not None:
            data.examples.append(example)
    return data


def read_classes(
    jobs: Sequence[Job], options: CleaningOptions, workers: int
) -> Iterator[ClassData]:
    """Runs jobs in `workers` processes (1: in this one) and yields in their order."""
    workers = min(workers, len(jobs))
    if workers <= 1:
        for job in jobs:
            yield job.read(options)
        return
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, spawn, _prepare_worker)
    waiting: deque[Future[ClassData]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(job.read, options))
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


def match_files(
    class_name: str, images: dict[str, list[Path]], masks: dict[str, list[Path]]
) -> ClassJob:
    """Matches the images and masks of one class by name, see `match_stems`.

    Of several `images` or `masks` of a name the first is used.
    """
    partners = match_stems(images, masks)
    # From here on a mask goes by the name of its image.
    owners = {mask: image for image, mask in partners.items()}
    masks = {owners.get(stem, stem): found for stem, found in masks.items()}
    files = []
    rows = []

    def refuse(path: Path, reason: str) -> None:
        rows.append(ReportRow(class_name, path.name, REFUSED, reason))

    for stem in sorted(images.keys() | masks.keys(), key=natural_key):
        for kind, found in (("image", images), ("mask", masks)):
            for extra in found.get(stem, [])[1:]:
                used = found[stem][0].name
                refuse(extra, f"a second {kind} of the same name; {used} used")
        if stem not in masks:
            refuse(images[stem][0], "image without mask")
        elif stem not in images:
            refuse(masks[stem][0], "mask without image")
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
    return [path for path in _visible(directory) if path.is_dir()]


def list_images(directory: Path) -> list[Path]:
    """Returns the visible image files in `directory`, sorted by name."""
    return [
        path
        for path in _visible(directory)
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    ]


def _visible(directory: Path) -> list[Path]:
    return sorted(p for p in directory.iterdir() if not p.name.startswith("."))


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
    multiprocessing.parent_process().join()
    os._exit(1)
