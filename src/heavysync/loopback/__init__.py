"""A faithful Google Cloud Storage JSON API in memory, for demo, tests and benchmarks. Start at `server`."""

from heavysync.loopback.model import Settings
from heavysync.loopback.rules import Rule
from heavysync.loopback.server import LoopbackGcs

__all__ = ["LoopbackGcs", "Rule", "Settings"]
