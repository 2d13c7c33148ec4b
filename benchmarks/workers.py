"""Two workers of one thread each beside one worker of one thread.

All are processes on this machine that live at the same time. A meta-step of the one and
a meta-step of the two, who share its tasks, are taken in turns. So is one of two that
take half of the tasks each and know nothing of each other: what they gain is what the
machine's processors allow. Pictures are noise, and reading a dataset is not counted.
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
    half = specification | {"tasks": options.meta_batch // 2}
    wanted = [{"cluster": "", **specification}]
    wanted += [{"cluster": text, **specification} for text in cluster(2)]
    wanted += [{"cluster": "", **half}] * 2
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        # All at once, since no worker's first step ends without the other's.
        opened = [threads.submit(Probe, "worker_probe", each) for each in wanted]
        one, *four = (stack.enter_context(probe.result()) for probe in opened)

        def both(probes) -> Spent:
            spent = [step.spent for step in threads.map(Probe.step, probes)]
            return Spent(max(s.wall for s in spent), sum(s.cpu for s in spent))

        rounds = [
            (one.step().spent, both(four[:2]), both(four[2:]))
            for _ in progress(range(options.repeats))
        ]
        parameters = one.started.facts["parameters"]
    alone, together, apart = (median(times) for times in zip(*rounds, strict=True))
    gain = median(ratio(a, b) for a, b, _ in rounds)
    room = median(ratio(a, c) for a, _, c in rounds)
    kept = median(ratio(c, b) for _, b, c in rounds)
    print(
        f"{options.meta_batch} tasks, {options.inner_steps} inner steps, "
        f"{options.image_size} pixels, {parameters:,} weights, medians of "
        f"{options.repeats}"
    )
    for name, spent in (
        ("one worker of one thread", alone),
        ("two workers of one thread", together),
        ("two that do not talk", apart),
    ):
        print(
            f"  {name + ':':27}{spent.wall:.2f} s a meta-step, "
            f"{spent.cpu:.2f} s of processors"
        )
    print(
        f"  two take {gain.wall:.2f} times as many meta-steps as one (asked: "
        f"{TARGET}); the machine allows {room.wall:.2f}, of which they keep "
        f"{100 * kept.wall:.0f} %"
    )
    return 0


def cluster(workers: int) -> list[str]:
    """TF_CONFIG of each of some workers, at free ports of this machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(workers)]
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
        for index in range(workers)
    ]
