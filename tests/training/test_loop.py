"""The training loop on a network of a few thousand parameters and real pictures."""

import dataclasses
import json
import re
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.checkpoint import files
from efficientlab_tf.checkpoint.run import MODEL_FILE, RunConfig, build_inner_loop
from efficientlab_tf.config import DataConfig
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.meta_test import evaluate
from efficientlab_tf.metrics import Interval, Summary
from efficientlab_tf.segmenters.gradient import AdaptFunctions
from efficientlab_tf.segmenters.network import Network
from efficientlab_tf.training import loop, record, validation
from efficientlab_tf.training.checkpoints import Checkpoints
from efficientlab_tf.training.summaries import CURVES
from tests.data.tiny_dataset import tiny_dataset
from tests.loading import load_model
from tests.models.tiny import tiny_network
from tests.training.runs import saved, stop_after


def test_a_run_writes_what_it_promises(config, tmp_path, capsys):
    assert loop.train(config)
    run_dir = tmp_path / "run"
    assert (run_dir / "run.flags").is_file()
    assert list((run_dir / "checkpoints").glob("ckpt-6.index"))
    assert list((run_dir / "best").glob("best-*.index"))
    assert len(list((run_dir / "checkpoints").glob("*.index"))) == 3
    tags = set()
    for path in (run_dir / "logs").iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            tags |= {value.tag for value in event.summary.value}
    assert {
        "train/loss",
        "train/cross_entropy",
        "train/meta_step_norm",
        "train/bad_steps",
        "train/meta_learning_rate",
        "train/inner_learning_rate",
        "train/episodes_per_second",
        "validation/per_image_iou",
        "validation/predictions",
        "_hparams_/session_start_info",
        "custom_scalars__config__",
    } <= tags
    for patterns in CURVES.values():
        for pattern in patterns:
            assert any(re.search(pattern, tag) for tag in tags), pattern
    assert "finished 6 meta-steps" in capsys.readouterr().out
    network, weights, loaded = load_model(str(run_dir))
    assert loaded == config
    images = np.zeros((1, 32, 32, 3), np.uint8)
    expected, _ = network(*weights[:2], images, training=False)
    _, from_keras, keras_config = load_model(str(run_dir / MODEL_FILE))
    assert keras_config == config
    got, _ = network(*from_keras[:2], images, training=False)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_a_stopped_and_resumed_run_equals_one_in_one_go(config, tmp_path, monkeypatch):
    loop.train(config)
    other = dataclasses.replace(
        config,
        train=dataclasses.replace(config.train, run_dir=str(tmp_path / "other")),
    )
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        assert not loop.train(other)
    assert list((tmp_path / "other" / "checkpoints").glob("ckpt-3.index"))
    assert loop.train(other, resume=True)
    one, two = saved(tmp_path / "run"), saved(tmp_path / "other")
    assert one.keys() == two.keys()
    assert len(one) > 20
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_a_run_may_go_on_at_another_size(config, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        assert not loop.train(config)
    model = dataclasses.replace(config.model, image_size=64)
    assert loop.train(dataclasses.replace(config, model=model), resume=True)
    saved = keras.saving.load_model(f"{config.train.run_dir}/{MODEL_FILE}")
    assert saved.input_shape[1:3] == (64, 64)


def test_starts_from_the_weights_of_a_model(config, tmp_path, monkeypatch):
    assert loop.train(config)
    changes = {"run_dir": str(tmp_path / "next"), "start_from": config.train.run_dir}
    other = dataclasses.replace(
        config,
        learner=dataclasses.replace(config.learner, meta_learning_rate=1e-12),
        train=dataclasses.replace(config.train, meta_steps=1, seed=5, **changes),
    )
    assert loop.train(other)
    expected = saved(config.train.run_dir, ("theta/",), "best")
    for name, value in saved(tmp_path / "next", ("theta/",)).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-9, err_msg=name)
    wider = lambda *_: Network(tiny_network(32, num_classes=2))  # noqa: E731
    monkeypatch.setattr(loop, "build_network", wider)
    with pytest.raises(UserError, match="`start_from` must be a model of the run's"):
        loop.train(other)


def test_trains_and_validates_on_a_mixture(config, tmp_path, monkeypatch, capsys):
    for name, *lists in ("a", "bear cup dog", "hen owl"), ("b", "elk fox", "yak"):
        train, val = (names.split() for names in lists)
        counts = dict.fromkeys(train + val, 10)
        tiny_dataset(tmp_path / name, counts, {"train": train, "val": val})
    text = f"{tmp_path / 'a'}:1,{tmp_path / 'b'}:2"
    drawn = []
    monkeypatch.setattr(
        validation, "evaluate", lambda *a, **k: drawn.append(a[1]) or evaluate(*a, **k)
    )
    data = DataConfig(dataset_dir=text, paste_rate=0.5, label_swap_rate=0.5)
    assert loop.train(dataclasses.replace(config, data=data))
    assert "5 training classes" in capsys.readouterr().out
    names = [name for _, name, _ in drawn[0]]
    assert names == ["hen", "owl", "yak"]


def test_learned_rates_travel_with_the_initialization(config, tmp_path, monkeypatch):
    learner = dataclasses.replace(config.learner, learner="meta_sgd", inner_steps=1)
    config = dataclasses.replace(config, learner=learner)
    stop_after(monkeypatch, 2)
    loop.train(config)
    network, weights, _ = load_model(str(tmp_path / "run"))
    # Adam has moved every rate by about its own rate, 1e-2.
    assert any(np.any(np.abs(r - 0.05) > 1e-3) for r in weights.rates)
    rates = saved(tmp_path / "run", ("rates/",))
    assert len(rates) == len(weights.theta)
    _, from_keras, _ = load_model(str(tmp_path / "run" / MODEL_FILE))
    for i, (a, b) in enumerate(zip(weights.rates, from_keras.rates, strict=True)):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, rates[f"rates/{i}/.ATTRIBUTES/VARIABLE_VALUE"])
    # One step of the segmenter is theta - rates * gradient.
    functions = AdaptFunctions(build_inner_loop(learner, network))
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    masks = (images[..., 0] > 99).astype(np.uint8)
    learned, fixed = (
        functions.segmenter(w, learning_rate=0.05, steps=1, batch_norm="running")
        .adapt(images, masks)
        .weights.theta
        for w in (weights, weights._replace(rates=()))
    )
    for theta, a, b, r in zip(
        weights.theta, learned, fixed, weights.rates, strict=True
    ):
        np.testing.assert_allclose(a - theta, (b - theta) * r / 0.05, atol=1e-5)


def test_stopping_says_how_to_resume(config, monkeypatch, capsys):
    stop_after(monkeypatch, 1)
    loop.train(config)
    line = capsys.readouterr().out.splitlines()[-1]
    assert f"--run_dir={config.train.run_dir} --resume" in line


def test_a_run_is_not_overwritten(config, monkeypatch):
    stop_after(monkeypatch, 1)
    loop.train(config)
    with pytest.raises(UserError, match="already holds a run at step 1; continue"):
        loop.train(config)


def test_nothing_to_resume(config):
    with pytest.raises(UserError, match="no checkpoint to resume"):
        loop.train(config, resume=True)


def test_bad_steps_in_a_row_stop_with_the_last_good_state(config, tmp_path, capsys):
    bad = dataclasses.replace(
        config,
        learner=dataclasses.replace(config.learner, inner_learning_rate=1e30),
        train=dataclasses.replace(config.train, max_bad_steps=3, save_every=100),
    )
    with pytest.raises(
        UserError, match="3 meta-steps in a row until step 2 .* `resume`"
    ):
        loop.train(bad)
    assert "step 2: skipped" in capsys.readouterr().out
    state = saved(tmp_path / "run")
    assert state and all(np.isfinite(value).all() for value in state.values())
    # Nothing good came before, so the last good state is the first.
    theta = loop.build_network(config.model, config.train.seed).weights().theta
    for i, tensor in enumerate(theta):
        name = f"theta/{i}/.ATTRIBUTES/VARIABLE_VALUE"
        np.testing.assert_array_equal(state[name], tensor)


def test_single_bad_steps_are_skipped_counted_and_logged(config, monkeypatch, capsys):
    real = loop.build_run_learner

    def build(*arguments):
        learner = real(*arguments)
        meta_step = learner.meta_step

        def spoilt(state, episodes, step):
            # Every second meta-step sees an infinite theta.
            factor = tf.where(step % 2 == 0, 1.0, float("inf"))
            poisoned = state._replace(theta=tuple(t * factor for t in state.theta))
            new, metrics = meta_step(poisoned, episodes, step)
            bad = metrics["bad_step"] > 0
            return (
                tf.nest.map_structure(lambda n, o: tf.where(bad, o, n), new, state),
                metrics,
            )

        monkeypatch.setattr(learner, "meta_step", spoilt)
        return learner

    monkeypatch.setattr(loop, "build_run_learner", build)
    train = dataclasses.replace(config.train, max_bad_steps=2)
    assert loop.train(dataclasses.replace(config, train=train))
    out = capsys.readouterr().out
    assert [f"step {i}: skipped" in out for i in range(6)] == [False, True] * 3
    assert "3 skipped so far" in out
    state = saved(config.train.run_dir)
    assert all(np.isfinite(value).all() for value in state.values())


@pytest.mark.parametrize(
    ("mode", "gpus", "expected"),
    [
        ("on", [], True),
        ("off", ["gpu"], False),
        ("auto", [], False),
        ("auto", ["gpu"], True),
    ],
)
def test_jit_is_for_gpus_unless_asked(monkeypatch, mode, gpus, expected):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    assert loop.use_jit(mode) is expected


def test_a_query_that_is_in_its_support_is_refused(config, monkeypatch):
    real = loop._episodes

    def overlapping(*arguments):
        return real(*arguments).map(lambda e: e._replace(query_images=e.support_images))

    monkeypatch.setattr(loop, "_episodes", overlapping)
    with pytest.raises(UserError, match="query set apart from its support"):
        loop.train(config)


def test_unwritable_run_dir(config, tmp_path):
    (tmp_path / "file").write_text("")
    train = dataclasses.replace(config.train, run_dir=str(tmp_path / "file" / "run"))
    with pytest.raises(UserError, match="cannot write to `run_dir`"):
        loop.train(dataclasses.replace(config, train=train))


@pytest.mark.parametrize(
    ("group", "change", "message"),
    [
        ("data", {"dataset_dir": ""}, "`dataset_dir` is needed"),
        ("data", {"dataset_dir": "nowhere"}, "no dataset folder nowhere"),
        ("data", {"ways": 2}, "`num_classes`=2"),
        ("data", {"shots": 8}, "10"),
        ("data", {"train_split": "none"}, "no split 'none'"),
        ("train", {"run_dir": ""}, "`run_dir` is needed"),
        ("train", {"meta_batch": 10**9}, "the 10000000000 pictures of a meta-step"),
    ],
)
def test_bad_settings_are_named(config, group, change, message):
    changed = dataclasses.replace(getattr(config, group), **change)
    with pytest.raises(UserError, match=message):
        loop.train(dataclasses.replace(config, **{group: changed}))


def test_plateaus_halve_the_meta_learning_rate_also_across_a_stop(
    config, monkeypatch, capsys
):
    scores = iter([0.5, 0.4, 0.5, 0.3, 0.6, 0.2, 0.2, 0.2])
    interval = record.Summary.of

    def scored(results):
        summary = interval(results)
        iou = dataclasses.replace(summary.per_image_iou, mean=next(scores))
        return dataclasses.replace(summary, per_image_iou=iou)

    monkeypatch.setattr(record.Summary, "of", scored)
    config = dataclasses.replace(
        config,
        learner=dataclasses.replace(config.learner, halve_after=1),
        train=dataclasses.replace(config.train, meta_steps=8, validate_every=1),
    )
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert not loop.train(config)
    assert loop.train(config, resume=True)
    printed = capsys.readouterr()
    lines = (printed.out + printed.err).splitlines()
    # Two validations no better than the best: after steps 3 and 7, not after 4 or 8.
    halved = [line for line in lines if "meta-learning rate times" in line]
    assert ["step 3" in halved[0], "step 7" in halved[1]] == [True, True]
    assert len(halved) == 2 and "times 0.25" in halved[1]
    scale = saved(config.train.run_dir, ("rate_scale/",))
    assert list(scale.values()) == [0.25]


def test_plateaus_need_a_validation(config):
    learner = dataclasses.replace(config.learner, halve_after=8)
    data = dataclasses.replace(config.data, val_split="")
    with pytest.raises(UserError, match="`halve_after`=8 goes by validation"):
        loop.train(dataclasses.replace(config, learner=learner, data=data))


def test_the_best_checkpoint_by_iou_without_a_threshold(config, monkeypatch, capsys):
    scores = iter([(0.5, 0.2), (0.4, 0.3)])

    def summary(results):
        thresholded, soft = next(scores)
        return dataclasses.replace(
            Summary.of(results),
            per_image_iou=Interval(thresholded, 0.0),
            soft_iou=Interval(soft, 0.0),
        )

    monkeypatch.setattr(record, "Summary", types.SimpleNamespace(of=summary))
    train = dataclasses.replace(config.train, best_by="soft_iou")
    loop.train(dataclasses.replace(config, train=train))
    said = "best validation IoU without a threshold 30.00 % at step 6"
    assert said in capsys.readouterr().out


def test_labels_of_the_dataset_are_those_of_one_network(config):
    data = dataclasses.replace(config.data, labels="dataset", val_split="")
    learner = dataclasses.replace(config.learner, learner="joint")
    whole = dataclasses.replace(config, data=data, learner=learner)
    with pytest.raises(UserError, match="`num_classes`=4, as many .* received 1 and 1"):
        loop.train(whole)
    with pytest.raises(UserError, match="and `val_split`= .empty., received fomaml"):
        loop.train(dataclasses.replace(config, data=data))
    with pytest.raises(UserError, match="`labels`=dataset needs `points`=-1"):
        dataclasses.replace(data, points="5")
    model = dataclasses.replace(config.model, num_classes=4)
    assert loop.train(dataclasses.replace(whole, model=model))


def test_several_ways_are_validated_so(config, monkeypatch):
    seen = []

    def summary(results):
        seen.extend(result.counts.shape for result in results)
        return Summary.of(results)

    data = dataclasses.replace(config.data, ways=2)
    model = dataclasses.replace(config.model, num_classes=2)
    monkeypatch.setattr(record, "Summary", types.SimpleNamespace(of=summary))
    loop.train(dataclasses.replace(config, data=data, model=model))
    assert seen
    assert {shape[1:] for shape in seen} == {(3, 3)}


def test_checkpoint_of_another_architecture(config, tmp_path, monkeypatch):
    stop_after(monkeypatch, 1)
    loop.train(config)
    monkeypatch.setattr(
        files,
        "build_network",
        lambda *_: Network(tiny_network(32, num_classes=3)),
    )
    with pytest.raises(UserError, match="another architecture"):
        load_model(config.train.run_dir)
    other = Network(tiny_network(32, num_classes=3))
    from efficientlab_tf.learners import build_learner

    state = build_learner(other, config.learner, meta_steps=6).init()
    with pytest.raises(UserError, match="another architecture"):
        Checkpoints(tmp_path / "run", state).restore()


def test_truncated_checkpoint(config, tmp_path, monkeypatch):
    stop_after(monkeypatch, 1)
    loop.train(config)
    for path in (tmp_path / "run").glob("*/*.data-*"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be read"):
        load_model(config.train.run_dir)


def test_not_a_model(tmp_path):
    (tmp_path / "x.keras").write_bytes(b"not a zip")
    for path, message in (
        (tmp_path / "none", "no such run folder"),
        (tmp_path, "is not a run"),
        (tmp_path / "x.keras", "cannot be read"),
    ):
        with pytest.raises(UserError, match=message):
            load_model(str(path))


def test_configuration_survives_json(config):
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
