"""What a person marked on a picture, at whatever size it is asked for.

Points stay points at any size; a brush is a disc. All places are in pixels of the
picture itself, so that methods of different sizes share them.
"""

import dataclasses

import numpy as np
from PIL import Image

from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError

BACKGROUND, FOREGROUND = 0, 1
POINT_REACH = 0.02
"""What the eraser reaches at least, as a part of a picture's longer side: as far as a
point is drawn."""


@dataclasses.dataclass(frozen=True)
class Stroke:
    """A click.

    Attributes:
      row: in pixels of the picture, from its upper edge.
      column: from its left edge.
      label: 0 background, 1 foreground, 255 unknown: the eraser.
      radius: of the brush, in pixels of the picture; 0 for a point.
    """

    row: int
    column: int
    label: int
    radius: float = 0.0

    def paint(self, mask: np.ndarray, size: tuple[int, int]) -> None:
        """Draws it into a mask of any size.

        Args:
          mask: uint8 [h, w], changed.
          size: height and width of the picture.
        """
        height, width = mask.shape
        row = (self.row + 0.5) * height / size[0]
        column = (self.column + 0.5) * width / size[1]
        if self.radius:
            rows = (np.arange(height) + 0.5 - row) / (self.radius * height / size[0])
            columns = (np.arange(width) + 0.5 - column) / (
                self.radius * width / size[1]
            )
            mask[rows[:, np.newaxis] ** 2 + columns**2 <= 1] = self.label
        mask[int(row), int(column)] = self.label


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """A mask that came as a file.

    Attributes:
      mask: uint8 [h, w], of the picture's aspect; 0, 1, 255 unknown.
    """

    mask: np.ndarray

    def paint(self, mask: np.ndarray, size: tuple[int, int]) -> None:
        """Puts it in place of a mask; see `Stroke.paint`."""
        del size
        own = Image.fromarray(self.mask)
        mask[:] = own.resize(mask.shape[::-1], Image.Resampling.NEAREST)


@dataclasses.dataclass(frozen=True)
class Annotations:
    """All marks of a picture. It never changes: each method returns another.

    Attributes:
      size: height and width of the picture.
      marks: in the order in which they came; later ones win.
    """

    size: tuple[int, int]
    marks: tuple[Stroke | Layer, ...] = ()

    def add(self, row: int, column: int, label: int, radius: float) -> "Annotations":
        """Adds a point or a disc, or erases.

        The eraser takes points away whose centres it covers, and what it covers of
        discs and masks. It is at least as large as a point is drawn.

        Raises:
          UserError: outside of the picture, no such label, or a negative radius.
        """
        height, width = self.size
        if not (0 <= row < height and 0 <= column < width):
            raise UserError(
                f"point: expected a row from 0 to {height - 1} and a column from 0 to "
                f"{width - 1}, received ({row}, {column}); click inside the picture"
            )
        if label not in (BACKGROUND, FOREGROUND, IGNORE):
            raise UserError(
                f"label: expected {FOREGROUND} (object), {BACKGROUND} (background) or "
                f"{IGNORE} (eraser), received {label}"
            )
        if not 0 <= radius <= max(height, width):
            raise UserError(
                f"radius: expected 0 to {max(height, width)} pixels, received {radius}"
            )
        marks = self.marks
        if label == IGNORE:
            radius = max(radius, POINT_REACH * max(height, width))
            marks = tuple(
                mark
                for mark in marks
                if not isinstance(mark, Stroke)
                or mark.radius
                or np.hypot(mark.row - row, mark.column - column) > radius
            )
            if all(isinstance(mark, Stroke) and not mark.radius for mark in marks):
                return dataclasses.replace(self, marks=marks)
        stroke = Stroke(row, column, label, float(radius))
        return dataclasses.replace(self, marks=(*marks, stroke))

    def with_layer(self, mask: np.ndarray) -> "Annotations":
        """Puts a mask, uint8 [h, w], in place of everything."""
        return dataclasses.replace(self, marks=(Layer(mask),))

    def raster(self, height: int, width: int) -> np.ndarray:
        """As a mask of any size: uint8 [height, width]; 0, 1, 255 unknown."""
        mask = np.full([height, width], IGNORE, np.uint8)
        for mark in self.marks:
            mark.paint(mask, self.size)
        return mask
