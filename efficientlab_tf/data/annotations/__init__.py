"""Labelled pictures as people and annotation tools have them; a module a format."""

from efficientlab_tf.data.annotations.support import (
    LabelledPicture,
    Support,
    read_support,
    resize_image,
)

__all__ = ["LabelledPicture", "Support", "read_support", "resize_image"]
