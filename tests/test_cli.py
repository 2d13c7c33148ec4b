"""The console script: `efficientlab COMMAND ...`."""

import sys

import pytest

from efficientlab_tf import __version__, cli
from efficientlab_tf.shipped import FLAGFILES
from tests.forked import run_forked


def status(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return ended.value.code


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_every_command_in_a_line(capsys, arguments):
    assert status(*arguments) == 0
    lines = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == list(cli.COMMANDS)
    assert "  train       Meta-trains a segmentation network." in lines
    assert all(len(line.split()) > 3 for line in lines)


def test_version(capsys):
    assert status("--version") == 0
    assert capsys.readouterr().out.split() == ["efficientlab_tf", __version__]


@pytest.mark.parametrize(
    ("command", "nearest"),
    [("adpat", "adapt"), ("Train", "train"), ("evaluation", "evaluate")],
)
def test_an_unknown_command_is_answered_with_the_nearest(capsys, command, nearest):
    assert status(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: expected a command, received {command!r}")
    assert f"the nearest is {nearest}" in line


def test_a_command_does_what_its_module_does(tmp_path):
    folders = [tmp_path / name for name in ("script", "module")]
    for folder in folders:
        folder.mkdir()
    script = run_forked(folders[0], "__main__", "evaluate", "--help")
    module = run_forked(folders[1], "evaluate", "--help")
    assert script == module
    assert "--splits_per_task" in script.out


def test_a_command_gets_its_arguments_and_its_status_is_returned(tmp_path):
    arguments = "train", "--flagfile=icons_fomaml.flags", "--dataset_dir=nowhere"
    ended = run_forked(
        tmp_path, "__main__", *arguments, f"--run_dir={tmp_path / 'run'}"
    )
    assert ended.status == 2
    assert ended.err.splitlines()[-1].startswith("error: no dataset folder nowhere")


@pytest.mark.parametrize(
    ("argument", "received"),
    [
        (
            "--flagfile=flags/quickstart.flags",
            f"--flagfile={FLAGFILES}/quickstart.flags",
        ),
        ("quickstart.flags", f"{FLAGFILES}/quickstart.flags"),
        ("--flagfile=nowhere.flags", "--flagfile=nowhere.flags"),
        ("--output=quickstart.flags", "--output=quickstart.flags"),
        ("--steps=5", "--steps=5"),
    ],
)
def test_flagfiles_that_are_not_there_are_the_packages(
    tmp_path, monkeypatch, argument, received
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["efficientlab"])
    monkeypatch.setattr(cli.runpy, "run_path", lambda *_, **__: None)
    assert status("train", argument) == 0
    assert sys.argv == ["efficientlab", received]
