"""What a person marked on a picture, at whatever size it is asked for.

Points stay points at any size; a brush leaves what it passed over, and a box or a
polygon is filled. All places are in pixels of the picture itself, so that methods of
different sizes share them.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image

from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError

BACKGROUND, FOREGROUND = 0, 1
"""Labels: the background, and the first class; the eraser's is `IGNORE`."""
POINT_REACH = 0.02
"""What the eraser reaches at least, as a part of a picture's longer side: as far as a
point is drawn."""

Place = tuple[float, float]
"""Row from a picture's upper edge and column from its left one, in its pixels."""


@dataclasses.dataclass(frozen=True)
class Stroke:
    """A click, or what a brush passed over.

    Attributes:
      path: the places that it went through; of a click one.
      label: 0 background, 1..K classes, 255 unknown: the eraser.
      radius: of the brush, in pixels of the picture; 0 for points.
    """

    path: tuple[Place, ...]
    label: int
    radius: float = 0.0

    @property
    def is_point(self) -> bool:
        """Whether it covers no more than single pixels, at any size."""
        return not self.radius

    def covers(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Whether places, in pixels of the picture, are within the brush: bool."""
        near = np.full(np.broadcast_shapes(rows.shape, columns.shape), False)
        for start, end in self._pieces():
            near |= _distance(rows, columns, start, end) <= self.radius
        return near

    def paint(self, mask: np.ndarray, size: tuple[int, int]) -> None:
        """Draws it into a mask of any size.

        Args:
          mask: uint8 [h, w], changed.
          size: height and width of the picture.
        """
        if self.radius:
            for piece in self._pieces():
                part = _part(mask, size, piece, self.radius)
                own = Stroke(piece, self.label, self.radius)
                _fill(mask, size, part, own)
        height, width = mask.shape
        for row, column in self.path:
            row, column = (row + 0.5) / size[0], (column + 0.5) / size[1]
            mask[int(row * height), int(column * width)] = self.label

    def _pieces(self) -> list[tuple[Place, Place]]:
        return list(zip(self.path, self.path[1:] or self.path, strict=False))


@dataclasses.dataclass(frozen=True)
class Area:
    """A box or a polygon, filled.

    Attributes:
      corners: three or more places; of a box four.
      label: as of `Stroke`.
    """

    corners: tuple[Place, ...]
    label: int
    is_point = False

    def covers(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Whether places, in pixels of the picture, are inside: bool."""
        inside = np.full(np.broadcast_shapes(rows.shape, columns.shape), False)
        before = self.corners[-1]
        for corner in self.corners:
            (y0, x0), (y1, x1) = before, corner
            if y0 != y1:  # Inside is where a ray to the right crosses edges oddly.
                crosses = (rows < y0) != (rows < y1)
                at = x0 + (rows - y0) * (x1 - x0) / (y1 - y0)
                inside ^= crosses & (columns < at)
            before = corner
        return inside

    def paint(self, mask: np.ndarray, size: tuple[int, int]) -> None:
        """Fills it in a mask of any size; see `Stroke.paint`."""
        _fill(mask, size, _part(mask, size, self.corners, 0.0), self)


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """A mask that came as a file.

    Attributes:
      mask: uint8 [h, w], of the picture's aspect; 0, 1..K, 255 unknown.
    """

    mask: np.ndarray
    is_point = False

    def paint(self, mask: np.ndarray, size: tuple[int, int]) -> None:
        """Puts it in place of a mask; see `Stroke.paint`."""
        del size
        own = Image.fromarray(self.mask)
        mask[:] = own.resize(mask.shape[::-1], Image.Resampling.NEAREST)


Mark = Stroke | Area | Layer


@dataclasses.dataclass(frozen=True)
class Annotations:
    """All marks of a picture. It never changes: each method returns another.

    Attributes:
      size: height and width of the picture.
      marks: in the order in which they came; later ones win.
    """

    size: tuple[int, int]
    marks: tuple[Mark, ...] = ()

    def add(self, mark: Stroke | Area) -> "Annotations":
        """Adds a mark, or erases with it.

        The eraser takes points away that it covers, and what it covers of all else. A
        stroke of it is at least as wide as a point is drawn.

        Raises:
          UserError: outside of the picture, a negative radius, or too few corners.
        """
        height, width = self.size
        is_area = isinstance(mark, Area)
        for row, column in mark.corners if is_area else mark.path:
            if not (0 <= row < height and 0 <= column < width):
                raise UserError(
                    f"point: expected a row from 0 to {height - 1} and a column from "
                    f"0 to {width - 1}, received ({row:g}, {column:g}); click inside "
                    "the picture"
                )
        if is_area:
            if len(mark.corners) < 3:
                raise UserError(
                    f"polygon: expected 3 or more corners, received "
                    f"{len(mark.corners)}; click on each corner in turn"
                )
        elif not 0 <= mark.radius <= max(height, width):
            raise UserError(
                f"radius: expected 0 to {max(height, width)} pixels, received "
                f"{mark.radius}"
            )
        marks = self.marks
        if mark.label == IGNORE:
            if not is_area:
                radius = max(mark.radius, POINT_REACH * max(height, width))
                mark = dataclasses.replace(mark, radius=radius)
            marks = tuple(one for one in marks if not _erased(one, mark))
            if all(one.is_point for one in marks):
                return dataclasses.replace(self, marks=marks)
        return dataclasses.replace(self, marks=(*marks, mark))

    def with_layer(self, mask: np.ndarray) -> "Annotations":
        """Puts a mask, uint8 [h, w], in place of everything."""
        return dataclasses.replace(self, marks=(Layer(mask),))

    def raster(self, height: int, width: int) -> np.ndarray:
        """As a mask of any size: uint8 [height, width]; 0, 1..K, 255 unknown."""
        mask = np.full([height, width], IGNORE, np.uint8)
        for mark in self.marks:
            mark.paint(mask, self.size)
        return mask


def _erased(mark: Mark, eraser: Stroke | Area) -> bool:
    if not (isinstance(mark, Stroke) and mark.is_point):
        return False
    rows, columns = np.array(mark.path, float).T
    return bool(eraser.covers(rows, columns).all())


def _distance(rows, columns, start: Place, end: Place) -> np.ndarray:
    """From places to the line between two others."""
    (y, x), (down, right) = start, np.subtract(end, start)
    length = down**2 + right**2
    along = 0.0
    if length:
        along = ((rows - y) * down + (columns - x) * right) / length
        along = np.clip(along, 0, 1)
    return np.hypot(rows - y - along * down, columns - x - along * right)


def _part(
    mask: np.ndarray, size: tuple[int, int], places: Sequence[Place], reach: float
) -> tuple[slice, slice]:
    """The part of a mask that holds places and what is within reach of them."""
    low, high = np.min(places, axis=0) - reach, np.max(places, axis=0) + reach
    scale = np.divide(mask.shape, size)
    first = np.maximum(np.floor((low + 0.5) * scale).astype(int) - 1, 0)
    last = np.ceil((high + 0.5) * scale).astype(int) + 1
    return slice(first[0], last[0]), slice(first[1], last[1])


def _fill(mask, size, part: tuple[slice, slice], mark: Stroke | Area) -> None:
    """Labels the pixels of a part of a mask whose middles a mark covers."""
    (rows, columns), own = part, mask[part]
    # The middle of each pixel, in pixels of the picture.
    rows = (np.arange(mask.shape[0])[rows] + 0.5) * size[0] / mask.shape[0] - 0.5
    columns = (np.arange(mask.shape[1])[columns] + 0.5) * size[1] / mask.shape[1] - 0.5
    own[mark.covers(rows[:, np.newaxis], columns[np.newaxis])] = mark.label
