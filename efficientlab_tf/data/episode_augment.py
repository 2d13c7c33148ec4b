"""Harder tasks: changes to training episodes that make the support set worth reading.

A network that meets one object in the middle of every picture can find objects without
a support set; one whose support and query look alike may compare what a photograph of
the same thing tomorrow will not share. These changes take that away, each drawn from a
seed alone:

swap_labels   foreground and background are exchanged, in support and query alike: what
              to segment cannot be known from a picture.
zoom_out      a picture is shrunk and surrounded by its mirror images: objects are many
              and small. No seam gives it away.
paste         the objects of a picture are cut out, shrunk and put onto a picture of
              another class, whose own objects are background there (Ghiasi et al.
              2021).
photometric   brightness, contrast, saturation and hue of each picture on its own, so
              that support and query differ.
blur          a picture loses its detail, as if enlarged from a smaller one.

`other_tasks` has tasks that are not whole objects.

The side of a shrunk picture is drawn log-uniformly: an object that fills a third of its
picture then fills 1 to 33 % of the new one, every size as often as its double.
"""

from typing import NamedTuple

import tensorflow as tf

from efficientlab_tf.data.draws import uniform
from efficientlab_tf.episode import IGNORE, Episode

_fold_in = tf.random.experimental.stateless_fold_in

SMALLEST = 0.2
"""Smallest side of a shrunk picture, as a part of what it was."""
BRIGHTNESS = 0.15
"""Largest change of brightness, of a range of 1."""
CONTRAST, SATURATION = 0.4, 0.5
"""Largest change of the logarithm to base e."""
HUE = 0.06
"""Largest turn of the hue, of a full circle."""

# Salts of the random streams of an episode.
_SWAP, _ZOOM_OUT, _PASTE, _SIDE, _PLACE, _LEVELS = range(3000, 3006)


class EpisodeAugment(NamedTuple):
    """How often training episodes are changed; see the top of the module.

    Attributes:
      label_swap_rate: chance of each episode.
      zoom_out_rate: chance of each image.
      paste_rate: chance of each image.
      photometric_rate: chance of each image.
      blur_rate: chance of each image.
      part_rate, region_rate, union_rate: chance of each episode; see `other_tasks`.
    """

    label_swap_rate: float = 0.0
    zoom_out_rate: float = 0.0
    paste_rate: float = 0.0
    photometric_rate: float = 0.0
    blur_rate: float = 0.0
    part_rate: float = 0.0
    region_rate: float = 0.0
    union_rate: float = 0.0


UNCHANGED = EpisodeAugment()


def swap_labels(episode: Episode, rate: float, key: tf.Tensor) -> Episode:
    """Exchanges the labels 0 and 1 of a one-way episode, by chance; 255 stays.

    Args:
      episode: one task.
      rate: the chance.
      key: int [2], of the task.
    """
    chosen = uniform([], _fold_in(key, _SWAP)) < rate

    def swap(masks):
        swapped = tf.where(masks == IGNORE, masks, 1 - masks)
        return tf.where(chosen, swapped, masks)

    return episode._replace(
        support_masks=swap(episode.support_masks), query_masks=swap(episode.query_masks)
    )


def zoom_out(
    images: tf.Tensor, masks: tf.Tensor, rate: float, key: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Shrinks some pictures and surrounds them with their mirror images.

    Args:
      images: uint8 [n, H, W, 3].
      masks: uint8 [n, H, W].
      rate: chance of each picture.
      key: int [2].

    Returns:
      The same, changed.
    """
    key = _fold_in(key, _ZOOM_OUT)
    height, width = images.shape[1:3]

    def change(image, mask, side, place):
        image, mask = _shrunk(image, mask, side)
        for axis, size in enumerate((height, width)):
            small = tf.shape(mask)[axis]
            first = tf.cast(place[axis] * tf.cast(2 * small, tf.float32), tf.int32)
            index = (tf.range(size) + first) % (2 * small)
            index = tf.minimum(index, 2 * small - 1 - index)
            image, mask = (tf.gather(x, index, axis=axis) for x in (image, mask))
        return image, mask

    return _changed(change, (images, masks), _poses(images.shape[0], key), rate, key)


def paste(
    images: tf.Tensor,
    masks: tf.Tensor,
    backdrops: tf.Tensor,
    backdrop_masks: tf.Tensor,
    rate: float,
    key: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Puts the objects of some pictures, shrunk, onto pictures of another class.

    Args:
      images: uint8 [n, H, W, 3].
      masks: uint8 [n, H, W]; what is not 0 is cut out, what is unknown included.
      backdrops: uint8 [n, H, W, 3].
      backdrop_masks: uint8 [n, H, W]; all but 255 becomes background.
      rate: chance of each picture.
      key: int [2].

    Returns:
      images and masks, changed.
    """
    key = _fold_in(key, _PASTE)
    height, width = images.shape[1:3]

    def change(image, mask, backdrop, backdrop_mask, side, place):
        image, mask = _shrunk(image, mask, side)
        free = [height, width] - tf.shape(mask)
        before = tf.cast(place * tf.cast(free + 1, tf.float32), tf.int32)
        paddings = tf.stack([before, free - before], axis=1)
        mask = tf.pad(mask, paddings)
        image = tf.pad(image, tf.concat([paddings, [[0, 0]]], axis=0))
        below = tf.where(backdrop_mask == IGNORE, backdrop_mask, 0)
        cut = mask > 0
        return tf.where(cut[..., tf.newaxis], image, backdrop), tf.where(
            cut, mask, below
        )

    pictures = (images, masks, backdrops, backdrop_masks)
    return _changed(change, pictures, _poses(images.shape[0], key), rate, key)


def photometric(
    images: tf.Tensor, masks: tf.Tensor, rate: float, key: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Changes brightness, contrast, saturation and hue of some pictures.

    Args:
      images, masks, rate, key: as in `zoom_out`.
    """

    def change(image, mask, drawn):
        brightness, contrast, saturation, hue = tf.unstack(drawn)
        image = tf.image.adjust_brightness(image, BRIGHTNESS * brightness)
        image = tf.image.adjust_contrast(image, tf.exp(CONTRAST * contrast))
        image = tf.image.adjust_saturation(image, tf.exp(SATURATION * saturation))
        return tf.image.adjust_hue(image, HUE * hue), mask

    draws = uniform([images.shape[0], 4], _fold_in(key, _LEVELS), -1.0, 1.0)
    return _changed(change, (images, masks), (draws,), rate, key)


def blur(
    images: tf.Tensor, masks: tf.Tensor, rate: float, key: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Takes detail away from some pictures: shrinks and enlarges them.

    Args:
      images, masks, rate, key: as in `zoom_out`.
    """
    size = images.shape[1:3]

    def change(image, mask, side):
        small, _ = _shrunk(image, mask, side)
        return _as_bytes(tf.image.resize(small, size)), mask

    return _changed(
        change, (images, masks), _poses(images.shape[0], key)[:1], rate, key
    )


def resized(
    images: tf.Tensor, masks: tf.Tensor, side: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Makes squares of pictures, uint8 [n, H, W, 3], and masks, uint8 [n, H, W].

    Returns:
      uint8 [n, side, side, 3] and uint8 [n, side, side].
    """
    size = [side, side]
    images = _as_bytes(tf.image.resize(images, size, antialias=True))
    masks = tf.image.resize(masks[..., tf.newaxis], size, method="nearest")
    return images, masks[..., 0]


def _shrunk(image, mask, side) -> tuple[tf.Tensor, tf.Tensor]:
    """A picture and its mask at `side` times their height and width."""
    size = tf.cast(tf.shape(mask), tf.float32) * side
    size = tf.maximum(tf.cast(tf.round(size), tf.int32), 1)
    smooth = _as_bytes(tf.image.resize(image, size, antialias=True))
    mask = tf.image.resize(mask[..., tf.newaxis], size, method="nearest")
    return smooth, mask[..., 0]


def _as_bytes(image: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)


def _poses(count: int, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws the side of each shrunk picture, [n], and where it goes, [n, 2]."""
    log_side = uniform([count], _fold_in(key, _SIDE), tf.math.log(SMALLEST), 0.0)
    return tf.exp(log_side), uniform([count, 2], _fold_in(key, _PLACE))


def _changed(change, pictures, draws, rate, key) -> tuple[tf.Tensor, tf.Tensor]:
    """Calls `change` on some pictures, with the draws of each; keeps the others."""
    chosen = uniform([pictures[0].shape[0]], key) < rate

    def one(arguments):
        chosen, *rest = arguments
        image, mask = tf.cond(chosen, lambda: change(*rest), lambda: tuple(rest[:2]))
        shape = pictures[0].shape[1:]
        return tf.ensure_shape(image, shape), tf.ensure_shape(mask, shape[:2])

    images, masks = tf.map_fn(
        one, (chosen, *pictures, *draws), fn_output_signature=(tf.uint8, tf.uint8)
    )
    return tf.ensure_shape(images, pictures[0].shape), tf.ensure_shape(
        masks, pictures[1].shape
    )
