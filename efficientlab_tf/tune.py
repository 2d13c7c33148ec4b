"""Tunes the update routine of a learned initialization, after its meta-training.

    python -m efficientlab_tf.tune --model=runs/x --tune_split=val --tasks=100

Searches inner learning rates, with early stopping for the number of steps (Hendryx et
al., appendix C), and keeps the best with the checkpoint: `evaluate`, `adapt` and
`export` then use it. `train` takes them as another --flagfile, OUTPUT/tuned.flags. The
same command again goes on with a search that was stopped.
"""

import os
import sys
from pathlib import Path

from efficientlab_tf import flags
from efficientlab_tf.checkpoint.files import save_tuned
from efficientlab_tf.checkpoint.tuned import FLAGS_FILE, TUNED_FILE, Tuned
from efficientlab_tf.config import DataConfig, EvalConfig, Settings, TuneConfig
from efficientlab_tf.errors import UserError
from efficientlab_tf.files import write_text
from efficientlab_tf.shipped import shipped_path

try:
    import optuna  # noqa: F401
except ImportError:
    optuna = None


def main() -> None:
    """Tunes --model as the flags say."""
    if optuna is None:
        raise UserError(
            'tuning needs optuna, which is not installed: pip install ".[tune]"'
        )
    # Only now, as these need Optuna.
    from efficientlab_tf.hyperparameters import report, search, uho
    from efficientlab_tf.hyperparameters.study import PATIENCE, check_sampler

    (path,) = flags.needed(model=": a run's folder or a .keras file")
    tune = flags.read(TuneConfig)
    check_sampler(tune.sampler)
    search.share_device(tune.workers)
    model = search.load_tunable(path)
    model_path = Path(path)
    if not model_path.exists():
        raise UserError(
            f"{path} comes with the package; tune a copy of {shipped_path(path)}"
        )
    beside = model_path if model_path.is_dir() else model_path.parent
    # Found out before the search and not after it.
    if not os.access(beside, os.W_OK):
        raise UserError(
            f"cannot write to {beside}, where the model is and the tuned values go; "
            "make it writable, or tune a copy"
        )
    output = Path(flags.FLAGS.output or beside / "tune")
    queries = flags.read(EvalConfig).eval_queries
    own = model.resolve(flags.read(Settings))
    batch_norm = own.batch_norm
    job = search.Job(
        *(path, str(output), flags.override(model.run.data), queries, batch_norm),
        *(own.jit, tune, flags.FLAGS.storage),
    )
    ready = search.Search(job, model)
    print(
        f"{ready.plan.trials} configurations on {tune.tasks} tasks of {ready.dataset}/"
        f"{tune.tune_split}, {job.data.shots}-shot, batch norm {batch_norm}"
    )
    if running := ready.running():
        print(
            f"note: trials that run elsewhere: {running}; one that was killed is run "
            f"again {PATIENCE} seconds after its last sign of life"
        )
    workers = search.start_workers(job)
    untuned = ready.score_untuned()
    report.log_untuned(output / "logs", untuned, ready.settings["ranges"])
    results = ready.run_trials()
    for worker in workers:
        worker.join()
        if worker.exitcode:
            print(
                f"note: a worker ended early, with status {worker.exitcode}; its trial "
                "was run again",
                file=sys.stderr,
            )

    # The checkpoint's own settings stay if nothing beat them.
    best = uho.ranking([*results, untuned])[0]
    tuned = Tuned(
        values=best.values,
        initialization=ready.settings["initialization"],
        dataset=ready.dataset,
        split=tune.tune_split,
        tasks=tune.tasks,
        shots=job.data.shots,
        batch_norm=batch_norm,
        trials=len(results),
        score=best.score,
        untuned_score=untuned.score,
    )
    rounds = tune.samples if tune.sampler == "random" else 0
    for result in results:
        report.log_trial(output / "logs", result)
    report.write_table(output, results, rounds, untuned)
    report.draw(output / report.FIGURE_FILE, results, untuned, best)
    write_text(output / TUNED_FILE, tuned.to_json())
    write_text(output / FLAGS_FILE, tuned.flagfile())
    where = save_tuned(path, tuned)
    kept = "nothing was better than the checkpoint's own: "
    print(
        f"untuned: {search.describe(untuned)}\n"
        f"{'chosen: ' if best is not untuned else kept}{search.describe(best)}\n"
        f"The best of {len(results)} on the tasks it was chosen by is somewhat too "
        f"good; evaluate says what it is worth on other classes.\n"
        f"kept with: {where}\n"
        f"written:   {output}/{report.TABLE_FILE}, {report.FIGURE_FILE}, "
        f"{TUNED_FILE}, {FLAGS_FILE}; tensorboard --logdir {output / 'logs'}"
    )


def define_flags() -> None:
    """Defines this command's flags."""
    flags.define(TuneConfig)
    flags.define(DataConfig, only=("dataset_dir", "splits", "shots"))
    flags.define(EvalConfig, only=("eval_queries",))
    flags.define(Settings, only=("batch_norm", "jit"))
    flags.define_one("model", "", "A run's folder, or a .keras file.")
    where = "Where the search goes; if empty, tune/ in the run's folder or beside it."
    flags.define_one("output", "", where)
    flags.define_one(
        "storage",
        "",
        "Database that holds the search, as an SQLAlchemy URL; if empty, a file in the "
        "output folder. One that several machines reach, such as "
        "postgresql://user:password@host/name, lets them share a search: run the same "
        "command on each, with an output folder and a copy of the model of its own.",
    )
    flags.alias(model_path="model", output_dir="output", tune_seed="seed")


if __name__ == "__main__":
    define_flags()
    flags.run(main)
