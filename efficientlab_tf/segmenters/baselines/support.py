"""What baselines share: checked support sets and queries, and predicting by cells."""

import abc
import contextlib
import functools

import numpy as np
from threadpoolctl import ThreadpoolController

from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from efficientlab_tf.segmenters.baselines.features import (
    FeatureExtractor,
    is_pictures,
    labels,
    upsample,
)
from efficientlab_tf.segmenters.segmenter import Adapted, Features, Segmenter


class DenseSegmenter(Segmenter):
    """A method that learns from the labelled cells of dense features."""

    extractor: FeatureExtractor
    live = True
    needs_background = True

    def read(self, images: np.ndarray) -> Features:
        """See `Segmenter`: dense features."""
        return Features(self.extractor(images))

    def labelled(
        self, images: np.ndarray | Features, masks: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Features [k, h, w, C] of a support set, and `labelled_cells`."""
        if not isinstance(images, Features):
            images, masks, _ = check_support(images, masks)
            images = self.read(images)
        return images.values, *labelled_cells(masks, self.extractor.grid)


class DenseAdapted(Adapted):
    """What has learned from dense features, and scores those of queries.

    Attributes:
      extractor: of the features.
      image_size: H and W.
      classes: K.
    """

    extractor: FeatureExtractor
    image_size: tuple[int, int]
    classes: int

    @abc.abstractmethod
    def scores(self, features: np.ndarray) -> np.ndarray:
        """Maps the features [h, w, C] of one query to probabilities [h, w, K+1]."""

    def predict(self, images: np.ndarray | Features) -> np.ndarray:
        """See `Adapted`."""
        if isinstance(images, Features):
            read = images.values
        else:
            read = self.extractor(check_queries(images, self.image_size))
        # One at a time, so that no rounding depends on the others.
        result = np.empty((len(read), *self.image_size, self.classes + 1), np.float32)
        for out, features in zip(result, read, strict=True):
            out[:] = upsample(self.scores(features)[np.newaxis], self.image_size)[0]
        return result


def check_support(
    images: np.ndarray, masks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Checks that a support set is uint8 [k, H, W, 3] and [k, H, W] with k from 1.

    Returns:
      The images, the masks, and K, the largest label, at least 1.
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
    return images, masks, max(1, int(known.max(initial=0)))


def check_queries(images: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Checks that queries are uint8 or float [n, H, W, 3] of the support's size."""
    images = np.asarray(images)
    if not is_pictures(images, image_size):
        height, width = image_size
        raise UserError(
            f"query images: expected uint8 or float [n, {height}, {width}, 3], the "
            f"size of the support images; received {images.dtype} "
            f"{list(images.shape)}; resize them"
        )
    return images


def labelled_cells(masks: np.ndarray, grid: tuple[int, int]) -> tuple[np.ndarray, int]:
    """Labels the cells of features, see `features.labels`.

    Args:
      masks: uint8 [k, H, W]; 0..K, 255 unknown.
      grid: height and width of the features.

    Returns:
      uint8 [k, *grid]; 0..K, 255 unknown, every class at least once (but not the
      background); and K, at least 1.

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
    advice = "take larger images or an earlier stage"
    _require(wanted, cells, "cell of the features", advice)
    return cells, classes


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
