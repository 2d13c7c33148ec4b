"""The annotation page in a browser: upload, two clicks, a mask, a download."""

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.app.picture import SHOWN_SIDE
from tests.test_app import GUIDED, ROOT, STEPPED, encoded, picture, write_models

pytest.importorskip("gradio", reason="gradio is not installed: the extra app")
webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
if not (BROWSER and DRIVER):
    pytest.skip(
        "no chromium with chromedriver: apt-get install chromium chromium-driver",
        allow_module_level=True,
    )

HEIGHT, WIDTH = 60, 120
PATIENCE = 120


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
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    options.add_argument("--window-size=1300,1100")
    downloads = {"download.default_directory": str(folder / "downloads")}
    options.add_experimental_option("prefs", downloads)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Page:
    """What a person does on the page."""

    def __init__(self, driver):
        self.driver = driver

    def find(self, selector: str):
        return self.driver.find_element("css selector", selector)

    def until(self, condition):
        """Waits until the condition holds; returns what it gave."""
        end = time.monotonic() + PATIENCE
        while True:
            # Parts of the page are replaced while it is being looked at.
            with contextlib.suppress(Exception):
                if found := condition():
                    return found
            assert time.monotonic() < end, self.find("body").text
            time.sleep(0.1)

    def source(self) -> str:
        return self.find("#canvas img").get_attribute("src")

    def canvas(self) -> np.ndarray:
        with urllib.request.urlopen(self.source()) as file:
            return np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))

    def click(self, row: float, column: float) -> np.ndarray:
        """Clicks at a place, as parts of the picture; returns what it then shows."""
        image, before = self.find("#canvas img"), self.source()
        # The picture is fitted into its element, and not enlarged.
        sides = image.size["width"] / WIDTH, image.size["height"] / HEIGHT
        scale = min(*sides, SHOWN_SIDE / WIDTH)
        x, y = (column - 0.5) * WIDTH * scale, (row - 0.5) * HEIGHT * scale
        actions = webdriver.ActionChains(self.driver)
        actions.move_to_element_with_offset(image, x, y).click().perform()
        self.until(lambda: self.source() != before)
        return self.canvas()

    def choose(self, label: str) -> None:
        for option in self.driver.find_elements("css selector", "#label label"):
            if option.text.strip() == label:
                option.click()
                return
        raise AssertionError(label)


def changed(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Where two pictures differ by more than what JPEG does, bool [H, W]."""
    return np.abs(after.astype(int) - before.astype(int)).max(-1) > 40


def place(marked: np.ndarray) -> np.ndarray:
    """The middle of what is marked, as parts of the sides."""
    return (np.argwhere(marked).mean(0) + 0.5) / marked.shape


def test_a_person_at_work(address, browser, folder):
    page = Page(browser)
    browser.get(address)
    page.until(lambda: "Drop in pictures" in page.find("#status").text)
    upload = page.until(lambda: page.find("#upload input[type=file]"))
    grey = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    files = [folder / "grey.png", folder / "other.png"]
    files[0].write_bytes(encoded(grey))
    files[1].write_bytes(encoded(picture((50, 40), 1)))
    upload.send_keys("\n".join(map(str, files)))
    page.until(lambda: "grey.png" in page.find("#status").text)
    plain = page.canvas()
    assert plain.shape == (SHOWN_SIDE // 2, SHOWN_SIDE, 3)

    # A background alone says what is missing; its point is where the click was.
    page.choose("Background (B)")
    dotted = page.click(0.25, 0.125)
    np.testing.assert_allclose(place(changed(dotted, plain)), [0.25, 0.125], atol=0.01)
    assert "only background is marked" in page.find("#status").text.lower()
    # With the object the guided network answers at once, without another button.
    page.find("body").send_keys("o")
    page.until(lambda: page.find("#label input:checked").get_attribute("value") == "1")
    masked = page.click(0.75, 0.625)
    page.until(lambda: f"Masks by {GUIDED}" in page.find("#status").text)
    area = changed(masked, plain).mean()
    assert area > 0.05, area

    # Keys: the other picture and back, without the last mark and with a new one.
    shown = page.source()
    page.find("body").send_keys("n")
    page.until(lambda: "other.png" in page.find("#status").text)
    page.find("body").send_keys("p")
    page.until(lambda: "grey.png" in page.find("#status").text)
    page.find("body").send_keys("z")
    page.until(lambda: "only background" in page.find("#status").text.lower())
    page.until(lambda: page.source() != shown)
    page.click(0.75, 0.625)
    page.until(lambda: f"Masks by {GUIDED}" in page.find("#status").text)

    page.find("#masks").click()
    path = folder / "downloads" / "masks.zip"
    page.until(path.is_file)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["masks/grey.png", "masks/other.png"]
        for name, size in zip(archive.namelist(), [(120, 60), (40, 50)], strict=True):
            with Image.open(io.BytesIO(archive.read(name))) as mask:
                assert mask.size == size
                if name == "masks/grey.png":
                    share = np.asarray(mask).mean()
    assert share == pytest.approx(area, abs=0.1)


def test_other_method_and_other_user(address, browser):
    page = Page(browser)
    # Another session begins with nothing of the first one's.
    browser.switch_to.new_window("tab")
    browser.get(address)
    page.until(lambda: "Drop in pictures" in page.find("#status").text)
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
    dotted = page.click(0.5, 0.5)
    assert 0 < changed(dotted, before).mean() < 0.01
    shown = page.source()
    page.find("#adapt").click()
    page.until(lambda: f"Masks by {STEPPED}" in page.find("#status").text)
    page.until(lambda: page.source() != shown)


def test_large_files_are_refused(address, browser, folder):
    page = Page(browser)
    browser.switch_to.new_window("tab")
    browser.get(address)
    noise = np.random.default_rng(0).integers(0, 256, [200, 200, 3], np.uint8)
    (folder / "large.png").write_bytes(encoded(noise))
    upload = page.until(lambda: page.find("#upload input[type=file]"))
    upload.send_keys(str(folder / "large.png"))
    page.until(lambda: "exceed the maximum" in page.find("body").text)
    assert not browser.find_elements("css selector", "#canvas img")
