"""One `nox` run does what CI does: lint, types, layers, and the tests from the built wheel."""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "venv"
nox.options.sessions = ["static", "tests"]
nox.options.error_on_missing_interpreters = False
nox.options.stop_on_first_error = True

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


@nox.session
def static(session: nox.Session) -> None:
    """Lint, types and layers, which need one environment, and the installation of the package is most of their time."""
    session.install("-q", ".[lint]", "nox")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")
    session.run("lint-imports", "--cache-dir", ".import_linter_cache")


@nox.session
def tests(session: nox.Session) -> None:
    run_tests(session)


@nox.session(python=PYTHONS, name="tests-all")
def tests_all(session: nox.Session) -> None:
    run_tests(session)


def run_tests(session: nox.Session) -> None:
    """Test the wheel that users get, not the source tree."""
    wheels = session.create_tmp()
    session.run("python", "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", wheels, ".")
    session.install("-q", "--find-links", wheels, "heavysync[test]")
    session.run("pytest", "-n", "3", "--dist", "worksteal", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    session.install("-q", ".[bench]")
    session.run("python", "benchmarks/bench.py", *session.posargs)
