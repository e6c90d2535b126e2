"""Google credentials: found, proven at start, refreshed once for all, and never a riddle when they fail."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from heavysync.errors import FatalError, TransientError
from heavysync.loopback import LoopbackGcs
from heavysync.objects import Location
from heavysync.stores.gcs import open_gcs
from heavysync.stores.gcs_auth import open_credentials
from heavysync.stores.gcs_wire import GcsOptions


class _TokenServer:
    """Hands out numbered tokens; `status` makes it refuse, `gate` makes it slow."""

    def __init__(self):
        self.given, self.status, self.expires_in = 0, 200, 3600
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self, _request):
        await self.gate.wait()
        if self.status != 200:
            return web.json_response({"error": "invalid_grant"}, status=self.status)
        self.given += 1
        return web.json_response({"access_token": f"token{self.given}", "expires_in": self.expires_in})


@asynccontextmanager
async def _tokens(tmp_path):
    """A token server, and a credentials file that names it."""
    server = _TokenServer()
    runner = web.AppRunner(_app(server))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    file = tmp_path / "credentials.json"
    file.write_text(
        json.dumps(
            {
                "type": "authorized_user",
                "client_id": "id",
                "client_secret": "secret",
                "refresh_token": "refresh",
                "token_uri": f"http://127.0.0.1:{port}/token",
            }
        )
    )
    try:
        yield server, str(file)
    finally:
        server.gate.set()
        await runner.cleanup()


def _app(server):
    app = web.Application()
    app.router.add_post("/token", server.answer)
    return app


def _open(file):
    return open_credentials(file, ca_bundle=None, trust_env=False)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"type": "nonsense"}', None])
def test_broken_file_is_named_and_never_passed_over(tmp_path, text):
    """A file that is missing, cut or of no known type ends the run with its name in the message."""
    file = tmp_path / "broken.json"
    if text is not None:
        file.write_text(text)

    async def body():
        with pytest.raises(FatalError, match=r"broken\.json"):
            async with _open(str(file)):
                pass

    asyncio.run(body())


def test_file_named_by_the_environment_is_used(tmp_path, monkeypatch):
    """GOOGLE_APPLICATION_CREDENTIALS counts, also when it names nothing that exists."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))

    async def body():
        with pytest.raises(FatalError, match=r"missing\.json"):
            async with _open(None):
                pass

    asyncio.run(body())


def test_one_refresh_serves_all_who_wait(tmp_path):
    """A hundred requests that need a token at once fetch one."""

    async def body():
        async with _tokens(tmp_path) as (server, file), _open(file) as credentials:
            assert server.given == 1
            credentials._ends_at = 0.0
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(credentials.header()) for _ in range(100)]

            assert {"Bearer token2"} == {task.result() for task in tasks}
            assert server.given == 2

    asyncio.run(body())


def test_cancelling_one_who_waits_spares_the_others(tmp_path):
    """The one whose task refreshes is cancelled; the next one refreshes instead."""

    async def body():
        async with _tokens(tmp_path) as (server, file), _open(file) as credentials:
            credentials._ends_at = 0.0
            server.gate.clear()
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(credentials.header()) for _ in range(4)]
                await asyncio.sleep(0.05)
                tasks[0].cancel()
                server.gate.set()

            assert tasks[0].cancelled()
            assert 1 == len({task.result() for task in tasks[1:]})

    asyncio.run(body())


def test_refused_grant_is_fatal_and_an_outage_is_not(tmp_path):
    """Revoked credentials end the run; a token server that is down for a while does not, nor spoils a live token."""

    async def body():
        async with _tokens(tmp_path) as (server, file), _open(file) as credentials:
            server.status = 503
            credentials._ends_at -= 3400
            assert await credentials.header() == "Bearer token1"
            credentials._ends_at = 0.0
            with pytest.raises(TransientError):
                await credentials.header()
            server.status = 400
            with pytest.raises(FatalError):
                await credentials.header()

    asyncio.run(body())


def test_token_refused_in_mid_run_is_fetched_anew_and_a_second_refusal_is_fatal(tmp_path):
    """401 after a success means refresh; 401 to a fresh token means wrong credentials."""

    async def body():
        async with _tokens(tmp_path) as (_, file), _open(file) as credentials:
            header = await credentials.header()
            credentials.accepted(header)

            assert isinstance(credentials.refused(header, ""), TransientError)
            assert isinstance(credentials.refused(header, "from another task"), TransientError)
            fresh = await credentials.header()
            assert fresh != header
            assert isinstance(credentials.refused(header, "late"), TransientError)
            assert isinstance(credentials.refused(fresh, ""), FatalError)

    asyncio.run(body())


def test_server_that_wants_credentials_is_told_apart():
    """An anonymous request that is answered 401 says so."""

    async def body():
        async with LoopbackGcs() as server:
            server.create_bucket("bucket-b")
            server.state.settings.require_auth = True
            options = GcsOptions(endpoint_url=server.url, anonymous=True)
            async with open_gcs(Location(scheme="gs", bucket="bucket-b"), options, connections=1) as store:
                with pytest.raises(FatalError, match="credentials"):
                    await store.list_page(None, None)

    asyncio.run(body())
