"""First-order MAML on a network and a loss of your own, then five pictures of a class.

python examples/own_model.py [META_STEPS]
"""

import sys

import keras
import tensorflow as tf

from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.data.episodes import episode_dataset, fixed_episodes
from efficientlab_tf.learners import build_learner
from efficientlab_tf.segmenters.gradient import AdaptFunctions
from efficientlab_tf.segmenters.network import Network


def own_network() -> keras.Model:
    """Images [n, H, W, 3] in 0..255 to logits [n, H, W, 2], background first."""

    def block(x, filters):
        x = keras.layers.Conv2D(filters, 3, padding="same")(x)
        return keras.layers.Activation("relu")(keras.layers.GroupNormalization(8)(x))

    images = keras.Input((48, 48, 3))
    fine = block(keras.layers.Rescaling(1 / 127.5, -1)(images), 16)
    coarse = block(block(keras.layers.MaxPooling2D(4)(fine), 32), 32)
    both = keras.layers.Concatenate()([keras.layers.UpSampling2D(4)(coarse), fine])
    return keras.Model(images, keras.layers.Conv2D(2, 1)(block(both, 16)))


def own_loss(logits: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
    """One minus the soft Dice coefficient; unknown pixels, 255, do not count."""
    truth = tf.cast(masks == 1, logits.dtype)
    found = tf.nn.softmax(logits)[..., 1] * tf.cast(masks != 255, logits.dtype)
    both, size = (tf.reduce_sum(x, [1, 2]) for x in (truth * found, truth + found))
    return tf.reduce_mean(1 - (2 * both + 1) / (size + 1))


meta_steps = int(sys.argv[1]) if len(sys.argv) > 1 else 60
data = {"dataset_dir": "sample:icons", "shots": 5, "seed": 0, "image_size": 48}
options = {"learner": "fomaml", "inner_learning_rate": 0.1, "inner_steps": 5}
config = LearnerConfig(**options, meta_optimizer="adam", meta_learning_rate=0.002)
keras.utils.set_random_seed(0)
network = Network(own_network())
learner = build_learner(network, config, meta_steps=meta_steps, objective=own_loss)
state, meta_step = learner.init(), tf.function(learner.meta_step)
episodes = episode_dataset(split="train", queries=5, meta_batch=2, **data)
for step, batch in enumerate(episodes.take(meta_steps)):
    state, metrics = meta_step(state, batch._replace(name=None), tf.constant(step))
    print(f"meta-step {step + 1}: loss {metrics['loss']:.3f} on the query sets")
start = {"learning_rate": 0.1, "steps": 5, "batch_norm": "running"}
segmenter = AdaptFunctions(learner.inner).segmenter(state.weights, **start)
for task, name, _ in fixed_episodes(classes=("anchor", "chipmunk", "cloud"), **data):
    before, *_, after = segmenter.walk(task.support_images, task.support_masks)
    truth = task.query_masks.numpy() == 1
    found = [a.predict(task.query_images)[..., 1] > 0.5 for a in (before, after)]
    ious = [(truth & f).sum() / (truth | f).sum() for f in found]
    print(f"{name}: IoU of its queries {ious[0]:.2f}, after 5 steps {ious[1]:.2f}")
