"""Meta-training: episodes in, meta-steps, checkpoints out."""

import dataclasses
import time
from pathlib import Path

import psutil
import tensorflow as tf
from tqdm import tqdm

from efficientlab_tf import quiet
from efficientlab_tf.checkpoint.files import start_from
from efficientlab_tf.checkpoint.run import (
    CONFIG_FILE,
    FLAG_FILE,
    MODEL_FILE,
    RunConfig,
    build_functions,
    build_network,
)
from efficientlab_tf.data.episode_augment import EpisodeAugment
from efficientlab_tf.data.episodes import episode_dataset
from efficientlab_tf.data.mixture import Mixture
from efficientlab_tf.episode import Episode, require_disjoint
from efficientlab_tf.errors import UserError
from efficientlab_tf.files import remove_partials
from efficientlab_tf.graphs import untouched
from efficientlab_tf.learners import Learner, MetaState
from efficientlab_tf.segmenters.network import Network
from efficientlab_tf.training.checkpoints import Checkpoints
from efficientlab_tf.training.devices import (
    Devices,
    MetaStep,
    open_devices,
    place,
)
from efficientlab_tf.training.learner import build_run_learner
from efficientlab_tf.training.lock import locked
from efficientlab_tf.training.record import Record
from efficientlab_tf.training.stopping import StopRequest
from efficientlab_tf.training.summaries import Summaries
from efficientlab_tf.training.validation import Validation
from efficientlab_tf.xla import use_jit


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
    data = config.data
    side = max(data.sizes, default=config.model.image_size)
    tasks = -(-config.train.meta_batch // place(config.train).workers)
    pictures = tasks * data.ways * (data.shots + data.queries)
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
    if config.train.reuse_episodes and config.train.strategy != "one":
        raise UserError(
            f"`reuse_episodes`={config.train.reuse_episodes} needs `strategy`=one, "
            f"received {config.train.strategy}: prepared episodes stay on one device"
        )
    if config.train.reuse_episodes and config.data.sizes:
        raise UserError(
            f"`reuse_episodes`={config.train.reuse_episodes} needs `image_sizes`= "
            f"(empty), received {config.data.image_sizes}: prepared episodes are of "
            "one size"
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
        on, in all of this process. With a `train.strategy` other than "one" nothing may
        have been computed in this process before.
      resume: continue the run that `config.train.run_dir` holds.

    Returns:
      Whether the run is finished; false if it was asked to stop before.

    Raises:
      UserError: bad input, or another process of the training has ended or was asked to
        stop; nothing that was already written is lost.
    """
    check(config)
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    devices = open_devices(config.train)
    quiet.settle()
    if not devices.chief:
        return _train(config, resume, devices)
    with locked(Path(config.train.run_dir)):
        return _train(config, resume, devices)


def _train(config: RunConfig, resume: bool, devices: Devices) -> bool:
    mixture = Mixture.load(config.data.dataset_dir, config.data.splits)
    if config.data.labels == "dataset":
        _check_labels(config, mixture)

    network = build_network(config.model, config.train.seed)
    if config.train.start_from and not resume:
        start_from(config.train.start_from, network)
    learner = build_run_learner(config, network)
    state, first_step, record = learner.init(), 0, None
    if devices.chief:
        state, first_step, record = _opened(config, resume, state, network, mixture)
    with devices.watched():
        state, start = devices.of_chief((state, tf.constant(first_step, tf.int64)))
        first_step = int(start)
        tasks = devices.positions(config.train.meta_batch)
        episodes = _episodes(config, mixture, learner, first_step, tasks)
        if devices.chief:
            print(
                f"run {config.train.run_dir}: {config.learner.learner}, "
                f"{network.model.count_params():,} weights, "
                f"{mixture.class_count(config.data.train_split)} training classes"
                + (f", {devices.replicas} devices" if devices.replicas > 1 else "")
                + "; building the graph"
            )
        with StopRequest.on_signals() as stop:
            state, step = _loop(
                config, learner, state, first_step, episodes, devices, record, stop
            )
        if record:
            record.close(state, step, network)
        # Nobody leaves before the chief has written.
        devices.any(False)
    finished = step >= config.train.meta_steps
    if not (finished or stop):
        # Whoever started this one, and did not ask it to stop, is to start it again.
        raise UserError(
            f"worker {devices.place.index} stops, since another of the "
            f"{devices.place.workers} workers was asked to; all is saved: start all "
            "of them again with `resume`"
        )
    return finished


def _opened(
    config: RunConfig,
    resume: bool,
    state: MetaState,
    network: Network,
    mixture: Mixture,
) -> tuple[MetaState, int, Record]:
    """Opens the run's folder; returns the state and the step that it begins with."""
    run_dir, first_step = Path(config.train.run_dir), 0
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
    return state, first_step, Record(config, checkpoints, summaries, validation)


def _episodes(
    config: RunConfig,
    mixture: Mixture,
    learner: Learner,
    first_step: int,
    tasks: range,
) -> tf.data.Dataset:
    data, again = config.data, config.train.reuse_episodes
    episodes = episode_dataset(
        mixture,
        data.train_split,
        ways=data.ways,
        shots=data.shots,
        queries=data.queries,
        seed=config.train.seed,
        image_size=max(data.sizes, default=config.model.image_size),
        start_step=0 if again else first_step,
        meta_batch=None if again else config.train.meta_batch,
        cache_bytes=data.cache_bytes,
        points=data.point_range,
        family=data.family,
        draw=data.draw,
        labels=data.labels,
        positions=None if again else tasks,
        augment=EpisodeAugment(*(getattr(data, n) for n in EpisodeAugment._fields)),
        sizes=data.sizes,
    )
    if again:
        whole = config.train.meta_batch
        prepared = (
            episodes.take(again)
            .enumerate()
            .map(untouched(learner.preparation()))
            .cache()
        )
        episodes = prepared.repeat().skip(first_step * whole % again).batch(whole)
    return episodes.prefetch(2)


def _meta_step(config: RunConfig, learner: Learner, devices: Devices) -> MetaStep:
    """A meta-step for episodes of any size; networks of all sizes share weights."""
    jit = use_jit(config.train.jit)
    if not config.data.sizes:
        return devices.meta_step(learner, jit)
    steps = {}
    for size in config.data.sizes:
        model = dataclasses.replace(config.model, image_size=size, weights="")
        network = build_network(model, config.train.seed)
        steps[size] = devices.meta_step(build_run_learner(config, network), jit)

    def meta_step(state, episodes, step):
        return steps[episodes.query_masks.shape[-1]](state, episodes, step)

    return meta_step


def _loop(
    config: RunConfig,
    learner: Learner,
    state: MetaState,
    first_step: int,
    episodes: tf.data.Dataset,
    devices: Devices,
    record: Record | None,
    stop: StopRequest,
) -> tuple[MetaState, int]:
    """Runs meta-steps until the last one or until asked to stop."""
    settings = config.train
    meta_step = _meta_step(config, learner, devices)
    bar = tqdm(
        total=settings.meta_steps,
        initial=first_step,
        unit="step",
        dynamic_ncols=True,
        smoothing=0.05,
        disable=not devices.chief,
    )
    step = first_step
    bad_steps = in_row = 0
    since, since_step = time.monotonic(), step
    try:
        for batch in episodes:
            if devices.any(bool(stop)) or step >= settings.meta_steps:
                break
            if step == first_step and not (
                config.data.same_images or settings.reuse_episodes
            ):
                for task in range(len(devices.positions(settings.meta_batch))):
                    drawn = Episode(*(field[task] for field in batch))
                    require_disjoint(drawn, drawn.name.numpy().decode())
            new, metrics = meta_step(
                state, batch._replace(name=None), tf.constant(step, tf.int64)
            )
            loss = float(metrics["loss"])
            state = new
            if metrics["bad_step"]:
                bad_steps, in_row = bad_steps + 1, in_row + 1
                bar.write(
                    f"step {step}: skipped, a loss or gradient is not finite (loss "
                    f"{loss}, {bad_steps} skipped so far)"
                )
                if in_row >= settings.max_bad_steps:
                    if record:
                        record.save(state, step)
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
            if record and step % settings.log_every == 0:
                now = time.monotonic()
                rate = (step - since_step) * settings.meta_batch / (now - since)
                since, since_step = now, step
                record.log(metrics, bad_steps, rate, step)
            if config.data.val_split and (
                step % settings.validate_every == 0 or step == settings.meta_steps
            ):
                if record:
                    state = record.validate(state, step, bar.write)
                state = devices.of_chief(state)
                since, since_step = time.monotonic(), step
            if record and step % settings.save_every == 0:
                record.save(state, step)
    except devices.lost:
        if record:
            record.save(state, step)
        raise
    finally:
        bar.close()
    return state, step
