"""Draws one episode from decoded pictures: which, of what, changed how."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from efficientlab_tf.config.data import SAME_IMAGES
from efficientlab_tf.data.draws import choose, uniform
from efficientlab_tf.data.episode_augment import (
    UNCHANGED,
    EpisodeAugment,
    blur,
    paste,
    photometric,
    resized,
    swap_labels,
    zoom_out,
)
from efficientlab_tf.data.image_store import ImageStore
from efficientlab_tf.data.other_tasks import mark_part, region, without_rest
from efficientlab_tf.data.points import annotate, numbered, one_instance
from efficientlab_tf.episode import Episode

_fold_in = tf.random.experimental.stateless_fold_in

# Salts of a task's random streams; those up to 255 are its ways. See also `points`,
# `episode_augment` and `other_tasks`.
_INSTANCE, _POSE, _BACKDROP, _UNION, _LOOK = 2000, 4000, 5000, 8000, 9000


class Kind(NamedTuple):
    """What the episodes of a dataset are like; see `episodes.episode_dataset`."""

    ways: int
    shots: int
    queries: int
    points: tuple[int, int] | None
    family: str
    augment: EpisodeAugment = UNCHANGED
    draw: str = "class"
    labels: str = "episode"
    sizes: tuple[int, ...] = ()

    @property
    def examples(self) -> int:
        """Examples that an episode needs of each class."""
        return self.shots + (0 if self.family in SAME_IMAGES else self.queries)

    @property
    def classes(self) -> int:
        """Classes that there must be: of the foreground, and others."""
        foreground = 2 if self.augment.union_rate else self.ways
        return foreground + bool(self.augment.paste_rate)


def draw_episode(
    store: ImageStore,
    classes: tf.Tensor,
    key: tf.Tensor,
    kind: Kind,
    chosen: tf.Tensor | None = None,
    size: tf.Tensor | None = None,
) -> Episode:
    """Draws an episode.

    Args:
      store: pictures of all classes.
      classes: int32 [ways], indices of the classes that the episode is of.
      key: int [2], of the task.
      kind: what it is like.
      chosen: int32 scalar, for one way: the number of an example of the class that is
        to be among the queries.
      size: int32 scalar, the side in pixels that pictures are brought to; None: as
        `store` has them.
    """
    augment = kind.augment
    if augment.union_rate:
        pictures = tf.cond(
            uniform([], _fold_in(key, _UNION)) < augment.union_rate,
            lambda: _union(store, classes, key, kind),
            lambda: _pictures(store, classes, key, kind, chosen),
        )
    else:
        pictures = _pictures(store, classes, key, kind, chosen)
    support, query, name = pictures
    if augment.region_rate:
        support, query = region(support, query, augment.region_rate, key)
    for number, (change, rate) in enumerate(
        ((photometric, augment.photometric_rate), (blur, augment.blur_rate))
    ):
        if rate:
            keys = [_fold_in(key, _LOOK + 2 * number + part) for part in (0, 1)]
            support = change(*support, rate, keys[0])
            query = change(*query, rate, keys[1])
    if size is not None:
        support, query = resized(*support, size), resized(*query, size)
    images, masks = support
    masks = annotate(masks, kind.points, kind.ways, key)
    episode = Episode(images, masks, *query, name=name)
    if augment.label_swap_rate:
        episode = swap_labels(episode, augment.label_swap_rate, key)
    return episode


def _pictures(
    store: ImageStore,
    classes: tf.Tensor,
    key: tf.Tensor,
    kind: Kind,
    chosen: tf.Tensor | None = None,
) -> tuple[tuple, tuple, tf.Tensor]:
    """Draws support and query: (images, masks) of both, and the name."""
    support, query, seen = [], [], []
    augment = kind.augment
    for way in range(kind.ways):
        class_index = classes[way]
        count = tf.gather(tf.constant(store.counts), class_index)
        last = None
        if store.shares:
            pictures = store.pictures(class_index)
            last = tf.zeros_like(pictures, tf.bool)
            for drawn in seen:
                last |= tf.reduce_any(pictures[:, tf.newaxis] == drawn, axis=1)
        if chosen is None:
            examples = choose(_fold_in(key, way + 1), count, kind.examples, last)
        else:
            last = tf.range(count) == chosen
            others = choose(_fold_in(key, way + 1), count, kind.examples - 1, last)
            place = 0 if kind.family in SAME_IMAGES else kind.shots
            examples = tf.concat(
                [others[:place], chosen[tf.newaxis], others[place:]], axis=0
            )
        if store.shares:
            seen.append(tf.gather(pictures, examples))
        images, masks = store.images(class_index, examples)
        everything = kind.labels == "dataset"
        shown = tf.range(len(store.class_names)) if everything else classes
        if kind.ways > 1 or everything:
            masks = numbered(masks, class_index + 1 if everything else way + 1)
            for number in range(shown.shape[0] if store.shares else 0):
                theirs = store.masks_of(shown[number], class_index, examples)
                masks = tf.where(masks == 0, numbered(theirs, number + 1), masks)
        if augment.part_rate:
            masks = mark_part(numbered(masks, 1), augment.part_rate, key)
        if augment.paste_rate:
            backdrops = _backdrops(store, classes, way, kind, key)
            pose = _fold_in(key, _POSE + way)
            images, masks = paste(images, masks, *backdrops, augment.paste_rate, pose)
        if augment.zoom_out_rate:
            pose = _fold_in(key, _POSE + way)
            images, masks = zoom_out(images, masks, augment.zoom_out_rate, pose)
        if augment.part_rate:
            masks = without_rest(masks)
        if kind.family == "instance":
            masks = one_instance(masks, _fold_in(key, _INSTANCE + way))
        if kind.ways == 1 and not everything:
            masks = numbered(masks, 1)
        support.append((images[: kind.shots], masks[: kind.shots]))
        first = 0 if kind.family in SAME_IMAGES else kind.shots
        query.append((images[first:], masks[first:]))
    names = tf.gather(tf.constant(store.class_names), classes)
    name = tf.strings.reduce_join(names, separator="+")
    return _joined(support), _joined(query), name


def _joined(pairs: Sequence[tuple]) -> tuple[tf.Tensor, tf.Tensor]:
    images, masks = (tf.concat(tensors, axis=0) for tensors in zip(*pairs, strict=True))
    return images, masks


def _union(store: ImageStore, classes: tf.Tensor, key: tf.Tensor, kind: Kind):
    """Draws support and query of a class and another, whose foregrounds are one.

    It is an episode of two ways with half of the examples, whose labels are made one.
    """
    both = kind._replace(
        ways=2,
        shots=-(-kind.shots // 2),
        queries=-(-kind.queries // 2),
        augment=kind.augment._replace(part_rate=0.0),
    )
    other = _others(store, classes, _fold_in(key, _UNION))
    support, query, name = _pictures(store, tf.stack([classes[0], other]), key, both)

    def one(pictures, count):
        return tuple(x[:count] for x in (pictures[0], numbered(pictures[1], 1)))

    return one(support, kind.shots), one(query, kind.queries), name


def _others(store: ImageStore, classes: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Draws a class that is none of `classes`."""
    drawn = choose(key, len(store.class_names), classes.shape[0] + 1)
    foreign = tf.reduce_all(drawn[:, tf.newaxis] != classes, axis=1)
    return drawn[tf.argmax(foreign)]


def _backdrops(store: ImageStore, classes: tf.Tensor, way: int, kind: Kind, key):
    """Draws images and masks of a class that the episode is not about."""
    key = _fold_in(key, _BACKDROP + way)
    other = _others(store, classes, key)
    count = tf.gather(tf.constant(store.counts), other)
    draws = uniform([kind.examples], key)
    examples = tf.cast(draws * tf.cast(count, tf.float32), tf.int32)
    return store.images(other, tf.minimum(examples, count - 1))
