"""Means of models' weights, and weights that go on in a network that trains more."""

import numpy as np
import pytest

from efficientlab_tf.checkpoint.files import load_checkpoint, save_keras, start_from
from efficientlab_tf.checkpoint.run import RunConfig, build_network
from efficientlab_tf.config import LearnerConfig, ModelConfig
from efficientlab_tf.errors import UserError
from efficientlab_tf.models.backbones import LITE
from tools.average_models import main


def saved(path, seed, **model):
    """A closed-form network with random weights, as a .keras file."""
    options = {"network": "closed_form", "backbone": LITE, "stages": "2,3"}
    options |= {"image_size": 32, **model}
    config = RunConfig(
        model=ModelConfig(**options),
        learner=LearnerConfig(learner="feedforward", inner_steps=0),
    )
    network = build_network(config.model)
    random = np.random.default_rng(seed)
    for variable in network.every_weight():
        variable.assign(random.uniform(0.5, 1.5, variable.shape))
    save_keras(path, network, network.weights(), config)
    return network


def test_the_mean_of_two(tmp_path, capsys):
    one, other, mean = (tmp_path / f"{name}.keras" for name in ("a", "b", "mean"))
    first = saved(one, 1, freeze_features=True)
    second = saved(other, 2)
    options = [str(one), str(other), f"--output={mean}"]
    assert main([*options, "--image_size=64"]) == 0
    assert str(mean) in capsys.readouterr().out
    found = load_checkpoint(str(mean))
    assert found.network.image_shape == (64, 64, 3) and found.run.model.freeze_features
    parts = (n.every_weight() for n in (found.network, first, second))
    for middle, a, b in zip(*parts, strict=True):
        expected = (a.numpy() + b.numpy()) / 2
        np.testing.assert_allclose(middle.numpy(), expected, rtol=1e-6)
    assert main([*options, "--half"]) == 0
    for variable in load_checkpoint(str(mean)).network.every_weight():
        value = variable.numpy()
        np.testing.assert_array_equal(value, value.astype(np.float16))
    with pytest.raises(UserError, match="received icons_fomaml_lite0: "):
        main([str(one), "icons_fomaml_lite0", f"--output={mean}"])
    with pytest.raises(UserError, match="must be a .keras file, received mean"):
        main([str(one), str(other), "--output=mean"])
    saved(other, 2, stages="3")
    with pytest.raises(UserError, match="models must be of one architecture"):
        main(options)


def test_what_has_no_mean_is_refused(tmp_path):
    path = tmp_path / "a.keras"
    network = saved(path, 1)
    run = load_checkpoint(str(path)).run
    weights = network.weights()
    save_keras(path, network, weights._replace(rates=weights.theta), run)
    with pytest.raises(UserError, match="learned its inner rates"):
        main([str(path), f"--output={tmp_path / 'mean.keras'}"])


def test_training_goes_on_with_more_of_the_network(tmp_path):
    frozen = saved(tmp_path / "a.keras", 1, freeze_features=True)
    run = load_checkpoint(str(tmp_path / "a.keras")).run
    options = ModelConfig(
        network="closed_form", backbone=LITE, image_size=64, stages="2,3"
    )
    network = build_network(options)
    assert len(network.weights().theta) > len(frozen.weights().theta)
    assert run.model.freeze_features
    start_from(str(tmp_path / "a.keras"), network)
    for a, b in zip(network.every_weight(), frozen.every_weight(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
