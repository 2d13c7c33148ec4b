"""Makes examples from image files and their masks.

Images are stored as JPEG or PNG. A file that needs no change keeps its bytes; every
change and every refused file is reported.
"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from efficientlab_tf.data.cleaning import (
    JPEG_QUALITY,
    CleaningOptions,
    encode_mask,
    fit_mask,
    read_image,
    resize_mask,
)
from efficientlab_tf.data.example import CHANGED, LEFT_OUT, REFUSED, Example, ReportRow
from efficientlab_tf.data.mask_readings import (
    INDEX,
    UNKNOWN,
    Reading,
    require_class,
)
from efficientlab_tf.data.picture_files import Refused, count_values, read_bytes
from efficientlab_tf.data.sbd_masks import INSTANCES, SBD_SUFFIX, read_sbd_mask

VOC_OBJECTS, SBD_INSTANCES = "SegmentationObject", "inst"


def load_example(
    class_name: str,
    image_path: Path,
    mask_path: Path,
    options: CleaningOptions,
    reading: Reading | None = None,
) -> tuple[Example | None, list[ReportRow]]:
    """Reads one image and its mask file; a mask of SBD is a .mat file.

    Args:
      class_name: for the report.
      image_path: the image.
      mask_path: the mask.
      options: how examples are made.
      reading: what the masks of the set mean, if they were looked at; None reads them
        as `options` says.

    Returns:
      The example, or None if it was refused, and the report's rows about it.
    """

    def read() -> tuple[np.ndarray, list[str]]:
        of_sbd = mask_path.suffix.lower() == SBD_SUFFIX
        if of_sbd:
            mask, notes = read_sbd_mask(read_bytes(mask_path)), []
        else:
            mask, notes = (reading or Reading(options.mask_values)).read(mask_path)
            if reading is None and options.mask_values == INDEX:
                require_class(mask)
            elif reading and reading.is_binary and options.index is None:
                mask[(mask > 0) & (mask != UNKNOWN)] = 1
        if options.index is not None:
            own = mask == options.index
            mask = np.where(mask == UNKNOWN, mask, own)
            if options.instances:
                mask[own] = _objects(mask_path, of_sbd, own)
        return mask.astype(np.uint8), notes

    return make_example(
        class_name,
        image_path,
        mask_path.name,
        read,
        options,
        must_mark=options.index is not None,
    )


def _objects(mask_path: Path, of_sbd: bool, own: np.ndarray) -> np.ndarray:
    """Returns the objects of the pixels `own`, bool [H, W]: 2, 3, ..., 1 for none.

    VOC has them in SegmentationObject beside SegmentationClass, SBD in inst beside cls.
    """
    folder = mask_path.parent.parent
    if of_sbd:
        data = read_bytes(folder / SBD_INSTANCES / mask_path.name)
        objects = read_sbd_mask(data, INSTANCES)
    else:
        objects, _ = Reading(INDEX).read(folder / VOC_OBJECTS / mask_path.name)
    if objects.shape != own.shape:
        raise Refused("its mask of objects has another size")
    objects = np.where(objects == UNKNOWN, 0, objects)[own]
    values, numbers = np.unique(objects, return_inverse=True)
    first = 1 if 0 in values else 2
    if len(values) + first > UNKNOWN:
        raise Refused(f"{len(values)} objects of one class are too many")
    return numbers + first


def make_example(
    class_name: str,
    image_path: Path,
    mask_name: str,
    mask_of: Callable[[], tuple[np.ndarray, list[str]]],
    options: CleaningOptions,
    *,
    must_mark: bool = False,
) -> tuple[Example | None, list[ReportRow]]:
    """Reads one image and combines it with its mask.

    Args:
      class_name: for the report.
      image_path: the image.
      mask_name: what the report calls the mask.
      mask_of: returns the mask, uint8 [H, W], and what was changed in it, in words;
        may raise `Refused` or OSError.
      options: how examples are made.
      must_mark: whether to leave out an example whose stored mask marks no pixel.

    Returns:
      As `load_example`.
    """
    rows: list[ReportRow] = []
    name = image_path.name
    try:
        data = read_bytes(image_path)
        image = read_image(data)
        name = mask_name
        mask, mask_notes = mask_of()
        mask = fit_mask(mask, image, mask_notes)
    except (Refused, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return None, [ReportRow(class_name, name, REFUSED, str(reason))]
    notes = image.notes
    picture = image.picture
    if options.image_size is not None:
        size = (options.image_size, options.image_size)
        if picture.size != size:
            notes.append(f"resized from {_size(picture)} to {size[0]}x{size[1]}")
            picture = picture.resize(size, Image.Resampling.BILINEAR)
            lost = set(count_values(mask))
            mask = resize_mask(mask, size)
            if lost := lost - set(count_values(mask)) - {0, UNKNOWN}:
                shown = ", ".join(map(str, sorted(lost)))
                mask_notes.append(f"nothing is left of {shown} at {_size(picture)}")
    if must_mark and not ((mask > 0) & (mask != UNKNOWN)).any():
        reason = f"no pixel of the class at {_size(picture)}"
        return None, [ReportRow(class_name, image_path.name, LEFT_OUT, reason)]
    if notes:
        data = encode_image(picture, image.image_format, options.jpeg_quality)
        rows.append(ReportRow(class_name, image_path.name, CHANGED, "; ".join(notes)))
    if mask_notes:
        reason = "; ".join(mask_notes)
        rows.append(ReportRow(class_name, mask_name, CHANGED, reason))
    example = Example(
        filename=image_path.name,
        image=data,
        image_format=image.image_format,
        mask=encode_mask(mask),
        height=picture.height,
        width=picture.width,
    )
    return example, rows


def encode_image(picture: Image.Image, image_format: str, quality: int) -> bytes:
    """Encodes a picture as "jpeg" or "png", without metadata."""
    buffer = io.BytesIO()
    picture = picture.copy()
    picture.info = {}
    if image_format == "jpeg":
        subsampling = "4:4:4" if quality >= JPEG_QUALITY else "4:2:0"
        picture.save(
            buffer, "JPEG", quality=quality, subsampling=subsampling, optimize=True
        )
    else:
        picture.save(buffer, "PNG")
    return buffer.getvalue()


def _size(picture: Image.Image) -> str:
    return f"{picture.width}x{picture.height}"
