"""Loading and saving what a user calls a model: a run's folder or a .keras file."""

import io
import json
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from efficientlab_tf.checkpoint.run import MODEL_FILE, RunConfig, build_network
from efficientlab_tf.checkpoint.tuned import (
    Tuned,
    adjust,
    fingerprint,
    read_tuned,
    write_tuned,
)
from efficientlab_tf.errors import UserError
from efficientlab_tf.segmenters.network import Network, Weights

_METADATA = "efficientlab_tf.json"
_RATES = "efficientlab_tf_rates.npz"
# TensorFlow's checkpoint reader reports a file that ends too early as IndexError.
UNREADABLE = (tf.errors.OpError, IndexError)


def save_keras(
    path: Path, network: Network, weights: Weights, config: RunConfig
) -> None:
    """Writes a .keras file that also holds the run's configuration.

    The configuration, and learned rates if there are any, are further members of
    the zip archive that a .keras file is; Keras itself does not mind them.
    """
    network.assign(weights)
    network.model.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_METADATA, json.dumps(config.to_dict()))
        if weights.rates:
            with archive.open(_RATES, "w") as file:
                np.savez(file, *(rate.numpy() for rate in weights.rates))


def load_model(path: str, *, tuned: bool = True) -> tuple[Network, Weights, RunConfig]:
    """Loads a learned initialization.

    Args:
      path: a run's folder (its best checkpoint), or a .keras file.
      tuned: put the update hyperparameters into effect that `efficientlab_tf.tune`
        left with it, if there are any: in the configuration, the network's final
        dropout and the learned rates.

    Raises:
      UserError: no such thing, or not readable as such.
    """
    source = _source(Path(path))
    network, weights, config = (_load_run if source.is_dir() else _load_keras)(source)
    if tuned and (record := load_tuned(path, weights)):
        weights, config = adjust(record.values, network, weights, config)
    return network, weights, config


def load_tuned(path: str, weights: Weights) -> Tuned | None:
    """Returns the tuned update hyperparameters of a model, if it has any.

    Args:
      path: as `load_model`.
      weights: what `load_model` returned for it. Values that were tuned for another
        initialization, as it was before the run went on, do not count: a line on
        stderr says so.

    Raises:
      UserError: they cannot be read.
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
    """Keeps tuned update hyperparameters with a model; returns where.

    Args:
      path: as `load_model`.
      tuned: what to keep, in place of what is there.

    Raises:
      UserError: it cannot be written.
    """
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
    if _newest_checkpoint(path) is None and (path / MODEL_FILE).is_file():
        return path / MODEL_FILE
    return path


def _newest_checkpoint(run_dir: Path) -> str | None:
    """The best checkpoint's path; without validation the newest's."""
    return tf.train.latest_checkpoint(str(run_dir / "best")) or (
        tf.train.latest_checkpoint(str(run_dir / "checkpoints"))
    )


def _load_run(source: Path) -> tuple[Network, Weights, RunConfig]:
    config = RunConfig.load(source)
    network = build_network(config.model)
    return network, _restore_weights(source, network.weights()), config


def _load_keras(source: Path) -> tuple[Network, Weights, RunConfig]:
    try:
        model = keras.models.load_model(source, compile=False)
        with zipfile.ZipFile(source) as archive:
            names = archive.namelist()
            metadata = archive.read(_METADATA) if _METADATA in names else None
            rates = _read_rates(archive) if _RATES in names else ()
    except (ValueError, OSError, zipfile.BadZipFile, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{source} cannot be read as a .keras model ({reason}); give a file that "
            "this package wrote"
        ) from error
    config = RunConfig.from_dict(json.loads(metadata)) if metadata else RunConfig()
    network = Network(model)
    return network, network.weights()._replace(rates=rates), config


def _read_rates(archive: zipfile.ZipFile) -> tuple[tf.Tensor, ...]:
    with np.load(io.BytesIO(archive.read(_RATES))) as arrays:
        return tuple(tf.constant(arrays[f"arr_{i}"]) for i in range(len(arrays)))


def _restore_weights(run_dir: Path, weights: Weights) -> Weights:
    path = _newest_checkpoint(run_dir)
    if path is None:
        raise UserError(
            f"{run_dir} holds no checkpoint yet; train until the first --save_every"
        )
    # The optimizer's slots are not needed, so a plain restore by name of the weights
    # alone would do; matching all of them is what detects another architecture.
    try:
        reader = tf.train.load_checkpoint(path)
        shapes = {
            name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE"): shape
            for name, shape in reader.get_variable_to_shape_map().items()
            if name.startswith(("theta/", "statistics/", "rates/"))
        }
        if "rates/0" in shapes:
            rates = tuple(
                tf.zeros(shapes[f"rates/{i}"], theta.dtype)
                for i, theta in enumerate(weights.theta)
            )
            weights = weights._replace(rates=rates)
        variables = tf.nest.map_structure(tf.Variable, weights)
        checkpoint = tf.train.Checkpoint(
            theta=list(variables.theta),
            statistics=list(variables.statistics),
            rates=list(variables.rates),
        )
        expected = {
            f"{group}/{i}": tensor.shape.as_list()
            for group, tensors in weights._asdict().items()
            for i, tensor in enumerate(tensors)
        }
        if shapes != expected:
            raise ValueError("other variables")
        status = checkpoint.restore(path).expect_partial()
        status.assert_existing_objects_matched()
    except (ValueError, AssertionError, KeyError) as error:
        raise UserError(
            f"checkpoint {path} is of another architecture than {run_dir}/config.json "
            "describes; restore the config.json that it was trained with"
        ) from error
    except UNREADABLE as error:
        raise UserError(
            f"checkpoint {path} cannot be read: {str(error).splitlines()[0]}"
        ) from error
    return tf.nest.map_structure(lambda v: v.read_value(), variables)
