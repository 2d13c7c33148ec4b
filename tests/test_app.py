"""The annotation page without its page: pictures, marks, masks, downloads."""

import io
import json
import os
import runpy
import socket
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_api

from efficientlab_tf.api.baselines import LINEAR
from efficientlab_tf.app.__main__ import check_address, serve
from efficientlab_tf.app.annotations import (
    BACKGROUND,
    FOREGROUND,
    POINT_REACH,
    Annotations,
    Stroke,
)
from efficientlab_tf.app.config import AppConfig
from efficientlab_tf.app.downloads import write_annotations, write_masks, write_model
from efficientlab_tf.app.methods import load_methods, warm_up
from efficientlab_tf.app.picture import SHOWN_SIDE, THUMBNAIL_SIDE
from efficientlab_tf.app.view import Session, view
from efficientlab_tf.app.workspace import Workspace
from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import RunConfig, build_functions
from efficientlab_tf.config import OWN, LearnerConfig, ModelConfig
from efficientlab_tf.data.samples import PHOTOGRAPHS, read_sample, sample_names
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from efficientlab_tf.models import build_model
from efficientlab_tf.pictures import decide
from efficientlab_tf.segmenters.baselines import FeatureExtractor, LogisticRegression
from efficientlab_tf.segmenters.forward import ForwardFunctions
from efficientlab_tf.segmenters.network import Network
from efficientlab_tf.shipped import shipped
from tests.loading import load_model
from tests.models.tiny import tiny_network

ROOT = Path(__file__).parent.parent
SIZE = 32
GUIDED, STEPPED, EARLY = "tiny_guided", "tiny", "tiny_early"
LINEAR_SIZE = 224
STEPS = 3
LEARNER = LearnerConfig(
    inner_steps=STEPS, inner_learning_rate=0.1, inner_batch=0, augment_rate=0.0
)
SIZES = [(40, 60), (64, 32), (32, 32)]
POINTS = [(0, 4, 5, FOREGROUND), (0, 30, 50, BACKGROUND), (1, 50, 20, FOREGROUND)]
LONG = max(max(size) for size in SIZES)


def write_models(folder: Path) -> list[str]:
    """Untrained networks, as files that the page takes."""
    keras.utils.set_random_seed(5)
    narrow = {"image_size": SIZE, "width": 1 / 16, "dilated": True, "dropout": 0.0}
    networks = {
        GUIDED: build_model("guided", **narrow, channels=16),
        EARLY: build_model("guided", **narrow, channels=16, fusion="early"),
        STEPPED: tiny_network(SIZE),
    }
    run = RunConfig(model=ModelConfig(image_size=SIZE), learner=LEARNER)
    paths = []
    for name, model in networks.items():
        network, path = Network(model), folder / f"{name}.keras"
        save_keras(path, network, network.weights(), run)
        paths.append(str(path))
    return paths


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def methods(paths):
    return load_methods([*paths, LINEAR], OWN)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "users"
    folder.mkdir()
    return folder


@pytest.fixture
def workspace(methods, folder):
    with Workspace(methods, AppConfig(), folder) as workspace:
        for i, size in enumerate(SIZES):
            workspace.add(f"{i}.png", encoded(picture(size, i)))
        yield workspace


def picture(size, seed: int) -> np.ndarray:
    """Smooth noise, uint8 [height, width, 3]."""
    small = np.random.default_rng(seed).integers(0, 256, [4, 4, 3], np.uint8)
    return np.asarray(Image.fromarray(small).resize(size[::-1]))


def encoded(image: np.ndarray, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, form, **options)
    return file.getvalue()


def mark_all(workspace, points=POINTS) -> None:
    for index, row, column, label in points:
        workspace.mark(index, row, column, label)


def fitted(side: int = SIZE) -> np.ndarray:
    """The pictures at a model's size."""
    images = [Image.fromarray(picture(size, i)) for i, size in enumerate(SIZES)]
    how = Image.Resampling.BILINEAR
    return np.stack([np.asarray(image.resize((side, side), how)) for image in images])


def support(points=POINTS, side: int = SIZE) -> np.ndarray:
    """The points as masks of a model's size, by whole numbers."""
    masks = np.full([len(SIZES), side, side], IGNORE, np.uint8)
    for index, row, column, label in points:
        height, width = SIZES[index]
        # floor((row + 1/2) * side / height)
        place = (2 * row + 1) * side // (2 * height)
        masks[index, place, (2 * column + 1) * side // (2 * width)] = label
    return masks


def expected(path: str, forward: bool) -> np.ndarray:
    """Probabilities by the package's other way, without the page."""
    if path == LINEAR:
        segmenter = LogisticRegression(FeatureExtractor())
        images = fitted(LINEAR_SIZE)
        return segmenter.adapt(images, support(side=LINEAR_SIZE)).predict(images)
    network, weights, run = load_model(path)
    images, masks = fitted(), support()
    if forward:
        adapted = ForwardFunctions(network).segmenter(weights).adapt(images, masks)
        return adapted.predict(images)
    functions = build_functions(run.learner, network)
    segmenter = functions.segmenter(
        weights, learning_rate=0.1, steps=STEPS, batch_norm="support"
    )
    return segmenter.adapt(images[:2], masks[:2]).predict(images)


@pytest.mark.parametrize("name", [GUIDED, EARLY, STEPPED, LINEAR])
def test_masks_are_those_of_the_package(workspace, paths, name):
    mark_all(workspace)
    seen = []
    workspace.adapt(name, on_step=lambda *step: seen.append(step))
    path = next(path for path in [*paths, LINEAR] if Path(path).stem == name)
    probabilities = expected(path, forward=name != STEPPED)
    for i, (size, probability) in enumerate(zip(SIZES, probabilities, strict=True)):
        own = workspace.pictures[i].probability
        np.testing.assert_allclose(own, probability, atol=1e-5)
        mask = workspace.mask(i)
        assert mask.shape == size and mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, decide(own, size, 0.5))
    steps = [(i, STEPS) for i in range(1, STEPS + 1)]
    assert seen == (steps if name == STEPPED else [])
    assert workspace.methods[name].live == (name in (GUIDED, LINEAR))


def test_a_classifier_needs_both_sides(workspace):
    workspace.mark(0, 4, 5, FOREGROUND)
    with pytest.raises(UserError, match="only the object is marked; click on what is"):
        workspace.adapt(LINEAR)
    workspace.mark(1, 4, 5, BACKGROUND)
    workspace.adapt(LINEAR)
    # What was clicked on is what it was called.
    assert workspace.mask(0)[4, 5] == 1 and workspace.mask(1)[4, 5] == 0


def test_corrections_are_as_if_marked_at_once(workspace, methods, folder):
    workspace.mark(0, 4, 5, FOREGROUND)
    workspace.adapt(GUIDED)
    first = workspace.pictures[2].probability
    for point in POINTS[1:]:
        mark_all(workspace, [point])
        assert workspace.stale
        workspace.adapt(GUIDED)
    assert not workspace.stale
    with Workspace(methods, AppConfig(), folder) as other:
        # Pictures that come behind the adaptation get masks as well.
        for i in (0, 1):
            other.add(f"{i}.png", encoded(picture(SIZES[i], i)))
        mark_all(other)
        other.adapt(GUIDED)
        other.add("2.png", encoded(picture(SIZES[2], 2)))
        for i in range(3):
            np.testing.assert_allclose(
                workspace.pictures[i].probability,
                other.pictures[i].probability,
                atol=1e-6,
            )
    assert np.abs(workspace.pictures[2].probability - first).max() > 1e-4


def test_users_are_apart(workspace, methods, folder):
    mark_all(workspace)
    workspace.adapt(GUIDED)
    before = [workspace.mask(i) for i in range(3)], workspace.shown(0)
    archive = write_masks(workspace)
    other = Workspace(methods, AppConfig(), folder)
    assert not other.pictures
    other.add("mine.png", encoded(picture((50, 50), 9)))
    other.mark(0, 25, 25, FOREGROUND)
    other.adapt(GUIDED)
    assert write_masks(other) != archive
    assert len(list(folder.iterdir())) == 2
    other.close()
    other.close()
    assert len(list(folder.iterdir())) == 1 and archive.is_file()
    for i, mask in enumerate(before[0]):
        np.testing.assert_array_equal(workspace.mask(i), mask)
    np.testing.assert_array_equal(workspace.shown(0), before[1])
    workspace.close()
    assert not list(folder.iterdir()) and not workspace.pictures


def test_marks_are_drawn_as_they_are_defined():
    marks = Annotations((40, 60)).add(Stroke(((0, 59),), FOREGROUND))
    marks = marks.add(Stroke(((20, 30),), BACKGROUND, 10))
    marks = marks.add(Stroke(((20, 30),), FOREGROUND, 5))
    for height, width in ((40, 60), (32, 32), (400, 600), (7, 3)):
        mask = marks.raster(height, width)
        for row in range(height):
            for column in range(width):
                # The middle of the cell, in pixels of the picture.
                y, x = (row + 0.5) * 40 / height, (column + 0.5) * 60 / width
                distance = np.hypot(y - 20.5, x - 30.5)
                want = IGNORE
                if abs(distance - 5) < 1e-6 or abs(distance - 10) < 1e-6:
                    continue
                if distance < 5:
                    want = FOREGROUND
                elif distance < 10:
                    want = BACKGROUND
                if int(20.5 * height / 40) == row and int(30.5 * width / 60) == column:
                    want = FOREGROUND
                if int(0.5 * height / 40) == row and int(59.5 * width / 60) == column:
                    want = FOREGROUND
                assert mask[row, column] == want, (row, column)


def test_eraser_and_undo(workspace):
    workspace.mark(0, 10, 10, FOREGROUND)
    workspace.mark(0, 10, 40, BACKGROUND, radius=6)
    kept = workspace.pictures[0].annotations.raster(40, 60)
    assert (kept == BACKGROUND).sum() > 80 and kept[10, 10] == FOREGROUND
    # As near as a point is drawn wide, and no nearer.
    near, far = int(POINT_REACH * 60), int(POINT_REACH * 60) + 2
    workspace.mark(0, 10 + far, 10, IGNORE)
    assert workspace.pictures[0].annotations.raster(40, 60)[10, 10] == FOREGROUND
    workspace.mark(0, 10 + near, 10, IGNORE)
    erased = workspace.pictures[0].annotations.raster(40, 60)
    assert (erased != FOREGROUND).all() and (erased == BACKGROUND).sum() > 80
    workspace.mark(0, 10, 40, IGNORE, radius=3)
    hole = workspace.pictures[0].annotations.raster(40, 60)
    assert hole[10, 40] == IGNORE and hole[10, 45] == BACKGROUND
    for _ in range(3):
        assert workspace.undo(0)
    np.testing.assert_array_equal(
        workspace.pictures[0].annotations.raster(40, 60), kept
    )
    workspace.clear_marks(0)
    assert (workspace.pictures[0].annotations.raster(40, 60) == IGNORE).all()
    assert [workspace.undo(0) for _ in range(4)] == [True, True, True, False]


def test_masks_from_files(workspace):
    mask = np.zeros((40, 60), np.uint8)
    mask[5:20, 10:50] = 255
    workspace.set_mask(0, encoded(mask))
    np.testing.assert_array_equal(
        workspace.pictures[0].annotations.raster(40, 60), mask > 0
    )
    workspace.mark(0, 0, 0, FOREGROUND)
    assert workspace.pictures[0].annotations.raster(40, 60)[0, 0] == FOREGROUND
    with pytest.raises(UserError, match="aspect ratio"):
        workspace.set_mask(1, encoded(mask))
    with pytest.raises(UserError, match=r"mask of 1\.png: not a picture"):
        workspace.set_mask(1, b"no")


def test_masks_are_read_as_everywhere(workspace):
    mask = np.zeros((40, 60), np.uint8)
    mask[5:20, 10:50] = 1
    clear = np.dstack([np.full((40, 60, 3), 255, np.uint8), 200 * mask])
    red = np.dstack([255 * mask, 0 * mask, 0 * mask])
    for file in (mask, mask.astype(np.uint16) * 65535, 7 * mask, clear, red):
        workspace.set_mask(0, encoded(file))
        found = workspace.pictures[0].annotations.raster(40, 60)
        np.testing.assert_array_equal(found, mask)
    mask[25:35, 10:50] = 2
    colors = np.zeros((40, 60, 3), np.uint8)
    colors[mask == 1], colors[mask == 2] = (255, 0, 0), (0, 0, 255)
    with pytest.raises(UserError, match="several classes in colours .*numbers, 1, 2"):
        workspace.set_mask(0, encoded(colors))
    # Numbers are those of classes, new ones get names.
    workspace.set_mask(0, encoded(mask))
    found = workspace.pictures[0].annotations.raster(40, 60)
    np.testing.assert_array_equal(found, mask)
    assert workspace.classes.names == ["object", "class 2"]
    # A mask of one object is of the class that is chosen.
    workspace.set_mask(0, encoded(255 * (mask == 1).astype(np.uint8)), label=2)
    found = workspace.pictures[0].annotations.raster(40, 60)
    np.testing.assert_array_equal(found, 2 * (mask == 1))
    mask[mask == 2] = 21
    with pytest.raises(UserError, match="it holds class 21, and 20 classes are the"):
        workspace.set_mask(0, encoded(mask))


def test_bad_input(workspace):
    with pytest.raises(UserError, match="nothing is marked"):
        workspace.adapt(GUIDED)
    workspace.mark(0, 3, 3, BACKGROUND)
    for name in (GUIDED, STEPPED):
        with pytest.raises(UserError, match="only background is marked"):
            workspace.adapt(name)
    outside = [(-1, 0), (0, -1), (40, 0), (0, 60)]
    for row, column in outside:
        with pytest.raises(UserError, match="expected a row from 0 to 39"):
            workspace.mark(0, row, column, FOREGROUND)
    with pytest.raises(UserError, match="label: expected"):
        workspace.mark(0, 0, 0, 2)
    with pytest.raises(UserError, match="radius: expected"):
        workspace.mark(0, 0, 0, 1, radius=-1.0)
    with pytest.raises(UserError, match="picture: expected a number from 0 to 2"):
        workspace.mark(3, 0, 0, 1)
    with pytest.raises(UserError, match="method: expected one of"):
        workspace.adapt("other")
    with pytest.raises(UserError, match="steps: expected"):
        workspace.adapt(STEPPED, steps=101)
    for write in (write_masks, write_model):
        with pytest.raises(UserError, match="there (are|is) no"):
            write(workspace)
    # Refused input leaves everything as it was.
    assert len(workspace.pictures[0].annotations.marks) == 1
    workspace.clear()
    with pytest.raises(UserError, match="there are no pictures"):
        workspace.adapt(GUIDED)


def bomb() -> bytes:
    """A PNG whose header declares 50,000 x 50,000 pixels, and little behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        size, check = len(data).to_bytes(4), zlib.crc32(kind + data).to_bytes(4)
        return size + kind + data + check

    header = (50_000).to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "not a picture that can be read"),
        (b"%PDF-1.7", "not a picture that can be read"),
        (encoded(picture((9, 9), 0))[:60], "truncated"),
        (encoded(np.zeros((101, 100, 3), np.uint8)), "at most 0.01 million pixels"),
        (bomb(), "far too large|million pixels"),
        (encoded(picture((9, 9), 0)) + bytes(5000), r"at most 0\.005 MB"),
    ],
)
def test_files_that_are_refused(methods, folder, data, message):
    limits = AppConfig(max_upload_mb=0.005, max_megapixels=0.01)
    with Workspace(methods, limits, folder) as workspace:
        with pytest.raises(UserError, match=message):
            workspace.add("x.png", data)
        assert not workspace.pictures


def test_no_more_than_so_many(methods, folder):
    with Workspace(methods, AppConfig(max_pictures=1), folder) as workspace:
        workspace.add("a.png", encoded(picture((9, 9), 0)))
        with pytest.raises(UserError, match="1 pictures already"):
            workspace.add("b.png", encoded(picture((9, 9), 0)))
        workspace.remove(0)
        workspace.add("b.png", encoded(picture((9, 9), 0)))


def test_rotation_of_cameras_is_honoured(methods, folder):
    stored = np.zeros((40, 80, 3), np.uint8)
    stored[:, :40] = 255  # 6: shown turned clockwise, so that this comes to the top.
    exif = Image.Exif()
    exif[0x0112] = 6
    with Workspace(methods, AppConfig(), folder) as workspace:
        workspace.add("a.jpg", encoded(stored, "JPEG", exif=exif, quality=95))
        (own,) = workspace.pictures
        assert own.size == (80, 40)
        assert own.shown[SHOWN_SIDE].shape == (SHOWN_SIDE, SHOWN_SIDE // 2, 3)
        assert own.shown[SHOWN_SIDE][:300].min() > 240
        assert own.shown[SHOWN_SIDE][380:].max() < 15
        assert own.fitted[SIZE, SIZE][:15].min() > 240


def test_masks_as_zip(workspace):
    workspace.add("0.jpg", encoded(picture((30, 20), 4), "JPEG"))
    mark_all(workspace)
    workspace.adapt(GUIDED)
    with zipfile.ZipFile(write_masks(workspace)) as archive:
        names = ["0_png", "1", "2", "0_jpg"]
        assert archive.namelist() == [f"masks/{name}.png" for name in names]
        for i, name in enumerate(archive.namelist()):
            with Image.open(io.BytesIO(archive.read(name))) as image:
                assert image.mode == "P"
                assert image.size == workspace.pictures[i].size[::-1]
                np.testing.assert_array_equal(np.asarray(image), workspace.mask(i))


def test_masks_for_annotation_tools(workspace):
    mark_all(workspace)
    workspace.adapt(GUIDED)
    with zipfile.ZipFile(write_annotations(workspace, "coco")) as archive:
        document = json.loads(archive.read("instances.json"))
    sure = [picture.confidence for picture in workspace.pictures]
    by_name = {f"{i}.png": workspace.mask(i) for i in range(len(SIZES))}
    named = [image["file_name"] for image in document["images"]]
    assert named == [f"{i}.png" for i in np.argsort(sure, kind="stable")]
    names = {image["id"]: image["file_name"] for image in document["images"]}
    for one in document["annotations"]:
        found = coco_api.decode(one["segmentation"])
        np.testing.assert_array_equal(found, by_name.pop(names[one["image_id"]]))
    assert not any(mask.any() for mask in by_name.values())
    with zipfile.ZipFile(write_annotations(workspace, "labelme")) as archive:
        documents = [json.loads(archive.read(name)) for name in archive.namelist()]
    assert {document["imagePath"] for document in documents} == set(names.values())
    assert any(document["shapes"] for document in documents)


def test_pictures_to_mark_next_follow_the_marked_ones(workspace):
    assert workspace.order() == [0, 1, 2]
    workspace.mark(2, *POINTS[0][1:])
    session = Session(workspace)
    view(session)
    assert session.order == [2, 0, 1]
    workspace.adapt(GUIDED)
    sure = [picture.confidence for picture in workspace.pictures]
    for picture, value in zip(workspace.pictures, (0.9, 0.4, 0.1), strict=True):
        assert 0 <= picture.confidence <= 1
        picture.confidence = value
    assert len(set(sure)) == 3
    _, thumbnails, status = view(session)
    assert session.order == [2, 1, 0]
    captions = [caption for _, caption in thumbnails]
    assert captions == ["1 mark: 2.png", "sure 40 %: 1.png", "sure 90 %: 0.png"]
    assert "Background points help" in status
    workspace.mark(2, 6, 10, BACKGROUND)
    assert "Press *Adapt*" in view(session)[2]
    session.index = 2
    for expected in (1, 0, 2):
        session.step_on(1)
        assert session.index == expected
    session.step_on(-1)
    assert session.index == 0
    Session(workspace).step_on(1)


def test_linear_says_what_to_expect(folder):
    methods = load_methods(["linear"], OWN)
    with Workspace(methods, AppConfig(), folder) as workspace:
        for number, (name, image, mask) in enumerate(read_sample(PHOTOGRAPHS)):
            if number < 4:
                workspace.add(name, image, mask if number < 3 else None)
        session = Session(workspace)
        workspace.adapt("linear")
        assert 0 < workspace.estimate.low < workspace.estimate.iou < 1
        _, _, status = view(session)
        assert f"Expected IoU on new pictures: {workspace.estimate}. " in status
        workspace.clear()
        assert workspace.estimate is None


ALONE = """
import sys
import numpy as np
import tensorflow as tf
for images, model, output in zip(*(sys.argv[i::3] for i in (1, 2, 3))):
    images = np.load(images)
    served = tf.saved_model.load(model).signatures["serving_default"]
    answer = served(tf.constant(images, tf.float32))
    np.savez(output, **{name: value.numpy() for name, value in answer.items()})
assert not any(name.startswith("efficientlab") for name in sys.modules)
"""


def test_adapted_models_run_alone(workspace, tmp_path):
    mark_all(workspace)
    arguments, probabilities = [], {}
    for name in (GUIDED, EARLY, STEPPED, LINEAR):
        workspace.adapt(name)
        probabilities[name] = [p.probability for p in workspace.pictures]
        path = write_model(workspace)
        assert path.name == f"{name}_adapted.zip"
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path)
        images = tmp_path / f"{name}.npy"
        np.save(images, fitted(LINEAR_SIZE if name == LINEAR else SIZE))
        output = str(images.with_suffix(".npz"))
        arguments += [str(images), str(tmp_path / name / "1"), output]
        text = (tmp_path / name / "1" / "README.md").read_text()
        assert "serve_encoded" in text and "adapt_and_segment" not in text
    subprocess.run(
        [sys.executable, "-c", ALONE, *arguments],
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "2"},
        timeout=300,
    )
    for name, own in probabilities.items():
        with np.load(tmp_path / f"{name}.npz") as answer:
            np.testing.assert_allclose(answer["probability"], own, atol=1e-4)
            sure = np.abs(np.stack(own)[..., 1] - 0.5) > 1e-4
            masks = np.stack(own)[..., 1] > 0.5
            np.testing.assert_array_equal(answer["mask"][sure], masks[sure])
    workspace.mark(0, 0, 0, FOREGROUND)
    with pytest.raises(UserError, match="press adapt first"):
        write_model(workspace)


def test_pictures_show_masks_and_marks(workspace):
    plain = workspace.shown(0)
    assert plain.shape == (480, SHOWN_SIDE, 3)
    assert workspace.shown(0, THUMBNAIL_SIDE).shape == (133, THUMBNAIL_SIDE, 3)
    workspace.mark(0, 20, 30, FOREGROUND)
    dotted = workspace.shown(0)
    rows, columns = np.nonzero((dotted != plain).any(-1))
    assert abs(rows.mean() - 20.5 * 480 / 40) < 1.5
    assert abs(columns.mean() - 30.5 * SHOWN_SIDE / 60) < 1.5
    np.testing.assert_array_equal(workspace.shown(0, marks=False), plain)
    workspace.adapt(GUIDED)
    inside = decide(workspace.pictures[0].probability, plain.shape[:2], 0.5) == 1
    assert 0 < inside.sum() < inside.size
    shown = workspace.shown(0, marks=False)
    assert (shown[inside] != plain[inside]).any(-1).mean() > 0.95
    np.testing.assert_array_equal(shown[~inside], plain[~inside])


def test_samples_are_there(methods, folder):
    assert PHOTOGRAPHS in sample_names()
    assert len(sample_names()) == 32
    pictures = list(read_sample("icons: rocket"))
    assert len(pictures) == 10
    with Workspace(methods, AppConfig(), folder) as workspace:
        workspace.add(*pictures[0])
        name, image, _ = pictures[1]
        workspace.add(name, image)
        marks = [p.annotations.raster(96, 96) for p in workspace.pictures]
        assert set(np.unique(marks[0])) == {BACKGROUND, FOREGROUND}
        assert (marks[1] == IGNORE).all()
        workspace.adapt(STEPPED, steps=1)
    with pytest.raises(UserError, match="sample: expected one of the list"):
        next(read_sample("icons: ../x"))


def test_nothing_is_compiled_again(methods):
    for method in methods.values():
        warm_up(method)
    functions = methods[GUIDED]._segmenter.functions
    counts = [
        f.experimental_get_tracing_count()
        for f in (functions.read, functions.guide, functions.logits)
    ]
    for count in (3, 5):
        images = np.zeros([count, SIZE, SIZE, 3], np.uint8)
        pictures = methods[GUIDED].read(images)
        masks = np.ones([count, SIZE, SIZE], np.uint8)
        adapted, _ = methods[GUIDED].adapt(pictures, masks, 1, 0, lambda *_: None)
        methods[GUIDED].predict(adapted, pictures)
    assert counts == [
        f.experimental_get_tracing_count()
        for f in (functions.read, functions.guide, functions.logits)
    ]


def test_what_the_command_line_refuses(monkeypatch, tmp_path, paths):
    for changes, message in (
        ({"port": 0}, "`port` must be at least 1"),
        ({"threshold": 1.0}, "`threshold` must be below 1"),
        ({"max_upload_mb": 0.0}, "`max_upload_mb` must be above 0"),
        ({"max_pictures": 0}, "`max_pictures` must be at least 1"),
    ):
        with pytest.raises(UserError, match=message):
            AppConfig(**changes)
    assert AppConfig(model="a, b,").models == ("a", "b")
    assert AppConfig().host == "127.0.0.1"
    with pytest.raises(UserError, match="two models are called tiny"):
        load_methods([paths[2], str(tmp_path / "tiny" / "model.keras")], OWN)
    first, *names = AppConfig().models
    assert {*names} <= {*shipped(), "linear", LINEAR} and first in shipped()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port}: "):
            check_address(AppConfig(port=port))
    check_address(AppConfig(port=port))
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"pip install 'efficientlab_tf\[app\]'"):
        serve(AppConfig(model=paths[0]))


def test_the_core_needs_no_gradio(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    files = sorted((ROOT / "efficientlab_tf/app").glob("*.py"))
    assert len(files) == 14
    for file in files:
        if file.name in ("actions.py", "page.py"):
            with pytest.raises(ImportError, match="gradio"):
                runpy.run_path(str(file))
        else:
            runpy.run_path(str(file))
