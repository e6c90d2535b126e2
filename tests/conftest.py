"""What all tests share: the option that runs them over both HTTP clients."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """By default aiohttp gets the door's own tests, a part of the contract and a sample of the faults; lean gets all."""
    parser.addoption(
        "--all-doors", action="store_true", help="run the contract and the fault matrix over both HTTP clients, whole"
    )
