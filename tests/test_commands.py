"""The commands as a user types them, each in a process of its own."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import RunConfig, build_network
from efficientlab_tf.config import EvalConfig, LearnerConfig, ModelConfig
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.training.loop import check
from tests.forked import run_forked

ROOT = Path(__file__).parent.parent
MODEL = [
    *("--dataset_dir=sample:icons", "--image_size=32"),
    *("--network=meta_drn", "--width=0.05"),
    *("--inner_steps=2", "--inner_batch=0", "--meta_batch=1", "--cache_gb=0.1"),
    *("--augment_rate=0", "--val_episodes=2", "--save_every=2"),
]


def _start(command: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", f"efficientlab_tf.{command}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.fixture(scope="module")
def splits(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("splits")
    manifest = Manifest.load("sample:icons")
    parts = []
    for split, count in (("train", 3), ("val", 2), ("test", 3)):
        path = folder / f"{split}.txt"
        path.write_text("\n".join(manifest.split(split)[:count]) + "\n")
        parts.append(f"{split}={path}")
    return "--splits=" + ",".join(parts)


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory, splits) -> tuple[Path, int, str]:
    """A training that got SIGTERM after its first checkpoint."""
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    process = _start(
        "train",
        *MODEL,
        splits,
        f"--run_dir={run_dir}",
        "--meta_steps=100000",
        "--validate_every=100000",
    )
    deadline = time.monotonic() + 300
    while not list(run_dir.glob("checkpoints/ckpt-*.index")):
        assert process.poll() is None, process.communicate()[1][-2000:]
        assert time.monotonic() < deadline, "no checkpoint within 300 s"
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    return run_dir, process.returncode, out


def test_sigterm_saves_and_exits_with_zero(stopped_run):
    run_dir, status, out = stopped_run
    assert status == 0
    assert f"resume with: python -m efficientlab_tf.train --run_dir={run_dir}" in out
    assert (run_dir / "model.keras").is_file()


def test_resume_then_evaluate(stopped_run, tmp_path):
    run_dir, _, _ = stopped_run
    newest = max(
        int(path.stem.split("-")[1])
        for path in run_dir.glob("checkpoints/ckpt-*.index")
    )
    folder = tmp_path / "resumed"
    folder.mkdir()
    status, out, err = run_forked(
        folder,
        *("train", f"--run_dir={run_dir}", "--resume"),
        f"--meta_steps={newest + 2}",
    )
    assert status == 0, err[-2000:]
    assert f"finished {newest + 2} meta-steps" in out
    status, out, err = run_forked(
        tmp_path,
        *("evaluate", f"--model_path={run_dir}", f"--output_dir={tmp_path}"),
        *("--splits_per_task=1", "--batch_norm=support"),
    )
    assert status == 0, err[-2000:]
    # Old spellings go on working, and say the new ones.
    assert "note: --model_path is called --model now" in err
    assert "per-image IoU" in out and "3 tasks" in out
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["protocol"]["batch_norm"] == "support"
    assert summary["metrics"]["tasks"] == 3
    assert 0 <= summary["metrics"]["per_image_iou"]["mean"] <= 1
    assert len((tmp_path / "per_class.csv").read_text().splitlines()) == 4
    with Image.open(tmp_path / "predictions.png") as picture:
        assert np.asarray(picture).std() > 10


def test_saved_flags_are_a_flagfile(stopped_run, tmp_path):
    run_dir, _, _ = stopped_run
    status, _, err = run_forked(
        tmp_path,
        *("train", f"--flagfile={run_dir / 'run.flags'}", "--dataset_dir=nowhere"),
        f"--run_dir={tmp_path / 'new'}",
    )
    assert status == 2
    assert err.splitlines()[-1].startswith("error: no dataset folder nowhere")


def test_resume_refuses_another_network(stopped_run, tmp_path):
    run_dir, _, _ = stopped_run
    status, _, err = run_forked(
        tmp_path, "train", f"--run_dir={run_dir}", "--resume", "--width=0.5"
    )
    assert status == 2
    assert "--width=0.5 differs from the run's 0.05" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("train", ["--no_such_flag=1"], "Unknown command line flag 'no_such_flag'"),
        ("train", ["--meta_steps=many"], "meta_steps"),
        ("train", ["--image_size=100"], "--image_size must be a multiple"),
        ("train", ["stray"], "unexpected argument 'stray'"),
        ("train", ["--flagfile=nowhere.flags"], "nowhere.flags"),
        ("train", ["--resume"], "--resume needs --run_dir"),
        ("evaluate", [], "--model is needed"),
        (
            "evaluate",
            ["--model=nowhere"],
            "no model 'nowhere'; expected a run's folder",
        ),
        ("evaluate", ["--model_path=a/b"], "no such run folder or .keras file"),
        (
            "evaluate",
            ["--model=icons_fomaml_lite0", "--output=/proc/x"],
            "cannot write to /proc/x: ",
        ),
        ("train", ["--seed=-1"], "--seed must be at least 0, received -1"),
        ("train", ["--width=inf"], "--width must be a number, received inf"),
    ],
)
def test_bad_command_lines_say_what_to_do(command, arguments, message, tmp_path):
    status, _, err = run_forked(tmp_path, command, *arguments)
    assert status != 0
    assert message in err
    assert "Traceback" not in err


def test_learned_rates_leave_no_learning_rate_to_choose(tmp_path):
    config = RunConfig(
        model=ModelConfig(image_size=32, backbone="EfficientNetLite0"),
        learner=LearnerConfig(learner="meta_sgd"),
    )
    network = build_network(config.model)
    path = tmp_path / "model.keras"
    weights = network.weights()
    save_keras(path, network, weights._replace(rates=weights.theta), config)
    status, _, err = run_forked(
        tmp_path, "evaluate", f"--model_path={path}", "--inner_learning_rate=0.1"
    )
    assert status == 2
    assert "--learning_rate has no effect" in err.splitlines()[-1]


def test_help_lists_the_flags(tmp_path):
    _, out, _ = run_forked(tmp_path, "train", "--help")
    assert "--inner_learning_rate" in out and "--[no]resume" in out


@pytest.mark.parametrize("path", sorted((ROOT / "flags").glob("*.flags")), ids=str)
def test_every_flagfile_is_understood_and_explained(path):
    lines = path.read_text().splitlines()
    # The command of the first line gives flags, too.
    _, python, _, module, flagfile, *more = lines[0].split()
    assert (python, flagfile) == ("python", f"--flagfile=flags/{path.name}")
    given = [*(line for line in lines if line.startswith("--")), *more]
    values = dict(flag.removeprefix("--").split("=", 1) for flag in given)
    groups = {}
    for group in dataclasses.fields(RunConfig):
        known = {field.name: field.type for field in dataclasses.fields(group.type)}
        groups[group.name] = group.type(
            **{n: _typed(known[n], values.pop(n)) for n in known if n in values}
        )
    assert values.keys() <= {field.name for field in dataclasses.fields(EvalConfig)}
    if module == "efficientlab_tf.train":
        check(RunConfig(**groups))


def _typed(kind, value):
    return value.lower() in ("true", "1") if kind is bool else kind(value)


def test_environment_is_not_needed():
    # A fresh process without PYTHONPATH finds the installed package.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    code = "import efficientlab_tf; print(efficientlab_tf.__version__)"
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, cwd="/"
    )
    assert run.returncode == 0
