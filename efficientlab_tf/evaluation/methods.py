"""What can be compared, by the name that a command line gives it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from efficientlab_tf.checkpoint.files import load_model
from efficientlab_tf.checkpoint.run import build_functions
from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.data.annotations import resize_annotations
from efficientlab_tf.errors import UserError
from efficientlab_tf.segmenters.baselines import (
    BASELINES,
    FeatureExtractor,
    build_baseline,
    needs_extractor,
)
from efficientlab_tf.segmenters.gradient import BATCH_NORM_MODES, Adapted, Segmenter

_INNER_LOOP = (
    *("inner_learning_rate", "inner_steps", "inner_batch", "loss", "l2"),
    *("augment_rate", "adapt"),
)
_BATCH_NORM = "batch_norm"
_TYPES: dict[str, Callable[[str], Any]] = {
    field.name: field.type
    for field in dataclasses.fields(LearnerConfig)
    if field.name in _INNER_LOOP
} | {_BATCH_NORM: str}


@dataclasses.dataclass(frozen=True)
class Method:
    """One row of a comparison.

    Attributes:
      label: its name in the table.
      model: a run's folder or .keras file; "" for a baseline on a backbone with
        ImageNet's weights.
      settings: of the inner loop, and "batch_norm"; what is not there is the model's.
    """

    label: str
    model: str = ""
    settings: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Method":
        """The inverse of `dataclasses.asdict`, also after a way through JSON."""
        settings = tuple(map(tuple, values["settings"]))
        return cls(**values | {"settings": settings})

    @property
    def is_baseline(self) -> bool:
        """Whether it is one of `BASELINES`."""
        return self.label in BASELINES


def parse_methods(text: str) -> tuple[Method, ...]:
    """Reads --methods, see `CompareConfig`.

    Raises:
      UserError: not of that form.
    """
    methods = tuple(_parse(part.strip()) for part in text.split(",") if part.strip())
    if not methods:
        raise UserError(f"--methods is needed: {', '.join(BASELINES)}, or LABEL=MODEL")
    labels = [method.label for method in methods]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise UserError(f"--methods names {twice[0]} twice; give each its own label")
    return methods


def _parse(text: str) -> Method:
    name, *settings = text.split(":")
    label, _, model = name.partition("=")
    pairs = []
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or key not in _TYPES:
            raise UserError(
                f"--methods: expected NAME=VALUE of {', '.join(_TYPES)} in {text!r}; "
                f"received {setting!r}"
            )
        pairs.append((key, value))
    method = Method(label, model, tuple(pairs))
    if method.is_baseline:
        if pairs:
            raise UserError(f"--methods: {label} has no settings, received {text!r}")
        if model and not needs_extractor(label):
            raise UserError(f"--methods: {label} needs no model, received {model!r}")
    elif not label or not model:
        raise UserError(
            f"--methods: expected one of {', '.join(BASELINES)}, or "
            f"LABEL=MODEL; received {text!r}"
        )
    return method


def build_segmenter(method: Method, *, backbone: str, eval_size: int) -> Segmenter:
    """Builds a method that takes and gives pictures of `eval_size`.

    Args:
      method: which.
      backbone: of baselines without a model.
      eval_size: side of the pictures in pixels.

    Raises:
      UserError: the model cannot be loaded, tells several classes apart, or a setting
        does not suit it.
    """
    if method.is_baseline and not needs_extractor(method.label):
        return build_baseline(method.label)
    if method.is_baseline:
        extractor = FeatureExtractor(backbone, eval_size)
        if method.model:
            network, weights, _ = load_model(method.model)
            network.assign(weights)
            extractor = FeatureExtractor.of_network(network.model)
        segmenter = build_baseline(method.label, extractor)
        return at_size(segmenter, extractor.image_size, (eval_size, eval_size))
    network, weights, run = load_model(method.model)
    if network.classes > 1:
        raise UserError(
            f"{method.label}: a comparison is one-way, but {method.model} tells "
            f"{network.classes} classes apart; give a model with --num_classes=1"
        )
    values = dict(method.settings)
    batch_norm = values.pop(_BATCH_NORM, "running")
    if batch_norm not in BATCH_NORM_MODES[:2]:
        raise UserError(
            f"{method.label}: batch_norm must be running or support, received "
            f"{batch_norm!r}: others would let the queries inform each other"
        )
    if values:
        try:
            typed = {name: _TYPES[name](value) for name, value in values.items()}
        except ValueError as error:
            raise UserError(
                f"{method.label}: a setting is not a number ({error})"
            ) from error
        if "inner_learning_rate" in typed and weights.rates:
            raise UserError(
                f"{method.label}: inner_learning_rate has no effect, {method.model} "
                "learned its rates; leave it out"
            )
        run = dataclasses.replace(
            run, learner=dataclasses.replace(run.learner, **typed)
        )
    segmenter = build_functions(run.learner, network).segmenter(
        weights,
        learning_rate=run.learner.inner_learning_rate,
        steps=run.learner.inner_steps,
        batch_norm=batch_norm,
    )
    return at_size(segmenter, network.image_shape[:2], (eval_size, eval_size))


def at_size(
    segmenter: Segmenter, own: tuple[int, int], wanted: tuple[int, int]
) -> Segmenter:
    """Lets a segmenter that works at size `own` be used at size `wanted`."""
    return segmenter if own == wanted else ResizingSegmenter(segmenter, own, wanted)


@dataclasses.dataclass(frozen=True)
class ResizingSegmenter:
    """A segmenter at another size than its own.

    Attributes:
      segmenter: the method.
      own: its height and width in pixels.
      wanted: those of the pictures.
    """

    segmenter: Segmenter
    own: tuple[int, int]
    wanted: tuple[int, int]

    def adapt(
        self, support_images: np.ndarray, support_masks: np.ndarray, *, seed: int = 0
    ) -> "ResizingAdapted":
        """See `Segmenter`: images uint8 [k, H, W, 3], masks uint8 [k, H, W]."""
        adapted = self.segmenter.adapt(
            _resize_images(support_images, self.own),
            resize_annotations(support_masks, self.own),
            seed=seed,
        )
        return ResizingAdapted(adapted, self.own, self.wanted)


@dataclasses.dataclass(frozen=True)
class ResizingAdapted:
    """See `ResizingSegmenter`."""

    adapted: Adapted
    own: tuple[int, int]
    wanted: tuple[int, int]

    def predict(self, query_images: np.ndarray) -> np.ndarray:
        """See `Adapted`: probabilities float32 [n, H, W, K+1]."""
        probabilities = self.adapted.predict(_resize_images(query_images, self.own))
        return tf.image.resize(probabilities, self.wanted).numpy()


def _resize_images(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """As `data.records.decode_example` resizes them."""
    resized = tf.image.resize(images, size, antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8).numpy()
