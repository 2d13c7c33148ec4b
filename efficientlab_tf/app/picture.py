"""One picture of the page: small copies of it, its marks, its mask; and its drawing.

The file itself stays on disk, for a closer look and for a project that is saved.

Files are judged by their headers before anything is decoded: a few bytes may declare
a picture of gigabytes.
"""

import dataclasses
import io
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from efficientlab_tf.app.annotations import BACKGROUND, POINT_REACH, Annotations
from efficientlab_tf.app.config import AppConfig
from efficientlab_tf.data.annotations import resize_image
from efficientlab_tf.data.annotations.export import rgb
from efficientlab_tf.data.cleaning import Upright, fit_mask, read_image
from efficientlab_tf.data.mask_deciding import means_of
from efficientlab_tf.data.mask_planes import read_plane
from efficientlab_tf.data.mask_readings import INDEX
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
_SHARP_SIDE = 4096
_WHITE, _INK = (255, 255, 255), (30, 30, 30)
_VEIL, _BACKGROUND_VEIL = 0.3, 0.2


class Window(NamedTuple):
    """The part of a picture that is shown, in parts of its sides: 0 to 1."""

    top: float = 0.0
    left: float = 0.0
    side: float = 1.0

    def part(self, height: int, width: int) -> tuple[slice, slice]:
        """The same of an array that shows the whole picture."""
        rows, columns = round(height * self.side), round(width * self.side)
        top = min(round(self.top * height), height - rows)
        left = min(round(self.left * width), width - columns)
        return slice(top, top + rows), slice(left, left + columns)

    def resized(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The part of values [h, w] or [h, w, 3] that it shows, as [*size(, 3)]."""
        (height, width), (rows, columns) = values.shape[:2], size
        left, top = self.left * width, self.top * height
        box = left, top, left + self.side * width, top + self.side * height
        image = Image.fromarray(np.ascontiguousarray(values))
        how = Image.Resampling.BILINEAR
        return np.asarray(image.resize((columns, rows), how, box))


WHOLE = Window()


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
      file: the picture as it came, where the workspace put it.
      read: what a method knows of it, by the method's name.
      probability: float32 [H, W, k+1] at the size of the method that was adapted last;
        None before.
      classes: the numbers of the k classes that it learned, of 1..K.
      confidence: how sure the method is of the mask, see `metrics.confidence`.
    """

    name: str
    size: tuple[int, int]
    shown: dict[int, np.ndarray]
    fitted: dict[tuple[int, int], np.ndarray]
    annotations: Annotations
    file: Path = Path()
    history: list[Annotations] = dataclasses.field(default_factory=list)
    read: dict[str, Any] = dataclasses.field(default_factory=dict)
    probability: np.ndarray | None = None
    classes: tuple[int, ...] = ()
    confidence: float = 0.0

    def mask(
        self, size: tuple[int, int], threshold: float, window: Window = WHOLE
    ) -> np.ndarray:
        """What was found, or a window of it, uint8 [*size]: 0, 1..K."""
        found = self.probability
        if window != WHOLE:
            planes = [
                window.resized(found[..., i], size) for i in range(found.shape[-1])
            ]
            found = np.stack(planes, axis=-1)
        numbers = np.array([BACKGROUND, *self.classes], np.uint8)
        return numbers[decide(found, size, threshold)]

    def sharp(self) -> np.ndarray:
        """The picture from its file, uint8 [H, W, 3], of 4,096 pixels at most."""
        with _ONE_AT_A_TIME:
            image = rgb(read_image(self.file.read_bytes(), stretch=True))
            return _scaled(image, min(_SHARP_SIDE, max(self.size)))


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


def read_layer(
    picture: Picture, data: bytes, limits: AppConfig, label: int = 1
) -> np.ndarray:
    """Decodes a mask of a picture, uint8 [h, w] of its aspect ratio: 0, 1..K, 255.

    Args:
      picture: its picture.
      data: an image file; what it means is decided as for `mask_deciding.decide`.
      limits: what is refused.
      label: what a mask of one object is of; numbers of several classes stay.

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
            if not (means.is_binary or means.kind == INDEX):
                raise Refused(
                    f"it holds several classes in colours ({means.text}); save it "
                    "with their numbers, 1, 2, ..., on background, 0"
                )
            mask = means.apply(plane)[0]
            known = (mask > 0) & (mask != IGNORE)
            if means.is_binary:
                mask[known] = label
            most = int(mask[known].max(initial=0))
            if most > limits.max_classes:
                raise Refused(
                    f"it holds class {most}, and {limits.max_classes} classes are the "
                    "most that are taken; number them from 1"
                )
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


def draw(
    picture: Picture,
    image: np.ndarray,
    threshold: float,
    *,
    marks: bool = True,
    window: Window = WHOLE,
) -> np.ndarray:
    """A picture as the page shows it, with its mask, if it has one: uint8 [h, w, 3].

    Marks are drawn over the mask: what is painted as a veil, points as dots.

    Args:
      picture: whose mask and marks they are.
      image: uint8 [h, w, 3], what the window shows of it.
      threshold: of the foreground, for one class.
      marks: whether they are drawn.
      window: the part that is shown.
    """
    line = 2 if max(image.shape) > THUMBNAIL_SIDE else 1
    if picture.probability is not None:
        mask = picture.mask(image.shape[:2], threshold, window)
        image = outline(overlay(image, mask), mask, color=_WHITE, width=line)
    if not marks:
        return image
    points = [mark for mark in picture.annotations.marks if mark.is_point]
    painted = tuple(m for m in picture.annotations.marks if not m.is_point)
    if painted:
        height, width = (round(side / window.side) for side in image.shape[:2])
        mask = Annotations(picture.size, painted).raster(height, width)
        image = _painted(image, mask[window.part(height, width)], line)
    drawn = Image.fromarray(image)
    canvas = ImageDraw.Draw(drawn)
    reach = max(POINT_REACH * max(image.shape) / 2, 3)
    places = ((*place, mark.label) for mark in points for place in mark.path)
    for row, column, label in places:
        y = ((row + 0.5) / picture.size[0] - window.top) / window.side * drawn.height
        x = ((column + 0.5) / picture.size[1] - window.left) / window.side * drawn.width
        box = (x - reach, y - reach, x + reach, y + reach)
        canvas.ellipse(box, fill=color_of(label), outline=_WHITE, width=line)
    return np.asarray(drawn)


def color_of(label: int) -> tuple[int, int, int]:
    """The colour of what is marked as background, 0, or a class."""
    return PALETTE[(label - 1) % len(PALETTE)] if label else _INK


def _painted(image: np.ndarray, mask: np.ndarray, line: int) -> np.ndarray:
    """Veils what is painted and outlines classes; in a thumbnail outlines alone."""
    for label in np.setdiff1d(mask, [IGNORE]).tolist():
        own, color = (mask == label).astype(np.uint8), color_of(label)
        if line > 1:
            veil = _VEIL if label else _BACKGROUND_VEIL
            image = overlay(image, own, color=color, alpha=veil)
        if label != BACKGROUND:
            image = outline(image, own, color=color, width=line)
    return image


def _scaled(image: np.ndarray, side: int) -> np.ndarray:
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(picture)
