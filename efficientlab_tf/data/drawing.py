"""Outlines to masks: a pixel belongs to a shape if its centre lies inside.

Coordinates are in pixels from the upper left corner of the upper left pixel, whose
centre is (0.5, 0.5). What reaches over the image's edge is clipped.
"""

import math

import numpy as np

MAX_PIXELS = 2**28
"""Larger canvases are taken for a damaged file."""


def blank(height: object, width: object) -> np.ndarray:
    """Returns an empty mask, int32 [height, width].

    Raises:
      ValueError: not a size.
    """
    if not (isinstance(height, int) and isinstance(width, int)):
        raise ValueError(f"height and width are {height!r} and {width!r}")
    if min(height, width) < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"an image of {width}x{height} pixels")
    return np.zeros((height, width), np.int32)


def fill_polygon(mask: np.ndarray, points: object, value: int) -> None:
    """Fills a polygon; what it winds around twice is outside (even-odd rule).

    So do LabelMe and the COCO API, and a hole that is joined to the outline by a
    double edge stays open.

    Args:
      mask: [H, W], changed in place.
      points: at least three (x, y); the last is joined to the first.
      value: what to write.

    Raises:
      ValueError: fewer points, or points that are not finite numbers.
    """
    points = _points(points)
    if len(points) < 3:
        raise ValueError(f"a polygon of {len(points)} points")
    top, bottom = _span(points[:, 1], mask.shape[0])
    left, right = _span(points[:, 0], mask.shape[1])
    if top >= bottom or left >= right:
        return
    # crossings[y, x]: edges between the centres of pixels x - 1 and x.
    crossings = np.zeros((bottom - top, right - left + 1), np.int32)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        first, last = _span(np.array([y0, y1]), mask.shape[0])
        rows = np.arange(first, last)
        if not len(rows):
            continue
        x = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        columns = np.clip(np.ceil(x - 0.5), left, right).astype(np.int64)
        crossings[rows - top, columns - left] += 1
    inside = np.cumsum(crossings, axis=1, dtype=np.int32)[:, :-1] % 2 == 1
    mask[top:bottom, left:right][inside] = value


def fill_rectangle(
    mask: np.ndarray,
    corner: tuple[float, float],
    size: tuple[float, float],
    value: int,
    degrees: float = 0.0,
) -> None:
    """Fills a rectangle turned about its upper left corner.

    Args:
      mask, value: as in `fill_polygon`.
      corner: (x, y) of the upper left corner.
      size: width and height, in pixels.
      degrees: the turn, clockwise.
    """
    (x, y), (width, height) = corner, size
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    steps = ((0, 0), (width, 0), (width, height), (0, height))
    points = [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in steps]
    fill_polygon(mask, points, value)


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
    (x, y), (across, down) = _points([center, radii])
    reach = max(abs(across), abs(down))
    top, bottom = _span(np.array([y - reach, y + reach]), mask.shape[0])
    left, right = _span(np.array([x - reach, x + reach]), mask.shape[1])
    if not across or not down or top >= bottom or left >= right:
        return
    dy = np.arange(top, bottom)[:, np.newaxis] + 0.5 - y
    dx = np.arange(left, right) + 0.5 - x
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    u, v = (dx * cos + dy * sin) / across, (dy * cos - dx * sin) / down
    mask[top:bottom, left:right][u * u + v * v <= 1] = value


def _points(values: object) -> np.ndarray:
    points = np.asarray(values, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError("points that are not pairs of finite numbers")
    return points


def _span(values: np.ndarray, size: int) -> tuple[int, int]:
    """The pixels [first, last) of an axis whose centres lie between the extremes."""
    ends = np.ceil(np.array([values.min(), values.max()]) - 0.5)
    first, last = np.clip(ends, 0, size)
    return int(first), int(last)
