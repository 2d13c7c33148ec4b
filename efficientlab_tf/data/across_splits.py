"""Meta-test episodes whose support and queries come from different splits.

A dataset with folds has a class's training pictures as train-NAME and those for
validation as val-NAME. Here the support is drawn from the one and the queries from the
other (Rakelly et al. 2018, section 5.2: from one support picture to all).
"""

from collections.abc import Iterator

import tensorflow as tf

from efficientlab_tf.data.draws import choose, name_key
from efficientlab_tf.data.folds import plain_name
from efficientlab_tf.data.image_store import ImageStore
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.data.points import annotate, numbered
from efficientlab_tf.episode import Episode
from efficientlab_tf.errors import UserError, check_at_least

_fold_in = tf.random.experimental.stateless_fold_in


def across_splits(
    manifest: Manifest,
    split: str,
    support_split: str,
    *,
    shots: int,
    queries: int | None = None,
    splits_per_task: int = 1,
    seed: int,
    image_size: int | tuple[int, int],
    points: tuple[int, int] | None = None,
) -> Iterator[tuple[Episode, str, int]]:
    """Returns the episodes: every class of `split`, in the order of names.

    Args:
      manifest: of the dataset.
      split: whose pictures are queries.
      support_split: whose pictures are support; it has the same classes.
      shots: support examples; all, where a class has fewer.
      queries: query examples; None for all, as where a class has fewer.
      splits_per_task, seed, image_size, points: see `fixed_episodes`.

    Raises:
      UserError: unknown split, a class that `support_split` lacks, or a damaged shard.
    """
    check_at_least(1, shots=shots, splits_per_task=splits_per_task, queries=queries)
    names = tuple(sorted(manifest.split(split)))
    partners = {plain_name(name): name for name in manifest.split(support_split)}
    if missing := [name for name in names if plain_name(name) not in partners]:
        raise UserError(
            f"split {support_split!r} of dataset {manifest.name} has no class "
            f"{plain_name(missing[0])}, which {split!r} has; choose splits of the same "
            "classes"
        )
    supports = [partners[plain_name(name)] for name in names]
    store = ImageStore(manifest, [*names, *supports], image_size)

    def drawn(index: int, count: int | None, key: tf.Tensor):
        there = store.counts[index]
        examples = choose(key, there, min(count or there, there))
        images, masks = store.images(tf.constant(index), examples)
        return images, numbered(masks, 1)

    def episode(index: int, draw: int) -> Episode:
        with tf.device("CPU:0"):
            key = _fold_in(name_key(seed, names[index]), draw)
            images, masks = drawn(len(names) + index, shots, _fold_in(key, 1))
            query = drawn(index, queries, _fold_in(key, 2))
            masks = annotate(masks, points, 1, key)
            return Episode(images, masks, *query, name=tf.constant(names[index]))

    return (
        (episode(index, draw), name, draw)
        for index, name in enumerate(names)
        for draw in range(splits_per_task)
    )
