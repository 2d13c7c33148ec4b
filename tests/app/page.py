"""The page as a person sees it in a browser; whoever imports this skips without one."""

import contextlib
import io
import shutil
import time
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
PATIENCE = 300
ARGUMENTS = (
    *("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"),
    # It asks nobody on the network, who might not answer.
    *("no-first-run", "disable-background-networking", "disable-component-update"),
    *("disable-sync", "disable-quic", "window-size=1300,1100"),
)


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

    def drag(self, *places: tuple[float, float]) -> None:
        """Presses at the first place, as parts of the picture, goes to the others."""
        image = self.find("#canvas img")
        box = image.size  # The picture is fitted into its element.
        scale = min(box["width"] / WIDTH, box["height"] / HEIGHT)
        actions = webdriver.ActionChains(self.driver, duration=20)
        for i, (row, column) in enumerate(places):
            x, y = (column - 0.5) * WIDTH * scale, (row - 0.5) * HEIGHT * scale
            actions.move_to_element_with_offset(image, x, y)
            if not i:
                actions.click_and_hold()
        actions.release().perform()

    def touch(self, *places: tuple[float, float]) -> None:
        """As `drag`, with a finger, under which the page does not scroll."""
        script = "arguments[0].scrollIntoView({block: 'center'})"
        self.driver.execute_script(script, self.find("#canvas img"))
        box = self.box("#canvas img")
        scale = min(box["width"] / WIDTH, box["height"] / HEIGHT)
        top = self.driver.execute_script("return scrollY")
        for i, (row, column) in enumerate(places):
            point = {
                "x": box["x"] + box["width"] / 2 + (column - 0.5) * WIDTH * scale,
                "y": box["y"] + box["height"] / 2 + (row - 0.5) * HEIGHT * scale,
            }
            self.finger("touchMove" if i else "touchStart", point)
        self.finger("touchEnd")
        assert self.driver.execute_script("return scrollY") == top

    def finger(self, kind: str, *points: dict) -> None:
        event = {"type": kind, "touchPoints": points}
        self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", event)

    def click(self, *places: tuple[float, float]) -> np.ndarray:
        """Clicks at places, or drags; returns what is shown then."""
        before = self.source()
        self.drag(*places)
        self.until(lambda: self.source() != before)
        return self.canvas()

    def press(self, key: str) -> None:
        self.find("body").send_keys(key)

    def says(self, text: str) -> None:
        """Waits until the page says so beside the picture."""
        self.until(lambda: text.lower() in self.find("#status").text.lower())

    def labels(self) -> list[str]:
        labels = self.driver.find_elements("css selector", "#label label")
        return [label.text.strip() for label in labels]

    def choose(self, label: str) -> None:
        for option in self.driver.find_elements("css selector", "#label label"):
            if option.text.strip() == label:
                option.click()
                return
        raise AssertionError(label)

    def download(self, selector: str, path: Path) -> zipfile.ZipFile:
        self.find(selector).click()
        self.until(path.is_file)
        return zipfile.ZipFile(path)

    def upload(self, *files: Path) -> None:
        upload = self.until(lambda: self.find("#upload input[type=file]"))
        upload.send_keys("\n".join(map(str, files)))

    def resize(self, width: int, height: int) -> None:
        """Gives what is seen of the page a size, in pixels."""
        how = {"width": width, "height": height, "deviceScaleFactor": 1}
        how["mobile"] = width < 500
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", how)
        self.driver.execute_script("scrollTo(0, 0)")

    def box(self, selector: str) -> dict[str, float]:
        script = """const r = document.querySelector(arguments[0])
            .getBoundingClientRect(); return r.width && r.toJSON()"""
        return self.driver.execute_script(script, selector)


def changed(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Where two pictures differ by more than what JPEG does, bool [H, W]."""
    return np.abs(after.astype(int) - before.astype(int)).max(-1) > 40


def place(marked: np.ndarray) -> np.ndarray:
    """The middle of what is marked, as parts of the sides."""
    return (np.argwhere(marked).mean(0) + 0.5) / marked.shape
