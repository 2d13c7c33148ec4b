"""Trained networks as candidates, at the size that suits a person's pictures.

One without an inner loop segments a picture as it is and mirrored, and takes part
whatever its score (`Family.always`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from efficientlab_tf.api.networks import GradientModel, NetworkModel
from efficientlab_tf.automatic.family import Family, Member, Probabilities
from efficientlab_tf.automatic.frame import frame, frame_mask, unframe
from efficientlab_tf.automatic.task import Task, judged_size
from efficientlab_tf.config import OWN, Settings
from efficientlab_tf.segmenters.segmenter import Adapted, Diverged, Segmenter


class NetworkFamily(Family):
    """A trained network; candidates differ in the steps of its inner loop.

    Args:
      label: the network in a few words.
      model: the network; it works at squares of its own size.
      steps: numbers of inner-loop steps to try; () for a network without.
      settings: how it adapts otherwise, where not as the model says.
    """

    def __init__(
        self,
        label: str,
        model: NetworkModel,
        steps: Sequence[int] = (),
        settings: Settings = OWN,
    ):
        self.label, self.model, self.settings = label, model, settings
        self.variants = tuple(steps) or (0,)
        self.always = not isinstance(model, GradientModel)
        self._side = model.size[0]

    def name(self, variant: int) -> str:
        """See `Family`."""
        steps = f", {variant} steps" if variant else ""
        return f"{self.label}, {self._side} px{steps}"

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
        wanted, every = dict(weights), range(len(task.entries))
        adapted = [one for steps, one in self._adapted(task, every) if steps in wanted]
        shares = [wanted[steps] for steps in self.variants if steps in wanted]
        return NetworkMember(self.label, self.model, adapted, shares)

    def _adapted(
        self, task: Task, entries: Sequence[int]
    ) -> Iterator[tuple[int, Adapted]]:
        """Yields the variants, adapted to some entries."""
        side = self._side
        pictures = [task.pictures[task.entries[i].picture] for i in entries]
        images = np.stack([_framed(picture, self._side)[0] for picture in pictures])
        masks = [frame_mask(task.entries[i].mask, side, square=True) for i in entries]
        walk = self._segmenter(task).walk(images, np.stack(masks), seed=task.seed)
        for steps, adapted in enumerate(walk):
            if steps in self.variants:
                yield steps, adapted

    def _segmenter(self, task: Task) -> Segmenter:
        if not isinstance(self.model, GradientModel):
            return self.model.segmenter(task.classes)
        own = self.settings | Settings(steps=max(self.variants))
        return self.model.segmenter(task.classes, own)

    def _judged(self, task: Task, entry: int, adapted: Adapted) -> Probabilities:
        picture = task.pictures[task.entries[entry].picture]
        size = tf.constant(judged_size(task.entries[entry].mask.shape))
        views = _views(self.model)
        framed = [_framed(picture[:, ::step], self._side) for step in views]
        found = adapted.predict(np.stack([canvas for canvas, _ in framed]))
        seen = [
            unframe(one, inner, 1, size).numpy()[:, ::step]
            for one, (_, inner), step in zip(found, framed, views, strict=True)
        ]
        return np.mean(seen, axis=0).astype(np.float16)


def _views(model: NetworkModel) -> tuple[int, ...]:
    """Steps along the columns of a picture: as it is, and perhaps mirrored."""
    return (1,) if isinstance(model, GradientModel) else (1, -1)


def _framed(picture: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The canvas of a picture, uint8 [side, side, 3], and its inner size."""
    framed = frame(tf.cast(picture, tf.float32), side, square=True)
    canvas = tf.cast(tf.clip_by_value(tf.round(framed.canvas), 0, 255), tf.uint8)
    return canvas.numpy(), framed.inner.numpy()


class NetworkMember(Member):
    """A trained network that has adapted, perhaps with several numbers of steps.

    Args:
      label: the network in a few words.
      model: the network.
      adapted: what it became.
      weights: of each.
    """

    def __init__(
        self,
        label: str,
        model: NetworkModel,
        adapted: Sequence[Adapted],
        weights: Sequence[float],
    ):
        self.about, self.model, self.adapted = label, model, tuple(adapted)
        self._side = model.size[0]
        self._served = [one.served() for one in adapted]
        self.tensors = (
            tuple(served.tensors for served in self._served),
            tf.constant(weights, tf.float32),
        )
        self.variables = [v for served in self._served for v in served.variables]

    def probabilities(self, tensors: Any, image: tf.Tensor) -> tf.Tensor:
        """See `Member`."""
        learned, weights = tensors
        pixels, views = 0.0, _views(self.model)
        for step in views:
            framed = frame(image[:, ::step], self._side, square=True)
            shape = [self._side, self._side, 3]
            canvas = tf.ensure_shape(tf.round(framed.canvas), shape)[tf.newaxis]
            found = 0.0
            for i, (served, own) in enumerate(zip(self._served, learned, strict=True)):
                found += weights[i] * served.probabilities(own, canvas)[0]
            found = unframe(found, framed.inner, 1, tf.shape(image)[:2])
            pixels += found[:, ::step] / len(views)
        return pixels
