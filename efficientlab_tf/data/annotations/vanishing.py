"""Objects that are too small for the network's pictures."""

from collections.abc import Iterable, Sequence

import numpy as np

from efficientlab_tf.data.annotations.export import UNKNOWN, listed
from efficientlab_tf.data.annotations.resizing import resize_annotations
from efficientlab_tf.data.mask_readings import UNKNOWN as IGNORE
from efficientlab_tf.errors import UserError

_STEP = 32


class Shrunk:
    """Brings masks to the network's size, and remembers what vanishes on the way.

    Args:
      names: of the classes 1.. in masks.
      size: (height, width).
    """

    def __init__(self, names: Sequence[str], size: tuple[int, int] | None):
        self._names = names
        self._size = size
        self._lost: dict[str, list[tuple[str, tuple[int, int] | None]]] = {}

    def resize(
        self, picture: str, mask: np.ndarray, numbers: Iterable[int]
    ) -> np.ndarray:
        """Resizes a mask; what vanishes becomes unknown where it was.

        Args:
          picture: its name.
          mask: [H, W]; 0 background, 1.. classes, -1 unknown.
          numbers: of the classes in it.
        """
        small = resize_annotations(mask[np.newaxis], self._size, UNKNOWN)[0]
        left = set(np.unique(small).tolist())
        for number in (n for n in numbers if n not in left):
            rows, columns = np.nonzero(mask == number)
            # Where it was the picture is no background.
            cells = (
                (2 * rows + 1) * self._size[0] // (2 * mask.shape[0]),
                (2 * columns + 1) * self._size[1] // (2 * mask.shape[1]),
            )
            small[cells] = np.where(small[cells] == 0, UNKNOWN, small[cells])
            kept = size_that_keeps(rows, columns, mask.shape, self._size)
            self._lost.setdefault(self._names[number - 1], []).append((picture, kept))
        return small

    def remark(
        self,
        classes: Sequence[str],
        masks: Sequence[tuple[str, np.ndarray]],
        notes: list[str],
    ) -> None:
        """Notes pictures that teach nothing, and refuses classes that are too small.

        Args:
          classes: the names of classes 1..K.
          masks: names of pictures and their masks; 0..K, 255 unknown.
          notes: takes the words.

        Raises:
          UserError: nothing is left of a class.
        """
        lost_in = set()
        for index, name in enumerate(classes, start=1):
            lost = self._lost.get(name, [])
            if not lost:
                continue
            lost_in |= {picture for picture, _ in lost}
            height, width = self._size
            kept = max((kept for _, kept in lost if kept), default=None)
            cure = "cut the pictures to the object"
            if kept:
                cure += f", or take a model of {kept[1]}x{kept[0]}, which keeps it"
            if not any((mask == index).any() for _, mask in masks):
                raise UserError(
                    f"class {name} covers no pixel of any picture at {width}x{height}; "
                    f"its objects are too small for this model: {cure}"
                )
            notes.append(
                f"{listed(picture for picture, _ in lost)}: {name} vanishes at the "
                f"model's {width}x{height} pixels, so its place is unknown; {cure}"
            )
        empty = [
            name
            for name, mask in masks
            if name not in lost_in and not ((mask > 0) & (mask < IGNORE)).any()
        ]
        if empty:
            notes.append(f"nothing marked, so all background: {listed(empty)}")


def size_that_keeps(
    rows: np.ndarray,
    columns: np.ndarray,
    shape: tuple[int, int],
    size: tuple[int, int],
) -> tuple[int, int] | None:
    """Returns the smallest size at which something of an object is left.

    Args:
      rows: of the object's pixels.
      columns: of the same.
      shape: of its mask, (height, width).
      size: (height, width) at which nothing is left; the larger ones that are tried
        have its aspect ratio, and their shorter side is a multiple of 32.

    Returns:
      (height, width), or None if only the picture's own size keeps it.
    """
    short = min(size)
    for side in range(short // _STEP * _STEP + _STEP, max(shape), _STEP):
        target = tuple(round(length * side / short) for length in size)
        kept = np.ones(len(rows), bool)
        for places, old, new in zip((rows, columns), shape, target, strict=True):
            kept &= np.isin(places, (2 * np.arange(new) + 1) * old // (2 * new))
        if kept.any():
            return target
    return None
