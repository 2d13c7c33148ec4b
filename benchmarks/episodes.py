"""How fast the episode pipeline starts and how many episodes it gives a second."""

import argparse
import contextlib
import dataclasses
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from efficientlab_tf.data.episode_augment import EpisodeAugment
from efficientlab_tf.data.episodes import episode_dataset
from efficientlab_tf.data.manifest import Manifest


def main(argv: list[str]) -> int:
    """Measures `episode_dataset` and prints what it found.

    Args:
      argv: command line arguments, see `--help`.

    Returns:
      The exit status.
    """
    parser = argparse.ArgumentParser(prog="episodes", description=__doc__)
    parser.add_argument("--dataset_dir", required=True)
    parser.add_argument("--split", default="all")
    parser.add_argument("--image_size", type=int, default=160)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--queries", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5.0, help="to measure for")
    parser.add_argument(
        "--cache_gb",
        type=float,
        default=-1.0,
        help="memory for decoded images; -1 is half of what is free",
    )
    parser.add_argument(
        "--classes",
        type=int,
        default=0,
        help="repeat the split's classes, under other names, up to this number",
    )
    parser.add_argument(
        "--augment",
        type=float,
        default=0.0,
        help="chance of each change that makes tasks harder (--zoom_out_rate and the "
        "others of efficientlab_tf.train)",
    )
    args = parser.parse_args(argv)

    manifest = Manifest.load(args.dataset_dir)
    with contextlib.ExitStack() as stack:
        if args.classes:
            manifest = stack.enter_context(
                _repeated(manifest, manifest.split(args.split), args.classes)
            )
        start = time.perf_counter()
        dataset = episode_dataset(
            manifest,
            "all" if args.classes else args.split,
            shots=args.shots,
            queries=args.queries,
            seed=args.seed,
            image_size=args.image_size,
            cache_bytes=None if args.cache_gb < 0 else int(args.cache_gb * 2**30),
            augment=EpisodeAugment(*[args.augment] * len(EpisodeAugment._fields)),
        )
        episodes = iter(dataset)
        next(episodes)
        first = time.perf_counter() - start
        _count(episodes, min(1.0, args.seconds))
        rate = _count(episodes, args.seconds)
    names = manifest.split("all" if args.classes else args.split)
    pairs = sum(manifest.classes[name].count for name in names)
    print(f"{len(names)} classes, {pairs} pairs, {args.image_size} px")
    print(f"first episode after {first:.1f} s")
    changed = f", each change at {args.augment:g}" if args.augment else ""
    print(f"{rate:.0f} episodes/s of {args.shots} + {args.queries} pairs{changed}")
    print(f"at most {_peak_gb():.2f} GB resident")
    return 0


def _count(episodes: Iterator, seconds: float) -> float:
    """Returns the episodes a second, having drawn for about `seconds`."""
    start = time.perf_counter()
    drawn = 0
    while time.perf_counter() - start < seconds:
        next(episodes)
        drawn += 1
    return drawn / (time.perf_counter() - start)


def _peak_gb() -> float:
    # Kilobytes on Linux.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@contextlib.contextmanager
def _repeated(
    manifest: Manifest, names: tuple[str, ...], classes: int
) -> Iterator[Manifest]:
    """Gives a temporary dataset of links to the shards of `names`."""
    with tempfile.TemporaryDirectory() as folder:
        entries = {}
        for number in range(classes):
            name = names[number % len(names)]
            shard = f"{number:06d}.tfrecord"
            os.symlink(manifest.shard_path(name).resolve(), Path(folder) / shard)
            entries[f"{name}_{number:06d}"] = dataclasses.replace(
                manifest.classes[name], shard=shard
            )
        yield dataclasses.replace(
            manifest, classes=entries, splits={}, directory=Path(folder)
        )
