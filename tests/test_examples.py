"""The examples run as a reader would run them, with fewer steps."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_own_model_meta_trains_and_adapts():
    command = [sys.executable, str(EXAMPLES / "own_model.py"), "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    *steps, anchor, _, _ = done.stdout.splitlines()
    assert [line.split(":")[0] for line in steps] == ["meta-step 1", "meta-step 2"]
    before, after = map(float, re.findall(r"\d\.\d\d", anchor))
    assert anchor.startswith("anchor: IoU") and before != after
