"""Studies that are measured unit by unit, and go on where they were stopped.

    units/NAME.unit.json    what is measured
    units/NAME.json         what came out; it appears complete

Each unit has a process of its own, as a peak of memory belongs to a process. It is not
measured again unless it, or a file that it depends on, has changed.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from efficientlab_tf.errors import UserError, run_command
from efficientlab_tf.files import make_writable, write_text

UNITS = "units"


def run_unit(
    module: str, unit: Mapping[str, Any], folder: Path, name: str, label: str
) -> dict[str, Any]:
    """Measures a unit in a process of its own, or reads what one has written before.

    Args:
      module: what is run; it ends with `unit_process`.
      unit: plain values that decide the result.
      folder: of all units.
      name: of this one's files.
      label: of the unit, for messages.

    Raises:
      UserError: the process reported bad input, or ended in another way.
    """
    path, request = folder / f"{name}.json", folder / f"{name}.unit.json"
    text = json.dumps(unit, indent=1)
    if not (path.is_file() and request.is_file() and request.read_text() == text):
        path.unlink(missing_ok=True)
        write_text(request, text)
        ended = subprocess.run(
            [sys.executable, "-m", module, str(request), str(path)], check=False
        )
        if not path.is_file():
            reason = "its error is above"
            if ended.returncode < 0:
                reason = (
                    f"it was killed by signal {-ended.returncode}, perhaps for memory"
                )
            raise UserError(
                f"{label} could not be measured: {reason}; what was measured before is "
                "kept: run the same command again"
            )
    return json.loads(path.read_text())


def unit_process(
    measure: Callable[[dict[str, Any], Path], dict[str, Any]], argv: list[str]
) -> None:
    """The measuring process; it exits.

    It outlives a study that is killed, so it may end after another study of the same
    folder has begun: what that one does not ask for is not written.

    Args:
      measure: maps a unit, and the path of its result, beside which it may leave
        pictures, to the result: plain values.
      argv: paths of the unit and of the result.
    """

    def main() -> None:
        request, path = map(Path, argv)
        asked = request.read_text()
        result = json.dumps(measure(json.loads(asked), path))
        if request.read_text() != asked:
            raise UserError(
                f"{request} was changed by another process while it was measured; run "
                "one study at a time in a folder"
            )
        write_text(path, result)

    run_command(main)


def units_folder(output: Path) -> Path:
    """Makes the folder of a study's units."""
    folder = output / UNITS
    make_writable(folder)
    return folder


def file_name(label: str) -> str:
    """A label as a part of a file's name."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in label)


def stamp_of(model: str, files: Iterable[Path]) -> str:
    """A digest of what a result depends on beside its settings.

    Args:
      model: a run's folder or .keras file, whose files count; anything else is the
        name of something that comes with the package.
      files: others that count, by path, size and time of their last change.
    """
    digest = hashlib.sha256(model.encode())
    source = Path(model)
    paths = list(files)
    if model and source.exists():
        paths += [source] if source.is_file() else source.glob("**/*")
    for path in sorted(paths):
        if path.is_file() and "logs" not in path.parts:
            status = path.stat()
            digest.update(f"{path} {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]
