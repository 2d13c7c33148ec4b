"""Resizing and decoding inside a served graph.

Encoded pictures are judged by their headers before anything is decoded: a few bytes
may declare a picture of gigabytes.
"""

import tensorflow as tf

from efficientlab_tf.data.picture_files import MAX_SCANNED, MAX_SCANS
from efficientlab_tf.serving.checks import behind, require

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"


def interpolation_matrix(source: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """The matrix of 1-D linear interpolation with antialiasing, for sizes in the graph.

    Weights fall linearly with the distance to the half-pixel centre, over one source
    pixel when enlarging and over one target pixel when reducing: what
    `tf.image.resize(method="bilinear", antialias=True)` does, out of operations that
    other runtimes have too.

    Sizes are int32 scalars; returns float32 [target, source] whose rows sum to one.
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
    masks = masks[..., tf.newaxis]
    return tf.image.resize(masks, [height, width], method="nearest")[..., 0]


def decode(name: tf.Tensor, data: tf.Tensor, max_side: int) -> tf.Tensor:
    """Decodes one JPEG or PNG file, a string scalar, to uint8 [H, W, 3].

    Orientation tags are not applied: rows are in the order in which they are stored.
    Pictures larger than `max_side` are refused by their header, before decoding, in
    messages with `name`, a string scalar.
    """
    is_png = tf.strings.substr(data, 0, len(PNG_SIGNATURE)) == PNG_SIGNATURE
    is_jpeg = tf.strings.substr(data, 0, len(JPEG_SIGNATURE)) == JPEG_SIGNATURE
    unknown = (
        ": expected the bytes of a JPEG or PNG file, received this many of something "
        "else: "
    )
    known = require(is_png | is_jpeg, name, unknown, tf.strings.length(data))
    data = behind([known], data)
    size = tf.cond(
        is_png,
        lambda: _png_size(data),
        # Reads up to the frame header, with the decoder's own parser.
        lambda: tf.io.extract_jpeg_shape(data)[:2],
    )
    damaged = ": no picture size in the file's header; it is truncated or damaged"
    large = f": expected sides of at most {max_side} pixels, the header says height "
    checks = [
        require(tf.reduce_all(size >= 1), name, damaged),
        require(tf.reduce_all(size <= max_side), name, f"{large}and width ", size),
    ]
    data = behind(checks, data)
    scans = tf.cond(is_jpeg, lambda: _scans(data), lambda: tf.constant(0, tf.int64))
    pixels = tf.reduce_prod(tf.cast(size, tf.int64))
    few = (scans <= MAX_SCANS) | (scans * pixels <= MAX_SCANNED)
    many = ": a JPEG that no camera or program writes: more scans than "
    data = behind([require(few, name, many, tf.constant(MAX_SCANS))], data)
    image = tf.cond(
        is_png,
        lambda: tf.io.decode_png(data, channels=3),
        lambda: tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE"),
    )
    return tf.ensure_shape(image, [None, None, 3])


def _scans(data: tf.Tensor) -> tf.Tensor:
    """How often a JPEG begins a scan, int64; no other data hold its marker."""
    values = tf.io.decode_raw(data, tf.uint8)
    marks = (values[:-1] == 0xFF) & (values[1:] == 0xDA)
    return tf.math.count_nonzero(marks)


def _png_size(data: tf.Tensor) -> tf.Tensor:
    """Height and width, int32 [2], from the IHDR chunk; 0 if that is not the first."""
    chunk = tf.strings.substr(data, len(PNG_SIGNATURE), 16)
    is_header = tf.strings.substr(chunk, 0, 8) == b"\0\0\0\rIHDR"

    def sides():
        width_and_height = tf.strings.substr(chunk, 8, 8)
        return tf.io.decode_raw(width_and_height, tf.int32, little_endian=False)[::-1]

    complete = is_header & (tf.strings.length(chunk) == 16)
    return tf.cond(complete, sides, lambda: tf.zeros([2], tf.int32))
