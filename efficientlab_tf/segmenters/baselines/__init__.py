"""Segmenters that meta-learn nothing: what a meta-learner has to beat.

The baselines of Shaban et al. (2017), section 6, and the two constant masks. Its
fine-tuning is `GradientSegmenter` with `adapt` "decoder".
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from efficientlab_tf.errors import UserError
from efficientlab_tf.segmenters.baselines.constant import AllBackground, AllForeground
from efficientlab_tf.segmenters.baselines.cosegmentation import CoSegmentation
from efficientlab_tf.segmenters.baselines.features import (
    FeatureExtractor,
    labels,
    upsample,
)
from efficientlab_tf.segmenters.baselines.logistic import (
    LogisticRegression,
    LogisticRegressionAdapted,
)
from efficientlab_tf.segmenters.baselines.neighbours import NearestNeighbour
from efficientlab_tf.segmenters.segmenter import Segmenter

__all__ = [
    "BASELINES",
    "AllBackground",
    "AllForeground",
    "CoSegmentation",
    "FeatureExtractor",
    "LogisticRegression",
    "LogisticRegressionAdapted",
    "NearestNeighbour",
    "build_baseline",
    "labels",
    "needs_extractor",
    "upsample",
]

BASELINES: Mapping[str, Callable[..., Segmenter]] = {
    "nearest_neighbour": NearestNeighbour,
    "logistic_regression": LogisticRegression,
    "cosegmentation": CoSegmentation,
    "all_foreground": AllForeground,
    "all_background": AllBackground,
}
"""Every baseline by the name that commands know it by."""


def needs_extractor(name: str) -> bool:
    """Whether the baseline called `name` sees features."""
    return "extractor" in _options(name)


def build_baseline(
    name: str, extractor: FeatureExtractor | None = None, **options: Any
) -> Segmenter:
    """Builds the baseline called `name` with the options of its class.

    Args:
      name: one of `BASELINES`.
      extractor: of the features, if it sees any.
      **options: the other attributes of the class.

    Raises:
      UserError: no such baseline or option, or no extractor where one is needed.
    """
    known = _options(name) - {"extractor"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise UserError(
            f"baseline {name}: expected options out of "
            f"{', '.join(sorted(known)) or 'none'}; received {', '.join(unknown)}"
        )
    if needs_extractor(name):
        if extractor is None:
            raise UserError(
                f"baseline {name}: expected a feature extractor, received none"
            )
        options["extractor"] = extractor
    return BASELINES[name](**options)


def _options(name: str) -> set[str]:
    if name not in BASELINES:
        raise UserError(
            f"baseline: expected one of {', '.join(BASELINES)}; received {name!r}"
        )
    return {field.name for field in dataclasses.fields(BASELINES[name])}
