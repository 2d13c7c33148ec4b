"""TensorFlow's graphs, traced without AutoGraph.

All control flow in this package is TensorFlow's own (`tf.cond`, `tf.while_loop`).
AutoGraph would still parse the source of each function that is called, which takes
longer than all else when a small training starts, and wrap errors in its own.
"""

import functools

import tensorflow as tf

graph = functools.partial(tf.function, autograph=False)
"""`tf.function` for functions and methods."""

untouched = tf.autograph.experimental.do_not_convert
"""For what `tf.data` maps, which has no such option, and what others may trace."""
