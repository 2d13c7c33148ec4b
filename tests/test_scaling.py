"""The job files are what schedulers read, and the simulation what it says it is."""

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from benchmarks.scaling import simulated
from efficientlab_tf.config import TrainConfig
from efficientlab_tf.training.devices import Place, place

EXAMPLES = Path(__file__).parents[1] / "examples"


def shown(folder: Path, command: list[str], **variables) -> tuple[str, list[str]]:
    """Runs a command; returns TF_CONFIG and the arguments that `python` was given."""
    scripts = {
        "python": 'printf "%s\\n" "$TF_CONFIG" "$@" > shown',
        "scontrol": "printf 'a1\\na2\\n'",
        "srun": 'exec "$@"',
    }
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    subprocess.run(
        command, cwd=folder, check=True, env={**os.environ, "PATH": path, **variables}
    )
    text = (folder / "shown").read_text()
    config, arguments = text.split("\n-m\n")
    return config, arguments.split()


def test_slurm(tmp_path, monkeypatch):
    variables = {"SLURM_JOB_NODELIST": "a[1-2]", "SLURM_PROCID": "1"}
    script = ["bash", str(EXAMPLES / "train.sbatch")]
    config, (module, *given) = shown(tmp_path, script, **variables)
    assert json.loads(config)["cluster"] == {"worker": ["a1:2222", "a2:2222"]}
    monkeypatch.setenv("TF_CONFIG", config)
    assert place(TrainConfig(strategy="multi_worker")) == Place(2, 1)
    assert module == "efficientlab_tf.train"
    assert "--strategy=multi_worker" in given


def test_kubernetes(tmp_path, monkeypatch):
    service, job = yaml.safe_load_all((EXAMPLES / "train_job.yaml").read_text())
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 2
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    (container,) = pod["containers"]
    command = [*container["command"], *container["args"]]
    config, (_, *given) = shown(tmp_path, command, JOB_COMPLETION_INDEX="0")
    monkeypatch.setenv("TF_CONFIG", config)
    assert place(TrainConfig(strategy="multi_worker")) == Place(2, 0)
    assert "--strategy=multi_worker" in given


@pytest.mark.parametrize("count", [1, 4, 16])
def test_the_simulation(count):
    options = SimpleNamespace(gbits=1.0, latency_us=50.0)
    rng = np.random.default_rng(0)
    seconds = simulated(np.array([0.5]), 0.1, 10**6, 16, count, options, rng)
    ring = 2 * (count - 1) / count * 32e6 / 1e9 + 2 * (count - 1) * 50e-6
    assert seconds == pytest.approx(0.5 * 16 / count + 0.1 + ring)
    slower = simulated(np.array([0.4, 0.6]), 0.1, 10**6, 16, count, options, rng)
    # The slowest of several decides.
    assert slower > seconds if count > 1 else abs(slower - seconds) < 0.1
