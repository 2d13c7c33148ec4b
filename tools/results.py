"""Writes measured numbers into the pages, each from the file that a command wrote.

    python tools/results.py            (make results)

A number of a page stands between two comments, and so does a table:

    <!-- measured: photos_5_linear iou .1 -->76.1 ± 7.4 %<!-- end -->

    <!-- measured: own_pictures photos_5_linear domains_5_linear -->
    <!-- end -->

    <!-- measured: table compare -->
    <!-- end -->

    <!-- measured: compared class_iou photos=a_photos+b_photos icons,_test=a_icons -->
    <!-- end -->

The first names a file, docs/measured/FILE.json or FILE.csv, or saved_models/FILE.json;
a key in it, with dots between the levels; and how many digits to show. A share is shown
in percent, and an interval as "mean ± half-width". Of a CSV file the key is a column,
and the number is the mean of its rows; `table` shows one as it is, such as what
`tools/reproduce.py` writes. `compared` shows a column of what `compare` wrote
(results.csv), for several sets beside each other, a method a row; "+" joins files of
one set, and "_" stands for a space. What stands in no comment was copied by hand.
"""

import csv
import json
import re
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from efficientlab_tf.evaluation.tables import markdown

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "docs" / "measured", ROOT / "saved_models"
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "saved_models").rglob("*.md")),
]
_MEASURED = re.compile(r"(<!-- measured: ([^>]*) -->).*?(<!-- end -->)", re.DOTALL)


def rendered(page: str) -> str:
    """The text of a page with its numbers as their sources have them.

    Raises:
      SystemExit: a comment names what is not there.
    """
    return _MEASURED.sub(lambda m: m[1] + _text(m[2].split()) + m[3], page)


def _text(words: list[str]) -> str:
    what, *names = words
    if what in _TABLES:
        return f"\n\n{_TABLES[what](names)}\n"
    key, digits = names
    return shown(source(what), key, int(digits.removeprefix(".")))


def source(name: str) -> dict[str, Any]:
    """What a measured file holds."""
    for folder in SOURCES:
        path = folder / f"{name}.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
        if path.with_suffix(".csv").is_file():
            with path.with_suffix(".csv").open(encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            numbers = {}
            for key in rows[0]:
                try:
                    numbers[key] = fmean(float(row[key]) for row in rows)
                except ValueError:  # A column of names.
                    continue
            return numbers
    raise SystemExit(f"error: a page names {name}, which is in no folder of results")


def shown(document: dict[str, Any], key: str, digits: int) -> str:
    """A share of a document in percent; empty if there is none."""
    value: Any = document
    for part in key.split("."):
        if part not in value:
            raise SystemExit(f"error: a page names {key}, which its source lacks")
        value = value[part]
    if value is None:
        return ""
    if isinstance(value, dict):
        mean, half = (100 * value[name] for name in ("mean", "half_width"))
        return f"{mean:.{digits}f} ± {half:.{digits}f} %"
    return f"{100 * value:.{digits}f} %"


def _own_pictures(names: list[str]) -> str:
    heads = (
        *("set", "classes", "IoU", "expected, as the command said"),
        *("measured inside the stated 80 % interval", "correlation of both"),
        "s to adapt, median",
    )
    rows = []
    for name in names:
        own = source(name)
        correlation = own["correlation"]
        rows.append(
            [
                own["about"],
                own["tasks"],
                shown(own, "iou", 1),
                shown(own, "expected", 1),
                shown(own, "inside", 0),
                "" if correlation is None else f"{correlation:.2f}",
                f"{own['seconds']:.0f}",
            ]
        )
    return markdown(heads, rows)


def _candidates(names: list[str]) -> str:
    """Each candidate alone beside what was chosen, a column a set."""
    sets = [source(name) for name in names]
    tried = dict.fromkeys(candidate for own in sets for candidate in own["alone"])
    rows = [["chosen", *(shown(own, "iou", 1) for own in sets)]]
    rows += [
        [candidate, *(_if_there(own["alone"], candidate) for own in sets)]
        for candidate in tried
    ]
    rows.append(
        ["the best of each task", *(shown(own, "best_of_each_task", 1) for own in sets)]
    )
    return markdown(["", *(own["about"] for own in sets)], rows)


def _if_there(document: dict[str, Any], key: str) -> str:
    return f"{100 * document[key]:.1f}" if key in document else ""


def _table(names: list[str]) -> str:
    """A CSV file as it is."""
    (name,) = names
    with _csv(name).open(encoding="utf-8", newline="") as file:
        heads, *rows = csv.reader(file)
    return markdown(heads, rows)


def _csv(name: str) -> Path:
    path = SOURCES[0] / f"{name}.csv"
    if not path.is_file():
        raise SystemExit(
            f"error: a page names {name}, which is in no folder of results"
        )
    return path


def _compared(names: list[str]) -> str:
    """A measure of the methods that `compare` compared, a column a set and shot."""
    measure, *pairs = names
    cells: dict[str, dict[str, str]] = {}
    heads: dict[str, None] = {}
    for pair in pairs:
        about, files = pair.split("=")
        for name in files.split("+"):
            with _csv(name).open(encoding="utf-8", newline="") as file:
                lines = list(csv.DictReader(file))
            for row in lines:
                head = f"{about.replace('_', ' ')}, {row['shots']}-shot"
                mean, half = float(row[measure]), float(row[f"{measure}_half_width"])
                shown = f"{100 * mean:.1f} ± {100 * half:.1f} %"
                cells.setdefault(row["method"], {})[head] = shown
                heads[head] = None
    return markdown(
        ["method", *heads],
        [
            [method.replace("_", " "), *(own.get(head, "") for head in heads)]
            for method, own in cells.items()
        ],
    )


_TABLES = {
    "own_pictures": _own_pictures,
    "candidates": _candidates,
    "table": _table,
    "compared": _compared,
}


def main() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (new := rendered(text)) != text:
            page.write_text(new, encoding="utf-8")
            print(f"written: {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
