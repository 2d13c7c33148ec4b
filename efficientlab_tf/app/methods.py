"""Models as the page uses them: loaded and compiled once, shared by all users.

    features = method.read(images)                  what can be known without marks
    adapted, estimate = method.adapt(features, masks, classes, steps, on_step)
    probabilities = method.predict(adapted, features)

A method keeps nothing of what it is given. TensorFlow works for one user at a time, a
batch or a step of adaptation after another.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from efficientlab_tf.api.loading import load, name_of
from efficientlab_tf.api.model import Model
from efficientlab_tf.automatic.estimate import Estimate
from efficientlab_tf.automatic.segmenter import AutomaticSegmenter
from efficientlab_tf.config import OWN, Settings
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from efficientlab_tf.segmenters.segmenter import Adapted, Features, Segmenter

_BATCH = 8
TURN = threading.Lock()
"""Held by whoever uses TensorFlow."""

OnStep = Callable[[int, int], None]
"""Called after each step with the number of steps taken, and of all."""


class Method:
    """One entry of the page's choice of methods: a model, and how it adapts.

    Attributes:
      size: height and width of its images.
      steps: of adaptation, as the model was trained or tuned; 0 if it takes none.
      live: whether adapting is so fast that it is done after each click.
      about: what to expect of it and what it needs, in sentences.
    """

    def __init__(self, model: Model, settings: Settings = OWN):
        self._model = model
        self._settings = settings if model.has_steps else OWN
        self._segmenter = model.segmenter(1, self._settings)
        self.size = model.size
        self.steps = self._segmenter.steps
        self.live = self._segmenter.live
        self.about = _about(model, self._segmenter)

    def read(self, images: np.ndarray) -> list[Any]:
        """What can be known of images uint8 [n, H, W, 3] before they are marked."""
        batches = (
            self._segmenter.read(images[i : i + _BATCH]).values
            for i in range(0, len(images), _BATCH)
        )
        return [own for batch in _in_turns(batches) for own in batch]

    def adapt(
        self,
        features: Sequence[Any],
        masks: np.ndarray,
        classes: int,
        steps: int,
        on_step: OnStep,
    ) -> tuple[Adapted, Estimate | None]:
        """Learns from pictures of `read`, in so many steps, if it takes any.

        Masks are uint8 [n, H, W]: 0, 1..K, 255 unknown, some of them wholly; of each
        class there must be some. A method that keeps marked pictures aside to choose by
        also says what to expect of others.

        Raises:
          UserError: no background, for a method that needs some.
        """
        if self._segmenter.needs_background and not np.any(masks == 0):
            raise UserError(
                "only the object is marked; click on what is not the object, too"
            )
        marked = [i for i, mask in enumerate(masks) if np.any(mask != IGNORE)]
        support = Features(np.stack([features[i] for i in marked]))
        segmenter, settings = self._segmenter, self._settings
        if isinstance(segmenter, AutomaticSegmenter):
            with TURN:
                found = segmenter.find(support.values, masks[marked], classes=classes)
            return found.adapted, found.estimate
        if self.steps:
            settings |= Settings(steps=steps)
        if self.steps or classes > 1:
            segmenter = self._model.segmenter(classes, settings)
        walk = _in_turns(segmenter.walk(support, masks[marked]))
        for taken, adapted in enumerate(walk):  # noqa: B007  (returned)
            if taken:
                on_step(taken, steps)
        return adapted, None

    def predict(self, adapted: Adapted, features: Sequence[Any]) -> np.ndarray:
        """Probabilities float32 [n, H, W, K+1] of pictures of `read`."""
        batches = (
            adapted.predict(Features(np.stack(features[i : i + _BATCH])))
            for i in range(0, len(features), _BATCH)
        )
        return np.concatenate(list(_in_turns(batches)))


def _in_turns(items: Iterator[Any]) -> Iterator[Any]:
    """The items, each of them made while others wait."""
    while True:
        with TURN:
            item = next(items, None)
        if item is None:
            return
        yield item


def load_methods(sources: Sequence[str], settings: Settings) -> dict[str, Method]:
    """Loads models, as `load` takes them, by the names that the page shows.

    Raises:
      UserError: one cannot be loaded, or is named twice.
    """
    names = [name_of(source) for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"`model`: two models are called {name}; rename one of their folders"
            )
    methods = [Method(load(source), settings) for source in sources]
    return dict(zip(names, methods, strict=True))


def warm_up(method: Method) -> None:
    """Compiles what a first user would wait for.

    Twice, with other numbers of pictures, after which any number is compiled.
    """
    for count in (1, 2):
        images = np.zeros([count, *method.size, 3], np.uint8)
        masks = np.zeros([count, *method.size], np.uint8)
        masks[:, : method.size[0] // 2] = 1
        features = method.read(images)
        steps = min(method.steps, 1)
        adapted, _ = method.adapt(features, masks, 1, steps, lambda *_: None)
        method.predict(adapted, features)


def _about(model: Model, segmenter: Segmenter) -> str:
    if model.any_size:
        return (
            "Tries linear classifiers and draws what they find to the pictures' edges: "
            "mark the object and some background on two to five pictures, then press "
            "Adapt."
        )
    if segmenter.steps:
        return (
            "Learns by gradient steps: paint the object and some background, or "
            "give masks, on two to five pictures; then press Adapt."
        )
    if segmenter.needs_background:
        return (
            "Compares ImageNet's features, for any photographs: click on the object "
            "and on some background; masks follow each click."
        )
    if segmenter.live:
        return "Learns from marks in a forward pass: masks follow each click."
    return "Learns in a forward pass: mark, then press Adapt."
