import pytest

from loopback.loopback_client import running


@pytest.fixture
def api():
    with running() as api:
        yield api
