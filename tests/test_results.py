"""The pages say what was measured."""

import json
import re

import pytest

from tools import results


@pytest.mark.parametrize(
    "page", results.PAGES, ids=lambda page: str(page.relative_to(results.ROOT))
)
def test_a_page_says_what_its_sources_say(page):
    text = page.read_text(encoding="utf-8")
    assert results.rendered(text) == text, "run `make results`"


def test_every_measurement_is_on_a_page():
    text = "".join(page.read_text(encoding="utf-8") for page in results.PAGES)
    comments = " ".join(re.findall(r"<!-- measured: ([^>]*) -->", text))
    named = re.split(r"[ =+]", comments)
    for path in results.SOURCES[0].iterdir():
        assert path.stem in named, path


@pytest.mark.parametrize(
    ("comment", "text"),
    [
        ("x iou .1", "12.3 ± 4.5 %"),
        ("x iou .2", "12.34 ± 4.50 %"),
        ("x metrics.share .0", "67 %"),
        ("x nothing .1", ""),
        ("many J .1", "30.0 %"),
    ],
)
def test_numbers_replace_whatever_stood_there(tmp_path, monkeypatch, comment, text):
    (tmp_path / "x.json").write_text(
        '{"iou": {"mean": 0.1234, "half_width": 0.045}, "nothing": null,'
        ' "metrics": {"share": 0.67}}'
    )
    (tmp_path / "many.csv").write_text("name,J\na,0.2\nb,0.4\n")
    monkeypatch.setattr(results, "SOURCES", (tmp_path,))
    page = f"before <!-- measured: {comment} -->\nwrong<!-- end --> after"
    expected = f"before <!-- measured: {comment} -->{text}<!-- end --> after"
    assert results.rendered(page) == expected


def test_the_table_of_candidates(tmp_path, monkeypatch):
    for name, alone in (("a", {"few": 0.5}), ("b", {"few": 0.25, "many": 0.75})):
        (tmp_path / f"{name}.json").write_text(
            json.dumps(
                {
                    "about": name.upper(),
                    "iou": {"mean": 0.6, "half_width": 0.1},
                    "alone": alone,
                    "best_of_each_task": 0.8,
                }
            )
        )
    monkeypatch.setattr(results, "SOURCES", (tmp_path,))
    page = results.rendered("<!-- measured: candidates a b --><!-- end -->")
    assert page.splitlines()[2:-2] == [
        "|  | A | B |",
        "|---|---|---|",
        "| chosen | 60.0 ± 10.0 % | 60.0 ± 10.0 % |",
        "| few | 50.0 | 25.0 |",
        "| many |  | 75.0 |",
        "| the best of each task | 80.0 % | 80.0 % |",
    ]


def test_a_file_as_a_table(tmp_path, monkeypatch):
    (tmp_path / "p.csv").write_text('where,"paper, %"\ntable 1,"2, 3"\n')
    monkeypatch.setattr(results, "SOURCES", (tmp_path,))
    page = results.rendered("<!-- measured: table p --><!-- end -->")
    assert page.splitlines()[2:-2] == [
        "| where | paper, % |",
        "|---|---|",
        "| table 1 | 2, 3 |",
    ]


@pytest.mark.parametrize(
    "comment",
    [
        *("nowhere iou .1", "photos_5_linear nowhere .1", "own_pictures nowhere"),
        "table nowhere",
    ],
)
def test_a_comment_that_names_nothing_ends_it(comment):
    with pytest.raises(SystemExit, match="error: a page names"):
        results.rendered(f"<!-- measured: {comment} --><!-- end -->")


def test_what_compare_wrote_side_by_side(tmp_path, monkeypatch):
    head = "method,shots,class_iou,class_iou_half_width\n"
    (tmp_path / "a.csv").write_text(f"{head}no_masks,5,0.5,0.1\nmine,5,0.75,0.08\n")
    (tmp_path / "b.csv").write_text(f"{head}no_masks,1,0.25,0.02\nmine,1,0.5,0.01\n")
    (tmp_path / "c.csv").write_text(f"{head}other,1,0.125,0.001\n")
    monkeypatch.setattr(results, "SOURCES", (tmp_path,))
    comment = "<!-- measured: compared class_iou birds=a cups=b+c --><!-- end -->"
    assert results.rendered(comment).splitlines()[2:-2] == [
        "| method | birds, 5-shot | cups, 1-shot |",
        "|---|---|---|",
        "| no masks | 50.0 ± 10.0 % | 25.0 ± 2.0 % |",
        "| mine | 75.0 ± 8.0 % | 50.0 ± 1.0 % |",
        "| other |  | 12.5 ± 0.1 % |",
    ]
    with pytest.raises(SystemExit, match="a page names d, which is in no folder"):
        results.rendered(comment.replace("+c", "+d"))
