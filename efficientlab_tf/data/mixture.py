"""Training sets mixed by weight: datasets/icons:1,datasets/caltech:2."""

import math
from typing import NamedTuple

from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.errors import UserError


class Mixture(NamedTuple):
    """Datasets, and how often a task is drawn from each.

    Attributes:
      manifests: of the datasets.
      shares: positive, they add up to 1.
    """

    manifests: tuple[Manifest, ...]
    shares: tuple[float, ...]

    @classmethod
    def load(cls, text: str, splits: str = "") -> "Mixture":
        """Reads the datasets that a text names.

        Args:
          text: folders, or "sample:NAME", joined by commas; each may have ":WEIGHT"
            behind it, and else weighs 1.
          splits: class lists in place of the dataset's own, for one dataset alone;
            see `Manifest.with_splits`.

        Raises:
          UserError: a weight that is not positive, a dataset twice or one that cannot
            be read, or `splits` for several.
        """
        names, weights = zip(*map(_parse, text.split(",")), strict=True)
        if len(set(names)) < len(names):
            raise UserError(
                f"`dataset_dir` must name each dataset once, received {text!r}: add up "
                "its weights"
            )
        if splits and len(names) > 1:
            raise UserError(
                f"`splits` is for one dataset, received {splits!r} for {len(names)}: "
                "leave it out, and give the class lists when they are converted"
            )
        manifests = [Manifest.load(name) for name in names]
        if splits:
            manifests = [manifests[0].with_splits(splits)]
        total = sum(weights)
        return cls(tuple(manifests), tuple(weight / total for weight in weights))

    def class_count(self, split: str) -> int:
        """Number of classes in the split of this name of all datasets.

        Raises:
          UserError: a dataset has no such split.
        """
        return sum(len(manifest.split(split)) for manifest in self.manifests)


def _parse(part: str) -> tuple[str, float]:
    name, colon, number = part.strip().rpartition(":")
    try:
        weight = float(number) if colon else None
    except ValueError:
        weight = None  # The colon belongs to the name, as in sample:icons.
    if weight is None:
        name, weight = part.strip(), 1.0
    if not name or not (weight > 0 and math.isfinite(weight)):
        raise UserError(
            f"`dataset_dir` must be datasets joined by commas, each with a positive "
            f":WEIGHT behind it or none, received {part!r}"
        )
    return name, weight
