"""Two workers of one thread each beside one worker of one thread.

All three are processes on this machine that live at the same time. A meta-step of the
one and a meta-step of the two, who share its tasks, are taken in turns. Pictures are
noise, and reading a dataset is not counted.
"""

import argparse
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from benchmarks.comparison import median, progress, ratio
from benchmarks.probe import Probe, Spent

TARGET = 1.6


def main(argv: list[str] | None = None) -> int:
    """Prints seconds of both, and how many times as many meta-steps two take."""
    parser = argparse.ArgumentParser(
        prog="workers", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--backbone", default="EfficientNetLite0")
    parser.add_argument("--meta_batch", type=int, default=4)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--inner_steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args(argv)
    specification = {
        "model": {"image_size": options.image_size, "backbone": options.backbone},
        "learner": {
            "inner_steps": options.inner_steps,
            "inner_batch": options.shots,
            "augment_rate": 0.0,
        },
        "tasks": options.meta_batch,
        "shots": options.shots,
    }
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        # All at once, since no worker's first step ends without the other's.
        opened = [
            threads.submit(Probe, "worker_probe", {"cluster": cluster, **specification})
            for cluster in ("", *two_workers())
        ]
        one, *two = (stack.enter_context(probe.result()) for probe in opened)
        pairs = []
        for _ in progress(range(options.repeats)):
            alone = one.step().spent
            together = list(threads.map(lambda probe: probe.step().spent, two))
            both = Spent(max(s.wall for s in together), sum(s.cpu for s in together))
            pairs.append((alone, both))
        parameters = one.started.facts["parameters"]
    alone, both = (median(times) for times in zip(*pairs, strict=True))
    gain = median(ratio(a, b) for a, b in pairs)
    print(
        f"{options.meta_batch} tasks, {options.inner_steps} inner steps, "
        f"{options.image_size} pixels, {parameters:,} weights, medians of "
        f"{options.repeats}\n"
        f"  one worker of one thread:  {alone.wall:.2f} s a meta-step, "
        f"{alone.cpu:.2f} s of processors\n"
        f"  two workers of one thread: {both.wall:.2f} s a meta-step, "
        f"{both.cpu:.2f} s of processors\n"
        f"  two take {gain.wall:.2f} times as many meta-steps (asked: {TARGET}), for "
        f"{1 / gain.cpu:.2f} times the processor time"
    )
    return 0


def two_workers() -> list[str]:
    """TF_CONFIG of each of two workers, at free ports of this machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for opened in sockets:
        opened.close()
    return [
        json.dumps(
            {
                "cluster": {"worker": addresses},
                "task": {"type": "worker", "index": index},
            }
        )
        for index in range(2)
    ]
