"""Files that are written whole or not at all, or else a sentence says why."""

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from efficientlab_tf.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PARTIAL = ".partial-"


WRITABLE = "choose a folder that you may write to"


@contextlib.contextmanager
def writing(what: str, advice: str = WRITABLE) -> Iterator[None]:
    """Around what writes files: says in a sentence that they cannot be written.

    Args:
      what: is written, or "to" where.
      advice: what to do then.

    Raises:
      UserError: in the place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {what}: {error.strerror or error}; {advice}"
        ) from error


def make_writable(folder: Path) -> None:
    """Makes a folder, and tries whether it can be written.

    Raises:
      UserError: it cannot.
    """
    with writing(f"to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


@contextlib.contextmanager
def replacing(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    """A path beside `path` to write to; what is there at the end takes its place.

    Whoever reads `path` meanwhile, or after an exception, finds what was there before.
    The path's name is another in each process, and ends like that of `path`.

    Args:
      path: of the file.
      scratch: a folder of this process alone, on the same disk, to write in instead: a
        path in it for each thread.
    """
    if scratch is None:
        partial = path.with_name(f".{path.stem}{_PARTIAL}{os.getpid()}{path.suffix}")
    else:
        partial = scratch / f"{threading.get_ident()}{path.suffix}"
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partials(path: Path) -> None:
    """Removes what killed processes left of `path`; nobody may be writing it."""
    for partial in path.parent.glob(f".{path.stem}{_PARTIAL}*{path.suffix}"):
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all, in UTF-8."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def save_figure(figure: "Figure", path: Path, *, dpi: int = 110) -> None:
    """Writes a figure of matplotlib's as PNG, whole or not at all."""
    with replacing(path) as partial:
        figure.savefig(partial, dpi=dpi, format="png")
