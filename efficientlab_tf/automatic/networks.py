"""Trained networks as candidates, at the sizes that suit a person's pictures.

One with an inner loop learns and segments as it was trained. One without reads each
picture at several sizes, as it is and mirrored, to learn from and to segment:

    p = mean over sizes and both views of what the network finds

and takes part whatever its score (`Family.always`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from efficientlab_tf.api.networks import ForwardModel, GradientModel, NetworkModel
from efficientlab_tf.automatic.family import Family, Member, Probabilities
from efficientlab_tf.automatic.frame import frame, frame_mask, inner_size, unframe
from efficientlab_tf.automatic.task import MOST_MIRRORED, Task, judged_size
from efficientlab_tf.config import OWN, Settings
from efficientlab_tf.segmenters.segmenter import (
    Adapted,
    Diverged,
    Features,
    values_of,
)

_AS_IT_IS, _BOTH = (1,), (1, -1)
"""Steps along the columns of a picture: as it is, and mirrored."""


class GradientFamily(Family):
    """A network with an inner loop; candidates differ in its number of steps.

    Args:
      label: the network in a few words.
      model: the network; it works at squares of its own size.
      steps: numbers of inner-loop steps to try.
      settings: how it adapts otherwise, where not as the model says.
    """

    def __init__(
        self,
        label: str,
        model: GradientModel,
        steps: Sequence[int],
        settings: Settings = OWN,
    ):
        self.label, self.model, self.settings = label, model, settings
        self.variants = tuple(steps)

    def name(self, variant: int) -> str:
        """See `Family`."""
        return f"{self.label}, {self.model.size[0]} px, {variant} steps"

    def held_out(self, task: Task) -> Iterator[dict[int, list[Probabilities]]]:
        """See `Family`. A number of steps at which it diverges is left out."""
        for fold in task.folds:
            found = {}
            try:
                for steps, adapted in self._adapted(task, task.others(fold)):
                    found[steps] = [self._judged(task, i, adapted) for i in fold]
            except Diverged:
                pass
            yield found

    def fit(self, task: Task, weights: Mapping[int, float]) -> "NetworkMember":
        """See `Family`."""
        every = range(len(task.entries))
        fitted = {
            steps: adapted
            for steps, adapted in self._adapted(task, every)
            if steps in weights
        }
        models = [self.model] * len(fitted)
        shares = [weights[steps] for steps in fitted]
        return NetworkMember(self.label, models, list(fitted.values()), shares)

    def _adapted(
        self, task: Task, entries: Sequence[int]
    ) -> Iterator[tuple[int, Adapted]]:
        """Yields the variants, adapted to some entries."""
        side = self.model.size[0]
        own = self.settings | Settings(steps=max(self.variants))
        segmenter = self.model.segmenter(task.classes, own)
        images = _images(task, entries, side, 1)
        walk = segmenter.walk(images, _masks(task, entries, side, 1), seed=task.seed)
        for steps, adapted in enumerate(walk):
            if steps in self.variants:
                yield steps, adapted

    def _judged(self, task: Task, entry: int, adapted: Adapted) -> Probabilities:
        canvas = _images(task, [entry], self.model.size[0], 1)
        return _unframed(task, entry, adapted.predict(canvas)[0]).astype(np.float16)


class SolvedFamily(Family):
    """A network without an inner loop, at several sizes; one candidate for one task.

    Args:
      label: the network in a few words.
      models: the network, for squares of each size.
    """

    always = True
    variants = (0,)

    def __init__(self, label: str, models: Sequence[ForwardModel]):
        self.label, self.models = label, tuple(models)
        self._sights: list[_Sight] = []

    def name(self, variant: int) -> str:
        """See `Family`."""
        sides = ", ".join(str(model.size[0]) for model in self.models)
        return f"{self.label}, {sides} px"

    def held_out(self, task: Task) -> Iterator[dict[int, list[Probabilities]]]:
        """See `Family`."""
        sights = self._seen(task)
        for fold in task.folds:
            adapted = [sight.adapted(task.others(fold)) for sight in sights]
            pairs = list(zip(sights, adapted, strict=True))
            yield {
                0: [
                    np.mean(
                        [s.judged(i, a) for s, a in pairs], axis=0, dtype=float
                    ).astype(np.float16)
                    for i in fold
                ]
            }

    def fit(self, task: Task, weights: Mapping[int, float]) -> "NetworkMember":
        """See `Family`."""
        every = range(len(task.entries))
        adapted = [sight.adapted(every) for sight in self._seen(task)]
        shares = [weights[0] / len(adapted)] * len(adapted)
        return NetworkMember(self.label, self.models, adapted, shares)

    def _seen(self, task: Task) -> "list[_Sight]":
        if not self._sights:
            self._sights = [_Sight(model, task) for model in self.models]
        return self._sights


class _Sight:
    """What a network without an inner loop reads of a support set at one size, once."""

    def __init__(self, model: ForwardModel, task: Task):
        self._task, self._side = task, model.size[0]
        self._segmenter = model.segmenter(task.classes)
        self._read: dict[tuple[int, int], Any] = {}
        mirrored = len(task.entries) <= MOST_MIRRORED
        self._views = _BOTH if mirrored else _AS_IT_IS

    def adapted(self, entries: Sequence[int]) -> Adapted:
        """The network, adapted to some entries."""
        task, side = self._task, self._side
        features = [self._features(i, step) for step in self._views for i in entries]
        masks = [_masks(task, entries, side, step) for step in self._views]
        return self._segmenter.adapt(
            Features(np.concatenate(features)),
            np.concatenate(masks),
            seed=task.seed,
        )

    def judged(self, entry: int, adapted: Adapted) -> np.ndarray:
        """What it finds in an entry, at the size that this is judged at."""
        found = [
            _unframed(
                self._task,
                entry,
                adapted.predict(Features(self._features(entry, step)))[0],
            )[:, ::step]
            for step in _BOTH
        ]
        return np.mean(found, axis=0)

    def _features(self, entry: int, step: int) -> Any:
        """What is read of an entry [1, ...], as it is or mirrored."""
        if (entry, step) not in self._read:
            canvas = _images(self._task, [entry], self._side, step)
            self._read[entry, step] = values_of(self._segmenter.read(canvas))
        return self._read[entry, step]


class NetworkMember(Member):
    """A trained network that has adapted, perhaps in several ways.

    Args:
      label: the network in a few words.
      models: the network of each way, at its size.
      adapted: what it became.
      weights: of each.
    """

    def __init__(
        self,
        label: str,
        models: Sequence[NetworkModel],
        adapted: Sequence[Adapted],
        weights: Sequence[float],
    ):
        self.about, self.models, self.adapted = label, tuple(models), tuple(adapted)
        self._served = [one.served() for one in adapted]
        self.tensors = (
            tuple(served.tensors for served in self._served),
            tf.constant(weights, tf.float32),
        )
        self.variables = [v for served in self._served for v in served.variables]

    def probabilities(self, tensors: Any, image: tf.Tensor) -> tf.Tensor:
        """See `Member`."""
        learned, weights = tensors
        pixels, size = 0.0, tf.shape(image)[:2]
        for i, (model, served) in enumerate(
            zip(self.models, self._served, strict=True)
        ):
            side = model.size[0]
            views = _AS_IT_IS if isinstance(model, GradientModel) else _BOTH
            for step in views:
                framed = frame(image[:, ::step], side, square=True)
                canvas = tf.ensure_shape(tf.round(framed.canvas), [side, side, 3])
                found = served.probabilities(learned[i], canvas[tf.newaxis])[0]
                found = unframe(found, framed.inner, 1, size)[:, ::step]
                pixels += found * weights[i] / len(views)
        return pixels


def _images(task: Task, entries: Sequence[int], side: int, step: int) -> np.ndarray:
    """The pictures of entries on squares, uint8 [n, side, side, 3]."""
    canvases = []
    for entry in entries:
        picture = task.pictures[task.entries[entry].picture][:, ::step]
        canvas = frame(tf.cast(picture, tf.float32), side, square=True).canvas
        canvas = tf.cast(tf.clip_by_value(tf.round(canvas), 0, 255), tf.uint8)
        canvases.append(canvas.numpy())
    return np.stack(canvases)


def _masks(task: Task, entries: Sequence[int], side: int, step: int) -> np.ndarray:
    """Their masks, uint8 [n, side, side]."""
    masks = [task.entries[entry].mask[:, ::step] for entry in entries]
    return np.stack([frame_mask(mask, side, square=True) for mask in masks])


def _unframed(task: Task, entry: int, found: np.ndarray) -> np.ndarray:
    """What was found on a square, at the size that an entry is judged at."""
    shape = task.entries[entry].mask.shape
    inner = inner_size(tf.constant(shape), len(found))
    return unframe(found, inner, 1, tf.constant(judged_size(shape))).numpy()
