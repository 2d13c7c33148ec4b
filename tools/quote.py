"""Quotes the package's own code in the pages of the site, so that they cannot drift.

A line `quote: PATH` of a page becomes the docstring of a module, without its first
paragraph; `quote: PATH NAME` the source of a function, class or Class.method, without
its docstring.
"""

import ast
import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent


def on_page_markdown(markdown: str, **_) -> str:
    """Fills a page in; MkDocs calls it."""
    return re.sub(r"^quote: (\S+)(?: (\S+))?$", _quoted, markdown, flags=re.MULTILINE)


def _quoted(match: re.Match) -> str:
    path, name = match.groups()
    text = (ROOT / path).read_text(encoding="utf-8")
    node = ast.parse(text)
    if not name:
        return ast.get_docstring(node).partition("\n\n")[2]
    for part in name.split("."):
        # A name that is gone is a KeyError, which ends the build.
        node = {getattr(n, "name", None): n for n in node.body}[part]
    lines = text.splitlines()
    if ast.get_docstring(node):
        docstring = node.body[0]
        del lines[docstring.lineno - 1 : docstring.end_lineno]
        node.end_lineno -= docstring.end_lineno - docstring.lineno + 1
    code = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno]))
    return f'```python title="{path}"\n{code}\n```'
