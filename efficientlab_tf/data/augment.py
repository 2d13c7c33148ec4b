"""Random changes to images and their masks, a pure function of a seed.

Two recipes; each operation is applied to each image with probability `rate`:

efficientlab   random translation, horizontal flip, random erasing (Zhong et al.
               2017), additive Gaussian noise and brightness (Hendryx et al. 2019,
               section 5).
meta_drn       horizontal flip, rotation, zoom, perspective warp and lighting:
               brightness and contrast (Banerjee 2020, section V.B, which gives no
               amounts: those here are the defaults of the fastai library).

Keras's random layers draw the changes and, where they can, apply them. Normally they
own a seed and advance it; here every number comes from the seed tensor of the call, so
an inner loop, an evaluation or a resumed run sees the same changes again.

Operations that move pixels work on "pixels", where red, green, blue and mask of
one place lie together, so an image and its mask cannot part. Of uint8 images,
the four bytes are one int32, [n, H, W, 1], which halves the cost of the recipe;
of float images they are float32 [n, H, W, 4]. Operations that resample are
homographies, applied together after those; see `geometry`.
"""

import zlib
from collections.abc import Sequence

import keras
import tensorflow as tf

from efficientlab_tf.data import geometry
from efficientlab_tf.errors import UserError

PIXEL_OPERATIONS = ("translation", "flip", "erasing")
GEOMETRY_OPERATIONS = ("rotation", "zoom", "warp")
COLOUR_OPERATIONS = ("noise", "brightness", "lighting")

PAPER = ("translation", "flip", "erasing", "noise", "brightness")
"""The recipe of Hendryx et al. 2019, section 5."""

RECIPES = {
    "efficientlab": PAPER,
    "meta_drn": ("flip", "rotation", "zoom", "warp", "lighting"),
}
"""Recipe to the names of its operations."""


class StatelessSeeds(keras.random.SeedGenerator):
    """A Keras seed generator whose seeds follow from one seed tensor.

    Keras's own counts in a variable, so what it gives depends on all calls before. This
    one counts in Python, from zero for each instance.
    """

    def __init__(self, key: tf.Tensor):
        """Starts the sequence that `key`, int32 [2], stands for."""
        # Not calling super().__init__ is the point: it creates the variable,
        # which a `tf.function` or a `tf.data` map may not do.
        self._key = key
        self._count = 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        """Returns the next seed, int32 [2]."""
        del ordered
        self._count += 1
        return tf.random.experimental.stateless_fold_in(self._key, self._count)


class Augmenter:
    """Changes images and masks at random; the seed alone decides how.

    Equal seeds give equal results, eagerly, in a `tf.function`, in the body of a
    `tf.while_loop` and in `tf.data`; under XLA (`jit_compile=True`) TensorFlow's
    generators give other numbers. Make it outside of all these: Keras's layers create
    (unused) variables when they are made.

    Example:
      augmenter = Augmenter(rate=0.5)
      images, masks = augmenter(images, masks, seed=tf.constant([seed, step]))
    """

    translation = 0.1
    """Largest shift as a part of height and width (of 224 it is 22 pixels), in whole
    pixels; the uncovered border becomes black, its mask background."""
    noise_stddev = 5.1
    """Standard deviation of the noise, of 0..255."""
    brightness = 12.75
    """Largest change of a whole image's brightness, of 0..255."""
    erase_area = (0.02, 0.10)
    """Smallest and largest part of the image to erase; its pixels get random colours,
    its mask background."""
    rotation = 10.0
    """Largest rotation either way, in degrees."""
    zoom = 1.1
    """Largest enlargement, at least 1."""
    warp = 0.2
    """Largest tilt of the perspective along each axis, below 0.5; see
    `geometry.perspective`."""
    lighting = 0.2
    """Largest change of brightness, as a part of the range around a middle grey, and of
    contrast, by a factor of up to 1 / (1 - lighting)."""

    def __init__(self, rate: float, *, names: Sequence[str] = PAPER):
        """Chooses the recipe.

        Args:
          rate: probability of each operation for each image; 0 changes nothing.
          names: which operations, in the order of application; but
            `GEOMETRY_OPERATIONS` come after those that only move pixels, and
            `COLOUR_OPERATIONS` last.

        Raises:
          UserError: the rate is out of range or a name is unknown.
        """
        if not 0 <= rate <= 1:
            raise UserError(f"augmentation: expected rate in 0..1, received {rate}")
        known = PIXEL_OPERATIONS + GEOMETRY_OPERATIONS + COLOUR_OPERATIONS
        for name in names:
            if name not in known:
                raise UserError(
                    f"augmentation: unknown operation {name!r}; choose from "
                    f"{', '.join(known)}"
                )
        self.rate = rate
        self.names = tuple(names)
        layers = keras.layers
        self._shifts = layers.RandomTranslation(
            self.translation, self.translation, dtype="float32"
        )
        self._rectangles = layers.RandomErasing(
            scale=self.erase_area, fill_value=0.0, dtype="float32"
        )
        self._brighter = layers.RandomBrightness(
            self.brightness / 255.0, value_range=(0, 255), dtype="float32"
        )

    def __call__(
        self, images: tf.Tensor, masks: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Augments a batch.

        Args:
          images: uint8 or float [n, H, W, 3], in 0..255.
          masks: uint8 [n, H, W]; 255 (unknown) moves with the image like any
            other label, and becomes background where the image is erased.
          seed: int32 or uint32 [2].

        Returns:
          images float32 [n, H, W, 3] in 0..255, and masks uint8 [n, H, W].
        """
        images = tf.convert_to_tensor(images)
        masks = tf.convert_to_tensor(masks)
        if self.rate == 0:
            return tf.cast(images, tf.float32), masks
        seed = tf.bitcast(seed, tf.int32)
        pixels = self._applied(PIXEL_OPERATIONS, _join(images, masks), seed)
        images, masks = _part(pixels)
        if set(self.names) & set(GEOMETRY_OPERATIONS):
            unchanged = tf.eye(3, batch_shape=[tf.shape(images)[0]])
            matrices = self._applied(GEOMETRY_OPERATIONS, unchanged, seed)
            images, masks = geometry.resample(images, masks, matrices)
        return self._applied(COLOUR_OPERATIONS, images, seed), masks

    def _applied(
        self, among: Sequence[str], tensor: tf.Tensor, seed: tf.Tensor
    ) -> tf.Tensor:
        for name in self.names:
            if name in among:
                # By name, so that a recipe with more operations draws the same.
                number = zlib.crc32(name.encode()) >> 1
                key = tf.random.experimental.stateless_fold_in(seed, number)
                seeds = StatelessSeeds(key)
                draws = tf.random.stateless_uniform(tf.shape(tensor)[:1], seeds.next())
                operation = getattr(self, f"_{name}")
                tensor = operation(tensor, draws < self.rate, seeds)
        return tensor

    # An operation takes pixels (see above), homographies [n, 3, 3] or float32 images
    # [n, H, W, 3], bool [n] saying which images to change, and seeds; it returns the
    # changed tensor.

    def _translation(self, pixels, chosen, seeds):
        drawn = self._shifts.get_random_transformation(pixels, seed=seeds)
        shifts = tf.where(chosen[:, tf.newaxis], drawn["translations"], 0.0)
        right, down = tf.unstack(tf.cast(tf.round(shifts), tf.int32), axis=1)
        # The layer draws, but does not move: XLA has no kernel for the operation
        # below it, so an inner loop compiled for a GPU could not hold it, and
        # Keras 3.12 interpolates between the labels of a mask.
        height, width = tf.shape(pixels)[1], tf.shape(pixels)[2]
        rows = tf.range(height) - down[:, tf.newaxis]
        columns = tf.range(width) - right[:, tf.newaxis]
        covered = ((rows >= 0) & (rows < height))[:, :, tf.newaxis]
        covered &= ((columns >= 0) & (columns < width))[:, tf.newaxis, :]
        rows = tf.clip_by_value(rows, 0, height - 1)
        columns = tf.clip_by_value(columns, 0, width - 1)
        pixels = tf.gather(pixels, rows, axis=1, batch_dims=1)
        pixels = tf.gather(pixels, columns, axis=2, batch_dims=1)
        return tf.where(covered[..., tf.newaxis], pixels, tf.zeros((), pixels.dtype))

    def _flip(self, pixels, chosen, seeds):
        # `chosen` is the only draw. keras.layers.RandomFlip would turn the
        # pixels into floats.
        del seeds
        return tf.where(_per_image(chosen), tf.reverse(pixels, axis=[2]), pixels)

    def _erasing(self, pixels, chosen, seeds):
        # Of RandomErasing only the rectangles are used: it leaves masks alone,
        # and its random fill is a normal clipped to 0..255, so half of it is
        # black. Zhong et al. fill with values uniform in 0..255.
        drawn = self._rectangles.get_random_transformation(pixels[..., :1], seed=seeds)
        erased = drawn["batch_masks"] & _per_image(chosen)
        fill = tf.random.stateless_uniform(
            tf.shape(pixels)[:3], seeds.next(), None, None, dtype=tf.int32
        )
        # Three random bytes of colour; the fourth, the mask, is background.
        fill = tf.bitwise.bitwise_and(fill, 0x00FFFFFF)[..., tf.newaxis]
        if pixels.dtype != tf.int32:
            fill = tf.cast(tf.bitcast(fill[..., 0], tf.uint8), tf.float32)
        return tf.where(erased, fill, pixels)

    def _rotation(self, matrices, chosen, seeds):
        turn = _uniform(seeds, chosen, -self.rotation, self.rotation)
        return matrices @ geometry.rotation(turn)

    def _zoom(self, matrices, chosen, seeds):
        factor = 1.0 + _uniform(seeds, chosen, 0.0, self.zoom - 1.0)
        return matrices @ geometry.zoom(factor, _uniform(seeds, chosen, -1.0, 1.0, 2))

    def _warp(self, matrices, chosen, seeds):
        tilt = _uniform(seeds, chosen, -self.warp, self.warp, 2)
        return matrices @ geometry.perspective(tilt)

    def _noise(self, images, chosen, seeds):
        # keras.layers.GaussianNoise can neither be seeded by a tensor nor be
        # chosen per image.
        stddev = tf.where(chosen, self.noise_stddev, 0.0)
        noise = tf.random.stateless_normal(tf.shape(images), seeds.next())
        return tf.clip_by_value(images + noise * _per_image(stddev), 0.0, 255.0)

    def _brightness(self, images, chosen, seeds):
        drawn = self._brighter.get_random_transformation(images, seed=seeds)
        drawn["rgb_delta"] *= _per_image(tf.cast(chosen, tf.float32))
        return self._brighter.transform_images(images, drawn)

    def _lighting(self, images, chosen, seeds):
        # Brightness is added to the logits of the colours and contrast multiplies
        # them, so that neither leaves 0..255 nor clips.
        shift = _uniform(seeds, chosen, -0.5 * self.lighting, 0.5 * self.lighting)
        # logit(0.5 + shift), which is shift * 4 for small ones.
        shift = tf.math.log((0.5 + shift) / (0.5 - shift))
        contrast = -tf.math.log(1.0 - self.lighting)
        scale = tf.exp(_uniform(seeds, chosen, -1.0, 1.0) * contrast)
        level = tf.clip_by_value(images / 255.0, 1e-3, 1.0 - 1e-3)
        level = tf.math.log(level / (1.0 - level))
        changed = tf.sigmoid(level * _per_image(scale) + _per_image(shift)) * 255.0
        return tf.where(_per_image(chosen), changed, images)


def _join(images: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
    if images.dtype != tf.uint8:
        images, masks = tf.cast(images, tf.float32), tf.cast(masks, tf.float32)
    channels = tf.concat([images, masks[..., tf.newaxis]], axis=-1)
    if channels.dtype != tf.uint8:
        return channels
    return tf.bitcast(channels, tf.int32)[..., tf.newaxis]


def _part(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    if pixels.dtype == tf.int32:
        pixels = tf.bitcast(pixels[..., 0], tf.uint8)
    return tf.cast(pixels[..., :3], tf.float32), tf.cast(pixels[..., 3], tf.uint8)


def _per_image(values: tf.Tensor) -> tf.Tensor:
    return values[:, tf.newaxis, tf.newaxis, tf.newaxis]


def _uniform(seeds, chosen, low: float, high: float, *shape: int) -> tf.Tensor:
    """Numbers [n, *shape] between `low` and `high`; 0 for images not chosen."""
    count = tf.shape(chosen)[0]
    drawn = tf.random.stateless_uniform([count, *shape], seeds.next(), low, high)
    return tf.where(tf.reshape(chosen, [count] + [1] * len(shape)), drawn, 0.0)
