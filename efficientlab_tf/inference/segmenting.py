"""Segments picture files and writes what was found beside each other.

masks/NAME.png      a palette PNG of the picture's size: 0 background, 1..K classes
overlays/NAME.png   the picture with its classes tinted and outlined
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from efficientlab_tf.data.annotations import resize_image
from efficientlab_tf.data.annotations.export import rgb
from efficientlab_tf.data.cleaning import Upright
from efficientlab_tf.data.picture_files import Refused
from efficientlab_tf.errors import UserError
from efficientlab_tf.files import writing
from efficientlab_tf.inference.queries import Query, Truth, read_query
from efficientlab_tf.metrics import confusion
from efficientlab_tf.pictures import marked, palette_image

MASKS, OVERLAYS = "masks", "overlays"

_BATCH = 8
_BATCH_PIXELS = 50e6


@dataclasses.dataclass(frozen=True)
class Segmented:
    """What became of one query.

    Attributes:
      query: the files.
      image: uint8 [H, W, 3], as the picture is.
      mask: uint8 [H, W], predicted; 0..K.
      truth: uint8 [H, W]; 0..K, 255 unknown; or None.
      counts: int64 [K+1, K+1], see `metrics.confusion`; None without truth.
      repeated: whether the picture, at the model's size, is in the support set.
      confidence: see `metrics.confidence`.
    """

    query: Query
    image: np.ndarray
    mask: np.ndarray
    truth: np.ndarray | None
    counts: np.ndarray | None
    repeated: bool
    confidence: float


class Predictor(Protocol):
    """What segments pictures of any size: an adapted model."""

    classes: tuple[str, ...]

    def examine(
        self, pictures: Sequence[np.ndarray]
    ) -> Iterable[tuple[np.ndarray, float]]:
        """Maps pictures uint8 [H, W, 3] to masks uint8 [H, W] and confidences."""


def segment(
    adapted: Predictor,
    queries: Sequence[Query],
    truth: Truth | None,
    *,
    support: Sequence[np.ndarray],
    size: tuple[int, int] | None,
    failed: Callable[[Path, str], None],
) -> Iterator[Segmented]:
    """Predicts pictures one after another.

    Args:
      adapted: the adapted model.
      queries: the pictures.
      truth: reads their masks; None if there are none.
      support: uint8 [H, W, 3] each: to find queries among them.
      size: that the support pictures were brought to; None if they were not.
      failed: called with a file that cannot be read, and the reason.
    """
    known = {image.tobytes() for image in support}
    classes = len(adapted.classes)
    waiting: list[tuple[Query, Upright]] = []
    pixels = 0

    def flush() -> Iterator[Segmented]:
        images = [rgb(picture) for _, picture in waiting]
        found = adapted.examine(images)
        for (query, picture), image, (mask, sure) in zip(
            waiting, images, found, strict=True
        ):
            labels = _truth(truth, query, picture, failed)
            counts = None
            if labels is not None:
                counts = confusion(labels[np.newaxis], mask[np.newaxis], classes)[0]
            seen = image if size is None else resize_image(image, size)
            repeated = seen.tobytes() in known
            yield Segmented(query, image, mask, labels, counts, repeated, sure)

    for query in queries:
        try:
            picture = read_query(query.path, query.page)
        except Refused as error:
            failed(query.path, str(error))
            continue
        waiting.append((query, picture))
        pixels += picture.picture.width * picture.picture.height
        if len(waiting) == _BATCH or pixels > _BATCH_PIXELS:
            yield from flush()
            waiting, pixels = [], 0
    if waiting:
        yield from flush()


def write(result: Segmented, output: Path) -> None:
    """Writes the mask and the overlay of one query."""
    name = result.query.output + ".png"
    overlay = Image.fromarray(marked(result.image, result.mask))
    images = {MASKS: palette_image(result.mask), OVERLAYS: overlay}
    with writing(f"{name} to {output}"):
        for folder, image in images.items():
            (output / folder).mkdir(parents=True, exist_ok=True)
            image.save(output / folder / name)


def _truth(truth: Truth | None, query: Query, picture: Upright, failed):
    if truth is None or query.mask is None:
        return None
    try:
        return truth.read(query.mask, picture)
    except (UserError, Refused) as error:
        failed(query.mask, str(error).removeprefix(f"{query.mask}: "))
        return None
