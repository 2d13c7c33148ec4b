"""Tables as text."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any


def markdown(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [heads, *rows]
    lines = ["| " + " | ".join(map(str, cells)) + " |" for cells in lines]
    lines.insert(1, "|---" * len(heads) + "|")
    return "\n".join(lines) + "\n"


def csv_text(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as the text of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([heads, *rows])
    return text.getvalue()
