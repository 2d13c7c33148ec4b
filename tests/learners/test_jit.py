"""A whole meta-step under XLA equals the same meta-step without."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.learners import build_learner
from efficientlab_tf.segmenters.network import Network
from tests.learners.contract import CONFIG, episodes
from tests.models.tiny import tiny_network


@pytest.mark.parametrize(
    ("name", "steps"), [("fomaml", 2), ("maml", 2), ("meta_sgd", 1)]
)
def test_jit_and_plain_meta_steps_agree(name, steps):
    # XLA draws other random numbers, so this meta-step draws none that matter:
    # no dropout, no augmentation, and mini-batches of the whole support set.
    config = dataclasses.replace(
        CONFIG,
        learner=name,
        inner_steps=steps,
        inner_batch=0,
        inner_learning_rate=0.05,
    )
    keras.utils.set_random_seed(7)
    learner = build_learner(Network(tiny_network(16)), config, meta_steps=10)
    state, batch = learner.init(), episodes(2, size=16)._replace(name=None)
    plain, compiled = (
        tf.function(learner.meta_step, jit_compile=jit)(state, batch, tf.constant(0))
        for jit in (False, True)
    )
    moved = [p - t for p, t in zip(plain[0].theta, state.theta, strict=True)]
    apart = [p - c for p, c in zip(plain[0].theta, compiled[0].theta, strict=True)]
    assert tf.linalg.global_norm(apart) < 1e-4 * tf.linalg.global_norm(moved)
    for p, c in zip(plain[0].statistics, compiled[0].statistics, strict=True):
        np.testing.assert_allclose(p, c, rtol=1e-4, atol=1e-4)
    assert plain[1].keys() == compiled[1].keys()
    for metric, value in plain[1].items():
        np.testing.assert_allclose(
            value, compiled[1][metric], rtol=1e-4, err_msg=metric
        )
