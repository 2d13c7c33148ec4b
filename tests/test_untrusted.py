"""Files of somebody else: whatever is in them, one sentence says so."""

import dataclasses
import os

import pytest

from efficientlab_tf import untrusted
from efficientlab_tf.errors import UserError
from efficientlab_tf.untrusted import build, parse_json, read_json, reading, reason_of


@dataclasses.dataclass(frozen=True)
class Record:
    name: str
    count: int
    rate: float = 0.5
    sound: bool = True
    values: dict[str, float] = dataclasses.field(default_factory=dict)


def refused(data):
    with pytest.raises(UserError) as caught:
        parse_json(data, "x.json", "write it again")
    text = str(caught.value)
    assert text.startswith("x.json cannot be read (") and text.endswith(
        "; write it again"
    )
    assert text.isprintable() and len(text) < 300
    return text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "Expecting property name"),
        (b"", "Expecting value"),
        (b"\xff\xfe", "codec can't decode"),
        (b"[" * 200_000, "100 lists and objects"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "100 lists and objects"),
        (b"[1" + b"0" * 400 + b"]", "out of range"),
        (b"[1" + b"0" * 5000 + b"]", "out of range"),
        (b"[9223372036854775808]", "out of range"),
        (b"[1e999]", "out of range"),
        (b"[NaN]", "out of range"),
        (b"[-Infinity]", "out of range"),
        (b'"\x00"', "Invalid control character"),
    ],
)
def test_json_that_is_no_use(data, reason):
    assert reason in refused(data)


def test_json_that_is_too_long(monkeypatch):
    monkeypatch.setattr(untrusted, "MAX_BYTES", 2**20)
    assert "larger than 1 MiB" in refused(b" " * 2**20 + b"1")
    assert parse_json(b" " * (2**20 - 1) + b"1", "x", "y") == 1


def test_json_of_too_many_parts(monkeypatch):
    monkeypatch.setattr(untrusted, "MAX_PARTS", 10)
    assert parse_json(b"[" + b"{}," * 8 + b"{}]", "x", "y") == [{}] * 9
    assert "11 lists and objects are more" in refused(b"[" + b"{}," * 9 + b"{}]")


def test_messages_are_one_line():
    text = str(UserError("a\x1b[2Jb\nc\ud800 \u2028d: b\u00fcro \u56fe.png"))
    assert text == "a?[2Jb?c? ?d: b\u00fcro \u56fe.png"
    text.encode()


def test_json_within_the_bounds(tmp_path):
    document = b"\xef\xbb\xbf" + b"[" * 99 + b"{}" + b"]" * 99
    value = parse_json(document, "x", "y")
    for _ in range(99):
        (value,) = value
    assert value == {}
    (tmp_path / "a.json").write_text('{"a": [-9223372036854775808, 1e308, "\u00e4"]}')
    assert read_json(tmp_path / "a.json", "y") == {"a": [-(2**63), 1e308, "ä"]}


def test_json_files_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("none", "pipe", "zero", ".", "\0"):
        with pytest.raises(UserError, match="not a regular one|null byte"):
            read_json(tmp_path / name, "give another")


def test_a_parser_that_raises_anything():
    with pytest.raises(UserError, match=r"^x cannot be read \(a\?b\); do y$"):
        with reading("x", "do y"):
            raise RuntimeError("a\x1bb\nmore")
    with pytest.raises(UserError, match="^own words$"):
        with reading("x", "do y"):
            raise UserError("own words")


def test_records_are_built_of_their_kinds():
    record = Record("a", 3, 1, False, {"x": 1, "y": 0.5})
    assert build(Record, dataclasses.asdict(record)) == record
    assert build(Record, {"name": "a", "count": 3}) == Record("a", 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 1.5}, "`count` must be a whole number, received 1.5"),
        ({"count": True}, "`count` must be a whole number, received True"),
        ({"rate": "1"}, "`rate` must be a number, received '1'"),
        ({"rate": float("nan")}, "`rate` must be a number, received nan"),
        ({"sound": 1}, "`sound` must be true or false, received 1"),
        ({"name": None}, "`name` must be text, received None"),
        ({"values": [1]}, "`values` must be an object"),
        ({"values": {"x": None}}, "`x` must be a number, received None"),
        ({"more": 1}, "`more` is not known"),
    ],
)
def test_records_that_are_none(change, message):
    with pytest.raises(ValueError, match=message):
        build(Record, {"name": "a", "count": 3, **change})


def test_records_that_lack_something():
    with pytest.raises(ValueError, match="`count` is missing"):
        build(Record, {"name": "a"})
    with pytest.raises(ValueError, match="expected an object, received list"):
        build(Record, ["a", 3])


def test_the_end_of_a_long_reason_is_kept():
    path = "a_long_folder/" * 30
    error = OSError(f"{{{{function_node W_0}}}} {path}; No space left [Op:SaveV2]")
    reason = reason_of(error)
    assert reason.startswith("a_long_folder/") and reason.endswith("; No space left")
    assert len(reason) < 210
