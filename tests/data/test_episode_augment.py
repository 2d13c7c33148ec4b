import itertools

import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.config import DataConfig
from efficientlab_tf.data.episode_augment import (
    BRIGHTNESS,
    SMALLEST,
    EpisodeAugment,
    blur,
    paste,
    photometric,
    swap_labels,
    zoom_out,
)
from efficientlab_tf.data.episodes import episode_dataset
from efficientlab_tf.episode import IGNORE, Episode
from efficientlab_tf.errors import UserError
from tests.data.tiny_dataset import class_number, tiny_dataset, tiny_mask

SIZE = (40, 64)
COUNTS = {"bear": 6, "cup": 7, "dog": 5}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return tiny_dataset(tmp_path_factory.mktemp("tiny"), COUNTS, size=SIZE)


def draw(manifest, augment, count=40, **options):
    options = {"shots": 2, "queries": 1, "seed": 1, "image_size": SIZE, **options}
    dataset = episode_dataset(manifest, "train", augment=augment, **options)
    return list(itertools.islice(dataset, count))


def pictures(n: int = 8):
    """Pictures whose colour says where a pixel was, with an object in the middle."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    image = np.stack([6 * y, 3 * x + 30, 0 * x + 77], axis=-1).astype(np.uint8)
    mask = np.zeros(SIZE, np.uint8)
    mask[10:30, 20:50] = 1
    mask[10, 20:50] = IGNORE
    return tf.constant(np.stack([image] * n)), tf.constant(np.stack([mask] * n))


def test_swapping_exchanges_both_labels_in_support_and_query():
    images, masks = pictures(3)
    episode = Episode(images[:2], masks[:2], images[2:], masks[2:], tf.constant("a"))
    swapped = swap_labels(episode, 1.0, tf.constant([1, 2]))
    expected = np.select([masks == 0, masks == 1], [1, 0], IGNORE)
    np.testing.assert_array_equal(swapped.support_masks, expected[:2])
    np.testing.assert_array_equal(swapped.query_masks, expected[2:])
    np.testing.assert_array_equal(swapped.support_images, images[:2])
    kept = swap_labels(episode, 0.0, tf.constant([1, 2]))
    np.testing.assert_array_equal(kept.support_masks, masks[:2])


def test_half_of_the_episodes_are_swapped(manifest):
    plain = draw(manifest, EpisodeAugment(), 60)
    swapped = draw(manifest, EpisodeAugment(label_swap_rate=0.5), 60)
    changed = 0
    for before, after in zip(plain, swapped, strict=True):
        np.testing.assert_array_equal(before.support_images, after.support_images)
        same = [
            np.array_equal(getattr(before, name), getattr(after, name))
            for name in ("support_masks", "query_masks")
        ]
        assert same[0] == same[1]  # Together, or the task would be nonsense.
        changed += not same[0]
    assert 18 <= changed <= 42  # Three standard deviations.


def test_swapped_points_are_as_many_of_each_label(manifest):
    for episode in draw(
        manifest, EpisodeAugment(label_swap_rate=1.0), 3, points=(4, 4)
    ):
        assert (episode.support_masks.numpy() == 1).sum() == 2 * 4
        assert (episode.support_masks.numpy() == 0).sum() == 2 * 4
        assert (episode.query_masks.numpy()[0, SIZE[0] // 4, 0]) == 0


def test_zooming_out_tiles_the_plane_with_mirror_images():
    images, masks = pictures(20)
    changed, labels = zoom_out(images, masks, 1.0, tf.constant([3, 4]))
    assert changed.shape == images.shape and labels.shape == masks.shape
    shares = []
    for image, mask in zip(changed.numpy(), labels.numpy(), strict=True):
        # No colour that was not there, and where a colour is its label is as well.
        assert np.all(image[..., 2] == 77)
        y, x = image[..., 0] / 6, (image[..., 1] - 30.0) / 3
        inside = (y > 13) & (y < 27) & (x > 24) & (x < 46)
        outside = (y < 7) | (y > 33) | (x < 16) | (x > 54)
        assert np.all(mask[inside] == 1) and np.all(mask[outside] == 0)
        # No seam: neighbours differ by no more than shrinking makes them.
        assert np.abs(np.diff(y, axis=0)).max() <= 1 / SMALLEST + 1.5
        assert np.abs(np.diff(x, axis=1)).max() <= 1 / SMALLEST + 1.5
        shares.append((mask == 1).mean())
    assert len(np.unique(shares)) > 10


def test_pasting_puts_the_object_alone_onto_another_picture():
    images, masks = pictures(40)
    backdrops = tf.fill(images.shape, tf.constant(200, tf.uint8))
    below = np.ones(masks.shape, np.uint8)
    below[:, :3] = IGNORE
    changed, labels = (
        x.numpy()
        for x in paste(images, masks, backdrops, below, 1.0, tf.constant([3, 4]))
    )
    is_backdrop = (changed == 200).all(-1)
    cut = labels == 1
    assert np.all(is_backdrop[labels == 0])
    assert not is_backdrop[cut].any()
    # Only the row of unknown pixels around the object, and the backdrop's, stay so.
    assert np.all((labels[:, :3] == IGNORE) | cut[:, :3] | ~is_backdrop[:, :3])
    y, x = changed[..., 0] / 6, (changed[..., 1] - 30.0) / 3
    assert np.all((y[cut] > 5) & (y[cut] < 35) & (x[cut] > 15) & (x[cut] < 55))
    # From the object's own size, a fifth of the picture, down to a hundredth.
    shares = cut.mean((1, 2))
    assert shares.max() > 0.15 and 0.005 < shares.min() < 0.02
    assert len(np.unique(shares)) > 20


def test_colours_change_in_each_picture_apart_and_shapes_do_not():
    images, masks = pictures(30)
    changed, labels = photometric(images, masks, 1.0, tf.constant([3, 4]))
    assert changed.dtype == tf.uint8
    np.testing.assert_array_equal(labels, masks)
    before = tf.image.rgb_to_grayscale(images)[..., 0].numpy().astype(float)
    after = tf.image.rgb_to_grayscale(changed)[..., 0].numpy().astype(float)
    alike = [
        np.corrcoef(x.ravel(), y.ravel())[0, 1]
        for x, y in zip(before, after, strict=True)
    ]
    assert np.median(alike) > 0.95 and np.min(alike) > 0.75  # Some are clipped.
    shifts = after.mean((1, 2)) - before.mean((1, 2))
    assert len(np.unique(shifts.round(1))) > 20
    # Clipping, contrast and saturation move the mean a little as well.
    assert np.abs(shifts).max() < 255 * BRIGHTNESS + 20
    spread = after.std((1, 2)) / before.std((1, 2))
    assert spread.min() < 0.8 and spread.max() > 1.15
    hues = tf.image.rgb_to_hsv(tf.cast(changed, tf.float32) / 255)[:, 20, 30, 0]
    assert len(np.unique(hues.numpy().round(3))) > 20


def test_a_blurred_picture_has_lost_its_detail_alone():
    stripes = np.zeros((30, 40, 40, 3), np.uint8)
    stripes[:, :, ::2] = 200
    stripes[:, :20] = stripes[:, :20] // 2 + 100  # Large things stay.
    masks = np.ones((30, 40, 40), np.uint8)
    changed, labels = blur(tf.constant(stripes), masks, 1.0, tf.constant([3, 4]))
    np.testing.assert_array_equal(labels, masks)
    detail = np.abs(np.diff(changed.numpy().astype(int), axis=2)).mean((1, 2, 3))
    assert np.median(detail) < 30 and np.abs(np.diff(stripes[0, :, :2], axis=1)).min()
    means = changed.numpy().reshape(30, 2, 20, 40, 3).mean((2, 3, 4))
    np.testing.assert_allclose(means, [[150, 100]] * 30, atol=6)


@pytest.mark.parametrize("name", ["zoom_out", "paste", "photometric", "blur"])
def test_a_rate_is_the_chance_of_each_image_and_the_key_decides(name):
    images, masks = pictures(200)
    backdrops = (tf.zeros_like(images), tf.zeros_like(masks))

    def apply(rate, key):
        if name == "paste":
            return paste(images, masks, *backdrops, rate, tf.constant(key))
        functions = {"zoom_out": zoom_out, "photometric": photometric, "blur": blur}
        return functions[name](images, masks, rate, tf.constant(key))

    def changed(result):
        return (result[0].numpy() != images.numpy()).any((1, 2, 3))

    assert not changed(apply(0.0, [1, 2])).any()
    some = changed(apply(0.3, [1, 2]))
    assert 40 <= some.sum() <= 80
    np.testing.assert_array_equal(apply(0.3, [1, 2])[0], apply(0.3, [1, 2])[0])
    assert np.any(changed(apply(0.3, [1, 3])) != some)


def test_support_and_query_change_their_colours_apart(manifest):
    # All pictures of a class have one colour, but for a channel's number.
    for episode in draw(manifest, EpisodeAugment(photometric_rate=1.0), 5):
        both = [*episode.support_images.numpy(), *episode.query_images.numpy()]
        assert len({tuple(image[0, 0]) for image in both}) == 3


def test_pictures_of_a_step_have_one_of_the_sizes(manifest):
    options = {"meta_batch": 2, "image_size": 64, "points": (3, 3)}
    plain = draw(manifest, EpisodeAugment(), 30, sizes=(32, 64), **options)
    again = draw(manifest, EpisodeAugment(), 5, sizes=(32, 64), start_step=7, **options)
    sides = []
    for episode in plain:
        side = episode.query_masks.shape[-1]
        assert episode.support_images.shape == (2, 2, side, side, 3)
        assert episode.support_masks.shape == (2, 2, side, side)
        assert episode.query_images.shape == (2, 1, side, side, 3)
        # Points are drawn of the small picture: none is lost.
        for label in (0, 1):
            count = (episode.support_masks.numpy() == label).sum((2, 3))
            np.testing.assert_array_equal(count, 3)
        sides.append(side)
    assert {32, 64} == set(sides) and 6 <= sides.count(32) <= 24
    np.testing.assert_array_equal(plain[7].query_masks, again[0].query_masks)
    whole = draw(manifest, EpisodeAugment(), 30, **options)
    for episode, other in zip(plain, whole, strict=True):
        every = 64 // episode.query_masks.shape[-1]
        masks = other.query_masks.numpy()
        expected = masks[..., every // 2 :: every, every // 2 :: every]
        np.testing.assert_array_equal(episode.query_masks, expected)


def test_backdrops_are_of_a_class_that_is_not_asked_about(manifest):
    numbers = {class_number(name) for name in COUNTS}
    seen = set()
    for episode in draw(manifest, EpisodeAugment(paste_rate=1.0), 30):
        own = class_number(episode.name.numpy().decode())
        for image, mask in zip(
            [*episode.support_images.numpy(), *episode.query_images.numpy()],
            [*episode.support_masks.numpy(), *episode.query_masks.numpy()],
            strict=True,
        ):
            assert set(image[mask == 1][:, 0]) == {own}
            others = set(image[mask == 0][:, 0])
            assert len(others) == 1 and others < numbers - {own}
            seen |= others
    assert seen == numbers


def test_what_is_not_changed_is_drawn_as_before(manifest):
    plain = draw(manifest, EpisodeAugment(), 20)
    for name in ("zoom_out_rate", "paste_rate", "photometric_rate"):
        rare = draw(manifest, EpisodeAugment(**{name: 0.3}), 20)
        kept = 0
        for before, after in zip(plain, rare, strict=True):
            assert before.name == after.name
            same = np.array_equal(before.query_masks, after.query_masks)
            kept += same and np.array_equal(before.query_images, after.query_images)
        assert 8 <= kept < 20
        np.testing.assert_array_equal(plain[0].query_images.shape, [1, *SIZE, 3])
    assert np.array_equal(np.unique(tiny_mask(SIZE)), [0, 1, IGNORE])


def test_pasting_needs_another_class(tmp_path):
    alone = tiny_dataset(tmp_path, {"bear": 4}, size=SIZE)
    with pytest.raises(UserError, match="`paste_rate` needs another class"):
        draw(alone, EpisodeAugment(paste_rate=0.1), 1)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"label_swap_rate": 1.1}, "`label_swap_rate` must be at most 1"),
        ({"zoom_out_rate": -0.1}, "`zoom_out_rate` must be at least 0"),
        ({"paste_rate": 2.0}, "`paste_rate` must be at most 1"),
        ({"label_swap_rate": 0.5, "ways": 2}, "`label_swap_rate` needs `ways`=1"),
        ({"photometric_rate": 2.0}, "`photometric_rate` must be at most 1"),
        ({"blur_rate": -1.0}, "`blur_rate` must be at least 0"),
        ({"image_sizes": "64,100"}, "`image_sizes` must be a multiple of 32"),
        ({"image_sizes": "64,64"}, "`image_sizes` must be different whole numbers"),
        ({"image_sizes": "large"}, "`image_sizes` must be different whole numbers"),
    ],
)
def test_rates_that_are_none_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        DataConfig(**options)
