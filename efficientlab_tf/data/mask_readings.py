"""What mask files mean, and how to read them so: `Reading`.

Masks come as an object on background (grey levels 0 and 255, 0 and 1, 0 and 65535, or
one colour on black), as numbers of classes, as a number for each instance, as a colour
for each class, or as transparency. All files of a set mean the same, see `decide`.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from efficientlab_tf.data.mask_planes import (
    BLACK,
    CUT,
    MAX_COLORS,
    OPAQUE,
    Plane,
    read_plane,
    survey,
)
from efficientlab_tf.data.picture_files import (
    ONE_PAGE,
    Refused,
    count_values,
    read_bytes,
)

UNKNOWN = 255
"""In a mask: pixels of which nobody said what they are."""
THRESHOLD = 128
AUTO = "auto"
OBJECT, DARK, ALPHA = "object", "dark", "alpha"
INDEX, INSTANCES, COLORS = "index", "instances", "colors"
MASK_VALUES = (AUTO, OBJECT, DARK, INDEX, INSTANCES, COLORS, ALPHA)
BACKGROUND_NAMES = ("background", "_background_")
THE_OBJECT = "object"
"""What the class of masks without any name is called."""

NEAR = 32
"""Levels that differ by less may do so by lossy compression or soft edges."""
SAY = "set `mask_values` to say what they are"


def _colormap() -> dict[int, int]:
    """PASCAL VOC's colours of the indices 1..255, which DAVIS uses as well."""
    table = {}
    for index in range(1, 256):
        code = 0
        for channel in range(3):
            level = sum(
                (index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3)
            )
            code |= level << (16 - 8 * channel)
        table[code] = index
    return table


COLORMAP = _colormap()


@dataclasses.dataclass(frozen=True)
class Reading:
    """What the files of a set mean.

    Attributes:
      kind: one of `MASK_VALUES`, but auto.
      text: the same for people.
      names: of the classes that occur, by their values in masks, 1..254.
      codes: of `COLORS`, the value of each colour (red << 16 | green << 8 | blue).
    """

    kind: str
    text: str = ""
    names: Mapping[int, str] = dataclasses.field(default_factory=dict)
    codes: Mapping[int, int] = dataclasses.field(default_factory=dict)

    @property
    def is_binary(self) -> bool:
        """Whether there is one class, so that its number says nothing."""
        return self.kind in (OBJECT, DARK, INSTANCES, ALPHA) or len(self.names) < 2

    def read(self, path: Path) -> tuple[np.ndarray, list[str]]:
        """Reads a mask file, see `apply`.

        Raises:
          Refused: it cannot be read so.
          OSError: it cannot be read at all.
        """
        return self.apply(read_plane(read_bytes(path)))

    def apply(self, plane: Plane) -> tuple[np.ndarray, list[str]]:
        """Makes a mask of a decoded file.

        Returns:
          uint8 [H, W], 0 background, 1..254 classes, 255 unknown; and what is worth
          knowing, in words.

        Raises:
          Refused: it cannot be read so.
        """
        notes = [ONE_PAGE] if plane.pages else []
        if self.kind == ALPHA:
            return _transparency(plane), notes
        if self.kind in (OBJECT, DARK):
            return _object(plane, self.kind == DARK, notes), notes
        if plane.values is None:
            raise Refused(f"more than {MAX_COLORS} colours: a photo, not a mask")
        if self.kind == INDEX:
            mask = _numbers(plane)
        elif self.kind == INSTANCES:
            mask = _marked(plane).astype(np.uint8)
        else:
            mask = self._colors(plane, notes)
        if plane.opaque is not None and not (plane.palette and self.kind == INDEX):
            mask[~plane.opaque] = 0
        return mask, notes

    def _colors(self, plane: Plane, notes: list[str]) -> np.ndarray:
        """Each colour's value; unknown where a colour is no class's."""
        if plane.values.max() > 255:
            raise Refused(f"mask has the level {plane.values.max()}; save it in 8 bits")
        codes = plane.colors
        if codes is None:
            codes = np.arange(256) * 0x010101
        table = np.full(len(codes), UNKNOWN, np.uint8)
        main = next(iter(self.codes)) if len(self.codes) == 1 else None
        for value in count_values(plane.values):
            code = int(codes[value])
            if code in self.codes:
                table[value] = self.codes[code]
            elif code == BLACK:
                table[value] = 0
            elif main is not None and is_shade(code, main):
                # Soft edges of one colour on black: what is nearer to the colour.
                table[value] = 2 * _brightness(code) >= _brightness(main)
        mask = table[plane.values]
        stray = np.count_nonzero(mask == UNKNOWN)
        if stray and UNKNOWN not in self.codes.values():
            notes.append(f"{stray} pixels in colours of no class taken as unknown")
        return mask


def require_class(mask: np.ndarray) -> None:
    """Makes sure that the 255 in a mask of numbers are not the object.

    Args:
      mask: uint8 [H, W].

    Raises:
      Refused: there are 255 and no class.
    """
    unknown = mask == UNKNOWN
    if unknown.any() and (unknown | (mask == 0)).all():
        raise Refused(
            "mask has only 0 and 255 (unknown), so no class; if 255 means the object, "
            "set `mask_values` to object"
        )


def hex_color(code: int) -> str:
    return f"#{code:06x}"


def is_shade(code: int, main: int) -> bool:
    """Whether a colour lies between black and another, as along soft edges."""
    part = _brightness(code) / _brightness(main)
    return all(
        abs((code >> shift & 255) - part * (main >> shift & 255)) <= NEAR
        for shift in (0, 8, 16)
    )


def _brightness(code: int) -> int:
    return max(code >> 16, code >> 8 & 255, code & 255)


def _transparency(plane: Plane) -> np.ndarray:
    if not plane.opacity:
        raise Refused(
            "mask has no transparency, as other masks of the set have; save it alike, "
            f"or {SAY}"
        )
    if plane.opaque is not None:
        return plane.opaque.astype(np.uint8)
    return np.full(plane.shape, plane.opacity == OPAQUE, np.uint8)


def _object(plane: Plane, dark: bool, notes: list[str]) -> np.ndarray:
    """An object that is brighter than its background, or darker.

    Several channels are one mask drawn in grey, so the brightest counts. Opacity says
    nothing in files that are opaque throughout, as image editors save them; where the
    colour is the same all over, it is the mask.
    """
    if plane.opacity == CUT:
        if plane.values is None or len(survey(plane, "").regions) < 2:
            notes.append("mask taken from the alpha channel: colours are uniform")
            return plane.opaque.astype(np.uint8)
    if plane.values is None:
        raise Refused(
            f"more than {MAX_COLORS} colours: a photo, not a mask of object/background"
        )
    levels = plane.values
    if plane.colors is not None:
        used = plane.colors[list(count_values(levels))].tolist()
        if any(_brightness(c) >= THRESHOLD > _darkest(c) for c in used):
            notes.append("coloured mask: brightest channel taken")
        table = [_brightness(code) for code in plane.colors.tolist()]
        levels = np.array(table, np.uint8)[levels]
    top = int(levels.max())
    if top == 1:
        notes.append("levels 0 and 1 taken as background and object")
    span = next(span for span in (1, 255, 2**16 - 1, top) if span >= top)
    if top > 255 and not ((levels != 0) & (levels != top)).any():
        span = top
    threshold = (span + 1) // 2
    stray = int(np.count_nonzero((levels != 0) & (levels != span)))
    if stray:
        if top < threshold and not dark:
            raise Refused(
                f"brightest level of the mask is {top}, below the threshold "
                f"{threshold}: nothing is marked; save it with levels 0 and {span}"
            )
        notes.append(
            f"stray grey levels in {stray} of {levels.size} pixels, thresholded at "
            f"{threshold}"
        )
    mask = (levels < threshold) if dark else (levels >= threshold)
    if plane.opaque is not None:
        mask &= plane.opaque
    return mask.astype(np.uint8)


def _darkest(code: int) -> int:
    return min(code >> 16, code >> 8 & 255, code & 255)


def _numbers(plane: Plane) -> np.ndarray:
    """The numbers in a mask, or those that VOC's colours stand for."""
    values = plane.values
    if plane.colors is not None and not plane.palette:
        table = [COLORMAP.get(code, 0) for code in plane.colors.tolist()]
        for code, index in zip(plane.colors.tolist(), table, strict=True):
            if code != BLACK and not index:
                raise Refused(
                    f"mask has colours where indices are expected ({hex_color(code)}); "
                    "save it as 8-bit grey or palette PNG"
                )
        values = np.array(table)[values]
    if values.max() > UNKNOWN:
        raise Refused(
            f"mask has index {values.max()}; indices are 0..254, and 255 for unknown"
        )
    return values.astype(np.uint8)


def _marked(plane: Plane) -> np.ndarray:
    """Which pixels are not background."""
    codes = plane.colors
    if codes is not None and BLACK in codes[list(count_values(plane.values))]:
        if not plane.palette or codes[0] != BLACK:
            return codes[plane.values] != BLACK
    return plane.values != 0
