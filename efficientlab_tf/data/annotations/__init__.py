"""Labelled pictures as people and annotation tools have them; a module a format."""

from efficientlab_tf.data.annotations.resizing import resize_annotations, resize_image
from efficientlab_tf.data.annotations.support import (
    LabelledPicture,
    Support,
    read_support,
)

__all__ = [
    "LabelledPicture",
    "Support",
    "read_support",
    "resize_annotations",
    "resize_image",
]
