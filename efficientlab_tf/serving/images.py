"""Resizing and decoding inside a served graph.

Encoded pictures are judged by their headers before anything is decoded: a few bytes
may declare a picture of gigabytes.
"""

import tensorflow as tf

from efficientlab_tf.serving.checks import behind, require

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
MAX_SEGMENTS = 1000
"""JPEG segments that are looked at before the frame header; pictures have tens."""

# ITU-T T.81, table B.1: start of frame, but for DHT, JPG and DAC in between.
_FRAMES = tuple(m for m in range(0xC0, 0xD0) if m not in (0xC4, 0xC8, 0xCC))
# Markers that a frame header must come before, or that have no length.
_NOT_SEGMENTS = (0x00, 0x01, *range(0xD0, 0xDB))


def interpolation_matrix(source: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """The matrix of 1-D linear interpolation with antialiasing, for sizes in the graph.

    Weights fall linearly with the distance to the half-pixel centre, over one source
    pixel when enlarging and over one target pixel when reducing: what
    `tf.image.resize(method="bilinear", antialias=True)` does, out of operations that
    other runtimes have too.

    Args:
      source: int32 scalar, number of input points.
      target: int32 scalar, number of output points.

    Returns:
      float32 [target, source]; each row sums to one.
    """
    scale = tf.cast(source, tf.float32) / tf.cast(target, tf.float32)
    centres = (tf.range(tf.cast(target, tf.float32)) + 0.5) * scale
    points = tf.range(tf.cast(source, tf.float32)) + 0.5
    distance = tf.abs(points[tf.newaxis] - centres[:, tf.newaxis])
    weights = tf.nn.relu(1.0 - distance / tf.maximum(scale, 1.0))
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)


def resize(images: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Resizes float32 [n, H, W, c] as the data pipeline does, but without rounding.

    Images that have the size already come out as they are.
    """
    shape = tf.shape(images)
    rows = interpolation_matrix(shape[1], height)
    columns = interpolation_matrix(shape[2], width)
    resized = tf.einsum("hH,nHWc->nhWc", rows, images)
    return tf.einsum("wW,nhWc->nhwc", columns, resized)


def resize_masks(masks: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Resizes uint8 [n, H, W] to the nearest pixel, as the data pipeline does."""
    return tf.image.resize(masks[..., tf.newaxis], [height, width], method="nearest")[
        ..., 0
    ]


def decode(name: tf.Tensor, data: tf.Tensor, max_side: int) -> tf.Tensor:
    """Decodes one JPEG or PNG picture.

    Orientation tags are not applied: rows are in the order in which they are stored.

    Args:
      name: string scalar for messages.
      data: string scalar, the file.
      max_side: larger pictures are refused by their header, before decoding.

    Returns:
      uint8 [H, W, 3].
    """
    is_png = tf.strings.substr(data, 0, len(PNG_SIGNATURE)) == PNG_SIGNATURE
    is_jpeg = tf.strings.substr(data, 0, len(JPEG_SIGNATURE)) == JPEG_SIGNATURE
    known = require(
        is_png | is_jpeg,
        name,
        ": expected the bytes of a JPEG or PNG file, received this many of something "
        "else: ",
        tf.strings.length(data),
    )
    data = behind([known], data)
    size = tf.cond(is_png, lambda: _png_size(data), lambda: _jpeg_size(data))
    checks = [
        require(
            tf.reduce_all(size >= 1),
            name,
            ": no picture size in the file's header; it is truncated or damaged",
        ),
        require(
            tf.reduce_all(size <= max_side),
            name,
            f": expected sides of at most {max_side} pixels, the header says height "
            "and width ",
            size,
        ),
    ]
    data = behind(checks, data)
    image = tf.cond(
        is_png,
        lambda: tf.io.decode_png(data, channels=3),
        lambda: tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE"),
    )
    return tf.ensure_shape(image, [None, None, 3])


def _bytes_at(data: tf.Tensor, position: tf.Tensor | int, count: int) -> tf.Tensor:
    """Bytes from `position` on as int64 [count]; zeros behind the end."""
    position = tf.minimum(position, tf.strings.length(data))
    padded = tf.strings.join([tf.strings.substr(data, position, count), b"\0" * count])
    values = tf.io.decode_raw(tf.strings.substr(padded, 0, count), tf.uint8)
    return tf.cast(tf.ensure_shape(values, [count]), tf.int64)


def _number(digits: tf.Tensor) -> tf.Tensor:
    """Bytes of a big-endian number."""
    return tf.reduce_sum(
        digits
        * tf.constant([256**i for i in reversed(range(digits.shape[0]))], tf.int64)
    )


def _png_size(data: tf.Tensor) -> tf.Tensor:
    """Height and width, int64 [2], from the IHDR chunk; 0 if that is not the first."""
    is_header = tf.strings.substr(data, 8, 8) == b"\0\0\0\rIHDR"
    sides = _bytes_at(data, 16, 8)
    size = tf.stack([_number(sides[4:]), _number(sides[:4])])
    return tf.where(is_header, size, tf.zeros_like(size))


def _jpeg_size(data: tf.Tensor) -> tf.Tensor:
    """Height and width, int64 [2], from the frame header; 0 if there is none.

    Walks over the segments as decoders do: thumbnails, which have headers of their
    own, lie inside of segments.
    """

    def body(position, segments, searching, size):
        start = _bytes_at(data, position, 9)
        marker, length = start[1], _number(start[2:4])
        is_marker = start[0] == 0xFF
        is_fill = is_marker & (marker == 0xFF)
        is_frame = is_marker & tf.reduce_any(marker == _FRAMES)
        is_segment = is_marker & tf.reduce_all(marker != _NOT_SEGMENTS) & (length >= 2)
        # Behind the length a frame header has its precision, then height and width.
        found = tf.stack([_number(start[5:7]), _number(start[7:9])])
        size = tf.where(is_frame, found, size)
        step = tf.where(is_fill, tf.constant(1, tf.int64), length + 2)
        searching = tf.logical_not(is_frame) & (is_fill | is_segment)
        return position + tf.cast(step, tf.int32), segments + 1, searching, size

    state = (tf.constant(2), tf.constant(0), tf.constant(True), tf.zeros([2], tf.int64))
    *_, size = tf.while_loop(
        lambda position, segments, searching, size: (
            searching & (segments < MAX_SEGMENTS) & (position < tf.strings.length(data))
        ),
        body,
        state,
    )
    return size
