"""Pictures for people to look at: masks over images, and sheets of many of them.

Functions of (image, mask) take an RGB image, uint8 [H, W, 3], and a mask, integer
[H, W]: 0 background, 1..K classes, 255 unknown. They return uint8 [H, W, 3], and raise
ValueError if both do not fit together.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt

from efficientlab_tf.episode import IGNORE

PALETTE = (
    (255, 45, 85),
    (0, 200, 255),
    (255, 200, 0),
    (80, 220, 100),
    (190, 100, 255),
    (255, 130, 40),
    (40, 110, 255),
    (255, 140, 200),
)
"""Colours of the classes 1, 2, ...; they repeat."""
UNKNOWN_GREY = 128
HATCH_PERIOD = 6
SPARSE = 0.05
"""A mask with a smaller known part is one of points."""

_BACKGROUND = (255, 255, 255)
_INK = (30, 30, 30)
_FAINT_INK = (110, 110, 110)
_DOT = 1 / 60
_THICK_FROM = 800

Color = tuple[int, int, int]


def overlay(
    image: np.ndarray,
    mask: np.ndarray,
    color: Color | None = None,
    alpha: float = 0.45,
) -> np.ndarray:
    """Tints an image where its mask marks a class; hatches it where unknown.

    Args:
      image: see the top of the module.
      mask: see there.
      color: RGB of every class; None takes each class's own from `PALETTE`.
      alpha: opacity of the tint, 0 to 1.
    """
    _check(image, mask)
    marked = _is_class(mask)
    result = image.astype(np.float32)
    tint = _class_colors(mask, color)[marked]
    result[marked] = (1 - alpha) * result[marked] + alpha * tint
    rows, columns = np.indices(mask.shape)
    stripes = (rows + columns) % HATCH_PERIOD < HATCH_PERIOD / 2
    unknown = mask == IGNORE
    result[unknown] = (result[unknown] + UNKNOWN_GREY) / 2
    result[unknown & stripes] = UNKNOWN_GREY
    return result.round().astype(np.uint8)


def outline(
    image: np.ndarray,
    mask: np.ndarray,
    color: Color | None = None,
    width: int = 1,
) -> np.ndarray:
    """Draws the borders of a mask's classes, inside them.

    Args:
      image: see the top of the module.
      mask: see there.
      color: as in `overlay`.
      width: of the line, in pixels.
    """
    _check(image, mask)
    rows, columns = mask.shape
    # The image's own edge is no border: the object goes on behind it.
    padded = np.pad(mask, width, mode="edge")
    border = np.zeros(mask.shape, bool)
    for down in range(2 * width + 1):
        for right in range(2 * width + 1):
            border |= padded[down : down + rows, right : right + columns] != mask
    border &= _is_class(mask)
    result = image.copy()
    result[border] = _class_colors(mask, color)[border]
    return result


def marked(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draws a mask over its image so that one sees it whatever it covers.

    Classes are tinted, and outlined in white: a tint alone is lost on things of its
    colour. Of a mask that knows less than the part `SPARSE` of its pixels these are
    drawn as `dots`.
    """
    if 0 < np.mean(mask != IGNORE) < SPARSE:
        return dots(image, mask)
    width = 2 if max(mask.shape) >= _THICK_FROM else 1
    return outline(overlay(image, mask), mask, _BACKGROUND, width)


def dots(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draws each known pixel of a mask as a dot, black for background.

    At least one must be known. What is not near a known pixel stays as it is.
    """
    _check(image, mask)
    # Each pixel near a known one takes the label of the nearest, so dots do not cover
    # each other.
    distance, nearest = distance_transform_edt(mask == IGNORE, return_indices=True)
    labels = mask[tuple(nearest)]
    radius = max(_DOT * max(mask.shape), 1.5)
    result = image.copy()
    result[distance <= radius + max(radius / 3, 1)] = _BACKGROUND
    of_class = _is_class(labels)[..., np.newaxis]
    colors = np.where(of_class, _class_colors(labels, None), _INK)
    inside = distance <= radius
    result[inside] = colors[inside]
    return result


def palette_image(mask: np.ndarray) -> Image.Image:
    """Makes a palette image (mode "P") whose pixels are the mask's own values.

    Args:
      mask: uint8 [H, W]; 0 background (black), 1..K classes (the colours of
        `PALETTE`), 255 unknown (grey).
    """
    image = Image.fromarray(mask).convert("L")
    colors = np.zeros((256, 3), np.uint8)
    colors[1:] = np.resize(np.array(PALETTE, np.uint8), (255, 3))
    colors[IGNORE] = UNKNOWN_GREY
    image.putpalette(colors.tobytes())
    return image


def with_legend(sheet: Image.Image, names: Sequence[str]) -> Image.Image:
    """Puts the colours of classes 1..K and their names above a sheet.

    Args:
      sheet: any RGB image.
      names: of the classes; they are wrapped to the sheet's width.
    """
    font = ImageFont.load_default(size=14)
    line, box, gap = 22, 12, 8
    places, x, y = [], gap, gap
    for name in names:
        text = _shorten(name, font, sheet.width - 3 * gap - box)
        width = box + gap + round(font.getlength(text)) + 2 * gap
        if x > gap and x + width > sheet.width:
            x, y = gap, y + line
        places.append((x, y, text))
        x += width
    height = y + line
    result = Image.new("RGB", (sheet.width, height + sheet.height), _BACKGROUND)
    result.paste(sheet, (0, height))
    draw = ImageDraw.Draw(result)
    for index, (x, y, text) in enumerate(places):
        color = PALETTE[index % len(PALETTE)]
        draw.rectangle((x, y, x + box, y + box), fill=color)
        draw.text((x + box + gap, y + box / 2), text, _INK, font, anchor="lm")
    return result


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray | Image.Image | None]],
    row_captions: Sequence[str] | None = None,
    column_captions: Sequence[str] | None = None,
    cell: int = 128,
    aspect: float = 1.0,
) -> Image.Image:
    """Lays pictures out in rows and columns.

    Args:
      rows: pictures, uint8 [H, W, 3] or [H, W] or Pillow images, of any size;
        each is scaled to fit into its cell. None leaves a cell empty, and rows
        may differ in length.
      row_captions: a line under each row.
      column_captions: a line over each column.
      cell: width of a cell in pixels.
      aspect: height of a cell as a part of its width.

    Raises:
      ValueError: no rows, or captions that do not match them.
    """
    if not rows or not any(rows):
        raise ValueError("a contact sheet needs at least one picture")
    columns = max(len(row) for row in rows)
    for captions, count, what in (
        (row_captions, len(rows), "rows"),
        (column_captions, columns, "columns"),
    ):
        if captions is not None and len(captions) != count:
            raise ValueError(f"{len(captions)} captions for {count} {what}")
    tall = max(round(cell * aspect), 1)
    gap = max(cell // 24, 3)
    font = ImageFont.load_default(size=max(cell / 9, 11))
    line = round(font.size * 1.5)
    header = line if column_captions else 0
    footer = line if row_captions else 0
    pitch = tall + footer + gap
    width = gap + columns * (cell + gap)
    height = gap + header + len(rows) * pitch
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for index, caption in enumerate(column_captions or ()):
        center = gap + index * (cell + gap) + cell / 2
        text = _shorten(caption, font, cell)
        draw.text((center, gap + line / 2), text, _FAINT_INK, font, anchor="mm")
    for index, row in enumerate(rows):
        top = gap + header + index * pitch
        for column, picture in enumerate(row):
            if picture is not None:
                fitted = _fit(picture, (cell, tall))
                left = gap + column * (cell + gap) + (cell - fitted.width) // 2
                sheet.paste(fitted, (left, top + (tall - fitted.height) // 2))
        if row_captions:
            text = _shorten(row_captions[index], font, width - 2 * gap)
            draw.text((gap, top + tall + line / 2), text, _INK, font, anchor="lm")
    return sheet


def _fit(picture: np.ndarray | Image.Image, cell: tuple[int, int]) -> Image.Image:
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(np.ascontiguousarray(picture))
    picture = picture.convert("RGB")
    scale = min(cell[0] / picture.width, cell[1] / picture.height)
    size = tuple(max(round(side * scale), 1) for side in picture.size)
    return picture.resize(size, Image.Resampling.LANCZOS)


def _shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    end = ""
    while text and font.getlength(text + end) > width:
        text, end = text[:-1], "..."
    return text + end


def _is_class(mask: np.ndarray) -> np.ndarray:
    return (mask > 0) & (mask != IGNORE)


def _class_colors(mask: np.ndarray, color: Color | None) -> np.ndarray:
    palette = np.array(PALETTE if color is None else [color], np.uint8)
    return palette[(mask.astype(np.int64) - 1) % len(palette)]


def _check(image: np.ndarray, mask: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.shape != (*mask.shape, 3):
        raise ValueError(
            f"expected an image uint8 [H, W, 3] and its mask [H, W], received "
            f"{image.dtype} {list(image.shape)} and {list(mask.shape)}"
        )


def resize_probabilities(
    probabilities: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Resizes probabilities float32 [h, w, K+1] bilinearly to [*size, K+1]."""
    classes = range(probabilities.shape[-1])
    return np.stack([_plane(probabilities, index, size) for index in classes], axis=-1)


def decide(
    probabilities: np.ndarray, size: tuple[int, int], threshold: float
) -> np.ndarray:
    """Resizes probabilities bilinearly, then decides; as `metrics.predicted_masks`.

    Class by class, so that little memory is needed for large pictures.

    Args:
      probabilities: float32 [h, w, K+1].
      size: (height, width) of the result.
      threshold: of the foreground probability, if K is 1.

    Returns:
      uint8 [height, width]; 0..K.
    """
    if probabilities.shape[-1] == 2:
        return (_plane(probabilities, 1, size) > threshold).astype(np.uint8)
    best = _plane(probabilities, 0, size)
    mask = np.zeros(size, np.uint8)
    for index in range(1, probabilities.shape[-1]):
        values = _plane(probabilities, index, size)
        mask[values > best] = index
        best = np.maximum(best, values)
    return mask


def _plane(probabilities: np.ndarray, index: int, size: tuple[int, int]) -> np.ndarray:
    values = Image.fromarray(np.ascontiguousarray(probabilities[..., index]))
    if values.size != size[::-1]:
        values = values.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(values)
