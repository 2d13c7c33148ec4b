"""Flags in files of other systems, and paths with a ~."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAM = """
import dataclasses
from efficientlab_tf import flags
from efficientlab_tf.config import setting

@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = setting(0, "Steps.")
    folder: str = setting("", "A path.")

def main():
    config = flags.read(Config)
    print(config.steps, config.folder, flags.given(config))

flags.define(Config)
flags.run(main)
"""


@pytest.mark.parametrize("start", ["", "# a comment\r\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_flagfiles_of_other_systems(tmp_path, mark, start):
    text = f"{mark}{start}--steps=1\r\n# more\r\n--folder=~/x\r\n"
    (tmp_path / "windows.flags").write_bytes(text.encode("utf-8"))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"--flagfile={tmp_path}/windows.flags"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"HOME": "/home/me", "PATH": "/usr/bin", "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "1 /home/me/x {'steps': 1, 'folder': '/home/me/x'}\n"
