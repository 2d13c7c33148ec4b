"""Which candidates a support set has, in the order in which they are tried."""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy.ndimage import label

from efficientlab_tf.automatic.family import Family
from efficientlab_tf.automatic.frame import MOST_ENLARGED
from efficientlab_tf.automatic.linear import Linear, LinearFamily
from efficientlab_tf.automatic.reading import reader
from efficientlab_tf.automatic.task import Task

KINDS = tuple(
    Linear(stages)
    for stages in ((4, 6, 7, 8), (3, 4, 6, 7), (3, 4, 5, 6, 7, 8), (2, 3, 4, 6))
)
FEW_KINDS = tuple(dataclasses.replace(kind, strength=0.4, prior=True) for kind in KINDS)
FEW = 2
"""So many labelled pictures say too little without what other classes have taught."""
USUAL_SIDES = (384, 256, 512)
"""Of these those to which pictures can be enlarged; 256 always."""
_USUAL_ALONE = (384, 512)
LARGE_SIDES = (768, 1024, 2016)
LEAST_OBJECT = 24
"""Pixels that a side of an object should have, so that it fills some cells."""


def linear_families(task: Task) -> list[Callable[[], Family]]:
    """Linear classifiers at the sizes that suit the pictures and their objects."""
    return [
        lambda side=side: LinearFamily(side, _kinds(task), reader())
        for side in sides(task)
    ]


def usual_families(task: Task) -> list[Family]:
    """What does best on the whole, where nothing can be kept aside to choose by.

    On validation sets, with one picture: judging by its halves came out 5 points lower.
    """
    usual = [side for side in sides(task) if side in _USUAL_ALONE]
    usual = usual or [sides(task)[0]]
    return [LinearFamily(side, _kinds(task)[:2], reader()) for side in usual]


def _kinds(task: Task) -> tuple[Linear, ...]:
    return FEW_KINDS if len(task.entries) <= FEW else KINDS


def sides(task: Task) -> tuple[int, ...]:
    """The longer sides, in pixels, at which pictures are read.

    Small objects on large pictures are also looked at closer; small pictures are not
    enlarged beyond use.
    """
    longest = max(max(picture.shape[:2]) for picture in task.pictures)
    usual = [side for side in USUAL_SIDES if side <= max(256, MOST_ENLARGED * longest)]
    wanted = longest * LEAST_OBJECT / _object_side(task)
    large = [side for side in LARGE_SIDES if side <= longest]
    needed = [side for side in large if side < wanted] if wanted > max(usual) else []
    needed += [side for side in large if side >= wanted > max(usual)][:1]
    # What is too small at the usual sizes is not looked for there.
    return (usual[0], *needed[-2:]) if needed else tuple(usual)


def _object_side(task: Task) -> float:
    """The root of the area of the object that the median object pixel lies in."""
    areas: list[int] = []
    for entry in task.entries:
        for number in range(1, task.classes + 1):
            parts, _ = label(entry.mask == number)
            areas += np.bincount(parts.ravel())[1:].tolist()
    areas = sorted(areas)
    middle = np.searchsorted(np.cumsum(areas), sum(areas) / 2)
    return float(np.sqrt(areas[middle]))
