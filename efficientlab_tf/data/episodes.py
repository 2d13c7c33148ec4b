"""Episodes from a dataset of shards.

The classes and examples of an episode are a stateless function of (seed, step,
position in the meta-batch), so a resumed run sees the same episodes as one that never
stopped. In meta-testing they are a function of (seed, class name, draw), so no task
depends on which others are evaluated, or in what order.

Task families (Rakelly et al., sections 3 and 5) say which images are the query:

class         other images of the support's class. With a dataset whose classes are
              videos this is video object segmentation: one frame guides another.
interactive   the support images themselves, of which some pixels are annotated.
instance      as interactive, and the foreground of each image is one of its objects,
              see `points.one_instance`. Other objects are background.
              (Section 5.2 trains on such tasks before tasks of the family "class".)
"""

import functools
import os
from collections.abc import Iterator, Sequence

import tensorflow as tf

from efficientlab_tf.config.data import FAMILIES, SAME_IMAGES
from efficientlab_tf.data.draws import choose, name_key, uniform
from efficientlab_tf.data.episode_augment import UNCHANGED, EpisodeAugment
from efficientlab_tf.data.episode_drawing import Kind, draw_episode
from efficientlab_tf.data.image_store import ImageStore
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.data.mixture import Mixture
from efficientlab_tf.episode import IGNORE, Episode
from efficientlab_tf.errors import UserError, check_at_least
from efficientlab_tf.graphs import untouched

_fold_in = tf.random.experimental.stateless_fold_in

# Salts of random streams, beside those of `episode_drawing`.
_DATASET, _OTHERS, _SIZE = 6000, 7000, 12_000


def episode_dataset(
    dataset_dir: str | os.PathLike | Manifest | Mixture,
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
    points: tuple[int, int] | None = None,
    family: str = "class",
    augment: EpisodeAugment = UNCHANGED,
    draw: str = "class",
    labels: str = "episode",
    sizes: tuple[int, ...] = (),
    positions: range | None = None,
) -> tf.data.Dataset:
    """Returns an endless dataset of episodes for meta-training.

    Element n belongs to step `start_step + n`. Classes are drawn uniformly. The
    classes of an episode differ, and so do those of a meta-batch if the split has
    enough. The examples of an episode are drawn without replacement: support and
    query share none.

    Args:
      dataset_dir: the dataset's folder, "sample:NAME", or its manifest; or several in a
        mixture, of which one is drawn for each episode.
      split: which classes, see `Manifest.split`.
      ways: number of foreground classes K of an episode. The foreground of the
        w-th class has the value w, also in a picture that was drawn for another class
        of the episode; 255 stays 255.
      shots, queries: support and query examples of each class.
      seed: of the draws.
      image_size: side of a square, or (height, width), in pixels.
      start_step: the step of the first element.
      meta_batch: episodes in an element; None for one `Episode` without that axis.
      cache_bytes: memory for decoded images; None uses half of the free memory. The
        episodes do not depend on it.
      splits: class lists in place of the dataset's, see `Manifest.with_splits`.
      points: smallest and largest number of annotated pixels of each label in a support
        mask (drawn for each episode), all others are 255; None for dense masks. Query
        masks are always dense.
      family: see the top of the module; of "interactive" and "instance", whose query
        images are the support images, `queries` must equal `shots`.
      augment: how often episodes are changed, before points are drawn.
      draw: "class"; or "image", for one way: each episode has a picture among its
        queries that is drawn uniformly from all pictures of the split, and is of a
        class that is drawn uniformly from those that the picture shows.
      labels: "episode"; or "dataset", for one way: masks show all classes of the split,
        numbered from 1 in the order of their names.
      sizes: sides in pixels, of which one is drawn for each step; images of
        `image_size` are brought to it. Empty: all are of `image_size`.
      positions: those of each meta-batch's episodes that an element holds; None for
        all.

    Returns:
      A dataset of `Episode`s with ways * shots support images and ways * queries
      query images; the examples of a class follow each other.

    Raises:
      UserError: unknown dataset, split or family, a class with too few examples,
        fewer classes than `ways` (and one more if objects are pasted onto images of
        another), or a damaged shard.
    """
    check_at_least(1, ways=ways, shots=shots, queries=queries, meta_batch=meta_batch)
    check_at_least(0, start_step=start_step)
    if ways >= IGNORE:
        raise UserError(f"`ways` must be below {IGNORE}, received {ways}")
    if not isinstance(dataset_dir, Mixture):
        dataset_dir = Mixture((_manifest(dataset_dir, splits),), (1.0,))
    kind = Kind(ways, shots, queries, points, family, augment, draw, labels, sizes)
    tasks = meta_batch or 1
    draws = []
    for manifest, share in zip(*dataset_dir, strict=True):
        names = tuple(sorted(manifest.split(split)))
        _check_classes(manifest, split, names, kind)
        _check(manifest, names, kind)
        own_bytes = None if cache_bytes is None else int(share * cache_bytes)
        store = ImageStore(manifest, names, image_size, own_bytes)
        draws.append(_drawer(store, kind, seed, tasks))
    draw_one = draws[0]
    if len(draws) > 1:
        draw_one = functools.partial(_one_of, draws, dataset_dir.shares, seed)
    own = positions or range(tasks)
    numbers = tf.data.Dataset.range(start_step * len(own), tf.int64.max)
    if len(own) < tasks:
        numbers = numbers.map(
            untouched(lambda n: n // len(own) * tasks + own.start + n % len(own))
        )
    dataset = numbers.map(untouched(draw_one), num_parallel_calls=tf.data.AUTOTUNE)
    if meta_batch is not None:
        dataset = dataset.batch(len(own), drop_remainder=True)
    return dataset.prefetch(tf.data.AUTOTUNE)


def _drawer(store: ImageStore, kind: Kind, seed: int, tasks: int):
    """Returns a function from an episode's number to the episode."""
    names, ways = store.class_names, kind.ways

    def numbered_episode(task_number: tf.Tensor) -> Episode:
        step, position = task_number // tasks, task_number % tasks
        step_key = tf.stack([tf.constant(seed, tf.int64), step])
        task_key = _fold_in(step_key, position + 1)
        size = None
        if kind.sizes:
            sizes = tf.constant(kind.sizes)
            size = sizes[choose(_fold_in(step_key, _SIZE), len(kind.sizes), 1)[0]]
        if kind.draw == "image":
            index, example = store.draw(_fold_in(task_key, 0))
            classes = index[tf.newaxis]
            return draw_episode(store, classes, task_key, kind, example, size)
        if tasks * ways <= len(names):
            step_classes = choose(_fold_in(step_key, 0), len(names), tasks * ways)
            classes = tf.reshape(step_classes, [tasks, ways])[position]
        else:
            classes = choose(_fold_in(task_key, 0), len(names), ways)
        return draw_episode(store, classes, task_key, kind, size=size)

    return numbered_episode


def _one_of(draws, shares: Sequence[float], seed: int, task_number: tf.Tensor):
    """Draws an episode from one of several datasets."""
    key = _fold_in(tf.stack([tf.constant(seed, tf.int64), task_number]), _DATASET)
    below = tf.math.cumsum(tf.constant(shares[:-1]))
    drawn = uniform([], key)
    index = tf.reduce_sum(tf.cast(drawn >= below, tf.int32))
    branches = [functools.partial(draw, task_number) for draw in draws]
    return tf.switch_case(index, branches)


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
    points: tuple[int, int] | None = None,
    family: str = "class",
    ways: int = 1,
) -> Iterator[tuple[Episode, str, int]]:
    """Returns the episodes of a meta-test: every class, in the order of names.

    Args:
      dataset_dir: as in `episode_dataset`.
      classes: a split, or the names of classes.
      shots: support examples.
      queries: query examples; None for all examples that are not support.
      splits_per_task: episodes of each class, drawn independently.
      seed: of the draws. An episode is a function of the seed, the name of its class
        and the number of its draw alone.
      image_size, cache_bytes, splits, points, family: as in `episode_dataset`.
      ways: number of foreground classes K. The first is the class that the episode is
        of; the others are drawn from `classes`, so that it depends on these, too.

    Returns:
      An iterator of (episode, class name, number of the draw); for K > 1 the names of
      its classes joined by "+".

    Raises:
      UserError: unknown dataset, split, class or family, a class with too few
        examples, or a damaged shard. All this is found before the first episode.
    """
    check_at_least(
        1, ways=ways, shots=shots, splits_per_task=splits_per_task, queries=queries
    )
    manifest = _manifest(dataset_dir, splits)
    if isinstance(classes, str):
        classes = manifest.split(classes)
    names = tuple(sorted(classes))
    least = shots if family in SAME_IMAGES else 1
    kind = Kind(ways, shots, least if queries is None else queries, points, family)
    if len(names) < ways:
        raise UserError(
            f"a task needs `ways`={ways} classes, and there are {len(names)}; lower it "
            "or choose another split"
        )
    _check(manifest, names, kind)
    store = ImageStore(manifest, names, image_size, cache_bytes)

    def fixed_episode(index: int, draw: int) -> Episode:
        key = _fold_in(name_key(seed, names[index]), draw)
        own, classes = kind, [index]
        if ways > 1:
            drawn = choose(_fold_in(key, _OTHERS), len(names), ways).numpy()
            classes += [other for other in drawn if other != index]
            classes = classes[:ways]
        if queries is None and family not in SAME_IMAGES:
            fewest = min(store.counts[i] for i in classes)
            own = kind._replace(queries=fewest - shots)
        with tf.device("CPU:0"):
            return draw_episode(store, tf.constant(classes), key, own)

    episodes = (
        (fixed_episode(index, draw), draw)
        for index in range(len(names))
        for draw in range(splits_per_task)
    )
    return (
        (episode, episode.name.numpy().decode(), draw) for episode, draw in episodes
    )


def _manifest(
    dataset_dir: str | os.PathLike | Manifest, splits: str | None
) -> Manifest:
    if not isinstance(dataset_dir, Manifest):
        dataset_dir = Manifest.load(dataset_dir)
    return dataset_dir.with_splits(splits) if splits else dataset_dir


def _check_classes(
    manifest: Manifest, split: str, names: Sequence[str], kind: Kind
) -> None:
    if len(names) < kind.classes:
        rates = [n for n in ("union_rate", "paste_rate") if getattr(kind.augment, n)]
        more = "".join(f" and `{name}` needs another class" for name in rates)
        raise UserError(
            f"split {split!r} of dataset {manifest.name} has {len(names)} classes, but "
            f"`ways` is {kind.ways}{more}; lower it or choose another split"
        )


def _check(manifest: Manifest, names: Sequence[str], kind: Kind) -> None:
    if kind.family not in FAMILIES:
        raise UserError(
            f"`family` must be one of {', '.join(FAMILIES)}; received {kind.family!r}"
        )
    if kind.family in SAME_IMAGES and kind.queries != kind.shots:
        raise UserError(
            f"`queries` must equal `shots`, {kind.shots}, for the family "
            f"{kind.family}, whose queries are the support images; received "
            f"{kind.queries}"
        )
    for name in names:
        manifest.shard_path(name)  # Raises if there is no such class.
    short = [n for n in names if manifest.classes[n].count < kind.examples]
    if short:
        more = f" (and {len(short) - 1} other classes)" if len(short) > 1 else ""
        needs = f"`shots` + `queries` = {kind.shots} + {kind.queries}"
        if kind.family in SAME_IMAGES:
            needs = f"`shots` = {kind.shots}"
        count = manifest.classes[short[0]].count
        raise UserError(
            f"class {short[0]!r}{more} of dataset {manifest.name} has {count} "
            f"examples, but an episode needs {needs}; lower them or add examples"
        )
