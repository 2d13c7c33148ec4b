"""dataset.json: what a dataset folder holds.

```json
{
  "format": 1,
  "name": "icons",
  "classes": {"bear": {"shard": "bear.tfrecord", "count": 10, "sha256": "..."}},
  "splits": {"train": ["bear"], "test": []}
}
```

A dataset with folds also has "folds", a list of such "splits".
"""

import json
import os
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path, PurePosixPath

from efficientlab_tf.data.folds import Fold, fold_number
from efficientlab_tf.data.split_lists import (
    check_splits,
    load_splits,
    resolve_splits,
)
from efficientlab_tf.errors import UserError
from efficientlab_tf.files import write_text, writing
from efficientlab_tf.untrusted import build, read_json, reading

FILENAME = "dataset.json"
FORMAT = 1
SAMPLE_PREFIX = "sample:"
ALL = "all"
"""The split that every dataset has: all of its classes."""


@dataclass(frozen=True)
class ClassEntry:
    """One class of a dataset.

    Attributes:
      shard: the shard's path, relative to the dataset's folder.
      count: number of examples in it.
      sha256: hexadecimal digest of the file.
    """

    shard: str
    count: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The contents of a dataset folder.

    Attributes:
      name: the dataset's name.
      classes: class name to its entry.
      splits: split name to class names, each split's classes in listed order.
      directory: the folder that holds dataset.json and the shards.
      folds: the splits of each fold; () for a dataset without folds.
    """

    name: str
    classes: dict[str, ClassEntry]
    splits: dict[str, tuple[str, ...]]
    directory: Path
    folds: tuple[Fold, ...] = ()

    @classmethod
    def load(cls, dataset_dir: str | os.PathLike) -> "Manifest":
        """Reads the manifest of a dataset.

        Args:
          dataset_dir: a folder with dataset.json, or "sample:NAME" for one of the
            small sets that the package ships.

        Raises:
          UserError: no such folder or sample, it has no dataset.json or one that
            cannot be understood, or a shard is missing.
        """
        directory = _resolve(dataset_dir)
        path = directory / FILENAME
        if not path.is_file():
            raise UserError(
                f"{directory} has no {FILENAME}, so it is not a converted dataset "
                "(or its conversion did not finish); convert the images with "
                "efficientlab convert"
            )
        advice = "copy the dataset again or convert it again"
        content = read_json(path, advice)
        with reading(str(path), advice):
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']!r}, expected {FORMAT}")
            manifest = cls(
                name=str(content["name"]),
                classes={
                    name: _entry(name, values)
                    for name, values in content["classes"].items()
                },
                splits=_lists(content["splits"]),
                directory=directory,
                folds=tuple(_lists(fold) for fold in content.get("folds", ())),
            )
        for splits in (manifest.splits, *manifest.folds):
            check_splits(splits, manifest.classes)
        missing = [n for n in manifest.classes if not manifest.shard_path(n).is_file()]
        if missing:
            raise UserError(
                f"{directory} lacks {len(missing)} of {len(manifest.classes)} shards "
                f"that {FILENAME} lists, first {manifest.shard_path(missing[0])}; "
                "copy the whole folder again or convert again"
            )
        return manifest

    def save(self) -> None:
        """Writes dataset.json into `directory`, completely or not at all.

        Raises:
          UserError: a split is not consistent with the classes, or the file
            cannot be written.
        """
        for splits in (self.splits, *self.folds):
            check_splits(splits, self.classes)
        content = {
            "format": FORMAT,
            "name": self.name,
            "classes": {
                name: asdict(entry) for name, entry in sorted(self.classes.items())
            },
            "splits": self.splits,
        }
        if self.folds:
            content["folds"] = self.folds
        path = self.directory / FILENAME
        with writing(str(path), "check the folder"):
            write_text(path, json.dumps(content, indent=1) + "\n")

    def split(self, name: str) -> tuple[str, ...]:
        """Returns the class names of a split; "all" is every class, sorted.

        Raises:
          UserError: the dataset has no such split, or the split is empty.
        """
        if name == ALL and ALL not in self.splits:
            return tuple(sorted(self.classes))
        if name not in self.splits:
            folds = f"; or set `splits` to one of: {self._fold_names()}"
            raise UserError(
                f"dataset {self.name} ({self.directory}) has no split {name!r}; choose "
                f"one of: {', '.join([*self.splits, ALL])}{folds if self.folds else ''}"
            )
        if not self.splits[name]:
            raise UserError(
                f"split {name!r} of dataset {self.name} ({self.directory}) lists no "
                "class; choose another split or other split lists"
            )
        return self.splits[name]

    def with_splits(self, spec: str) -> "Manifest":
        """Returns the manifest with the splits that `spec` names.

        Args:
          spec: as in `efficientlab_tf.data.split_lists.load_splits`, or "fold0",
            "fold1", ... for one of the dataset's folds.

        Raises:
          UserError: unknown spec, no such fold, a class in two splits, or a listed
            class that the dataset lacks.
        """
        number = fold_number(spec)
        if number is not None:
            return replace(self, splits=dict(self.fold(number)))
        return replace(self, splits=resolve_splits(load_splits(spec), self.classes))

    def fold(self, number: int) -> Fold:
        """Returns the splits of a fold.

        Raises:
          UserError: the dataset has no such fold.
        """
        if not self.folds:
            raise UserError(
                f"dataset {self.name} ({self.directory}) has no folds, so no "
                f"fold{number}; its splits are: {', '.join([*self.splits, ALL])}"
            )
        if not 0 <= number < len(self.folds):
            raise UserError(
                f"dataset {self.name} ({self.directory}) has no fold{number}; choose "
                f"one of: {self._fold_names()}"
            )
        return self.folds[number]

    def _fold_names(self) -> str:
        return ", ".join(f"fold{number}" for number in range(len(self.folds)))

    def shard_path(self, class_name: str) -> Path:
        """Returns the path of a class's shard.

        Raises:
          UserError: the dataset has no such class.
        """
        if class_name not in self.classes:
            raise UserError(
                f"dataset {self.name} ({self.directory}) has no class {class_name!r}; "
                f"{FILENAME} there lists its {len(self.classes)} classes"
            )
        return self.directory / self.classes[class_name].shard


_MAX_NAME = 250


def _entry(name: str, values: object) -> ClassEntry:
    try:
        entry = build(ClassEntry, values)
        if entry.count < 0:
            raise ValueError(f"`count` must not be negative, received {entry.count}")
        shard = PurePosixPath(entry.shard)
        # Somebody else's dataset reads no other files than its own.
        if shard.is_absolute() or ".." in shard.parts:
            raise ValueError(f"the shard {entry.shard!r} is outside of the folder")
        if len(entry.shard) > _MAX_NAME:
            raise ValueError(f"the shard's name has more than {_MAX_NAME} characters")
    except ValueError as error:
        raise ValueError(f"class {name!r}: {error}") from error
    return entry


def _lists(splits: dict) -> dict[str, tuple[str, ...]]:
    for split, names in splits.items():
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise ValueError(f"split {split!r} is not a list of names")
    return {split: tuple(names) for split, names in splits.items()}


def _resolve(dataset_dir: str | os.PathLike) -> Path:
    if isinstance(dataset_dir, str) and dataset_dir.startswith(SAMPLE_PREFIX):
        sample = dataset_dir[len(SAMPLE_PREFIX) :]
        root = Path(str(resources.files("efficientlab_tf.data") / "sample"))
        names = sorted(path.parent.name for path in root.glob(f"*/{FILENAME}"))
        if sample not in names:
            raise UserError(
                f"no sample dataset {sample!r} in the package; choose one of: "
                f"{', '.join(SAMPLE_PREFIX + name for name in names)}"
            )
        return root / sample
    directory = Path(dataset_dir)
    if "," in str(dataset_dir) and not directory.is_dir():
        raise UserError(
            f"`dataset_dir` must be one dataset here, received {str(dataset_dir)!r}: "
            "name one of them (only meta-training mixes several)"
        )
    if not directory.is_dir():
        raise UserError(
            f"no dataset folder {directory}; give the folder that holds {FILENAME}, "
            f"or {SAMPLE_PREFIX}icons"
        )
    return directory
