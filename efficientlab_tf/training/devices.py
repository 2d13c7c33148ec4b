"""What computes a meta-step: one device, those of one machine, or those of several.

A replica is a device with the network on it. Each takes its part of the tasks of a
meta-batch, one after another as on one device, and the parts are added up:

    theta <- meta_optimizer(theta, 1/T sum over replicas, sum over its tasks of d_i)

The seed of a task depends on its position in the meta-batch and not on the replica.
Running averages pass from task to task. After n tasks an average s is K s + c, where c
does not depend on s (`Network.kept`). All of R replicas start from the same s_0, and
s_r is what replica r comes to. One device would have come to

    s = K^R s_0 + sum over r = 0..R-1 of K^(R-1-r) (s_r - K s_0)

so this is what the replicas come to, too, but for rounding.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from efficientlab_tf.config import TrainConfig
from efficientlab_tf.episode import Episode
from efficientlab_tf.errors import UserError
from efficientlab_tf.graphs import graph
from efficientlab_tf.learners import Learner, MetaState
from efficientlab_tf.learners.base import TaskUpdate
from efficientlab_tf.untrusted import reason_of

MetaStep = Callable[
    [MetaState, Episode, tf.Tensor], tuple[MetaState, dict[str, tf.Tensor]]
]

_CONFIG = "TF_CONFIG"
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


class Place(NamedTuple):
    """Which of the processes of a training this is.

    Attributes:
      workers: how many there are.
      index: of this one, from 0; the first is the chief, which alone writes.
    """

    workers: int = 1
    index: int = 0


def place(config: TrainConfig) -> Place:
    """Reads TF_CONFIG, if `config.strategy` is "multi_worker".

    Raises:
      UserError: it is not set, or is none.
    """
    if config.strategy != "multi_worker":
        return Place()
    text = os.environ.get(_CONFIG, "")
    try:
        content = json.loads(text)
        jobs, task = content["cluster"], content["task"]
        if set(jobs) - {"chief", "worker"} or not all(map(len, jobs.values())):
            raise ValueError("jobs other than chief and worker")
        addresses = [*jobs.get("chief", []), *jobs.get("worker", [])]
        before = len(jobs.get("chief", [])) if task["type"] == "worker" else 0
        index = before + int(task["index"])
        if jobs[task["type"]][int(task["index"])] != addresses[index]:
            raise ValueError("no such task")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            "`strategy`=multi_worker needs the environment variable TF_CONFIG, as in "
            '{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, "task": {"type": '
            f'"worker", "index": 0}}}}, received {text!r}'
        ) from error
    return Place(len(addresses), index)


_ALONE = Place()


class Devices:
    """One device, and what is to be known of several.

    Attributes:
      replicas: how many devices compute, on all machines.
      place: of this process.
      lost: what is raised where another process is needed that has ended.
    """

    lost: tuple[type[Exception], ...] = ()

    def __init__(self, replicas: int = 1, place: Place = _ALONE):
        self.replicas, self.place = replicas, place

    @property
    def chief(self) -> bool:
        """Whether this process validates, and writes what is written."""
        return self.place.index == 0

    def positions(self, tasks: int) -> range:
        """Which tasks of a meta-batch this process reads."""
        own = tasks // self.place.workers
        return range(self.place.index * own, (self.place.index + 1) * own)

    def meta_step(self, learner: Learner, jit: bool) -> MetaStep:
        """Returns `Learner.meta_step` for the tasks that this process reads.

        Args:
          learner: the run's.
          jit: whether XLA compiles what each device computes.
        """
        return graph(learner.meta_step, jit_compile=jit)

    def any(self, flag: bool) -> bool:
        """Whether a flag is true in one of the processes."""
        return flag

    def of_chief(self, values: Any) -> Any:
        """Returns the chief's tensors, which all must have in the same structure."""
        return values

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Says in a sentence that another process has ended, if it has.

        Raises:
          UserError: it has.
        """
        try:
            yield
        except self.lost as error:
            raise UserError(
                f"worker {self.place.index} stops, since another of the "
                f"{self.place.workers} workers has ended or cannot be reached: start "
                "all of them again with `resume`"
            ) from error


class Averages(NamedTuple):
    """Replicas' running averages, made those of one device as the module says.

    Attributes:
      kept: K of each average.
      replicas: R.
    """

    kept: tuple[float, ...]
    replicas: int

    def part(self, rank: tf.Tensor, before, after) -> tuple[tf.Tensor, ...]:
        """Returns what replica `rank` adds to the sum; `before` is s_0, `after` s_r."""
        parts = []
        for kept, s_0, s_r in zip(self.kept, before, after, strict=True):
            powers = [kept ** (self.replicas - 1 - r) for r in range(self.replicas)]
            part = tf.gather(tf.constant(powers, s_0.dtype), rank) * (s_r - kept * s_0)
            first = kept**self.replicas * s_0
            parts.append(part + tf.where(rank == 0, first, tf.zeros_like(first)))
        return tuple(parts)


class Replicas(Devices):
    """The devices of a strategy of `tf.distribute`.

    Args:
      strategy: made before anything was computed.
      place: of this process.
    """

    def __init__(self, strategy: tf.distribute.Strategy, place: Place = _ALONE):
        super().__init__(strategy.num_replicas_in_sync, place)
        if place.workers > 1:
            self.lost = _LOST
        self._strategy = strategy
        self._sum = graph(self._sum_of_first)

    def meta_step(self, learner: Learner, jit: bool) -> MetaStep:
        """See `Devices.meta_step`."""

        @graph(jit_compile=jit)
        def sum_of_tasks(state, fields, step, first) -> TaskUpdate:
            return learner.sum_of_tasks(state, Episode(*fields, None), step, first)

        kept = learner.network.kept()

        def displacement(state, fields, step) -> TaskUpdate:
            own = [self._strategy.experimental_local_results(f)[0] for f in fields]
            tasks = own[0].shape[0]
            arguments = (state, tuple(own), step, tf.constant(0))
            # Traced once, and not once for each replica.
            traced = sum_of_tasks.get_concrete_function(
                *tf.nest.map_structure(tf.TensorSpec.from_tensor, arguments)
            )
            merged = Averages(
                tuple(k ** (tasks * learner.training_passes) for k in kept),
                self.replicas,
            )

            def part(state, fields, step) -> TaskUpdate:
                here = tf.distribute.get_replica_context()
                rank = tf.cast(here.replica_id_in_sync_group, tf.int32)
                update = traced(state, fields, step, rank * tasks)
                update = update._replace(
                    statistics=merged.part(rank, state.statistics, update.statistics)
                )
                return here.all_reduce(tf.distribute.ReduceOp.SUM, update)

            total = self._run(part, state, fields, step)
            return learner.mean(total, tasks * self.replicas)

        @graph
        def meta_step(state, fields, step):
            return learner.meta_step(state, fields, step, displacement)

        return lambda state, episodes, step: meta_step(
            state, self._spread(episodes), step
        )

    def any(self, flag: bool) -> bool:
        """See `Devices.any`."""
        if self.place.workers == 1:
            return flag
        return bool(self._sum(tf.constant(float(flag)), tf.constant(False)) > 0)

    def of_chief(self, values: Any) -> Any:
        """See `Devices.of_chief`."""
        if self.place.workers == 1:
            return values
        return self._sum(values, tf.constant(True))

    def _run(self, function, *arguments):
        """Runs `function`, which gives all replicas the same, on each of them."""
        results = self._strategy.run(function, arguments)
        return tf.nest.map_structure(
            lambda t: self._strategy.experimental_local_results(t)[0], results
        )

    def _spread(self, episodes: Episode):
        """Gives each replica of this process its part of the tasks."""
        local = self.replicas // self.place.workers
        own = episodes.support_images.shape[0] // local

        def part(context):
            number = context.replica_id_in_sync_group - self.place.index * local
            with tf.device("CPU:0"):
                return tuple(
                    field[number * own : (number + 1) * own] for field in episodes[:4]
                )

        return self._strategy.experimental_distribute_values_from_function(part)

    def _sum_of_first(self, values, chief_only):
        """Sums tensors over processes; with `chief_only` the others' count as 0."""
        local = self.replicas // self.place.workers

        def part(values):
            here = tf.distribute.get_replica_context()
            rank = tf.cast(here.replica_id_in_sync_group, tf.int32)
            counts = tf.where(chief_only, rank == 0, rank % local == 0)

            def counted(tensor):
                # One sum is of one dtype; this one holds float32 and counters exactly.
                tensor = tf.cast(tensor, tf.float64)
                return tf.where(counts, tensor, tf.zeros_like(tensor))

            return here.all_reduce(
                tf.distribute.ReduceOp.SUM, tf.nest.map_structure(counted, values)
            )

        total = self._run(part, values)
        return tf.nest.map_structure(lambda t, v: tf.cast(t, v.dtype), total, values)


def open_devices(config: TrainConfig) -> Devices:
    """Makes the devices that `config.strategy` names ready.

    Called before anything is computed: TensorFlow sets up devices once a process.

    Raises:
      UserError: they cannot be had, or do not divide the meta-batch.
    """
    if config.cpu_replicas and config.strategy != "mirrored":
        raise UserError(
            f"`cpu_replicas`={config.cpu_replicas} needs `strategy`=mirrored, received "
            f"{config.strategy}"
        )
    if config.strategy == "one":
        return Devices()
    here = place(config)
    _check_divides(config, here.workers, "workers")
    try:
        if config.strategy == "mirrored":
            strategy = mirrored(config.cpu_replicas)
        else:
            if here.workers > 1:
                print(f"worker {here.index} of {here.workers} waits for the others")
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        raise UserError(
            f"`strategy`={config.strategy} cannot be had: {reason_of(error)}; mend the "
            "devices or TF_CONFIG, or train on one device with `strategy`=one"
        ) from error
    devices = Replicas(strategy, here)
    _check_divides(config, devices.replicas, "devices")
    return devices


def _check_divides(config: TrainConfig, count: int, what: str) -> None:
    if config.meta_batch % count:
        more = -(-config.meta_batch // count) * count
        raise UserError(
            f"`meta_batch` must be a multiple of the {count} {what} that "
            f"`strategy`={config.strategy} has, received {config.meta_batch}: take "
            f"{more}, for example"
        )


def mirrored(cpu_replicas: int = 0) -> tf.distribute.MirroredStrategy:
    """Returns the strategy of this machine's GPUs, or of parts of its CPU.

    Raises:
      UserError: there are GPUs, and yet parts of the CPU are asked for.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and cpu_replicas:
        raise UserError(
            f"`cpu_replicas`={cpu_replicas} is for machines without a GPU, and this "
            f"one has {len(gpus)}"
        )
    if gpus:
        return tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(len(gpus))])
    count = max(cpu_replicas, 1)
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * count
    )
    return tf.distribute.MirroredStrategy(
        [f"CPU:{i}" for i in range(count)], tf.distribute.ReductionToOneDevice()
    )
