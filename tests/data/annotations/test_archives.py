"""ZIP archives of exports, also of hostile ones."""

import json
import zipfile

import numpy as np
import pytest

from efficientlab_tf.data.annotations import archives, read_support
from efficientlab_tf.errors import UserError
from tests.data.annotations.making import (
    archive,
    box,
    corners,
    cvat,
    labelme,
    masks,
    picture,
    png,
    shape,
)


@pytest.mark.parametrize("folder", ["", "export/"])
def test_archives_of_exports(tmp_path, folder):
    read = read_support(archive(tmp_path / "cvat.zip", cvat(), folder))
    assert read.classes == ("cat", "big dog") and len(read.pictures) == 2
    pairs = {"images/a.png": picture(), "masks/a.png": box(2, 3, 9, 9, 255)}
    assert len(read_support(archive(tmp_path / "p.zip", pairs, folder)).pictures) == 1
    bad = archive(tmp_path / "bad.zip", {"x.json": "{"}, folder)
    with pytest.raises(UserError, match=rf"bad\.zip/{folder}x\.json: not as its"):
        read_support(bad)


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../e", "C:\\e"])
def test_archives_that_reach_outside(tmp_path, name):
    path = archive(tmp_path / "x.zip", {**cvat(), name: b"evil"})
    with pytest.raises(UserError, match="would be written outside"):
        read_support(path)


def test_archives_that_are_bombs(tmp_path, monkeypatch):
    path = archive(tmp_path / "x.zip", {"a.png": bytes(10**6)})
    monkeypatch.setattr(archives, "_HARMLESS", 10**5)
    with pytest.raises(UserError, match="would unpack to .* times its size"):
        read_support(path)
    monkeypatch.setattr(archives, "MAX_UNPACKED", 10**5)
    with pytest.raises(UserError, match="1 files of .* in all, more than"):
        read_support(path)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 0)
    with pytest.raises(UserError, match="more than 0 or"):
        read_support(path)


def test_damaged_archives(tmp_path):
    path = archive(tmp_path / "x.zip", cvat())
    data = bytearray(path.read_bytes())
    data[200:260] = bytes(60)
    path.write_bytes(data)
    with pytest.raises(UserError, match="x.zip cannot be unpacked"):
        read_support(path)


def test_archives_with_backslashes(tmp_path):
    pairs = {"labelled\\images\\a.png": picture()}
    pairs["labelled\\masks\\a.png"] = box(2, 3, 9, 9, 255)
    read = read_support(archive(tmp_path / "p.zip", pairs))
    np.testing.assert_array_equal(masks(read)["a.png"], box(2, 3, 9, 9))
    with pytest.raises(UserError, match="would be written outside"):
        read_support(archive(tmp_path / "x.zip", {**pairs, "..\\evil.png": b"x"}))


class _WithoutFlag(zipfile.ZipInfo):
    """A member whose name is written in a code page that nothing tells."""

    page = "utf-8"

    def _encodeFilenameFlags(self):  # noqa: N802 (of zipfile)
        return self.filename.encode(self.page), self.flag_bits


@pytest.mark.parametrize("page", ["utf-8", "gbk", "cp932"])
def test_names_in_another_code_page(tmp_path, page):
    name = "\u56f3\u77470.png" if page == "cp932" else "\u56fe\u72470.png"
    document = json.dumps(labelme([shape("cup", corners(2, 3, 10, 12))], name))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as zipped:
        zipped.writestr("x.json", document)
        member = _WithoutFlag(f"photos/{name}")
        member.page = page
        zipped.writestr(member, png(picture(3)))
    (read,) = read_support(tmp_path / "x.zip").pictures
    np.testing.assert_array_equal(read.image, np.asarray(picture(3)))
    pairs = {
        f"images/{name}": png(picture()),
        f"masks/{name}": png(box(0, 0, 9, 9, 255)),
    }
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as zipped:
        for path, content in pairs.items():
            member = _WithoutFlag(path)
            member.page = page
            zipped.writestr(member, content)
    assert len(read_support(tmp_path / "y.zip").pictures) == 1
