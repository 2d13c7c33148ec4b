"""Writing a model's version folder: whole or not at all.

NAME/1/
  saved_model.pb, variables/    the model
  assets.extra/                 requests that the server replays when it loads it
  README.md                     how to serve it and how to ask it
  batching_config.txt, monitoring_config.txt    samples for the server
"""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from efficientlab_tf.config import ExportConfig
from efficientlab_tf.errors import UserError
from efficientlab_tf.segmenters.inner_loop import InnerLoop
from efficientlab_tf.segmenters.network import Weights
from efficientlab_tf.serving import documents
from efficientlab_tf.serving.saved_model import (
    InnerDefaults,
    SegmentationModel,
    ServedModel,
)
from efficientlab_tf.serving.warmup import warmup_requests, write_warmup


class Described(NamedTuple):
    """What is served, for those who read about it.

    Attributes:
      network: in words.
      image_shape: height, width and channels of its images.
      classes: K.
      learned_rates: whether the rates of its inner loop were learned.
    """

    network: str
    image_shape: tuple[int, ...]
    classes: int
    learned_rates: bool = False


def check_output(output: Path, overwrite: bool) -> None:
    """Checks that a version may be written there, before the work begins.

    Raises:
      UserError: something is there that must stay.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / "saved_model.pb").is_file():
        raise UserError(
            f"`output` {output} exists and is not an exported model; choose another "
            "folder"
        )
    if not overwrite:
        raise UserError(
            f"`output` {output} holds a model already; choose the next version number, "
            "or give `overwrite`"
        )


def export(
    output: Path,
    inner: InnerLoop,
    weights: Weights,
    defaults: InnerDefaults,
    config: ExportConfig,
    *,
    overwrite: bool = False,
) -> None:
    """Writes a model for TensorFlow Serving.

    Args:
      output: the version's folder, NAME/1; it appears complete.
      inner: the inner loop on its network.
      weights: the initialization.
      defaults: see `InnerDefaults`.
      config: what is exported, and its limits.
      overwrite: replace a model that is there.

    Raises:
      UserError: something else is there, or the folder cannot be written.
    """
    write_version(
        output,
        ServedModel(inner, weights, defaults, config),
        Described(
            inner.network.about,
            inner.network.image_shape,
            inner.network.classes,
            bool(weights.rates),
        ),
        defaults,
        config,
        overwrite=overwrite,
    )


def write_version(
    output: Path,
    served: SegmentationModel,
    described: Described,
    defaults: InnerDefaults,
    config: ExportConfig,
    *,
    overwrite: bool = False,
) -> None:
    """Writes anything that segments; arguments and errors as `export`."""
    check_output(output, overwrite)
    height, width, _ = described.image_shape
    partial = output.with_name(f".{output.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        tf.saved_model.save(served, str(partial), signatures=served.signatures())
        write_warmup(partial, warmup_requests(height, width, config))
        texts = {
            "README.md": documents.readme(
                name=model_name(output),
                version=output.name,
                network=described.network,
                image_shape=described.image_shape,
                classes=described.classes,
                defaults=defaults,
                learned_rates=described.learned_rates,
                config=config,
            ),
            "batching_config.txt": documents.batching_config(config),
            "monitoring_config.txt": documents.MONITORING_CONFIG,
        }
        for file, text in texts.items():
            (partial / file).write_text(text)
        _put_in_place(partial, output)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", error)
        raise UserError(
            f"cannot write `output` {output}: {reason}; choose a folder that you may "
            "write to"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put_in_place(partial: Path, output: Path) -> None:
    """Renames, so that a server that watches the folder never sees half a model."""
    if not output.exists():
        os.rename(partial, output)
        return
    old = output.with_name(f".{output.name}.old-{os.getpid()}")
    os.rename(output, old)
    try:
        os.rename(partial, output)
    except OSError:
        os.rename(old, output)
        raise
    shutil.rmtree(old, ignore_errors=True)


def model_name(output: Path) -> str:
    """NAME of NAME/1; the folder's own name where it is not a version's."""
    output = output.absolute()
    return output.parent.name if output.name.isdecimal() else output.name


def folder_bytes(folder: Path) -> int:
    """The size of everything in a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def describe_signatures(folder: Path) -> list[str]:
    """A line for each input and output of each signature of a SavedModel."""
    data = (folder / "saved_model.pb").read_bytes()
    signatures = saved_model_pb2.SavedModel.FromString(data).meta_graphs[0]
    lines = []
    for name, signature in sorted(signatures.signature_def.items()):
        if name.startswith("__"):
            continue
        lines.append(name)
        for arrow, tensors in ("<-", signature.inputs), ("->", signature.outputs):
            for key, info in sorted(tensors.items()):
                sides = [d.size if d.size >= 0 else "?" for d in info.tensor_shape.dim]
                shape = ", ".join(map(str, sides))
                dtype = tf.as_dtype(info.dtype).name
                lines.append(f"  {arrow} {key:18}{dtype} [{shape}]")
    return lines
