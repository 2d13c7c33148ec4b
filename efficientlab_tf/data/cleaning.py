"""Cleans images and masks.

Images become upright 8-bit RGB or grey; masks become one uint8 channel of indices.
Each change is noted. What cannot be put right without guessing is refused, with a
reason.
"""

import io
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

THRESHOLD = 128
"""Binary masks: grey levels from this one on are object."""
UNKNOWN = 255
JPEG_QUALITY = 95
MAX_MASK_COLOURS = 256

# MPO is what many cameras write: a JPEG with further pictures behind it.
_STORED_AS = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png"}
_MODES_KEPT = ("RGB", "L")
_MODES_CONVERTED = ("1", "P", "PA", "LA", "La", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")


_EXIF_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_SWAPS_SIDES = (5, 6, 7, 8)


class Refused(Exception):
    """A file that cannot be stored; the message is the reason."""


@dataclass(frozen=True)
class CleaningOptions:
    """How examples are made.

    Attributes:
      image_size: side of the square that every example is resized to, in pixels;
        None keeps each example's size.
      index_masks: masks hold indices (0 background, 1..K classes, 255 unknown)
        instead of object on background.
      index: with index masks, the one index that is stored, as 1; all others become
        background, and 255 stays. None stores the indices.
      jpeg_quality: of JPEG images that have to be encoded again, 1 to 95. At 95
        chroma is not subsampled; below it is, for smaller files.
    """

    image_size: int | None = None
    index_masks: bool = False
    index: int | None = None
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


def mask_levels(data: bytes) -> set[int]:
    """Returns the indices or grey levels that a mask file holds.

    Returns:
      Values from 0 to 255 (more for 16 bits a pixel): of a palette image its indices,
      or its colours if all of them are grey; of an image with colours none.

    Raises:
      Refused: it cannot be read.
    """
    picture = open_picture(data)
    if picture.mode in ("P", "PA"):
        colors = np.asarray(picture.convert("RGB"))
        if (colors == colors[..., :1]).all():
            return set(np.unique(colors).tolist())
        return set(np.unique(np.asarray(picture.getchannel(0))).tolist())
    values = np.asarray(picture)
    if values.dtype == bool:
        return {0, 255}
    if values.ndim == 3:
        colors = values[..., :3] if values.shape[-1] > 2 else values[..., :1]
        if (colors != colors[..., :1]).any():
            return set()
        values = colors[..., 0]
    return set(np.unique(values).tolist())


def holds_indices(levels: set[int]) -> bool:
    """Tells masks of class indices from masks of one object on background.

    Grey levels at an object's border, or of lossy compression, reach above 128 as
    well; class indices count up from 1.

    Args:
      levels: of all masks that belong together, see `mask_levels`.
    """
    between = levels - {0, UNKNOWN}
    return bool(between) and max(between) < THRESHOLD


def encode_mask(mask: np.ndarray) -> bytes:
    """Encodes a uint8 [H, W] mask of indices as a PNG of one channel."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def read_mask(data: bytes, index_masks: bool) -> tuple[np.ndarray, list[str]]:
    """Decodes a mask file.

    Args:
      data: the file's bytes.
      index_masks: as in `CleaningOptions`.

    Returns:
      uint8 [H, W] indices, and what was changed, in words.

    Raises:
      Refused: the file is not a readable mask.
    """
    picture = open_picture(data)
    if index_masks:
        return _index_mask(picture)
    if picture.mode in ("P", "PA", "CMYK"):
        picture = picture.convert("RGBA" if _has_alpha(picture) else "RGB")
    values = np.asarray(picture)
    if picture.mode == "1":
        values = values.astype(np.uint8) * 255
    elif picture.mode.startswith("I;16") or values.dtype == np.uint16:
        values = (values >> 8).astype(np.uint8)
    if values.dtype != np.uint8:
        raise Refused(f"mask has pixel type {picture.mode}; save it as 8-bit grey")
    return binary_mask(values)


def binary_mask(values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Turns grey levels into a mask: object where the level is 128 or more.

    Of several channels the brightest counts. A fourth (or second) channel is opacity,
    which is used only if the image has one flat colour: FSS-1000's masks with four
    channels come from an image editor and are opaque everywhere.

    Args:
      values: uint8 [H, W] or [H, W, 1 to 4]; levels 0 and 255, or 0 and 1.

    Returns:
      uint8 [H, W] of 0 and 1, and what was changed, in words.

    Raises:
      Refused: a photo instead of a mask, or a mask too dark to mark anything.
    """
    notes: list[str] = []
    if values.ndim == 2:
        values = values[..., None]
    if values.shape[-1] in (2, 4):
        values, alpha = values[..., :-1], values[..., -1:]
        if np.ptp(values.reshape(-1, values.shape[-1]), axis=0).max() == 0:
            if np.ptp(alpha) > 0:
                values = alpha
                notes.append("mask taken from the alpha channel: colours are uniform")
    level = values.max(axis=-1)
    if (values != values[..., :1]).any():
        codes = values.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        colours = len(np.unique(codes))
        if colours > MAX_MASK_COLOURS:
            raise Refused(
                f"{colours} colours: a photo, not a mask of object/background"
            )
        if (values.min(axis=-1) < THRESHOLD)[level >= THRESHOLD].any():
            notes.append("coloured mask: brightest channel taken")
    if level.max() == 1:
        notes.append("levels 0 and 1 taken as background and object")
        return level.astype(np.uint8), notes
    stray = int(np.count_nonzero((level != 0) & (level != 255)))
    if stray:
        if level.max() < THRESHOLD:
            raise Refused(
                f"brightest level of the mask is {level.max()}, below the threshold "
                f"{THRESHOLD}: nothing is marked; save it with levels 0 and 255"
            )
        notes.append(
            f"stray grey levels in {stray} of {level.size} pixels, "
            f"thresholded at {THRESHOLD}"
        )
    return (level >= THRESHOLD).astype(np.uint8), notes


def _index_mask(picture: Image.Image) -> tuple[np.ndarray, list[str]]:
    values = np.asarray(picture)
    if values.ndim == 3:
        if picture.mode in ("LA", "PA", "RGBA"):
            values = values[..., :-1]
        if (values != values[..., :1]).any():
            raise Refused(
                "mask has colours where indices are expected; save it as 8-bit grey "
                "or palette PNG"
            )
        values = values[..., 0]
    if values.min() < 0 or values.max() > UNKNOWN:
        raise Refused(
            f"mask has index {values.max()}; indices are 0..254, and 255 for unknown"
        )
    return values.astype(np.uint8), []


def require_class(indices: np.ndarray) -> None:
    """Refuses a mask that uses 255 for the object instead of for unknown pixels.

    Args:
      indices: uint8 [H, W], a mask of indices.

    Raises:
      Refused: the mask holds 255 but no class.
    """
    if (indices == UNKNOWN).any() and np.isin(indices, (0, UNKNOWN)).all():
        raise Refused(
            "mask has only 0 and 255 (unknown), so no class; if 255 means object, "
            "these are not masks of indices"
        )


def open_picture(data: bytes) -> Image.Image:
    """Decodes an image file as it is.

    Raises:
      Refused: not an image file, damaged, or too large to be one.
    """
    try:
        with warnings.catch_warnings():
            # Large pictures and odd metadata are no concern of the user's here.
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(data))
            picture.load()
    except UnidentifiedImageError:
        what = "empty file" if not data else "not an image file that can be read"
        raise Refused(what) from None
    except Image.DecompressionBombError as error:
        raise Refused(f"too large: {error}") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise Refused(f"truncated or corrupt image file ({error})") from None
    return picture


def read_image(data: bytes, stretch: bool = False) -> Upright:
    """Decodes an image, turns it upright and reduces it to 8 bits, RGB or grey.

    Args:
      data: the file's bytes.
      stretch: whether pixel values of more than 8 bits are spread over 0..255
        (`stretched`), since few cameras and microscopes use all 16 bits. Otherwise
        the upper 8 of 16 bits are taken.

    Raises:
      Refused: not a readable image, or an unsupported pixel type.
    """
    picture = open_picture(data)
    notes = []
    image_format = _STORED_AS.get(picture.format or "")
    if image_format is None:
        notes.append(f"{picture.format} stored as PNG")
        image_format = "png"
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow's parser has no common error for broken EXIF data.
        orientation = 1
    if orientation in _EXIF_TRANSPOSE:
        picture = _upright(picture, orientation)
        notes.append(f"EXIF rotation applied (orientation {orientation})")
    mode = picture.mode
    if stretch and (mode in ("I", "F") or mode.startswith("I;16")):
        picture = Image.fromarray(stretched(np.asarray(picture)))
        notes.append(f"pixel type {mode} stretched to 0..255")
    elif mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        notes.append("16 bits a pixel reduced to 8")
    elif mode not in _MODES_KEPT:
        if mode not in _MODES_CONVERTED:
            raise Refused(f"pixel type {mode} is not supported; save as 8-bit RGB")
        if _has_alpha(picture):
            layer = picture.convert("RGBA")
            picture = Image.new("RGBA", layer.size, "white")
            picture.alpha_composite(layer)
            notes.append(f"{mode} with transparency put on white")
        else:
            notes.append(f"{mode} converted to RGB")
        picture = picture.convert("RGB")
    return Upright(picture, image_format, orientation, notes)


def stretched(values: np.ndarray) -> np.ndarray:
    """Spreads pixel values linearly over 0..255.

    The 0.1 and 99.9 percentiles become 0 and 255, so that single hot pixels do not
    darken the rest.

    Args:
      values: [H, W]; values that are not finite become 0.

    Returns:
      uint8 [H, W]; all 0 if all values are equal.
    """
    values = values.astype(np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size or finite.min() == finite.max():
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(finite, (0.1, 99.9))
    if low == high:
        low, high = finite.min(), finite.max()
    scaled = np.clip((values - low) * (255.0 / (high - low)), 0, 255)
    return np.nan_to_num(scaled, nan=0.0).round().astype(np.uint8)


def _has_alpha(picture: Image.Image) -> bool:
    return "A" in picture.getbands() or "transparency" in picture.info


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    return picture.transpose(_EXIF_TRANSPOSE[orientation])


def fit_mask(mask: np.ndarray, image: Upright, notes: list[str]) -> np.ndarray:
    """Brings a mask to its image's size if both show the same field of view.

    Args:
      mask: uint8 or int32 [H, W].
      image: of the mask.
      notes: takes what was changed, in words.

    Raises:
      Refused: the aspect ratios differ.
    """
    width, height = image.picture.size
    if mask.shape == (height, width):
        return mask
    if image.orientation in _EXIF_SWAPS_SIDES and mask.shape == (width, height):
        # Drawn on the pixels as stored, by a program that ignores EXIF.
        notes.append("turned with its image")
        return np.asarray(_upright(Image.fromarray(mask), image.orientation))
    rows, columns = mask.shape
    # Same aspect ratio up to rounding: some scale explains both sides within
    # half a pixel.
    low = max((columns - 0.5) / width, (rows - 0.5) / height)
    high = min((columns + 0.5) / width, (rows + 0.5) / height)
    if low >= high:
        raise Refused(
            f"mask is {columns}x{rows}, image {width}x{height}: not the same aspect "
            "ratio; draw the mask on this image"
        )
    notes.append(f"resized from {columns}x{rows} to the image's {width}x{height}")
    return resize_mask(mask, (width, height))


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scales a mask to (width, height); each pixel takes the nearest one's value."""
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
