"""`read_support`: labelled pictures in whatever form they come."""

import contextlib
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from efficientlab_tf.data.annotations import (
    coco,
    cvat,
    label_studio,
    labelme,
    mask_files,
)
from efficientlab_tf.data.annotations.export import (
    UNKNOWN,
    Export,
    PictureFinder,
    listed,
    load_json,
    walk_files,
)

# Not the equal constant of `episode`: converters' worker processes import this package
# and need no TensorFlow.
from efficientlab_tf.data.annotations.resizing import resize_annotations, resize_image
from efficientlab_tf.data.cleaning import UNKNOWN as IGNORE
from efficientlab_tf.data.sources.folder import MASKS
from efficientlab_tf.errors import UserError

FORMATS = (
    "a folder with images/ and masks/, pictures with masks of the same names, or an "
    "export of LabelMe, COCO, CVAT (Segmentation mask 1.1) or Label Studio (JSON)"
)
MAX_UNPACKED = 4 * 2**30
MAX_MEMBERS = 20_000
MAX_RATIO = 200
_HARMLESS = 2**28
_OUTSIDE = re.compile(r"^/|^[A-Za-z]:|(^|/)\.\.(/|$)")


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
      from_mask_files: whether the masks were files, not an annotation tool's export.
      values: for each class its value in the reader's masks; in files of indices it
        is what the file holds.
      index_masks: whether the masks were files of indices.
      notes: what was left out or changed, in words.
    """

    format: str
    classes: tuple[str, ...]
    pictures: list[LabelledPicture]
    from_mask_files: bool
    values: tuple[int, ...]
    index_masks: bool
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
      path: a folder, an export's JSON, or a ZIP archive of either.
      size: (height, width) that every picture is resized to, in pixels; images
        bilinearly with antialiasing, masks to the nearest pixel. None keeps sizes.
      classes: names of the classes to keep, in this order; others become background.
        Empty: all that occur, as the export orders them, or else by name.
      mask_values: of mask files, see `mask_files.read`.

    Raises:
      UserError: no such thing, of no known format, malformed, without any labelled
        pixel, or without one of `classes`.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"no such file or folder: {path}; give {FORMATS}")
    with _folder_of(path) as folder:
        try:
            export = _open_export(path, folder, mask_values)
            return _collect(path, export, size, classes)
        except UserError as error:
            if path.is_dir() or path.suffix.lower() == ".json":
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
    elif path.suffix.lower() == ".json":
        # COCO keeps annotations/instances.json beside the folders of its images.
        beside = path.resolve().parent
        yield beside.parent if beside.name == "annotations" else beside
    else:
        raise UserError(f"{path} is neither a folder nor JSON nor ZIP; give {FORMATS}")


def unpack(path: Path, folder: Path) -> None:
    """Unpacks a ZIP archive from somebody else.

    Raises:
      UserError: damaged or encrypted; more than 20,000 files or 4 GiB; compressed
        beyond what pictures and annotations are; or a member that would lie outside
        of `folder`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            total = sum(member.file_size for member in members)
            packed = max(1, sum(member.compress_size for member in members))
            if len(members) > MAX_MEMBERS or total > MAX_UNPACKED:
                raise UserError(
                    f"{path} holds {len(members)} files of {total / 2**30:.1f} GiB in "
                    f"all, more than {MAX_MEMBERS} or {MAX_UNPACKED / 2**30:.0f} GiB; "
                    "unpack it and give a folder with the support pictures alone"
                )
            if total > _HARMLESS and total / packed > MAX_RATIO:
                raise UserError(
                    f"{path} would unpack to {total / packed:.0f} times its size, as "
                    "no pictures do; unpack it yourself if you trust it"
                )
            for member in members:
                name = member.filename.replace("\\", "/")
                if _OUTSIDE.search(name):
                    raise UserError(
                        f"{path}: member {member.filename!r} would be written outside "
                        "of the archive's folder; do not trust this file"
                    )
            if total > shutil.disk_usage(folder).free:
                raise UserError(
                    f"{path} unpacks to {total / 2**30:.1f} GiB, more than is free in "
                    f"{folder.parent}; set TMPDIR to a larger disk"
                )
            archive.extractall(folder, members)
    except (
        *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError),
        *(EOFError, OSError, ValueError),
    ) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} cannot be unpacked ({error}); zip it again") from error


def _open_export(path: Path, folder: Path, mask_values: str) -> Export:
    if path.suffix.lower() == ".json" and path.is_file():
        document = load_json(path)
        recognised = [(path, document)] if _reader(document) else []
        files = walk_files(folder)
        export = _read_documents(recognised, folder, files)
        if export is None:
            raise UserError(
                f"{path} is JSON, but of none of the formats; give {FORMATS}"
            )
        return export
    folder = _single_folder(folder)
    export = None
    tried = []
    if not (folder / MASKS).is_dir():
        files = walk_files(folder)
        maps = [f for f in files if f.name == cvat.LABELMAP]
        maps = [f for f in maps if (f.parent / cvat.CLASS_MASKS).is_dir()]
        if len(maps) > 1:
            raise UserError(
                f"{path} holds {len(maps)} exports of CVAT, {listed(maps)}; give one"
            )
        if maps:
            return cvat.read(folder, files, maps[0])
        tried = [f for f in files if f.suffix.lower() == ".json"]
        documents = [(f, load_json(f)) for f in tried]
        recognised = [(f, d) for f, d in documents if _reader(d)]
        export = _read_documents(recognised, folder, files)
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


def _reader(document: object):
    for reader in (labelme, coco, label_studio):
        if reader.recognises(document):
            return reader
    return None


def _read_documents(
    documents: list[tuple[Path, object]], folder: Path, files: list[Path]
) -> Export | None:
    """Reads the JSON documents of one format; None if there are none."""
    if not documents:
        return None
    readers = {_reader(document) for _, document in documents}
    paths = [path for path, _ in documents]
    if len(readers) > 1:
        formats = " and ".join(sorted(reader.FORMAT for reader in readers))
        raise UserError(
            f"{folder} holds exports of {formats}: {listed(paths)}; give one of them"
        )
    (reader,) = readers
    finder = PictureFinder(folder.resolve(), [file.resolve() for file in files])
    if reader is labelme:
        return labelme.read(documents, finder)
    if len(documents) > 1:
        raise UserError(
            f"{folder} holds {len(documents)} exports of {reader.FORMAT}: "
            f"{listed(paths)}; give one of them"
        )
    return reader.read(*documents[0], finder)


def _collect(
    path: Path, export: Export, size: tuple[int, int] | None, classes: Sequence[str]
) -> Support:
    names = {name: i for i, name in enumerate(export.names, start=1)}
    if len(set(classes)) < len(classes):
        raise UserError(f"--classes={','.join(classes)} names a class twice")
    read: list[tuple[str, np.ndarray, np.ndarray]] = []
    occurring: set[int] = set()
    for picture in tqdm(
        export.pictures,
        total=export.count,
        desc="reading",
        unit="picture",
        delay=2,
        leave=False,
        dynamic_ncols=True,
    ):
        occurring.update(np.unique(picture.mask).tolist())
        image, mask = picture.image, picture.mask
        if size is not None:
            image = resize_image(image, size)
            mask = resize_annotations(mask[np.newaxis], size, UNKNOWN)[0]
        read.append((picture.name, image, mask))
    undeclared = [n for n in occurring if n > len(export.names)]
    if undeclared:
        raise UserError(
            f"{path}: masks hold the index {max(undeclared)}, but there are only "
            f"{len(export.names)} classes"
        )
    present = [name for name, number in names.items() if number in occurring]
    if not present:
        raise UserError(
            f"{path}: no picture marks anything; label the object in at least one"
        )
    notes = export.notes
    if absent := [name for name in classes if name not in present]:
        raise UserError(
            f"--classes: {path} has nothing labelled {', '.join(absent)}; it has "
            f"{listed(present, 30)}"
        )
    chosen = tuple(classes) or tuple(present)
    if len(chosen) >= IGNORE:
        raise UserError(
            f"{path} has {len(chosen)} classes, more than {IGNORE - 1}; pick with "
            "--classes"
        )
    if others := [name for name in present if name not in chosen]:
        notes.append(f"background, as --classes leaves it out: {listed(others)}")
    values = tuple(names[name] for name in chosen)
    table = np.zeros(len(export.names) + 2, np.uint8)
    table[UNKNOWN] = IGNORE
    for index, value in enumerate(values, start=1):
        table[value] = index
    pictures = [LabelledPicture(name, image, table[mask]) for name, image, mask in read]
    _remark(pictures, chosen, notes)
    return Support(
        export.format,
        chosen,
        pictures,
        export.format == mask_files.FORMAT,
        values,
        export.index_masks,
        notes,
    )


def _remark(
    pictures: list[LabelledPicture], classes: tuple[str, ...], notes: list[str]
) -> None:
    """Notes pictures that teach nothing, and refuses classes that are too small."""
    for index, name in enumerate(classes, start=1):
        if not any((picture.mask == index).any() for picture in pictures):
            height, width = pictures[0].mask.shape
            raise UserError(
                f"class {name} covers no pixel of any picture at {width}x{height}; its "
                "objects are too small for this model, cut the pictures to them"
            )
    empty = [p.name for p in pictures if not ((p.mask > 0) & (p.mask < IGNORE)).any()]
    if empty:
        notes.append(f"nothing marked, so all background: {listed(empty)}")
