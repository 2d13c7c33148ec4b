"""Writes what TensorFlow Addons computes, for tests/test_addons.py to compare with.

TensorFlow Addons cannot be imported beside Keras 3, so this runs in an environment of
its own, outside of this checkout (Python 3.11; see requirements.txt):

    python3.11 -m venv /tmp/addons
    /tmp/addons/bin/python -m pip install -r tools/addons_parity/requirements.txt
    /tmp/addons/bin/python tools/addons_parity/make_vectors.py tests/addons.npz
"""

import sys

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

COUNT, SIZE = 4, 24
STEPS = 12
RATES = np.repeat([0.1, 0.03], STEPS // 2).astype(np.float32)
WEIGHT_DECAY = 0.05


def image_vectors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    images = rng.integers(1, 255, [COUNT, SIZE, SIZE, 3], np.uint8)
    masks = np.ones([COUNT, SIZE, SIZE], np.uint8)
    masks[:, 5:15, 8:20] = 2
    masks[:, 12:22, 2:11] = 255
    pixels = np.concatenate([images, masks[..., np.newaxis]], axis=-1)

    shifts = np.array([[0, 0], [2, -1], [-2, 2], [1, 0]], np.float32)
    degrees = np.array([0, 10, -7.3, 3.1], np.float32)

    def rotate(pixels, interpolation):
        angles = np.deg2rad(degrees)
        return tfa.image.rotate(pixels, angles, interpolation, fill_mode="reflect")

    tf.random.set_seed(5)
    return {
        "images": images,
        "masks": masks,
        "shifts": shifts,
        "translated": tfa.image.translate(pixels, shifts),
        "degrees": degrees,
        "rotated_images": rotate(images.astype(np.float32), "bilinear"),
        "rotated_masks": rotate(pixels, "nearest")[..., 3],
        "cut": tfa.image.random_cutout(pixels, (6, 10), constant_values=0),
    }


def optimizer_vectors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    start = rng.normal(size=[2, 3]).astype(np.float32)
    gradients = rng.normal(size=[STEPS, 2, 3]).astype(np.float32)

    adamw = tfa.optimizers.AdamW(weight_decay=0.0, learning_rate=0.0)
    weights = tf.Variable(start)
    adamw_weights = []
    for rate, gradient in zip(RATES, gradients, strict=True):
        adamw.learning_rate = rate
        # Addons subtracts weight_decay * weights, whatever the learning rate is.
        adamw.weight_decay = rate * WEIGHT_DECAY
        adamw.apply_gradients([(tf.constant(gradient), weights)])
        adamw_weights.append(weights.numpy())

    averages = {}
    for first in (0, 1):
        average = tfa.optimizers.MovingAverage(
            tf.keras.optimizers.legacy.SGD(0.1), average_decay=0.9, start_step=first
        )
        weights = tf.Variable(start)
        for gradient in gradients:
            average.apply_gradients([(tf.constant(gradient), weights)])
            steps = averages.setdefault(f"averages_from_{first}", [])
            steps.append(average.get_slot(weights, "average").numpy())
    return {
        "start": start,
        "gradients": gradients,
        "rates": RATES,
        "weight_decay": np.float32(WEIGHT_DECAY),
        "adamw": adamw_weights,
        **averages,
    }


if __name__ == "__main__":
    vectors = image_vectors() | optimizer_vectors()
    np.savez_compressed(sys.argv[1], **{k: np.asarray(v) for k, v in vectors.items()})
