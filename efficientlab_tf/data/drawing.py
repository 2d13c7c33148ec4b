"""Outlines to masks: a pixel belongs to a shape if its centre lies inside.

Coordinates are in pixels from the upper left corner of the upper left pixel, whose
centre is (0.5, 0.5). What reaches over the image's edge is clipped.
"""

import math

import numpy as np

from efficientlab_tf.data.picture_files import MAX_PIXELS, bands

MAX_CROSSINGS = 2**22
"""Most rows that the edges of one outline go through, all of them together."""
FAR = 1e9
"""No outline has points as far away."""


def blank(height: object, width: object) -> np.ndarray:
    """Returns an empty mask, int16 [height, width].

    Raises:
      ValueError: not a size.
    """
    return np.zeros(check_size(height, width), np.int16)


def check_size(
    height: object, width: object, most: int = MAX_PIXELS
) -> tuple[int, int]:
    """Returns a picture's size as annotations say it, also as 64.0 or "64".

    Args:
      height: in pixels.
      width: in pixels.
      most: pixels of the largest picture.

    Raises:
      ValueError: not a size, or a larger one than pictures may have.
    """
    try:
        size = int(whole(height)), int(whole(width))
    except ValueError:
        raise ValueError(f"height and width are {height!r} and {width!r}") from None
    if min(size) < 1 or size[0] * size[1] > most:
        raise ValueError(f"an image of {size[1]}x{size[0]} pixels")
    return size


def whole(value: object) -> int:
    """Returns a whole number, also one that is written as 64.0 or "64".

    Raises:
      ValueError: it is none.
    """
    if isinstance(value, str) and len(value) < 20:
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number")
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"{value!r} is no whole number")
    return int(value)


def points_of(values: object) -> np.ndarray:
    """Returns the points of an outline, float64 [n, 2]: x, y.

    Raises:
      ValueError: not pairs of finite numbers.
    """
    try:
        points = np.asarray(values, np.float64)
    except TypeError as error:
        raise ValueError(str(error)) from None
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError("points that are not pairs of finite numbers")
    if points.size and np.abs(points).max() > FAR:
        raise ValueError("points far outside of the picture")
    return points


def fill_polygon(mask: np.ndarray, points: object, value: int) -> None:
    """Fills a polygon; what it winds around twice is outside (even-odd rule).

    So do LabelMe and the COCO API, and a hole that is joined to the outline by a
    double edge stays open.

    Args:
      mask: [H, W], changed in place.
      points: at least three (x, y); the last is joined to the first.
      value: what to write.

    Raises:
      ValueError: fewer points, points that are not finite numbers, or an outline that
        goes to and fro without end.
    """
    points = points_of(points)
    if len(points) < 3:
        raise ValueError(f"a polygon of {len(points)} points")
    height, width = mask.shape
    (x0, y0), (x1, y1) = points.T, np.roll(points, -1, axis=0).T
    # Each edge crosses the rows whose centres lie between its ends.
    first = _first_center(np.minimum(y0, y1), height)
    counts = _first_center(np.maximum(y0, y1), height) - first
    total = int(counts.sum())
    if total > MAX_CROSSINGS:
        raise ValueError("an outline that is too long for its picture")
    edges = np.repeat(np.arange(len(points)), counts)
    rows = np.arange(total) - np.repeat(np.cumsum(counts) - counts - first, counts)
    slopes = np.divide(x1 - x0, y1 - y0, out=np.zeros(len(points)), where=y1 != y0)
    x = x0[edges] + (rows + 0.5 - y0[edges]) * slopes[edges]
    # Within a row every second stretch between crossings is inside.
    crossings = np.sort(rows * (width + 1) + _first_center(x, width))
    starts, stops = crossings[0::2], crossings[1::2]
    rows, left = np.divmod(starts[stops > starts], width + 1)
    lengths = (stops - starts)[stops > starts]
    for row, start, length in zip(
        rows.tolist(), left.tolist(), lengths.tolist(), strict=True
    ):
        mask[row, start : start + length] = value


def rectangle_points(
    corner: tuple[float, float], size: tuple[float, float], degrees: float = 0.0
) -> list[tuple[float, float]]:
    """Returns the corners of a rectangle turned clockwise about its upper left one.

    Args:
      corner: (x, y) of the upper left corner.
      size: width and height, in pixels.
      degrees: the turn.
    """
    (x, y), (width, height) = corner, size
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    steps = ((0, 0), (width, 0), (width, height), (0, height))
    return [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in steps]


def fill_ellipse(
    mask: np.ndarray,
    center: tuple[float, float],
    radii: tuple[float, float],
    value: int,
    degrees: float = 0.0,
) -> None:
    """Fills an ellipse turned about its centre.

    Args:
      mask, value: as in `fill_polygon`.
      center: (x, y).
      radii: along x and y before the turn, in pixels.
      degrees: the turn, clockwise.

    Raises:
      ValueError: numbers that are not finite.
    """
    (x, y), (across, down) = points_of([center, radii])
    reach = max(abs(across), abs(down))
    top, bottom = _first_center(np.array([y - reach, y + reach]), mask.shape[0])
    left, right = _first_center(np.array([x - reach, x + reach]), mask.shape[1])
    if not across or not down or top >= bottom or left >= right:
        return
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    part = mask[top:bottom, left:right]
    dx = np.arange(left, right) + 0.5 - x
    for rows in bands(*part.shape):
        dy = np.arange(top + rows.start, top + rows.stop)[:, np.newaxis] + 0.5 - y
        u, v = (dx * cos + dy * sin) / across, (dy * cos - dx * sin) / down
        part[rows][u * u + v * v <= 1] = value


def _first_center(places: np.ndarray, size: int) -> np.ndarray:
    """The first pixel of an axis whose centre lies at a place or behind it."""
    return np.clip(np.ceil(places - 0.5), 0, size).astype(np.int64)
