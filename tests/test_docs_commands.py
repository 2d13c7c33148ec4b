"""What pages tell people to type is understood; it is run in another file."""

import argparse
import functools
import importlib
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from efficientlab_tf import flags
from efficientlab_tf.cli import COMMANDS, _with_our_flagfile
from efficientlab_tf.shipped import TOOLS
from tests.test_docs import MODULES, PAGES, ROOT

_FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.M | re.S)
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_OURS = re.compile(r"(python -m efficientlab_tf\.|efficientlab |python tools/)\w+[. ]")
_ANY, ANY = re.compile(r"flags/X\.flags|\bFLAGFILE\b"), "flags/icons_fomaml.flags"
"""What stands for any flagfile, and one."""


def blocks(page: Path, language: str) -> list[str]:
    found = _FENCED.findall(page.read_text("utf-8"))
    return [body for name, body in found if name == language]


def lines(page: Path) -> list[str]:
    """Each command of a page, on one line: those of blocks, and those in sentences."""
    text = page.read_text("utf-8")
    found = [
        line
        for block in blocks(page, "")
        for line in re.sub(r"\\\n\s*", " ", block).splitlines()
        if _OURS.match(line)
    ]
    spans = _INLINE.findall(_FENCED.sub("", text))
    found += [re.sub(r"\s+", " ", one) for one in spans if _OURS.match(one)]
    return [line for line in found if "..." not in line]


def commands() -> list[tuple[str, ...]]:
    """The different commands of all pages, without what starts them."""
    found = {}
    for page in PAGES:
        for line in lines(page):
            words = shlex.split(_ANY.sub(ANY, line), comments=True)
            if words[0] == "python":
                words = words[2:] if words[1] == "-m" else words[1:]
            elif len(words) > 1:
                words = words[1:]
            name = words[0].removeprefix("efficientlab_tf.")
            found[(name, *words[1:])] = None
    return list(found)


class _Parsed(BaseException):
    """Says that a parser was content."""


def parse_flags(monkeypatch, name: str, arguments: list[str]) -> None:
    """Parses as `flags.run` does, with flags of this command alone."""
    own = flags.flags.FlagValues()
    for kind, define in flags._DEFINES.items():
        with_own = functools.partial(define, flag_values=own)
        monkeypatch.setitem(flags._DEFINES, kind, with_own)
    enum = functools.partial(flags.flags.DEFINE_enum, flag_values=own)
    monkeypatch.setattr(flags.flags, "DEFINE_enum", enum)
    monkeypatch.setattr(flags, "FLAGS", own)
    monkeypatch.setattr(flags, "_ALIASES", {})
    # Of absl itself; all commands have it.
    flags.flags.DEFINE_list("flagfile", [], "", flag_values=own)
    importlib.import_module(MODULES[name]).define_flags()
    arguments = [_with_our_flagfile(one) for one in arguments]
    given = own.read_flags_from_files(arguments, force_gnu=False)
    left = own([name, *flags.unmarked(given)])
    assert left == [name], left


def parse_arguments(monkeypatch, script: Path, arguments: list[str]) -> None:
    """Runs a script until its parser is content."""
    # Which of the two a script calls; the first also calls the second.
    known = "parse_known_args" if "epoch" in arguments else "parse_args"
    parse = getattr(argparse.ArgumentParser, known)

    def parse_alone(self, *args, **kwargs):
        parse(self, *args, **kwargs)
        raise _Parsed

    monkeypatch.setattr(argparse.ArgumentParser, known, parse_alone)
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    monkeypatch.syspath_prepend(str(script.parent))
    with pytest.raises(_Parsed):
        runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_the_parser_understands(monkeypatch, command):
    name, *arguments = command
    monkeypatch.chdir(ROOT)
    if name in MODULES:
        parse_flags(monkeypatch, name, arguments)
    elif name in COMMANDS:
        parse_arguments(monkeypatch, COMMANDS[name], arguments)
    elif name.startswith("tools/") and arguments[0] != "table":
        parse_arguments(monkeypatch, ROOT / name, arguments)
    else:
        assert name.startswith("tools/") or name in ("--help", "--version"), name


def test_what_is_understood_is_not_nothing(monkeypatch):
    with pytest.raises(flags.flags.Error, match="Unknown command line flag"):
        parse_flags(monkeypatch, "adapt", ["--suport=x"])
    monkeypatch.undo()
    with pytest.raises(flags.flags.Error, match="seed"):
        parse_flags(monkeypatch, "adapt", ["--seed=many"])
    monkeypatch.undo()
    with pytest.raises(SystemExit):
        parse_arguments(monkeypatch, TOOLS / "verify.py", ["--no_such"])
    assert len(commands()) > 30
    assert (
        "adapt",
        "--support=labelled",
        "--query=new_pictures",
        "--output=results",
    ) in (commands())
