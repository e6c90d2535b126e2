"""Programs that hand out credentials (`credential_process`) end with the attempt that asked them.

aiobotocore starts such a program and lets it run when nobody waits for it any more: one that hangs would outlive the command,
and each new attempt would add another.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

METHOD = "custom-process"
"""botocore's name of this source of credentials."""

_REAP_S = 1.0  # a program that is killed ends at once, but for one that waits for a dead disk


def tie_programs(session: AioSession) -> None:
    """Let the programs that a session starts end with the attempt; also those whose keys are used to assume a role."""
    from aiobotocore.credentials import AioProcessProvider, AioProfileProviderBuilder

    class Builder(AioProfileProviderBuilder):  # type: ignore[misc]
        def _create_process_provider(self, profile_name: str) -> AioProcessProvider:
            return AioProcessProvider(profile_name=profile_name, load_config=lambda: session.full_config, popen=_start)

    resolver = session.get_component("credential_provider")
    builder = Builder(session, cache=resolver.get_provider("assume-role").cache)
    resolver.get_provider("assume-role")._profile_provider_builder = builder  # noqa: SLF001 - there is no other way in
    resolver.get_provider(METHOD)._popen = _start  # noqa: SLF001 - the same


class _Program:
    """A program that runs, as far as aiobotocore looks at it.

    Args:
        process: the program.
        leads: it has a session of its own, so that what it started can be ended with it.
    """

    def __init__(self, process: asyncio.subprocess.Process, *, leads: bool) -> None:
        self._process = process
        self._leads = leads

    @property
    def returncode(self) -> int | None:
        """Its exit code; None: it runs."""
        return self._process.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        """Wait for its end and answer what it wrote to stdout and stderr; cancelled, it is killed."""
        try:
            return await self._process.communicate()
        except asyncio.CancelledError:
            self._kill()
            with suppress(TimeoutError):
                async with asyncio.timeout(_REAP_S):
                    await self._process.wait()
            raise

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # it has ended; it has become somebody else
            if self._leads:
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()


async def _start(*words: str, **how: Any) -> _Program:
    """Start a program; in a session of its own, but where there is a terminal, on which it may ask for a code."""
    leads = not _has_terminal()
    return _Program(await asyncio.create_subprocess_exec(*words, **how, start_new_session=leads), leads=leads)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
