"""A FOMAML meta-step of EfficientLab's authors' own code, for `probe`.

Runs in a Python of TensorFlow 1.15, so in 3.7, and imports nothing of this package:

    python3.7 benchmarks/authors_probe.py '{"authors": FOLDER, ...}'

Speaks as `probe.serve` does: a line of JSON when the first step is done, then one for
each line that it reads.
"""

import json
import os
import sys
import time

ANSWERS = os.fdopen(os.dup(1), "w")
# What libraries print goes to stderr, so that only answers are answers.
os.dup2(2, 1)


class Task:
    """One task's pictures, with what the authors' sampler asks of a task."""

    def __init__(self, count, size):
        import numpy as np

        rng = np.random.RandomState(0)
        images = rng.randint(0, 256, (count, size, size, 3)).astype(np.float32)
        masks = rng.randint(0, 2, (count, size, size, 1))
        masks = np.concatenate([1 - masks, masks], -1)
        self._pairs = [(images[i], masks[i]) for i in range(count)]
        self.batch_size = count

    def sample(self, session, count):
        return self._pairs[:count]


def build(authors, image_size, shots, queries, inner_steps, inner_batch):
    """Builds the network and the learner; returns a function that takes a step."""
    sys.path.insert(0, authors)
    sys.path.insert(0, os.path.join(authors, "meta_learners", "supervised_reptile"))
    import tensorflow as tf
    from meta_learners.supervised_reptile.supervised_reptile.reptile import FOMLIS
    from models.efficientlab import EfficientLab

    network = EfficientLab(
        n_rows=image_size,
        n_cols=image_size,
        optimizer=tf.train.GradientDescentOptimizer,
        learning_rate=1e-3,
        label_smoothing=0.0,
    )
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    learner = FOMLIS(session, train_shots=shots + queries, tail_shots=queries)
    tasks = [Task(shots + queries, image_size)]

    def step():
        learner.train_step(
            tasks,
            network.input_ph,
            network.label_ph,
            network.minimize_op,
            num_classes=1,
            num_shots=shots + queries,
            inner_batch_size=inner_batch,
            inner_iters=inner_steps,
            replacement=False,
            meta_step_size=0.1,
            meta_batch_size=1,
            lr_ph=network.lr_ph,
            lr=1e-3,
        )

    return step, {"tensorflow": tf.__version__}


def timed(function):
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return [time.perf_counter() - wall, time.process_time() - cpu], result


def peak():
    with open("/proc/self/status") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["VmHWM"].split()[0]) * 1024


def answer(**values):
    print(json.dumps(values), file=ANSWERS, flush=True)


if __name__ == "__main__":
    trace, (step, facts) = timed(lambda: build(**json.loads(sys.argv[1])))
    before = peak()
    first, _ = timed(step)
    answer(trace=trace, first=first, before=before, peak=peak(), facts=facts)
    for _ in sys.stdin:
        spent, _ = timed(step)
        answer(spent=spent, peak=peak())
