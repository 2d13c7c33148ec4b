"""Segmenters for videos, from what a command line says."""

import dataclasses
from typing import Any

from efficientlab_tf.checkpoint.files import load_model
from efficientlab_tf.checkpoint.run import build_functions
from efficientlab_tf.config import CompareConfig, LearnerConfig
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.methods import (
    Method,
    ResizingSegmenter,
    build_segmenter,
    parse_methods,
)
from efficientlab_tf.models.conditioned import is_conditioned
from efficientlab_tf.segmenters.adaptation import for_classes
from efficientlab_tf.segmenters.baselines import BASELINES
from efficientlab_tf.segmenters.gradient import Segmenter
from efficientlab_tf.video.config import CHECKPOINT, VideoConfig

FORWARD = "forward pass"
_BATCH_NORM = "batch_norm"
_INNER_LOOP_ONLY = ("inner_steps", "inner_learning_rate", "inner_batch")


def methods_of(
    config: VideoConfig, changes: dict[str, Any] | None = None
) -> tuple[Method, ...]:
    """Returns the methods of a command line; with --model one for each --steps.

    Args:
      config: the command line.
      changes: fields of the checkpoint's `LearnerConfig` to replace.

    Raises:
      UserError: --methods cannot be read, or settings for a baseline.
    """
    settings = {name: str(value) for name, value in (changes or {}).items()}
    if config.methods:
        if settings:
            name = next(iter(settings))
            raise UserError(f"--{name} has no effect: write it into --methods")
        return tuple(_with_batch_norm(m, config) for m in parse_methods(config.methods))
    if config.learning_rate:
        settings["inner_learning_rate"] = repr(config.learning_rate)
    if config.model in BASELINES:
        if settings or config.steps != CHECKPOINT:
            raise UserError(f"{config.model} has no settings of an inner loop")
        return (Method(config.model),)
    methods = []
    for steps in config.steps.split(","):
        own, label = settings, "checkpoint"
        if steps != CHECKPOINT:
            own, label = settings | {"inner_steps": steps}, f"{int(steps)} steps"
        method = Method(label, config.model, tuple(own.items()))
        methods.append(_with_batch_norm(method, config))
    return tuple(methods)


def _with_batch_norm(method: Method, config: VideoConfig) -> Method:
    if method.is_baseline or _BATCH_NORM in dict(method.settings):
        return method
    settings = (*method.settings, (_BATCH_NORM, config.batch_norm))
    return dataclasses.replace(method, settings=settings)


class VideoMethod:
    """A method, loaded once, for any number of objects.

    Attributes:
      size: (height, width) of its pictures.
      settings: what its result depends on, for summary.json.

    Args:
      method: which.
      baseline_size: side of the pictures of a baseline without a model.

    Raises:
      UserError: the model cannot be loaded, or a setting does not suit it.
    """

    def __init__(self, method: Method, baseline_size: int):
        self._segmenters: dict[int, Segmenter] = {}
        self._model = None
        if method.is_baseline:
            segmenter = build_segmenter(
                method, backbone=CompareConfig().backbone, eval_size=baseline_size
            )
            # Frames are brought to its own size at once, not by way of another.
            self.size = (baseline_size, baseline_size)
            if isinstance(segmenter, ResizingSegmenter):
                self.size, segmenter = segmenter.own, segmenter.segmenter
            self._baseline = segmenter
            self.settings: dict[str, Any] = {"method": method.label}
            return
        network, weights, run = load_model(method.model)
        values = dict(method.settings)
        self._batch_norm = values.pop(_BATCH_NORM)
        forward = is_conditioned(network.model)
        for name in _INNER_LOOP_ONLY:
            if forward and name in values:
                raise UserError(
                    f"{name} has no effect: {method.model} adapts in a forward pass, "
                    "without steps; leave it out"
                )
        if "inner_learning_rate" in values and weights.rates:
            raise UserError(
                f"a learning rate has no effect: {method.model} learned its rates; "
                "leave it out"
            )
        settings = _typed(values)
        # A learner takes at least one step; here none is the initialization itself.
        self._steps = settings.pop("inner_steps", run.learner.inner_steps)
        learner = dataclasses.replace(run.learner, **settings)
        self._model = network, weights, learner
        self.size = tuple(network.image_shape[:2])
        self.settings = {"model": method.model}
        if forward:
            self._batch_norm = "running"
            self.settings["adaptation"] = FORWARD
        else:
            rate = None if weights.rates else learner.inner_learning_rate
            self.settings |= {
                "steps": self._steps,
                "learning_rate": rate,
                "learned_rates": bool(weights.rates),
                **{n: getattr(learner, n) for n in ("inner_batch", "loss", "l2")},
                **{n: getattr(learner, n) for n in ("augment_rate", "adapt")},
                _BATCH_NORM: self._batch_norm,
            }

    def segmenter(self, classes: int) -> Segmenter:
        """Returns the segmenter of pictures of `size` for so many objects.

        A network with an inner loop for another number of classes gets a copy of its
        head for each.
        """
        if self._model is None:
            return self._baseline
        network, weights, learner = self._model
        if is_conditioned(network.model):
            # It has a guide for each class, so it takes any number.
            classes = network.classes
        if classes not in self._segmenters:
            if classes != network.classes:
                network, weights = for_classes(network, weights, classes)
            self._segmenters[classes] = build_functions(learner, network).segmenter(
                weights,
                learning_rate=learner.inner_learning_rate,
                steps=self._steps,
                batch_norm=self._batch_norm,
            )
        return self._segmenters[classes]


def _typed(values: dict[str, str]) -> dict[str, Any]:
    types = {field.name: field.type for field in dataclasses.fields(LearnerConfig)}
    try:
        return {name: types[name](value) for name, value in values.items()}
    except ValueError as error:
        raise UserError(f"a setting is not a number ({error})") from error
