"""`read_support`: labelled pictures in whatever form they come."""

import contextlib
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from efficientlab_tf.data.annotations import (
    coco,
    cvat,
    cvat_xml,
    label_studio,
    labelme,
    mask_files,
)
from efficientlab_tf.data.annotations.archives import unpack
from efficientlab_tf.data.annotations.class_names import pick
from efficientlab_tf.data.annotations.export import (
    UNKNOWN,
    Export,
    PictureFinder,
    listed,
    load_json,
    walk_files,
)
from efficientlab_tf.data.annotations.vanishing import Shrunk

# Not the equal constant of `episode`: converters' worker processes import this package
# and need no TensorFlow.
from efficientlab_tf.data.mask_readings import UNKNOWN as IGNORE
from efficientlab_tf.data.mask_readings import Reading
from efficientlab_tf.data.picture_files import count_values, rgb_array
from efficientlab_tf.data.sources.folder import MASKS
from efficientlab_tf.errors import UserError

FORMATS = (
    "a folder with images/ and masks/, pictures with masks of the same names, or an "
    "export of LabelMe, COCO, CVAT (Segmentation mask 1.1, CVAT for images 1.1) or "
    "Label Studio (JSON)"
)
MOST_MARKED = 0.9
_DOCUMENTS = (".json", ".xml")
_MOST_NOTES = 50
_URGENT = "warning"
_NOT_ALL = "pick the others with `classes`"


class LabelledPicture(NamedTuple):
    """A support example.

    Attributes:
      name: of the image file.
      image: uint8 [H, W, 3], RGB.
      mask: uint8 [H, W]; 0 background, 1..K classes, 255 unknown.
    """

    name: str
    image: np.ndarray
    mask: np.ndarray


class Support(NamedTuple):
    """A support set as it was read.

    Attributes:
      format: what it was read from, for people.
      classes: the names of classes 1..K.
      pictures: the examples.
      values: for each class its value in the reader's masks; in files of numbers it
        is what the file holds.
      reading: what mask files mean; None for an annotation tool's export.
      notes: in words: first what the labels were read as, with the share of each
        class in all pixels; then what was left out or changed, warnings first.
    """

    format: str
    classes: tuple[str, ...]
    pictures: list[LabelledPicture]
    values: tuple[int, ...]
    reading: Reading | None
    notes: list[str]


def read_support(
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    classes: Sequence[str] = (),
    mask_values: str = "auto",
) -> Support:
    """Reads labelled pictures; what they are is told by looking.

    Args:
      path: a folder, an export's JSON or XML, or a ZIP archive of either.
      size: (height, width) that every picture is resized to, in pixels; images
        bilinearly with antialiasing, masks to the nearest pixel. None keeps sizes.
      classes: names of the classes to keep, in this order; others become background.
        Empty: all that occur, as the export orders them, or else by name.
      mask_values: what mask files hold, one of `mask_readings.MASK_VALUES`; auto
        looks, and refuses what may mean several things.

    Raises:
      UserError: no such thing, of no known format, malformed, without any labelled
        pixel, or without one of `classes`.
    """
    path = Path(path).expanduser()
    if not path.is_dir() and not path.is_file():
        raise UserError(f"no such file or folder: {path}; give {FORMATS}")
    with _folder_of(path) as folder:
        try:
            export = _open_export(path, folder, mask_values)
            return _collect(path, export, size, classes)
        except UserError as error:
            if path.is_dir() or path.suffix.lower() in _DOCUMENTS:
                raise
            # Say where in the archive it is, not where it was unpacked.
            text = str(error).replace(str(folder), str(path))
            raise UserError(text) from error


@contextlib.contextmanager
def _folder_of(path: Path) -> Iterator[Path]:
    """Yields the folder that holds an export: its own, or that of an unpacked ZIP."""
    if path.is_dir():
        yield path
    elif zipfile.is_zipfile(path):
        with tempfile.TemporaryDirectory(prefix="efficientlab_tf_") as folder:
            folder = Path(folder).resolve()
            unpack(path, folder)
            yield folder
    elif path.suffix.lower() in _DOCUMENTS:
        # COCO keeps annotations/instances.json beside the folders of its images.
        beside = path.resolve().parent
        yield beside.parent if beside.name == "annotations" else beside
    else:
        raise UserError(f"{path} is no folder, JSON, XML or ZIP; give {FORMATS}")


def _open_export(path: Path, folder: Path, mask_values: str) -> Export:
    if path.is_file() and path.suffix.lower() in _DOCUMENTS:
        export = _read_documents(folder, walk_files(folder), [path])
        if export is None:
            raise UserError(
                f"{path} is of none of the formats that are read; give {FORMATS}"
            )
        return export
    folder = _single_folder(folder)
    files = [] if (folder / MASKS).is_dir() else walk_files(folder)
    maps = [f for f in files if f.name == cvat.LABELMAP]
    maps = [f for f in maps if (f.parent / cvat.CLASS_MASKS).is_dir()]
    if len(maps) > 1:
        raise UserError(
            f"{path} holds {len(maps)} exports of CVAT, {listed(maps)}; give one"
        )
    if maps:
        return cvat.read(folder, files, maps[0])
    tried = [f for f in files if f.suffix.lower() in _DOCUMENTS]
    export = _read_documents(folder, files, tried)
    if export is not None:
        return export
    jobs = mask_files.find_jobs(folder)
    if not any(job.files for job in jobs):
        found = (
            f"; its JSON is of none of the formats: {listed(tried)}" if tried else ""
        )
        raise UserError(f"{path} holds no labelled pictures{found}; give {FORMATS}")
    return mask_files.read(folder, jobs, mask_values)


def _single_folder(folder: Path) -> Path:
    """Steps into a folder that is all that a folder holds, as archives often do."""
    while True:
        visible = [f for f in folder.iterdir() if f.name[0] not in "._"]
        if len(visible) != 1 or not visible[0].is_dir():
            return folder
        folder = visible[0]


def _reader(path: Path) -> tuple[ModuleType, object] | None:
    """Returns the reader of a document, and what it reads; None for anything else."""
    if path.suffix.lower() == ".xml":
        return (cvat_xml, None) if cvat_xml.recognises(path) else None
    document = load_json(path)
    for reader in (labelme, coco, label_studio):
        if reader.recognises(document):
            return reader, document
    return None


def _read_documents(
    folder: Path, files: list[Path], tried: list[Path]
) -> Export | None:
    """Reads the documents of one format among those tried; None if there are none."""
    found = [(file, known) for file in tried if (known := _reader(file))]
    if not found:
        return None
    paths = [path for path, _ in found]
    readers = {reader for _, (reader, _) in found}
    if len(readers) > 1:
        formats = " and ".join(sorted(reader.FORMAT for reader in readers))
        raise UserError(
            f"{folder} holds exports of {formats}: {listed(paths)}; give one of them"
        )
    (reader,) = readers
    finder = PictureFinder(folder.resolve(), [file.resolve() for file in files])
    if reader is labelme:
        documents = [(path, document) for path, (_, document) in found]
        return labelme.read(documents, finder)
    if len(found) > 1:
        raise UserError(
            f"{folder} holds {len(found)} exports of {reader.FORMAT}: "
            f"{listed(paths)}; give one of them"
        )
    ((path, (_, document)),) = found
    if reader is cvat_xml:
        return cvat_xml.read(path, finder)
    return reader.read(path, document, finder)


def _collect(
    path: Path, export: Export, size: tuple[int, int] | None, classes: Sequence[str]
) -> Support:
    names = {name: i for i, name in enumerate(export.names, start=1)}
    read: list[tuple[str, np.ndarray, np.ndarray]] = []
    counts = np.zeros(len(names) + 2, np.int64)
    notes = export.notes
    shrunk = Shrunk(export.names, size)
    for picture in tqdm(
        export.pictures,
        total=export.count,
        desc="reading",
        unit="picture",
        delay=2,
        leave=False,
        dynamic_ncols=True,
    ):
        if picture is None:
            continue
        own = count_values(picture.mask)
        if max(own) > len(names):
            raise UserError(
                f"{path}: masks hold the index {max(own)}, but there are only "
                f"{len(names)} classes"
            )
        for number, pixels in own.items():
            counts[number + 1] += pixels
        marked = {number: pixels for number, pixels in own.items() if number > 0}
        if max(marked.values(), default=0) > MOST_MARKED * picture.mask.size:
            cure = "label it anew"
            if export.reading:
                binary = export.reading.is_binary
                cure = "set `mask_values` to dark" if binary else _NOT_ALL
            notes.append(
                f"{picture.name}: warning: one class covers more than nine tenths of "
                f"the picture; if that is the background, {cure}"
            )
        image, mask = picture.picture, picture.mask
        if size is not None:
            image = image.resize(size[::-1], Image.Resampling.BILINEAR)
            mask = shrunk.resize(picture.name, mask, marked)
        read.append((picture.name, rgb_array(image), mask))
    present = [name for name, n in names.items() if counts[n + 1]]
    if not present:
        why = next((f" ({note})" for note in notes if "left out" in note), "")
        raise UserError(
            f"{path}: no picture marks anything{why}; label the object in at least one"
        )
    hidden = [n for n, i in names.items() if i in export.annotated and n not in present]
    if hidden:
        notes.append(
            f"warning: nothing is left of class {', '.join(hidden)}: other classes "
            "cover it, or it is smaller than a pixel"
        )
    if len(present) > 1 and not counts[1]:
        notes.append(
            "warning: no pixel of any picture is background; if one of the classes is, "
            f"{_NOT_ALL}"
        )
    chosen = pick(classes, present, names, path) or tuple(present)
    if len(chosen) >= IGNORE:
        raise UserError(
            f"{path} has {len(chosen)} classes, more than {IGNORE - 1}; pick with "
            "`classes`"
        )
    if others := [name for name in present if name not in chosen]:
        notes.append(f"background, as `classes` leaves it out: {listed(others)}")
    values = tuple(names[name] for name in chosen)
    table = np.zeros(len(export.names) + 2, np.uint8)
    table[UNKNOWN] = IGNORE
    for index, value in enumerate(values, start=1):
        table[value] = index
    pictures = [LabelledPicture(name, image, table[mask]) for name, image, mask in read]
    shrunk.remark(chosen, [(p.name, p.mask) for p in pictures], notes)
    return Support(
        export.format,
        chosen,
        pictures,
        values,
        export.reading,
        [_summary(export, chosen, counts, names), *merged(notes)],
    )


def _summary(export: Export, chosen, counts: np.ndarray, names) -> str:
    """What was read, and the share of each class in all pixels."""
    total = max(counts.sum(), 1)
    shares = [
        f"{name} {100 * counts[names[name] + 1] / total:.1f} %" for name in chosen
    ]
    means = f", read as {export.reading.text}" if export.reading else ""
    unknown = f", unknown {100 * counts[0] / total:.1f} %" if counts[0] else ""
    return f"{export.format}{means}; of all pixels {listed(shares, 20)}{unknown}"


def merged(notes: Sequence[str]) -> list[str]:
    """Puts notes together that say the same of several files."""
    files: dict[str, list[str]] = {}
    for note in dict.fromkeys(notes):
        file, colon, text = note.partition(": ")
        files.setdefault(text if colon else note, []).append(file if colon else "")
    lines = [
        f"{listed(names)}: {text}" if names[0] else text
        for text, names in sorted(
            files.items(), key=lambda item: _URGENT not in item[0]
        )
    ]
    more = len(lines) - _MOST_NOTES
    return lines[:_MOST_NOTES] + [f"{more} more notes"] * (more > 0)
