"""One picture of the page: small copies of it, its marks, its mask; and its drawing.

Files are judged by their headers before anything is decoded: a few bytes may declare
a picture of gigabytes.
"""

import dataclasses
import io
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from efficientlab_tf.app.annotations import (
    BACKGROUND,
    FOREGROUND,
    POINT_REACH,
    Annotations,
    Stroke,
)
from efficientlab_tf.app.config import AppConfig
from efficientlab_tf.data.annotations import resize_image
from efficientlab_tf.data.annotations.export import rgb
from efficientlab_tf.data.cleaning import Upright, fit_mask, read_image
from efficientlab_tf.data.mask_deciding import means_of
from efficientlab_tf.data.mask_planes import read_plane
from efficientlab_tf.data.picture_files import Refused, header_of
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from efficientlab_tf.pictures import PALETTE, decide, outline, overlay

SHOWN_SIDE = 720
"""Longer side of a picture as the page shows it large, in pixels."""
THUMBNAIL_SIDE = 200
"""The same of all pictures below."""

# A decoded picture may take some hundred megabytes until it is shrunk.
_ONE_AT_A_TIME = threading.Lock()
_LAYER_SIDE = 1024
_WHITE = (255, 255, 255)
_VEILS = {BACKGROUND: 0.12, FOREGROUND: 0.3}
_COLORS = {BACKGROUND: (40, 110, 255), FOREGROUND: (20, 160, 60)}


@dataclasses.dataclass
class Picture:
    """One picture.

    Attributes:
      name: of its file.
      size: height and width, upright.
      shown: uint8 [h, w, 3], for the page, by the longer side.
      fitted: uint8 [H, W, 3] for each size (H, W) that a method has.
      annotations: the marks.
      history: the marks as they were before each change.
      read: what a method knows of it, by the method's name.
      probability: float32 [H, W, 2] at the size of the method that was adapted last;
        None before.
      confidence: how sure the method is of the mask, see `metrics.confidence`.
    """

    name: str
    size: tuple[int, int]
    shown: dict[int, np.ndarray]
    fitted: dict[tuple[int, int], np.ndarray]
    annotations: Annotations
    history: list[Annotations] = dataclasses.field(default_factory=list)
    read: dict[str, Any] = dataclasses.field(default_factory=dict)
    probability: np.ndarray | None = None
    confidence: float = 0.0


def read_picture(
    name: str, data: bytes, sizes: Iterable[tuple[int, int]], limits: AppConfig
) -> Picture:
    """Decodes a picture and shrinks it.

    Args:
      name: of its file.
      data: the file, of one of `picture_files.FORMATS`. EXIF's rotation is applied.
      sizes: of the methods' images, (height, width) each.
      limits: what is refused.

    Raises:
      UserError: too large, or not a picture.
    """
    check_file(name, data, limits)
    with _ONE_AT_A_TIME:
        try:
            upright = read_image(data, stretch=True)
        except Refused as error:
            raise UserError(f"{name}: {error}; choose another picture") from error
        image = rgb(upright)
        size = image.shape[:2]
        shown = {side: _scaled(image, side) for side in (SHOWN_SIDE, THUMBNAIL_SIDE)}
        fitted = {own: resize_image(image, own) for own in sizes}
    return Picture(name, size, shown, fitted, Annotations(size))


def read_layer(picture: Picture, data: bytes, limits: AppConfig) -> np.ndarray:
    """Decodes a mask of a picture, uint8 [h, w] of its aspect ratio: 0 and 1.

    Args:
      picture: its picture.
      data: an image file; what it means is decided as for `mask_deciding.decide`.
      limits: what is refused.

    Raises:
      UserError: too large, not a mask, or of another aspect ratio.
    """
    name = f"mask of {picture.name}"
    check_file(name, data, limits)
    height, width = picture.size
    upright = Upright(Image.new("L", (width, height)), "png", 1, [])
    try:
        with _ONE_AT_A_TIME:
            plane = read_plane(data)
            means = means_of(plane, name)
            if not means.is_binary:
                raise Refused(
                    f"it holds several classes ({means.text}); give one object, 255, "
                    "on background, 0"
                )
            mask = means.apply(plane)[0]
            mask[(mask > 0) & (mask != IGNORE)] = 1
            mask = fit_mask(mask, upright, [])
    except Refused as error:
        raise UserError(f"{name}: {error}") from error
    scale = min(1.0, _LAYER_SIDE / max(mask.shape))
    size = [max(1, round(side * scale)) for side in mask.shape[::-1]]
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def check_file(name: str, data: bytes, limits: AppConfig) -> None:
    """Refuses a file for what can be known of it before it is decoded.

    Raises:
      UserError: too many bytes or pixels, or of no known format.
    """
    if len(data) > limits.max_upload_mb * 1e6:
        raise UserError(
            f"{name}: expected at most {limits.max_upload_mb:g} MB, received "
            f"{len(data) / 1e6:.1f} MB; save it smaller"
        )
    try:
        width, height, _ = header_of(io.BytesIO(data))
    except Refused as error:
        raise UserError(f"{name}: not a picture that can be read: {error}") from error
    if width * height > limits.max_megapixels * 1e6:
        raise UserError(
            f"{name}: expected at most {limits.max_megapixels:g} million pixels, "
            f"the file's header says {width} x {height}; save it smaller"
        )


def draw(picture: Picture, side: int, threshold: float, marks: bool) -> np.ndarray:
    """A picture as the page shows it, with its mask, if it has one: uint8 [h, w, 3].

    `side` is the longer one, of `Picture.shown`. Marks are drawn over the mask: what is
    painted as a veil, points as dots.
    """
    image = picture.shown[side]
    line = 2 if side == SHOWN_SIDE else 1
    if picture.probability is not None:
        mask = decide(picture.probability, image.shape[:2], threshold)
        image = overlay(image, mask, color=PALETTE[0])
        image = outline(image, mask, color=_WHITE, width=line)
    if not marks:
        return image
    all_marks = picture.annotations.marks
    points = [m for m in all_marks if isinstance(m, Stroke) and not m.radius]
    painted = tuple(mark for mark in all_marks if mark not in points)
    if painted:
        image = _painted(image, Annotations(picture.size, painted), line)
    drawn = Image.fromarray(image)
    canvas = ImageDraw.Draw(drawn)
    reach = max(POINT_REACH * side / 2, 3)
    for point in points:
        x = (point.column + 0.5) * drawn.width / picture.size[1]
        y = (point.row + 0.5) * drawn.height / picture.size[0]
        box = (x - reach, y - reach, x + reach, y + reach)
        canvas.ellipse(box, fill=_COLORS[point.label], outline=_WHITE, width=line)
    return np.asarray(drawn)


def _painted(image: np.ndarray, annotations: Annotations, line: int) -> np.ndarray:
    """Veils what is painted; in a thumbnail, outlines the object alone."""
    mask = annotations.raster(*image.shape[:2])
    for label, color in _COLORS.items():
        own = (mask == label).astype(np.uint8)
        if not own.any() or (label == BACKGROUND and line == 1):
            continue
        if line > 1:
            image = overlay(image, own, color=color, alpha=_VEILS[label])
        image = outline(image, own, color=color, width=line)
    return image


def _scaled(image: np.ndarray, side: int) -> np.ndarray:
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(picture)
