"""Reading what somebody else may have written: whatever is in it, one sentence says so.

A model, a dataset or an annotation may come from anywhere, damaged or made to do harm.
Its JSON is bounded in size and depth here, and its numbers are ones to calculate with.
"""

import contextlib
import dataclasses
import io
import json
import math
import numbers
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from efficientlab_tf.errors import UserError

MAX_BYTES = 64 * 2**20
"""Longest JSON document that is read."""
MAX_DEPTH = 100
"""Most lists and objects within each other."""
MAX_PARTS = 2**21
"""Most lists and objects in a document, each of which takes some hundred bytes."""

_Record = TypeVar("_Record")
_KINDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
# NumPy's numbers are numbers, too.
_CLASSES = {str: str, bool: bool, int: numbers.Integral, float: numbers.Real}


@contextlib.contextmanager
def reading(what: str, advice: str) -> Iterator[None]:
    """Turns whatever a file's content causes into a `UserError`.

    Args:
      what: the file, for the message.
      advice: what to do about it, for the message.
    """
    try:
        yield
    except UserError:
        raise
    # The parsers of others raise anything at all for what they did not expect.
    except Exception as error:
        raise UserError(
            f"{what} cannot be read ({reason_of(error)}); {advice}"
        ) from error


_IN_GRAPH = re.compile(r"^\{\{.*?\}\} ?| \[Op:\w+\]$")


def reason_of(error: Exception) -> str:
    """Returns an exception's message as a short line of printable characters.

    Without where in its graph TensorFlow was. A long line keeps its two ends: at the
    end, behind long paths, is why.
    """
    text = getattr(error, "strerror", None) or str(error)
    if isinstance(error, KeyError):
        text = f"{text} is missing"
    line = (text.strip() or type(error).__name__).splitlines()[0]
    line = "".join(c if c.isprintable() else "?" for c in line)
    line = _IN_GRAPH.sub("", line)
    return line if len(line) <= 200 else f"{line[:100]}...{line[-100:]}"


@contextlib.contextmanager
def open_archive(file: Path | io.BytesIO, size: int) -> Iterator[zipfile.ZipFile]:
    """Opens a zip archive that does not unpack to much more than it is.

    Args:
      file: the archive.
      size: its length in bytes.

    Raises:
      ValueError: it unpacks to more than ten times that, and `MAX_BYTES`.
      zipfile.BadZipFile: it is none.
    """
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_BYTES + 10 * size:
            raise ValueError(f"it unpacks to {unpacked / 2**30:.1f} GiB")
        yield archive


def read_json(path: Path, advice: str) -> object:
    """Returns the content of a JSON file.

    Args:
      path: the file.
      advice: what to do if it cannot be read, for the message.

    Raises:
      UserError: it cannot be read, or see `parse_json`.
    """
    with reading(str(path), advice):
        if not path.is_file():
            raise ValueError("no such file, or not a regular one")
        with open(path, "rb") as file:
            return parse_json(file.read(MAX_BYTES + 1), str(path), advice)


def parse_json(data: bytes, what: str, advice: str) -> object:
    """Returns the content of a JSON document.

    Args:
      data: the document, in UTF-8.
      what: where it is from, for the message.
      advice: what to do if it cannot be used, for the message.

    Raises:
      UserError: it is not JSON, longer than `MAX_BYTES`, deeper than `MAX_DEPTH`, of
        more than `MAX_PARTS` lists and objects, or has a number that is not finite, or
        a whole one of more than 64 bits.
    """
    with reading(what, advice):
        if len(data) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES // 2**20} MiB")
        try:
            check_parts(data)
            content = json.loads(
                data.decode("utf-8-sig"),
                parse_int=_whole_number,
                parse_float=_finite_number,
                parse_constant=_finite_number,
            )
        except RecursionError as error:
            raise ValueError(_TOO_DEEP) from error
        level = [content]
        for _ in range(MAX_DEPTH):
            level = [child for value in level for child in _children(value)]
        if level:
            raise ValueError(_TOO_DEEP)
        return content


def check_parts(data: bytes) -> None:
    """Checks that a JSON document is not much larger in memory than as text.

    Raises:
      ValueError: it has more than `MAX_PARTS` lists and objects.
    """
    parts = data.count(b"[") + data.count(b"{")
    if parts > MAX_PARTS:
        raise ValueError(
            f"{parts} lists and objects are more than {MAX_PARTS / 1e6:.0f} million"
        )


def build(record: type[_Record], values: object) -> _Record:
    """Builds a dataclass of plain fields from a JSON object.

    Args:
      record: a dataclass whose fields are text, numbers, truth values, or a
        `dict[str, float]`.
      values: what the document says.

    Raises:
      ValueError: it is no object, or a name or a value is not the dataclass's.
    """
    if not isinstance(values, dict):
        raise ValueError(f"expected an object, received {type(values).__name__}")
    fields = {field.name: field for field in dataclasses.fields(record)}
    for name, value in values.items():
        if name not in fields:
            raise ValueError(f"`{name}` is not known")
        expected = fields[name].type
        if expected == dict[str, float]:
            if not isinstance(value, dict):
                raise ValueError(f"`{name}` must be an object, received {value!r:.60}")
            for key, number in value.items():
                check_kind(key, number, float)
        else:
            check_kind(name, value, expected)
    missing = [
        name
        for name, field in fields.items()
        if name not in values
        and field.default is field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"`{missing[0]}` is missing")
    return record(**values)


def check_kind(name: str, value: object, kind: type) -> None:
    """Checks that a value is text, a truth value, or a finite number.

    Raises:
      ValueError: it is not; whole numbers are numbers, truth values are not.
    """
    good = isinstance(value, _CLASSES[kind])
    if kind is not bool and isinstance(value, bool):
        good = False
    if not good or (kind is float and not abs(value) <= sys.float_info.max):
        raise ValueError(f"`{name}` must be {_KINDS[kind]}, received {value!r:.60}")


_TOO_DEEP = f"more than {MAX_DEPTH} lists and objects within each other"


def _children(value: object) -> list:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _whole_number(text: str) -> int:
    # Python converts no more than some thousand digits, TensorFlow no more than these.
    number = int(text) if len(text) <= 20 else 2**63
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"the number {text:.30} is out of range")
    return number


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text:.30} is out of range")
    return number
