"""`video`: what it refuses, in one sentence."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.errors import UserError
from efficientlab_tf.video.__main__ import run
from efficientlab_tf.video.config import VideoConfig
from tests.adapt.labelled_squares import ROOT
from tests.data.annotations.making import write
from tests.video.moving_squares import BLACK, HEIGHT, WIDTH, points_file


def bad(changes, files, message):
    return pytest.param(changes, files, message, id=message[:30])


DOT = {"x": 5, "y": 5}


def of_points(*points):
    return {"points.json": {"points": list(points)}}


POINTS = {"annotation": "points.json"}
TWO = np.repeat(np.uint8([[1], [2]]), HEIGHT // 2, 0).repeat(WIDTH, 1)
BAD = [
    bad(
        POINTS,
        of_points({**DOT, "x": 64, "frame": 0, "label": 1}),
        "point 1: .64, 5. is outside of the frame, which is 64x48",
    ),
    bad(POINTS, of_points({**DOT, "y": -0.1, "frame": 0, "label": 1}), "is outside of"),
    bad(
        POINTS,
        of_points({**DOT, "y": "5", "frame": 0, "label": 1}),
        ".5, 5. is outside of the frame",
    ),
    bad(
        POINTS,
        of_points({**DOT, "frame": 0, "label": 0}, {**DOT, "frame": 1, "label": 0}),
        "has only negative points",
    ),
    bad(
        POINTS,
        of_points({**DOT, "frame": 0, "label": 1}, {**DOT, "frame": 1, "label": 3}),
        "points of object 3 and none of object 2 on any frame",
    ),
    bad(POINTS, of_points({**DOT, "frame": 6, "label": 1}), "no frame 6; .* 0 to 5"),
    bad(POINTS, of_points({**DOT, "frame": "x.png", "label": 1}), "no frame 'x.png'"),
    bad(POINTS, of_points({**DOT, "frame": 0, "label": 255}), "label must be 0"),
    bad(POINTS, of_points({**DOT, "frame": 0, "label": True}), "label must be 0"),
    bad(POINTS, of_points({"frame": 0, "x": 1}), "point 1: expected frame, x, y and"),
    bad(POINTS, of_points(), "has no points; expected"),
    bad(POINTS, {"points.json": "[1"}, "points.json"),
    bad(
        POINTS,
        of_points({**DOT, "x": 10**400, "frame": 0, "label": 1}),
        "points.json cannot be read .the number 10+ is out of range",
    ),
    bad({}, {"truth/frame7.png": BLACK}, "marks no object"),
    bad({}, {"truth/frame7.png": BLACK[:, :9]}, "is 9x48, but the frames are 64x48"),
    bad({}, {"truth/frame9.png": BLACK[:5]}, "mask .*frame9.png is 64x5"),
    bad(
        {"annotation": "first.png"},
        {"first.png": 255 * (TWO == 1).astype(np.uint8)}
        | {f"truth/frame{i}.png": TWO for i in range(7, 15)},
        "object 2 is in .*truth and has no annotation.*by a mask of a later frame",
    ),
    bad(
        {}, {"truth/frame8.png": TWO}, "frame7.png holds the levels 0, 255, but .*8.png"
    ),
    bad(
        {"annotation": "late"},
        {"late/frame7.png": TWO, "late/frame7.tif": Image.fromarray(TWO)},
        "frame7.tif is a second mask of frame frame7.png",
    ),
    bad({}, {"truth/frame7.png": b""}, "frame7.png"),
    bad({"annotation": "none.png"}, {}, "no such annotation"),
    bad({"annotation": "frames/frame7.png"}, {}, "lies among the frames"),
    bad({}, {"frames/frame9.png": BLACK[:30]}, "frame9.png is 64x30, but frame7.png"),
    bad({}, {"frames/frame9.png": b"text"}, "cannot read frame .*frame9.png"),
    bad({"sequence": "empty"}, {"empty/notes.txt": ""}, "empty holds no frames"),
    bad({"sequence": "nowhere"}, {}, "no such folder: "),
    bad({"annotations": "nowhere"}, {}, "no such folder of annotations"),
    bad({"annotations": "frames/.."}, {}, "has the name of a frame"),
    bad({"model": "nowhere.keras"}, {}, "no such run folder or .keras file"),
    bad({"output": "truth"}, {}, "would write into the input"),
    bad({"output": "file"}, {"file": "text"}, "cannot write to .*choose a folder"),
]


@pytest.mark.parametrize(("changes", "files", "message"), BAD)
def test_bad_input(paths, tmp_path, changes, files, message):
    write(tmp_path, files)
    local = {name: str(tmp_path / value) for name, value in changes.items()}
    with pytest.raises(UserError, match=message) as caught:
        run(VideoConfig(**paths | local))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ""}, "`model` is needed"),
        ({"annotation": ""}, "`annotation` is needed"),
        ({"sequence": ""}, "either `sequence` with `annotation` is needed, or"),
        ({"output": ""}, "`output` is needed"),
        ({"steps": "0,5"}, "need `davis`"),
        ({"steps": "-1"}, "`steps` must be a number"),
        ({"online": -1}, "`online` must be at least 0"),
        ({"threshold": 1.0}, "`threshold` must be below 1"),
        ({"fps": 0.0}, "`fps` must be above 0"),
        ({"methods": "x=y"}, "`methods` has no effect: it needs `davis`"),
        ({"model": "nearest_neighbour", "steps": "3"}, "no settings of an inner loop"),
    ],
)
def test_bad_arguments(paths, changes, message):
    with pytest.raises(UserError, match=message):
        run(VideoConfig(**paths | changes))


def test_as_a_command(paths, tmp_path):
    annotation = points_file(tmp_path, (0, 64, 5, 1))
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "efficientlab_tf.video", "--l2=0.1"),
            *(f"--{n}={v}" for n, v in (paths | {"annotation": annotation}).items()),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert ended.returncode == 2 and ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ") and "(64, 5) is outside of the frame" in line
