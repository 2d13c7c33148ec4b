"""Command-line tools; the wheel carries three of them as efficientlab_tf.tools."""
