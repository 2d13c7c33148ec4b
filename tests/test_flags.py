"""Flags in files of other systems, and paths with a ~."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROGRAM = """
import dataclasses
import os
import sys
from efficientlab_tf import flags
from efficientlab_tf.config import setting

@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = setting(0, "Steps.")
    folder: str = setting("", "A path.")

def main():
    config = flags.read(Config)
    print(config.steps, config.folder, flags.given(config), flush=True)

flags.define(Config)
# One child for each file: the package is imported once.
for file in sys.argv[1:]:
    if not (child := os.fork()):
        sys.argv[1:] = [f"--flagfile={file}"]
        flags.run(main)
        os._exit(1)
    os.waitpid(child, 0)
"""


def test_flagfiles_of_other_systems(tmp_path):
    files = []
    for mark in ("", "\ufeff"):
        for start in ("", "# a comment\r\n", "\r\n"):
            text = f"{mark}{start}--steps=1\r\n# more\r\n--folder=~/x\r\n"
            files.append(tmp_path / f"{len(files)}.flags")
            files[-1].write_bytes(text.encode("utf-8"))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, files)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"HOME": "/home/me", "PATH": "/usr/bin", "PYTHONPATH": str(ROOT)},
    )
    line = "1 /home/me/x {'steps': 1, 'folder': '/home/me/x'}\n"
    assert done.stdout == line * len(files)
