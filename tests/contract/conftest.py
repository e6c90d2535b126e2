"""The conformance suite runs once for every store and HTTP client: each test gets a `world` and is an `async def`."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import ExitStack

import pytest

from contract.worlds import ON_A_WIRE, OVER_BOTH, WORLDS


def pytest_generate_tests(metafunc):
    """Each store over the lean client; those on a wire over aiohttp, too: by default one of each kind."""
    if "world" in metafunc.fixturenames:
        whole = metafunc.config.getoption("all_doors")
        cases = [(factory, "lean") for factory in WORLDS]
        cases += [(factory, "aiohttp") for factory in (ON_A_WIRE if whole else OVER_BOTH)]
        ids = [factory.__name__ + ("-aiohttp" if client == "aiohttp" else "") for factory, client in cases]
        metafunc.parametrize("world", cases, ids=ids, indirect=True)


@pytest.fixture(scope="session")
def _worlds():
    """Those that were asked for so far, by factory; their servers end with the last test."""
    with ExitStack() as stack:
        yield stack, {}


@pytest.fixture
def world(request, _worlds):
    """One store and the server behind it."""
    factory, client = request.param
    stack, made = _worlds
    if factory not in made:
        made[factory] = stack.enter_context(factory())
    made[factory].client = client
    return made[factory]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run an `async def` test in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
