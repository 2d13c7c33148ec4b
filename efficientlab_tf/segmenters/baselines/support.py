"""What a baseline may rely on: checked support sets and queries."""

import contextlib
import functools
from typing import NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from efficientlab_tf.segmenters.baselines.features import FeatureExtractor, labels
from efficientlab_tf.segmenters.segmenter import Features


class Support(NamedTuple):
    """A support set that is in order.

    Attributes:
      images: uint8 [k, H, W, 3].
      masks: uint8 [k, H, W]; 0..K, 255 unknown.
      classes: K, the largest label, at least 1.
    """

    images: np.ndarray
    masks: np.ndarray
    classes: int

    @property
    def image_size(self) -> tuple[int, int]:
        """H and W."""
        return self.masks.shape[1:]


class Cells(NamedTuple):
    """The labels of the cells of features.

    Attributes:
      labels: uint8 [k, h, w]; 0..K, 255 unknown, every class at least once (but not
        the background).
      classes: K, at least 1.
    """

    labels: np.ndarray
    classes: int


def check_support(images: np.ndarray, masks: np.ndarray) -> Support:
    """Checks shapes and types.

    Raises:
      UserError: not uint8 [k, H, W, 3] and [k, H, W] with k from 1.
    """
    images, masks = np.asarray(images), np.asarray(masks)
    if (
        (images.dtype, masks.dtype) != (np.uint8, np.uint8)
        or images.ndim != 4
        or images.shape[-1] != 3
        or masks.shape != images.shape[:-1]
        or not masks.size
    ):
        raise UserError(
            "support set: expected images uint8 [k, H, W, 3] and masks uint8 "
            f"[k, H, W], k from 1; received images {images.dtype} "
            f"{list(images.shape)} and masks {masks.dtype} {list(masks.shape)}; "
            "bring all pictures to one size and make masks of label indices"
        )
    known = masks[masks != IGNORE]
    return Support(images, masks, max(1, int(known.max(initial=0))))


def check_queries(images: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Checks that queries are uint8 or float [n, H, W, 3] of the support's size.

    Raises:
      UserError: they are not.
    """
    images = np.asarray(images)
    is_number = images.dtype == np.uint8 or np.issubdtype(images.dtype, np.floating)
    if images.ndim != 4 or images.shape[1:] != (*image_size, 3) or not is_number:
        height, width = image_size
        raise UserError(
            f"query images: expected uint8 or float [n, {height}, {width}, 3], the "
            f"size of the support images; received {images.dtype} "
            f"{list(images.shape)}; resize them"
        )
    return images


def query_features(
    extractor: FeatureExtractor,
    images: np.ndarray | Features,
    image_size: tuple[int, int],
) -> np.ndarray:
    """The features [n, h, w, C] of queries, made now or before.

    Raises:
      UserError: queries of another shape or type than the support images.
    """
    if isinstance(images, Features):
        return images.values
    return extractor(check_queries(images, image_size))


def labelled_cells(masks: np.ndarray, grid: tuple[int, int]) -> Cells:
    """Labels the cells of features, see `features.labels`.

    Args:
      masks: uint8 [k, H, W]; 0..K, 255 unknown.
      grid: height and width of the features.

    Raises:
      UserError: a class 1..K without any pixel or cell, or nothing is known.
    """
    present = np.unique(masks)
    if (present == IGNORE).all():
        raise UserError(
            "support masks: expected known labels (0 background, 1..K classes); "
            f"received {IGNORE} (unknown) everywhere; label some pixels"
        )
    classes = max(1, int(present[present != IGNORE].max()))
    wanted = np.arange(1, classes + 1)
    _require(wanted, present, "pixel", "label some, or number the classes without gaps")
    cells = labels(masks, *grid)
    _require(
        wanted, cells, "cell of the features", "take larger images or an earlier stage"
    )
    return Cells(cells, classes)


def one_thread() -> contextlib.AbstractContextManager:
    """A context in which scikit-learn computes in one thread.

    Threads add up in any order, and k-means makes much of a last digit; for a few
    thousand cells they save little, and lose much where cores are shared (k-means
    on two busy cores: 0.12 s with one thread, 1.7 s with two).
    """
    return _thread_pools().limit(limits=1)


@functools.cache
def _thread_pools() -> ThreadpoolController:
    # It looks through all loaded libraries: once is enough.
    return ThreadpoolController()


def _require(wanted: np.ndarray, present: np.ndarray, what: str, remedy: str) -> None:
    missing = np.setdiff1d(wanted, present)
    if len(missing):
        raise UserError(
            f"support masks: expected a {what} of each class 1 to {wanted[-1]}; "
            f"received none of class {missing[0]}; {remedy}"
        )
