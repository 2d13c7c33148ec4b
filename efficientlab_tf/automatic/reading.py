"""Features of pictures of any size, by an encoder that never trains.

    f = concat_s( up(F_s(x)) / |up(F_s(x))| )    stages s of ImageNet's encoder, each
                                                 brought to cells of 8 pixels

A picture larger than `TILE` pixels a side goes through the encoder in tiles. Each sees
`MARGIN` pixels around it, so that at a seam both sides see almost the same; what lies
beside each other afterwards is the tiles' inner part.
"""

import functools
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from efficientlab_tf.automatic.frame import frame
from efficientlab_tf.graphs import graph
from efficientlab_tf.models import backbones
from efficientlab_tf.serving.images import resize

CELL = 8
"""Pixels of a side of a cell."""
STAGES = (2, 3, 4, 5, 6, 7, 8)
TILE, MARGIN = 768, 128


class Read(NamedTuple):
    """What was read of a picture.

    Attributes:
      features: float [h, w, C], the stages of `STAGES` behind each other.
      inner: int32 [2], see `frame.Framed`.
    """

    features: tf.Tensor
    inner: tf.Tensor


class Reader(tf.Module):
    """An encoder with ImageNet's weights, for pictures of any size.

    Args:
      backbone: one of `backbones.BACKBONES`.
      model: its stages, of an earlier reader; None builds it with ImageNet's weights.

    Attributes:
      places: of each stage the slice of the features that it has.
      channels: C.
    """

    def __init__(
        self, backbone: str = backbones.LITE, model: keras.Model | None = None
    ):
        super().__init__(name="reader")
        if model is None:
            encoder = backbones.build_encoder(
                backbone, (None, None), 0.0, "imagenet", STAGES[-1]
            )
            outputs = [encoder.stages[stage] for stage in STAGES]
            model = keras.Model(encoder.images, outputs, name=backbone)
        self.model = model
        self.places, self.channels = {}, 0
        for stage, output in zip(STAGES, model.outputs, strict=True):
            first, self.channels = self.channels, self.channels + output.shape[-1]
            self.places[stage] = slice(first, self.channels)
        canvas = tf.TensorSpec([None, None, 3], tf.float32)
        self._encode = graph(self._stages, input_signature=[canvas])
        # Called, not inlined, by the graphs that use it: it is large.
        self._read = graph(
            self._graph,
            input_signature=[
                tf.TensorSpec([None, None, 3], tf.float32),
                tf.TensorSpec([], tf.int32),
            ],
        )

    def __call__(self, image: np.ndarray, side: int) -> Read:
        """Reads a picture, uint8 [H, W, 3]; float16, as many may be kept."""
        read = self.graph(tf.cast(image, tf.float32), side)
        return Read(read.features.numpy().astype(np.float16), read.inner.numpy())

    def graph(self, image: tf.Tensor, side: int) -> Read:
        """The same inside another graph, in float32.

        Args:
          image: float32 [H, W, 3], 0..255.
          side: that the longer side is brought to, in pixels.
        """
        return Read(*self._read(image, tf.constant(side)))

    def _graph(self, image: tf.Tensor, side: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        canvas, inner = frame(image, side)
        size = tf.shape(canvas)[:2]
        features = tf.cond(
            tf.reduce_max(size) <= TILE + 2 * MARGIN,
            lambda: self._encode(canvas),
            lambda: self._in_tiles(canvas, size),
        )
        return tf.ensure_shape(features, [None, None, self.channels]), inner

    def _in_tiles(self, canvas: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        count = -(-size // TILE)
        own = slice(MARGIN // CELL, (MARGIN + TILE) // CELL)
        cells = TILE // CELL

        def encode(number: tf.Tensor) -> tf.Tensor:
            corner = tf.stack([number // count[1], number % count[1]]) * TILE - MARGIN
            window = canvas
            for axis in (0, 1):
                rows = corner[axis] + tf.range(TILE + 2 * MARGIN)
                rows = tf.clip_by_value(rows, 0, size[axis] - 1)
                window = tf.gather(window, rows, axis=axis)
            return self._encode(window)[own, own]

        spec = tf.TensorSpec([cells, cells, self.channels], tf.float32)
        tiles = tf.map_fn(
            encode,
            tf.range(count[0] * count[1]),
            parallel_iterations=1,
            fn_output_signature=spec,
        )
        tiles = tf.reshape(tiles, [count[0], count[1], cells, cells, self.channels])
        tiles = tf.transpose(tiles, [0, 2, 1, 3, 4])
        shape = [count[0] * cells, count[1] * cells, self.channels]
        tiles = tf.reshape(tiles, shape)
        return tiles[: size[0] // CELL, : size[1] // CELL]

    def _stages(self, canvas: tf.Tensor) -> tf.Tensor:
        """Features [H' / 8, W' / 8, C] of a canvas [H', W', 3]."""
        grid = tf.shape(canvas)[:2] // CELL
        maps = []
        stages = self.model(canvas[tf.newaxis], training=False)
        for stage, x in zip(STAGES, stages, strict=True):
            stride = backbones.STRIDES[stage]
            if stride < CELL:
                x = tf.nn.avg_pool2d(x, CELL // stride, CELL // stride, "VALID")
            elif stride > CELL:
                x = resize(x, grid[0], grid[1])
            maps.append(tf.math.l2_normalize(x, -1))
        return tf.concat(maps, -1)[0]


@functools.cache
def reader(backbone: str = backbones.LITE) -> Reader:
    """The reader of a backbone, built once."""
    return Reader(backbone)
