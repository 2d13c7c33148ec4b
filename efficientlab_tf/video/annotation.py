"""What a person says about a video's objects: masks of frames, or points on some.

A mask is a picture file: 255 (grey from 128 on) is the object, or values 1..K (or
colours) are objects and 255 is unknown. Of an object that enters later a mask of that
frame is given beside the first frame's. Points are JSON, of which x and y are pixels of
the frame from its upper left corner:

    {"points": [{"frame": "00000.jpg", "x": 212.5, "y": 80, "label": 1}, ...]}

A frame is a file name or a number from 0; label 0 is what is not the object.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from efficientlab_tf.data.annotations.export import UNKNOWN, brief
from efficientlab_tf.data.annotations.mask_files import read_mask_file
from efficientlab_tf.data.annotations.vanishing import size_that_keeps
from efficientlab_tf.data.cleaning import resize_mask
from efficientlab_tf.data.mask_deciding import decide
from efficientlab_tf.data.mask_readings import COLORMAP, COLORS, Reading
from efficientlab_tf.data.sources.jobs import list_images
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from efficientlab_tf.untrusted import read_json
from efficientlab_tf.video.frames import Frames, shown

MAX_LABEL = 254
EXAMPLE = '{"points": [{"frame": 0, "x": 10, "y": 20, "label": 1}]}'


class Point(NamedTuple):
    """One labelled pixel: column x and row y; label 0 background, 1..254 objects."""

    x: float
    y: float
    label: int


@dataclasses.dataclass(frozen=True)
class Annotation:
    """The labels of some frames; exactly one of `drawn` and `points` is there.

    Attributes:
      objects: the objects' indices as the annotation has them. A segmenter's classes
        1..K are these in their order.
      size: (height, width) of the frames.
      drawn: frame to its mask, uint8 [H, W], values of `objects`, 0 and 255 unknown.
      points: frame to its points.
      means: what mask files meant; None for points.
    """

    objects: tuple[int, ...]
    size: tuple[int, int]
    drawn: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict)
    points: Mapping[int, Sequence[Point]] = dataclasses.field(default_factory=dict)
    means: Reading | None = None

    @property
    def frames(self) -> tuple[int, ...]:
        """The annotated frames, in order."""
        return tuple(sorted(self.drawn or self.points))

    def masks(self, size: tuple[int, int]) -> np.ndarray:
        """Returns the support masks, uint8 [k, *size]; 0..K, 255 unknown.

        Of a mask the nearest pixels are taken, and of an object that has none of these
        all that it touches. A point marks the pixel that it falls into; if several do,
        objects go before the background, the first before the others.

        Args:
          size: (height, width) of the segmenter's pictures.

        Raises:
          UserError: an object vanishes at this size.
        """
        if self.drawn:
            masks = np.stack([_shrunk(self.drawn[f], size) for f in self.frames])
        else:
            masks = np.full([len(self.points), *size], IGNORE, np.uint8)
            for mask, frame in zip(masks, self.frames, strict=True):
                for x, y, label in reversed(self.points[frame]):
                    cell = _cells(y, x, self.size, size)
                    if label or mask[cell] == IGNORE:
                        mask[cell] = label
        classes = np.zeros(256, np.uint8)
        classes[list(self.objects)] = np.arange(1, len(self.objects) + 1)
        classes[IGNORE] = IGNORE
        for index in self.objects:
            if not (masks == index).any():
                raise UserError(
                    f"object {index} has no pixel of its own left at the model's "
                    f"{shown(size)}; {self._cure(index, size)}"
                )
        return classes[masks]

    def _cure(self, index: int, size: tuple[int, int]) -> str:
        """What to do about an object that is too small."""
        for mask in self.drawn.values():
            places = np.nonzero(mask == index)
            kept = len(places[0]) and size_that_keeps(*places, mask.shape, size)
            if kept:
                return (
                    f"cut the frames to the objects, or take a model of {shown(kept)}, "
                    "which keeps it"
                )
        return "cut the frames to the objects"

    def point_masks(self) -> dict[int, np.ndarray]:
        """Returns what the points say, frame to uint8 [H, W]: values of `objects`, 0
        and 255 unknown; {} if a mask was annotated.
        """
        if self.drawn:
            return {}
        values = np.full(256, IGNORE, np.uint8)
        values[: len(self.objects) + 1] = 0, *self.objects
        return dict(zip(self.frames, values[self.masks(self.size)], strict=True))


def read_annotation(path: str | Path, frames: Frames) -> Annotation:
    """Reads an annotation of either kind.

    A mask with the name of a frame is of that frame, any other of the first. Where a
    later mask lacks an object that an earlier one shows, it does not say where that
    object is: its background is unknown.

    Args:
      path: a mask, several joined by commas, a folder of masks named like the frames,
        or JSON with points.
      frames: the video.

    Raises:
      UserError: no such file, unreadable, one of the frames, of another size than
        these, or without an object.
    """
    files = _files(path, frames)
    if files[0].suffix.lower() == ".json":
        return _read_points(files[0], frames)
    own = {frame.resolve() for frame in frames.paths}
    for file in files:
        if file.resolve() in own:
            raise UserError(
                f"{file} lies among the frames and would be one of them; move it to "
                "another folder"
            )
    means = decide(files)
    stems = {frame.stem: i for i, frame in enumerate(frames.paths)}
    drawn: dict[int, np.ndarray] = {}
    for file in files:
        frame = stems.get(file.stem, 0)
        if frame in drawn:
            raise UserError(
                f"{file} is a second mask of frame {frames.paths[frame].name}; give "
                "masks of later frames the names of these"
            )
        drawn[frame] = read_frame_mask(file, means, frames.size)
    objects = sorted(set().union(*map(objects_of, drawn.values())))
    if not objects:
        raise UserError(
            f"{path} marks no object: all of it is background or unknown; mark the "
            "object with 255, or objects with 1, 2, ..."
        )
    known: set[int] = set()
    for frame in sorted(drawn):
        mask = drawn[frame]
        if known - set(objects_of(mask)):
            mask[mask == 0] = IGNORE
        known |= set(objects_of(mask))
    return Annotation(tuple(objects), frames.size, drawn, means=means)


def _files(path: str | Path, frames: Frames) -> list[Path]:
    """The files that an annotation consists of."""
    path = Path(path).expanduser()
    if path.is_dir():
        stems = {frame.stem for frame in frames.paths}
        files = [file for file in list_images(path) if file.stem in stems]
    elif path.is_file():
        files = [path]
    else:
        files = [Path(part.strip()).expanduser() for part in str(path).split(",")]
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        raise UserError(
            f"no such annotation: {missing[0] if missing else path}; give a mask of "
            "the first frame, and of later ones named like these, joined by commas, or "
            f"points as JSON: {EXAMPLE}"
        )
    return files


def read_frame_mask(path: Path, means: Reading, size: tuple[int, int]) -> np.ndarray:
    """Reads a frame's mask: uint8 [H, W]; 0, objects' indices, 255 unknown.

    Args:
      path: a picture file.
      means: what the masks of the video mean.
      size: (height, width) of the frame.

    Raises:
      UserError: it cannot be read, or is of another size.
    """
    mask = read_mask_file(path, means, [], classless=True)
    if mask.shape != size:
        raise UserError(
            f"mask {path} is {shown(mask.shape)}, but the frames are {shown(size)}; "
            "draw it on the frame itself"
        )
    return np.where(mask == UNKNOWN, IGNORE, mask).astype(np.uint8)


def objects_of(mask: np.ndarray) -> tuple[int, ...]:
    """The indices of a mask's objects."""
    return tuple(i for i in np.unique(mask).tolist() if i not in (0, IGNORE))


class Truths:
    """The masks that predictions are judged by.

    Attributes:
      folder: of masks.
      paths: frame to its mask file; frames may lack one.
      objects: indices of the objects in any of them.

    Args:
      folder: of masks, named like the frames.
      frames: the video.

    Raises:
      UserError: no such folder, or no mask of a frame in it, or an unreadable one.
    """

    def __init__(self, folder: str | Path, frames: Frames):
        self.folder = folder = Path(folder).expanduser()
        if not folder.is_dir():
            raise UserError(f"no such folder of annotations: {folder}")
        files = {path.stem: path for path in list_images(folder)}
        self._size = frames.size
        self.paths = {
            i: files[frame.stem]
            for i, frame in enumerate(frames.paths)
            if frame.stem in files
        }
        if not self.paths:
            raise UserError(
                f"no file in {folder} has the name of a frame; annotations are named "
                f"like their frames: {frames.paths[0].stem}.png"
            )
        self.means = decide(self.paths.values())
        self.objects = tuple(sorted(self.means.names))
        self._values = np.arange(256, dtype=np.uint8)

    def read(self, frame: int) -> np.ndarray | None:
        """Returns the mask of a frame, see `read_frame_mask`; None if it has none.

        Raises:
          UserError: it cannot be read, or is of another size than the frames.
        """
        path = self.paths.get(frame)
        if path is None:
            return None
        return self._values[read_frame_mask(path, self.means, self._size)]

    def check(self, annotation: Annotation) -> None:
        """Makes sure that nothing is to be found that nobody has shown.

        Raises:
          UserError: an object is in these masks and not in the annotation.
        """
        names = self.means.names
        if self.means.kind == COLORS and not set(self.means.codes) <= set(COLORMAP):
            # Colours of no palette have no numbers: the same colour is the same object.
            own = annotation.means.names if annotation.means else {}
            numbers = {name: number for number, name in own.items()}
            for value, name in names.items():
                if name in numbers:
                    self._values[value] = numbers[name]
            missing = [name for name in names.values() if name not in numbers]
        else:
            missing = sorted(set(self.objects) - set(annotation.objects))
        if missing:
            raise UserError(
                f"object {missing[0]} is in {self.folder} and has no annotation; "
                "annotate it too, by a mask of a later frame if it enters there "
                "(`annotation` takes several; `davis` has the first frames' alone), or "
                "give masks without it"
            )


def _shrunk(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Takes the nearest pixels, and of an object without any all that it touches."""
    small = resize_mask(mask, size[::-1]).copy()
    for index in set(objects_of(mask)) - set(objects_of(small)):
        small[_cells(*np.nonzero(mask == index), mask.shape, size)] = index
    return small


def _cells(rows, columns, size: tuple[int, int], target: tuple[int, int]):
    """Indices into a picture of size `target` of places in one of `size`."""
    return (
        np.asarray(rows * target[0] / size[0]).astype(int),
        np.asarray(columns * target[1] / size[1]).astype(int),
    )


def _read_points(path: Path, frames: Frames) -> Annotation:
    document = read_json(path, f"expected points such as {EXAMPLE}")
    entries = document.get("points") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path} has no points; expected {EXAMPLE}")
    names = {frame.name: i for i, frame in enumerate(frames.paths)}
    points: dict[int, list[Point]] = {}
    for number, entry in enumerate(entries, start=1):
        frame, point = _point(entry, names, frames.size, f"{path}: point {number}")
        points.setdefault(frame, []).append(point)
    labels = {point.label for of_frame in points.values() for point in of_frame}
    objects = tuple(sorted(labels - {0}))
    if not objects:
        raise UserError(
            f"{path} has only negative points (label 0), so no object; add a point on "
            "the object with label 1"
        )
    missing = sorted(set(range(1, objects[-1])) - labels)
    if missing:
        raise UserError(
            f"{path} has points of object {objects[-1]} and none of object "
            f"{missing[0]} on any frame; add one, or number the objects 1, 2, ..."
        )
    return Annotation(objects, frames.size, points=points)


def _point(
    entry: object, names: Mapping[str, int], size: tuple[int, int], where: str
) -> tuple[int, Point]:
    if not isinstance(entry, dict) or not {"frame", "x", "y", "label"} <= entry.keys():
        raise UserError(
            f"{where}: expected frame, x, y and label, received {brief(entry)}"
        )
    frame, label = entry["frame"], entry["label"]
    index = names.get(frame) if isinstance(frame, str) else frame
    if not _is_whole(index) or not 0 <= index < len(names):
        raise UserError(
            f"{where}: no frame {brief(repr(frame))}; give a file name such as "
            f"{next(iter(names))!r}, or a number from 0 to {len(names) - 1}"
        )
    if not _is_whole(label) or not 0 <= label <= MAX_LABEL:
        raise UserError(
            f"{where}: label must be 0 (not the object) or 1..{MAX_LABEL}, received "
            f"{brief(repr(label))}"
        )
    x, y = entry["x"], entry["y"]
    for value, side in ((x, size[1]), (y, size[0])):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < side:
            raise UserError(
                f"{where}: ({brief(x)}, {brief(y)}) is outside of the frame, which is "
                f"{shown(size)}"
            )
    return index, Point(x, y, label)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
