"""Splitting a network behind what training does not change."""

import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.errors import UserError
from efficientlab_tf.models import closed_form, efficientlab, guided
from efficientlab_tf.models.frozen import split_frozen
from tests.models.narrow import random_inputs

LITE = {"image_size": 64, "backbone": "EfficientNetLite0"}


def variables(model):
    return {id(v) for v in model.trainable_variables}


@pytest.mark.parametrize(
    "build, options",
    [
        (closed_form, {"freeze_classifiers": True}),
        (closed_form, {}),
        (guided, {"relation": "product"}),
    ],
)
def test_both_parts_are_the_network(build, options):
    model = build(freeze_features=True, weights="imagenet", **LITE, **options)
    for variable in model.trainable_variables:
        variable.assign_add(tf.random.stateless_normal(variable.shape, [1, 2]) * 0.1)
    frozen, trained = split_frozen(model)
    assert not frozen.trainable_variables
    assert variables(trained) == variables(model)
    inputs = random_inputs()
    found = trained(frozen(inputs))
    np.testing.assert_allclose(found, model(inputs), rtol=1e-4, atol=1e-4)


def test_a_network_that_is_trained_from_its_first_layer_on():
    with pytest.raises(UserError, match="freeze_features"):
        split_frozen(closed_form(**LITE))


def test_a_frozen_encoder_of_efficientlab():
    model = efficientlab(freeze_features=True, final_dropout=0.0, **LITE)
    names = {v.path.split("/")[0] for v in model.trainable_variables}
    assert names and all(n.startswith(("rsd", "classifier")) for n in names)
    frozen, trained = split_frozen(model)
    images = random_inputs()["query_images"]
    before = model(images)
    np.testing.assert_allclose(trained(frozen(images)), before, atol=1e-5)
    model(images, training=True)
    moved = [v for v in frozen.variables if v.path.endswith("moving_mean")]
    assert moved and not any(np.any(v) for v in moved)
