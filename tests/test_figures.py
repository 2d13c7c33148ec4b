"""The sheets and the timing that papers' figures and tables are made from."""

import functools
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import RunConfig, build_network
from efficientlab_tf.config import DataConfig, LearnerConfig, ModelConfig
from efficientlab_tf.data.episode_augment import EpisodeAugment
from efficientlab_tf.errors import UserError
from efficientlab_tf.training.summaries import Summaries
from tests.data.test_episodes import shared_dataset
from tools import figure
from tools.figure import VALIDATION, brightest, compared, main


def saved(path, network="meta_drn", dataset_dir="", **learner):
    config = RunConfig(
        DataConfig(dataset_dir=dataset_dir),
        ModelConfig(network=network, image_size=32),
        LearnerConfig(augment_rate=0.0, **learner),
    )
    built = build_network(config.model)
    save_keras(path, built, built.weights(), config)
    return str(path)


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """A model that several sheets are made with is loaded and compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure, "load", functools.cache(figure.load))
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("model") / "model.keras", inner_steps=1)


def size_of(path):
    with Image.open(path) as sheet:
        return sheet.size


def test_activations(model, tmp_path):
    output = tmp_path / "sheet.png"
    options = ["activations", f"--model={model}", "--dataset_dir=sample:icons"]
    options += ["--split=val", f"--output={output}"]
    assert main([*options, "--count=2"]) == 0
    small = size_of(output)
    assert main([*options, "--count=1", "--layers=head2_relu,logits"]) == 0
    narrow = size_of(output)
    assert narrow[0] < small[0] and narrow[1] < small[1]
    with pytest.raises(UserError, match="no layer nothing; --layers of: images"):
        main([*options, "--layers=nothing"])


def test_tasks_show_each_change_of_an_episode(tmp_path):
    output = tmp_path / "sheet.png"
    options = ["tasks", "--dataset_dir=sample:icons", "--split=train"]
    assert main([*options, f"--output={output}"]) == 0
    with Image.open(output) as sheet:
        rows = np.array_split(np.asarray(sheet)[20:], 1 + len(EpisodeAugment._fields))
    assert min(len(row) for row in rows) > 100
    for row in rows[1:]:
        assert np.mean(rows[0][:100] != row[:100]) > 0.05
    with pytest.raises(UserError, match="tasks needs --dataset_dir"):
        main(["tasks", f"--output={output}"])


def test_a_map_that_is_the_same_everywhere_is_not_the_brightest():
    ramp = np.linspace(-2, -1, 12, dtype=np.float32).reshape(3, 4)
    shown = brightest(np.stack([np.zeros_like(ramp), ramp], -1))
    assert shown.min() == 0 and shown.max() == 255
    assert not brightest(np.zeros((3, 4, 2), np.float32)).any()


def test_shots_and_conditioning(model, tmp_path):
    output = tmp_path / "sheet.png"
    options = [f"--model={model}", f"--output={output}", "--count=2"]
    icons = ["--dataset_dir=sample:icons", "--split=val"]
    assert main(["shots", *options, *icons, "--shots=1,2"]) == 0
    assert size_of(output)[0] > 200
    (tmp_path / "data").mkdir()
    shared_dataset(tmp_path / "data")
    shared = [f"--dataset_dir={tmp_path / 'data'}", "--split=train"]
    assert main(["conditioning", *options, *shared]) == 0
    assert size_of(output)[0] > 400
    with pytest.raises(UserError, match="shows two classes, as the query must"):
        main(["conditioning", *options, *icons])


def test_curve_of_runs(tmp_path, capsys):
    for name, values in (("a", (0.25, 0.5)), ("b", (0.125, 0.75))):
        summaries = Summaries(tmp_path / name / "logs", None)
        for step, value in zip((10, 20), values, strict=True):
            summaries.scalars({VALIDATION: value, "train/loss": 1.0}, step)
        summaries.flush()
    runs = f"--runs=imagenet={tmp_path / 'a'},random={tmp_path / 'b'}"
    output = tmp_path / "curve.png"
    assert main(["curve", runs, f"--output={output}"]) == 0
    out = capsys.readouterr().out
    assert "imagenet: 10: 25.0 %, 20: 50.0 %\nrandom: 10: 12.5 %, 20: 75.0 %\n" in out
    assert size_of(output)[0] > 200
    for text, message in (
        (str(tmp_path / "a"), "must be LABEL=FOLDER joined by commas"),
        (f"a={tmp_path}", "has no logs of a validation"),
    ):
        with pytest.raises(UserError, match=message):
            main(["curve", f"--runs={text}", f"--output={output}"])
    with pytest.raises(UserError, match="shots needs --model and --dataset_dir"):
        main(["shots", f"--output={output}"])


def test_colours_of_a_comparison():
    image = np.full((1, 4, 3), 100, np.uint8)
    truth = np.array([[0, 1, 0, 1]], np.uint8)
    found = np.array([[0, 0, 1, 1]], np.uint8)
    shown = compared(image, truth, found)[0].tolist()
    assert shown == [[100, 100, 100], [50, 177, 50], [177, 50, 50], [177, 177, 50]]


def test_minutes_of_an_epoch(tmp_path):
    flags = tmp_path / "run.flags"
    lines = ["--network=meta_drn", "--image_size=32", "--shots=1"]
    lines += ["--queries=1", "--meta_batch=2", "--inner_batch=0", "--inner_steps=2"]
    flags.write_text("\n".join(lines) + "\n")
    # In a process of its own, as it defines the flags of a training.
    command = [sys.executable, "tools/benchmark.py", "epoch", str(flags)]
    command += ["--classes=9", "--repeats=1", "--meta_steps=7"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    said = run.stdout
    assert "meta_drn with " in said
    assert "an epoch of 9 classes, 5 meta-steps" in said
    assert "all 7 meta-steps" in said
