"""Decides what the mask files of a set mean, by looking, and refuses to guess."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from efficientlab_tf.data.mask_planes import (
    BLACK,
    CUT,
    Plane,
    Survey,
    is_grey,
    read_plane,
    survey,
)
from efficientlab_tf.data.mask_possibilities import (
    ANY,
    MANY_NUMBERS,
    PALETTE,
    possible_readings,
)
from efficientlab_tf.data.mask_readings import (
    ALPHA,
    AUTO,
    BACKGROUND_NAMES,
    COLORMAP,
    COLORS,
    DARK,
    INDEX,
    INSTANCES,
    NEAR,
    OBJECT,
    SAY,
    THE_OBJECT,
    UNKNOWN,
    Reading,
    hex_color,
    is_shade,
)
from efficientlab_tf.data.picture_files import Refused, read_bytes
from efficientlab_tf.errors import UserError

_MOST_FRINGE = 0.1
_VERY_MANY = 32


def decide(
    files: Iterable[Path],
    mask_values: str = AUTO,
    *,
    names: Mapping[int, str] | None = None,
    colors: Mapping[int, str] | None = None,
    refused: dict[Path, str] | None = None,
) -> Reading:
    """Decides what the mask files of a set mean.

    Args:
      files: all of them.
      mask_values: one of `MASK_VALUES`; auto looks.
      names: of numbers, as a list of labels beside the masks has them.
      colors: names of colours, as a map of labels beside the masks has them.
      refused: takes the files that cannot be read, with the reason; None raises it.

    Raises:
      UserError: a file that cannot be read, or may mean several things, or files that
        contradict each other.
    """
    surveys, possible = [], []
    for path in files:
        try:
            found = survey(read_plane(read_bytes(path)), str(path))
            if mask_values == AUTO:
                possible.append(possible_readings(found))
            surveys.append(found)
        except (Refused, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            if refused is None:
                raise UserError(f"{path}: {reason}") from error
            refused[path] = reason or str(error)
    kind = mask_values
    if kind == AUTO:
        kind = _settle(surveys, _common(surveys, possible), names, colors)
    by_itself = mask_values == AUTO
    return _reading(kind, surveys, names or {}, colors or {}, by_itself)


def means_of(plane: Plane, name: str) -> Reading:
    """Decides what a single mask means, see `decide`.

    Raises:
      Refused: it may mean several things.
      UserError: the same, of colours.
    """
    found = survey(plane, name)
    kind = _settle([found], _common([found], [possible_readings(found)]), {}, {})
    return _reading(kind, [found], {}, {}, True)


def _common(surveys: list[Survey], possible: list[frozenset]) -> frozenset[str]:
    """The readings that suit every file."""
    common = None
    # Where 255 is unknown beside numbers, it is so where there are no numbers, too.
    unknown = any(
        UNKNOWN in found.counts and INDEX in own
        for found, own in zip(surveys, possible, strict=True)
    )
    if unknown:
        possible = [
            own | {INDEX} if set(found.counts) <= {0, UNKNOWN} else own
            for found, own in zip(surveys, possible, strict=True)
        ]
    for i, (found, own) in enumerate(zip(surveys, possible, strict=True)):
        remaining = own if common is None else common & own
        if not remaining:
            other = next((j for j in range(i) if not possible[j] & own), i - 1)
            other = surveys[other]
            raise UserError(
                f"{other.name} holds {_described(other)}, but {found.name} "
                f"{_described(found)}: masks of one set have to mean the same; save "
                f"them alike, or {SAY}"
            )
        common = remaining
    return frozenset((OBJECT,)) if common in (None, ANY) else common


def _settle(surveys, common, names, colors) -> str:
    """Chooses one of the readings that suit all files."""
    if colors and COLORS in common:
        return COLORS
    if OBJECT in common:
        if surveys and all(set(s.counts) == {255} for s in surveys):
            raise UserError(
                f"{surveys[0].name}: every mask is 255 all over; a mask is 255 on the "
                "object and 0 elsewhere"
            )
        return OBJECT
    if PALETTE in common:
        return _settle_palettes(surveys, common)
    if INDEX in common:
        return _settle_numbers(surveys, names)
    return next(kind for kind in (COLORS, INSTANCES, ALPHA) if kind in common)


def _settle_palettes(surveys: list[Survey], common: frozenset) -> str:
    """Indices decide where all palettes agree on them, colours elsewhere."""
    table: dict[int, tuple[int, Survey]] = {}
    for found in surveys:
        for value, code in (found.colors or {}).items():
            known, first = table.setdefault(value, (code, found))
            if known != code:
                return _settle_colors(first, found)
    if INDEX not in common:
        return COLORS
    codes = {code for code, _ in table.values()}
    made_up = set(table) == set(range(len(table))) and len(table) > 1
    if BLACK not in codes and made_up and all(s.palette <= len(table) for s in surveys):
        raise UserError(
            f"{surveys[0].name} has colours and none of them is black: which is the "
            "background? paint it black; or set `mask_values` to index, if 0 is the "
            "background in the palette"
        )
    return INDEX


def _settle_colors(first: Survey, other: Survey) -> str:
    shown, more = (set(s.colors.values()) - {BLACK} for s in (first, other))
    if shown and more and not shown & more:
        raise UserError(
            f"the palettes of {first.name} and {other.name} differ and have no colour "
            f"in common; {SAY} (index, instances or colors)"
        )
    return COLORS


def _settle_numbers(surveys: list[Survey], names) -> str:
    """Tells numbers of classes from a number for each instance."""
    if names or any(s.palette for s in surveys):
        return INDEX
    found = {s.name: set(s.counts) - {0} for s in surveys}
    union = set().union(*found.values())
    most = max(map(len, found.values()))
    single = min((s.pieces for s in surveys if len(found[s.name]) > 1), default=0)
    counted = all(v == set(range(1, len(v) + 1)) for v in found.values())
    many = most >= MANY_NUMBERS
    if single >= 0.9 and ((many and counted) or len(union) > _VERY_MANY):
        return INSTANCES
    # Files of 16 or 32 bits hold instances more often than classes.
    deep = counted and most > 1 and any(s.deep for s in surveys)
    if (single >= 0.9 and (many or deep)) or (
        single >= 0.6 and len(union) > _VERY_MANY
    ):
        raise UserError(
            f"{surveys[0].name} and the other masks hold {len(union)} numbers: of "
            "classes, or one for each object? set `mask_values` to index or instances"
        )
    inner = union - {UNKNOWN}
    if UNKNOWN in union and len(inner) == 1 and min(inner) >= NEAR:
        raise UserError(
            f"{surveys[0].name} and the other masks hold {min(inner)} and 255: is 255 "
            "the object, or unknown? set `mask_values` to object or index"
        )
    return INDEX


def _reading(
    kind: str, surveys: list[Survey], names, colors, by_itself: bool
) -> Reading:
    """Makes a reading of its kind and of what the files hold."""
    if kind == COLORS:
        return _color_reading(surveys, names, colors, by_itself)
    values = set().union(*(s.counts for s in surveys))
    if kind == INDEX:
        if any(s.colors and not s.palette for s in surveys):
            values = {COLORMAP.get(c, 0) for s in surveys for c in _used(s)}
        numbers = sorted(values - {0, UNKNOWN})
        if numbers in ([], [1]) and not names:
            text = "levels 0 and 1: object on background"
            text += ", 255 unknown" if UNKNOWN in values else ""
            return Reading(INDEX, text, {1: THE_OBJECT})
        shown = ", ".join(map(str, numbers[:9])) + ", ..." * bool(numbers[9:])
        unknown = "; 255 is unknown" if UNKNOWN in values else ""
        if len(numbers) > 1 and not names and numbers[-1] == len(numbers):
            unknown += "; if each object has a number, set `mask_values` to instances"
        return Reading(
            INDEX,
            f"numbers of classes, {shown}{unknown}",
            {i: names.get(i, str(i)) for i in numbers if i < UNKNOWN},
        )
    object_name = {1: THE_OBJECT}
    if kind == INSTANCES:
        most = max((len(set(s.counts) - {0}) for s in surveys), default=0)
        text = f"a number for each instance, up to {most} a file: all but 0 is object"
        return Reading(kind, text, object_name)
    if kind == ALPHA:
        text = "transparency: what is opaque is object"
        return Reading(kind, text, object_name)
    if kind == DARK:
        return Reading(kind, "dark object on bright background", object_name)
    grey = set().union(*(s.counts for s in surveys if not s.colors)) - {0}
    levels = ""
    if grey:
        levels = f", levels 0 {'to' if len(grey) > 1 else 'and'} {max(grey)}"
    return Reading(OBJECT, f"bright object on dark background{levels}", object_name)


def _color_reading(surveys: list[Survey], names, colors, by_itself: bool) -> Reading:
    used = set().union(*map(_used, surveys)) if surveys else set()
    if len(used) > UNKNOWN - 1:
        raise UserError(
            f"{surveys[0].name} and the other masks hold {len(used)} colours, more "
            f"than {UNKNOWN - 1} classes; save them with one colour for each class"
        )
    for found in surveys:
        own = found.colors or {v: v * 0x010101 for v in found.counts}
        painted = sum(n for v, n in found.counts.items() if own[v] != BLACK)
        fringe = sum(
            n
            for v, n in found.counts.items()
            if own[v] not in used | {BLACK}
            and not (len(used) == 1 and is_shade(own[v], *used))
        )
        if fringe > _MOST_FRINGE * painted:
            raise UserError(
                f"{found.name}: {fringe} pixels have colours that fill no region, as "
                "along soft edges or in thin lines; save the mask without smoothing, "
                "as PNG"
            )
    if by_itself and not colors:
        _refuse_instances(surveys, used)
    if colors:
        if stray := sorted(used - set(colors)):
            raise UserError(
                f"{surveys[0].name} and the other masks hold the colour "
                f"{hex_color(stray[0])}, which belongs to no label; complete the labels"
            )
        backgrounds = {c for c in used if colors[c].lower() in BACKGROUND_NAMES}
        codes = {c: i for i, c in enumerate(sorted(used - backgrounds), start=1)}
        named = {i: colors[code] for code, i in codes.items()}
        codes |= dict.fromkeys(backgrounds, 0)
    elif used <= set(COLORMAP) and len(used) > 1:
        codes = {code: COLORMAP[code] for code in sorted(used, key=COLORMAP.get)}
        named = {i: names.get(i, str(i)) for i in codes.values() if i != UNKNOWN}
    elif len(used) == 1:
        codes, named = {used.pop(): 1}, {1: THE_OBJECT}
    else:
        if not any(s.opacity == CUT or BLACK in _colors_of(s) for s in surveys):
            raise UserError(
                f"{surveys[0].name} has colours and none of them is black: which is "
                "the background? paint it black"
            )
        codes = {code: i for i, code in enumerate(sorted(used), start=1)}
        named = {i: hex_color(code) for code, i in codes.items()}
    shown = [f"{hex_color(c)} {named.get(i, '')}".strip() for c, i in codes.items()]
    text = f"colours, {', '.join(shown[:9])}{', ...' * bool(shown[9:])}"
    return Reading(COLORS, f"{text}; black is background", named, codes)


def _refuse_instances(surveys: list[Survey], used: set[int]) -> None:
    """Refuses colours that may be those of single objects."""
    own = [colors for colors in map(_used, surveys) if len(colors) > 1]
    shared = len(own) < 2 or len(used) < sum(map(len, own))
    if len(used) > _VERY_MANY or not shared:
        raise UserError(
            f"{surveys[0].name} and the other masks hold {len(used)} colours, "
            f"{'many' if shared else 'others in each file'}: of classes, or one for "
            "each object? set `mask_values` to colors or instances"
        )


def _colors_of(found: Survey) -> set[int]:
    """The colours that occur in a file."""
    if found.colors is None:
        return {value * 0x010101 for value in found.counts}
    return {found.colors[value] for value in found.counts}


def _used(found: Survey) -> set[int]:
    """The colours that fill regions of a file, but black."""
    colors = found.colors or {v: v * 0x010101 for v in found.counts}
    return {colors[value] for value in found.regions} - {BLACK}


def _described(found: Survey) -> str:
    """What a file holds, for people."""
    if found.opacity == CUT and (found.is_photo or len(found.regions) < 2):
        return "an object on a transparent background"
    if found.colors and not all(map(is_grey, found.colors.values())):
        shown = ", ".join(map(hex_color, sorted(_colors_of(found))[:6]))
        return f"the colours {shown}{', ...' * (len(found.counts) > 6)}"
    levels = sorted(code & 255 for code in _colors_of(found))
    if found.colors is None:
        levels = sorted(found.counts)
    shown = ", ".join(map(str, levels[:6]))
    return f"the levels {shown}{f', ... {levels[-1]}' if levels[6:] else ''}"
