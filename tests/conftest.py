"""Every test, and every fixture, starts from a seed of its own.

So the weights of a network that a test builds hang on nothing but the test's name, and
not on what ran before it in the same process. TEST_SEED=1 gives all of them other
weights: a test must hold with any.
"""

import gc
import os
import random
import sys
import zlib

import numpy as np
import pytest

_SEED = int(os.environ.get("TEST_SEED", "0"))


def _seed(name: str) -> None:
    seed = zlib.crc32(f"{name} {_SEED}".encode())
    random.seed(seed)  # what Keras's own seeds are drawn from
    np.random.seed(seed)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(seed)


def pytest_collection_finish():
    # What was imported stays: the garbage collector need not look through it again.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef, request):
    _seed(f"{fixturedef.baseid} {fixturedef.argname} {request.node.name}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    _seed(item.nodeid)


@pytest.fixture(scope="session")
def small_networks():
    """The shipped network that solves, at small sizes, built and compiled once."""
    from efficientlab_tf.api import automatic

    network = automatic._network("photos_closed_form_lite0")
    return tuple(network.at_size(side) for side in (64, 96))


@pytest.fixture
def quick_search(monkeypatch, small_networks):
    """A search at sizes that take no time, with one network: the one that solves."""
    from efficientlab_tf.api import automatic
    from efficientlab_tf.automatic import candidates

    name = small_networks[0].name
    monkeypatch.setattr(candidates, "USUAL_SIDES", (256,))
    monkeypatch.setattr(automatic, "_sized", {name: small_networks}.get)
    monkeypatch.setattr(automatic, "shipped", lambda: {name: ""})
