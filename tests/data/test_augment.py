import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.data import geometry
from efficientlab_tf.data.augment import PAPER, RECIPES, Augmenter
from efficientlab_tf.errors import UserError

COUNT, HEIGHT, WIDTH = 8, 48, 64
SEED = (7, 11)


def batch(seed=0):
    """Images whose first channel is the mask (0, 1 and 255), the rest noise."""
    rng = np.random.default_rng(seed)
    masks = np.zeros([COUNT, HEIGHT, WIDTH], np.uint8)
    masks[:, 8:30, 10:25] = 1
    masks[:, 20:40, 20:50] = 255
    images = rng.integers(1, 255, [COUNT, HEIGHT, WIDTH, 3], np.uint8)
    images[..., 0] = masks
    return images, masks


def run_eagerly(augmenter, images, masks, seed):
    return augmenter(images, masks, tf.constant(seed))


def run_in_function(augmenter, images, masks, seed):
    return tf.function(augmenter)(images, masks, tf.constant(seed))


def run_in_loop(augmenter, images, masks, seed):
    @tf.function
    def second_step(seed):
        start = tf.constant(0), tf.zeros(images.shape), tf.zeros(masks.shape, tf.uint8)
        return tf.while_loop(
            lambda step, *_: step < 2,
            lambda step, *_: (step + 1, *augmenter(images, masks, seed + step - 1)),
            start,
        )[1:]

    return second_step(tf.constant(seed))


def run_in_dataset(augmenter, images, masks, seed):
    dataset = tf.data.Dataset.from_tensors((images, masks))
    dataset = dataset.map(lambda x, y: augmenter(x, y, tf.constant(seed)))
    return dataset.get_single_element()


def amount(**amounts):
    """A kind of augmenter that changes more, or less, than usual."""
    return type("Changed", (Augmenter,), amounts)


ALL = sorted({*PAPER, *RECIPES["meta_drn"]})
RUNS = [run_eagerly, run_in_function, run_in_loop, run_in_dataset]


@pytest.mark.parametrize("run", RUNS[1:])
def test_same_seed_gives_the_same_everywhere(run):
    augmenter = Augmenter(0.5)
    expected_images, expected_masks = run_eagerly(augmenter, *batch(), SEED)
    for _ in range(2):
        images, masks = run(augmenter, *batch(), SEED)
        np.testing.assert_array_equal(masks, expected_masks)
        np.testing.assert_allclose(images, expected_images, atol=1e-4)


def test_another_augmenter_gives_the_same():
    first = Augmenter(0.5)
    run_eagerly(first, *batch(), (1, 2))
    images, masks = run_eagerly(first, *batch(), SEED)
    again, masks_again = run_eagerly(Augmenter(0.5), *batch(), SEED)
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(masks, masks_again)


@pytest.mark.parametrize("name", ALL)
def test_other_seed_gives_another_result(name):
    augmenter = Augmenter(0.5, names=[name])
    images, _ = run_eagerly(augmenter, *batch(), SEED)
    for seed in [(7, 12), (8, 11)]:
        others, _ = run_eagerly(augmenter, *batch(), seed)
        assert not np.array_equal(images, others)


def test_unsigned_seeds_serve_too():
    augmenter = Augmenter(1.0)
    seed = tf.constant([2**32 - 1, 5], tf.uint32)
    images, _ = augmenter(*batch(), seed)
    expected, _ = run_eagerly(augmenter, *batch(), (-1, 5))
    np.testing.assert_array_equal(images, expected)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_rate_zero_is_the_identity(run, dtype):
    images, masks = batch()
    new_images, new_masks = run(Augmenter(0.0), images.astype(dtype), masks, SEED)
    assert new_images.dtype == tf.float32 and new_masks.dtype == tf.uint8
    np.testing.assert_array_equal(new_images, images)
    np.testing.assert_array_equal(new_masks, masks)


@pytest.mark.parametrize("name", ALL)
def test_types_shapes_and_range(name):
    images, masks = batch()
    traced = tf.function(Augmenter(1.0, names=[name])).get_concrete_function(
        *map(tf.TensorSpec.from_tensor, map(tf.constant, (images, masks, SEED)))
    )
    assert [output.shape for output in traced.structured_outputs] == [
        images.shape,
        masks.shape,
    ]
    new_images, new_masks = traced(*map(tf.constant, (images, masks, SEED)))
    assert new_images.dtype == tf.float32 and new_masks.dtype == tf.uint8
    assert np.min(new_images) >= 0 and np.max(new_images) <= 255
    assert set(np.unique(new_masks)) <= {0, 1, 255}


def test_mask_moves_with_the_image_through_several_operations():
    # Without noise, brightness and erased colours, channel 0 must stay the mask.
    images, masks = batch()
    augmenter = Augmenter(0.8, names=["translation", "flip"])
    for step in range(20):
        new_images, new_masks = run_eagerly(augmenter, images, masks, (step, 1))
        np.testing.assert_array_equal(new_images[..., 0], new_masks)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("name", ["translation", "flip"])
def test_mask_moves_with_the_image(run, dtype, name):
    images, masks = batch()
    augmenter = amount(translation=0.2)(0.7, names=[name])
    new_images, new_masks = run(augmenter, images.astype(dtype), masks, SEED)
    assert not np.array_equal(new_masks, masks)
    np.testing.assert_array_equal(new_images[..., 0], new_masks)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_erased_pixels_become_background(run, dtype):
    # Kept pixels have zeros in the last two channels, random colours seldom do.
    images, masks = batch()
    masks[masks == 0] = 1
    images[..., 0], images[..., 1:] = masks, 0
    augmenter = amount(erase_area=(0.1, 0.2))(1.0, names=["erasing"])
    new_images, new_masks = run(augmenter, images.astype(dtype), masks, SEED)
    new_images, new_masks = new_images.numpy(), new_masks.numpy()
    erased = np.any(new_images[..., 1:] > 0, axis=-1)
    assert np.all(new_masks[erased] == 0)
    # A random colour is (x, 0, 0) once in 65,536.
    assert np.mean(erased[new_masks == 0]) > 0.99
    np.testing.assert_array_equal(new_images[~erased][:, 0], masks[~erased])
    np.testing.assert_array_equal(new_masks[new_masks > 0], masks[new_masks > 0])


def test_erased_area_is_one_rectangle_of_the_asked_size():
    images, masks = batch()
    masks[:] = 255
    augmenter = amount(erase_area=(0.05, 0.10))(1.0, names=["erasing"])
    new_images, new_masks = run_eagerly(augmenter, images, masks, SEED)
    for mask in new_masks.numpy() == 0:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask.sum() == len(rows) * len(columns)
        assert len(rows) == rows[-1] - rows[0] + 1
        # Whole pixels: each side may differ by one from the area drawn.
        assert (len(rows) - 1) * (len(columns) - 1) <= 0.10 * HEIGHT * WIDTH
        assert (len(rows) + 1) * (len(columns) + 1) >= 0.05 * HEIGHT * WIDTH
    colours = new_images.numpy()[new_masks.numpy() == 0]
    assert abs(colours.mean() - 127.5) < 5 and abs(colours.std() - 73.9) < 5


def test_translation_uncovers_black_background():
    images = np.full([64, 40, 50, 3], 9, np.uint8)
    masks = np.full([64, 40, 50], 255, np.uint8)
    augmenter = amount(translation=0.2)(1.0, names=["translation"])
    new_images, new_masks = run_eagerly(augmenter, images, masks, SEED)
    new_images, new_masks = new_images.numpy(), new_masks.numpy()
    np.testing.assert_array_equal(new_images.max(-1) == 0, new_masks == 0)
    rows = new_masks.max(2) > 0
    columns = new_masks.max(1) > 0
    lost_rows, lost_columns = 40 - rows.sum(1), 50 - columns.sum(1)
    assert 6 <= lost_rows.max() <= 8 and 8 <= lost_columns.max() <= 10
    # Both directions, and a border only, not a hole.
    for kept in (rows, columns):
        assert (~kept[:, 0]).any() and (~kept[:, -1]).any()
        assert np.abs(np.diff(kept.astype(int))).sum(1).max() == 1


def test_flip_mirrors_columns():
    images, masks = batch()
    new_images, new_masks = run_eagerly(
        Augmenter(1.0, names=["flip"]), images, masks, SEED
    )
    np.testing.assert_array_equal(new_images, images[:, :, ::-1])
    np.testing.assert_array_equal(new_masks, masks[:, :, ::-1])


def test_noise_and_brightness_have_the_asked_size_and_spare_masks():
    images = np.full([200, 16, 16, 3], 128, np.uint8)
    masks = np.full([200, 16, 16], 255, np.uint8)
    noisy, kept = run_eagerly(Augmenter(1.0, names=["noise"]), images, masks, SEED)
    np.testing.assert_array_equal(kept, masks)
    noise = noisy.numpy() - 128
    assert abs(noise.std() - 5.1) < 0.1 and abs(noise.mean()) < 0.1
    brighter, kept = run_eagerly(
        Augmenter(1.0, names=["brightness"]), images, masks, SEED
    )
    np.testing.assert_array_equal(kept, masks)
    change = brighter.numpy() - 128
    assert np.ptp(change, axis=(1, 2, 3)).max() == 0
    change = change[:, 0, 0, 0]
    assert 12 < change.max() <= 12.75 and -12 > change.min() >= -12.75


def _changed(new_images, images):
    # Resampling to the same place rounds.
    return np.any(np.abs(new_images.numpy() - images) > 1e-2, axis=(1, 2, 3))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_each_image_is_drawn_with_the_rate(name, rate):
    rng = np.random.default_rng(0)
    images = rng.integers(1, 255, [400, 20, 20, 3], np.uint8)
    masks = np.ones([400, 20, 20], np.uint8)
    augmenter = amount(translation=0.5)(rate, names=[name])
    new_images, _ = run_eagerly(augmenter, images, masks, SEED)
    changed = _changed(new_images, images)
    # Five standard errors, and a shift that rounds to nothing.
    assert abs(changed.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / 400) + 0.01


def test_operations_are_drawn_independently():
    images = np.random.default_rng(0).integers(1, 255, [400, 8, 8, 3], np.uint8)
    masks = np.ones([400, 8, 8], np.uint8)
    changed = []
    for name in PAPER:
        augmenter = amount(translation=0.5)(0.5, names=[name])
        new_images, _ = run_eagerly(augmenter, images, masks, SEED)
        changed.append(_changed(new_images, images))
    correlation = np.corrcoef(np.array(changed, float)) - np.eye(len(PAPER))
    assert np.abs(correlation).max() < 0.25


def test_compiled_by_xla_is_deterministic_and_moves_masks_along():
    images, masks = batch()
    augmenter = Augmenter(0.7, names=["translation", "flip"])
    compiled = tf.function(augmenter, jit_compile=True)
    new_images, new_masks = compiled(images, masks, tf.constant(SEED))
    again, _ = compiled(images, masks, tf.constant(SEED))
    np.testing.assert_array_equal(new_images, again)
    np.testing.assert_array_equal(new_images[..., 0], new_masks)
    assert not np.array_equal(new_masks, masks)
    everything = tf.function(Augmenter(0.7), jit_compile=True)
    new_images, new_masks = everything(images, masks, tf.constant(SEED))
    assert np.ptp(new_images.numpy()) > 0 and not np.array_equal(new_masks, masks)


@pytest.mark.parametrize(
    ("rate", "options", "message"),
    [
        (1.5, {}, "rate in 0..1, received 1.5"),
        (float("nan"), {}, "rate in 0..1, received nan"),
        (0.5, {"names": ["flip", "twist"]}, "'twist'; choose from translation"),
    ],
)
def test_bad_options_are_one_clear_line(rate, options, message):
    with pytest.raises(UserError) as caught:
        Augmenter(rate, **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_resampling_keeps_image_and_mask_together(run, dtype):
    # Where the nearest label and the interpolated picture of the mask agree about a
    # half, up to the pixels of the border that interpolation mixes.
    masks = np.zeros([COUNT, 64, 64], np.uint8)
    masks[:, 12:50, 20:44] = 1
    images = np.repeat(masks[..., np.newaxis] * 200, 3, axis=-1)
    augmenter = Augmenter(0.8, names=["flip", "rotation", "zoom", "warp"])
    new_images, new_masks = run(augmenter, images.astype(dtype), masks, SEED)
    shown = new_images.numpy()[..., 0] > 100
    assert (shown != (new_masks.numpy() == 1)).mean() < 1e-3
    assert not np.array_equal(new_masks, masks)


def _looked_up(homography):
    """A picture of the coordinates themselves, resampled."""
    places = (np.arange(32) + 0.5) / 16 - 1
    across, down = np.meshgrid(places, places)
    images = np.stack([across, down, 0 * down], -1)[None].astype(np.float32)
    masks = np.arange(32 * 32).reshape(1, 32, 32).astype(np.uint8)
    image, mask = geometry.resample(tf.constant(images), tf.constant(masks), homography)
    inner = slice(8, 24)
    return image.numpy()[0, inner, inner], across[inner, inner], down[inner, inner]


def test_homographies_say_where_a_pixel_comes_from():
    picture, x, y = _looked_up(geometry.rotation(tf.constant([90.0])))
    np.testing.assert_allclose(picture[..., 0], -y, atol=1e-5)
    np.testing.assert_allclose(picture[..., 1], x, atol=1e-5)
    zoomed = geometry.zoom(tf.constant([2.0]), tf.constant([[0.5, -1.0]]))
    picture, x, y = _looked_up(zoomed)
    np.testing.assert_allclose(picture[..., 0], x / 2 + 0.25, atol=1e-5)
    np.testing.assert_allclose(picture[..., 1], y / 2 - 0.5, atol=1e-5)
    picture, x, y = _looked_up(geometry.perspective(tf.constant([[0.2, 0.0]])))
    np.testing.assert_allclose(picture[..., 0], x / (1 + 0.2 * x), atol=1e-5)
    np.testing.assert_allclose(picture[..., 1], y / (1 + 0.2 * x), atol=1e-5)


def test_no_change_is_exact_and_outside_is_mirrored():
    images, masks = batch()
    images = tf.cast(images, tf.float32)
    same, same_masks = geometry.resample(images, masks, tf.eye(3, batch_shape=[COUNT]))
    np.testing.assert_allclose(same, images, atol=1e-3)
    np.testing.assert_array_equal(same_masks, masks)
    # Shifted by half of the width: the right half shows the mirrored rest.
    shift = tf.constant([[[1.0, 0, 1], [0, 1, 0], [0, 0, 1]]] * COUNT)
    moved, moved_masks = geometry.resample(images, masks, shift)
    half = WIDTH // 2
    expected = np.concatenate([masks[..., half:], masks[..., ::-1][..., :half]], -1)
    np.testing.assert_array_equal(moved_masks, expected)
    np.testing.assert_allclose(moved[..., 0], expected, atol=1e-2)


def test_lighting_keeps_the_order_of_colours():
    levels = np.arange(256, dtype=np.uint8)
    images = np.broadcast_to(levels[None, None, :, None], [50, 2, 256, 3]).copy()
    masks = np.full([50, 2, 256], 255, np.uint8)
    lit, kept = run_eagerly(Augmenter(1.0, names=["lighting"]), images, masks, SEED)
    np.testing.assert_array_equal(kept, masks)
    line = lit.numpy()[:, 0, :, 0]
    assert (np.diff(line) > -1e-3).all()
    middle = line[:, 128]
    # A tenth of the range either way.
    assert 20 < np.ptp(middle) and abs(middle - 128).max() < 27
