"""What README and docs say of files, flags and tests is so."""

import importlib
import re
from pathlib import Path

import pytest

from efficientlab_tf import flags
from efficientlab_tf.cli import COMMANDS
from efficientlab_tf.shipped import TOOLS

ROOT = Path(__file__).parent.parent
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "saved_models").rglob("*.md"),
    ROOT / "benchmarks" / "README.md",
]
MODULES = {
    name: f"efficientlab_tf.{name}" + (".__main__" if path.stem == "__main__" else "")
    for name, path in COMMANDS.items()
    if path.parent != TOOLS
}
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]+)")
_COMMAND = re.compile(
    rf"(?:python -m efficientlab_tf\.|`|efficientlab )({'|'.join(MODULES)})\b"
    r"((?:\s+--\w+(?:=[^\s`]*)?)+)"
)
FOREIGN = {
    *("array", "cpus", "mem", "requeue", "wrap"),  # sbatch
    *("build", "enable_batching"),  # docker, tensorflow_model_server
}
"""Flags of other programs that pages name."""
_FLAG = re.compile(r"(?<!\S)`?--([a-z]\w*)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_relative_link_is_broken(page):
    links = [link for link in _LINK.findall(page.read_text("utf-8")) if ":" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """Command to its flags, with their new spellings alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flags, "alias", lambda **_: None)
        found = {}
        for command, module in MODULES.items():
            own = found[command] = {"flagfile", "help"}
            patch.setattr(flags, "define_one", lambda name, *_, own=own: own.add(name))
            importlib.import_module(module).define_flags()
            assert len(own) > 2, command
    return found


def test_commands_on_pages_have_their_flags(known):
    wrong, seen = [], set()
    for page in PAGES:
        text = re.sub(r"\s*\\\n\s*", " ", page.read_text("utf-8"))
        for command, given in _COMMAND.findall(text):
            seen.add(command)
            unknown = set(_FLAG.findall(given)) - known[command]
            wrong += [(page.name, command, unknown)] if unknown else []
    assert not wrong
    assert {"adapt", "train", "evaluate", "tune", "compare", "video", "fpk"} <= seen


def test_flags_that_pages_name_exist(known):
    folders = "tools/*", "benchmarks/*.py", "tests/promises/*.py"
    scripts = [path for folder in folders for path in ROOT.glob(folder)]
    tools = "".join(path.read_text("utf-8") for path in scripts if path.is_file())
    ours = set().union(*known.values(), FOREIGN, re.findall(r"--(\w+)", tools))
    unknown = {
        (page.name, name)
        for page in PAGES
        for name in _FLAG.findall(page.read_text("utf-8"))
        if name not in ours
    }
    assert not unknown


def test_the_map_has_every_module_and_folder():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    package = ROOT / "efficientlab_tf"
    names = [path.name for path in package.glob("*.py")]
    names += [f"{path.parent.name}/" for path in package.glob("*/__init__.py")]
    # A command's name is its module's.
    named = [n for n in names if n in text or f"`{n.removesuffix('.py')}`" in text]
    assert len(names) > 30 and set(names) - set(named) <= {"__init__.py", "__main__.py"}
