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

import numpy as np
from PIL import Image

from efficientlab_tf.api.loading import load
from efficientlab_tf.data.annotations.export import rgb
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.data.records import decode_example, read_shard
from efficientlab_tf.inference.queries import Query
from efficientlab_tf.inference.segmenting import MASKS, OVERLAYS, segment
from efficientlab_tf.pictures import marked, palette_image


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
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        queries = _queries(Path(folder), args.side, args.pictures)
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
