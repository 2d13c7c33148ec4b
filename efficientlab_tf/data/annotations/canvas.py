"""Where the outlines of one picture become its mask.

Exports list outlines in any order, and small things lie on large ones: a plate on a
table. So the smaller outline goes on top, whichever is listed first.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from efficientlab_tf.data import coco_masks
from efficientlab_tf.data.annotations.export import Drawn
from efficientlab_tf.data.cleaning import (
    EXIF_SWAPS_SIDES,
    Upright,
    resize_mask,
    same_aspect,
    turned,
)
from efficientlab_tf.data.drawing import (
    check_size,
    fill_ellipse,
    fill_polygon,
    points_of,
    rectangle_points,
)
from efficientlab_tf.data.picture_files import Refused

MAX_OUTLINES = 20_000
_LARGEST = 2**40
"""Pixels that an export may speak of; the picture itself is smaller."""
_MOST_PAINTED = 2**28
"""Pixels that all outlines of a small picture cover together; a large picture may be
covered many times."""
_TIMES_COVERED = 16


class _Outline(NamedTuple):
    layer: float
    area: float
    whole: float  # The area of the object that it is a part of.
    value: int
    paint: Callable[[np.ndarray, int], None]


class Canvas:
    """Collects the outlines of a picture and paints them, large ones first.

    Nothing is drawn larger than the picture is, whatever size an export speaks of.

    Args:
      name: of the picture, for notes.
      picture: what the outlines were drawn on.
      height: of the picture as the export says; None if it does not.
      width: the same.
      count: how many outlines there will be.
      notes: takes what is left out, in words.

    Raises:
      Refused: the export speaks of a picture of another shape, or of too many
        outlines.
      ValueError: its size is none.
    """

    def __init__(
        self,
        name: str,
        picture: Upright,
        height: object,
        width: object,
        count: int,
        notes: list[str],
    ):
        if count > MAX_OUTLINES:
            raise Refused(
                f"{count} outlines on one picture are more than {MAX_OUTLINES}; export "
                "it again"
            )
        self.name = name
        self.notes = notes
        self.values: set[int] = set()
        self._picture = picture
        self._outlines: list[_Outline] = []
        own = picture.picture.size[::-1]
        declared = (
            own if not height or not width else check_size(height, width, _LARGEST)
        )
        swaps = picture.orientation in EXIF_SWAPS_SIDES
        self._turn = self._swapped = False
        if not same_aspect(declared, own):
            if swaps and same_aspect(declared, own[::-1]):
                # Drawn on the pixels as stored, by a program that ignores EXIF.
                self._turn, own = True, own[::-1]
                notes.append(f"{name}: mask turned with its image")
            elif declared == own[::-1]:
                declared, self._swapped = own, True
                notes.append(f"{name}: its height and width are swapped in the export")
            else:
                raise Refused(
                    f"annotated at {declared[1]}x{declared[0]} pixels, but {name} is "
                    f"{own[1]}x{own[0]}: not the same aspect ratio; give the picture "
                    "that was annotated"
                )
        self.size = declared
        self._own = own
        self._scale = np.divide(own[::-1], declared[::-1])
        if declared != own:
            notes.append(
                f"{name}: mask resized from {declared[1]}x{declared[0]} to the image's "
                f"{own[1]}x{own[0]}"
            )

    @property
    def is_empty(self) -> bool:
        """Whether no outline was added."""
        return not self._outlines

    @contextlib.contextmanager
    def one_object(self) -> Iterator[None]:
        """What is added meanwhile are parts of one object: they lie in one layer."""
        first = len(self._outlines)
        yield
        parts = self._outlines[first:]
        whole = sum(part.area for part in parts)
        self._outlines[first:] = [part._replace(whole=whole) for part in parts]

    def polygon(
        self, points: object, value: int, layer: float = 0, *, coco: bool = False
    ) -> None:
        """Adds a polygon.

        Args:
          points: pairs x, y, in pixels of the picture as the export speaks of it.
          value: of the pixels inside.
          layer: higher ones go above lower ones, whatever their areas.
          coco: fill it as the COCO API does, and not by the pixels' centres.

        Raises:
          ValueError: fewer than three points, or no numbers, or all of it outside.
        """
        points = points_of(points) * self._scale
        if len(points) < 3:
            raise ValueError(f"a polygon of {len(points)} points")
        (low, high), (height, width) = (points.min(0), points.max(0)), self._own
        if (high <= 0).any() or (low >= (width, height)).any():
            raise ValueError("an outline outside of the picture")
        if self._swapped and (high > (width + 1, height + 1)).any():
            raise ValueError(
                f"an outline does not fit into {width}x{height} pixels, and the export "
                "has height and width swapped; give the picture that was annotated"
            )
        x, y = points.T
        area = x[:-1] @ y[1:] - y[:-1] @ x[1:] + x[-1] * y[0] - y[-1] * x[0]
        area = abs(float(area)) / 2
        fill = coco_masks.paint_polygon if coco else fill_polygon
        self._add(layer, area, value, lambda mask, v: fill(mask, points, v))

    def rectangle(
        self,
        corner: tuple[float, float],
        size: tuple[float, float],
        value: int,
        degrees: float = 0.0,
    ) -> None:
        """Adds a rectangle, see `drawing.rectangle_points`."""
        self.polygon(rectangle_points(corner, size, degrees), value)

    def ellipse(
        self,
        center: tuple[float, float],
        radii: tuple[float, float],
        value: int,
        degrees: float = 0.0,
        layer: float = 0,
    ) -> None:
        """Adds an ellipse, see `drawing.fill_ellipse`.

        Raises:
          ValueError: no numbers, no area, or all of it outside.
        """
        center, radii = points_of([center, radii]) * self._scale
        reach = np.abs(radii).max()
        outside = (center + reach <= 0) | (center - reach >= self._own[::-1])
        if not radii.all() or outside.any():
            raise ValueError("an ellipse without area in the picture")

        def paint(mask: np.ndarray, value: int) -> None:
            fill_ellipse(mask, tuple(center), tuple(radii), value, degrees)

        self._add(layer, abs(np.pi * radii[0] * radii[1]), value, paint)

    def runs(self, encoded: dict, value: int) -> None:
        """Adds run lengths of COCO's kinds, of the picture's size.

        Raises:
          ValueError, KeyError, TypeError: damaged, or of another size.
        """
        size, lengths = coco_masks.run_lengths(encoded)
        if size not in (self.size, self._own):
            raise ValueError(
                f"run lengths of size {list(size)}, image {list(self.size)}"
            )

        def paint(mask: np.ndarray, value: int) -> None:
            if size == mask.shape:
                coco_masks.paint_runs(mask, lengths, value)
                return
            part = np.zeros(size, bool)
            coco_masks.paint_runs(part, lengths, True)
            mask[resize_mask(part, mask.shape[::-1])] = value

        area = int(lengths[1::2].sum()) * float(np.prod(self._own) / np.prod(size))
        if not area:
            raise ValueError("run lengths that mark nothing")
        self._add(0, area, value, paint)

    def mask(self, marked: np.ndarray, value: int) -> None:
        """Adds a mask of the whole picture, bool [h, w], of any size.

        Raises:
          ValueError: it marks nothing, or is of another shape.
        """
        if not same_aspect(marked.shape, self._own):
            raise ValueError(f"a mask of {marked.shape[1]}x{marked.shape[0]} pixels")
        if marked.shape != self._own:
            marked = resize_mask(marked, self._own[::-1])
        self._stencil(marked, value, 0, 0, 0)

    def stencil(
        self, marked: np.ndarray, value: int, left: int, top: int, layer: float = 0
    ) -> None:
        """Adds a mask, bool [h, w], whose corner is at a place of the picture.

        Raises:
          ValueError: it marks nothing in the picture.
        """
        if self.size != self._own:
            shape = np.array(marked.shape) * self._scale[::-1]
            size = np.clip(np.round(shape), 1, None).astype(int)[::-1]
            marked = resize_mask(marked, tuple(size.tolist()))
            left, top = (round(v) for v in (left, top) * self._scale)
        self._stencil(marked, value, left, top, layer)

    def _stencil(self, marked, value, left, top, layer) -> None:
        height, width = self._own
        if min(height - top, width - left) <= 0:
            raise ValueError("a mask outside of the picture")
        part = marked[max(-top, 0) : height - top, max(-left, 0) : width - left]
        if not part.any():
            raise ValueError("a mask that marks nothing in the picture")
        left, top = max(left, 0), max(top, 0)
        # A bit a pixel: there may be many.
        shape, bits = part.shape, np.packbits(part)

        def paint(mask: np.ndarray, value: int) -> None:
            part = np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape) > 0
            mask[top : top + shape[0], left : left + shape[1]][part] = value

        self._add(layer, int(part.sum()), value, paint)

    def draw(self) -> Drawn | None:
        """Paints all outlines; None if each of them was left out.

        Raises:
          Refused: they are too many.
        """
        covered = sum(min(o.area, np.prod(self._own)) for o in self._outlines)
        most = _MOST_PAINTED + _TIMES_COVERED * float(np.prod(self._own))
        if covered > most:
            raise Refused(
                f"{self.name}: {len(self._outlines)} outlines cover the picture "
                f"{covered / np.prod(self._own):.0f} times; export it again, or leave "
                "it out"
            )
        if self.is_empty:
            return None
        mask = np.zeros(self._own, np.int16)
        for _, _, _, value, paint in sorted(
            self._outlines, key=lambda o: (o.layer, -o.whole)
        ):
            try:
                paint(mask, value)
            except ValueError as error:
                self.notes.append(f"{self.name}: {error}: left out")
        if self._turn:
            mask = turned(mask, self._picture.orientation)
        return Drawn(self.name, self._picture.picture, mask)

    def _add(self, layer: float, area: float, value: int, paint: Callable) -> None:
        self.values.add(value)
        self._outlines.append(_Outline(layer, area, area, value, paint))
