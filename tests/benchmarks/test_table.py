"""`make benchmark`: what is measured, and where it is written."""

import keras

from benchmarks import table
from tools.benchmark import BENCHMARKS


def test_the_page_has_all_that_is_measured():
    page = table.PAGE.read_text(encoding="utf-8")
    for command in table.COMMANDS:
        assert command.split()[0] in BENCHMARKS
        assert f"`python tools/benchmark.py {command}`" in page


def test_only_what_stands_between_the_comments_is_replaced():
    page = "a\n<!-- make benchmark -->\nold\n<!-- end -->\nz\n"
    once = table.filled(page, r"new \1")
    assert once == "a\n<!-- make benchmark -->\n\nnew \\1\n\n<!-- end -->\nz\n"
    assert table.filled(once, r"new \1") == once


def test_the_machine_is_named_with_its_versions():
    assert f"keras {keras.__version__}, numpy" in table.machine()
