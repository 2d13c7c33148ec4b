"""Searches that are shared, killed and gone on with; nothing here needs a network."""

import dataclasses
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="Optuna is not installed")

from efficientlab_tf.errors import UserError  # noqa: E402
from efficientlab_tf.hyperparameters import liveness, uho  # noqa: E402
from efficientlab_tf.hyperparameters.journal import (  # noqa: E402
    Superseded,
    alone,
    check_sampler,
)
from efficientlab_tf.hyperparameters.liveness import (  # noqa: E402
    Liveness,
    this_process,
)
from tests.hyperparameters.analytic_worker import (  # noqa: E402
    PLAN,
    SETTINGS,
    open_journal,
    run_one,
)

ROOT = Path(__file__).parents[2]
ELSEWHERE = "another-machine:1:0.00"


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


def _run(folder: Path, plan=PLAN):
    journal = open_journal(folder, this_process(), plan=plan)
    slots = []
    while not journal.finished():
        slots.append(run_one(journal))
    return journal, slots


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The results of a search by one worker that nobody stopped."""
    journal, slots = _run(tmp_path_factory.mktemp("undisturbed"))
    assert slots == list(range(PLAN.trials))
    return journal.results()


def test_a_search_finds_the_neighbourhood_of_the_optimum(undisturbed):
    best = uho.ranking(undisturbed)[0]
    assert 0.005 < best.values[uho.RATE] < 0.02
    assert 6 <= best.values[uho.STEPS] <= 11
    for number in (1, 2):
        space = uho.space_of_round(
            PLAN.space, undisturbed, number, PLAN.samples, PLAN.keep
        )
        rates = [r.values[uho.RATE] for r in undisturbed[5 * number : 5 * number + 5]]
        assert space[uho.RATE].low <= min(rates) <= max(rates) <= space[uho.RATE].high
        assert space[uho.RATE].high / space[uho.RATE].low < 100


def test_the_seed_decides_the_search(undisturbed, tmp_path):
    again, _ = _run(tmp_path / "again")
    assert again.results() == undisturbed
    other, _ = _run(tmp_path / "other", dataclasses.replace(PLAN, seed=2))
    assert other.results() != undisturbed


def test_two_workers_share_a_journal_without_duplicates(undisturbed, tmp_path):
    workers = [_start(tmp_path, "--seconds=0.05") for _ in range(2)]
    claimed = [worker.communicate(timeout=100)[0].split("\n") for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    done = [int(line.split()[1]) for lines in claimed for line in lines if line]
    assert sorted(done) == list(range(PLAN.trials))
    results = open_journal(tmp_path, this_process()).results()
    assert results == undisturbed


def test_a_killed_workers_trial_is_run_again_and_no_finished_one(undisturbed, tmp_path):
    worker = _start(tmp_path, "--hang=6")
    for line in worker.stdout:
        if line == "claimed 6\n":
            break
    worker.kill()
    worker.wait()
    worker.stdout.close()
    assert len(list((tmp_path / "alive").iterdir())) == 1
    _, slots = _run(tmp_path)
    assert slots == list(range(6, PLAN.trials))
    assert not list((tmp_path / "alive").iterdir())
    assert open_journal(tmp_path, this_process()).results() == undisturbed


def test_a_round_waits_for_the_running_trials_before_it(tmp_path):
    journal = open_journal(tmp_path, this_process())
    first = journal.claim()
    other = open_journal(tmp_path, this_process())
    assert [run_one(other) for _ in range(5)] == [1, 2, 3, 4, None]
    journal.finish(first, 3, 0.5)
    assert run_one(other) == 5


def test_a_worker_elsewhere_is_given_up_after_a_while(tmp_path, monkeypatch):
    journal = open_journal(tmp_path, this_process())
    with Liveness(tmp_path / "alive", ELSEWHERE):
        lost = open_journal(tmp_path, ELSEWHERE)
        claim = lost.claim()
        assert claim.slot == 0
        assert run_one(journal) == 1
        now = liveness.time.monotonic()
        later = [now + 1000, now + 1001, now + 2000]
        monkeypatch.setattr(liveness.time, "monotonic", lambda: later[0])
        # Its sign of life has changed since it was last looked at: it is alive.
        liveness.os.utime(next((tmp_path / "alive").glob("another*")), (1, 1))
        assert run_one(journal) == 2
        later.pop(0)
        assert run_one(journal) == 3
        later.pop(0)
        assert run_one(journal) == 0
    # It was only slow: what it brings now is not counted a second time.
    with pytest.raises(Superseded):
        lost.report(claim, 1, 0.5)
    with pytest.raises(Superseded):
        lost.finish(claim, 1, 0.5)
    assert [result.slot for result in journal.results()] == [0, 1, 2, 3]


def test_a_process_that_is_gone_is_known_at_once(tmp_path):
    watcher = Liveness(tmp_path, this_process())
    machine, pid, started = this_process().rsplit(":", 2)
    assert machine == platform.node()
    assert not watcher.gone(this_process())
    # The same process id, but of a process that was started at another time.
    assert watcher.gone(f"{machine}:{pid}:{float(started) - 1000:.2f}")
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert watcher.gone(f"{machine}:{child.pid}:{started}")


def test_a_trial_given_up_is_free_again(tmp_path):
    journal = open_journal(tmp_path, this_process())
    claim = journal.claim()
    journal.give_up(claim)
    again = journal.claim()
    assert (again.slot, again.values) == (claim.slot, claim.values)


def test_a_search_may_be_made_longer(undisturbed, tmp_path):
    shorter = dataclasses.replace(PLAN, rounds=2)
    journal, _ = _run(tmp_path, shorter)
    assert journal.results() == undisturbed[:10]
    _, slots = _run(tmp_path)
    assert slots == [10, 11, 12, 13, 14]
    assert open_journal(tmp_path, this_process()).results() == undisturbed
    # And a shorter one sees what belongs to it.
    assert len(open_journal(tmp_path, this_process(), plan=shorter).results()) == 10


def test_the_score_of_the_untuned_is_kept(tmp_path):
    assert open_journal(tmp_path, this_process()).untuned_score is None
    open_journal(tmp_path, this_process()).untuned_score = 0.25
    assert open_journal(tmp_path, this_process()).untuned_score == 0.25


def test_a_journal_of_another_search_is_refused(tmp_path):
    open_journal(tmp_path, this_process())
    other = {**SETTINGS, "shots": 1}
    for _ in range(2):
        with pytest.raises(UserError, match="another search: shots was 5 and is 1;"):
            open_journal(tmp_path, this_process(), settings=other)
    open_journal(tmp_path, this_process())


def test_a_line_that_was_cut_off_is_dropped(undisturbed, tmp_path):
    journal = open_journal(tmp_path, this_process())
    run_one(journal)
    with open(tmp_path / "journal.log", "a") as file:
        file.write('{"op_code":6,"wor')
    journal, slots = _run(tmp_path)
    assert slots == list(range(1, PLAN.trials))
    assert journal.results() == undisturbed


def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path):
    (tmp_path / "journal.log").write_text("not a journal\nat all")
    with pytest.raises(UserError, match="cannot be read as a journal"):
        open_journal(tmp_path, this_process())
    assert (tmp_path / "journal.log").read_text() == "not a journal\nat all"


def test_results_are_written_by_one_process_at_a_time(tmp_path):
    order = []

    def write(name):
        with alone(tmp_path):
            order.append(f"{name} in")
            time.sleep(0.05)
            order.append(f"{name} out")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = [line.split()[0] for line in order]
    assert order == [f"{n} {w}" for n in names[::2] for w in ("in", "out")]
    assert not list(tmp_path.iterdir())


def test_the_gaussian_process_says_what_it_needs(monkeypatch):
    check_sampler("random")
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "scipy", type(sys)("scipy"))
    with pytest.raises(UserError, match="needs torch.*pip install scipy torch"):
        check_sampler("gp")


def test_the_gaussian_process_closes_in_on_the_optimum(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("scipy", reason="scipy is not installed")
    # The seed whose first configurations are all far from the optimum.
    plan = dataclasses.replace(PLAN, sampler="gp", rounds=2, samples=6, seed=3)
    journal, slots = _run(tmp_path / "one", plan)
    assert slots == list(range(12))
    rates = [result.values[uho.RATE] for result in journal.results()]
    assert len(set(rates)) == 12
    assert 0.005 < uho.ranking(journal.results())[0].values[uho.RATE] < 0.02
    again, _ = _run(tmp_path / "two", plan)
    assert again.results() == journal.results()
