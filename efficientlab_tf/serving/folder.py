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

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from efficientlab_tf.errors import UserError
from efficientlab_tf.serving import documents
from efficientlab_tf.serving.saved_model import SegmentationModel
from efficientlab_tf.serving.warmup import warmup_requests, write_warmup

_ANY = (384, 384)
"""Size of the warm-up's images for a model that takes any."""


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


def export(output: Path, served: SegmentationModel, *, overwrite: bool = False) -> None:
    """Writes a model for TensorFlow Serving.

    Args:
      output: the version's folder, NAME/1; it appears complete.
      served: the model.
      overwrite: replace a model that is there.

    Raises:
      UserError: something else is there, or the folder cannot be written.
    """
    check_output(output, overwrite)
    partial = output.with_name(f".{output.name}.partial-{os.getpid()}")
    texts = {
        "README.md": documents.readme(model_name(output), output.name, served),
        "batching_config.txt": documents.batching_config(served.config),
        "monitoring_config.txt": documents.MONITORING_CONFIG,
    }
    try:
        partial.mkdir(parents=True)
        tf.saved_model.save(served, str(partial), signatures=served.signatures())
        requests = warmup_requests(*(served.size or _ANY), served.config)
        write_warmup(partial, requests)
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
    graph = saved_model_pb2.SavedModel.FromString(data).meta_graphs[0]
    lines = []
    for name, signature in sorted(graph.signature_def.items()):
        if name.startswith("__"):
            continue
        lines.append(name)
        for arrow, tensors in ("<-", signature.inputs), ("->", signature.outputs):
            for key, info in sorted(tensors.items()):
                sides = [d.size if d.size >= 0 else "?" for d in info.tensor_shape.dim]
                dtype, shape = tf.as_dtype(info.dtype).name, ", ".join(map(str, sides))
                lines.append(f"  {arrow} {key:18}{dtype} [{shape}]")
    return lines
