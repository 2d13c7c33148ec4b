"""Episodes from a dataset of shards.

Which classes and which examples make an episode is a stateless function of
(seed, step, position in the meta-batch): a run resumed at step n sees what it
would have seen. In meta-testing it is one of (seed, class name, draw): no task
depends on which others are evaluated, or in what order.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence

import tensorflow as tf

from efficientlab_tf.data.image_store import ImageStore
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.episode import IGNORE, Episode
from efficientlab_tf.errors import UserError

_fold_in = tf.random.experimental.stateless_fold_in


def episode_dataset(
    dataset_dir: str | os.PathLike | Manifest,
    split: str,
    *,
    ways: int = 1,
    shots: int,
    queries: int,
    seed: int,
    image_size: int | tuple[int, int],
    start_step: int = 0,
    meta_batch: int | None = None,
    cache_bytes: int | None = None,
    splits: str | None = None,
) -> tf.data.Dataset:
    """Returns episodes for meta-training, without end.

    Element n belongs to step `start_step + n`. Classes are drawn uniformly; those
    of one episode differ, and so do those of one meta-batch if the split has
    enough. The examples of an episode are drawn without replacement: support and
    query share none.

    Args:
      dataset_dir: the dataset's folder, "sample:NAME", or its manifest.
      split: which classes, see `Manifest.split`.
      ways: number of foreground classes K of an episode. The foreground of the
        w-th class has the value w in its masks; 255 stays 255.
      shots: support examples of each class.
      queries: query examples of each class.
      seed: of the draws.
      image_size: side of a square, or (height, width), in pixels.
      start_step: the step of the first element.
      meta_batch: number of episodes an element holds; None for one `Episode`
        without the leading axis.
      cache_bytes: memory for decoded images; None is half of what is free. The
        episodes do not depend on it.
      splits: class lists in place of the dataset's own, see
        `Manifest.with_splits`.

    Returns:
      A dataset of `Episode`s of ways * shots support and ways * queries query
      images, the examples of one class in a row.

    Raises:
      UserError: unknown dataset or split, a class with too few examples, fewer
        classes than `ways`, or a damaged shard.
    """
    _check_at_least(1, ways=ways, shots=shots, queries=queries)
    _check_at_least(0, start_step=start_step)
    if meta_batch is not None:
        _check_at_least(1, meta_batch=meta_batch)
    if ways >= IGNORE:
        raise UserError(f"ways must be below {IGNORE}, received {ways}")
    manifest = _manifest(dataset_dir, splits)
    names = tuple(sorted(manifest.split(split)))
    if len(names) < ways:
        raise UserError(
            f"split {split!r} of dataset {manifest.name} has {len(names)} classes, but "
            f"an episode needs ways = {ways}; lower ways or choose another split"
        )
    _check_counts(manifest, names, shots, queries)
    store = ImageStore(manifest, names, image_size, cache_bytes)
    tasks = meta_batch or 1

    def draw_episode(task_number: tf.Tensor) -> Episode:
        step, position = task_number // tasks, task_number % tasks
        step_key = tf.stack([tf.constant(seed, tf.int64), step])
        task_key = _fold_in(step_key, position + 1)
        if tasks * ways <= len(names):
            step_classes = _choose(_fold_in(step_key, 0), len(names), tasks * ways)
            classes = tf.reshape(step_classes, [tasks, ways])[position]
        else:
            classes = _choose(_fold_in(task_key, 0), len(names), ways)
        return _episode(store, classes, task_key, ways, shots, queries)

    numbers = tf.data.Dataset.range(start_step * tasks, tf.int64.max)
    dataset = numbers.map(draw_episode, num_parallel_calls=tf.data.AUTOTUNE)
    if meta_batch is not None:
        dataset = dataset.batch(meta_batch, drop_remainder=True)
    return dataset.prefetch(tf.data.AUTOTUNE)


def fixed_episodes(
    dataset_dir: str | os.PathLike | Manifest,
    classes: str | Sequence[str],
    *,
    shots: int,
    queries: int | None = None,
    splits_per_task: int = 1,
    seed: int,
    image_size: int | tuple[int, int],
    cache_bytes: int | None = None,
    splits: str | None = None,
) -> Iterator[tuple[Episode, str, int]]:
    """Returns the episodes of a meta-test: every class, in the order of names.

    Args:
      dataset_dir: the dataset's folder, "sample:NAME", or its manifest.
      classes: a split, or the names of classes.
      shots: support examples.
      queries: query examples; None for all that the support set leaves.
      splits_per_task: number of episodes of each class, drawn independently.
      seed: of the draws. An episode is a function of the seed, its class's name
        and the number of its draw alone.
      image_size: side of a square, or (height, width), in pixels.
      cache_bytes: memory for decoded images; None is half of what is free.
      splits: class lists in place of the dataset's own, see
        `Manifest.with_splits`.

    Returns:
      An iterator of (one-way episode, class name, number of the draw).

    Raises:
      UserError: unknown dataset, split or class, a class with too few examples,
        or a damaged shard; all before the first episode.
    """
    _check_at_least(1, shots=shots, splits_per_task=splits_per_task)
    if queries is not None:
        _check_at_least(1, queries=queries)
    manifest = _manifest(dataset_dir, splits)
    if isinstance(classes, str):
        classes = manifest.split(classes)
    names = tuple(sorted(classes))
    _check_counts(manifest, names, shots, 1 if queries is None else queries)
    store = ImageStore(manifest, names, image_size, cache_bytes)

    def fixed_episode(index: int, draw: int) -> Episode:
        digest = hashlib.sha256(names[index].encode()).digest()
        name_key = int.from_bytes(digest[:8], "little", signed=True)
        key = _fold_in(tf.constant([seed, name_key], tf.int64), draw)
        rest = store.counts[index] - shots if queries is None else queries
        with tf.device("CPU:0"):
            return _episode(store, tf.constant([index]), key, 1, shots, rest)

    return (
        (fixed_episode(index, draw), name, draw)
        for index, name in enumerate(names)
        for draw in range(splits_per_task)
    )


def _choose(key: tf.Tensor, count: int | tf.Tensor, chosen: int) -> tf.Tensor:
    """Returns `chosen` of `count` indices, int32, in random order."""
    # The generator is named, so that no version or device chooses another.
    draws = tf.random.stateless_uniform([count], key, alg="philox")
    return tf.math.top_k(draws, chosen).indices


def _episode(
    store: ImageStore,
    classes: tf.Tensor,
    key: tf.Tensor,
    ways: int,
    shots: int,
    queries: int,
) -> Episode:
    support, query = [], []
    for way in range(ways):
        class_index = classes[way]
        count = tf.gather(tf.constant(store.counts), class_index)
        examples = _choose(_fold_in(key, way + 1), count, shots + queries)
        images, masks = store.images(class_index, examples)
        value = tf.constant(way + 1, tf.uint8)
        masks = tf.where((masks > 0) & (masks < IGNORE), value, masks)
        support.append((images[:shots], masks[:shots]))
        query.append((images[shots:], masks[shots:]))
    names = tf.gather(tf.constant(store.class_names), classes)
    return Episode(
        *(tf.concat(tensors, axis=0) for tensors in zip(*support, strict=True)),
        *(tf.concat(tensors, axis=0) for tensors in zip(*query, strict=True)),
        name=tf.strings.reduce_join(names, separator="+"),
    )


def _manifest(
    dataset_dir: str | os.PathLike | Manifest, splits: str | None
) -> Manifest:
    if not isinstance(dataset_dir, Manifest):
        dataset_dir = Manifest.load(dataset_dir)
    return dataset_dir.with_splits(splits) if splits else dataset_dir


def _check_at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise UserError(f"{name} must be at least {least}, received {value}")


def _check_counts(
    manifest: Manifest, names: Sequence[str], shots: int, queries: int
) -> None:
    """Raises UserError if a class has fewer examples than an episode needs."""
    unknown = [name for name in names if name not in manifest.classes]
    if unknown:
        manifest.shard_path(unknown[0])  # Raises, and names the class.
    short = [n for n in names if manifest.classes[n].count < shots + queries]
    if short:
        more = f" (and {len(short) - 1} other classes)" if len(short) > 1 else ""
        raise UserError(
            f"class {short[0]!r}{more} of dataset {manifest.name} has "
            f"{manifest.classes[short[0]].count} examples, but an episode needs "
            f"shots + queries = {shots} + {queries} = {shots + queries}; lower them or "
            "add examples"
        )
