"""The lean client meets what can go wrong on a wire, over both event loops, plain and with TLS: a whole answer or a typed error."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random

import pytest
from talkers import repeating, serving, sized, talked

from heavysync.errors import FatalError, PermanentError, TransientError
from heavysync.stores import exchange, lean, lean_answer
from heavysync.stores.http import Door, OversizeError

OK = sized(b"hello")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HEAD_200 = b"HTTP/1.1 200 OK\r\n"


async def get(door, server, limit=1 << 20, method="GET"):
    return await door.request(method, server.url + "/k?secret=1", {"x-a": "b"}, limit=limit)


WHOLE = {
    "Content-Length": (OK, b"hello"),
    "chunks": (CHUNKED + b"3\r\nhel\r\n2;name=value\r\nlo\r\n0\r\n\r\n", b"hello"),
    "chunks and trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nETag: forged\r\n\r\n", b"hello"),
    "empty": (sized(), b""),
    "after 100 and 103": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\nETag: early\r\n\r\n" + OK,
        b"hello",
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "304": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b""),
    "an error": (sized(b"sorry", status="503 Slow Down"), b"sorry"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_answers_keep_the_connection(name, way):
    """What ends by the book is answered exactly, trailers and hints left out, and the connection is used again."""
    data, body = WHOLE[name]

    async def test(door, server):
        for _ in range(3):
            response = await get(door, server)
            assert response.body == body
            assert "etag" not in response.headers
            assert "link" not in response.headers
        assert (len(server.peers), server.requests) == (1, 3)

    talked(way, repeating(data), test)


ENDING = {
    "Connection: close": sized(b"hello", "Connection: close"),
    "HTTP/1.0": OK.replace(b"1.1", b"1.0", 1),
    "an error without an end": b"HTTP/1.1 500 No\r\n\r\nhello",
    "an answer twice": OK + OK,
    "a byte too many": OK + b"x",
    "bytes that are no HTTP": OK + b"\0\0\0",
    "an empty line": OK + b"\r\n\r\n" + OK,
}


@pytest.mark.parametrize("name", ENDING)
def test_connections_that_must_not_be_used_again_are_not(name, way):
    """The answer counts, but the next request goes over a new connection."""

    async def talk(peer):
        await peer.request()
        await peer.say(ENDING[name])
        if name == "an error without an end":
            peer.close()
        assert await peer.ended()

    async def test(door, server):
        for number in range(1, 3):
            response = await get(door, server)
            assert response.body == b"hello"
            assert len(server.peers) == number

    talked(way, talk, test)


BROKEN = {
    "no answer": b"",
    "half a status line": b"HTTP/1.1 20",
    "half a head": HEAD_200 + b"Content-Le",
    "half a body": sized(b"hello")[:-2],
    "half a chunk": CHUNKED + b"5\r\nhel",
    "no last chunk": CHUNKED + b"5\r\nhello\r\n",
    "half a trailer": CHUNKED + b"5\r\nhello\r\n0\r\nETag: f",
    "no framing": HEAD_200 + b"\r\nhello",
    "HTTP/0.9": b"hello",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "only 100": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@pytest.mark.parametrize("then", ["close", "cut", "reset"])
@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_come_to_its_end_is_an_error(name, then, way):
    """Ended politely or cut, also under TLS: never an answer, and never asked a second time by itself."""

    async def talk(peer):
        await peer.request()
        await peer.say(BROKEN[name])
        await asyncio.sleep(0.01)
        getattr(peer, then)()

    async def test(door, server):
        with pytest.raises(TransientError) as caught:
            await get(door, server)
        assert "secret" not in str(caught.value)
        assert server.requests == 1

    talked(way, talk, test)


STRICT = {
    "CL and TE": HEAD_200 + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "two CL": HEAD_200 + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "CL of nonsense": HEAD_200 + b"Content-Length: five\r\n\r\nhello",
    "negative CL": HEAD_200 + b"Content-Length: -5\r\n\r\nhello",
    "huge CL": HEAD_200 + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    "space before colon": HEAD_200 + b"Content-Length : 5\r\n\r\nhello",
    "folded header": HEAD_200 + b"A: b\r\n c\r\nContent-Length: 5\r\n\r\nhello",
    "NUL in a header": HEAD_200 + b"A: b\0c\r\nContent-Length: 5\r\n\r\nhello",
    "gzip, chunked": HEAD_200 + b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunk size of nonsense": CHUNKED + b"z\r\nhello\r\n0\r\n\r\n",
    "chunk longer than it says": CHUNKED + b"3\r\nhello\r\n0\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("name", STRICT)
def test_odd_answers_name_the_switch(name, way):
    """What two readers could read in two ways is refused; a server that is always like that can be read by aiohttp."""

    async def talk(peer):
        await peer.request()
        await peer.say(STRICT[name])
        assert await peer.ended()

    async def test(door, server):
        with pytest.raises(TransientError, match="--http-client aiohttp"):
            await get(door, server)

    talked(way, talk, test)


LINE = b"X-A: " + b"a" * 8000 + b"\r\n"
ENDLESS = {
    "a status line": (b"HTTP/1.1 200 ", b"a" * 10_000),
    "a header": (HEAD_200 + b"A: ", b"a" * 10_000),
    "headers": (HEAD_200, LINE),
    "small headers": (HEAD_200, b"a: b\r\n" * 1000),
    "answers 1xx": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "a chunk extension": (CHUNKED + b"1;", b"a" * 10_000),
    "a trailer": (CHUNKED + b"1\r\nx\r\n0\r\nA: ", b"a" * 10_000),
    "trailers": (CHUNKED + b"1\r\nx\r\n0\r\n", LINE),
    "a body": (CHUNKED, b"400\r\n" + b"a" * 1024 + b"\r\n"),
    "an error's body": (CHUNKED.replace(b"200 OK", b"500 No"), b"10000\r\n" + b"a" * 65536 + b"\r\n"),
    "a body without framing": (HEAD_200.replace(b"200 OK", b"500 No") + b"\r\n", b"a" * 65536),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_nothing_is_read_without_end(name, way):
    """Heads, hints, extensions, trailers and bodies are bounded, whatever the server sends."""
    first, more = ENDLESS[name]
    sent = [0]

    async def talk(peer):
        await peer.request()
        await peer.say(first)
        while True:
            await peer.say(more)
            sent[0] += len(more)
            await asyncio.sleep(0)

    async def test(door, server):
        with pytest.raises(TransientError, match="more than"):
            await get(door, server, limit=100_000)

    talked(way, talk, test)
    assert sent[0] < 8 << 20


def test_too_much_shows_the_headers(way):
    """Announced or not."""

    async def test(door, server):
        for _ in range(2):
            with pytest.raises(OversizeError, match="more than 4 bytes") as caught:
                await get(door, server, limit=4)
            assert caught.value.headers["etag"] == "e"

    talked(
        way,
        repeating(
            sized(b"hello", "ETag: e"), CHUNKED.replace(b"\r\n\r\n", b"\r\nETag: e\r\n\r\n") + b"5\r\nhello\r\n0\r\n\r\n"
        ),
        test,
    )


HEADS = {
    "length": (sized(b"hello")[:-5], 1),
    "chunks": (CHUNKED, 1),
    "half a chunk all the same": (CHUNKED + b"5", 2),
    "no framing": (HEAD_200 + b"\r\n", 2),
    "a body all the same": (OK, 2),
    "twice": (OK[:-5] * 2, 2),
    "twice, empty": (sized() * 2, 2),
}


@pytest.mark.parametrize("name", HEADS)
def test_answer_to_head_has_no_body(name, way):
    """Whatever the headers say; where bytes follow or the end would be unknown, the connection is not used again."""
    data, connections = HEADS[name]

    async def test(door, server):
        for _ in range(2):
            response = await get(door, server, method="HEAD")
            assert (response.status, response.chunks) == (200, [])
        assert len(server.peers) == connections

    talked(way, repeating(data), test)


def test_headers_of_one_name_are_joined(way):
    """As Google sends its hashes; names are in lower case, however they come."""

    async def test(door, server):
        headers = (await get(door, server)).headers
        assert headers["x-goog-hash"] == "crc32c=a, md5=b"
        assert headers["x-umlaut"].encode() == "ü".encode()
        assert headers["x-latin"].encode("utf-8", "surrogateescape") == b"\xfc"
        assert headers.keys() == {"content-length", "x-goog-hash", "x-umlaut", "x-latin"}

    lines = ("x-goog-hash: crc32c=a", "X-Goog-Hash: md5=b", "X-Umlaut: ü")
    data = sized(b"", *lines).replace(b"X-Umlaut", b"X-Latin: \xfc\r\nX-Umlaut")
    talked(way, repeating(data), test)


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("/a b", {}),
        ("/a\r\nX: y", {}),
        ("/ü", {}),
        ("/a\0", {}),
        ("/k", {"a": "b\r\nX-Forged: y"}),
        ("/k", {"a": "b\nX-Forged: y"}),
        ("/k", {"a": "b\rc"}),
        ("/k", {"a": "b\0"}),
        ("/k", {"a\r\nX-Forged": "b"}),
        ("/k", {"a:": "b"}),
        ("/k", {"": "b"}),
        ("/k", {"a": "\udc80"}),
    ],
)
def test_nothing_slips_into_a_request(url, headers):
    """What could begin another line, or another request, is refused before anything is sent."""

    async def test(door, server):
        with pytest.raises(PermanentError):
            await door.request("GET", server.url + url, headers, limit=10)
        assert server.requests == 0

    talked("uvloop-plain", repeating(OK), test)


@pytest.mark.parametrize(
    "url", ["http://", "http://a:b", "http://a:99999999", "ftp://a/", "http://user@a/", "a", "http://a b/"]
)
def test_malformed_addresses_are_refused(url):
    """As errors of the object that they belong to."""

    async def test(door, server):
        with pytest.raises(PermanentError, match="malformed"):
            await door.request("GET", url, {}, limit=10)

    talked("uvloop-plain", repeating(OK), test)


@pytest.mark.parametrize("then", ["reads on", "is deaf", "hesitates"])
def test_early_refusal_ends_the_upload(then, way):
    """A server that refuses before it has read the body is listened to; its connection is closed."""
    size = 32 << 20
    read = [0]

    async def talk(peer):
        await peer.head()
        refusal = sized(b"no", status="403 Forbidden")
        await peer.say(refusal[:-1])
        if then == "hesitates":  # all that was sent is taken before the answer is complete
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    while data := await peer.reader.read(1 << 20):
                        read[0] += len(data)
        await peer.say(refusal[-1:])
        if then == "reads on":
            while data := await peer.reader.read(1 << 16):
                read[0] += len(data)
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(60)

    async def test(door, server):
        response = await door.request("PUT", server.url, {}, [bytes(size)], limit=100)
        assert (response.status, response.body) == (403, b"no")
        await asyncio.sleep(0.02)
        assert read[0] < size
        response = await door.request("PUT", server.url, {}, [b"x"], limit=100)
        assert len(server.peers) == 2

    talked(way, talk, test)


def test_bodies_arrive_exactly(way):
    """Large and ragged chunks, both ways, through a server that reads and writes in random pieces."""
    noise = random.Random(5)
    chunks = [noise.randbytes(noise.choice([0, 1, 999, 70_000, 300_000, 1_500_000])) for _ in range(12)]
    body = b"".join(chunks)

    async def talk(peer):
        dice = random.Random(7)
        while True:
            size = int((await peer.head()).lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            got = b""
            while len(got) < size:
                got += await peer.reader.read(dice.choice([100, 10_000, 1 << 20]))
                if dice.random() < 0.1:
                    await asyncio.sleep(0.001)
            await peer.say(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
            while got:
                piece = dice.choice([100, 10_000, 1 << 18])
                await peer.say(got[:piece])
                got = got[piece:]
                if dice.random() < 0.1:
                    await asyncio.sleep(0.001)

    async def test(door, server):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(door.request("PUT", server.url, {}, chunks, limit=len(body))) for _ in range(3)]
        for task in tasks:
            assert hashlib.sha256(task.result().body).digest() == hashlib.sha256(body).digest()
        relayed = await door.request("PUT", server.url, {}, tasks[0].result().chunks, limit=len(body))
        assert relayed.body == body

    talked(way, talk, test)


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200", sized(b"hello")[:-1], CHUNKED + b"5\r\nhel", b"HTTP/1.1 100 Continue\r\n\r\n"]
)
def test_silence_is_a_stall(said, way, monkeypatch):
    """Before and within each part of an answer."""
    monkeypatch.setattr(lean, "LOOK_S", 0.05)

    async def talk(peer):
        await peer.request()
        await peer.say(said)
        assert await peer.ended()

    async def test(door, server):
        with pytest.raises(TransientError, match=r"too little moved for 0\.1 s"):
            await get(door, server)

    talked(way, talk, test, stall_s=0.1)


def test_one_byte_now_and_then_is_a_stall(way, monkeypatch):
    """In a head, in a body, in hints: only PROGRESS bytes, or a whole head, count."""
    monkeypatch.setattr(lean, "LOOK_S", 0.02)
    starts = [b"HTTP/1.1 200 OK\r\nA: ", HEAD_200 + b"Content-Length: 1000\r\n\r\n"]

    async def talk(peer):
        await peer.request()
        await peer.say(starts[peer.number - 1])
        while True:
            await peer.say(b"x", pause=0.02)

    async def test(door, server):
        for _ in starts:
            with pytest.raises(TransientError, match="too little moved"):
                await get(door, server)

    talked(way, talk, test, stall_s=0.2)


def test_stop_hurries_what_hangs(way, monkeypatch):
    """Once the run stops, an exchange and a handshake that hang have STOPPING_S left."""
    monkeypatch.setattr(lean, "LOOK_S", 0.02)
    monkeypatch.setattr(lean, "STOPPING_S", 0.1)
    stopping = asyncio.Event()

    async def talk(peer):
        await peer.request()
        await asyncio.sleep(60)

    async def mute(peer):
        await asyncio.sleep(60)

    async def test(door, server):
        async with serving(mute) as silent, asyncio.timeout(5):
            other = silent.url.replace("http:", server.url.partition("//")[0])
            errors = []

            async def ask(url):
                with pytest.raises(TransientError, match="too little moved") as caught:
                    await door.request("GET", url, {}, limit=10)
                errors.append(caught.value)

            async with asyncio.TaskGroup() as group:
                group.create_task(ask(server.url))
                group.create_task(ask(other))
                await asyncio.sleep(0.05)
                stopping.set()
        assert len(errors) == 2

    talked(way, talk, test, stall_s=60.0, stopping=stopping)


MOMENTS = {
    "before the head": b"",
    "within the head": b"HTTP/1.1 200",
    "within the body": sized(b"hello")[:-1],
}


@pytest.mark.parametrize("moment", [*MOMENTS, "while sending"])
def test_cancelled_request_leaves_nothing(moment, way):
    """Its connection is cut at once and never used again; the next request gets its own answer."""
    ended = []

    async def talk(peer):
        if peer.number > 1:
            await peer.request()
            await peer.say(OK)
            return
        await peer.head()
        if moment == "while sending":
            await asyncio.sleep(0.05)
        else:
            await peer.say(MOMENTS[moment])
        ended.append(await peer.ended())

    async def test(door, server):
        body = [bytes(32 << 20)] if moment == "while sending" else []
        task = asyncio.get_running_loop().create_task(door.request("PUT", server.url, {}, body, limit=100))
        while not server.requests:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await get(door, server)).body == b"hello"
        async with asyncio.timeout(5):
            while not ended:
                await asyncio.sleep(0.001)
        assert ended == [True]
        assert len(server.peers) == 2

    talked(way, talk, test, connections=1)


def test_bytes_on_an_idle_connection_end_it(way):
    """Also where they are still on their way through the event loop when the next request begins."""

    async def talk(peer):
        await peer.request()
        await peer.say(sized(b"first"))
        await asyncio.sleep(0.01)
        await peer.say(sized(b"forged"))
        while True:
            await peer.request()
            await peer.say(sized(b"second"))

    async def test(door, server):
        assert (await get(door, server)).body == b"first"
        await asyncio.sleep(0.02)
        assert (await get(door, server)).body == b"first"
        assert len(server.peers) == 2

    talked(way, talk, test)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
def test_dead_connection_costs_one_attempt_and_no_second_sending(method, way):
    """The server takes the request on a kept connection and dies: an error, and nothing is sent again."""

    async def talk(peer):
        await peer.request()
        await peer.say(OK)
        await peer.request()
        peer.cut()

    async def test(door, server):
        await get(door, server)
        with pytest.raises(TransientError):
            await door.request(method, server.url, {}, [b"x"], limit=10)
        await asyncio.sleep(0.01)
        assert server.requests == 2

    talked(way, talk, test)


def test_certificate_is_verified():
    """By name and by authority: fatal at the first contact, in passing once the server was known."""

    async def test(door, server):
        wrong = server.url.replace("127.0.0.1", "127.0.0.2")
        with pytest.raises(FatalError, match="not trusted"):
            await door.request("GET", wrong, {}, limit=10)
        assert (await get(door, server)).body == b"hello"
        with pytest.raises(TransientError, match="certificate"):
            await door.request("GET", wrong, {}, limit=10)
        assert all(not peer.heads for peer in server.peers[2:])

    async def unknown(_, server):
        async with Door(connections=1) as door:
            with pytest.raises(FatalError, match="not trusted.*self-signed"):
                await get(door, server)

    for way in ("asyncio-tls", "uvloop-tls"):
        talked(way, repeating(OK), unknown)
        _on_all_addresses(way, test)


def _on_all_addresses(way, test):
    """The server listens on one address only; the other one leads to it by a relay that passes bytes on."""

    async def wrapped(door, server):
        port = int(server.url.rpartition(":")[2])

        async def relay(reader, writer):
            there_reader, there = await asyncio.open_connection("127.0.0.1", port)

            async def pump(source, sink):
                while data := await source.read(1 << 16):
                    sink.write(data)
                sink.close()

            async with asyncio.TaskGroup() as group:
                group.create_task(pump(reader, there))
                group.create_task(pump(there_reader, writer))

        async with await asyncio.start_server(relay, "127.0.0.2", port):
            await test(door, server)

    talked(way, repeating(OK), wrapped)


def test_limits_are_those_of_both_clients():
    """What is documented of the door holds for the lean client, too."""
    assert exchange.PROGRESS * 4 <= lean_answer.HEAD_LIMIT <= exchange.PIECE
