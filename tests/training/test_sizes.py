"""A training whose meta-steps see pictures of several sizes."""

import dataclasses

import numpy as np
import pytest

from efficientlab_tf.errors import UserError
from efficientlab_tf.training import loop
from tests.loading import load_model
from tests.training.runs import saved, stop_after


def with_sizes(config, run_dir, sizes="32,64"):
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, image_sizes=sizes),
        train=dataclasses.replace(config.train, run_dir=str(run_dir)),
    )


def test_all_sizes_train_the_same_weights_and_resume(config, tmp_path, monkeypatch):
    seen = []
    original = loop._episodes

    def watched(*arguments):
        for batch in original(*arguments):
            seen.append(batch.query_masks.shape[-1])
            yield batch

    monkeypatch.setattr(loop, "_episodes", watched)
    assert loop.train(with_sizes(config, tmp_path / "one"))
    assert set(seen) == {32, 64}
    other = with_sizes(config, tmp_path / "other")
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        assert not loop.train(other)
    assert loop.train(other, resume=True)
    one, two = saved(tmp_path / "one"), saved(tmp_path / "other")
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name], err_msg=name)
    # What comes out is a network of the run's own size.
    network, _, loaded = load_model(str(tmp_path / "one"))
    assert network.image_shape == (32, 32, 3)
    assert loaded.data.sizes == (32, 64)


def test_a_single_size_of_its_own_is_the_same_training(config, tmp_path):
    loop.train(with_sizes(config, tmp_path / "plain", ""))
    loop.train(with_sizes(config, tmp_path / "one", "32"))
    one, two = saved(tmp_path / "plain"), saved(tmp_path / "one")
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name], err_msg=name)


def test_episodes_that_are_reused_have_one_size(config, tmp_path):
    config = with_sizes(config, tmp_path / "run")
    train = dataclasses.replace(config.train, reuse_episodes=4)
    learner = dataclasses.replace(config.learner, augment_rate=0)
    config = dataclasses.replace(config, train=train, learner=learner)
    with pytest.raises(UserError, match="`reuse_episodes`=4 needs `image_sizes`"):
        loop.train(config)
