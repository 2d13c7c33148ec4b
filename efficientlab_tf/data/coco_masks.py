"""Masks as COCO's annotations outline them: polygons, or run lengths of two kinds."""

import numpy as np

from efficientlab_tf.data.drawing import fill_polygon


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
        if tuple(segmentation["size"]) != mask.shape:
            raise ValueError(
                f"run lengths of size {segmentation['size']}, image {list(mask.shape)}"
            )
        mask[coco_mask(segmentation)] = value
        return
    for outline in segmentation:
        fill_polygon(mask, np.asarray(outline, np.float64).reshape(-1, 2), value)


def coco_mask(encoded: dict) -> np.ndarray:
    """Decodes COCO's run lengths, a list or compressed into a string.

    Runs of 0 and 1 take turns, 0 first, down the columns from left to right. In a
    string each length is written in groups of five bits, low ones first, each in one
    character from "0" on (48) whose sixth bit says that more follow; the last
    group's fifth bit is the sign. From the fourth length on the difference from the
    length two before is written. (The format of the COCO API's maskApi.)

    Args:
      encoded: "counts", and "size": height and width in pixels.

    Returns:
      bool [height, width].

    Raises:
      ValueError, KeyError, TypeError: damaged, or not such a dictionary.
    """
    height, width = encoded["size"]
    counts = encoded["counts"]
    if isinstance(counts, str):
        counts = _uncompressed(counts)
    lengths = np.asarray(counts)
    whole = lengths.ndim == 1 and lengths.dtype.kind == "i"
    if not whole or (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError(f"run lengths that do not make {width}x{height} pixels")
    values = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return values.reshape(width, height).T


def _uncompressed(text: str) -> list[int]:
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            raise ValueError("compressed run lengths with a stray character")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        if len(lengths) > 2:
            value += lengths[-2]
        lengths.append(value)
        value = shift = 0
    if shift:
        raise ValueError("compressed run lengths that break off")
    return lengths
