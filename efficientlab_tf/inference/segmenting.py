"""Segments picture files and writes what was found beside each other.

masks/NAME.png      a palette PNG of the picture's size: 0 background, 1..K classes
overlays/NAME.png   the picture with its classes tinted and outlined

Reading, the network and writing happen at the same time, on different pictures, and no
more than a few pictures are in memory: any number of them may pass.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from efficientlab_tf.data.annotations import resize_image
from efficientlab_tf.data.annotations.export import rgb
from efficientlab_tf.data.picture_files import Refused
from efficientlab_tf.errors import UserError
from efficientlab_tf.files import replacing, writing
from efficientlab_tf.inference.queries import Query, Truth
from efficientlab_tf.metrics import confusion
from efficientlab_tf.pictures import marked, palette_image
from efficientlab_tf.streaming import ahead, cores

MASKS, OVERLAYS = "masks", "overlays"

_AHEAD = 16
_PIXELS = 50e6
"""Of the pictures that are read and wait for the network, or wait to be written."""
_LARGE = 2e6
"""Pixels of pictures that go through the network alone."""


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
      unjudged: why its truth cannot be read, if it has one that cannot.
    """

    query: Query
    image: np.ndarray
    mask: np.ndarray
    truth: np.ndarray | None
    counts: np.ndarray | None
    repeated: bool
    confidence: float
    unjudged: str = ""


@dataclasses.dataclass(frozen=True)
class Failed:
    """A query that cannot be read, and why."""

    query: Query
    reason: str


class Predictor(Protocol):
    """What segments pictures of any size: an adapted model, see `AdaptedModel`."""

    classes: tuple[str, ...]
    batch: int

    def view(self, image: np.ndarray) -> np.ndarray:
        """Maps a picture uint8 [H, W, 3] to what `infer` takes. In any thread."""

    def infer(self, views: Sequence[np.ndarray]) -> np.ndarray:
        """Maps at most `batch` views to probabilities float32 [n, h, w, K+1].

        Raises:
          Refused: it cannot take the one picture that it was given.
        """

    def decide(
        self, probabilities: np.ndarray, size: tuple[int, int]
    ) -> tuple[np.ndarray, float]:
        """Makes a mask uint8 [*size] of probabilities, and a confidence."""


@dataclasses.dataclass(frozen=True)
class Judge:
    """What queries are compared with: support pictures, and masks of their own.

    Attributes:
      support: the support pictures, as bytes of uint8 [H, W, 3].
      size: that these were brought to; None if they were not.
      truth: reads the masks of queries; None if there are none.
    """

    support: frozenset[bytes] = frozenset()
    size: tuple[int, int] | None = None
    truth: Truth | None = None

    def repeats(self, image: np.ndarray) -> bool:
        """Whether a picture is in the support set."""
        if not self.support:
            return False
        seen = image if self.size is None else resize_image(image, self.size)
        return seen.tobytes() in self.support


@dataclasses.dataclass(frozen=True)
class _Read:
    query: Query
    image: np.ndarray
    view: np.ndarray
    truth: np.ndarray | None
    unjudged: str
    repeated: bool


def segment(
    adapted: Predictor,
    queries: Iterable[Query],
    output: Path,
    *,
    judge: Judge | None = None,
    overlays: bool = True,
    scratch: Path | None = None,
) -> Generator[Segmented | Failed, None, None]:
    """Segments pictures and writes the results; yields each, in order, when written.

    Whoever does not ask for all closes the generator.

    Args:
      adapted: the adapted model.
      queries: the pictures.
      output: folder of the results.
      judge: what the queries are compared with.
      overlays: whether to write overlays, too.
      scratch: an empty folder on the same disk, where files are until they are whole;
        None: they lie beside the results for so long.

    Raises:
      UserError: a result cannot be written.
    """
    judge = judge or Judge()

    def in_threads(function, items):
        limits = {"threads": cores(), "most": _AHEAD, "heaviest": _PIXELS}
        return ahead(function, items, weight=_pixels, **limits)

    def read(query: Query) -> _Read | Failed:
        try:
            picture = query.read()
            image = rgb(picture)
            view = adapted.view(image)
        except Refused as error:
            return Failed(query, str(error))
        truth, unjudged = None, ""
        if judge.truth is not None and query.mask is not None:
            try:
                truth = judge.truth.read(query.mask, picture)
            except (UserError, Refused) as error:
                unjudged = str(error).removeprefix(f"{query.mask}: ")
        return _Read(query, image, view, truth, unjudged, judge.repeats(image))

    def finish(found: tuple[_Read, np.ndarray] | Failed) -> Segmented | Failed:
        if isinstance(found, Failed):
            return found
        item, probabilities = found
        mask, sure = adapted.decide(probabilities, item.image.shape[:2])
        counts = None
        if item.truth is not None:
            classes = len(adapted.classes)
            counts = confusion(item.truth[np.newaxis], mask[np.newaxis], classes)[0]
        result = Segmented(
            *(item.query, item.image, mask, item.truth, counts, item.repeated, sure),
            item.unjudged,
        )
        _write(result, output, overlays, scratch)
        return result

    items = in_threads(read, queries)
    if adapted.batch > 1:
        return in_threads(finish, _inferred(adapted, items))
    alone = threading.Lock()

    def infer(item: _Read | Failed) -> tuple[_Read, np.ndarray] | Failed:
        # One picture at a time leaves cores idle, two hardly; large ones need memory.
        with alone if _pixels(item) > _LARGE else contextlib.nullcontext():
            return next(_together(adapted, [item]))

    return in_threads(finish, ahead(infer, items, threads=2, most=2))


def _pixels(item: _Read | Segmented | Failed) -> float:
    return 0.0 if isinstance(item, Failed) else item.image.size / 3


def _inferred(
    adapted: Predictor, items: Iterable[_Read | Failed]
) -> Iterator[tuple[_Read, np.ndarray] | Failed]:
    """Runs the network, on as many pictures at a time as it takes."""
    waiting: list[_Read | Failed] = []
    for item in items:
        waiting.append(item)
        heavy = sum(map(_pixels, waiting)) > _PIXELS
        if heavy or len(waiting) == adapted.batch:
            yield from _together(adapted, waiting)
            waiting = []
    yield from _together(adapted, waiting)


def _together(adapted: Predictor, items: list[_Read | Failed]) -> Iterator:
    views = [item.view for item in items if isinstance(item, _Read)]
    try:
        found = iter(adapted.infer(views)) if views else iter(())
    except Refused as error:
        yield from (Failed(item.query, str(error)) for item in items)
        return
    for item in items:
        yield (item, next(found)) if isinstance(item, _Read) else item


def _write(result: Segmented, output: Path, overlays: bool, scratch: Path | None):
    """Writes the mask of a query and perhaps its overlay, whole or not at all."""
    name = result.query.output + ".png"
    images = {MASKS: palette_image(result.mask)}
    if overlays:
        # First: who finds a mask finds all of its picture.
        overlay = Image.fromarray(marked(result.image, result.mask))
        images = {OVERLAYS: overlay} | images
    with writing(f"{name} to {output}"):
        for folder, image in images.items():
            path = output / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, scratch) as partial:
                # Pillow's usual 6 takes four times as long for 11 % smaller overlays.
                image.save(partial, compress_level=2 if folder == OVERLAYS else 6)
