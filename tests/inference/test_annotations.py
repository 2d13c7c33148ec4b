"""Predictions for annotation tools: what was written reads back as it was."""

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools.coco import COCO

from efficientlab_tf.data.annotations import read_support
from efficientlab_tf.data.annotations.cvat_xml import recognises
from efficientlab_tf.data.annotations.rle import brush_mask, pack_brush, run_lengths
from efficientlab_tf.data.drawing import fill_polygon
from efficientlab_tf.data.outlines import outlines
from efficientlab_tf.errors import UserError
from efficientlab_tf.inference.annotations import (
    FORMATS,
    check_free,
    write_annotations,
)
from efficientlab_tf.inference.queries import find_queries
from efficientlab_tf.inference.results import Record
from efficientlab_tf.pictures import palette_image
from tests.data.annotations.making import ORIENTATION, picture, write

CLASSES = ("cat", 'big & "dog"', "Kätzchen <3>")
HEIGHT, WIDTH = 60, 80


def disc(x, y, radius):
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def nested():
    """Rings in each other, of all classes, and a small thing on a large one."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for radius, value in ((28, 1), (24, 0), (20, 2), (15, 1), (9, 0), (5, 3), (1, 1)):
        mask[disc(40, 30, radius)] = value
    return mask


def thin():
    """Lines that are one pixel wide, single pixels, and holes of one pixel."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5, 3:70] = mask[8:50, 7] = 1
    np.fill_diagonal(mask[10:50, 20:60], 2)
    mask[55, 55] = mask[56, 56] = 3
    mask[12:20, 60:75] = 3
    mask[14, 62] = mask[17, 70] = mask[16, 69] = 0
    return mask


def edges():
    """All four edges of the picture, its corners, and a class that cuts another."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, :2] = mask[-1:] = mask[:10, -15:] = 1
    mask[0] = 2
    mask[20:40, 30:] = 3
    mask[28:32, 30:] = 2
    return mask


def noise():
    return np.random.default_rng(0).integers(0, 4, (HEIGHT, WIDTH), np.uint8)


MASKS = {
    "nested": nested(),
    "thin": thin(),
    "edges": edges(),
    "noise": noise(),
    "full": np.ones((HEIGHT, WIDTH), np.uint8),
    "pixel": np.pad([[2]], ((0, HEIGHT - 1), (0, WIDTH - 1))).astype(np.uint8),
}
EMPTY = np.zeros((HEIGHT, WIDTH), np.uint8)


def predicted(folder, masks, confidences=None, in_support=()):
    """Writes what `adapt` does for queries/; returns records and queries."""
    queries, _ = find_queries(folder / "queries", "none", "all")
    records = []
    for i, query in enumerate(queries):
        mask = masks[query.output]
        (folder / "masks").mkdir(exist_ok=True)
        palette_image(mask).save(folder / f"masks/{query.output}.png")
        records.append(
            Record(
                file=str(query.path),
                mask=f"masks/{query.output}.png",
                overlay="",
                width=mask.shape[1],
                height=mask.shape[0],
                fractions={},
                iou=None,
                class_iou=None,
                in_support=query.output in in_support,
                confidence=confidences[query.output] if confidences else i / 100,
            )
        )
    return records, queries


def written(folder, masks, formats=tuple(FORMATS), **options):
    records, queries = predicted(folder, masks, **options)
    write_annotations(folder, formats, CLASSES, records, queries)
    return folder / "annotations"


def accepted(folder):
    """Adds what Label Studio exports of tasks whose predictions somebody accepts."""
    tasks = json.loads((folder / "tasks.json").read_text())
    for task in tasks:
        task["annotations"] = task.pop("predictions")
    (folder / "project-1.json").write_text(json.dumps(tasks))


def read_back(folder, name):
    if name == "label_studio":
        accepted(folder / name)
    support = read_support(folder / name, classes=CLASSES)
    assert support.classes == CLASSES
    return support


def pictures(folder, names, **files):
    seeds = {f"{name}.png": picture(i, HEIGHT, WIDTH) for i, name in enumerate(names)}
    write(folder / "queries", seeds | files)


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_written_reads_back_pixel_by_pixel(tmp_path, name):
    pictures(tmp_path, [*MASKS, "nothing"])
    folder = written(tmp_path, MASKS | {"nothing": EMPTY}, (name,))
    assert [path.name for path in folder.iterdir()] == [name]
    support = read_back(folder, name)
    found = {Path(p.name).stem: p for p in support.pictures}
    # Where nothing was found, only LabelMe's files say that nothing is there.
    expected = MASKS | ({"nothing": EMPTY} if name == "labelme" else {})
    assert found.keys() == expected.keys()
    for stem, mask in expected.items():
        np.testing.assert_array_equal(found[stem].mask, mask, stem)
        own = np.asarray(Image.open(tmp_path / "queries" / f"{stem}.png"))
        np.testing.assert_array_equal(found[stem].image, own)
    assert not [n for n in support.notes if "left out" in n and "not labelled" not in n]


def test_the_coco_api_reads_the_same(tmp_path):
    pictures(tmp_path, MASKS)
    folder = written(tmp_path, MASKS, ("coco",)) / "coco"
    coco = COCO(folder / "instances.json")
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    for image in coco.loadImgs(coco.getImgIds()):
        assert (folder / "images" / image["file_name"]).is_file()
        mask = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            marked = coco.annToMask(annotation) > 0
            mask[marked] = annotation["category_id"]
            rows, columns = np.nonzero(marked)
            x, y, width, height = annotation["bbox"]
            assert annotation["area"] == marked.sum()
            assert (x, y) == (columns.min(), rows.min())
            assert (width, height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
        np.testing.assert_array_equal(mask, MASKS[Path(image["file_name"]).stem])


def test_labelme_draws_holes(tmp_path):
    # As LabelMe does: Pillow's polygons, whose outline is drawn as well.
    pictures(tmp_path, ["ring"])
    mask = (disc(40, 30, 25) & ~disc(40, 30, 15)).astype(np.uint8)
    folder = written(tmp_path, {"ring": mask}, ("labelme",)) / "labelme"
    (shape,) = json.loads((folder / "ring.json").read_text())["shapes"]
    drawn = Image.new("1", (WIDTH, HEIGHT))
    points = [tuple(point) for point in shape["points"]]
    ImageDraw.Draw(drawn).polygon(points, fill=1, outline=1)
    drawn = np.asarray(drawn)
    assert (drawn & (mask > 0)).sum() / (drawn | (mask > 0)).sum() > 0.9
    assert not drawn[disc(40, 30, 13) & ~disc(40, 30, 12)].all()
    assert not drawn[30, 40]


def test_large_things_have_few_points():
    rows, columns = np.ogrid[:480, :640]
    away = np.hypot(rows - 240, columns - 300)
    turn = np.arctan2(rows - 240, columns - 300)
    marked = (away < 180 + 30 * np.sin(5 * turn)) & ~((away > 40) & (away < 90))
    marked[60:420, 560:600] = True
    marked[100:104, 570:574] = marked[70, 565:595] = False
    pieces = outlines(marked)
    assert len(pieces) == 3 and sum(map(len, pieces)) < 160
    drawn = np.zeros(marked.shape, np.uint8)
    for points in pieces:
        fill_polygon(drawn, points, 1)
    drawn = drawn > 0
    assert (drawn & marked).sum() / (drawn | marked).sum() > 0.99
    # Small holes are as they were.
    assert not drawn[100:104, 570:574].any() and not drawn[70, 565:595].any()


@pytest.mark.parametrize("seed", range(4))
def test_outlines_hold_the_pixels(seed):
    rng = np.random.default_rng(seed)
    marked = rng.random((37, 53)) < (0.1, 0.5, 0.6, 0.9)[seed]
    drawn = np.zeros(marked.shape, np.uint8)
    for points in outlines(marked):
        fill_polygon(drawn, points, 1)
    np.testing.assert_array_equal(drawn > 0, marked)
    assert outlines(np.zeros((3, 3), bool)) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (300, 300)])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_brush_strokes(shape, share):
    marked = np.random.default_rng(0).random(shape) < share
    np.testing.assert_array_equal(brush_mask(pack_brush(marked), *shape), marked)
    assert run_lengths(marked).sum() == marked.size


def test_the_least_sure_come_first_and_support_pictures_last(tmp_path):
    pictures(tmp_path, "abcd")
    masks = dict.fromkeys("abcd", MASKS["nested"])
    confidences = {"a": 0.1, "b": 0.9, "c": 0.2, "d": 0.5}
    folder = written(tmp_path, masks, confidences=confidences, in_support="a")
    coco = json.loads((folder / "coco/instances.json").read_text())
    assert [i["file_name"] for i in coco["images"]] == [f"{n}.png" for n in "cdba"]
    assert [i["id"] for i in coco["images"]] == [1, 2, 3, 4]
    tasks = json.loads((folder / "label_studio/tasks.json").read_text())
    assert [t["predictions"][0]["score"] for t in tasks] == [0.2, 0.5, 0.9, 0.1]
    images = ElementTree.parse(folder / "cvat/annotations.xml").findall("image")
    assert [i.get("name") for i in images] == [f"{n}.png" for n in "cdba"]


def test_label_studio_gets_the_interface_that_its_tasks_name(tmp_path):
    pictures(tmp_path, ["a #1&2+3%20"])
    name = "a #1&2+3%20"
    folder = written(tmp_path, {name: MASKS["nested"]}, ("label_studio",))
    folder /= "label_studio"
    view = ElementTree.parse(folder / "labeling.xml").getroot()
    brush, image = view.find("BrushLabels"), view.find("Image")
    assert [label.get("value") for label in brush] == list(CLASSES)
    (task,) = json.loads((folder / "tasks.json").read_text())
    for region in task["predictions"][0]["result"]:
        assert region["from_name"] == brush.get("name")
        assert region["to_name"] == image.get("name") == brush.get("toName")
    assert task["data"] == {
        "image": "/data/local-files/?d=images/a%20%231%262%2B3%2520.png"
    }
    assert not recognises(folder / "labeling.xml")
    accepted(folder)
    (only,) = read_support(folder, classes=CLASSES).pictures
    np.testing.assert_array_equal(only.mask, MASKS["nested"])


def test_cvat_declares_its_labels(tmp_path):
    pictures(tmp_path, MASKS)
    folder = written(tmp_path, MASKS, ("cvat",))
    root = ElementTree.parse(folder / "cvat/annotations.xml").getroot()
    assert root.findtext("version") == "1.1"
    names = [label.text for label in root.findall("meta/task/labels/label/name")]
    assert names == list(CLASSES)


@pytest.mark.parametrize("name", FORMATS)
def test_pictures_that_tools_do_not_show_become_png(tmp_path, name):
    deep = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH)
    files = {"deep.png": Image.fromarray(deep), "flat.bmp": picture(1, HEIGHT, WIDTH)}
    write(tmp_path / "queries", files)
    pages = [picture(i, HEIGHT, WIDTH) for i in range(2)]
    path = tmp_path / "queries/pages.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    turned = picture(2, WIDTH, HEIGHT)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    turned.save(tmp_path / "queries/turned.JPG", exif=exif)
    stems = ("deep", "flat", "pages_page0", "pages_page1", "turned")
    folder = written(tmp_path, dict.fromkeys(stems, MASKS["nested"]), (name,))
    support = read_back(folder, name)
    found = {p.name: p for p in support.pictures}
    assert sorted(found) == [*(f"{stem}.png" for stem in stems[:4]), "turned.JPG"]
    for one in found.values():
        np.testing.assert_array_equal(one.mask, MASKS["nested"])
    for i in range(2):
        np.testing.assert_array_equal(found[f"pages_page{i}.png"].image, pages[i])
    level = found["deep.png"].image[..., 0]
    assert level.min() == 0 and level.max() == 255
    assert not [note for note in support.notes if "turned" in note]


def test_pictures_of_the_same_stem(tmp_path):
    files = {"a.png": picture(0, HEIGHT, WIDTH), "a.jpg": picture(1, HEIGHT, WIDTH)}
    write(tmp_path / "queries", files)
    masks = {"a_jpg": MASKS["nested"], "a_png": MASKS["edges"]}
    folder = written(tmp_path, masks)
    for name in FORMATS:
        found = {p.name: p.mask for p in read_back(folder, name).pictures}
        np.testing.assert_array_equal(found["a_jpg.jpg"], MASKS["nested"])
        np.testing.assert_array_equal(found["a_png.png"], MASKS["edges"])


def test_corrections_are_not_written_over(tmp_path):
    check_free(tmp_path, tuple(FORMATS))
    pictures(tmp_path, MASKS)
    folder = written(tmp_path, MASKS, ("labelme",))
    check_free(tmp_path, ("coco", "cvat", "label_studio"))
    (folder / "coco").mkdir()
    check_free(tmp_path, ("coco",))
    with pytest.raises(UserError, match="labelme is there already.* `output`"):
        check_free(tmp_path, ("coco", "labelme"))


def test_a_folder_that_cannot_be_written(tmp_path):
    pictures(tmp_path, ["a"])
    (tmp_path / "annotations").write_text("a file")
    with pytest.raises(UserError, match="cannot write to .*coco: Not a directory"):
        written(tmp_path, {"a": MASKS["thin"]}, ("coco",))


def test_every_format_is_described():
    document = Path(__file__).parents[2] / "docs/outputs.md"
    rows = re.findall(r"^\| `(\w+)` \|", document.read_text(encoding="utf-8"), re.M)
    assert rows == list(FORMATS)
