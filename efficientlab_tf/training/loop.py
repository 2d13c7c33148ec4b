"""Meta-training: episodes in, meta-steps, checkpoints out."""

import time
from pathlib import Path

import psutil
import tensorflow as tf
from tqdm import tqdm

from efficientlab_tf import quiet
from efficientlab_tf.checkpoint.files import save_keras, start_from
from efficientlab_tf.checkpoint.run import (
    CONFIG_FILE,
    FLAG_FILE,
    MODEL_FILE,
    RunConfig,
    build_functions,
    build_network,
)
from efficientlab_tf.config import TrainConfig
from efficientlab_tf.data.episode_augment import EpisodeAugment
from efficientlab_tf.data.episodes import episode_dataset, fixed_episodes
from efficientlab_tf.data.mixture import Mixture
from efficientlab_tf.episode import Episode, require_disjoint
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.meta_test import Row, evaluate
from efficientlab_tf.files import remove_partials
from efficientlab_tf.learners import Learner, MetaState
from efficientlab_tf.metrics import Interval, Summary
from efficientlab_tf.segmenters.gradient import AdaptFunctions
from efficientlab_tf.segmenters.segmenter import Diverged
from efficientlab_tf.training.checkpoints import Checkpoints
from efficientlab_tf.training.learner import build_run_learner
from efficientlab_tf.training.lock import locked
from efficientlab_tf.training.stopping import StopRequest
from efficientlab_tf.training.summaries import BY_CLASS, Summaries
from efficientlab_tf.xla import use_jit

_PICTURES = 6


class Validation:
    """Fixed validation episodes, evaluated with the training's inner loop.

    Args:
      config: the run's.
      mixture: the datasets; each gives its own validation classes.
      functions: the compiled adaptation of the run's network.
    """

    def __init__(self, config: RunConfig, mixture: Mixture, functions):
        self._config = config
        self._functions = functions
        self._has_steps = isinstance(functions, AdaptFunctions)
        data = config.data
        self._tasks = [
            task
            for manifest in mixture.manifests
            for task in fixed_episodes(
                manifest,
                manifest.split(data.val_split)[: config.train.val_episodes],
                shots=data.shots,
                queries=data.queries,
                splits_per_task=1,
                seed=config.train.seed,
                image_size=config.model.image_size,
                points=data.point_range,
                family=data.family,
                ways=data.ways,
            )
        ]

    def __call__(self, state: MetaState):
        """Returns results, one a class, and rows for `Summaries.predictions`.

        Raises:
          Diverged: an adaptation did.
        """
        learner = self._config.learner
        segmenter = self._functions.segmenter(
            state.weights,
            learning_rate=learner.inner_learning_rate,
            steps=learner.inner_steps,
            batch_norm=learner.batch_norm if self._has_steps else "running",
        )
        rows: list[Row] = []
        results = evaluate(
            segmenter,
            self._tasks,
            disjoint=not self._config.data.same_images,
            on_task=lambda result, row: rows.append(row),
        )
        return results, rows[:_PICTURES]


def check(config: RunConfig) -> None:
    """Checks that a run's settings suit each other, before anything is read.

    Raises:
      UserError: they do not.
    """
    if not config.train.run_dir:
        raise UserError("`run_dir` is needed: a folder for checkpoints and logs")
    if not config.data.dataset_dir:
        raise UserError(
            "`dataset_dir` is needed: a converted dataset, or sample:icons for the one "
            "that ships with the package"
        )
    data, side = config.data, config.model.image_size
    pictures = config.train.meta_batch * data.ways * (data.shots + data.queries)
    # uint8, RGB and a mask.
    needed, there = pictures * side**2 * 4, psutil.virtual_memory().total
    if needed > there / 4:
        raise UserError(
            f"the {pictures} pictures of a meta-step take {needed / 2**30:.1f} GiB, "
            f"and this machine has {there / 2**30:.1f} GiB: lower `meta_batch`, "
            "`shots`, `queries` or `image_size`"
        )
    if config.data.labels == "dataset":
        if config.learner.learner != "joint" or config.data.val_split:
            raise UserError(
                "`labels`=dataset needs `learner`=joint and `val_split`= (empty), "
                f"received {config.learner.learner} and {config.data.val_split!r}: "
                "other classes have no labels to validate by"
            )
    elif config.data.ways != config.model.num_classes:
        raise UserError(
            f"`ways`={config.data.ways} needs `num_classes`={config.data.ways}, "
            f"received `num_classes`={config.model.num_classes}"
        )
    if config.learner.halve_after and not config.data.val_split:
        raise UserError(
            f"`halve_after`={config.learner.halve_after} goes by validation: give "
            "`val_split`, or leave it out"
        )
    if config.train.reuse_episodes and config.learner.augment_rate:
        raise UserError(
            f"`reuse_episodes`={config.train.reuse_episodes} needs `augment_rate`=0, "
            f"received {config.learner.augment_rate}: inner steps see features, and no "
            "pictures to change; `episode_augment_rate` changes these before"
        )
    if config.data.same_images and config.learner.episode_augment_rate:
        raise UserError(
            f"`family`={config.data.family} needs `episode_augment_rate`=0, received "
            f"{config.learner.episode_augment_rate}: it would change support and query "
            "apart"
        )


def _check_labels(config: RunConfig, mixture: Mixture) -> None:
    """Checks that a network of all classes of a dataset has as many as this."""
    classes = mixture.class_count(config.data.train_split)
    if len(mixture.manifests) > 1 or classes != config.model.num_classes:
        raise UserError(
            f"`labels`=dataset needs one dataset and `num_classes`={classes}, as many "
            f"as it has training classes, received {len(mixture.manifests)} and "
            f"{config.model.num_classes}"
        )


def train(config: RunConfig, *, resume: bool = False) -> bool:
    """Meta-trains, from the start or from the newest checkpoint.

    Args:
      config: the run; with `train.deterministic` TensorFlow's kernels are so from here
        on, in all of this process.
      resume: continue the run that `config.train.run_dir` holds.

    Returns:
      Whether the run is finished; false if it was asked to stop before.

    Raises:
      UserError: bad input; nothing that was already written is lost.
    """
    check(config)
    quiet.settle()
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    with locked(Path(config.train.run_dir)):
        return _train(config, resume)


def _train(config: RunConfig, resume: bool) -> bool:
    run_dir = Path(config.train.run_dir)
    mixture = Mixture.load(config.data.dataset_dir, config.data.splits)
    if config.data.labels == "dataset":
        _check_labels(config, mixture)

    network = build_network(config.model, config.train.seed)
    if config.train.start_from and not resume:
        start_from(config.train.start_from, network)
    learner = build_run_learner(config, network)
    state, first_step = learner.init(), 0
    checkpoints = Checkpoints(run_dir, state, config.train.keep)
    for file in (MODEL_FILE, CONFIG_FILE, FLAG_FILE):
        remove_partials(run_dir / file)
    if resume:
        restored = checkpoints.restore()
        if not restored:
            raise UserError(
                f"{run_dir} holds no checkpoint to resume from; leave out `resume`"
            )
        state, first_step = restored
    elif checkpoints.last_step is not None:
        raise UserError(
            f"{run_dir} already holds a run at step {checkpoints.last_step}; "
            "continue it with `resume`, or choose another `run_dir`"
        )
    elif (run_dir / MODEL_FILE).exists():
        raise UserError(
            f"{run_dir} already holds a {MODEL_FILE}, which this run would replace; "
            "move it to another folder, or choose another `run_dir`"
        )
    config.save(run_dir)
    summaries = Summaries(run_dir / "logs", first_step if resume else None)
    if not resume:
        summaries.begin(config)

    functions = build_functions(config.learner, network, config.train.jit)
    validation = (
        Validation(config, mixture, functions) if config.data.val_split else None
    )
    episodes = _episodes(config, mixture, learner, first_step)
    print(
        f"run {run_dir}: {config.learner.learner}, "
        f"{network.model.count_params():,} weights, "
        f"{mixture.class_count(config.data.train_split)} training classes; "
        "building the graph"
    )
    with StopRequest.on_signals() as stop:
        state, step = _loop(
            config,
            learner,
            state,
            first_step,
            episodes,
            checkpoints,
            summaries,
            validation,
            stop,
        )
    summaries.flush()
    checkpoints.save(state, step)
    best = checkpoints.restore_best()
    save_keras(run_dir / MODEL_FILE, network, best[0].weights, config)
    finished = step >= config.train.meta_steps
    if not finished:
        print(
            f"stopped at step {step} of {config.train.meta_steps}, saved; resume with: "
            f"python -m efficientlab_tf.train --run_dir={run_dir} --resume"
        )
    else:
        score = "not validated"
        if checkpoints.best_score >= 0:
            score = (
                f"best validation {name_of(config.train)} "
                f"{100 * checkpoints.best_score:.2f} % at step {best[1]}"
            )
        print(
            f"finished {step} meta-steps; {score}; initialization in "
            f"{run_dir / MODEL_FILE}, TensorBoard logs in {run_dir / 'logs'}"
        )
    return finished


def _episodes(
    config: RunConfig, mixture: Mixture, learner: Learner, first_step: int
) -> tf.data.Dataset:
    data, again = config.data, config.train.reuse_episodes
    episodes = episode_dataset(
        mixture,
        data.train_split,
        ways=data.ways,
        shots=data.shots,
        queries=data.queries,
        seed=config.train.seed,
        image_size=config.model.image_size,
        start_step=0 if again else first_step,
        meta_batch=None if again else config.train.meta_batch,
        cache_bytes=data.cache_bytes,
        points=data.point_range,
        family=data.family,
        draw=data.draw,
        labels=data.labels,
        augment=EpisodeAugment(
            data.label_swap_rate, data.zoom_out_rate, data.paste_rate
        ),
    )
    if again:
        done = first_step * config.train.meta_batch % again
        prepared = episodes.take(again).enumerate().map(learner.preparation()).cache()
        episodes = prepared.repeat().skip(done).batch(config.train.meta_batch)
    return episodes.prefetch(2)


def name_of(config: TrainConfig) -> str:
    """What the best checkpoint is chosen by, in words."""
    return "IoU" if config.best_by == "per_image_iou" else "IoU without a threshold"


def _loop(
    config: RunConfig,
    learner: Learner,
    state: MetaState,
    first_step: int,
    episodes: tf.data.Dataset,
    checkpoints: Checkpoints,
    summaries: Summaries,
    validation: Validation | None,
    stop: StopRequest,
) -> tuple[MetaState, int]:
    """Runs meta-steps until the last one or until asked to stop."""
    settings, same_images = config.train, config.data.same_images
    meta_step = tf.function(learner.meta_step, jit_compile=use_jit(settings.jit))
    bar = tqdm(
        total=settings.meta_steps,
        initial=first_step,
        unit="step",
        dynamic_ncols=True,
        smoothing=0.05,
    )
    step = first_step
    bad_steps = in_row = 0
    since, since_step = time.monotonic(), step
    with bar:
        for batch in episodes:
            if stop or step >= settings.meta_steps:
                break
            if step == first_step and not (same_images or settings.reuse_episodes):
                for task in range(settings.meta_batch):
                    drawn = Episode(*(field[task] for field in batch))
                    require_disjoint(drawn, drawn.name.numpy().decode())
            state, metrics = meta_step(
                state, batch._replace(name=None), tf.constant(step, tf.int64)
            )
            loss = float(metrics["loss"])
            if metrics["bad_step"]:
                bad_steps, in_row = bad_steps + 1, in_row + 1
                bar.write(
                    f"step {step}: skipped, a loss or gradient is not finite (loss "
                    f"{loss}, {bad_steps} skipped so far)"
                )
                if in_row >= settings.max_bad_steps:
                    summaries.flush()
                    checkpoints.save(state, step)
                    raise UserError(
                        f"{in_row} meta-steps in a row until step {step} had a loss or "
                        "gradient that is not finite; the last good state is saved: "
                        "`resume` with a lower `inner_learning_rate` or "
                        "`meta_learning_rate`"
                    )
            else:
                in_row = 0
            step += 1
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            if step % settings.log_every == 0:
                now = time.monotonic()
                scalars = {
                    f"train/{name}": float(value)
                    for name, value in metrics.items()
                    if name != "bad_step"
                }
                scalars["train/bad_steps"] = bad_steps
                scalars["train/inner_learning_rate"] = (
                    config.learner.inner_learning_rate
                )
                rate = (step - since_step) * settings.meta_batch / (now - since)
                scalars["train/episodes_per_second"] = rate
                since, since_step = now, step
                summaries.scalars(scalars, step)
            if validation and (
                step % settings.validate_every == 0 or step == settings.meta_steps
            ):
                try:
                    results, rows = validation(state)
                except Diverged as error:
                    # Meta-training may still come to a rate that suits the network.
                    score, text = -1.0, f"validation of {error}"
                else:
                    summary = Summary.of(results)
                    iou: Interval = getattr(summary, settings.best_by)
                    score, text = iou.mean, f"validation {name_of(settings)} {iou} %"
                    scalars = {
                        "validation/per_image_iou": summary.per_image_iou.mean,
                        "validation/soft_iou": summary.soft_iou.mean,
                        **{f"{BY_CLASS}/{one.name}": one.iou for one in results},
                    }
                    summaries.scalars(scalars, step)
                    summaries.predictions(rows, step)
                # On disk before the state: of a run that goes on from there, nothing
                # is missing.
                summaries.flush()
                if checkpoints.save_if_best(state, step, score):
                    text += " (best so far)"
                bar.write(f"step {step}: {text}")
                patience = config.learner.halve_after
                if patience and checkpoints.plateau(patience):
                    state = state._replace(rate_scale=state.rate_scale / 2)
                    bar.write(
                        f"step {step}: no better for more than {patience} validations: "
                        f"meta-learning rate times {float(state.rate_scale):g}"
                    )
                since, since_step = time.monotonic(), step
            if step % settings.save_every == 0:
                summaries.flush()
                checkpoints.save(state, step)
    return state, step
