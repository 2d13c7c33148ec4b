"""Damaged and hostile inputs: each ends in a result, or in one sentence."""

import random

import pytest

from efficientlab_tf.errors import UserError
from tests.mutations import READERS

COUNTS = {"models": 4, "datasets": 6}
COUNT = 25


@pytest.mark.parametrize("name", READERS)
def test_readers_of_damaged_files(tmp_path, name):
    read = READERS[name](tmp_path)
    generator = random.Random(name)
    refused = 0
    for _ in range(COUNTS.get(name, COUNT)):
        try:
            read(generator)
        except UserError as error:
            refused += 1
            assert len(str(error).encode()) < 1000
    assert refused, "nothing was damaged"
