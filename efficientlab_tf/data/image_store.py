"""Decoded images of many classes, read inside the graph.

All shards are decoded once at the start, so a damaged record is found before the work
begins. Classes that fit into a budget of memory stay there as uint8. Of the others only
the places of the records are kept, and the examples that are drawn are read again; so a
dataset may be of any size.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
import psutil
import tensorflow as tf

from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.data.records import (
    DAMAGED,
    FRAME_BYTES,
    FRAME_HEADER,
    decode_example,
    read_shard,
)
from efficientlab_tf.errors import UserError
from efficientlab_tf.untrusted import reason_of

# Classes are kept in variables of about this size: while one is made, it is in
# memory twice.
_CHUNK_BYTES = 256 * 2**20


class ImageStore:
    """The decoded examples of some classes of a dataset.

    Attributes:
      class_names: the classes, in the order of `class_index`.
      counts: number of examples of each class.
      image_size: (height, width) in pixels.
      cached_classes: how many classes are in memory.
    """

    def __init__(
        self,
        manifest: Manifest,
        class_names: Sequence[str],
        image_size: int | tuple[int, int],
        cache_bytes: int | None = None,
    ):
        """Decodes every shard and keeps what fits.

        Args:
          manifest: of the dataset.
          class_names: the classes.
          image_size: side of a square, or (height, width), in pixels.
          cache_bytes: memory for decoded images; None uses half of the free memory.

        Raises:
          UserError: a shard is missing, damaged or longer or shorter than the
            manifest says, or one of its records cannot be decoded.
        """
        if isinstance(image_size, int):
            image_size = (image_size, image_size)
        height, width = (int(side) for side in image_size)
        if min(height, width) < 1:
            raise UserError(f"`image_size` must be positive, received {height}x{width}")
        if cache_bytes is None:
            cache_bytes = psutil.virtual_memory().available // 2
        self._manifest = manifest
        self.class_names = tuple(class_names)
        self.image_size = (height, width)
        self.counts = tuple(manifest.classes[name].count for name in class_names)
        self._paths = [str(manifest.shard_path(name)) for name in class_names]
        # Images must stay out of the memory of a GPU.
        with tf.device("CPU:0"):
            self._fill(cache_bytes)

    def _fill(self, cache_bytes: int) -> None:
        example_bytes = self.image_size[0] * self.image_size[1] * 4
        self._chunks: list[tuple[tf.Variable, ...]] = []
        parts: list[tuple[tf.Tensor, tf.Tensor]] = []
        places: list[tuple[int, int] | None] = []  # chunk, first row in it
        rows = 0

        def close_chunk() -> None:
            # Variables, since `tf.data` copies a tensor that a map captures when
            # it makes an iterator.
            tensors = (tf.concat(tensors, 0) for tensors in zip(*parts, strict=True))
            variables = (tf.Variable(t, trainable=False) for t in tensors)
            self._chunks.append(tuple(variables))
            parts.clear()

        fits = []
        for count in self.counts:
            fits.append(count * example_bytes <= cache_bytes)
            cache_bytes -= count * example_bytes * fits[-1]
        decoded = self._decoded_classes(np.flatnonzero(fits))
        # Class index to the places of its records, (first byte, length).
        self._records: dict[int, np.ndarray] = {}
        for index, count in enumerate(self.counts):
            if not fits[index]:
                self._records[index] = self._checked_records(index)
                places.append(None)
                continue
            places.append((len(self._chunks), rows))
            parts.append(next(decoded))
            rows += count
            if rows * example_bytes >= _CHUNK_BYTES:
                close_chunk()
                rows = 0
        if parts:
            close_chunk()
        self.cached_classes = sum(fits)
        # A class that is not in memory has the number after the last chunk.
        self._chunk_of_class, self._first_row = zip(
            *(place or (len(self._chunks), 0) for place in places), strict=True
        )
        signature = [tf.TensorSpec([], tf.int32), tf.TensorSpec([None], tf.int32)]
        self._lookup = tf.function(self._lookup_in_graph, input_signature=signature)

    def images(
        self, class_index: tf.Tensor, example_indices: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns some examples of one class; works eagerly and in `tf.data`.

        Args:
          class_index: int32 scalar, of `class_names`.
          example_indices: int32 [k], each below the class's count.

        Returns:
          images uint8 [k, H, W, 3] and masks uint8 [k, H, W].
        """
        images, masks = self._lookup(class_index, example_indices)
        count = tf.convert_to_tensor(example_indices).shape[0]
        images = tf.ensure_shape(images, [count, *self.image_size, 3])
        return images, tf.ensure_shape(masks, [count, *self.image_size])

    def _lookup_in_graph(self, class_index, example_indices):
        rows = tf.gather(tf.constant(self._first_row), class_index) + example_indices

        def from_memory(images, masks):
            return lambda: (tf.gather(images, rows), tf.gather(masks, rows))

        def from_shard():
            arguments = [class_index, example_indices]
            records = tf.numpy_function(self._read, arguments, tf.string)
            return self._decoded(tf.ensure_shape(records, [None]))

        branches = [from_memory(*chunk) for chunk in self._chunks]
        if self.cached_classes < len(self.class_names):
            branches.append(from_shard)
        chunk = tf.gather(tf.constant(self._chunk_of_class), class_index)
        return tf.switch_case(chunk, branches)

    def _decoded(self, records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.map_fn(
            lambda record: decode_example(record, self.image_size),
            records,
            fn_output_signature=(tf.uint8, tf.uint8),
        )

    def _read(self, class_index: np.ndarray, example_indices: np.ndarray) -> np.ndarray:
        records = []
        with open(self._paths[class_index], "rb") as file:
            for first, length in self._records[int(class_index)][example_indices]:
                file.seek(first)
                records.append(file.read(length))
        return np.array(records, object)

    def _checked_records(self, index: int) -> np.ndarray:
        """Decodes a class one by one; returns the places of its records."""

        def check(record):
            image, mask = decode_example(record, self.image_size)
            # Returned, since TensorFlow computes nothing that is not used.
            return tf.strings.length(record), tf.reduce_max(image), tf.reduce_max(mask)

        records = tf.data.TFRecordDataset(self._paths[index])
        checked = records.map(check, num_parallel_calls=tf.data.AUTOTUNE)
        try:
            lengths = [length for length, _, _ in checked.as_numpy_iterator()]
        except DAMAGED as error:
            raise self._fault(index, error) from error
        if len(lengths) != self.counts[index]:
            raise self._fault(index)
        frames = np.array(lengths, np.int64) + FRAME_BYTES
        first = np.cumsum(frames) - frames + FRAME_HEADER
        return np.stack([first, np.array(lengths)], axis=1)

    def _decoded_classes(self, indices: np.ndarray) -> Iterator[tuple]:
        """Yields images and masks of some classes, decoded in parallel, in order."""

        def decode_class(path, count):
            records = tf.data.TFRecordDataset(path).batch(count + 1)
            records = records.get_single_element()
            expected = tf.debugging.assert_equal(tf.size(records, tf.int64), count)
            with tf.control_dependencies([expected]):
                return self._decoded(records)

        if not len(indices):
            return
        paths, counts = np.array(self._paths), np.array(self.counts, np.int64)
        shards = tf.data.Dataset.from_tensor_slices((paths[indices], counts[indices]))
        decoded = iter(shards.map(decode_class, num_parallel_calls=tf.data.AUTOTUNE))
        for index in indices:
            try:
                examples = next(decoded)
            except DAMAGED as error:
                raise self._fault(index, error) from error
            yield examples

    def _fault(self, index: int, error: Exception | None = None) -> UserError:
        """Looks for the first bad record of a class; returns the error about it."""
        path = self._manifest.shard_path(self.class_names[index])
        what = f"cannot read it ({_reason(error)})" if error else "cannot read it"
        count = 0
        try:
            for record in read_shard(path):
                decode_example(tf.constant(record), self.image_size)
                count += 1
        except UserError as fault:
            return fault
        except DAMAGED as fault:
            path = f"{path}, record {count}"
            what = f"cannot decode it ({_reason(fault)})"
        else:
            expected = self.counts[index]
            if count != expected:
                what = f"{count} records, but the manifest says {expected}"
        return UserError(
            f"shard {path}: {what}; copy the file again or convert the dataset again"
        )


def _reason(error: Exception) -> str:
    """TensorFlow's message without the names of its nodes."""
    return re.sub(r"\{\{.*?\}\}|\[Op:.*", "", reason_of(error)).strip()
