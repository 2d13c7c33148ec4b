"""Models as the page uses them: loaded and compiled once, shared by all users.

    pictures = method.read(images)                  what can be known without marks
    adapted = method.adapt(pictures, masks, steps, on_step)
    probabilities = method.predict(adapted, pictures)

A method keeps nothing of what it is given. TensorFlow works for one user at a time, a
batch or a step of adaptation after another.
"""

import dataclasses
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from efficientlab_tf.app.config import LINEAR
from efficientlab_tf.checkpoint.files import load_model
from efficientlab_tf.checkpoint.run import MODEL_FILE, build_functions
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from efficientlab_tf.models.conditioned import is_conditioned
from efficientlab_tf.segmenters.adaptation import for_classes
from efficientlab_tf.segmenters.baselines import FeatureExtractor, LogisticRegression
from efficientlab_tf.segmenters.guided import GuidedFunctions, Queries
from efficientlab_tf.segmenters.network import Network, Weights

_GUIDED = "guided"
_BATCH = 8
TURN = threading.Lock()
"""Held by whoever uses TensorFlow."""

OnStep = Callable[[int, int], None]
"""Is told how many steps were taken, and of how many."""


class Method(Protocol):
    """One entry of the page's choice of methods.

    Attributes:
      size: height and width of its images.
      steps: of adaptation, as the model was trained or tuned; 0 if it takes none.
      live: whether adapting is so fast that it is done after each click.
      about: what to expect of it and what it needs, in sentences.
    """

    size: tuple[int, int]
    steps: int
    live: bool
    about: str

    def read(self, images: np.ndarray) -> list[Any]:
        """What can be known of images uint8 [n, H, W, 3] before they are marked."""
        ...

    def adapt(
        self, pictures: Sequence[Any], masks: np.ndarray, steps: int, on_step: OnStep
    ) -> Any:
        """Learns from pictures.

        Args:
          pictures: of `read`.
          masks: uint8 [n, H, W]; 0, 1, 255 unknown, some of them wholly.
          steps: to take; without meaning where `steps` is 0.
          on_step: called after each step.
        """
        ...

    def predict(self, adapted: Any, pictures: Sequence[Any]) -> np.ndarray:
        """Probabilities float32 [n, H, W, 2] of pictures of `read`."""
        ...


class GuidedMethod:
    """A guided network with late fusion: features are made once, a click is a mean."""

    steps = 0
    live = True
    about = "A guided network: masks follow each click."

    def __init__(self, functions: GuidedFunctions, weights: Weights):
        self.size = tuple(functions.network.image_shape[:2])
        self._segmenter = functions.segmenter(weights)

    def read(self, images: np.ndarray) -> list[tf.Tensor]:
        """Features, each [h, w, C]."""
        features = []
        for i in range(0, len(images), _BATCH):
            with TURN:
                queries = self._segmenter.read(images[i : i + _BATCH], _BATCH)
            features += tf.unstack(queries.features)
        return features

    def adapt(self, pictures, masks, steps, on_step):
        """See `Method`."""
        del steps, on_step
        with TURN:
            return self._segmenter.adapt(Queries(tf.stack(pictures)), masks)

    def predict(self, adapted, pictures):
        """See `Method`."""
        with TURN:
            return adapted.predict(Queries(tf.stack(pictures)), _BATCH)


class FeatureMethod:
    """A linear classifier of fixed features, fitted anew at each click."""

    steps = 0
    live = True
    about = (
        "A linear classifier of ImageNet's features, for any photographs: click on the "
        "object and on some background; masks follow each click."
    )

    def __init__(self, segmenter: LogisticRegression):
        self.size = segmenter.extractor.image_size
        self._segmenter = segmenter

    def read(self, images: np.ndarray) -> list[np.ndarray]:
        """Features, each [h, w, C]."""
        features = []
        for i in range(0, len(images), _BATCH):
            with TURN:
                features += list(self._segmenter.extractor(images[i : i + _BATCH]))
        return features

    def adapt(self, pictures, masks, steps, on_step):
        """See `Method`.

        Raises:
          UserError: no background, which everything would then be told from.
        """
        del steps, on_step
        if not np.any(masks == 0):
            raise UserError(
                "only the object is marked; click on what is not the object, too"
            )
        return self._segmenter.fit(np.stack(pictures), masks)

    def predict(self, adapted, pictures):
        """See `Method`."""
        return adapted.probabilities(np.stack(pictures))


class SteppedMethod:
    """A network with an inner loop, or one that adapts in a forward pass."""

    live = False

    def __init__(
        self,
        network: Network,
        weights: Weights,
        learner: Any,
        batch_norm: str,
    ):
        self._forward = is_conditioned(network.model)
        if network.classes != 1 and not self._forward:
            network, weights = for_classes(network, weights, 1)
        self.size = tuple(network.image_shape[:2])
        self.steps = 0 if self._forward else learner.inner_steps
        self._functions = build_functions(learner, network)
        self._weights = weights
        self._rate = learner.inner_learning_rate
        self._batch_norm = batch_norm
        self.about = "Learns in a forward pass: mark, then press Adapt."
        if self.steps:
            self.about = (
                "Learns by gradient steps: paint the object and some background, or "
                "give masks, on two to five pictures; then press Adapt."
            )

    def read(self, images: np.ndarray) -> list[np.ndarray]:
        """The images themselves: their features change with the weights."""
        return list(images)

    def adapt(self, pictures, masks, steps, on_step):
        """See `Method`."""
        marked = [i for i, mask in enumerate(masks) if np.any(mask != IGNORE)]
        images = np.stack([pictures[i] for i in marked])
        segmenter = self._functions.segmenter(
            self._weights,
            learning_rate=self._rate,
            steps=steps,
            batch_norm="running",
        )
        walk = segmenter.walk(images, masks[marked])
        adapted, taken = None, -1
        while True:
            with TURN:
                following = next(walk, None)
            if following is None:
                break
            adapted, taken = following, taken + 1
            if taken:
                on_step(taken, steps)
        if not self._forward and self._batch_norm == "support":
            with TURN:
                weights = self._functions.support_statistics(
                    adapted.weights, tf.convert_to_tensor(images)
                )
            adapted = dataclasses.replace(adapted, weights=weights)
        return adapted

    def predict(self, adapted, pictures):
        """See `Method`."""
        parts = []
        for i in range(0, len(pictures), _BATCH):
            with TURN:
                parts.append(adapted.predict(np.stack(pictures[i : i + _BATCH])))
        return np.concatenate(parts)


def load_methods(paths: Sequence[str], batch_norm: str) -> dict[str, Method]:
    """Loads models by the names that the page shows.

    Args:
      paths: runs' folders, .keras files, or `LINEAR`.
      batch_norm: "support" or "running", of those with an inner loop.

    Raises:
      UserError: one cannot be loaded, or is named twice.
    """
    names = [_name(Path(path)) for path in paths]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"--model: two models are called {name}; rename one of their folders"
            )
    methods = zip(names, paths, strict=True)
    return {name: load_method(path, batch_norm) for name, path in methods}


def load_method(path: str, batch_norm: str) -> Method:
    """Loads one model; see `load_methods`."""
    if path == LINEAR:
        return FeatureMethod(LogisticRegression(FeatureExtractor()))
    network, weights, run = load_model(path)
    if network.model.name == _GUIDED:
        functions = GuidedFunctions(network)
        if functions.late:
            return GuidedMethod(functions, weights)
    return SteppedMethod(network, weights, run.learner, batch_norm)


def warm_up(method: Method) -> None:
    """Compiles what a first user would wait for.

    Twice, with other numbers of pictures, after which any number is compiled.
    """
    for count in (1, 2):
        images = np.zeros([count, *method.size, 3], np.uint8)
        masks = np.zeros([count, *method.size], np.uint8)
        masks[:, : method.size[0] // 2] = 1
        pictures = method.read(images)
        adapted = method.adapt(pictures, masks, min(method.steps, 1), lambda *_: None)
        method.predict(adapted, pictures)


def _name(path: Path) -> str:
    """A run's folder gives a model its name, also where it is the file in it."""
    path = path.absolute()
    return path.parent.name if path.name == MODEL_FILE else path.stem
