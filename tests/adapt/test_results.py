"""`adapt`: what is said, scored and written of the pictures to segment."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from efficientlab_tf.adapt import AdaptConfig, adapt
from efficientlab_tf.checkpoint.run import build_inner_loop
from efficientlab_tf.data.annotations import read_support
from efficientlab_tf.errors import UserError
from efficientlab_tf.inference.queries import read_query
from efficientlab_tf.pictures import decide
from efficientlab_tf.segmenters.gradient import AdaptFunctions
from tests.adapt.labelled_squares import found, summary
from tests.data.annotations.making import write
from tests.loading import load_model
from tests.models.test_heads import SIZE, squares


@pytest.mark.learned
def test_from_pictures_to_masks(paths, tmp_path, capsys):
    saved = tmp_path / "deep" / "adapted.keras"
    assert adapt(AdaptConfig(**paths, save=str(saved))) == 0
    out = capsys.readouterr().out
    assert "support: 4 pictures (images and masks); classes: object" in out
    assert "adapted: 12 steps at 0.1, batch norm support" in out
    assert out.count("support IoU") == 13 and out.count("loss") == 12
    assert "mean IoU of 3 queries" in out

    document = summary(paths)
    assert document["classes"] == ["object"]
    assert [s["file"] for s in document["support"]["pictures"]] == [
        f"{i}.jpg" for i in range(1, 5)
    ]
    assert document["settings"]["steps"] == 12
    assert document["settings"]["learning_rate"] == 0.1
    steps = document["steps"]
    assert [s["step"] for s in steps] == list(range(13))
    assert steps[0]["loss"] is None and steps[-1]["loss"] < 0.5 * steps[1]["loss"]
    # Before, any square is the object, so that half of what is found is right.
    assert steps[-1]["iou"] > steps[0]["iou"] + 0.3
    assert document["scores"]["queries"] == 3
    assert document["scores"]["mean_iou"] > 0.6
    assert document["early_stopping"] is None and document["failed"] == []

    for i, query in enumerate(document["queries"], start=1):
        mask = found(paths, i)
        assert mask.shape == (90, 50) and set(np.unique(mask)) <= {0, 1}
        assert query["fractions"]["object"] == pytest.approx(np.mean(mask == 1))
        with Image.open(Path(paths["query"]) / f"{i}.png") as truth:
            truth = np.asarray(truth) > 0
        iou = (truth & (mask == 1)).sum() / (truth | (mask == 1)).sum()
        assert query["iou"] == pytest.approx(iou)
        with Image.open(Path(paths["output"]) / query["overlay"]) as image:
            assert image.size == (50, 90)
            assert np.asarray(image)[mask == 1].std() > 1
    with Image.open(Path(paths["output"]) / "contact_sheet.png") as sheet:
        assert np.asarray(sheet).std() > 10

    # What was saved says the same, by the statistics that it was saved with.
    network, weights, run = load_model(str(saved))
    assert run.learner.inner_steps == 12
    functions = AdaptFunctions(build_inner_loop(run.learner, network))
    for i in range(1, 4):
        upright = read_query(Path(paths["query"]) / f"{i}.jpg")
        image = upright.picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        image = tf.constant(np.asarray(image)[np.newaxis])
        p = functions.predict(weights, image, False).numpy()[0]
        np.testing.assert_array_equal(decide(p, (90, 50), 0.5), found(paths, i))


def test_queries_of_every_kind_and_some_that_are_none(paths, capsys):
    folder = Path(paths["query"])
    image = Image.fromarray(squares(1, 5)[0][0])
    turned = image.resize((60, 30))
    exif = turned.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    turned.save(buffer, "JPEG", exif=exif)
    gray16 = np.asarray(image.convert("L")).astype(np.uint16) * 16
    write(
        folder,
        {
            **{"turned.jpg": buffer.getvalue(), "same.jpg": image, "same.png": image},
            **{"deep.tif": Image.fromarray(gray16), "alpha.webp": image},
            **{"gray.bmp": image.convert("L"), "clear.png": image.convert("RGBA")},
            **{"wide.png": image.resize((300, 20)), "dot.png": image.resize((1, 1))},
            **{"empty.jpg": b"", "text.png": b"no picture", "notes.txt": "text"},
            "cut.png": (lambda b: (image.save(b, "PNG"), b.getvalue()[:900])[1])(
                io.BytesIO()
            ),
        },
    )
    assert adapt(AdaptConfig(**paths, steps="1")) == 1
    captured = capsys.readouterr()
    assert "judged by 3 masks found with the queries: 1.png, 2.png, 3.png" in (
        captured.out
    )
    failed = {Path(f["file"]).name: f["reason"] for f in summary(paths)["failed"]}
    assert failed.keys() == {"empty.jpg", "text.png", "cut.png"}
    for name, reason in failed.items():
        assert f"{name}: {reason}" in captured.err
    assert found(paths, "turned").shape == (60, 30)
    assert found(paths, "wide").shape == (20, 300)
    assert found(paths, "dot").shape == (1, 1)
    names = {Path(q["mask"]).stem for q in summary(paths)["queries"]}
    assert names == {
        *("1", "2", "3", "turned", "same_jpg", "same_png", "deep", "alpha"),
        *("gray", "clear", "wide", "dot"),
    }


def test_what_was_decided_is_said(paths, tmp_path, capsys):
    for mask in (tmp_path / "support").glob("*.png"):
        with Image.open(mask) as image:
            values = np.asarray(image).astype(np.uint16) * 257
        Image.fromarray(values).save(mask)
    frames = [picture for picture in map(Image.fromarray, squares(2, 5)[0])]
    frames[0].save(tmp_path / "query/z.tif", save_all=True, append_images=frames[1:])
    (tmp_path / "query/y.psd").write_bytes(b"8BPS")
    assert adapt(AdaptConfig(**paths, steps="1", pages="all")) == 1
    out, error = capsys.readouterr()
    decided = (
        "read as bright object on dark background, levels 0 and 65535; of all pixels"
    )
    assert decided in out and decided in summary(paths)["notes"][0]
    assert "y.psd: Photoshop files are not read; save it as PNG or JPEG" in error
    assert (
        found(paths, "z_page0").shape == found(paths, "z_page1").shape == (SIZE, SIZE)
    )


def test_predictions_for_annotation_tools(paths, capsys):
    (Path(paths["query"]) / "broken.jpg").write_text("no picture")
    config = AdaptConfig(**paths, annotations="coco, labelme,coco")
    assert adapt(config) == 1
    folder = Path(paths["output"]) / "annotations"
    out = capsys.readouterr().out
    assert f"to correct: {folder}/coco, {folder}/labelme\n" in out
    assert sorted(path.name for path in folder.iterdir()) == ["coco", "labelme"]
    support = read_support(folder / "coco")
    assert sorted(p.name for p in support.pictures) == ["1.jpg", "2.jpg", "3.jpg"]
    for picture in support.pictures:
        np.testing.assert_array_equal(picture.mask, found(paths, picture.name[0]))
    order = (Path(paths["output"]) / "label_next.txt").read_text().splitlines()
    images = json.loads((folder / "coco/instances.json").read_text())["images"]
    assert [i["file_name"] for i in images] == [Path(path).name for path in order]
    with pytest.raises(UserError, match="coco is there already"):
        adapt(config)
