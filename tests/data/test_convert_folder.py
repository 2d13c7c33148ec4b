"""A person's own folders of pictures and masks, converted."""

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.data.records import (
    decode_example,
    read_shard,
)
from efficientlab_tf.errors import UserError
from tests.data.converting import SIDE, arguments, converter, fill, make_arrays, report


def test_folder_end_to_end(tmp_path):
    mugs = tmp_path / "mugs"
    fill(mugs / "images", mugs / "masks")
    output = tmp_path / "out"
    argv = arguments(mugs, output, "--class_name", "mug", "--workers", "1")
    assert converter("folder")(argv) == 0
    manifest = Manifest.load(output)
    assert manifest.split("all") == ("mug",)
    assert manifest.classes["mug"].count == 3


def test_folder_with_a_refused_file_says_so_by_its_status(tmp_path, capsys):
    mugs = tmp_path / "mugs"
    fill(mugs / "images", mugs / "masks")
    (mugs / "masks" / "2.png").unlink()
    argv = arguments(mugs, tmp_path / "out", "--workers", "1")
    assert converter("folder")(argv) == 1
    assert "refused: mugs/2.jpg: image without mask" in capsys.readouterr().err
    assert Manifest.load(tmp_path / "out").classes["mugs"].count == 2


def test_folder_of_index_masks(tmp_path):
    mugs = tmp_path / "mugs"
    fill(mugs / "images", mugs / "masks", count=2)
    values = np.zeros((SIDE, SIDE), np.uint8)
    values[:4], values[4:6], values[6] = 1, 7, 255
    for index in (1, 2):
        Image.fromarray(values).save(mugs / "masks" / f"{index}.png")
    argv = arguments(mugs, tmp_path / "out", "--index_masks", "--workers", "1")
    assert converter("folder")(argv) == 0
    record = next(read_shard(tmp_path / "out" / "mugs.tfrecord"))
    np.testing.assert_array_equal(decode_example(record, None)[1], values)


@pytest.mark.parametrize("top", [1, 255, 65535])
def test_folder_of_16_bit_masks(tmp_path, top):
    mugs = tmp_path / "mugs"
    fill(mugs / "images", mugs / "masks", count=2)
    for index in (1, 2):
        mask = (make_arrays(index)[1] > 0).astype(np.uint16) * top
        Image.fromarray(mask).save(mugs / "masks" / f"{index}.png")
    argv = arguments(mugs, tmp_path / "out", "--workers", "1")
    assert converter("folder")(argv) == 0
    for index, record in enumerate(read_shard(tmp_path / "out/mugs.tfrecord"), 1):
        mask = make_arrays(index)[1] > 0
        np.testing.assert_array_equal(decode_example(record, None)[1], mask)


def test_folders_of_masks_that_mean_several_things(tmp_path):
    mugs = tmp_path / "mugs"
    fill(mugs / "images", mugs / "masks", count=2)
    masks = [mugs / f"masks/{i}.png" for i in (1, 2)]
    Image.fromarray(make_arrays(1)[1] // 255).save(masks[0])
    argv = arguments(mugs, tmp_path / "out", "--workers", "1")
    with pytest.raises(UserError, match=r"1\.png holds the levels 0, 1, but .*2\.png"):
        converter("folder")(argv)
    values = np.zeros((SIDE, SIDE), np.uint8)
    values[:4], values[8:14] = 1, 2
    for path in masks:
        Image.fromarray(values).save(path)
    with pytest.raises(
        UserError, match="hold several classes .*--mask_values to index"
    ):
        converter("folder")(argv)
    assert converter("folder")([*argv, "--mask_values", "instances"]) == 0
    record = next(read_shard(tmp_path / "out" / "mugs.tfrecord"))
    np.testing.assert_array_equal(decode_example(record, None)[1], values > 0)
    masks[0].write_bytes(b"no")
    assert converter("folder")([*argv, "--index_masks", "--overwrite"]) == 1
    row = next(row for row in report(tmp_path / "out") if row[1] == "1.png")
    assert row[2:] == [
        "refused",
        "not an image file that can be read; save it as PNG or JPEG",
    ]
