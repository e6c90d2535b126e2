"""The conformance suite runs once for every store: each test gets a `world` and is an `async def`."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from contract.worlds import WORLDS


@pytest.fixture(scope="session", params=WORLDS, ids=lambda factory: factory.__name__)
def world(request):
    """One store and the server behind it, started when the first test asks and ended after the last."""
    with request.param() as made:
        yield made


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run an `async def` test in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
