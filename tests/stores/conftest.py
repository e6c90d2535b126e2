"""What tests of connections share."""

from __future__ import annotations

import gc

import pytest
from talkers import WAYS


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left():
    """What was not closed is found by the collector, and warnings are errors."""
    yield
    gc.collect()


@pytest.fixture(params=WAYS)
def way(request):
    """An event loop, and plain or TLS."""
    return request.param
