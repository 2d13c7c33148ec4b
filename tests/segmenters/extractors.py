"""Feature extractors of little work, and a support set of two classes."""

import keras
import numpy as np

from tests.models.tiny import tiny_network

SIZE = 32


def tiny_model(name: str = "tiny") -> keras.Model:
    keras.utils.set_random_seed(5)
    network = tiny_network(SIZE)
    return keras.Model(network.input, network.get_layer("decoder_bn").output, name=name)


def two_classes(task):
    """The task with a disc in the middle of each object called class 2."""
    images, masks, queries, _ = task
    masks = masks.copy()
    for mask in masks:
        y, x = (int(axis.mean()) for axis in np.nonzero(mask))
        mask[y - 4 : y + 4, x - 4 : x + 4] = 2
    return images, masks, queries


def colours(image_size: int = SIZE, cell: int = 4) -> keras.Model:
    """Features that are each cell's mean colour: tasks whose answer is plain."""
    images = keras.Input((image_size, image_size, 3))
    x = keras.layers.Rescaling(1 / 255)(images)
    return keras.Model(images, keras.layers.AveragePooling2D(cell)(x), name="colours")
