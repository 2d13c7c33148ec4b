"""The annotation page in a browser: what a person does there with mouse and keys."""

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.app.picture import SHOWN_SIDE
from tests.app.page import (
    ARGUMENTS,
    BROWSER,
    DRIVER,
    HEIGHT,
    PATIENCE,
    WIDTH,
    Page,
    changed,
    place,
    webdriver,
)
from tests.app.untrained import GUIDED, ROOT, STEPPED, encoded, picture, write_models

AXE = "axe-core@4"


def free_port() -> int:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return own.getsockname()[1]


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    """Starts the page; what it says goes to server.log."""
    with (folder / "server.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "efficientlab_tf.app", *arguments],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(folder / "scratch")},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def answers(server: subprocess.Popen, address: str) -> bool:
    """Waits until the page is there, or the server has given up."""
    end = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=5).close()
            return True
        time.sleep(0.3)
    return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def address(folder):
    """The address of a server of its own; when it ends, nothing of it is left."""
    guided, _, stepped = write_models(folder)
    scratch = folder / "scratch"
    scratch.mkdir()
    arguments = f"--model={guided},{stepped}", "--max_upload_mb=0.05"
    arguments += ("--max_batch_mb=0.5",)
    for _ in range(3):  # Somebody else may be faster to take a free port.
        port = free_port()
        server = start(folder, f"--port={port}", *arguments)
        address = f"http://127.0.0.1:{port}/"
        if answers(server, address):
            break
    log = folder / "server.log"
    try:
        assert server.poll() is None, log.read_text()[-3000:]
        assert list(scratch.glob("efficientlab_app_*/users"))
        yield address
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0
        assert not list(scratch.glob("efficientlab_app_*"))
        assert "Traceback" not in log.read_text()
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def browser(folder):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ARGUMENTS:
        options.add_argument(f"--{argument}")
    downloads = {"download.default_directory": str(folder / "downloads")}
    options.add_experimental_option("prefs", downloads)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def test_a_person_at_work(address, browser, folder):
    page = Page(browser)
    browser.get(address)
    page.says("Drop in pictures")
    assert not page.box("#gallery") and not page.box("#all")
    grey = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    files = [folder / "grey.png", folder / "other.png"]
    files[0].write_bytes(encoded(grey))
    files[1].write_bytes(encoded(picture((50, 40), 1)))
    page.upload(*files)
    page.says("grey.png")
    plain = page.canvas()
    assert plain.shape == (SHOWN_SIDE // 2, SHOWN_SIDE, 3)

    # A background alone says what is missing; its point is where the click was.
    page.choose("Background (B)")
    dotted = page.click((0.25, 0.125))
    np.testing.assert_allclose(place(changed(dotted, plain)), [0.25, 0.125], atol=0.01)
    page.says("only background is marked")
    # With the object the guided network answers at once, without another button.
    page.press("o")
    page.until(lambda: page.find("#label input:checked").get_attribute("value") == "1")
    masked = page.click((0.75, 0.625))
    page.says(f"Masks by {GUIDED}")
    area = changed(masked, plain).mean()
    assert area > 0.05, area

    # Keys: the other picture and back, without the last mark and with a new one.
    shown = page.source()
    page.press("n")
    page.says("other.png")
    page.press("p")
    page.says("grey.png")
    page.press("z")
    page.says("only background")
    page.until(lambda: page.source() != shown)
    page.click((0.75, 0.625))
    page.says(f"Masks by {GUIDED}")
    # Before and after.
    page.press("m")
    page.says("Masks and marks are hidden")
    assert not changed(page.canvas(), plain).any()
    page.press("m")
    page.says(f"Masks by {GUIDED}")

    with page.download("#masks", folder / "downloads" / "masks.zip") as archive:
        assert archive.namelist() == ["masks/grey.png", "masks/other.png"]
        for name, size in zip(archive.namelist(), [(120, 60), (40, 50)], strict=True):
            with Image.open(io.BytesIO(archive.read(name))) as mask:
                assert mask.size == size
                if name == "masks/grey.png":
                    share = np.asarray(mask).mean()
    assert share == pytest.approx(area, abs=0.1)


def test_one_click_asks_for_background(address, browser, folder):
    page = Page(browser)
    page.find("#anew").click()
    page.says("Drop in pictures")
    page.upload(folder / "grey.png")
    page.says("grey.png")
    page.choose("object (1)")
    page.click((0.5, 0.5))
    page.says("Background points help")


def test_shapes_classes_and_a_project(address, browser, folder):
    """Box, brush and polygon of several classes, looked at closely; saved, reopened."""
    page = Page(browser)
    page.find("#clear").click()
    page.says("nothing is marked")
    plain = page.canvas()
    name = page.find("#class_name textarea, #class_name input")
    name.send_keys("bolt")
    page.find("#add_class").click()
    page.until(lambda: "bolt (2)" in page.labels())
    page.until(lambda: page.find("#label input:checked").get_attribute("value") == "2")
    page.press("x")
    page.until(lambda: page.find("#tool input:checked").get_attribute("value") == "box")
    page.click((0.1, 0.1), (0.2, 0.2), (0.5, 0.3))
    page.press("1")
    page.press("r")
    page.until(
        lambda: page.find("#tool input:checked").get_attribute("value") == "brush"
    )
    page.click((0.8, 0.2), (0.8, 0.4), (0.8, 0.6))
    page.press("b")
    page.press("g")
    page.until(
        lambda: page.find("#tool input:checked").get_attribute("value") == "polygon"
    )
    before = page.source()
    for corner in ((0.2, 0.7), (0.2, 0.9), (0.5, 0.9)):
        page.drag(corner)
    assert page.source() == before
    page.press("\ue007")  # Enter.
    page.until(lambda: page.source() != before)

    path = folder / "downloads" / "project.zip"
    with page.download("#project", path) as archive:
        document = json.loads(archive.read("project.json"))
        mask = archive.read("labelled/masks/grey.png")
    assert document["classes"] == ["object", "bolt"]
    box, stroke, polygon = document["pictures"][0]["marks"]
    assert [box["label"], stroke["label"], polygon["label"]] == [2, 1, 0]
    corners = [(5.5, 11.5), (5.5, 35.5), (29.5, 35.5), (29.5, 11.5)]
    np.testing.assert_allclose(box["area"], corners, atol=0.7)
    np.testing.assert_allclose(stroke["stroke"][-1], [48, 72], atol=1.1)
    assert stroke["radius"] == pytest.approx(3.6)
    corners = [(11.5, 83.5), (11.5, 107.5), (29.5, 107.5)]
    np.testing.assert_allclose(polygon["area"], corners, atol=0.7)
    marks = np.asarray(Image.open(io.BytesIO(mask)))
    assert set(np.unique(marks)) == {0, 1, 2, 255}

    # Closer: the same click is elsewhere in the picture.
    shown = page.source()
    page.press("+")
    page.until(lambda: page.source() != shown)
    page.press("d")
    page.press("1")
    page.click((0.5, 0.5))
    with page.download("#project", folder / "downloads" / "project (1).zip") as archive:
        document = json.loads(archive.read("project.json"))
    (point,) = document["pictures"][0]["marks"][-1]["stroke"]
    # It was shown larger about where the polygon is, as far as the picture goes.
    np.testing.assert_allclose(point, [18, 90], atol=1.1)

    page.find("#anew").click()
    page.says("Drop in pictures")
    page.until(lambda: page.labels() == ["Background (B)", "object (1)", "Eraser (E)"])
    page.upload(path)
    page.says("1 of 1 pictures are marked")
    page.until(lambda: "bolt (2)" in page.labels())
    assert changed(page.canvas(), plain).any()


def test_a_finger_marks(address, browser):
    """On a telephone; the project of the test before is open."""
    page = Page(browser)
    try:
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
        page.resize(390, 844)
        page.find("#clear").click()
        page.says("nothing is marked")
        plain = page.canvas()
        for tool, places in (
            ("point", [(0.2, 0.2)]),
            ("brush", [(0.8, 0.2), (0.6, 0.4), (0.3, 0.6)]),
            ("box", [(0.2, 0.7), (0.6, 0.9)]),
        ):
            page.find(f"#tool input[value={tool}]").click()
            before = page.source()
            page.touch(*places)
            page.until(lambda before=before: page.source() != before)
        marked = changed(page.canvas(), plain)
        for row, column in ((0.2, 0.2), (0.6, 0.4), (0.2, 0.8)):
            y, x = int(row * marked.shape[0]), int(column * marked.shape[1])
            assert marked[y - 20 : y + 20, x - 20 : x + 20].any(), (row, column)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        off = {"enabled": False}
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", off)


def test_picture_tools_and_thumbnails_are_in_view(address, browser):
    page = Page(browser)
    try:
        page.resize(1280, 800)
        for selector in ("#tool", "#label", "#canvas img", "#actions", "#adapt"):
            box = page.box(selector)
            assert box and box["top"] >= 0 and box["bottom"] <= 800, selector
            assert box["left"] >= 0 and box["right"] <= 1280, selector
        assert page.box("#gallery img")["bottom"] <= 800
        assert page.box("#canvas")["height"] >= 400
        # On a telephone, the upload comes before the picture; nothing is cut off.
        page.resize(390, 844)
        tops = [page.box(one)["top"] for one in ("#upload", "#canvas", "#adapt")]
        assert tops == sorted(tops)
        width = "return document.documentElement.scrollWidth"
        assert browser.execute_script(width) <= 390
        for one in ("#label", "#tool", "#sample"):
            assert page.box(one)["width"] > 300, one
        page.find("#anew").click()
        page.says("Drop in pictures")
        page.until(lambda: not page.box("#canvas"))
        assert 0 < page.box("#upload")["bottom"] < 300
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.fixture(scope="module")
def axe(folder) -> str:
    """The script that finds what keeps people out, from npm's registry."""
    npm = shutil.which("npm")
    if not npm:
        pytest.skip("no npm: axe-core was not run on the page")
    command = (npm, "install", "--silent", "--no-audit", "--no-fund", AXE)
    try:
        subprocess.run([*command, "--prefix", folder], check=True, timeout=90)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"axe-core was not run on the page: {error}")
    return (folder / "node_modules/axe-core/axe.min.js").read_text("utf-8")


def test_nobody_is_kept_out(address, browser, axe):
    page = Page(browser)
    page.find("#load").click()
    page.says("Masks by")
    browser.execute_script(axe)
    found = browser.execute_async_script(
        "axe.run({resultTypes: ['violations']}).then(arguments[0])"
    )
    assert len(found["passes"]) > 10
    serious = [
        (one["id"], one["help"], [node["html"][:200] for node in one["nodes"]])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    assert not serious, json.dumps(serious, indent=1)


def test_other_method_and_other_user(address, browser):
    page = Page(browser)
    # Another session begins with nothing of the first one's.
    browser.switch_to.new_window("tab")
    browser.get(address)
    page.says("Drop in pictures")
    assert not browser.find_elements("css selector", "#canvas img")
    # What is wrong is said, without a stack.
    page.find("#adapt").click()
    page.until(lambda: "There are no pictures" in page.find("body").text)
    assert "Traceback" not in page.find("body").text

    page.find("#load").click()
    page.until(page.source)
    page.find("#method input").click()
    options = "ul[role=listbox] li"
    page.until(lambda: browser.find_elements("css selector", options))
    for option in browser.find_elements("css selector", options):
        if option.text.strip().endswith(STEPPED):
            option.click()
            break
    page.until(lambda: "gradient steps" in page.find("#method").text)
    before = page.canvas()
    dotted = page.click((0.5, 0.5))
    assert 0 < changed(dotted, before).mean() < 0.01
    shown = page.source()
    page.find("#adapt").click()
    page.says(f"Masks by {STEPPED}")
    page.until(lambda: page.source() != shown)


def test_large_files_are_refused(address, browser, folder):
    page = Page(browser)
    browser.switch_to.new_window("tab")
    browser.get(address)
    noise = np.random.default_rng(0).integers(0, 256, [200, 200, 3], np.uint8)
    (folder / "large.png").write_bytes(encoded(noise))
    upload = page.until(lambda: page.find("#upload input[type=file]"))
    upload.send_keys(str(folder / "large.png"))
    page.until(lambda: "expected at most 0.05 MB" in page.find("body").text)
    noise = np.random.default_rng(0).integers(0, 256, [500, 500, 3], np.uint8)
    (folder / "large.png").write_bytes(encoded(noise))
    page.upload(folder / "large.png")
    page.until(lambda: "exceed" in page.find("body").text)
    assert not browser.find_elements("css selector", "#canvas img")
