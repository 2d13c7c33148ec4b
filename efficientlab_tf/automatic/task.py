"""What a person labelled, and what of it is kept aside to judge candidates by."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from efficientlab_tf.data.annotations import resize_annotations
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.metrics import confusion, mean_iou, predicted_masks
from efficientlab_tf.pictures import SPARSE

MOST_LEFT_OUT = 8
"""Support sets of as many pictures are judged one by one, larger ones in folds."""
FOLDS = 5
MOST_JUDGED = 40
"""Pictures that candidates are judged by, at most."""
MOST_MIRRORED = 16
"""Support sets of more pictures are not also learned from mirrored."""
JUDGED_SIDE = 384
"""Longer side of the pictures that candidates are judged on, in pixels, at most."""


class Entry(NamedTuple):
    """A labelled picture.

    Attributes:
      picture: its number.
      mask: uint8 [H, W]; 0..K, 255 unknown.
    """

    picture: int
    mask: np.ndarray


@dataclasses.dataclass(frozen=True)
class Task:
    """A support set, cut up for cross-validation.

    Attributes:
      pictures: uint8 [H, W, 3] each, of any sizes.
      entries: what is learned from and judged by, one for each picture.
      folds: numbers of the entries that are judged together, by a candidate that saw
        all others. Empty if nothing can be kept aside.
      classes: K.
      seed: of everything that is random.
    """

    pictures: tuple[np.ndarray, ...]
    entries: tuple[Entry, ...]
    folds: tuple[tuple[int, ...], ...]
    classes: int
    seed: int

    @classmethod
    def of(
        cls,
        pictures: Sequence[np.ndarray],
        masks: Sequence[np.ndarray],
        classes: int,
        seed: int = 0,
    ) -> "Task":
        """Cuts a support set up.

        Args:
          pictures: uint8 [H, W, 3] each.
          masks: uint8 [H, W] each; 0..K, 255 unknown.
          classes: K.
          seed: decides the folds of a large support set.
        """
        entries = [Entry(i, mask) for i, mask in enumerate(masks)]
        common = {"classes": classes, "seed": seed}
        folds = _folds([entry.mask for entry in entries], seed)
        return cls(tuple(pictures), tuple(entries), folds, **common)

    @property
    def is_sparse(self) -> bool:
        """Whether hardly any pixels are labelled, as with points."""
        known = [np.mean(entry.mask != IGNORE) for entry in self.entries]
        return bool(np.median(known) < SPARSE)

    @property
    def judged(self) -> tuple[int, ...]:
        """Numbers of the entries that are judged, in the order of the folds."""
        return tuple(i for fold in self.folds for i in fold)

    def others(self, fold: Sequence[int]) -> list[int]:
        """The entries that are learned from where `fold` is judged."""
        return [i for i in range(len(self.entries)) if i not in fold]

    def truth(self, entry: int) -> np.ndarray:
        """What an entry is judged by: its mask at the size of `judged_size`."""
        mask = self.entries[entry].mask
        return resize_annotations(mask[np.newaxis], judged_size(mask.shape))[0]

    def score(self, entry: int, probabilities: np.ndarray) -> float:
        """IoU of an entry, the mean over the classes that it or the mask found shows.

        Args:
          entry: its number.
          probabilities: [h, w, K+1], of the size of `truth`.
        """
        found = predicted_masks(probabilities[np.newaxis])
        truth = self.truth(entry)[np.newaxis]
        return mean_iou(confusion(truth, found, self.classes)[0])


def judged_size(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width that a picture of `size` is judged at."""
    scale = min(1.0, JUDGED_SIDE / max(size))
    return tuple(max(1, round(side * scale)) for side in size)


def _labels(mask: np.ndarray) -> set[int]:
    return set(np.unique(mask).tolist()) - {IGNORE}


def _folds(masks: Sequence[np.ndarray], seed: int) -> tuple[tuple[int, ...], ...]:
    """Groups of entries without which every label is still shown by the others."""
    shown = [_labels(mask) for mask in masks]
    rng = np.random.default_rng(seed)
    order = range(len(masks))
    # A picture without any object tells little about one.
    order = [i for i in order if shown[i] - {0}]
    if len(masks) <= MOST_LEFT_OUT:
        groups = [[i] for i in order]
    else:
        order = rng.permutation(order)[:MOST_JUDGED].tolist()
        groups = [sorted(order[i::FOLDS]) for i in range(FOLDS)]
    every = set().union(*shown)

    def spared(group: list[int]) -> bool:
        rest = [shown[i] for i in range(len(masks)) if i not in group]
        return bool(group) and every == set().union(*rest)

    return tuple(tuple(group) for group in groups if spared(group))
