"""Tuning as a user types it: the space, the search, and who uses what it found."""

import csv
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.loading import load_model

pytest.importorskip("optuna", reason="Optuna is not installed")

from efficientlab_tf.api.networks import GradientModel
from efficientlab_tf.checkpoint.files import (
    Checkpoint,
    save_keras,
)
from efficientlab_tf.config import (
    DataConfig,
    TuneConfig,
)
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.errors import UserError
from efficientlab_tf.hyperparameters.search import (
    Job,
    Search,
    load_tunable,
    search_space,
)
from efficientlab_tf.hyperparameters.uho import Range
from efficientlab_tf.models import build_model
from efficientlab_tf.segmenters.network import Network, Weights
from tests.hyperparameters.tunable import RUN, untuned_network, write_model
from tests.models.narrow import NARROW

ROOT = Path(__file__).parents[2]


def _job(model: Path, output_dir: Path, splits: str = "", **options) -> Job:
    return Job(
        str(model),
        str(output_dir),
        dataclasses.replace(RUN.data, splits=splits),
        0,
        "support",
        "off",
        TuneConfig(**{"tasks": 2, "samples": 2, "max_steps": 4, **options}),
    )


def test_ranges_are_around_the_trainings_rate_unless_given():
    weights = Weights((), ())
    space = search_space(TuneConfig(min_steps=2, max_steps=9), RUN, weights)
    assert space == {
        "inner_learning_rate": Range(0.005, 0.5, log=True),
        "inner_steps": Range(2, 9, integer=True),
    }
    learned = search_space(TuneConfig(), RUN, Weights((), (), (1.0,)))
    assert learned["rates_factor"] == Range(0.1, 10.0, log=True)
    assert "inner_learning_rate" not in learned
    space = search_space(
        TuneConfig(
            learning_rate_range="0.1,0.2",
            dropout_range="0,0.5",
            augment_range="0.5,1",
            inner_batch_range="1,8",
        ),
        RUN,
        weights,
    )
    assert space == {
        "inner_learning_rate": Range(0.1, 0.2, log=True),
        "inner_batch": Range(1, 8, log=True, integer=True),
        "augment_rate": Range(0.5, 1.0),
        "final_dropout": Range(0.0, 0.5),
        "inner_steps": Range(1, 60, integer=True),
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 0.0}, "`keep` must be above 0"),
        ({"keep": 1.0}, "`keep` must be below 1"),
        ({"samples": 1}, "`samples` must be at least 2"),
        ({"rounds": 0}, "`rounds` must be at least 1"),
        (
            {"min_steps": 5, "max_steps": 4},
            "`max_steps` must be .* `min_steps` = 5",
        ),
        ({"tasks": 0}, "`tasks` must be at least 1"),
        ({"seed": -1}, "`seed` must be at least 0"),
        ({"learning_rate_range": "0.5,0.1"}, "`learning_rate_range`.*give 0.1,0.5"),
        ({"learning_rate_range": "0,0.1"}, "`learning_rate_range`: expected positive"),
        ({"dropout_range": "0,1"}, "`dropout_range`: expected numbers from 0"),
        ({"augment_range": "0.2,1.2"}, "`augment_range`: expected numbers from 0 to 1"),
        ({"inner_batch_range": "0,4"}, "`inner_batch_range`: expected whole numbers"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        search_space(TuneConfig(**options), RUN, Weights((), ()))


def _model() -> GradientModel:
    network = untuned_network()
    return GradientModel("tiny", Checkpoint(network, network.weights(), RUN))


def test_bad_data_are_refused(tmp_path):
    model = _model()
    with pytest.raises(UserError, match="has no split 'nowhere'"):
        Search(_job(tmp_path, tmp_path, tune_split="test,nowhere"), model)
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    names = tmp_path / "names.txt"
    names.write_text("\n".join(Manifest.load("sample:icons").split("test")[:2]))
    splits = f"train={names},val={empty}"
    with pytest.raises(UserError, match="empty.txt names no class"):
        Search(_job(tmp_path, tmp_path, splits), model)
    job = _job(tmp_path, tmp_path, tune_split="test")
    many = dataclasses.replace(job, data=dataclasses.replace(job.data, shots=10))
    with pytest.raises(UserError, match="`shots` \\+ `queries` = 10 \\+ 1"):
        Search(many, model)
    nothing = dataclasses.replace(job, data=DataConfig())
    with pytest.raises(UserError, match="`dataset_dir` is needed"):
        Search(nothing, model)
    forward = Network(build_model("siamese", **NARROW))
    save_keras(tmp_path / "forward.keras", forward, forward.weights(), RUN)
    with pytest.raises(UserError, match="forward.keras has no inner loop to tune"):
        load_tunable(str(tmp_path / "forward.keras"))


def test_an_output_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    job = _job(tmp_path, tmp_path / "file" / "out", tune_split="test")
    with pytest.raises(UserError, match="Not a directory.*another `output`"):
        Search(job, _model())


def test_learned_rates_are_tuned_by_a_factor(tmp_path):
    model = load_tunable(str(write_model(tmp_path, rates=True)))
    job = _job(tmp_path, tmp_path / "out", tune_split="test", rounds=1)
    search = Search(job, model)
    results = search.run_trials()
    assert len(results) == 2
    assert all(0.1 <= r.values["rates_factor"] <= 10 for r in results)
    assert 0 <= search.score_untuned().score <= 1


def _python(*arguments: str) -> str:
    run = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout


@pytest.fixture(scope="module")
def tuned_model(tmp_path_factory):
    """A model that two processes tuned: its path, the search's folder, the output."""
    folder = tmp_path_factory.mktemp("tuned")
    model, search = write_model(folder), folder / "search"
    out = _python(
        *("-m", "efficientlab_tf.tune", "--workers=2"),
        *(f"--model={model}", f"--output={search}", "--tune_split=test"),
        *("--tasks=3", "--rounds=2", "--samples=3", "--max_steps=6"),
        *("--batch_norm=support", "--seed=1"),
    )
    return model, search, out


def test_the_best_of_a_search_is_kept(tuned_model):
    model, search, out = tuned_model
    with open(search / "trials.csv", newline="") as file:
        untuned, *rows = csv.DictReader(file)
    assert [row["trial"] for row in rows] == [str(i + 1) for i in range(6)]
    assert [row["round"] for row in rows] == list("111222")
    for trial in range(1, 7):
        assert out.count(f"trial {trial}/6 (round {1 + (trial > 3)})") == 1
    best = max([untuned, *rows], key=lambda row: float(row["mean_iou"]))
    record = json.loads((search / "tuned.json").read_text())
    assert record["score"] == pytest.approx(float(best["mean_iou"]), abs=1e-6)
    assert record["trials"] == 6 and record["shots"] == 3 and record["tasks"] == 3
    _, _, run = load_model(str(model))
    for name in ("inner_learning_rate", "inner_steps"):
        assert record["values"][name] == pytest.approx(float(best[name]), rel=1e-4)
        assert getattr(run.learner, name) == record["values"][name]
    lines = [f"--{name}={value}" for name, value in record["values"].items()]
    assert (search / "tuned.flags").read_text().splitlines() == lines
    assert "kept with" in out and (search / "uho.png").stat().st_size > 5000
    logs = {path.name for path in (search / "logs").iterdir()}
    assert "untuned" in logs and len(logs) == 7
    # The ranges of the second round are those of the best two of the first.
    rates = [float(row["inner_learning_rate"]) for row in rows]
    scores = [float(row["mean_iou"]) for row in rows]
    kept = sorted(range(3), key=lambda i: -scores[i])[:2]
    low, high = sorted(rates[i] for i in kept)
    assert all(low * 0.999 <= rate <= high * 1.001 for rate in rates[3:])


def test_the_same_search_again_repeats_nothing_and_another_is_refused(
    tuned_model, capsys
):
    model, search, _ = tuned_model
    job = _job(
        *(model, search),
        **dict(tune_split="test", tasks=3, samples=3, max_steps=6, seed=1),
    )
    loaded = load_tunable(str(model))
    again = Search(job, loaded)
    record = json.loads((search / "tuned.json").read_text())
    assert again.score_untuned().score == record["untuned_score"]
    assert len(again.run_trials()) == 6
    assert not re.search("trial|untuned", capsys.readouterr().out)
    other = dataclasses.replace(job, batch_norm="running")
    message = "another search: batch_norm was 'support' and is 'running'; give"
    with pytest.raises(UserError, match=message):
        Search(other, loaded)


_EVALUATE = """
import sys
from absl.testing import flagsaver
from efficientlab_tf import evaluate, flags
evaluate.define_flags()
for line in sys.argv[1:]:
    with flagsaver.flagsaver():
        flags.FLAGS(["evaluate", *line.split()])
        print(f"== {line.split()[-1]}")
        evaluate.main()
"""


def test_evaluate_uses_the_tuned_values_unless_told_otherwise(tuned_model, tmp_path):
    model, search, _ = tuned_model
    record = json.loads((search / "tuned.json").read_text())
    names = {"inner_learning_rate": "learning_rate", "inner_steps": "steps"}
    values = {names[name]: value for name, value in record["values"].items()}
    classes = Manifest.load("sample:icons").split("test")[:2]
    (tmp_path / "names.txt").write_text("\n".join(classes))
    common = (
        f"--model={model} --splits_per_task=1 "
        f"--splits=test={tmp_path / 'names.txt'} --output={tmp_path}"
    )
    out = _python(
        *("-c", _EVALUATE, f"{common}/1"),
        *(f"--tuned=false {common}/2", f"--steps=1 {common}/3"),
    )
    used, ignored, overridden = out.split("== ")[1:]
    protocols = [
        json.loads((tmp_path / name / "summary.json").read_text())["protocol"]
        for name in "123"
    ]
    assert "tuned values are used" in used and "too good" in used
    assert {name: protocols[0][name] for name in values} == values
    assert protocols[0]["tuned"]
    assert "tuned values" not in ignored and not protocols[1]["tuned"]
    for name, setting in names.items():
        assert protocols[1][setting] == getattr(RUN.learner, name)
    assert "--steps overrides the tuned value" in overridden
    assert protocols[2] == {**protocols[0], "steps": 1}
