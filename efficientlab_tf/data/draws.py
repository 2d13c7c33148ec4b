"""Random draws of examples: stateless, the same in every version and on any device."""

import hashlib

import tensorflow as tf


def name_key(seed: int, name: str) -> tf.Tensor:
    """Returns the random key of a class: int64 [2]."""
    digest = hashlib.sha256(name.encode()).digest()
    number = int.from_bytes(digest[:8], "little", signed=True)
    return tf.constant([seed, number], tf.int64)


def uniform(shape, key: tf.Tensor, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
    """Draws numbers from `low` to below `high`: float32 of that shape."""
    # The generator is named, so that no version or device chooses another.
    return tf.random.stateless_uniform(shape, key, low, high, alg="philox")


def choose(
    key: tf.Tensor, count: int | tf.Tensor, chosen: int, last: tf.Tensor | None = None
) -> tf.Tensor:
    """Draws `chosen` of `count` indices; those that `last` marks if there is need."""
    draws = uniform([count], key)
    if last is not None:
        draws = tf.where(last, draws - 1, draws)
    return tf.math.top_k(draws, chosen).indices
