"""Masks to outlines: polygons of few points, which people can move.

A mask's outline runs half-way between the centres of marked and of other pixels, so it
stays sqrt(2) / 4 = 0.354 pixels away from every centre. Where it is moved by less, no
centre changes sides: `drawing.fill_polygon` makes the same mask of it. Large things
need no such care: their outlines move by up to two pixels, as long as no more than a
hundredth of the thing, or of a hole in it, changes sides.
"""

import numpy as np
from scipy.spatial import cKDTree

from efficientlab_tf.data.drawing import fill_polygon

TOLERANCES = (2.0, 1.0, 0.6)
"""How far leaving out points may move an outline, in pixels: the first that will do."""
EXACT = 0.35
"""The same where none of these will do."""
LOSS = 0.01
"""The part of a piece's pixels that may change sides."""


def outlines(marked: np.ndarray) -> list[np.ndarray]:
    """Returns a polygon for each connected piece of a mask.

    A hole is joined to the outline around it by a double edge, which the even-odd rule
    does not see.

    Args:
      marked: bool [H, W].

    Returns:
      float64 [n, 2] each: x, y in pixels from the upper left corner of the upper left
      pixel; the last point is joined to the first.
    """
    # Not above: only writers of polygons need it.
    from contourpy import FillType, contour_generator

    rows, columns = np.flatnonzero(marked.any(1)), np.flatnonzero(marked.any(0))
    if not len(rows):
        return []
    top, left = rows[0], columns[0]
    part = marked[top : rows[-1] + 1, left : columns[-1] + 1]
    generator = contour_generator(
        z=np.pad(part, 1).astype(np.float64), fill_type=FillType.OuterOffset
    )
    # The padding moves a centre from 0.5 to 1.
    corner = left - 0.5, top - 0.5
    polygons = []
    for points, offsets in zip(*generator.filled(0.5, 2.0), strict=True):
        rings = np.split(points + corner, offsets[1:-1])
        areas = [_area(ring) for ring in rings]
        # The areas of holes are negative. Each ring has its share of what may be lost.
        share = LOSS * sum(areas) / len(points)
        outer, *holes = (
            _with_few_points(ring, min(share * len(ring), LOSS * abs(area)))
            for ring, area in zip(rings, areas, strict=True)
        )
        polygons.append(_joined(outer, holes))
    return polygons


def _area(ring: np.ndarray) -> float:
    x, y = (ring - ring[0]).T
    return float(x[:-1] @ y[1:] - x[1:] @ y[:-1]) / 2


def _with_few_points(ring: np.ndarray, loss: float) -> np.ndarray:
    """Leaves out points of a closed ring; so many pixels may change sides."""
    if loss >= 1:
        corner = np.floor(ring.min(0))
        width, height = np.ceil(ring.max(0) - corner).astype(int).tolist()

        def drawn(points: np.ndarray) -> np.ndarray:
            mask = np.zeros((height, width), bool)
            fill_polygon(mask, points - corner, True)
            return mask

        exact = drawn(ring)
        for most in TOLERANCES:
            simple = simplified(ring, most)
            # Of a thin line two points may be left.
            if len(simple) > 2 and np.count_nonzero(drawn(simple) != exact) <= loss:
                return simple
    return simplified(ring, EXACT)


def simplified(ring: np.ndarray, most: float) -> np.ndarray:
    """Leaves out points of a ring, so that it moves by no more than `most` pixels.

    By the algorithm of Ramer, Douglas and Peucker, on both halves of the ring.

    Args:
      ring: float64 [n, 2], the last point the same as the first.
      most: see above.

    Returns:
      float64 [m, 2], without the repeated point.
    """
    far = int(np.square(ring - ring[0]).sum(1).argmax())
    kept = np.zeros(len(ring), bool)
    kept[[0, far]] = True
    stretches = [(0, far), (far, len(ring) - 1)]
    while stretches:
        first, last = stretches.pop()
        if last - first < 2:
            continue
        chord = ring[last] - ring[first]
        away = ring[first + 1 : last] - ring[first]
        along = np.clip(away @ chord / max(chord @ chord, 1e-9), 0, 1)
        away -= along[:, np.newaxis] * chord
        distances = np.square(away).sum(1)
        place = int(distances.argmax())
        if distances[place] > most**2:
            middle = first + 1 + place
            kept[middle] = True
            stretches += [(first, middle), (middle, last)]
    return ring[kept]


def _joined(outer: np.ndarray, holes: list[np.ndarray]) -> np.ndarray:
    """One polygon: each hole hangs on the nearest point of the outline."""
    if not holes:
        return outer
    tree = cKDTree(outer)
    hung: dict[int, list[np.ndarray]] = {}
    for hole in holes:
        distances, nearest = tree.query(hole)
        start = int(distances.argmin())
        ring = np.roll(hole, -start, axis=0)
        hung.setdefault(int(nearest[start]), []).append(ring)
    parts = []
    for place, point in enumerate(outer[:, np.newaxis]):
        parts.append(point)
        for ring in hung.get(place, ()):
            parts += [ring, ring[:1], point]
    return np.concatenate(parts)
