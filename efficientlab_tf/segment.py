"""Segments any number of pictures with a model that has adapted.

    python -m efficientlab_tf.segment --model=mine.keras --query=DIR --output=results

--query is a folder with all folders in it, a .txt file of paths, or TFRecords. Reading,
the network and writing run at the same time, and memory does not grow. Writes masks/
and index.jsonl, a line a picture, into --output; the same command again goes on where
it was. --shard=i/n takes one of n parts, for a cluster's array job. Pictures that
cannot be read are named and the others done; then the exit status is 1.
"""

import contextlib
import dataclasses
import hashlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from efficientlab_tf import flags
from efficientlab_tf.api.loading import load
from efficientlab_tf.checkpoint.run import MODEL_FILE
from efficientlab_tf.config import setting
from efficientlab_tf.config.settings import check
from efficientlab_tf.errors import UserError
from efficientlab_tf.files import make_writable
from efficientlab_tf.inference import exported, segmenting
from efficientlab_tf.inference.collection import Collection, Shard
from efficientlab_tf.inference.index import Index, index_name
from efficientlab_tf.inference.queries import Query
from efficientlab_tf.shipped import shipped_path
from efficientlab_tf.training.lock import locked

_SHOWN = 20
"""Pictures that could not be read and are named on the screen; the index has all."""


@dataclasses.dataclass(frozen=True)
class SegmentConfig:
    """The command line of this command."""

    model: str = setting(
        "",
        "The adapted model: a file that adapt --save wrote, or a folder that export "
        "wrote. Other models segment as they are.",
    )
    query: str = setting(
        "",
        "Pictures: a folder, looked through with all folders in it; a .txt file with a "
        "path a line, from its own folder on; or TFRecords with image/encoded.",
    )
    output: str = setting("", "Folder for masks/ and index.jsonl.")
    shard: str = setting(
        "0/1", "i/n: of n parts of the pictures take part i, from 0 to n - 1."
    )
    classes: str = setting(
        "",
        "Names of the model's classes for the index, joined by commas, in the order of "
        "their numbers.",
    )
    threshold: float = setting(
        0.5,
        "Foreground probability above which a pixel counts, for one class.",
        above=0,
        below=1,
    )
    overlays: bool = setting(
        False, "Also write overlays/: the pictures with their classes tinted."
    )

    def __post_init__(self):
        check(self)
        Shard.parse(self.shard)

    @property
    def class_names(self) -> tuple[str, ...]:
        """`classes` as names."""
        return tuple(name.strip() for name in self.classes.split(",") if name.strip())


def segment(config: SegmentConfig) -> int:
    """Runs the command.

    Args:
      config: the command line.

    Returns:
      The exit status: 1 if a picture could not be read.
    """
    for name in ("model", "query", "output"):
        if not getattr(config, name):
            raise UserError(f"`{name}` is needed, see --help")
    collection, shard = Collection(config.query), Shard.parse(config.shard)
    output = Path(config.output)
    if output.resolve().is_relative_to(collection.folder.resolve()):
        raise UserError(
            f"`output` {output} would write among the pictures; choose another folder"
        )
    if next(collection.queries(Shard()), None) is None:
        raise UserError(
            f"{collection.folder} holds no pictures (jpg, png, webp, tif, ...); give "
            "pictures to segment"
        )
    make_writable(output)
    predictor = _predictor(config)
    classes = _names(config, predictor)
    settings = {
        "model": _digest(config.model),
        "classes": list(classes),
        "threshold": config.threshold,
        "overlays": config.overlays,
        "shard": shard.count,
    }
    name = index_name(shard)
    with (
        locked(output, f"{name}.lock", "output"),
        contextlib.closing(Index(output, shard, classes, settings)) as index,
    ):
        before = len(index.done)
        if before:
            print(f"going on after {before} pictures")
        stream = segmenting.segment(
            predictor,
            _left(collection.queries(shard), index.done),
            output,
            overlays=config.overlays,
            scratch=index.scratch,
        )
        bar = tqdm(
            desc="segmenting",
            total=collection.count(shard),
            initial=before,
            unit="picture",
            dynamic_ncols=True,
        )
        try:
            with bar, contextlib.closing(stream):
                for result in stream:
                    index.add(result)
                    bar.update()
                    failed = isinstance(result, segmenting.Failed)
                    if failed and index.errors <= _SHOWN:
                        line = f"error: {result.query.path}: {result.reason}"
                        bar.write(flags.spelled(line), file=sys.stderr)
        except KeyboardInterrupt:
            print(
                f"\n{bar.n - index.errors} pictures are done; the same command goes on "
                "from there",
                file=sys.stderr,
            )
            raise
    print(f"segmented: {bar.n - index.errors} pictures")
    print(f"written: {output}/{segmenting.MASKS}, {name}")
    if index.errors:
        print(
            f"error: {index.errors} pictures could not be read; {output / name} names "
            "them, and the same command tries them again",
            file=sys.stderr,
        )
    return 1 if index.errors else 0


def _left(queries: Iterable[Query], done: set[str]) -> Iterator[Query]:
    """Yields what is not done, each once: a list may name a picture twice."""
    for query in queries:
        if query.output not in done:
            done.add(query.output)
            yield query


def _predictor(config: SegmentConfig) -> segmenting.Predictor:
    folder = Path(config.model)
    if (folder / exported.MODEL).is_file():
        return exported.ExportedModel(folder, config.threshold)
    adapted = load(config.model).adapted
    return dataclasses.replace(adapted, threshold=config.threshold)


def _names(config: SegmentConfig, predictor: segmenting.Predictor) -> tuple[str, ...]:
    names, count = config.class_names, len(predictor.classes)
    if names and len(names) != count:
        raise UserError(
            f"`classes` must name the model's {count} class(es), received {len(names)}"
        )
    return names or predictor.classes


def _digest(model: str) -> str:
    """What tells a model from others, wherever it lies."""
    path = Path(model)
    path = path if path.exists() else shipped_path(model)
    files = [path]
    if path.is_dir():
        kept = MODEL_FILE, exported.MODEL
        files = [f for f in sorted(path.glob("variables/*")) if f.is_file()]
        files += [path / name for name in kept if (path / name).is_file()]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def main() -> int:
    """Segments as the flags say."""
    return segment(flags.read(SegmentConfig))


def define_flags() -> None:
    """Defines this command's flags."""
    flags.define(SegmentConfig)


if __name__ == "__main__":
    define_flags()
    flags.run(main)
