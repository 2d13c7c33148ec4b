"""Makes sparse annotations and other task families from dense masks.

    L_s = {(p_j, l_j) : j = 1..P}       (Rakelly et al., section 3: (S, P)-shot support)

The points of a mask are drawn uniformly without replacement, P of each class and P of
the background (section 7.1); all other pixels become unknown. Everything is a function
of a seed alone, eagerly and in `tf.data`.
"""

from collections.abc import Callable

import tensorflow as tf

from efficientlab_tf.episode import IGNORE

_fold_in = tf.random.experimental.stateless_fold_in

# Salts of a task's random streams, beyond those of its ways (up to 255).
_COUNT, _POINTS = 999, 1000


def draw_count(low: int, high: int, seed: tf.Tensor) -> tf.Tensor:
    """Draws P uniformly from `low` to `high`, both included: int32 scalar."""
    return tf.random.stateless_uniform([], seed, low, high + 1, tf.int32, alg="philox")


def sample_points(
    masks: tf.Tensor, count: int | tf.Tensor, classes: int, seed: tf.Tensor
) -> tf.Tensor:
    """Keeps P pixels of each label of each mask.

    Args:
      masks: uint8 [k, H, W]; 0 background, 1..K classes, 255 unknown.
      count: P, at least 1. A label with fewer pixels keeps them all.
      classes: K.
      seed: int [2].

    Returns:
      uint8 [k, H, W]; 255 wherever no point is.
    """
    shape = tf.shape(masks)
    k, pixels = shape[0], shape[1] * shape[2]
    flat = tf.reshape(masks, [k, pixels])
    # The generator is named, so that no version or device chooses another.
    draws = tf.random.stateless_uniform([k, pixels], seed, alg="philox")
    count = tf.minimum(count, pixels)
    shots = tf.broadcast_to(tf.range(k)[:, tf.newaxis], [k, count])
    kept = tf.zeros([k, pixels], tf.bool)
    for label in range(classes + 1):
        own = flat == label
        # A label's own pixels come before all others, in the order of their draws.
        places = tf.math.top_k(tf.where(own, -draws, -2.0), count).indices
        chosen = tf.gather(own, places, batch_dims=1)
        indices = tf.stack([shots, places], axis=-1)
        kept |= tf.scatter_nd(indices, tf.cast(chosen, tf.int32), [k, pixels]) > 0
    sparse = tf.where(kept, flat, tf.constant(IGNORE, flat.dtype))
    return tf.ensure_shape(tf.reshape(sparse, shape), masks.shape)


def annotate(
    masks: tf.Tensor, points: tuple[int, int] | None, classes: int, key: tf.Tensor
) -> tf.Tensor:
    """Keeps a drawn number of points of each label of each mask, see `sample_points`.

    Args:
      masks, classes: as there.
      points: smallest and largest P, which is drawn once for all masks; None leaves
        them dense.
      key: int [2], the task's random key.
    """
    if points is None:
        return masks
    count = draw_count(*points, _fold_in(key, _COUNT))
    return sample_points(masks, count, classes, _fold_in(key, _POINTS))


def one_instance(masks: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Keeps one object of each mask.

    A pixel of the foreground is drawn uniformly, so large objects are drawn more often
    than specks. Pixels of a value from 2 are an object, wherever they are; those of the
    value 1 belong to objects that are not known, and a connected component of the
    foreground (neighbours are eight) takes an object's place.

    Args:
      masks: uint8 [k, H, W]; 0 background, 255 unknown, all else foreground.
      seed: int [2].

    Returns:
      uint8 [k, H, W]; the rest of the foreground becomes background.
    """
    shape = tf.shape(masks)
    foreground = (masks > 0) & (masks < IGNORE)
    flat = tf.reshape(foreground, [shape[0], shape[1] * shape[2]])
    draws = tf.random.stateless_uniform(tf.shape(flat), seed, alg="philox")
    first = tf.argmax(tf.where(flat, draws, -1.0), axis=1, output_type=tf.int32)
    start = tf.one_hot(first, shape[1] * shape[2])
    inside = tf.cast(foreground, tf.float32)[..., tf.newaxis]
    start = tf.reshape(start, tf.shape(inside)) * inside

    def grow(reached, _):
        wider = tf.nn.max_pool2d(reached, 3, 1, "SAME") * inside
        return wider, tf.reduce_any(wider > reached)

    reached, _ = tf.while_loop(
        lambda _, grew: grew,
        grow,
        (tf.ensure_shape(start, [*masks.shape, 1]), tf.constant(True)),
    )
    drawn = tf.gather(tf.reshape(masks, tf.shape(flat)), first, axis=1, batch_dims=1)
    drawn = drawn[:, tf.newaxis, tf.newaxis]
    kept = tf.where(drawn > 1, masks == drawn, reached[..., 0] > 0)
    other = foreground & ~kept
    return tf.where(other, tf.zeros_like(masks), masks)


def numbered(masks: tf.Tensor, number: int | tf.Tensor) -> tf.Tensor:
    """Gives the whole foreground of masks, uint8, one number; 0 and 255 stay."""
    foreground = (masks > 0) & (masks < IGNORE)
    return tf.where(foreground, tf.cast(number, tf.uint8), masks)


def keep_unknown(augment: Callable) -> Callable:
    """Makes an augmentation leave sparse annotations sparse.

    Pixels that translation uncovers and erasing fills become background in a dense
    mask. In a mask with fewer than half of its pixels known they become unknown:
    as background they would be more annotation than all of its points.

    Args:
      augment: called as augment(images, masks, seed), as what is returned; it changes
        each image alone.
    """

    def exchange(masks, sparse):
        """Swaps background and unknown."""
        known = tf.where(masks == 0, tf.constant(IGNORE, masks.dtype), masks)
        swapped = tf.where(masks == IGNORE, tf.zeros_like(masks), known)
        return tf.where(sparse[:, tf.newaxis, tf.newaxis], swapped, masks)

    def apply(images, masks, seed):
        masks = tf.convert_to_tensor(masks)
        unknown = tf.cast(masks == IGNORE, tf.float32)
        sparse = tf.reduce_mean(unknown, axis=[1, 2]) > 0.5
        images, changed = augment(images, exchange(masks, sparse), seed)
        return images, exchange(changed, sparse)

    return apply
