"""Readers of foreign layouts: what they change, what they refuse, and why."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from efficientlab_tf.data.cleaning import CleaningOptions
from efficientlab_tf.data.example import CHANGED, REFUSED
from efficientlab_tf.data.example_files import load_example
from efficientlab_tf.data.sources.folder import folder_jobs
from efficientlab_tf.data.sources.fss1000 import fss1000_jobs
from efficientlab_tf.data.sources.jobs import read_classes
from efficientlab_tf.data.sources.mliis import list_shards, read_mliis
from efficientlab_tf.errors import UserError

ORIENTATION = 0x0112
PLAIN = CleaningOptions()


def photo(width=32, height=24):
    """An image whose left part is dark and right part bright."""
    values = np.full((height, width, 3), 40, np.uint8)
    values[:, width // 2 :] = (220, 200, 180)
    return Image.fromarray(values)


def bright_half(width=32, height=24):
    """The mask that marks `photo`'s bright part."""
    values = np.zeros((height, width), np.uint8)
    values[:, width // 2 :] = 255
    return values


def store(folder, image=None, mask=None, stem="1", suffix=".jpg", **save):
    """Saves an example in FSS-1000's layout; returns both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"{stem}{suffix}", folder / f"{stem}.png"
    if image is not None:
        kind = {".png": "PNG", ".webp": "WEBP"}.get(suffix, "JPEG")
        image.save(paths[0], kind, **save)
    if mask is not None:
        picture = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        picture.save(paths[1])
    return paths


def load(image_path, mask_path, options=PLAIN):
    """Loads an example; returns its decoded image and mask, itself, and the rows."""
    example, rows = load_example("c", image_path, mask_path, options)
    if example is None:
        return None, None, None, rows
    image = Image.open(io.BytesIO(example.image))
    assert image.format.lower() == example.image_format
    assert image.mode in ("RGB", "L")
    mask = Image.open(io.BytesIO(example.mask))
    assert mask.mode == "L"
    assert image.size == mask.size == (example.width, example.height)
    return np.asarray(image), np.asarray(mask), example, rows


def rgb(mask):
    return np.repeat(mask[..., None], 3, -1)


def test_an_object_mask_is_not_one_of_indices(tmp_path):
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4] = 255
    paths = store(tmp_path, Image.new("RGB", (8, 8)), mask)
    _, _, example, rows = load(*paths, CleaningOptions(mask_values="index"))
    assert example is None and rows[-1].action == REFUSED
    assert "set `mask_values` to object" in rows[-1].reason
    assert load(*paths)[2] is not None


# Images.


def test_untouched_jpeg_keeps_its_bytes(tmp_path):
    paths = store(tmp_path, photo(), rgb(bright_half()))
    image, mask, example, rows = load(*paths)
    assert example.image == paths[0].read_bytes()
    assert (example.image_format, example.filename) == ("jpeg", "1.jpg")
    np.testing.assert_array_equal(mask, bright_half() // 255)
    assert rows == []


def test_format_comes_from_the_content_not_the_suffix(tmp_path):
    paths = store(tmp_path, mask=bright_half())
    photo().save(paths[0], "PNG")
    image, _, example, rows = load(*paths)
    assert example.image_format == "png" and rows == []
    np.testing.assert_array_equal(image, photo())


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_rotation_is_applied_to_the_image(tmp_path, orientation):
    # What a camera stores when it is held so that `photo` is what it sees.
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    paths = store(
        tmp_path,
        photo().transpose(inverse),
        bright_half(),
        exif=exif,
        quality=95,
    )
    image, mask, _, rows = load(*paths)
    np.testing.assert_array_equal(image[..., 0] > 128, mask == 1)
    np.testing.assert_array_equal(mask, bright_half() // 255)
    # Of 2 to 4 the mask's shape does not tell whether it was turned, too.
    assert [row.file for row in rows] == ["1.jpg", "1.png"][: 1 + (orientation < 5)]
    assert f"EXIF rotation applied (orientation {orientation})" in rows[0].reason


def test_mask_drawn_on_the_unrotated_pixels_is_turned_too(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    stored = photo().transpose(Image.Transpose.ROTATE_90)
    mask = Image.fromarray(bright_half()).transpose(Image.Transpose.ROTATE_90)
    image, mask, _, rows = load(*store(tmp_path, stored, mask, exif=exif, quality=95))
    np.testing.assert_array_equal(image[..., 0] > 128, mask == 1)
    assert [row.file for row in rows] == ["1.jpg", "1.png"]
    assert rows[1].reason == "turned with its image"


@pytest.mark.parametrize(
    "mode, suffix, reason",
    [
        ("CMYK", ".jpg", "CMYK converted to RGB"),
        ("P", ".png", "P converted to RGB"),
        ("RGBA", ".png", "RGBA with transparency put on white"),
        ("LA", ".png", "LA with transparency put on white"),
        ("RGB", ".webp", "WEBP stored as PNG"),
    ],
)
def test_images_converted_to_rgb(tmp_path, mode, suffix, reason):
    image_path, _ = store(tmp_path / "a", photo().convert(mode), suffix=suffix)
    _, mask_path = store(tmp_path / "b", mask=bright_half())
    image, mask, _, rows = load(image_path, mask_path)
    assert image.shape == (24, 32, 3)
    np.testing.assert_array_equal(image[..., 0] > 128, mask == 1)
    assert [(row.action, row.reason) for row in rows] == [(CHANGED, reason)]


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.asarray(photo().convert("L")).astype(np.uint16) * 256
    image_path, _ = store(tmp_path / "a", Image.fromarray(values), suffix=".png")
    _, mask_path = store(tmp_path / "b", mask=bright_half())
    image, _, _, rows = load(image_path, mask_path)
    np.testing.assert_array_equal(image, np.asarray(photo().convert("L")))
    assert "16 bits" in rows[0].reason


def test_grey_jpeg_is_kept(tmp_path):
    paths = store(tmp_path, photo().convert("L"), bright_half())
    _, _, example, rows = load(*paths)
    assert example.image == paths[0].read_bytes() and rows == []


def test_image_size_resizes_both_and_says_so(tmp_path):
    paths = store(tmp_path, photo(), bright_half())
    image, mask, example, rows = load(*paths, CleaningOptions(image_size=16))
    assert (example.height, example.width) == (16, 16)
    np.testing.assert_array_equal(image[..., 0] > 128, mask == 1)
    assert [row.reason for row in rows] == ["resized from 32x24 to 16x16"]


def test_an_object_that_vanishes_is_reported(tmp_path):
    mask = np.zeros((24, 32), np.uint8)
    mask[5, 5] = 255
    *_, rows = load(*store(tmp_path, photo(), mask), CleaningOptions(image_size=8))
    assert rows[-1].reason == "nothing is left of 1 at 8x8"


def test_mask_of_another_size_but_the_same_aspect_ratio(tmp_path):
    paths = store(tmp_path, photo(), bright_half(64, 48))
    _, mask, _, rows = load(*paths)
    np.testing.assert_array_equal(mask, bright_half() // 255)
    assert rows[0].file == "1.png"
    assert rows[0].reason == "resized from 64x48 to the image's 32x24"


@pytest.mark.parametrize(
    "size, fits",
    [((250, 166), True), ((250, 167), True), ((250, 165), False), ((333, 500), False)],
)
def test_aspect_ratio_up_to_rounding(tmp_path, size, fits):
    *_, example, rows = load(*store(tmp_path, photo(500, 333), bright_half(*size)))
    assert (example is not None) == fits
    if not fits:
        assert rows[0].action == REFUSED
        assert f"mask is {size[0]}x{size[1]}, image 500x333" in rows[0].reason


def damage(path):
    path.write_bytes(path.read_bytes()[:-300])


@pytest.mark.parametrize(
    "name, spoil, expected",
    [
        ("1.jpg", damage, "truncated or corrupt"),
        ("1.jpg", lambda path: path.write_bytes(b""), "empty file"),
        ("1.jpg", lambda path: path.write_text("hello"), "not an image file"),
        ("1.png", lambda path: path.write_bytes(path.read_bytes()[:60]), "truncated"),
        ("1.png", lambda path: path.unlink(), "No such file"),
    ],
)
def test_unreadable_files_are_refused(tmp_path, name, spoil, expected):
    paths = store(tmp_path, photo(200, 200), bright_half(200, 200), quality=95)
    spoil(tmp_path / name)
    *_, example, rows = load(*paths)
    assert example is None
    (row,) = rows
    assert (row.class_name, row.file, row.action) == ("c", name, REFUSED)
    assert expected in row.reason and "\n" not in row.reason


# Layouts.


def test_fss1000_partners(tmp_path):
    bear = tmp_path / "bear"
    for stem, suffix in (("1", ".jpg"), ("2", ".jpeg"), ("10", ".JPG")):
        store(bear, photo(), bright_half(), stem=stem, suffix=suffix)
    store(bear, photo(), stem="10", suffix=".jpeg")
    store(bear, photo(), stem="4")
    store(bear, mask=bright_half(), stem="5")
    store(bear, photo(), stem="6", suffix=".png")
    store(bear, mask=bright_half(), stem="6_mask")
    (bear / "Thumbs.db").write_bytes(b"x")
    (bear / "._1.jpg").write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    (tmp_path / "readme.txt").write_text("x")
    (job,) = fss1000_jobs(tmp_path)
    assert job.class_name == "bear"
    assert [(image.name, mask.name) for image, mask in job.files] == [
        ("1.jpg", "1.png"),
        ("2.jpeg", "2.png"),
        ("6.png", "6_mask.png"),
        ("10.JPG", "10.png"),
    ]
    assert [(row.file, row.action, row.reason) for row in job.rows] == [
        ("4.jpg", REFUSED, "image without mask"),
        ("5.png", REFUSED, "mask without image"),
        ("10.jpeg", REFUSED, "a second image of the same name; 10.JPG used"),
    ]
    data = job.read(PLAIN)
    assert [example.filename for example in data.examples] == [
        "1.jpg",
        "2.jpeg",
        "6.png",
        "10.JPG",
    ]


def test_fss1000_without_classes(tmp_path):
    with pytest.raises(UserError, match="no such folder: .*none"):
        fss1000_jobs(tmp_path / "none")
    with pytest.raises(UserError, match="has no class folders"):
        fss1000_jobs(tmp_path)


def test_worker_processes_give_what_one_process_gives(tmp_path):
    for name in "abc":
        store(tmp_path / name, photo(), bright_half())
    jobs = fss1000_jobs(tmp_path)
    alone = list(read_classes(jobs, PLAIN, workers=1))
    assert [data.class_name for data in alone] == ["a", "b", "c"]
    assert list(read_classes(jobs, PLAIN, workers=2)) == alone


def test_folder_of_one_class(tmp_path):
    store(tmp_path / "mug" / "images", photo(), stem="left", suffix=".webp")
    store(tmp_path / "mug" / "images", photo(), stem="right")
    store(tmp_path / "mug" / "masks", mask=bright_half(), stem="left")
    (job,) = folder_jobs(tmp_path / "mug", None)
    assert job.class_name == "mug"
    assert [image.name for image, _ in job.files] == ["left.webp"]
    assert [(row.file, row.reason) for row in job.rows] == [
        ("right.jpg", "image without mask")
    ]
    (job,) = folder_jobs(tmp_path / "mug", "cup")
    assert job.class_name == "cup"


def test_folder_of_several_classes(tmp_path):
    for name in ("cup", "mug"):
        store(tmp_path / name / "images", photo())
        store(tmp_path / name / "masks", mask=bright_half())
    assert [job.class_name for job in folder_jobs(tmp_path, None)] == ["cup", "mug"]
    with pytest.raises(UserError, match="`class_name` cup is for one class"):
        folder_jobs(tmp_path, "cup")


def test_folder_without_the_layout(tmp_path):
    with pytest.raises(UserError, match="neither images/ and masks/"):
        folder_jobs(tmp_path, None)
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match="no such folder: .*masks"):
        folder_jobs(tmp_path, None)


# The EfficientLab authors' shards.


def write_mliis(path, records):
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for features in records:
            feature = {
                name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                for name, value in features.items()
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())


def test_mliis_shards_are_kept_exactly(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    half = bright_half(224, 224)
    write_mliis(
        tmp_path / "bear.tfrecord.gzip",
        [
            {"image": image.tobytes(), "mask": half.tobytes()},
            {"image": image.tobytes(), "mask": rgb(half).tobytes()},
            {"image": image[1:].tobytes(), "mask": half.tobytes()},
            {"picture": b""},
        ],
    )
    (data,) = read_mliis(list_shards(tmp_path))
    assert data.class_name == "bear"
    assert len(data.examples) == 2
    for example in data.examples:
        stored = np.asarray(Image.open(io.BytesIO(example.image)))
        np.testing.assert_array_equal(stored, image)
        mask = np.asarray(Image.open(io.BytesIO(example.mask)))
        np.testing.assert_array_equal(mask, half // 255)
        assert (example.height, example.width) == (224, 224)
    assert [row.action for row in data.rows] == [REFUSED, REFUSED]
    assert "record 2 of bear.tfrecord.gzip: 149856 bytes" in data.rows[0].reason
    assert "record 3" in data.rows[1].reason


def test_truncated_mliis_shard(tmp_path):
    half = bright_half(224, 224)
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    path = tmp_path / "bear.tfrecord.gzip"
    write_mliis(path, [{"image": image.tobytes(), "mask": half.tobytes()}] * 3)
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 2])
    (data,) = read_mliis(list_shards(tmp_path))
    assert len(data.examples) < 3
    assert f"record {len(data.examples)}: truncated" in data.rows[-1].reason


def test_no_mliis_shards(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        list_shards(tmp_path / "none")
    with pytest.raises(UserError, match="holds no CLASS.tfrecord.gzip"):
        list_shards(tmp_path)
