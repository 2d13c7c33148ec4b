import importlib.util
import re

import numpy as np
import pytest

from benchmarks import against_learn2learn, comparison, second_order
from benchmarks.probe import Probe, Spent, Started, Step
from benchmarks.second_order import main
from efficientlab_tf.errors import UserError

TINY = "--network meta_drn --width 0.03 --image_size 16 --unrolled_size 16".split()
TINY += "--learn2learn_size 16 --shots 2 --queries 1 --inner_steps 1,2,3".split()


def test_memory_of_a_step_in_a_process_of_its_own():
    specification = {
        "step": "meta_step",
        "network": ["meta_drn", {"image_size": 16, "width": 0.03}],
        "learner": {"learner": "maml", "inner_batch": 0, "inner_steps": 2},
        "shots": 2,
        "queries": 1,
    }
    with Probe("tensorflow_probe", specification) as probe:
        started, step = probe.started, probe.step()
    # TensorFlow alone takes hundreds of megabytes.
    assert 2e8 < started.before <= started.peak <= step.peak < 2e9
    for clock in range(2):
        build = started.trace[clock] + started.first[clock]
        assert 0 < step.spent[clock] < build
    assert started.facts["nodes"] > 1000


def test_the_unrolled_tape_gives_the_same_gradient(capsys):
    assert main([*TINY, "--parts", "unrolled", "--repeats", "1"]) == 0
    output = capsys.readouterr().out
    assert float(re.search(r"gradients differ by (\S+) relative", output)[1]) < 1e-4
    for name in ("ours", "an unrolled tape"):
        row = re.search(rf"{name}" + r" +(\S+) s" * 4 + r" +(\S+) GiB\n", output)
        assert all(float(figure) > 0 for figure in row.groups())


class _FakeProbe:
    """Answers at once, with figures that follow from the inner loop it was told."""

    def __init__(self, module, specification):
        learner = specification["learner"]
        assert specification["step"] == "meta_step"
        assert learner["learner"] == "maml" and learner["inner_batch"] == 0
        self.k, self.exact = learner["inner_steps"], not learner.get("first_order")
        peak = (20 + self.k) * 2**30
        trace, first = Spent(10.0 * self.k, 9.0 * self.k), Spent(5.0, 4.0)
        self.started = Started(trace, first, 2**30, peak, {"nodes": 7 * self.k})

    def step(self):
        return Step(Spent(6.0, 3.0) if self.exact else Spent(4.0, 1.0), 0)

    __enter__ = lambda self: self  # noqa: E731
    __exit__ = lambda self, *_: None  # noqa: E731


def test_tables(capsys, monkeypatch):
    monkeypatch.setattr(second_order, "Probe", _FakeProbe)
    assert main([*TINY, "--parts", "memory,ratio,build"]) == 0
    memory, ratio, build = re.split("\n(?=ratio|build)", capsys.readouterr().out)
    assert re.findall(r"  (\d) +1.00 GiB +(\S+) GiB", memory) == [
        *(("1", "21.00"), ("2", "22.00"), ("3", "23.00"))
    ]
    assert "K=3 over K=1: 1.095 (target: at most 1.15)" in memory
    assert "K=2, Meta-DRN, width 0.03, 16x16, 2 shots, 1 queries" in ratio
    assert re.search(r"derivatives +6.00 s +3.00 s\n.*MAML +4.00 s +1.00 s\n", ratio)
    assert "pairs: 1.50 (target: at most 4), of CPU time 3.00" in ratio
    # Tracing and the first step, less the later one.
    assert re.findall(r"  (\d) +(\S+) s +(\S+) s +(\d+)", build) == [
        *(("1", "9.0", "10.0", "7"), ("3", "29.0", "28.0", "21"))
    ]
    assert "pairs: 3.222 (target: at most 1.2), of CPU time 2.800" in build


def test_steps_are_taken_in_turns_and_ratios_within_pairs():
    order = []

    class Side:
        def __init__(self, *seconds):
            self.seconds = list(seconds)

        def step(self):
            order.append(self)
            wall = self.seconds.pop(0)
            return Step(Spent(wall, wall / 2), 0)

    one, other = Side(2.0, 8.0, 9.0), Side(1.0, 2.0, 3.0)
    pairs = comparison.in_turns(one, other, 3, "")
    assert order == [one, other] * 3
    assert comparison.medians(pairs) == ((8.0, 4.0), (2.0, 1.0), (3.0, 3.0))


def test_difference(tmp_path):
    one, other = tmp_path / "one.npz", tmp_path / "other.npz"
    np.savez(one, **{"gradient/a": np.ones([2, 2]), "gradient/b": np.full(5, 2.0)})
    np.savez(
        other,
        **{"gradient/a": np.ones([2, 2]), "gradient/b": np.full(5, 1.0), "more": 1},
    )
    assert comparison.difference(one, other) == pytest.approx(5**0.5 / 9**0.5)
    assert comparison.difference(one, other, norm=np.inf) == pytest.approx(1.0)
    with pytest.raises(RuntimeError, match="same more"):
        comparison.difference(one, other, key="more")


def test_an_error_of_the_measured_process_arrives():
    network = ["meta_drn", {"image_size": 18}]
    specification = {"step": "gradient", "network": network, "learner": {}}
    with pytest.raises(UserError, match="multiple of 4, received 18"):
        Probe("tensorflow_probe", {**specification, "shots": 1, "queries": 1})


def test_a_measured_process_that_ends_is_an_error():
    # A module that answers nothing.
    with pytest.raises(RuntimeError, match="ended with status 0"):
        Probe("tasks", {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts", "memory,speed"], "received 'speed'"),
        (["--inner_steps", "1,5"], "three numbers from 1"),
        (["--inner_steps", "1,5,0"], "three numbers from 1"),
        (["--repeats", "0"], "--repeats: expected at least 1; received 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(UserError, match=re.escape(message)):
        main(arguments)


@pytest.mark.parametrize("missing", ["torch", "learn2learn"])
def test_missing_packages_are_named_before_anything_runs(monkeypatch, missing):
    monkeypatch.setattr(
        against_learn2learn.importlib.util,
        "find_spec",
        lambda name: None if name == missing else object(),
    )
    monkeypatch.setattr(second_order, "Probe", None)
    with pytest.raises(UserError, match=rf"{missing} not found.*\.\[bench\]"):
        main([*TINY, "--parts", "memory,learn2learn"])


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "learn2learn")),
    reason='needs torch and learn2learn: pip install ".[bench]"',
)
def test_learn2learn_gives_the_same_gradient(capsys):
    assert main([*TINY, "--parts", "learn2learn", "--repeats", "1"]) == 0
    found = r"differences: (\S+) of the gradients, (\S+) of the logits"
    rows = re.findall(found, capsys.readouterr().out)
    assert len(rows) == 2
    for gradients, logits in rows:
        assert float(gradients) < 1e-4
        assert float(logits) < 1e-4
