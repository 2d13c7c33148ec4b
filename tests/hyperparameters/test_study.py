"""Searches that are shared, killed and gone on with; nothing here needs a network."""

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("optuna", reason="Optuna is not installed")

from optuna.trial import TrialState  # noqa: E402

from efficientlab_tf.errors import UserError  # noqa: E402
from efficientlab_tf.hyperparameters import study, uho  # noqa: E402
from efficientlab_tf.hyperparameters.uho import AUGMENT, RATE, STEPS  # noqa: E402
from tests.hyperparameters.analytic_worker import (  # noqa: E402
    PLAN,
    SETTINGS,
    run,
    score,
)

ROOT = Path(__file__).parents[2]
FIRST = dataclasses.replace(PLAN, rounds=1)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """A killed trial is given up after a second or two."""
    monkeypatch.setattr(study, "PATIENCE", 1)
    monkeypatch.setattr(study, "_POLL", 0.1)


def _start(folder: Path, *options: str) -> subprocess.Popen:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.hyperparameters.analytic_worker"),
            *(str(folder), *options),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The results of a search by one worker that nobody stopped."""
    results, slots = run(tmp_path_factory.mktemp("undisturbed"))
    assert slots == list(range(PLAN.trials))
    return results


def test_a_search_is_algorithm_1_with_algorithm_2(undisturbed):
    low = {RATE: 1e-4, AUGMENT: 0.0, STEPS: 1}
    high = {RATE: 1.0, AUGMENT: 1.0, STEPS: 50}
    losses, parameters = [], []
    for _ in range(3):
        for _ in range(5):
            rng = np.random.default_rng([1, len(losses)])
            augment = rng.uniform(low[AUGMENT], high[AUGMENT])
            rate = math.exp(rng.uniform(math.log(low[RATE]), math.log(high[RATE])))
            steps, value = score(rate, augment, low[STEPS], high[STEPS])
            losses.append(-value)
            parameters.append({RATE: rate, AUGMENT: augment, STEPS: steps})
        best = np.argsort(losses)[: len(losses) * 2 // 5]
        for name in low:
            low[name] = min(parameters[i][name] for i in best)
            high[name] = max(parameters[i][name] for i in best)
    assert [result.values for result in undisturbed] == parameters
    assert [-result.score for result in undisturbed] == losses
    assert [result.slot for result in undisturbed] == list(range(15))
    assert all(result.curve == (result.score,) for result in undisturbed)
    # This search does narrow: its last round spans less than a tenth of the first.
    assert high[RATE] / low[RATE] < 0.1 * 1e4
    assert 0.003 < parameters[np.argmin(losses)][RATE] < 0.03


def test_the_seed_decides_the_search(undisturbed, tmp_path):
    other, _ = run(tmp_path, dataclasses.replace(FIRST, seed=2))
    assert all(a.values != b.values for a, b in zip(other, undisturbed, strict=False))


def test_two_workers_share_a_search_and_run_nothing_twice(undisturbed, tmp_path):
    study.open_study(tmp_path, SETTINGS)
    workers = [_start(tmp_path, "--seconds=0.3") for _ in range(2)]
    ran = [worker.communicate(timeout=100)[0].split() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert all(ran)
    assert sorted(map(int, ran[0] + ran[1])) == list(range(PLAN.trials))
    assert run(tmp_path) == (undisturbed, [])


def test_a_killed_search_is_gone_on_with(undisturbed, tmp_path):
    worker = _start(tmp_path, "--hang=6")
    for line in worker.stdout:
        if line == "6\n":
            break
    worker.kill()
    worker.wait()
    worker.stdout.close()
    results, slots = run(tmp_path)
    # The rest of the round meanwhile; nothing that was finished.
    assert sorted(slots) == list(range(6, PLAN.trials))
    assert results == undisturbed


def test_a_trial_that_never_gave_a_sign_of_life_is_run_again(undisturbed, tmp_path):
    killed = study.open_study(tmp_path, SETTINGS)
    killed.enqueue_trial({}, {"slot": 0})
    with pytest.warns(UserWarning, match="Heartbeat"):
        killed.ask()
    results, slots = run(tmp_path, FIRST)
    assert sorted(slots) == [0, 1, 2, 3, 4] and results == undisturbed[:5]


def test_a_trial_that_was_given_up_too_early_counts_once(undisturbed, tmp_path):
    others = study.open_study(tmp_path, SETTINGS)
    given_up = []

    def before(slot):
        if slot in (2, 4) and slot not in given_up:
            given_up.append(slot)
            (trial,) = others.get_trials(states=(TrialState.RUNNING,))
            others.tell(trial.number, state=TrialState.FAIL)

    results, slots = run(tmp_path, FIRST, before)
    assert sorted(slots) == [0, 1, 2, 2, 3, 4, 4] and results == undisturbed[:5]


def test_what_is_queued_twice_or_taken_by_others_is_not_run(
    undisturbed, tmp_path, monkeypatch
):
    queue = study.open_study(tmp_path, SETTINGS)
    for slot in (0, 1, 0):
        values = uho.sample(FIRST.space, (FIRST.seed, slot))
        queue.enqueue_trial(values, {"slot": slot})
    fill = study._fill_queue
    # First as if others had been quicker and left the queue empty.
    calls = iter([lambda *arguments: 0])
    monkeypatch.setattr(
        study, "_fill_queue", lambda *arguments: next(calls, fill)(*arguments)
    )
    results, slots = run(tmp_path, FIRST)
    assert sorted(slots) == [0, 1, 2, 3, 4] and results == undisturbed[:5]


@pytest.mark.parametrize("error", [ValueError, UserError, KeyboardInterrupt])
def test_an_error_ends_the_search_and_its_trial_is_run_again(
    undisturbed, tmp_path, error
):

    def before(slot):
        if slot == 3:
            raise error("bad")

    with pytest.raises(error, match="bad"):
        run(tmp_path, FIRST, before)
    results, slots = run(tmp_path, FIRST)
    assert sorted(slots) == [3, 4] and results == undisturbed[:5]


def test_a_search_may_be_made_longer_and_shorter(undisturbed, tmp_path):
    longer = dataclasses.replace(PLAN, rounds=2)
    assert run(tmp_path, FIRST)[0] == undisturbed[:5]
    told = []
    results, slots = run(tmp_path, longer, on_result=told.append)
    assert (results, slots, told) == (undisturbed[:10], [5, 6, 7, 8, 9], results[5:])
    assert run(tmp_path, FIRST) == (undisturbed[:5], [])


def test_another_setting_is_refused(tmp_path):
    study.open_study(tmp_path, SETTINGS)
    other = {**SETTINGS, "shots": 1}
    message = "another search: shots was 5 and is 1; give the same settings"
    for url in ("", f"sqlite:///{tmp_path}/search.db"):
        with pytest.raises(UserError, match=message):
            study.open_study(tmp_path, other, url)
    study.open_study(tmp_path, SETTINGS)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path):
    (tmp_path / "search.db").write_text("not a database\nat all" * 100)
    with pytest.raises(UserError, match="search in .*search.db: file is not a databas"):
        study.open_study(tmp_path, SETTINGS)
    assert (tmp_path / "search.db").read_text() == "not a database\nat all" * 100


@pytest.mark.parametrize("url", ["nothing", "nothing://host/name", "mysql://h/name"])
def test_a_database_that_cannot_be_used_says_so(tmp_path, url):
    with pytest.raises(UserError, match="the database of `storage`: .*; give another"):
        study.open_study(tmp_path, SETTINGS, url)


def test_the_gaussian_process_says_what_it_needs(monkeypatch):
    study.check_sampler("random")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="needs PyTorch.*pip install torch"):
        study.check_sampler("gp")


def test_the_gaussian_process_closes_in_on_the_optimum(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    plan = dataclasses.replace(PLAN, rounds=1, samples=14)
    results, slots = run(tmp_path / "one", plan, gp=True)
    assert slots == list(range(14))
    startup = uho.ranking(results[:7])[0]
    assert uho.ranking(results)[0].score > max(0.9, startup.score)
    assert run(tmp_path / "two", plan, gp=True)[0] == results
