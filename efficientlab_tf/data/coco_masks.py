"""Masks as COCO's annotations outline them: polygons, or run lengths of two kinds.

Polygons are filled by the COCO API. It trusts its input, so nothing gets to it that was
not checked: outlines of a bounded length, never run lengths.
"""

import numpy as np

from efficientlab_tf.data.drawing import check_size, points_of
from efficientlab_tf.data.picture_files import MAX_PIXELS

MAX_OUTLINE = 2**20
"""Longest polygon, in pixels."""
_LONGEST_NUMBER = 6


def paint(mask: np.ndarray, segmentation: list | dict, value: int) -> None:
    """Paints what an annotation outlines.

    Args:
      mask: [H, W], changed in place.
      segmentation: polygons or run lengths; arrays in the place of lists will do.
      value: what to write.

    Raises:
      ValueError, KeyError, TypeError: malformed, or of another size.
    """
    if isinstance(segmentation, dict):
        size, lengths = run_lengths(segmentation)
        if size != mask.shape:
            raise ValueError(
                f"run lengths of size {list(size)}, image {list(mask.shape)}"
            )
        paint_runs(mask, lengths, value)
        return
    for outline in segmentation:
        points = points_of(polygon_points(outline))
        if len(points) < 3:
            raise ValueError(f"a polygon of {len(points)} points")
        paint_polygon(mask, points, value)


def polygon_points(outline: object) -> np.ndarray:
    """Returns the points of a polygon, x0, y0, x1, y1, ..., as float64 [n, 2].

    Raises:
      ValueError: not such a list.
    """
    try:
        return np.asarray(outline, np.float64).reshape(-1, 2)
    except TypeError as error:
        raise ValueError(str(error)) from None


def paint_polygon(mask: np.ndarray, points: np.ndarray, value: int) -> None:
    """Fills a polygon as the COCO API does.

    Args:
      mask: [H, W], changed in place.
      points: float64 [n, 2], at least three.
      value: what to write.

    Raises:
      ValueError: an outline that is too long.
    """
    # Not above: few readers need it.
    from pycocotools import mask as coco_api

    steps = np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1)
    if steps.sum() > MAX_OUTLINE:
        raise ValueError("an outline that is too long for its picture")
    (encoded,) = coco_api.frPyObjects([points.ravel().tolist()], *mask.shape)
    paint_runs(mask, _uncompressed(encoded["counts"]), value)


def run_lengths(encoded: dict) -> tuple[tuple[int, int], np.ndarray]:
    """Decodes COCO's run lengths, a list or compressed into a string.

    Runs of 0 and 1 take turns, 0 first, down the columns from left to right. In a
    string each length is written in groups of five bits, low ones first, each in one
    character from "0" on (48) whose sixth bit says that more follow; the last
    group's fifth bit is the sign. From the fourth length on the difference from the
    length two before is written. (The format of the COCO API's maskApi.)

    Args:
      encoded: "counts", and "size": height and width in pixels.

    Returns:
      (height, width), and the lengths: int64, their sum is height * width.

    Raises:
      ValueError, KeyError, TypeError: damaged, or not such a dictionary.
    """
    height, width = encoded["size"]
    height, width = check_size(height, width)
    counts, pixels = encoded["counts"], height * width
    wrong = ValueError(f"run lengths that do not make {width}x{height} pixels")
    # Bounds first: sums of numbers from elsewhere wrap around.
    if counts is None or len(counts) > (_LONGEST_NUMBER + 1) * (pixels + 2):
        raise wrong
    if isinstance(counts, str):
        lengths = _uncompressed(counts.encode("utf-8"))
    else:
        lengths = np.asarray(counts)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iuf" or not lengths.size:
        raise wrong
    if not ((lengths >= 0) & (lengths <= pixels)).all():
        raise wrong
    if lengths.dtype.kind == "f" and (lengths != np.round(lengths)).any():
        raise wrong
    lengths = lengths.astype(np.int64)
    if lengths.sum() != pixels:
        raise wrong
    return (height, width), lengths


def paint_runs(mask: np.ndarray, lengths: np.ndarray, value: int) -> None:
    """Paints every second run down the columns of a mask [H, W], changed in place."""
    height = mask.shape[0]
    ends = np.cumsum(lengths)
    for start, stop in zip(ends[0::2].tolist(), ends[1::2].tolist(), strict=False):
        if start == stop:
            continue
        (left, top), (right, bottom) = divmod(start, height), divmod(stop, height)
        if left == right:
            mask[top:bottom, left] = value
            continue
        mask[top:, left] = value
        mask[:, left + 1 : right] = value
        if bottom:
            mask[:bottom, right] = value


def _uncompressed(text: bytes) -> np.ndarray:
    codes = np.frombuffer(text, np.uint8).astype(np.int32) - 48
    if not ((codes >= 0) & (codes < 64)).all():
        raise ValueError("compressed run lengths with a stray character")
    ends = np.flatnonzero(codes & 32 == 0)
    if not len(codes) or len(ends) == 0 or ends[-1] != len(codes) - 1:
        raise ValueError("compressed run lengths that break off")
    sizes = np.diff(ends, prepend=-1)
    if sizes.max() > _LONGEST_NUMBER:
        raise ValueError(f"compressed run lengths above {MAX_PIXELS}")
    starts = ends - sizes + 1
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, sizes))
    values = np.add.reduceat((codes & 31).astype(np.int64) << shifts, starts)
    values -= np.where(codes[ends] & 16, np.int64(1) << 5 * sizes, 0)
    # Differences add up over every second length, the very first stands alone.
    for first in (1, 2):
        values[first::2] = np.cumsum(values[first::2])
    return values
