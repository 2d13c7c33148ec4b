"""Loading and saving what a user calls a model: a run's folder or a .keras file."""

import dataclasses
import io
import json
import sys
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from efficientlab_tf.checkpoint.run import MODEL_FILE, RunConfig, build_network
from efficientlab_tf.checkpoint.series import (
    UNREADABLE,
    Saved,
    best_of,
    first_readable,
    newest_series,
    resumable,
)
from efficientlab_tf.checkpoint.tuned import (
    Tuned,
    fingerprint,
    read_tuned,
    write_tuned,
)
from efficientlab_tf.errors import UserError
from efficientlab_tf.files import WRITABLE, replacing, writing
from efficientlab_tf.models import hub
from efficientlab_tf.models.conditioned import GUIDE
from efficientlab_tf.segmenters.network import Network, Weights, check_rates
from efficientlab_tf.shipped import shipped, shipped_path
from efficientlab_tf.untrusted import open_archive, parse_json, reading, reason_of

_CONFIG = "config.json"
_PREFIX = "efficientlab_tf"
_METADATA = f"{_PREFIX}.json"
_RATES = f"{_PREFIX}_rates.npz"
_GUIDES = f"{_PREFIX}_guides.npz"
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
ADVICE = "give a file that this package wrote"
"""What to do about a file that cannot be read as a model."""


class Checkpoint(NamedTuple):
    """A network with what it learned.

    Attributes:
      network: the network.
      weights: the initialization, or what became of it.
      run: the configuration of the run that made it.
      guides: of a conditioned network that has seen a support set, a tensor for each
        class, see `ForwardAdapted`; else ().
    """

    network: Network
    weights: Weights
    run: RunConfig
    guides: tuple[tf.Tensor, ...] = ()


def save_keras(
    path: Path,
    network: Network,
    weights: Weights,
    config: RunConfig,
    guides: Sequence[tf.Tensor] = (),
) -> None:
    """Writes a .keras file with the run's configuration, learned rates and guides."""
    network.assign(weights)
    arrays = {_RATES: weights.rates, _GUIDES: guides}
    save_model(path, network.model, config.to_dict(), arrays)


def save_model(
    path: Path,
    model: keras.Model,
    metadata: dict[str, Any],
    arrays: Mapping[str, Sequence[tf.Tensor | np.ndarray]],
) -> None:
    """Writes a .keras file, a zip archive, with further members that Keras ignores.

    Args:
      path: of the .keras file.
      model: the model.
      metadata: plain values, for JSON.
      arrays: name of a member to its arrays; empty ones are left out.

    Raises:
      UserError: it cannot be written; a file that was there before still is.
    """
    with writing(str(path), f"free some space, or {WRITABLE}"):
        with replacing(path) as partial:
            model.save(partial)
            with zipfile.ZipFile(partial) as archive:
                own = {name: archive.read(name) for name in archive.namelist()}
            # Keras does not compress; weights that were rounded once halve.
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in own.items():
                    archive.writestr(name, content)
                archive.writestr(_METADATA, json.dumps(metadata))
                for name, values in arrays.items():
                    if values:
                        with archive.open(name, "w") as file:
                            np.savez(file, *map(np.asarray, values))


def load_checkpoint(path: str) -> Checkpoint:
    """Loads what a training or an adaptation left.

    Args:
      path: a run's folder (its best checkpoint), or a .keras file.

    Raises:
      UserError: no such thing, or not readable as such.
    """
    source = _source(Path(path))
    return (_load_run if source.is_dir() else _load_keras)(source)


def load_trained(source: str) -> Checkpoint:
    """Loads a model by name or place.

    Args:
      source: a shipped model's name, a run's folder (its best checkpoint), or a .keras
        file.

    Raises:
      UserError: no such thing, or not readable as such.
    """
    is_name = source in shipped() and not Path(source).exists()
    return load_checkpoint(str(shipped_path(source)) if is_name else source)


def start_from(source: str, network: Network) -> None:
    """Gives a network the weights of a trained one.

    Args:
      source: see `load_trained`.
      network: of the same architecture, at any image size; it may train more or less
        of it.

    Raises:
      UserError: no such thing, not readable as such, or of another architecture.
    """
    trained = load_trained(source)
    if not network.matches(trained.network):
        raise UserError(
            f"`start_from` must be a model of the run's network, {network.about}; "
            f"received {source}: {trained.network.about}"
        )
    trained.network.assign(trained.weights)
    pairs = zip(network.every_weight(), trained.network.every_weight(), strict=True)
    for variable, value in pairs:
        variable.assign(value)


def load_tuned(path: str, weights: Weights) -> Tuned | None:
    """Returns the tuned update hyperparameters of a model, if it has any.

    Values that were tuned for other weights, as before the run went on, do not count:
    a line on stderr says so.
    """
    source = _source(Path(path))
    record = read_tuned(source)
    if record is not None and record.initialization != fingerprint(weights):
        print(
            f"note: the tuned values in {source} are those of another initialization "
            "(the run went on, or the file was replaced) and are not used; tune again "
            "with python -m efficientlab_tf.tune",
            file=sys.stderr,
        )
        return None
    return record


def save_tuned(path: str, tuned: Tuned) -> Path:
    """Keeps tuned update hyperparameters with a model; returns where."""
    source = _source(Path(path))
    write_tuned(source, tuned)
    return source


def _source(path: Path) -> Path:
    """The run's folder or the .keras file that `path` stands for."""
    if not path.is_dir():
        if not path.is_file():
            raise UserError(f"no such run folder or .keras file: {path}")
        return path
    # A folder without checkpoints may still hold what was exported from it.
    if not resumable(path) and (path / MODEL_FILE).is_file():
        return path / MODEL_FILE
    return path


def _load_run(source: Path) -> Checkpoint:
    config = RunConfig.load(source)
    # ImageNet's weights would be fetched only to be overwritten.
    network = build_network(dataclasses.replace(config.model, weights=""))
    return Checkpoint(network, _restore(source, network.weights()), config)


def _load_keras(source: Path) -> Checkpoint:
    model, metadata, arrays = read_model(source)
    try:
        config = RunConfig.from_dict(metadata)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    with reading(str(source), ADVICE):
        network = Network(model)
        if len(network.image_shape) != 3 or len(model.output_shape) != 4:
            raise ValueError("the network does not map images to labels of pixels")
        rates, guides = (
            tuple(map(tf.constant, arrays.get(name, ()))) for name in (_RATES, _GUIDES)
        )
        weights = network.weights()._replace(rates=rates)
        check_rates(weights)
        if guides:
            expected = model.get_layer(GUIDE).output.shape
            if any(not expected[1:] == tuple(g.shape[1:]) for g in guides):
                raise ValueError("its guides are not the network's")
    return Checkpoint(network, weights, config, guides)


def read_model(
    source: Path,
) -> tuple[keras.Model, dict[str, Any], dict[str, list[np.ndarray]]]:
    """Reads what `save_model` wrote: the model, its metadata and its arrays.

    Raises:
      UserError: it did not write this.
    """
    with reading(str(source), ADVICE):
        with open_archive(source, source.stat().st_size) as archive:
            names = archive.namelist()
            metadata = archive.read(_METADATA) if _METADATA in names else b"null"
            # Keras reads this one itself, however deep it is.
            parse_json(archive.read(_CONFIG), f"{_CONFIG} in {source}", ADVICE)
            arrays = {
                name: _read_arrays(archive.read(name))
                for name in names
                if name.startswith(_PREFIX) and name.endswith(".npz")
            }
        values = parse_json(metadata, f"{_METADATA} in {source}", ADVICE)
        if hub.is_hub(_backbone(values)):
            hub.keras_hub()
        with warnings.catch_warnings():
            # Of weights that the file lacks, which Keras would leave as drawn.
            warnings.filterwarnings("error", "Skipping nested container")
            model = keras.models.load_model(source, compile=False)
    if not isinstance(values, dict):
        raise UserError(
            f"{source} is a Keras model without this package's settings: how its inner "
            "loop is to be run is not known; give a file that efficientlab_tf wrote, "
            "or save yours with checkpoint.files.save_keras and a RunConfig"
        )
    return model, values, arrays


def _backbone(metadata: object) -> str:
    """The backbone of a run's network; empty where there is none."""
    for key in "model", "backbone":
        metadata = metadata.get(key, "") if isinstance(metadata, dict) else ""
    return metadata if isinstance(metadata, str) else ""


def has_member(path: Path, name: str) -> bool:
    """Whether a file is an archive that holds a member of that name.

    Raises:
      UserError: it is a damaged archive.
    """
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with reading(str(path), ADVICE), zipfile.ZipFile(path) as archive:
        return name in archive.namelist()


def _read_arrays(data: bytes) -> list[np.ndarray]:
    file = io.BytesIO(data)
    with open_archive(file, len(data)), np.load(file) as arrays:
        return [arrays[f"arr_{i}"] for i in range(len(arrays))]


def _restore(run_dir: Path, weights: Weights) -> Weights:
    """The best weights of a run; without validation the newest."""

    def read(saved: Saved) -> Weights:
        return _read_weights(saved, weights, run_dir)

    best = best_of(run_dir)
    if best:
        try:
            return read(best)
        except UNREADABLE as error:
            advice = f"delete {run_dir / 'best'} to take the newest checkpoint instead"
            if (run_dir / MODEL_FILE).is_file():
                advice = f"give {run_dir / MODEL_FILE} instead, or {advice}"
            raise UserError(
                f"checkpoint {best} cannot be read ({reason_of(error)}); {advice}"
            ) from error
    newest = newest_series(run_dir).newest_first()
    if not newest:
        raise UserError(
            f"{run_dir} holds no checkpoint yet; train until the first `save_every`"
        )
    return first_readable(newest, read)


def _read_weights(saved: Saved, weights: Weights, run_dir: Path) -> Weights:
    reader = tf.train.load_checkpoint(saved.prefix)
    shapes = {
        name.removesuffix(_VALUE): shape
        for name, shape in reader.get_variable_to_shape_map().items()
        if name.startswith(("theta/", "statistics/", "rates/"))
    }
    groups = weights._asdict()
    expected = {
        f"{group}/{i}": tensor.shape.as_list()
        for group, tensors in groups.items()
        for i, tensor in enumerate(tensors)
    }
    if "rates/0" in shapes:
        groups["rates"] = weights.theta
        rates = (f"rates/{i}" for i in range(len(weights.theta)))
        expected |= {name: shapes.get(name) for name in rates}
    if shapes != expected:
        raise UserError(
            f"checkpoint {saved} is of another architecture than {run_dir}/config.json "
            "describes; restore the config.json that it was trained with"
        )
    for group, tensors in groups.items():
        groups[group] = tuple(
            tf.constant(reader.get_tensor(f"{group}/{i}{_VALUE}"), tensor.dtype)
            for i, tensor in enumerate(tensors)
        )
    restored = Weights(**groups)
    with reading(str(saved), ADVICE):
        check_rates(restored)
    return restored
