"""What is in a mask file, before anyone decides what it means: `Plane` and `Survey`."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from efficientlab_tf.data.picture_files import (
    Refused,
    band_of,
    bands,
    count_values,
    has_pages,
    open_picture,
    upright,
)

MAX_COLORS = 256
"""A picture of more colours is a photo."""
BLACK, WHITE = 0, 0xFFFFFF

CUT, CLEAR, OPAQUE = "cut", "clear", "opaque"

_LOSSY = ("JPEG", "MPO", "JPEG2000", "AVIF", "HEIF")
_PHOTOMETRIC = 262
_GREY_MODES = ("1", "L", "LA", "La", "I", "F")
_PIXELS_FOR_PIECES = 2**18
_NUMBERS_FOR_PIECES = 64


class Plane(NamedTuple):
    """A decoded mask file.

    Attributes:
      shape: H and W.
      values: whole numbers [H, W], none negative: grey levels, a palette's indices, or
        numbers of the colours in `colors`. None for a photo: more than `MAX_COLORS`.
      colors: the colour of each value, red << 16 | green << 8 | blue; None if the
        values are grey levels.
      palette: how many different colours the file's palette holds; 0 without one.
      opacity: of the alpha channel: `CUT`, where some of the picture is transparent;
        `CLEAR` or `OPAQUE`, where all or nothing is; "" without one.
      opaque: bool [H, W], what is not transparent; None unless `CUT`.
      lossy: whether the format changes values, as JPEG does.
      deep: whether the file has 16 or 32 bits a pixel, whatever it needs.
      pages: whether the file holds further pages, which are not looked at.
      inverting: whether the file says that its 0 is shown white and its 255 black.
    """

    shape: tuple[int, int]
    values: np.ndarray | None
    colors: np.ndarray | None = None
    palette: int = 0
    opacity: str = ""
    opaque: np.ndarray | None = None
    lossy: bool = False
    deep: bool = False
    pages: bool = False
    inverting: bool = False


class Survey(NamedTuple):
    """What a mask file holds, in numbers.

    Attributes:
      name: of the file, for messages.
      pixels: how many there are.
      counts: for each value the number of its pixels; of a `CUT` picture the opaque
        ones alone. Empty for a photo.
      settled: the number of these that have the same value as one neighbour in their
        row and one in their column, as inside of regions and not along soft edges.
      colors: the colour of each value that occurs; None if values are grey levels.
      palette: see `Plane`.
      opacity: see `Plane`.
      lossy: see `Plane`.
      deep: see `Plane`.
      inverting: see `Plane`.
      pieces: of several grey values that fill regions, the part of those whose pixels
        hang together.
    """

    name: str
    pixels: int
    counts: dict[int, int]
    settled: dict[int, int]
    colors: dict[int, int] | None
    palette: int
    opacity: str
    lossy: bool
    deep: bool
    inverting: bool
    pieces: float

    @property
    def is_photo(self) -> bool:
        """Whether it has too many colours for a mask."""
        return not self.counts

    @property
    def regions(self) -> list[int]:
        """The values that fill regions, rather than soft edges between others."""
        return [v for v, n in self.counts.items() if 4 * self.settled[v] >= n]


def read_plane(data: bytes) -> Plane:
    """Decodes a mask file, whatever kind of picture it is.

    Raises:
      Refused: not a picture, damaged, too large, or of values that cannot be told.
    """
    stored = open_picture(data)
    pages, inverting = has_pages(stored), _is_inverting(stored)
    picture = upright(stored)
    picture.format = stored.format
    if picture.mode in ("La", "RGBa"):
        picture = _as(picture, picture.mode.upper())
    opacity, opaque = _opacity(picture)
    if picture.mode in ("P", "PA"):
        values, colors = np.asarray(picture.getchannel(0)), _palette(picture)
        palette = len(np.unique(colors))
        colors = np.pad(colors, (0, 256 - len(colors)))
    elif picture.mode in _GREY_MODES or picture.mode.startswith("I;16"):
        values, colors, palette = _levels(picture), None, 0
    else:
        _refuse_deep_channels(picture, data)
        values, colors, palette = *_colors(picture), 0
    lossy = picture.format in _LOSSY
    lossy |= picture.format == "WEBP" and b"VP8 " in data[:64]
    deep = picture.mode in ("I", "F") or picture.mode.startswith("I;16")
    shape, about = picture.size[::-1], (lossy, deep, pages, inverting)
    return Plane(shape, values, colors, palette, opacity, opaque, *about)


def array_plane(values: np.ndarray) -> Plane:
    """As `read_plane`, of an array uint8 [H, W] or [H, W, 1 to 4]."""
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    picture = Image.fromarray(values)
    opacity, opaque = _opacity(picture)
    if picture.mode in _GREY_MODES:
        return Plane(values.shape[:2], _levels(picture), None, 0, opacity, opaque)
    return Plane(values.shape[:2], *_colors(picture), 0, opacity, opaque)


def survey(plane: Plane, name: str) -> Survey:
    """Counts what is in a mask file."""
    counts, settled = _count(plane)
    pieces = 1.0
    several = len(counts) > 2 and plane.colors is None
    if several and sum(settled.values()) * 2 > sum(counts.values()):
        pieces = _pieces(plane.values)
    colors = plane.colors
    return Survey(
        name,
        plane.shape[0] * plane.shape[1],
        counts,
        settled,
        None if colors is None else {v: int(colors[v]) for v in counts},
        plane.palette,
        plane.opacity,
        plane.lossy,
        plane.deep,
        plane.inverting,
        pieces,
    )


def _as(picture: Image.Image, mode: str) -> Image.Image:
    own = picture.format, picture.info
    picture = picture.convert(mode)
    picture.format, picture.info = own
    return picture


def _opacity(picture: Image.Image) -> tuple[str, np.ndarray | None]:
    """What is opaque, see `Plane`; opacities count by the largest in the picture."""
    width, height = picture.size
    stated = picture.info.get("transparency")
    if "A" in picture.getbands():

        def levels(rows):
            return np.asarray(band_of(picture, rows).getchannel("A"))

    elif stated is None or picture.mode not in ("1", "L", "P", "RGB"):
        return "", None
    elif picture.mode == "P":
        table = np.full(256, 255, np.uint8)
        if isinstance(stated, bytes):
            table[: len(stated)] = np.frombuffer(stated, np.uint8)[:256]
        elif isinstance(stated, int) and 0 <= stated < 256:
            table[stated] = 0

        def levels(rows):
            return table[np.asarray(band_of(picture, rows))]

    else:

        def levels(rows):
            band = band_of(picture, rows)
            band.info["transparency"] = stated
            return np.asarray(band.convert("RGBA").getchannel("A"))

    most = max(int(levels(rows).max()) for rows in bands(height, width))
    if not most:
        return CLEAR, None
    opaque = np.empty((height, width), bool)
    for rows in bands(height, width):
        opaque[rows] = levels(rows) > most // 2
    return (OPAQUE, None) if opaque.all() else (CUT, opaque)


def _is_inverting(picture: Image.Image) -> bool:
    """Whether grey levels are shown inverted, as ImageJ saves the masks that it makes.

    A single bit a pixel does not count: fax machines began so, and others go on.
    """
    if picture.format == "TIFF" and picture.mode == "L":
        return picture.tag_v2.get(_PHOTOMETRIC) == 0
    inverted = np.arange(255, -1, -1) * 0x010101
    return picture.mode == "P" and np.array_equal(_palette(picture), inverted)


def _palette(picture: Image.Image) -> np.ndarray:
    table = picture.getpalette("RGB") or []
    triples = np.array(table[: 3 * (len(table) // 3)], np.int64).reshape(-1, 3)[:256]
    return triples @ np.array([1 << 16, 1 << 8, 1])


def _levels(picture: Image.Image) -> np.ndarray:
    """The grey levels of a picture of one channel as whole numbers, as it has them."""
    if picture.mode in ("1", "L", "LA"):
        return np.asarray(picture.convert("L"))
    if picture.mode == "F":
        return _whole(picture)
    low, high = picture.getextrema()
    sign = 1
    if low == -1 and high <= 0:
        sign, high = -1, 1  # All 32 bits set.
    elif low < 0:
        raise Refused(f"mask has the negative number {low}; save it as 8-bit grey")
    dtype = np.uint8 if high < 2**8 else np.uint16 if high < 2**16 else np.int32
    values = np.empty(picture.size[::-1], dtype)
    for rows in bands(*values.shape):
        values[rows] = sign * np.asarray(band_of(picture, rows)).astype(np.int64)
    return values


def _whole(picture: Image.Image) -> np.ndarray:
    """Fractions of a mask in floating point as levels: 0..1 is 0..255."""
    width, height = picture.size
    whole, low, high = True, np.inf, -np.inf
    for rows in bands(height, width):
        band = np.asarray(band_of(picture, rows))
        whole &= bool((band == np.round(band)).all())
        low, high = min(low, band.min()), max(high, band.max())
    if not (np.isfinite(low + high) and low >= 0 and high < 2**31):
        raise Refused(
            f"mask has the values {low:g} to {high:g}; save it as 8-bit grey, 0 and 255"
        )
    scale = 1 if whole or high > 1 else 255
    values = np.empty((height, width), np.uint8 if scale * high < 256 else np.int32)
    for rows in bands(height, width):
        band = np.asarray(band_of(picture, rows))
        values[rows] = np.round(band * np.float32(scale))
    return values


def _refuse_deep_channels(picture: Image.Image, data: bytes) -> None:
    """Refuses 16-bit channels whose upper halves, all that is read, do not tell."""
    bits = data[24] if picture.format == "PNG" else 8
    if picture.format == "TIFF":
        bits = max(picture.tag_v2.get(258, (8,)))
    if bits > 8 and not any(high for _, high in _as(picture, "RGB").getextrema()):
        raise Refused(
            f"mask has several channels of {bits} bits and only low values in them; "
            "save it as 8-bit grey, 0 and 255"
        )


def _colors(picture: Image.Image) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Numbers the colours of a picture; grey levels, if all of them are grey."""
    width, height = picture.size
    values = np.empty((height, width), np.uint8)
    number_of = np.zeros(2**24, np.uint8)
    known: dict[int, int] = {}
    for rows in bands(height, width):
        band = band_of(picture, rows).convert("RGB")
        for _, color in band.getcolors(MAX_COLORS) or [(0, None)]:
            if color is not None:
                code = color[0] << 16 | color[1] << 8 | color[2]
                number_of[code] = known.setdefault(code, len(known) % MAX_COLORS)
            if color is None or len(known) > MAX_COLORS:
                return None, None
        channels = np.asarray(band).astype(np.uint32)
        values[rows] = number_of[
            channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]
        ]
    colors = np.array(list(known), np.int64)
    if all(is_grey(code) for code in known):
        return (colors & 255).astype(np.uint8)[values], None
    return values, colors


def is_grey(code: int) -> bool:
    """Whether a colour's three channels are equal."""
    return code == (code & 255) * 0x010101


def _count(plane: Plane) -> tuple[dict[int, int], dict[int, int]]:
    counts: dict[int, int] = {}
    settled: dict[int, int] = {}
    values = plane.values
    if values is None:
        return counts, settled
    for rows in bands(*values.shape):
        above = max(rows.start - 1, 0)
        around = values[above : rows.stop + 1]
        own = slice(rows.start - above, rows.stop - above)
        inside = _has_twin(around, 0)[own] & _has_twin(around, 1)[own]
        band = around[own]
        if plane.opaque is not None:
            shown = plane.opaque[rows]
            inside, band = inside[shown], band[shown]
        for values_of, result in ((band, counts), (band[inside], settled)):
            for value, number in count_values(values_of).items():
                result[value] = result.get(value, 0) + number
    return counts, {value: settled.get(value, 0) for value in counts}


def _has_twin(values: np.ndarray, axis: int) -> np.ndarray:
    """Which pixels have an equal neighbour along an axis."""
    values = np.moveaxis(values, axis, 0)
    equal = values[1:] == values[:-1]
    result = np.zeros(values.shape, bool)
    result[1:] |= equal
    result[:-1] |= equal
    return np.moveaxis(result, 0, axis)


def _pieces(values: np.ndarray) -> float:
    """The part of the values, but 0, whose pixels hang together; of some of them."""
    # Not above: worker processes that read other sets need no scipy.
    from scipy.ndimage import find_objects, label

    step = max(1, round((values.size / _PIXELS_FOR_PIECES) ** 0.5))
    numbers, places = np.unique(values[::step, ::step], return_inverse=True)
    places = places.reshape(values[::step, ::step].shape)
    if numbers[0] != 0:
        places += 1
    boxes = find_objects(places)
    wanted = range(1, len(boxes) + 1, max(1, len(boxes) // _NUMBERS_FOR_PIECES))
    single = [label(places[boxes[n - 1]] == n, np.ones((3, 3)))[1] == 1 for n in wanted]
    return float(np.mean(single)) if single else 1.0
