"""Cleans images and masks.

Images become upright 8-bit RGB or grey; masks become one uint8 channel of indices.
Each change is noted. What cannot be put right without guessing is refused, with a
reason.
"""

import io
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from efficientlab_tf.data.mask_readings import OBJECT
from efficientlab_tf.data.picture_files import (
    ONE_PAGE,
    Refused,
    band_of,
    bands,
    has_pages,
    open_picture,
    orientation,
    upright,
)

JPEG_QUALITY = 95

# MPO is what many cameras write: a JPEG with further pictures behind it.
_STORED_AS = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png"}
_MODES_KEPT = ("RGB", "L")
_MODES_CONVERTED = ("1", "P", "PA", "LA", "La", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")


EXIF_SWAPS_SIDES = (5, 6, 7, 8)
_SAMPLE = 2**22


@dataclass(frozen=True)
class CleaningOptions:
    """How examples are made.

    Attributes:
      image_size: side of the square that every example is resized to, in pixels;
        None keeps each example's size.
      mask_values: what masks hold, see `mask_readings`.
      index: of masks of numbers the one that is stored, as 1; all others become
        background, and 255 stays. None stores the numbers.
      instances: of VOC's and SBD's masks of classes, whether the objects of class
        `index` are stored as 2, 3, ..., see `data.points.one_instance`.
      jpeg_quality: of JPEG images that have to be encoded again, 1 to 95. At 95
        chroma is not subsampled; below it is, for smaller files.
    """

    image_size: int | None = None
    mask_values: str = OBJECT
    index: int | None = None
    instances: bool = False
    jpeg_quality: int = JPEG_QUALITY


class Upright(NamedTuple):
    """A decoded image.

    Attributes:
      picture: in mode RGB or L, turned upright.
      image_format: "jpeg" or "png": how it is to be stored.
      orientation: the EXIF orientation that it had, 1 for upright.
      notes: what was changed, in words.
    """

    picture: Image.Image
    image_format: str
    orientation: int
    notes: list[str]


def encode_mask(mask: np.ndarray) -> bytes:
    """Encodes a uint8 [H, W] mask of indices as a PNG of one channel."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def read_image(data: bytes, stretch: bool = False, page: int = 0) -> Upright:
    """Decodes an image, turns it upright and reduces it to 8 bits, RGB or grey.

    Args:
      data: the file's bytes.
      stretch: whether pixel values of more than 8 bits are spread over 0..255
        (`stretched`), since few cameras and microscopes use all 16 bits. Otherwise
        the upper 8 of 16 bits are taken.
      page: of a file of several, the one to read.

    Raises:
      Refused: not a readable image, or an unsupported pixel type.
    """
    picture = open_picture(data, page)
    notes = []
    image_format = _STORED_AS.get(picture.format or "")
    if image_format is None:
        notes.append(f"{picture.format} stored as PNG")
        image_format = "png"
    if not page and has_pages(picture):
        notes.append(ONE_PAGE)
    turn = orientation(picture)
    stored, picture = picture, upright(picture)
    if picture is not stored:
        notes.append(f"EXIF rotation applied (orientation {turn})")
    mode = picture.mode
    if stretch and (mode in ("I", "F") or mode.startswith("I;16")):
        picture = stretched(picture)
        notes.append(f"pixel type {mode} stretched to 0..255")
    elif mode.startswith("I;16"):
        picture = _upper_bytes(picture)
        notes.append("16 bits a pixel reduced to 8")
    elif mode not in _MODES_KEPT:
        if mode not in _MODES_CONVERTED:
            raise Refused(f"pixel type {mode} is not supported; save as 8-bit RGB")
        if "A" in picture.getbands() or "transparency" in picture.info:
            picture = _on_white(picture)
            notes.append(f"{mode} with transparency put on white")
        else:
            picture = picture.convert("RGB")
            notes.append(f"{mode} converted to RGB")
    return Upright(picture, image_format, turn, notes)


def stretched(picture: Image.Image) -> Image.Image:
    """Spreads pixel values linearly over 0..255.

    The 0.1 and 99.9 percentiles become 0 and 255, so that single hot pixels do not
    darken the rest; of more than four million pixels those of a part, evenly spread.

    Args:
      picture: of one channel; what is no number becomes 0.

    Returns:
      A grey picture; all 0 if all values are equal.
    """
    width, height = picture.size
    step = max(1, round((width * height / _SAMPLE) ** 0.5))
    parts, low, high = [], np.inf, -np.inf
    for rows in bands(height, width):
        values = np.asarray(band_of(picture, rows))
        values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        if values.size:
            low, high = min(low, values.min()), max(high, values.max())
        parts.append(values.ravel()[:: step * step].copy())
    if low >= high:
        return Image.new("L", picture.size)
    ends = np.percentile(np.concatenate(parts), (0.1, 99.9))
    if ends[0] < ends[1]:
        low, high = ends
    result = np.empty((height, width), np.uint8)
    for rows in bands(height, width):
        values = np.asarray(band_of(picture, rows)).astype(np.float64)
        scaled = np.clip((values - low) * (255.0 / (high - low)), 0, 255)
        result[rows] = np.nan_to_num(scaled, nan=0.0).round()
    return Image.fromarray(result)


def _on_white(picture: Image.Image) -> Image.Image:
    result = Image.new("RGB", picture.size)
    for rows in bands(picture.height, picture.width):
        layer = band_of(picture, rows).convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        ground.alpha_composite(layer)
        result.paste(ground.convert("RGB"), (0, rows.start))
    return result


def _upper_bytes(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    result = np.empty((height, width), np.uint8)
    for rows in bands(height, width):
        result[rows] = np.asarray(band_of(picture, rows)) >> 8
    return Image.fromarray(result)


def fit_mask(mask: np.ndarray, image: Upright, notes: list[str]) -> np.ndarray:
    """Brings a mask to its image's size if both show the same field of view.

    Args:
      mask: [H, W].
      image: of the mask.
      notes: takes what was changed, in words.

    Raises:
      Refused: the aspect ratios differ.
    """
    width, height = image.picture.size
    if mask.shape == (height, width):
        if image.orientation != 1 and (
            image.orientation not in EXIF_SWAPS_SIDES or height == width
        ):
            notes.append(
                "taken to show its image as EXIF turns it, since its shape does not "
                "tell; if it was drawn on the pixels as stored, turn it"
            )
        return mask
    if image.orientation in EXIF_SWAPS_SIDES and mask.shape == (width, height):
        # Drawn on the pixels as stored, by a program that ignores EXIF.
        notes.append("turned with its image")
        return turned(mask, image.orientation)
    rows, columns = mask.shape
    if not same_aspect(mask.shape, (height, width)):
        raise Refused(
            f"mask is {columns}x{rows}, image {width}x{height}: not the same aspect "
            "ratio; draw the mask on this image"
        )
    notes.append(f"resized from {columns}x{rows} to the image's {width}x{height}")
    return resize_mask(mask, (width, height))


def same_aspect(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two pictures, (height, width), are the same at different sizes.

    Up to rounding: some scale explains both sides within half a pixel.
    """
    (rows, columns), (height, width) = one, other
    low = max((columns - 0.5) / width, (rows - 0.5) / height)
    high = min((columns + 0.5) / width, (rows + 0.5) / height)
    return low < high


def turned(mask: np.ndarray, exif_orientation: int) -> np.ndarray:
    """Turns a mask [H, W] upright as EXIF's orientations 5 to 8 turn its image."""
    if exif_orientation in (5, 7):
        return mask.T if exif_orientation == 5 else mask[::-1, ::-1].T
    return np.rot90(mask, -1 if exif_orientation == 6 else 1)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scales a mask to (width, height); each pixel takes the nearest one's value."""
    (rows, columns), (width, height) = mask.shape, size
    down = (2 * np.arange(height) + 1) * rows // (2 * height)
    right = (2 * np.arange(width) + 1) * columns // (2 * width)
    return mask[down[:, np.newaxis], right]
