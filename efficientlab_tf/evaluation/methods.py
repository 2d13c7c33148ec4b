"""What can be compared, by the name that a command line gives it."""

import dataclasses
import types
from typing import Any, NamedTuple, get_args

import numpy as np
import tensorflow as tf

from efficientlab_tf.api.automatic import METHODS
from efficientlab_tf.api.loading import BACKBONE, load
from efficientlab_tf.api.model import Model
from efficientlab_tf.api.networks import NetworkModel
from efficientlab_tf.config import OWN, Settings
from efficientlab_tf.data.annotations import resize_annotations
from efficientlab_tf.data.folds import plain_name
from efficientlab_tf.data.mixture import Mixture
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.oracle import Oracle
from efficientlab_tf.segmenters.baselines import BASELINES, needs_extractor
from efficientlab_tf.segmenters.segmenter import Adapted, Features, Segmenter

ORACLE = "oracle"
"""Label of a method that is told which class a task is about, see `Oracle`."""
_OLD_NAMES = {"inner_steps": "steps", "inner_learning_rate": "learning_rate"}
_NAMED = (*METHODS, *BASELINES)
_FIELDS = {field.name: field.type for field in dataclasses.fields(Settings)}


@dataclasses.dataclass(frozen=True)
class Method:
    """One row of a comparison.

    Attributes:
      label: its name in the table.
      model: what `load` takes; of a baseline the model whose features it takes, or "".
      settings: how it adapts, where not as the model says.
    """

    label: str
    model: str = ""
    settings: Settings = OWN

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Method":
        """The inverse of `dataclasses.asdict`."""
        return cls(**values | {"settings": Settings(**values["settings"])})

    @property
    def is_baseline(self) -> bool:
        """Whether it is one of `BASELINES`."""
        return self.label in BASELINES

    @property
    def is_automatic(self) -> bool:
        """Whether it looks for the best way by itself."""
        return self.label in METHODS

    def load(
        self, *, backbone: str = BACKBONE, image_size: int | None = None
    ) -> "LoadedMethod":
        """Loads the method; the arguments are for a baseline without a model.

        Raises:
          UserError: the model cannot be loaded, or a setting does not suit it.
        """
        if self.is_baseline:
            kind = {"backbone": backbone, "image_size": image_size}
            model = load(self.label, features=self.model or None, **kind)
        else:
            model = load(self.label if self.is_automatic else self.model)
        try:
            model.resolve(self.settings)
        except UserError as error:
            raise UserError(f"{self.label}: {error}") from error
        return LoadedMethod(model, self.settings)


class LoadedMethod(NamedTuple):
    """A loaded model and how it is to adapt."""

    model: Model
    settings: Settings

    def segmenter(self, classes: int = 1) -> Segmenter:
        """The method on pictures of the model's size, for so many classes."""
        return self.model.segmenter(classes, self.settings)


def parse_methods(text: str) -> tuple[Method, ...]:
    """Reads a list of methods, see `CompareConfig`.

    Raises:
      UserError: not of that form.
    """
    methods = tuple(_parse(part.strip()) for part in text.split(",") if part.strip())
    if not methods:
        raise UserError(f"`methods` is needed: {', '.join(_NAMED)}, or LABEL=MODEL")
    labels = [method.label for method in methods]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise UserError(f"`methods` names {twice[0]} twice; give each its own label")
    return methods


def _parse(text: str) -> Method:
    name, *parts = text.split(":")
    label, _, model = name.partition("=")
    values = {}
    for part in parts:
        key, equals, value = part.partition("=")
        key = _OLD_NAMES.get(key, key)
        if not equals or key not in _FIELDS:
            raise UserError(
                f"`methods`: expected NAME=VALUE of {', '.join(_FIELDS)} in {text!r}; "
                f"received {part!r}"
            )
        values[key] = _typed(label, key, value)
    method = Method(label, model, Settings(**values))
    if method.is_automatic or method.is_baseline:
        if values:
            raise UserError(f"`methods`: {label} has no settings, received {text!r}")
        if model and (method.is_automatic or not needs_extractor(label)):
            raise UserError(f"`methods`: {label} needs no model, received {model!r}")
    elif not label or not model:
        raise UserError(
            f"`methods`: expected one of {', '.join(_NAMED)}, or "
            f"LABEL=MODEL; received {text!r}"
        )
    return method


def _typed(label: str, name: str, value: str) -> Any:
    kind = _FIELDS[name]
    if isinstance(kind, types.UnionType):
        kind = get_args(kind)[0]
    try:
        return kind(value)
    except ValueError as error:
        raise UserError(f"{label}: {name} is not a number, received {value!r}") from (
            error
        )


def comparable(
    method: Method, *, backbone: str, eval_size: int, ways: int = 1
) -> tuple[Segmenter, str]:
    """Builds a method for `ways` classes and pictures of side `eval_size`, in pixels.

    Returns:
      The method, and how it adapts, in words.

    Raises:
      UserError: it cannot be compared with others.
    """
    loaded = method.load(backbone=backbone, image_size=eval_size)
    if method.settings.batch_norm == "query":
        raise UserError(
            f"{method.label}: batch_norm must be running or support, received query: "
            "the queries would inform each other"
        )
    segmenter = loaded.segmenter(ways)
    if method.label == ORACLE:
        segmenter = _oracle(loaded.model)
    if not loaded.model.any_size:
        segmenter = at_size(segmenter, loaded.model.size, (eval_size, eval_size))
    return segmenter, loaded.model.resolve(method.settings).about


def _oracle(model: Model) -> Oracle:
    if not isinstance(model, NetworkModel) or model.run.data.labels != "dataset":
        raise UserError(
            f"{ORACLE}: expected a network that was trained with `labels`=dataset, "
            f"received {model.name}; give it another label if it is no oracle"
        )
    data = model.run.data
    (manifest,) = Mixture.load(data.dataset_dir, data.splits).manifests
    names = tuple(map(plain_name, sorted(manifest.split(data.train_split))))
    return Oracle(model.adapted.adapted, names)


def at_size(segmenter: Segmenter, own: tuple, wanted: tuple) -> Segmenter:
    """Lets a segmenter that works at size `own` be used at size `wanted`."""
    return segmenter if own == wanted else ResizingSegmenter(segmenter, own, wanted)


@dataclasses.dataclass(frozen=True)
class ResizingSegmenter(Segmenter):
    """A segmenter of size `own` (height, width) for pictures of size `wanted`."""

    segmenter: Segmenter
    own: tuple[int, int]
    wanted: tuple[int, int]

    def for_task(self, name: str) -> "ResizingSegmenter":
        """See `Segmenter`."""
        return dataclasses.replace(self, segmenter=self.segmenter.for_task(name))

    def adapt(
        self, images: np.ndarray, masks: np.ndarray, *, seed: int = 0
    ) -> "ResizingAdapted":
        """See `Segmenter`: images uint8 [k, H, W, 3], masks uint8 [k, H, W]."""
        adapted = self.segmenter.adapt(
            _resize_images(images, self.own),
            resize_annotations(masks, self.own),
            seed=seed,
        )
        return ResizingAdapted(adapted, self.wanted, self.own)


@dataclasses.dataclass(frozen=True)
class ResizingAdapted(Adapted):
    """See `ResizingSegmenter`."""

    adapted: Adapted
    wanted: tuple[int, int]
    own: tuple[int, int]

    def predict(self, images: np.ndarray | Features) -> np.ndarray:
        """See `Adapted`: probabilities float32 [n, H, W, K+1]."""
        probabilities = self.adapted.predict(_resize_images(images, self.own))
        return tf.image.resize(probabilities, self.wanted).numpy()


def _resize_images(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """As `data.records.decode_example` resizes them."""
    resized = tf.image.resize(images, size, antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8).numpy()
