"""Folds: the same classes, divided several times into training and test.

One dataset folder holds all folds. A class has two entries: train-NAME with its
training pictures and val-NAME with those kept for testing. A fold trains on the train-
entries of some classes and tests on the val- entries of the others. Where each fold has
pictures of its own, they are entries fold0-NAME, fold1-NAME, ... to train on and
held-NAME to test on.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

TRAIN = "train"
TEST = "test"
TRAIN_PREFIX = "train-"
TEST_PREFIX = "val-"
HELD_PREFIX = "held-"

Fold = Mapping[str, tuple[str, ...]]
"""Split ("train", "test") to entries."""


class FoldPlan(NamedTuple):
    """The folds of a dataset to write; number and seed of each fold's test pairs."""

    folds: tuple[Fold, ...]
    pairs: int
    seed: int


def plain_name(entry: str) -> str:
    """Returns the class of an entry: val-bus is bus."""
    prefixes = f"{TRAIN_PREFIX}|{TEST_PREFIX}|{HELD_PREFIX}|fold[0-9]+-"
    return re.sub(f"^({prefixes})", "", entry)


def fold_number(spec: str) -> int | None:
    """Returns 2 for "fold2", and None for what is not such a name."""
    match = re.fullmatch(r"fold(\d{1,9})", spec)
    return int(match[1]) if match else None


def make_folds(
    classes: Sequence[str], tests: Sequence[Sequence[str]]
) -> tuple[Fold, ...]:
    """Returns the folds that test on `tests` and train on all other classes."""
    return tuple(
        {
            TRAIN: tuple(TRAIN_PREFIX + name for name in classes if name not in test),
            TEST: tuple(TEST_PREFIX + name for name in test),
        }
        for test in tests
    )
