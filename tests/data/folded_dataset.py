"""A tiny dataset with two folds, whose every image says where it comes from."""

from dataclasses import replace

from efficientlab_tf.data.fold_lists import PairRow, pairs_filename, write_pairs
from tests.data.tiny_dataset import tiny_dataset

FOLDS = (
    {"train": ("train-ant",), "test": ("val-bee", "val-cow")},
    {"train": ("train-bee",), "test": ("val-ant",)},
)
ROWS = [
    PairRow("bee", "0", ("2", "1", "3")),
    PairRow("cow", "1", ("0",)),
    PairRow("bee", "3", ("0", "2", "1")),
    PairRow("cow", "0", ("1",)),
    PairRow("bee", "1", ("3", "0", "2")),
]
"""Fold 0's list; fold 1 has none."""


def folded_dataset(directory, size=(32, 48)):
    counts = {"train-ant": 3, "train-bee": 3, "val-ant": 2, "val-bee": 4, "val-cow": 2}
    manifest = tiny_dataset(directory, counts, {"dev": ("val-ant",)}, size=size)
    manifest = replace(manifest, folds=FOLDS)
    manifest.save()
    write_pairs(manifest.directory / pairs_filename(0), ROWS)
    write_pairs(manifest.directory / pairs_filename(1), [])
    return manifest
