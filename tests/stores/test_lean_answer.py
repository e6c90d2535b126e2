"""Bytes become a whole answer or a typed failure: cut anywhere, mutated anyhow, and read by two others for comparison."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from talkers import serving, sized

from heavysync.errors import TransientError
from heavysync.stores.http import Door
from heavysync.stores.lean_answer import HEADERS_MOST, Answer

LIMIT = 1 << 20

MESSAGES = {
    "length": b'HTTP/1.1 206 Partial Content\r\nContent-Length: 11\r\nETag: "e"\r\nX-Empty:\r\n\r\nhello world',
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n \r\n005\r\nworld\r\n0\r\nEtag: forged\r\nb: c\r\n\r\n",
    "hints": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hi\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "error": b"HTTP/1.1 503 Slow Down\r\nRetry-After: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n",
    "empty": b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n",
}


def read(*pieces: bytes, limit: int = LIMIT, is_to_head: bool = False) -> Answer:
    """Feed an answer as the loop does: what a buffer held is overwritten afterwards."""
    answer = Answer(limit, is_to_head=is_to_head)
    for piece in pieces:
        buffer = bytearray(piece)
        answer.feed(memoryview(buffer))
        buffer[:] = b"?" * len(piece)
    return answer


def told(answer: Answer):
    """All that an answer says."""
    return (
        answer.is_over,
        answer.failure,
        answer.status,
        dict(answer.headers),
        b"".join(answer.chunks),
        answer.keeps,
        answer.has_surplus,
    )


@pytest.mark.parametrize("name", MESSAGES)
def test_cuts_between_bytes_change_nothing(name):
    """Every message in two pieces, cut at each byte; byte by byte; and in random pieces."""
    data = MESSAGES[name]
    whole = told(read(data))
    assert whole[:2] == (True, None)
    assert whole[-1] is False
    for at in range(1, len(data)):
        assert told(read(data[:at], data[at:])) == whole
    assert told(read(*[data[at : at + 1] for at in range(len(data))])) == whole
    dice = random.Random(name)
    for _ in range(200):
        cuts = sorted(dice.sample(range(1, len(data)), dice.randint(2, 6)))
        assert told(read(*[data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)])) == whole


@pytest.mark.parametrize("name", MESSAGES)
def test_message_without_its_last_bytes_is_none(name):
    """Cut at each byte it is not over, and the end of the connection makes a failure of it."""
    data = MESSAGES[name]
    for at in range(len(data)):
        answer = read(data[:at])
        assert not answer.is_over
        answer.end()
        assert answer.failure is not None


@pytest.mark.parametrize("name", MESSAGES)
def test_surplus_is_seen(name):
    """One byte more, in the same piece or the next; the answer before it is what it was."""
    data = MESSAGES[name]
    for more in (b"x", b"H", b"\0", data, b"\r\n\r\n" + data):
        for pieces in ((data + more,), (data, more)):
            answer = read(*pieces)
            assert answer.has_surplus
            assert told(answer)[:5] == told(read(data))[:5]


@given(st.binary(max_size=9000), st.integers(min_value=1, max_value=5000))
@settings(max_examples=50, deadline=None)
def test_small_pieces_are_joined(body, size):
    """A body in tiny chunks takes hardly more memory than its bytes."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for answer in (read(head, chunked), read(head, *[chunked[at : at + 7] for at in range(0, len(chunked), 7)])):
        assert answer.failure is None
        assert b"".join(answer.chunks) == body
    assert len(answer.chunks) <= 2 + len(body) // 2048


def test_heads_are_bounded_in_number_and_size():
    """As many headers as are allowed pass, one more does not; the same for bytes."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
    assert read(head + b"a: b\r\n" * (HEADERS_MOST - 1) + b"\r\n").failure is None
    assert read(head + b"a: b\r\n" * HEADERS_MOST + b"\r\n").failure is not None
    interim = b"HTTP/1.1 103 Early Hints\r\n"
    assert read(interim + b"a: b\r\n" * HEADERS_MOST + b"\r\n" + head + b"\r\n").failure is None
    assert read(interim + b"a: b\r\n" * (HEADERS_MOST + 1) + b"\r\n" + head + b"\r\n").failure is not None
    assert read(head + b"a: " + b"b" * 60_000 + b"\r\n\r\n").failure is None
    assert read(head + b"a: " + b"b" * 70_000 + b"\r\n\r\n").failure is not None


@pytest.mark.parametrize(
    ("hint", "seconds"),
    [
        ("timeout=5", 4),
        ("timeout=5, max=100", 4),
        ("max=1, Timeout=1", 0.5),
        ("timeout=999999999", 299),
        ("", 15),
        ("timeout=x", 15),
        ("timeout=٣", 15),
    ],
)
def test_idle_time_is_a_little_less_than_the_server_says(hint, seconds):
    """Within bounds; nonsense counts as nothing said."""
    assert read(sized(b"", f"Keep-Alive: {hint}".encode().decode("latin-1"))).keeps_s == seconds


# mutations: whoever accepts a message must have read the same body as a reader of the letter of RFC 9112


def literal(data: bytes) -> tuple[int, bytes] | None:
    """Status and body, by a reader written for this test; None: it is no message, or no whole one."""
    status = 0
    while status < 200:
        head, end, data = data.lstrip(b"\r\n").partition(b"\r\n\r\n")  # empty lines before a message mean nothing
        first, *lines = head.split(b"\r\n")
        if not end or first[:9] not in {b"HTTP/1.1 ", b"HTTP/1.0 "} or not first[9:12].isdigit():
            return None
        status = int(first[9:12])
    fields = [(name.lower(), value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]
    lengths = [value for name, value in fields if name == b"content-length"]
    if status in {204, 304}:
        return status, b""
    if any(name == b"transfer-encoding" for name, _ in fields):
        return _literal_chunks(status, data)
    if not lengths:
        return (status, data) if status >= 300 else None
    if len(lengths) > 1 or not lengths[0].isdigit() or len(data) < int(lengths[0]):
        return None
    return status, data[: int(lengths[0])]


def _literal_chunks(status: int, data: bytes) -> tuple[int, bytes] | None:
    body = b""
    while True:
        line, end, data = data.partition(b"\r\n")
        try:
            size = int(line.partition(b";")[0].rstrip(b" \t"), 16)
        except ValueError:
            return None
        if not end or len(data) < size:
            return None
        if not size:
            return status, body
        body, data = body + data[:size], data[size:]
        if data[:2] != b"\r\n":
            return None
        data = data[2:]


TOKENS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b":",
    b"0",
    b"5",
    b"-",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"Content-Length: 3\r\n",
    b"HTTP/1.1 200 OK\r\n",
]
TOKENS += [b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"\xff", b"\t", b";", b"ffffffffffffffff\r\n", b"\x0b"]


@st.composite
def mutated(draw) -> bytes:
    """A message in which some bytes were replaced, removed, doubled, or put in."""
    data = bytearray(draw(st.sampled_from(list(MESSAGES.values()))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from("flip cut put double move".split())):
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at : at + draw(st.integers(1, 12))]
            case "double":
                data[at:at] = data[at : at + draw(st.integers(1, 40))]
            case _:
                data[at:at] = draw(st.sampled_from(TOKENS))
    return bytes(data)


@given(mutated(), st.integers(1, 50))
@settings(max_examples=1000, deadline=None)
def test_mutated_message_is_a_failure_or_read_to_the_letter(data, step):
    """Never a body that is not there; and cuts between bytes do not change what comes out."""
    answer = read(data)
    in_pieces = read(*[data[at : at + step] for at in range(0, len(data), step)])
    assert answer.is_over == in_pieces.is_over
    assert (answer.failure is None) == (in_pieces.failure is None)
    if answer.is_over and answer.failure is None:
        assert literal(data) == (answer.status, b"".join(answer.chunks))
        assert told(answer)[2:5] == told(in_pieces)[2:5]


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_noise_is_no_answer(data):
    """Random bytes, alone and behind the beginning of a head."""
    for start in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        answer = read(start + data)
        if answer.is_over and answer.failure is None:
            assert literal(start + data) == (answer.status, b"".join(answer.chunks))


def test_aiohttp_reads_the_same(pytestconfig):
    """What both clients take from a server, mutations included, is the same status and body; lean takes nothing that aiohttp refuses."""
    dice = random.Random("aiohttp")
    wires = list(MESSAGES.values())
    for _ in range(400 if pytestconfig.getoption("all_doors") else 120):
        data = bytearray(dice.choice(wires[:5]))
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(data))
            data[at : at + dice.choice([0, 0, 1, 3])] = dice.choice([*TOKENS, b"", bytes([dice.randrange(256)])])
        wires.append(bytes(data))

    async def main():
        todo: list[bytes] = []

        async def talk(peer):
            await peer.request()
            await peer.say(todo[0])
            peer.close()

        async def ask(door, url):
            try:
                answer = await door.request("GET", url, {}, limit=LIMIT)
            except TransientError:
                return None
            return answer.status, answer.body

        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(serving(talk))
            doors = [
                await stack.enter_async_context(Door(connections=1, client=client, stall_s=2)) for client in ("lean", "aiohttp")
            ]
            agreed = 0
            for wire in wires:
                todo[:] = [wire]
                lean, other = [await ask(door, server.url) for door in doors]
                assert lean in (None, other), wire
                agreed += lean is not None
            return agreed

    assert asyncio.run(main()) > len(MESSAGES)
