"""Decoded images of many classes, read inside the graph.

All shards are decoded once at the start, so a damaged record is found before the work
begins. Classes that fit into a budget of memory stay there as uint8. Of the others only
the places of the records are kept, and the examples that are drawn are read again; so a
dataset may be of any size.
"""

import functools
import itertools
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
    IMAGE_FEATURE,
    decode_example,
    read_shard,
)
from efficientlab_tf.errors import UserError
from efficientlab_tf.graphs import graph, untouched
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
      examples: int32 [pictures, classes]: the number of the example that shows a
        picture among those of a class, -1 if none does.
      shares: whether a picture is there under several classes.
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
        identities: list[np.ndarray] = []
        # Class index to the places of its records, (first byte, length).
        self._records: dict[int, np.ndarray] = {}
        for index, count in enumerate(self.counts):
            if not fits[index]:
                self._records[index], identity = self._checked_records(index)
                identities.append(identity)
                places.append(None)
                continue
            places.append((len(self._chunks), rows))
            *examples, identity = next(decoded)
            identities.append(identity.numpy())
            parts.append(tuple(examples))
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
        self._lookup = graph(self._lookup_in_graph, input_signature=signature)
        self._match(identities)

    def _match(self, identities: Sequence[np.ndarray]) -> None:
        """Finds the pictures that are there under several classes."""
        _, pictures = np.unique(np.concatenate(identities), return_inverse=True)
        shape = pictures.max(initial=-1) + 1, len(self.counts)
        self.examples = np.full(shape, -1, np.int32)
        first = np.cumsum([0, *self.counts])
        for index, (a, b) in enumerate(itertools.pairwise(first)):
            self.examples[pictures[a:b], index] = np.arange(b - a)
        self._first, self._pictures = first[:-1], pictures
        self.shares = bool(((self.examples >= 0).sum(1) > 1).any())

    def draw(self, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws a picture, each as often as any other, and one of its classes.

        Returns:
          The class's index and the number of the example, int32 scalars.
        """
        uniform = functools.partial(tf.random.stateless_uniform, alg="philox")
        count, classes = self.examples.shape
        picture = uniform([], key, maxval=count, dtype=tf.int32)
        examples = tf.gather(tf.constant(self.examples), picture)
        draws = uniform([classes], tf.random.experimental.stateless_fold_in(key, 1))
        index = tf.argmax(tf.where(examples >= 0, draws, -1.0), output_type=tf.int32)
        return index, examples[index]

    def pictures(self, class_index: tf.Tensor) -> tf.Tensor:
        """Returns a number for each example of a class, equal for equal pictures."""
        first, count = (
            tf.gather(tf.constant(values, tf.int32), class_index)
            for values in (self._first, self.counts)
        )
        return tf.constant(self._pictures, tf.int32)[first : first + count]

    def masks_of(
        self, other: tf.Tensor, class_index: tf.Tensor, example_indices: tf.Tensor
    ) -> tf.Tensor:
        """Returns what another class's masks say of some pictures of a class.

        Args:
          other: int32 scalar, the other class.
          class_index, example_indices: see `images`.

        Returns:
          uint8 [k, H, W]; 0 where the other class does not have the picture.
        """
        pictures = tf.gather(self.pictures(class_index), example_indices)
        examples = tf.gather(tf.constant(self.examples), pictures)
        examples = tf.gather(examples, other, axis=1)
        _, masks = self.images(other, tf.maximum(examples, 0))
        return tf.where(examples[:, tf.newaxis, tf.newaxis] >= 0, masks, 0)

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

    def _checked_records(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Decodes a class one by one; returns its records' places and identities."""

        def check(record):
            image, mask = decode_example(record, self.image_size)
            # Returned, since TensorFlow computes nothing that is not used.
            identity = _identities(record[tf.newaxis])[0]
            length = tf.strings.length(record)
            return length, identity, tf.reduce_max(image), tf.reduce_max(mask)

        records = tf.data.TFRecordDataset(self._paths[index])
        checked = records.map(untouched(check), num_parallel_calls=tf.data.AUTOTUNE)
        try:
            seen = [values[:2] for values in checked.as_numpy_iterator()]
        except DAMAGED as error:
            raise self._fault(index, error) from error
        if len(seen) != self.counts[index]:
            raise self._fault(index)
        lengths, identities = np.array(seen, np.int64).reshape(-1, 2).T
        frames = lengths + FRAME_BYTES
        first = np.cumsum(frames) - frames + FRAME_HEADER
        return np.stack([first, lengths], axis=1), identities

    def _decoded_classes(self, indices: np.ndarray) -> Iterator[tuple]:
        """Yields images, masks and identities of classes, decoded in parallel."""

        def decode_class(path, count):
            records = tf.data.TFRecordDataset(path).batch(count + 1)
            records = records.get_single_element()
            expected = tf.debugging.assert_equal(tf.size(records, tf.int64), count)
            with tf.control_dependencies([expected]):
                return *self._decoded(records), _identities(records)

        if not len(indices):
            return
        paths, counts = np.array(self._paths), np.array(self.counts, np.int64)
        shards = tf.data.Dataset.from_tensor_slices((paths[indices], counts[indices]))
        decoded = iter(
            shards.map(untouched(decode_class), num_parallel_calls=tf.data.AUTOTUNE)
        )
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


def _identities(records: tf.Tensor) -> tf.Tensor:
    """Numbers int64 [n] that are equal where the encoded images of records are."""
    wanted = {IMAGE_FEATURE: tf.io.FixedLenFeature([], tf.string)}
    images = tf.io.parse_example(records, wanted)[IMAGE_FEATURE]
    return tf.strings.to_hash_bucket_fast(images, tf.int64.max)


def _reason(error: Exception) -> str:
    """TensorFlow's message without the names of its nodes."""
    return re.sub(r"\{\{.*?\}\}|\[Op:.*", "", reason_of(error)).strip()
