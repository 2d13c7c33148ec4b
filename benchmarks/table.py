"""Runs the benchmarks that take minutes, and writes what they print into the table.

    python tools/benchmark.py table            (make benchmark)

benchmarks/README.md gets the machine, the versions, each command and its output,
between two comments; the rest of that page is written by hand.
"""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil

from efficientlab_tf.errors import UserError
from efficientlab_tf.files import write_text

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "benchmarks" / "README.md"
COMMANDS = (
    "meta_step --backbone EfficientNetLite0 --image_size 96 --meta_batch 2",
    "second_order --network meta_drn --image_size 64 --unrolled_size 64",
    "guidance",
    "episodes --dataset_dir sample:icons --image_size 96",
)
_BETWEEN = re.compile(r"(<!-- make benchmark -->\n).*(<!-- end -->)", re.DOTALL)


def main(argv: list[str]) -> int:
    """Measures, and writes the page.

    Raises:
      UserError: an option, or a benchmark that ended otherwise than well.
    """
    if argv:
        raise UserError(f"the table has no options, received {argv[0]!r}")
    parts = [machine()]
    for command in COMMANDS:
        print(f"python tools/benchmark.py {command}", flush=True)
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "tools/benchmark.py", *command.split()],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            raise UserError(f"{command} ended with status {done.returncode}")
        print(done.stdout)
        seconds = time.monotonic() - start
        parts.append(
            f"`python tools/benchmark.py {command}`, {seconds:.0f} s in all:\n\n"
            f"```\n{done.stdout.rstrip()}\n```"
        )
    write_text(PAGE, filled(PAGE.read_text(encoding="utf-8"), "\n\n".join(parts)))
    return 0


def filled(page: str, text: str) -> str:
    """The page with a text between its comments."""
    return _BETWEEN.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page)


def machine() -> str:
    """What the numbers are of: processor, memory, load and versions, in a sentence."""
    names = re.findall(r"^model name\s*:\s*(.*)$", _cpuinfo(), re.MULTILINE)
    packages = ("tensorflow", "keras", "numpy", "efficientlab_tf")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    load = os.getloadavg()[0] / os.cpu_count()
    return (
        f"{names[0] if names else platform.machine()}, {os.cpu_count()} CPU cores, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB; Python "
        f"{platform.python_version()}, {', '.join(versions)}. When it began, "
        f"{load:.1f} other processes waited for each core."
    )


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""
