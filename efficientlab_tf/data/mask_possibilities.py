"""What a single mask file may mean, from what is in it; a set decides which it is."""

from efficientlab_tf.data.mask_planes import (
    BLACK,
    CLEAR,
    CUT,
    MAX_COLORS,
    OPAQUE,
    Survey,
    is_grey,
)
from efficientlab_tf.data.mask_readings import (
    ALPHA,
    COLORS,
    INDEX,
    INSTANCES,
    NEAR,
    OBJECT,
    THRESHOLD,
)
from efficientlab_tf.data.picture_files import Refused

PALETTE = "palette"
"""Indices or colours: which of them count, only the palettes of all files tell."""
ANY = frozenset((OBJECT, PALETTE, INDEX, INSTANCES, COLORS))
"""What a file without any object may mean."""
MANY_NUMBERS = 8
CURE = "draw the object in white on black, and save it as PNG"


def possible_readings(found: Survey) -> frozenset[str]:
    """Returns what a file may mean: kinds of `Reading`, and `PALETTE`.

    Raises:
      Refused: none, or it cannot be told.
    """
    if found.opacity == CUT and (found.is_photo or len(found.regions) < 2):
        return frozenset((ALPHA,))
    if found.is_photo:
        raise Refused(f"more than {MAX_COLORS} colours: a photo, not a mask; {CURE}")
    if found.inverting:
        raise Refused(
            "it is saved to be shown inverted, as ImageJ saves masks: is the object "
            "what a viewer shows dark, or bright? set `mask_values` to dark or object, "
            "or save it without the inverting lookup table"
        )
    own = _by_values(found)
    flat = found.opacity == OPAQUE and len(found.counts) == 1
    return own | {ALPHA} if flat or found.opacity == CLEAR else own


def _by_values(found: Survey) -> frozenset[str]:
    colors = found.colors
    if colors is None:
        return _by_levels(found.counts, found.settled, found)
    if not all(map(is_grey, colors.values())):
        if 2 * sum(found.settled.values()) < sum(found.counts.values()):
            raise Refused("colours all over: a picture, not a mask; " + CURE)
        if not found.palette:
            return frozenset((COLORS,))
        if colors.get(0, BLACK) != BLACK and BLACK in colors.values():
            # Palettes that programs make up have any order; indices mean nothing.
            return frozenset((PALETTE, COLORS))
        return frozenset((PALETTE, COLORS, INDEX))
    counts: dict[int, int] = {}
    settled: dict[int, int] = {}
    for value, code in colors.items():
        level = code & 255
        counts[level] = counts.get(level, 0) + found.counts[value]
        settled[level] = settled.get(level, 0) + found.settled[value]
    same = all(code & 255 == value for value, code in colors.items())
    if same or not found.palette:
        return _by_levels(counts, settled, found)
    try:
        own = _by_levels(counts, settled, found)
    except Refused:
        own = frozenset()
    return own if OBJECT in own or own == ANY else frozenset((PALETTE, INDEX))


def _by_levels(counts, settled, found: Survey) -> frozenset[str]:
    """The readings of grey levels; see `Survey` for what is settled."""

    def part(levels: list[int]) -> float:
        """How much of some levels fills regions."""
        return sum(settled[v] for v in levels) / max(sum(counts[v] for v in levels), 1)

    numbers = frozenset((INDEX, INSTANCES))
    bright = sorted(set(counts) - {0})
    if not bright:
        return ANY
    top = bright[-1]
    if len(bright) == 1 and top >= THRESHOLD:
        return numbers | {OBJECT} if top < 255 else frozenset((OBJECT,))
    if top > 255:
        return _by_large_levels(bright, counts, part, found)
    inner = [v for v in bright if NEAR <= v < 256 - NEAR]
    near_white = [v for v in bright if 256 - NEAR <= v < 255]
    few = 2 * sum(counts[v] for v in inner) <= sum(counts.values())
    if found.lossy:
        if top >= 256 - NEAR and few:
            return frozenset((OBJECT,))
        raise Refused(
            f"grey levels up to {top} in a format that changes them, as JPEG does; "
            "save the mask as PNG"
        )
    soft = part(inner) < 0.25
    if inner and soft:
        if top >= THRESHOLD and few:
            return frozenset((OBJECT,))
        if top < THRESHOLD and len(bright) <= MANY_NUMBERS:
            return numbers
        raise Refused(
            f"grey levels all over, {bright[0]} to {top}: a picture, not a mask; save "
            "it with levels 0 and 255"
        )
    if inner and part(inner) >= 0.5:
        if top == 255 and _is_ramp(bright):
            raise Refused(
                f"grey levels {', '.join(map(str, bright))}: classes in shades of "
                "grey, or an object and what is unknown? set `mask_values` to colors "
                "or object"
            )
        return numbers
    if inner:
        raise Refused(
            "grey levels both in regions and along soft edges: numbers of classes, or "
            "an object? set `mask_values` to index or object"
        )
    if near_white:
        return frozenset((OBJECT,))
    low = [v for v in bright if v < 255]
    if top < 255 or part(low) >= 0.5:
        return numbers
    if 100 * sum(counts[v] for v in low) <= sum(counts.values()):
        return frozenset((OBJECT,))
    raise Refused(
        f"levels {', '.join(map(str, bright[:9]))}: numbers of classes in lines, or "
        "traces around an object? set `mask_values` to index or object"
    )


def _by_large_levels(bright, counts, part, found: Survey) -> frozenset[str]:
    """The readings of levels above 255, in files of 16 or 32 bits."""
    top = bright[-1]
    if len(bright) == 1:
        return frozenset((OBJECT,))
    between = [v for v in bright if v != 65535]
    if part(between) >= 0.5:
        if len(bright) > MANY_NUMBERS and found.pieces >= 0.9:
            return frozenset((INSTANCES,))
        raise Refused(
            f"numbers up to {top}, more than classes have (254); if each object has "
            "a number of its own, set `mask_values` to instances"
        )
    few = 2 * sum(counts[v] for v in between) <= sum(counts.values())
    if part(between) < 0.25 and few and top >= 2**15:
        return frozenset((OBJECT,))
    raise Refused(
        f"levels up to {top} all over: a picture, not a mask; save it with levels 0 "
        "and 255"
    )


def _is_ramp(levels: list[int]) -> bool:
    """Whether a few levels divide 0..255 evenly."""
    step = 255 / len(levels)
    even = (abs(v - step * i) < 2 for i, v in enumerate(levels, start=1))
    return len(levels) <= MANY_NUMBERS and all(even)
