"""What a run shows in TensorBoard."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalar
from tensorboard.plugins.hparams import api as hparams

from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.data.records import FRAME_BYTES
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.meta_test import COLUMNS, Row
from efficientlab_tf.files import replacing
from efficientlab_tf.pictures import contact_sheet
from efficientlab_tf.untrusted import reason_of

BY_CLASS = "validation/class"
"""In front of a class's name: the IoU of its validation episode."""
CURVES = {
    "Loss on query sets": [r"^train/loss$"],
    "IoU on validation classes": [r"^validation/per_image_iou$"],
    "The same, class by class": [rf"^{BY_CLASS}/"],
    "Episodes a second": [r"^train/episodes_per_second$"],
    "Steps that were skipped": [r"^train/bad_steps$"],
}
"""The charts of the layout: titles to what their curves' names match."""
_CELL = 160


class Summaries:
    """Scalars, pictures of fixed validation episodes, and HParams.

    What a killed process wrote of steps that will be taken again is removed, so that
    each is there once.

    Args:
      log_dir: the folder that TensorBoard is pointed at.
      until: the last step that stays; None for a new run, of which nothing does.

    Raises:
      UserError: the folder cannot be written.
    """

    def __init__(self, log_dir: Path, until: int | None):
        try:
            for path in sorted(log_dir.glob("events.out.tfevents.*")):
                if until is None or not _cut(path, until):
                    path.unlink()
            self._writer = tf.summary.create_file_writer(str(log_dir))
        except (OSError, tf.errors.OpError) as error:
            raise UserError(
                f"cannot write TensorBoard's logs to {log_dir}: {reason_of(error)}; "
                "free some space or make the folder writable"
            ) from error

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Writes scalars under their names."""
        with self._writer.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def predictions(self, rows: list[Row], step: int) -> None:
        """Writes a picture for each query: its episode, its truth and what was found.

        Two by two, as TensorBoard shows pictures a few hundred pixels wide.
        """
        pictures = []
        for caption, (support, query, truth, found) in rows:
            captions = " | ".join(COLUMNS[:2]), f"{' | '.join(COLUMNS[2:])}; {caption}"
            square = contact_sheet(
                [[support, query], [truth, found]], captions, cell=_CELL
            )
            pictures.append(np.asarray(square.convert("RGB")))
        with self._writer.as_default(step):
            tf.summary.image(
                "validation/predictions", np.stack(pictures), max_outputs=len(pictures)
            )

    def begin(self, config: RunConfig) -> None:
        """Writes what does not change: settings to compare runs by, and the layout.

        The layout is the page "Custom Scalars" of TensorBoard: the few curves to look
        at first.
        """
        values = {
            name: value
            for group in config.to_dict().values()
            for name, value in group.items()
            if name not in ("run_dir", "dataset_dir")
        }
        with self._writer.as_default(0):
            hparams.hparams(values)
            tf.summary.experimental.write_raw_pb(
                custom_scalar.pb(_layout()).SerializeToString()
            )

    def flush(self) -> None:
        """Puts everything on disk."""
        self._writer.flush()


def _layout() -> layout_pb2.Layout:
    charts = [
        layout_pb2.Chart(
            title=title, multiline=layout_pb2.MultilineChartContent(tag=tags)
        )
        for title, tags in CURVES.items()
    ]
    category = layout_pb2.Category(title="The run at a glance", chart=charts)
    return layout_pb2.Layout(category=[category])


def _cut(path: Path, until: int) -> int:
    """Removes later steps, and a torn end, from an event file.

    Returns:
      How many events with summaries stay; without any, the file is left as it is.
    """
    size = summaries = 0
    for event, record in _events(path):
        if event.step <= until:
            size += len(record) + FRAME_BYTES
            summaries += event.HasField("summary")
    if summaries and size < path.stat().st_size:
        with replacing(path) as partial, tf.io.TFRecordWriter(str(partial)) as writer:
            for event, record in _events(path):
                if event.step <= until:
                    writer.write(record)
    return summaries


def _events(path: Path) -> Iterator[tuple[Event, bytes]]:
    """Yields the events of a file until its end, or until where it is torn."""
    with contextlib.suppress(tf.errors.DataLossError):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            yield Event.FromString(record), record
