"""How long the tests of what is promised go on."""

import pytest


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=12, help="of a training")
    parser.addoption("--command_kills", type=int, default=1, help="of each command")
    parser.addoption("--kill_seed", type=int, default=0, help="of their moments")
    parser.addoption("--soak_steps", type=int, default=150, help="of a long training")
    parser.addoption("--load_seconds", type=float, default=4, help="of many clients")
    parser.addoption("--pictures", type=int, default=400, help="of a long `segment`")


@pytest.fixture
def option(request):
    """Reads an option; without one of them these files may be among others."""
    return lambda name, default: request.config.getoption(name, default)
