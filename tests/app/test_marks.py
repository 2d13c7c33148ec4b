"""What a hand does on the page: brush, box, polygon, zoom, classes, projects."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageDraw

from efficientlab_tf.api.baselines import LINEAR
from efficientlab_tf.app.annotations import (
    BACKGROUND,
    FOREGROUND,
    POINT_REACH,
    Annotations,
    Area,
    Stroke,
)
from efficientlab_tf.app.config import AppConfig
from efficientlab_tf.app.downloads import write_annotations, write_masks, write_model
from efficientlab_tf.app.picture import SHOWN_SIDE, THUMBNAIL_SIDE, Window, color_of
from efficientlab_tf.app.project import open_project, write_project
from efficientlab_tf.app.view import Session, view
from efficientlab_tf.app.workspace import Workspace
from efficientlab_tf.data.annotations.support import read_support
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from tests.app.untrained import GUIDED, STEPPED, encoded, picture

SIZES = [(40, 60), (64, 32)]


@pytest.fixture
def sizes():
    return SIZES


def gesture(tool: str, *places) -> str:
    return json.dumps({"tool": tool, "places": places})


def test_brushes_cover_what_is_near_their_path():
    path = ((10, 10), (30, 40), (30, 50))
    mask = Annotations((40, 60)).add(Stroke(path, FOREGROUND, 4)).raster(80, 120)
    ends = np.array(path) * 2 + 0.5  # in halves of a pixel, their middles
    for row, column in np.ndindex(80, 120):
        at = np.array([row, column])
        near = np.inf
        for start, end in zip(ends[:-1], ends[1:], strict=True):
            along = np.dot(at - start, end - start) / np.sum((end - start) ** 2)
            closest = start + np.clip(along, 0, 1) * (end - start)
            near = min(near, np.linalg.norm(at - closest))
        if abs(near - 8) > 1e-6:
            assert (mask[row, column] == FOREGROUND) == (near < 8), (row, column)


def test_areas_are_filled():
    corners = ((5, 5), (5, 50), (35, 30), (20, 20), (35, 5))
    for height, width in ((40, 60), (400, 600), (33, 17)):
        mask = Annotations((40, 60)).add(Area(corners, 2)).raster(height, width)
        own = Image.new("L", (width, height), IGNORE)
        scaled = [
            ((x + 0.5) * width / 60 - 0.5, (y + 0.5) * height / 40 - 0.5)
            for y, x in corners
        ]
        ImageDraw.Draw(own).polygon(scaled, fill=2, outline=None)
        # Another program rounds the edges otherwise.
        edge = 2.5 * (height + width) / (height * width)
        assert np.mean(mask != np.asarray(own)) < edge
        assert set(np.unique(mask)) == {2, IGNORE}
    box = Area(((10, 20), (10, 29), (19, 29), (19, 20)), FOREGROUND)
    mask = Annotations((40, 60)).add(box).raster(40, 60)
    assert abs((mask == FOREGROUND).sum() - 90) <= 10
    assert (mask[11:19, 21:29] == FOREGROUND).all()


def test_areas_erase():
    marks = Annotations((40, 60)).add(Stroke(((10, 10),), FOREGROUND))
    marks = marks.add(Stroke(((30, 50),), FOREGROUND))
    left = Area(((0, 0), (0, 20), (39, 20), (39, 0)), IGNORE)
    assert [mark.path for mark in marks.add(left).marks] == [((30, 50),)]
    painted = marks.add(Stroke(((10, 20),), BACKGROUND, 8)).add(left).raster(40, 60)
    assert (painted[:, :20] == IGNORE).all() and painted[10, 25] == BACKGROUND
    with pytest.raises(UserError, match="polygon: expected 3 or more corners"):
        marks.add(Area(((0, 0), (1, 1)), FOREGROUND))


def test_gestures_mark_where_they_were_made(workspace):
    session = Session(workspace)
    assert session.act(gesture("point", [0.5, 0.25]), FOREGROUND, 6)
    assert session.act(gesture("brush", [0.1, 0.1], [0.1, 0.9]), BACKGROUND, 10)
    box = [[0.5, 0.5], [0.5, 1.0], [1.0, 1.0], [1.0, 0.5]]
    assert session.act(gesture("box", *box), FOREGROUND, 6)
    point, brush, area = workspace.pictures[0].annotations.marks
    assert point == Stroke(((20, 15),), FOREGROUND, 0.0)
    assert brush == Stroke(((4, 6), (4, 54)), BACKGROUND, 3.0)
    assert area.corners[0] == (19.5, 29.5) and area.corners[2] == (39, 59)
    # Where it is shown larger, places are those of what is shown.
    session.near = (0.75, 0.75)
    session.zoom_by(1)
    assert session.window == Window(0.5, 0.5, 0.5)
    session.act(gesture("point", [0.5, 0.5]), FOREGROUND, 6)
    assert workspace.pictures[0].annotations.marks[-1].path == ((30, 45),)
    assert session.window == Window(0.5, 0.5, 0.5)
    session.act(json.dumps({"move": [-0.5, -0.25]}), FOREGROUND, 6)
    assert session.window == Window(0.25, 0.375, 0.5)
    session.act(json.dumps({"zoom": 1, "places": [[0, 0]]}), FOREGROUND, 6)
    assert session.zoom == 4 and session.window == Window(0.125, 0.25, 0.25)
    for _ in range(9):
        session.zoom_by(-1)
    assert session.zoom == 1 and session.window == Window()
    session.turn_to(1)
    assert session.window == Window()


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "[]", "{}", "null", '{"tool": "point", "places": []}'),
        *('{"places": [[0]]}', '{"places": [["a", 1]]}', '{"places": [[NaN, 1]]}'),
        *(
            '{"places": [[1e99, 0]]}',
            '{"move": [1]}',
            *('{"move": [NaN, 0]}', '{"zoom": [], "places": [[0, 0]]}'),
        ),
        json.dumps({"tool": "brush", "places": [[0, 0]] * 6000}),
    ],
)
def test_gestures_that_are_refused(workspace, text):
    session = Session(workspace)
    with pytest.raises(UserError, match="this gesture was not understood"):
        session.act(text, FOREGROUND, 6)
    assert not workspace.pictures[0].annotations.marks
    assert session.window == Window()


def test_a_closer_look_shows_the_file_itself(methods, tmp_path):
    fine = np.random.default_rng(0).integers(0, 256, [900, 1800, 3], np.uint8)
    with Workspace(methods, AppConfig(), tmp_path) as workspace:
        workspace.add("a.png", encoded(fine))
        window = Window(0.25, 0.25, 0.25)
        shown = workspace.shown(0, window=window)
        assert shown.shape == (SHOWN_SIDE // 2, SHOWN_SIDE, 3)
        own = Image.fromarray(fine[225:450, 450:900]).resize((720, 360), 2)
        assert np.abs(shown.astype(int) - np.asarray(own)).mean() < 3
        workspace.mark(0, 337, 675, FOREGROUND)
        dotted = workspace.shown(0, window=window)
        rows, columns = np.nonzero((dotted != shown).any(-1))
        assert abs(rows.mean() - 180) < 2 and abs(columns.mean() - 360) < 2
        workspace.mark(0, 10, 10, BACKGROUND, radius=40)
        np.testing.assert_array_equal(workspace.shown(0, window=window), dotted)
        np.testing.assert_array_equal(
            workspace.shown(0, masks=False, window=window), shown
        )
        # The mask is that of the whole picture there, to where pixels are rounded.
        workspace.adapt(GUIDED)
        whole = workspace.mask(0)[225:450, 450:900]
        part = workspace.pictures[0].mask((225, 450), 0.5, window)
        assert np.mean(whole != part) < 0.02


@pytest.mark.parametrize("name", [GUIDED, STEPPED, LINEAR])
def test_several_classes_at_once(workspace, name):
    second, third = (workspace.classes.add(text) for text in ("bolt", "nut"))
    assert (second, third) == (2, 3)
    workspace.mark(0, 4, 5, FOREGROUND, radius=6)
    workspace.mark(0, 30, 50, third, radius=6)  # Of bolt there is nothing yet.
    workspace.mark(1, 50, 20, BACKGROUND, radius=6)
    workspace.adapt(name)
    assert workspace.learned == (1, 3)
    masks = [workspace.mask(i) for i in range(2)]
    values = {*np.unique(masks[0]), *np.unique(masks[1])}
    assert values <= {0, 1, 3} and values & {1, 3}
    for own in workspace.pictures:
        assert own.probability.shape[-1] == 3
    with zipfile.ZipFile(write_masks(workspace)) as archive:
        with Image.open(io.BytesIO(archive.read("masks/0.png"))) as file:
            np.testing.assert_array_equal(np.asarray(file), masks[0])
    with zipfile.ZipFile(write_annotations(workspace, "coco")) as archive:
        document = json.loads(archive.read("instances.json"))
    named = [one["name"] for one in document["categories"]]
    assert named == ["object", "bolt", "nut"]
    shown = {one["category_id"] for one in document["annotations"]}
    ids = {one["id"]: named.index(one["name"]) + 1 for one in document["categories"]}
    assert {ids[one] for one in shown} == values - {0}
    if name == GUIDED:
        with zipfile.ZipFile(write_model(workspace)) as archive:
            assert f"{name}/1/saved_model.pb" in archive.namelist()


def test_classes_have_names_and_colours(workspace):
    classes = workspace.classes
    assert classes.add("  iron\tbolt ") == 2 and classes.names[1] == "iron bolt"
    classes.rename(1, "nut")
    for name in ("", " ", "nut", "x" * 41, "a\x07"):
        with pytest.raises(UserError, match="class: (expected a name|there is one)"):
            classes.add(name)
    for number in (0, 3, IGNORE):
        with pytest.raises(UserError, match="choose the one first"):
            classes.rename(number, "screw")
    workspace.mark(0, 20, 30, 2)
    with pytest.raises(UserError, match="a class from 1 to 2, received 3"):
        workspace.mark(0, 20, 30, 3)
    assert (workspace.shown(0)[246, 366] == color_of(2)).all()
    classes.names += [str(i) for i in range(18)]
    with pytest.raises(UserError, match="there are 20 already"):
        classes.add("one more")
    workspace.clear()
    assert workspace.classes.names == ["object"]


def test_before_and_after(workspace):
    plain = [workspace.shown(0), workspace.shown(1, THUMBNAIL_SIDE)]
    workspace.mark(0, 20, 30, FOREGROUND)
    workspace.mark(1, 20, 30, BACKGROUND)
    workspace.adapt(GUIDED)
    session = Session(workspace, plain=True)
    shown, thumbnails, status = view(session)
    np.testing.assert_array_equal(shown, plain[0])
    np.testing.assert_array_equal(np.asarray(thumbnails[1][0]), plain[1])
    assert "hidden: M shows them" in status
    session.plain = False
    shown, _, status = view(session)
    assert (shown != plain[0]).any() and "Correct what is wrong" in status


def drawn(workspace) -> None:
    """Marks of each kind, on a picture of two."""
    workspace.classes.add("bolt")
    mask = np.zeros((40, 60), np.uint8)
    mask[5:20, 10:50] = 2
    mask[0] = IGNORE
    workspace.set_mask(0, encoded(mask), label=2)
    workspace.mark(0, 39, 1, BACKGROUND)
    workspace.put(0, Stroke(((30, 5), (35, 50)), FOREGROUND, 2.5))
    workspace.mark(0, 12, 30, IGNORE, radius=4)
    workspace.put(0, Area(((1, 50.5), (1, 58), (9.25, 58)), 2))


def test_projects_are_opened_as_they_were_saved(workspace, methods, tmp_path):
    drawn(workspace)
    path = write_project(workspace)
    with Workspace(methods, AppConfig(), tmp_path) as other:
        other.add("old.png", encoded(picture((9, 9), 7)))
        open_project(other, path.name, path.read_bytes())
        assert [own.name for own in other.pictures] == ["0.png", "1.png"]
        assert other.classes.names == ["object", "bolt"]
        assert len(list(other.folder.iterdir())) == 2
        for own, found in zip(workspace.pictures, other.pictures, strict=True):
            assert found.file.read_bytes() == own.file.read_bytes()
            for size in (own.size, (33, 21)):
                np.testing.assert_array_equal(
                    found.annotations.raster(*size), own.annotations.raster(*size)
                )
        workspace.adapt(LINEAR)
        other.adapt(LINEAR)
        np.testing.assert_array_equal(other.mask(1), workspace.mask(1))
    # Unpacked, it is what `adapt` takes.
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "project")
        assert "new/1.png" in archive.namelist()
    support = read_support(tmp_path / "project" / "labelled")
    (labelled,) = support.pictures
    own = workspace.pictures[0].annotations.raster(40, 60)
    np.testing.assert_array_equal(labelled.mask, own)


def changed(path, change) -> bytes:
    """A project whose document was changed; a file None is left out."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    document = json.loads(files["project.json"])
    change(document, files)
    files["project.json"] = files.get("raw", json.dumps(document).encode())
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def _first(document):
    return document["pictures"][0]


BAD = {
    "no classes": lambda d, f: d.update(classes=[]),
    "a class twice": lambda d, f: d.update(classes=["a", "a"]),
    "a class without a name": lambda d, f: d.update(classes=[""]),
    "classes that are numbers": lambda d, f: d.update(classes=[1, 2]),
    "no pictures": lambda d, f: d.update(pictures=[]),
    "many pictures": lambda d, f: d.update(pictures=d["pictures"] * 26),
    "a picture that is missing": lambda d, f: _first(d).update(file="../../etc/passwd"),
    "a picture that is none": lambda d, f: f.update({_first(d)["file"]: b"no"}),
    "a huge picture": lambda d, f: f.update({_first(d)["file"]: bytes(21_000_000)}),
    "no marks": lambda d, f: _first(d).pop("marks"),
    "a mark of nothing": lambda d, f: _first(d).update(marks=[{}]),
    "no such label": lambda d, f: _first(d)["marks"][1].update(label=3),
    "a place outside": lambda d, f: _first(d)["marks"][1].update(stroke=[[0, 99]]),
    "a place that is none": lambda d, f: _first(d)["marks"][1].update(stroke=[["a"]]),
    "not a number": lambda d, f: _first(d)["marks"][1].update(radius=float("nan")),
    "a layer of another": lambda d, f: f.update(
        {"layers/0.png": encoded(np.zeros((9, 9), np.uint8))}
    ),
    "a layer of more": lambda d, f: f.update(
        {"layers/0.png": encoded(np.full((40, 60), 3, np.uint8))}
    ),
    "another document": lambda d, f: f.update(raw=b"[" * 100_000),
}


@pytest.mark.parametrize("what", [*BAD, "not a ZIP", "cut off", "a bit flipped"])
def test_projects_that_are_refused_change_nothing(workspace, what):
    drawn(workspace)
    before = workspace.pictures[:], len(list(workspace.folder.iterdir()))
    path = write_project(workspace)
    data = path.read_bytes()
    path.unlink()
    (workspace.folder / "own.zip").write_bytes(data)
    if what in BAD:
        data = changed(workspace.folder / "own.zip", BAD[what])
    elif what == "cut off":
        data = data[: len(data) // 2]
    elif what == "not a ZIP":
        data = b"PK"
    else:
        at = data.index(b"project.json") + 40
        data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    (workspace.folder / "own.zip").unlink()
    with pytest.raises(UserError):
        open_project(workspace, "a.zip", data)
    assert workspace.pictures == before[0] and workspace.classes.names[1:] == ["bolt"]
    assert len(list(workspace.folder.iterdir())) == before[1]


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
