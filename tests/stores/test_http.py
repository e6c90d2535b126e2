"""The door: one request in, one whole answer out, or a typed error; over either client."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
import subprocess

import pytest
from wire_server import Answer, answer, wire_server

from heavysync.errors import FatalError, TransientError
from heavysync.stores.http import PROGRESS, Door, OversizeError


@pytest.fixture(autouse=True, params=["lean", "aiohttp"])
def client(request, monkeypatch):
    """All of this holds over both clients."""
    monkeypatch.setitem(Door.__init__.__kwdefaults__, "client", request.param)
    return request.param


def talk(test, *answers, **how):
    """Run `test(door, server)` against a server of these answers."""

    async def main():
        async with wire_server(*answers) as server, Door(**{"connections": 4, "stall_s": 0.3, **how}) as door:
            return await test(door, server)

    try:
        return asyncio.run(main())
    finally:
        gc.collect()


def test_answer_arrives_whole():
    """Status, headers and body come through; names of headers in lower case, several of one name as one."""

    async def test(door, server):
        response = await door.request("GET", server.url + "/k", {}, limit=100)
        assert (200, b"hello", 5) == (response.status, response.body, response.size)
        assert response.headers == {"content-length": "5", "x-some": "v", "x-hash": "a=1, b=2"}
        with pytest.raises(OversizeError) as caught:
            await door.request("GET", server.url + "/k", {}, limit=4)
        assert caught.value.headers["x-hash"] == "a=1, b=2"

    talk(test, answer(200, b"hello", X_Some="v", x_hash="a=1", X_HASH="b=2"))


def test_nothing_is_added_to_a_request():
    """Only what was given goes out, and what HTTP itself needs: a signature covers the rest."""

    async def test(door, server):
        await door.request("PUT", server.url + "/b/..//%2B%20?a=%2F&b=", {"x-a": "1"}, [b"xy"], limit=100)
        request = server.requests[0]
        assert request.target == "/b/..//%2B%20?a=%2F&b="
        assert request.body == b"xy"
        assert {"host", "content-length", "x-a"} == set(request.headers) - {"connection"}

    talk(test, answer())


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST"])
def test_no_request_is_sent_twice(method):
    """A kept connection that turns out dead costs the request, and is not answered with a silent replay."""

    async def test(door, server):
        await door.request("GET", server.url, {}, limit=10)
        with pytest.raises(TransientError):
            await door.request(method, server.url, {}, limit=10)
        assert ["GET", method] == [request.method for request in server.requests]

    talk(test, answer(), Answer(then="close"))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(status):
    """A redirect is an answer like any other: the body and the signature go nowhere else."""

    async def test(door, server):
        response = await door.request("PUT", server.url, {}, [b"x"], limit=10)
        assert status == response.status
        assert len(server.requests) == 1

    talk(test, answer(status, location="http://127.0.0.1:1/other"))


def test_gzip_is_not_decoded():
    """Bytes arrive as they are stored."""

    async def test(door, server):
        response = await door.request("GET", server.url, {}, limit=10)
        assert response.body == b"notgzip"

    talk(test, answer(200, b"notgzip", content_encoding="gzip"))


@pytest.mark.parametrize("then", ["close", "reset"])
def test_cut_body_is_transient(then):
    """A body shorter than announced never counts."""

    async def test(door, server):
        with pytest.raises(TransientError):
            await door.request("GET", server.url, {}, limit=10)

    talk(test, Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", then))


def test_cut_chunked_body_is_transient():
    """Nor does one without its last chunk."""

    async def test(door, server):
        with pytest.raises(TransientError):
            await door.request("GET", server.url, {}, limit=10)

    talk(test, Answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", "close"))


def test_unframed_body_is_transient():
    """A body that ends with the connection may have been cut anywhere."""

    async def test(door, server):
        with pytest.raises(TransientError, match="where it ends"):
            await door.request("GET", server.url, {}, limit=10)

    talk(test, Answer(b"HTTP/1.1 200 OK\r\n\r\nwhole?", "close"))


def test_too_much_is_not_read():
    """More than was asked for is an error that shows the headers, announced or not."""

    async def test(door, server):
        for _ in range(2):
            with pytest.raises(OversizeError) as caught:
                await door.request("GET", server.url, {}, limit=4)
            assert caught.value.headers["etag"] == "e"

    chunked = b"HTTP/1.1 200 OK\r\netag: e\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    talk(test, answer(200, b"12345", etag="e"), Answer(chunked))


def test_errors_may_be_longer_than_the_answer_asked_for():
    """The text of an error is read even where one byte was asked for."""

    async def test(door, server):
        response = await door.request("GET", server.url, {}, limit=1)
        assert response.body == b"sorry"

    talk(test, answer(503, b"sorry"))


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"])
def test_silent_server_ends_a_download(data):
    """No byte for the stall time, before or within the answer."""

    async def test(door, server):
        with pytest.raises(TransientError, match="too little moved"):
            await door.request("GET", server.url, {}, limit=10)

    talk(test, Answer(data, "hang"))


def test_deaf_server_ends_an_upload():
    """A server that stops reading does not hold a request for ever."""

    async def test(door, server):
        with pytest.raises(TransientError, match="too little moved"):
            await door.request("PUT", server.url, {}, [bytes(64 << 20)], limit=10)

    talk(test, Answer(then="hang", reads_body=False))


def test_yes_before_all_was_sent_is_none():
    """It can only answer another request, as a repeated answer does; the bytes are nowhere."""

    async def test(door, server):
        assert (await door.request("PUT", server.url, {}, [b"small"], limit=10)).status == 200
        with pytest.raises(TransientError, match="before it had the whole request"):
            await door.request("PUT", server.url, {}, [bytes(64 << 20)], limit=10)

    talk(test, answer(), Answer(answer().data, "hang", reads_body=False))


def test_large_bodies_wait_for_the_server_on_every_loop(monkeypatch, client):
    """In some versions of Python the loop's own `writelines` takes all at once and never says that it is too much."""
    if client == "aiohttp":
        pytest.skip("aiohttp knows which versions these are, and uses it in all others")
    monkeypatch.setattr("asyncio.selector_events._SelectorSocketTransport.writelines", None)

    async def test(door, server):
        assert (await door.request("PUT", server.url, {}, [bytes(8 << 20)], limit=10)).status == 200

    talk(test, answer())


def test_slow_but_moving_transfers_are_not_cut():
    """Pieces that come now and then, over much more than the stall time, make a whole answer."""

    async def main():
        async def slow(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(4):  # 16 MiB, read slowly
                await reader.readexactly(4 << 20)
                await asyncio.sleep(0.1)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 20480\r\n\r\n")
            for letter in (b"s", b"l", b"o", b"w", b"!"):
                await asyncio.sleep(0.15)
                writer.write(letter * PROGRESS)
            writer.close()

        server = await asyncio.start_server(slow, "127.0.0.1", 0, limit=1 << 16)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, Door(connections=1, stall_s=0.5) as door:
            response = await door.request("PUT", url, {}, [bytes(16 << 20)], limit=5 * PROGRESS)
        await asyncio.sleep(0.01)  # lets the server close its side
        return response

    assert asyncio.run(main()).size == 5 * PROGRESS


def test_trickle_is_a_stall():
    """A byte now and then is no progress: at that rate an object would take years."""

    async def main():
        async def trickle(reader, writer):
            with contextlib.suppress(ConnectionError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
                for _ in range(40):
                    await asyncio.sleep(0.05)
                    writer.write(b".")
                    await writer.drain()
            writer.close()

        server = await asyncio.start_server(trickle, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            async with Door(connections=1, stall_s=0.4) as door:
                with pytest.raises(TransientError, match="too little moved"):
                    await door.request("GET", url, {}, limit=1000)
            await asyncio.sleep(0.2)  # lets the server notice

    asyncio.run(main())


def test_chunks_arrive_as_one_body():
    """Bodies of many and of big chunks have a length and arrive in order."""

    async def test(door, server):
        chunks = [b"", b"a" * 300_000, b"b", b"c" * 700_000]
        await door.request("PUT", server.url, {}, chunks, limit=10)
        await door.request("PUT", server.url, {}, [], limit=10)
        await door.request("PUT", server.url, {}, [b""], limit=10)
        assert [b"".join(chunks), b"", b""] == [request.body for request in server.requests]
        assert ["1000001", "0", "0"] == [request.headers["content-length"] for request in server.requests]

    talk(test, answer())


def test_waiting_for_a_connection_is_no_stall():
    """With one connection, many requests wait their turn, longer than the stall time."""

    async def main():
        async def slow(reader, writer):
            for _ in range(6):
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(0.1)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(slow, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, Door(connections=1, stall_s=0.3) as door, asyncio.TaskGroup() as group:
            tasks = [group.create_task(door.request("GET", url, {}, limit=4)) for _ in range(6)]
        await asyncio.sleep(0.01)  # lets the server close its side
        return [task.result().status for task in tasks]

    assert [200] * 6 == asyncio.run(main())


def test_refused_connection_is_transient():
    """Nobody listens: that passes."""

    async def test(door, server):
        with pytest.raises(TransientError):
            await door.request("GET", "http://127.0.0.1:1/secret?sig=topsecret", {}, limit=4)

    talk(test, answer())


def test_query_stays_out_of_messages():
    """A query can hold signatures and upload credentials."""

    async def test(door, server):
        with pytest.raises(TransientError) as caught:
            await door.request("GET", server.url + "/k?upload_id=topsecret", {}, limit=1)
        assert "topsecret" not in str(caught.value)
        assert "/k" in str(caught.value)

    talk(test, answer(200, b"too long"))


def test_nonsense_is_transient():
    """What is no HTTP at all is an error of the way."""

    async def test(door, server):
        with pytest.raises(TransientError):
            await door.request("GET", server.url, {}, limit=10)

    talk(test, Answer(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "close"))


def test_untrusted_certificate_is_fatal_at_first_contact(tmp_path):
    """A wrong endpoint or a missing authority is said at once, not retried for ever."""
    key, certificate = tmp_path / "k.pem", tmp_path / "c.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    try:
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def main():
        server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0, ssl=context)
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        async with server, Door(connections=1, stall_s=5) as door:
            with pytest.raises(FatalError, match="not trusted"):
                await door.request("GET", url, {}, limit=4)

    asyncio.run(main())
