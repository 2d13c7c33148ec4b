"""docs/promises.md names tests that are there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_promise_names_its_tests():
    text = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    text = text.partition("## Installed")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row != "| promise | shown by |"]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, row
        for path, name in named:
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            found = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
            assert name in found, f"{path} has no {name}"
