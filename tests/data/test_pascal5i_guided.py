"""PASCAL-5i as Rakelly et al. divide it."""

import numpy as np
import pytest

from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.data.verify import verify_dataset
from efficientlab_tf.errors import UserError
from tests.data.converting import stored
from tests.data.tiny_voc import BUS, VOC_VAL, convert, many


def test_the_division_of_rakelly(voc, sbd, tmp_path):
    out = tmp_path / "out"
    assert convert(voc, out, "--sbd", sbd, "--protocol", "rakelly") == 0
    manifest = Manifest.load(out)
    # v1 is among SBD's training pictures, t2 among VOC's.
    assert set(stored(out, "train-bus")) == {"t1", "t2", "s1", "v1"}
    assert set(stored(out, "train-dog")) == {"t1", "t3"}
    assert set(stored(out, "val-bus")) == {"v2", "v3"}
    assert set(stored(out, "val-pottedplant")) == {"v3", "s2"}
    # Where both sets label a picture, it is VOC's mask.
    np.testing.assert_array_equal(stored(out, "train-bus")["v1"], VOC_VAL["v1"] == BUS)
    assert set(manifest.split("all_train")) >= {"train-bus", "train-dog"}
    assert set(manifest.split("all_val")) >= {"val-bus", "val-pottedplant"}


def test_folds_of_rakelly_share_no_picture_and_are_equally_large(voc, sbd, tmp_path):
    many(voc, sbd)
    out = tmp_path / "out"
    assert convert(voc, out, "--sbd", sbd, "--protocol", "rakelly") == 0
    manifest = Manifest.load(out)
    sizes = []
    for number, fold in enumerate(manifest.folds):
        assert all(name.startswith(f"fold{number}-") for name in fold["train"])
        train, test = (
            set().union(*(stored(out, name) for name in fold[split]))
            for split in ("train", "test")
        )
        assert not train & test
        sizes.append((len(train), len(test)))
    # Fold 0 holds out four birds, the least; fold 1 or 2 trains on the fewest.
    assert {held for _, held in sizes} == {4}
    assert len({size for size, _ in sizes}) == 1
    mixed = {name for name in stored(out, "train-bus") if name.startswith("bd")}
    assert len(mixed) == 5
    assert not mixed & set(stored(out, "fold1-dog"))
    assert not verify_dataset(out).faults
    again = tmp_path / "again"
    convert(voc, again, "--sbd", sbd, "--protocol", "rakelly")
    assert stored(again, "held-bus").keys() == stored(out, "held-bus").keys()
    with pytest.raises(UserError, match="--protocol=rakelly needs --sbd"):
        convert(voc, tmp_path / "none", "--protocol", "rakelly")
