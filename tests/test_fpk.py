"""The many-shot study: what it runs, how it goes on, what it writes."""

import csv
import dataclasses

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.api.automatic import AutomaticModel
from efficientlab_tf.api.networks import GradientModel
from efficientlab_tf.checkpoint.files import Checkpoint
from efficientlab_tf.checkpoint.run import RunConfig, build_network
from efficientlab_tf.config import OWN, DataConfig, LearnerConfig, ModelConfig
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.many_shot import Study, open_results, write_report
from efficientlab_tf.fpk import FpkConfig, initializations
from efficientlab_tf.segmenters.network import Network
from tests.models.tiny import tiny_network


@pytest.fixture(scope="module")
def study():
    manifest = Manifest.load("sample:icons")
    names = manifest.split("test")[:2]
    return Study(manifest, names, {1: 0, 4: 0, 5: 2}, 2, 3, OWN, 0)


@pytest.fixture(scope="module")
def starts():
    learner = LearnerConfig(inner_batch=2, augment_rate=0.0, inner_learning_rate=0.05)
    network = Network(tiny_network(32))
    run = RunConfig(learner=learner)
    meta = GradientModel("meta", Checkpoint(network, network.weights(), run))
    weights = network.weights()
    other = weights._replace(theta=tuple(0.5 * t for t in weights.theta))
    random = GradientModel("random", Checkpoint(network, other, run))
    return {"meta": (meta, None), "random": (random, 0.01)}


def _run(study, starts, folder, settings=None):
    rows = open_results(folder, settings or {"a": 1})
    return study.run(starts, rows, folder)


def test_a_study_goes_on_where_it_was(study, starts, tmp_path):
    whole = _run(study, starts, tmp_path / "whole")
    assert len({row.key for row in whole}) == len(whole) == 2 * 3 * 2 * 2
    assert all(0 <= row.iou <= 1 and row.seconds > 0 for row in whole)
    # One example cannot be spared; five are given their number of steps.
    assert {row.steps for row in whole if row.k == 1} == {1}
    assert {row.steps for row in whole if row.k == 5} == {2}
    # Stopped: some rows are there, in no order, and more is asked for.
    part = tmp_path / "part"
    open_results(part, {"a": 1})
    with open(tmp_path / "whole" / "results.csv") as file:
        header, *lines = file.readlines()
    (part / "results.csv").write_text("".join([header, *lines[-5:], *lines[2:4]]))
    again = {row.key: row for row in _run(study, starts, part)}
    assert again.keys() == {row.key for row in whole}
    for row in whole:
        assert again[row.key].steps == row.steps
        assert again[row.key].iou == pytest.approx(row.iou, abs=1e-6)
    with open(part / "results.csv") as file:
        assert len(list(csv.DictReader(file))) == len(whole)
    table = write_report(part, list(again.values()))
    assert table.splitlines()[0] == "| k | meta-learned | random |"
    mean = 100 * np.mean([r.iou for r in whole if r.key[:2] == ("random", 4)])
    assert f"{mean:.2f} ±" in table.splitlines()[3]
    assert (part / "table.md").read_text() == table
    with Image.open(part / "curve.png") as picture:
        assert picture.width > 400 and len(picture.getcolors(1 << 20)) > 10


def test_a_search_stands_beside(study, starts, tmp_path):
    study = dataclasses.replace(study, steps={5: 2}, draws=1)
    starts = {"linear": (AutomaticModel("linear"), None), "meta": starts["meta"]}
    rows = _run(study, starts, tmp_path)
    assert [row.initialization for row in rows] == ["linear", "meta"] * 2
    assert {row.steps for row in rows} == {0, 2}
    linear, meta = (
        np.mean([row.iou for row in rows if row.initialization == name])
        for name in starts
    )
    assert linear > meta
    # All of it is done: nothing is done again.
    again = _run(study, starts, tmp_path)
    assert [row.key for row in again] == [row.key for row in rows]


def test_results_of_other_settings_are_not_mixed(study, starts, tmp_path):
    _run(dataclasses.replace(study, steps={1: 1}), starts, tmp_path)
    with pytest.raises(UserError, match="other settings: a was 1, now 2"):
        open_results(tmp_path, {"a": 2})
    with pytest.raises(UserError, match="results of 1 steps for k = 1, now 3"):
        _run(dataclasses.replace(study, steps={1: 3}), starts, tmp_path)
    with open(tmp_path / "results.csv", "a") as file:
        file.write("meta,1,acorn\n")
    with pytest.raises(UserError, match="a line that is not a result"):
        open_results(tmp_path, {"a": 1})


def test_a_row_that_was_not_written_whole_is_measured_again(study, starts, tmp_path):
    study = dataclasses.replace(study, steps={1: 1}, draws=1)
    _run(study, starts, tmp_path)
    table = tmp_path / "results.csv"
    whole = table.read_bytes()
    first = whole.index(b"\n") + 1
    for end in (first + 4, len(whole) - 1, len(whole)):
        table.write_bytes(whole[:end])
        complete = whole[:end].count(b"\n") - 1
        assert len(open_results(tmp_path, {"a": 1})) == complete
        assert len(_run(study, starts, tmp_path)) == 4
        assert len(open_results(tmp_path, {"a": 1})) == 4


def test_an_adaptation_that_diverges_is_marked_and_the_others_are_kept(
    study, starts, tmp_path
):
    study = dataclasses.replace(study, steps={1: 1, 5: 3})
    starts = {"meta": starts["meta"], "random": (starts["random"][0], 1e30)}
    rows = _run(study, starts, tmp_path)
    diverged = {row.key[:2] for row in rows if np.isnan(row.iou)}
    assert ("random", 5) in diverged
    assert not diverged & {("meta", 1), ("meta", 5)}
    table = write_report(tmp_path, rows)
    last = table.splitlines()[-1]
    assert last.startswith("| 5 | ") and last.endswith(" | diverged |")
    again = {row.key: row.iou for row in _run(study, starts, tmp_path)}
    assert {key for key, iou in again.items() if np.isnan(iou)} == {
        row.key for row in rows if np.isnan(row.iou)
    }


def test_initializations_are_of_one_network():
    run = RunConfig(
        DataConfig(),
        ModelConfig(image_size=32, backbone="EfficientNetLite0", weights="imagenet"),
        LearnerConfig(inner_learning_rate=0.02),
    )
    network = build_network(run.model)
    checkpoint = Checkpoint(network, network.weights(), run)
    config = FpkConfig(baseline_learning_rate=0.3)
    starts = initializations(GradientModel("x", checkpoint), config)
    assert list(starts) == ["meta", "imagenet", "random"]
    assert [rate for _, rate in starts.values()] == [None, 0.3, 0.3]
    first = {n: m.checkpoint.weights.theta[0] for n, (m, _) in starts.items()}
    # The network above holds ImageNet's encoder too.
    np.testing.assert_array_equal(first["imagenet"], first["meta"])
    assert not np.allclose(first["random"], first["meta"])
    with pytest.raises(UserError, match="no imagenet initialization of it"):
        weights = checkpoint.weights._replace(theta=())
        other = GradientModel("x", checkpoint._replace(weights=weights))
        initializations(other, config)


def test_every_k_is_checked_before_the_first_adaptation(study):
    study.check()
    counts = [study.manifest.classes[name].count for name in study.classes]
    ks = {1: 1, min(counts) - 2: 1, max(counts): 1}
    sentences = [
        f"{name} serves k up to {count - 3}, not "
        + ", ".join(str(k) for k in ks if k > count - 3)
        for name, count in zip(study.classes, counts, strict=True)
    ]
    with pytest.raises(UserError, match="with 3 test examples " + "; ".join(sentences)):
        dataclasses.replace(study, steps=ks).check()
    with pytest.raises(UserError, match="has no class 'dragon'"):
        dataclasses.replace(study, classes=("dragon",)).check()


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        ({"ks": "1,400"}, {1: 1, 400: 200}),
        ({"ks": "3,7", "steps": "auto"}, {3: 0, 7: 0}),
        ({"ks": "3,7", "steps": "4, 9"}, {3: 4, 7: 9}),
    ],
)
def test_steps_of_each_k(values, steps):
    assert FpkConfig(**values).steps_of == steps


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ks": "1,x"}, "`ks` must be positive whole numbers"),
        ({"ks": "1,7"}, "`steps`=paper knows .* received `ks` with 7"),
        ({"steps": "3,4"}, "one number for each of the 7 `ks`, received 2"),
        ({"initializations": "meta,voc"}, "received 'voc'"),
        ({"draws": 0}, "`draws` must be at least 1"),
        ({"baseline_learning_rate": -1.0}, "must be at least 0"),
    ],
)
def test_bad_settings_are_named(values, message):
    with pytest.raises(UserError, match=message):
        FpkConfig(**values)
