"""Pictures a second of `segment`, beside a loop that does one thing after another.

The loop is what `adapt` had before: it reads a batch, runs the network, and writes
masks and overlays, in one thread; TensorFlow spreads the network over the cores in
both. Both write the same pictures. They take turns, so that the ratio holds on a
machine that does other things, too.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from unittest import mock

import numpy as np
import psutil
from PIL import Image

from efficientlab_tf.api.loading import load
from efficientlab_tf.data.annotations.export import rgb
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.data.records import decode_example, read_shard
from efficientlab_tf.inference import segmenting
from efficientlab_tf.inference.queries import Query
from efficientlab_tf.inference.segmenting import MASKS, OVERLAYS, segment
from efficientlab_tf.pictures import marked, palette_image
from efficientlab_tf.segment import SegmentConfig
from efficientlab_tf.segment import segment as command


def main(argv: list[str]) -> int:
    """Measures and prints.

    Args:
      argv: command line arguments, see `--help`.

    Returns:
      The exit status.
    """
    parser = argparse.ArgumentParser(prog="many_pictures", description=__doc__)
    parser.add_argument("--model", default="icons_fomaml_lite0")
    parser.add_argument("--side", type=int, default=640, help="longer, of the pictures")
    parser.add_argument("--pictures", type=int, default=48, help="of each turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument(
        "--soak",
        type=int,
        default=0,
        help="instead: resident memory over so many pictures, by the command itself",
    )
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        queries = _queries(Path(folder), args.side, min(args.pictures, 48))
        if args.soak:
            _soak(Path(folder), args.model, queries, args.soak)
        else:
            _compare(Path(folder), args.model, queries, args.turns)
    return 0


def _queries(folder: Path, side: int, count: int) -> list[Query]:
    """Photographs of cells that come with the package, as JPEG files."""
    manifest = Manifest.load("sample:nuclei")
    records = [r for name in manifest.classes for r in _records(manifest, name)]
    queries = []
    for number in range(count):
        image, _ = decode_example(records[number % len(records)], None)
        picture = Image.fromarray(image.numpy())
        path = folder / f"{number}.jpg"
        picture.resize((side, side * 3 // 4)).save(path, quality=90)
        queries.append(Query(path, None, str(number)))
    return queries


def _records(manifest: Manifest, name: str) -> Iterable[bytes]:
    return read_shard(manifest.shard_path(name))


def _one_after_another(adapted, queries: list[Query], output: Path) -> None:
    """The loop that `adapt` had before."""
    for first in range(0, len(queries), 8):
        part = queries[first : first + 8]
        images = [rgb(query.read()) for query in part]
        found = adapted.infer([adapted.view(image) for image in images])
        for query, image, probabilities in zip(part, images, found, strict=True):
            mask, _ = adapted.decide(probabilities, image.shape[:2])
            overlay = Image.fromarray(marked(image, mask))
            for kind, picture in (MASKS, palette_image(mask)), (OVERLAYS, overlay):
                path = output / kind / f"{query.output}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path)


def _streamed(adapted, queries: list[Query], output: Path, overlays=True) -> None:
    with contextlib.closing(
        segment(adapted, queries, output, overlays=overlays)
    ) as results:
        for _ in results:
            pass


def _compare(folder: Path, name: str, queries: list[Query], turns: int) -> None:
    adapted = load(name).adapted
    ways = {
        "one after another": _one_after_another,
        "streamed": _streamed,
        "streamed, masks alone": lambda *a: _streamed(*a, overlays=False),
    }
    rates = {way: [] for way in ways}
    for turn in range(turns + 1):
        for way, work in ways.items():
            start = time.perf_counter()
            work(adapted, queries, folder / way)
            if turn:  # The first also compiles.
                rates[way].append(len(queries) / (time.perf_counter() - start))
    for path in (folder / "one after another").rglob("*.png"):
        other = folder / "streamed" / path.relative_to(folder / "one after another")
        np.testing.assert_array_equal(*map(np.asarray, map(Image.open, (path, other))))
    with Image.open(queries[0].path) as picture:
        size = "x".join(map(str, picture.size))
    cores, load_1 = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(f"{name}, {len(queries)} pictures of {size}, {turns} turns, {cores} cores")
    print(f"load of the machine at the end: {load_1:.1f}")
    first = rates["one after another"]
    for way, own in rates.items():
        ratio = statistics.median(o / f for o, f in zip(own, first, strict=True))
        rate = statistics.median(own)
        print(f"  {way:24}{rate:7.1f} pictures/s, {ratio:.2f} times the loop")


def _soak(folder: Path, name: str, queries: list[Query], count: int) -> None:
    """Runs the command over a list that names links to the same pictures."""
    names = []
    for number in range(count):
        path = folder / "links" / f"{number // 1000}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(queries[number % len(queries)].path, path)
        names.append(path.relative_to(folder).as_posix())
    (folder / "list.txt").write_text("\n".join(names) + "\n")
    resident = []

    def watched(*arguments, **options):
        process = psutil.Process()
        with contextlib.closing(segment(*arguments, **options)) as results:
            for result in results:
                resident.append(process.memory_info().rss / 2**20)
                yield result

    config = SegmentConfig(
        model=name, query=str(folder / "list.txt"), output=str(folder / "soaked")
    )
    start = time.perf_counter()
    with mock.patch.object(segmenting, "segment", watched):
        command(config)
    seconds = time.perf_counter() - start
    tenth = len(resident) // 10
    before = np.median(resident[tenth : 2 * tenth])
    after = np.median(resident[-tenth:])
    print(f"{len(resident)} pictures in {seconds:.0f} s")
    print(f"resident: {before:.0f} MiB in the second tenth, {after:.0f} in the last")
    print(f"growth: {100 * (after / before - 1):.1f} %")
