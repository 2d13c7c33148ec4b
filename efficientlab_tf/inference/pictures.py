"""Pictures and masks as a person hands them over: arrays, PIL images, or files."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from efficientlab_tf.data.annotations.export import reading, rgb
from efficientlab_tf.data.mask_deciding import decide
from efficientlab_tf.data.picture_files import Refused
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from efficientlab_tf.inference.queries import read_query

Picture = np.ndarray | Image.Image | str | Path


def read_pictures(name: str, pictures: Sequence[Picture]) -> list[np.ndarray]:
    """Reads pictures, each of its own size: upright, uint8 [H, W, 3] each.

    Args:
      name: of the argument, for messages.
      pictures: arrays uint8 [H, W, 3] or [H, W], PIL images, or paths.

    Raises:
      UserError: none, one that cannot be read, or a single picture in place of several.
    """
    return [
        _picture(f"{name}[{i}]", picture)
        for i, picture in enumerate(_several(name, pictures))
    ]


def read_masks(
    masks: Sequence[Picture], pictures: list[np.ndarray]
) -> list[np.ndarray]:
    """Reads the masks of pictures: uint8 [H, W] each.

    Args:
      masks: whole numbers or bool [H, W], PIL images, or paths: 0 background, 1..K
        classes, 255 unknown. A file may also be an object on background, as for the
        command `adapt`.
      pictures: uint8 [H, W, 3], of the same sizes.

    Raises:
      UserError: another number of masks, or one of another size or of other values.
    """
    masks = list(_several("masks", masks))
    if len(masks) != len(pictures):
        raise UserError(
            f"`masks`: expected one for each of the {len(pictures)} images, received "
            f"{len(masks)}"
        )
    files = [Path(m).expanduser() for m in masks if isinstance(m, str | Path)]
    means = decide(files)
    read = []
    for i, (mask, picture) in enumerate(zip(masks, pictures, strict=True)):
        label = f"masks[{i}]"
        if isinstance(mask, str | Path):
            with reading(f"{label}: {mask}"):
                values, _ = means.read(Path(mask).expanduser())
            if means.is_binary:
                values[(values > 0) & (values != IGNORE)] = 1
        else:
            values = _labels(label, mask)
        if values.shape != picture.shape[:2]:
            raise UserError(
                f"{label}: expected the size of its image, {picture.shape[0]} x "
                f"{picture.shape[1]}, received {' x '.join(map(str, values.shape))}"
            )
        read.append(values)
    return read


def check_classes(
    masks: Sequence[np.ndarray], classes: int | Sequence[str] | None
) -> tuple[tuple[str, ...], int]:
    """Finds out which classes masks show: their names, and K.

    Args:
      masks: uint8 [H, W] each; 0..K, 255 unknown.
      classes: K, or the names of the classes; None takes K from the masks.

    Raises:
      UserError: no class, one without a pixel, or a larger number than K.
    """
    seen = set().union(*(np.unique(mask).tolist() for mask in masks)) - {0, IGNORE}
    names: tuple[str, ...] | None = None
    if isinstance(classes, str):
        raise UserError(f"`classes`: expected several names, received {classes!r}")
    if classes is not None and not isinstance(classes, int):
        names = tuple(classes)
        classes = len(names)
    count = classes if classes is not None else max(seen, default=0)
    if not seen or count < 1:
        raise UserError(
            "`masks`: expected at least one pixel of a class, 1 to K, received none: 0 "
            f"is background and {IGNORE} unknown; in a mask of 0 and 255 divide by 255"
        )
    missing = set(range(1, count + 1)) - seen
    if missing or max(seen) > count:
        problem = f"none of {min(missing)}" if missing else f"{max(seen)}"
        raise UserError(
            f"`masks`: expected a pixel of each class from 1 to {count}, received "
            f"{problem}; label some, or number the classes without gaps"
        )
    return names or numbered(count), count


def numbered(classes: int) -> tuple[str, ...]:
    """Names for classes that have none: 1, 2, ..., or object for a single one."""
    return tuple(str(c) for c in range(1, classes + 1)) if classes > 1 else ("object",)


def _several(name: str, items: Iterable[Picture]) -> Iterable[Picture]:
    single = isinstance(items, str | Path | Image.Image)
    if single or isinstance(items, np.ndarray) and items.ndim < 3:
        raise UserError(f"`{name}`: expected a list, received one; write [{name[:-1]}]")
    try:
        items = list(items)
    except TypeError as error:
        raise UserError(
            f"`{name}`: expected a list, received {type(items).__name__}"
        ) from error
    if not items:
        raise UserError(f"`{name}`: expected at least one, received none")
    return items


def _picture(label: str, picture: Picture) -> np.ndarray:
    if isinstance(picture, str | Path):
        try:
            return rgb(read_query(Path(picture).expanduser()))
        except Refused as error:
            raise UserError(f"{label}: {picture}: {error}") from error
    if isinstance(picture, Image.Image):
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    array = np.asarray(picture)
    if array.dtype == np.uint8 and array.ndim == 2 and array.shape[1] > 3:
        array = np.repeat(array[..., np.newaxis], 3, axis=-1)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3:
        raise UserError(
            f"{label}: expected uint8 [H, W, 3] in 0..255, a PIL image or a path, in a "
            f"list of pictures; received {array.dtype} {list(array.shape)}"
        )
    if not array.size:
        raise UserError(f"{label}: expected at least one pixel, received none")
    return array


def _labels(label: str, mask: np.ndarray | Image.Image) -> np.ndarray:
    if isinstance(mask, Image.Image):
        if mask.mode not in ("1", "L", "P"):
            raise UserError(
                f"{label}: expected one number a pixel (mode L or P), received mode "
                f"{mask.mode}"
            )
        mask = ImageOps.exif_transpose(mask)
    array = np.asarray(mask)
    whole = array.dtype == bool or np.issubdtype(array.dtype, np.integer)
    if not whole or array.ndim != 2:
        raise UserError(
            f"{label}: expected whole numbers [H, W], received {array.dtype} "
            f"{list(array.shape)}"
        )
    if array.size and (array.min() < 0 or array.max() > IGNORE):
        raise UserError(
            f"{label}: expected 0 to {IGNORE}, received {array.min()} to {array.max()}"
        )
    return array.astype(np.uint8)


def check_left(masks: np.ndarray, names: Sequence[str], size: tuple[int, int]) -> None:
    """Refuses masks that show nothing of a class at a model's size.

    Args:
      masks: uint8 [n, H, W], at that size.
      names: of the classes 1..K.
      size: height and width in pixels.

    Raises:
      UserError: a class has no pixel.
    """
    for number, name in enumerate(names, start=1):
        if not (masks == number).any():
            height, width = size
            raise UserError(
                f"at the model's {height} x {width} pixels nothing is left of "
                f"class {name}; label more of it, give pictures that show it "
                "larger, or a model that works at a larger size"
            )
