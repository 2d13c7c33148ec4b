"""Update hyperparameters chosen after meta-training, and kept with the checkpoint.

run_dir/tuned.json, or a member of the zip archive that a .keras file is. They belong
to one initialization: a run that is trained on has another one, and is not tuned any
more. Meta-training itself never reads them.
"""

import dataclasses
import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import keras
import tensorflow as tf

from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.errors import UserError
from efficientlab_tf.files import replacing, write_text, writing
from efficientlab_tf.segmenters.network import Network, Weights
from efficientlab_tf.untrusted import build, open_archive, parse_json, reading

TUNED_FILE = "tuned.json"
FLAGS_FILE = "tuned.flags"
"""For `train`."""
_MEMBER = "efficientlab_tf_tuned.json"
_LEARNER = ("inner_learning_rate", "inner_steps", "inner_batch", "augment_rate")
_FACTOR = "rates_factor"
_DROPOUT = "final_dropout"
"""Also the name of the layer."""
_ADVICE = (
    "tune again with python -m efficientlab_tf.tune, or ignore them with `tuned`=false"
)


@dataclasses.dataclass(frozen=True)
class Tuned:
    """The outcome of a tuning.

    Attributes:
      values: the chosen hyperparameters: those of the inner loop under their names
        in `LearnerConfig`; final_dropout; rates_factor, a factor on learned rates.
      initialization: `fingerprint` of the initialization they were chosen for.
      dataset: its name.
      split: the split that was tuned on; several are joined by commas.
      tasks: how many tasks.
      shots: support examples of each.
      batch_norm: which statistics normalized the predictions.
      trials: how many configurations were tried.
      score: mean per-image IoU on the tasks that it was chosen by: too good.
      untuned_score: that of the checkpoint's own settings, on the same tasks.
    """

    values: dict[str, float]
    initialization: str
    dataset: str
    split: str
    tasks: int
    shots: int
    batch_norm: str
    trials: int
    score: float
    untuned_score: float

    def __str__(self) -> str:
        values = ", ".join(f"{name} {value:g}" for name, value in self.values.items())
        return (
            f"{values} ({self.dataset}/{self.split}, {self.tasks} tasks, "
            f"{self.shots}-shot, batch norm {self.batch_norm})"
        )

    def flagfile(self) -> str:
        """Flags that meta-train with these values; a factor on rates is of none."""
        values = {n: v for n, v in self.values.items() if n != _FACTOR}
        return "".join(f"--{name}={value}\n" for name, value in values.items())

    def to_json(self) -> str:
        """The inverse of `from_json`."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, data: bytes, source: Path) -> "Tuned":
        """Reads what `to_json` wrote.

        Raises:
          UserError: it did not write this; `source` is named.
        """
        what = f"the tuned values in {source}"
        content = parse_json(data, what, _ADVICE)
        with reading(what, _ADVICE):
            tuned = build(cls, content)
            unknown = {*tuned.values} - {*_LEARNER, _FACTOR, _DROPOUT}
            if unknown:
                raise ValueError(f"no such hyperparameter: {', '.join(unknown)}")
        return tuned


def fingerprint(weights: Weights) -> str:
    """A digest of an initialization: of its parameters and statistics."""
    digest = hashlib.sha256()
    for tensor in (*weights.theta, *weights.statistics):
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def final_dropout(network: Network) -> keras.layers.Dropout:
    """Returns the dropout layer before the last convolution.

    Raises:
      UserError: the network has none.
    """
    try:
        return network.model.get_layer(_DROPOUT)
    except ValueError as error:
        raise UserError(
            "the network has no final dropout to tune: it was built with "
            "`final_dropout`=0, or is no EfficientLab; leave `dropout_range` out"
        ) from error


def adjust(
    values: dict[str, float], network: Network, weights: Weights, run: RunConfig
) -> tuple[Weights, RunConfig]:
    """Puts hyperparameters into effect.

    Args:
      values: see `Tuned`.
      network: the rate of its final dropout is set, if `values` has one.
      weights: the initialization; its learned rates are scaled, if `values` says so.
      run: its configuration, which gets the values.

    Raises:
      UserError: a final dropout for a network without, or a value out of range.
    """
    learner = {name: values[name] for name in _LEARNER if name in values}
    run = dataclasses.replace(run, learner=dataclasses.replace(run.learner, **learner))
    if _DROPOUT in values:
        final_dropout(network).rate = rate = values[_DROPOUT]
        model = dataclasses.replace(run.model, final_dropout=rate)
        run = dataclasses.replace(run, model=model)
    if _FACTOR in values:
        rates = (r * tf.cast(values[_FACTOR], r.dtype) for r in weights.rates)
        weights = weights._replace(rates=tuple(rates))
    return weights, run


def read_tuned(source: Path) -> Tuned | None:
    """Returns what is kept with a run's folder or a .keras file, if anything is."""
    if source.is_dir():
        path = source / TUNED_FILE
        return Tuned.from_json(path.read_bytes(), path) if path.is_file() else None
    size = source.stat().st_size
    with reading(str(source), _ADVICE), open_archive(source, size) as archive:
        if _MEMBER not in archive.namelist():
            return None
        return Tuned.from_json(archive.read(_MEMBER), source)


def write_tuned(source: Path, tuned: Tuned) -> None:
    """Keeps `tuned` with a run's folder or a .keras file, in place of what is there."""
    text, advice = tuned.to_json(), "make it writable and run the same command again"
    with writing(
        f"the tuned values to {source}", f"{advice}: finished trials are kept"
    ):
        if source.is_dir():
            return write_text(source / TUNED_FILE, text)
        with replacing(source) as partial:
            with zipfile.ZipFile(source) as old, zipfile.ZipFile(partial, "w") as new:
                for item in old.infolist():
                    if item.filename != _MEMBER:
                        new.writestr(item, old.read(item))
                # Without a date, so that equal values make equal files.
                new.writestr(zipfile.ZipInfo(_MEMBER), text)
            shutil.copymode(source, partial)
