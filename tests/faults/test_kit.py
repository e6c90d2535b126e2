"""The kit does to a request what its rule says, once, and nothing to any other."""

from __future__ import annotations

import http.server
import random
import threading
import time
import urllib.request

import pytest
from faults.kit import fault_kit
from faults.raw import Raw, length_of

DATA = random.Random(7).randbytes(3000)
BODY = b"b" * 3000
LARGE = 32 << 20


class _Origin(http.server.BaseHTTPRequestHandler):
    """GET answers DATA; PUT keeps the body and answers its length. /chunked/… answers in chunks."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.done.append((self.command, self.path, b"", self.headers["Host"]))
        self.send_response(200)
        if "chunked" in self.path:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"3e8\r\n" + DATA[:1000] + b"\r\n7d0;x=y\r\n" + DATA[1000:] + b"\r\n0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(DATA)))
        self.send_header("X-Some", "v")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(DATA)

    do_HEAD = do_GET

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if len(body) < int(self.headers["Content-Length"]):
            self.server.done.append((self.command, self.path, "part of the body", self.headers["Host"]))
            self.close_connection = True
            return
        self.server.done.append((self.command, self.path, body, self.headers["Host"]))
        answer = str(len(body)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """Resets are what this is about."""


@pytest.fixture(scope="module")
def origin():
    """The server behind the kit; `done` is the work that it did."""
    server = _Server(("127.0.0.1", 0), _Origin)
    server.daemon_threads = True
    server.done = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def kit_of_module(origin):
    """A kit before it."""
    with fault_kit(f"http://127.0.0.1:{origin.server_address[1]}", "s3") as kit:
        yield kit


@pytest.fixture
def kit(kit_of_module, origin):
    """The same, as new."""
    kit_of_module.clear()
    origin.done.clear()
    return kit_of_module


def get(kit, target="/bucket/key"):
    """One GET that must go well."""
    with urllib.request.urlopen(kit.url + target, timeout=5) as answer:
        return answer.read()


def test_nothing_is_changed_without_a_rule(kit, origin):
    """Path, Host, bodies and framing go through, on one connection, and every byte of both directions is counted."""
    with Raw(kit) as client:
        for _ in range(2):
            head = client.send("GET", "/bucket/..//%2B%20?a=%2F&b=").head()
            assert client.read(len(DATA)) == DATA
        client.send("PUT", "/bucket/key", BODY)
        answer = client.head(), client.read(4)
        chunked = client.send("GET", "/chunked/key").head()
        raw = client.read(len(DATA) + 5 + 2 + 9 + 2 + 5)
        client.send("HEAD", "/bucket/key").head()

    assert "X-Some: v" in head
    assert answer[1] == b"3000"
    assert "chunked" in chunked
    assert raw.startswith(b"3e8\r\n" + DATA[:1000] + b"\r\n7d0;x=y\r\n")
    assert raw.endswith(b"\r\n0\r\n\r\n")
    assert origin.done[0] == ("GET", "/bucket/..//%2B%20?a=%2F&b=", b"", "some.where:1")
    assert origin.done[2] == ("PUT", "/bucket/key", BODY, "some.where:1")
    until(lambda: kit.requests() == 5)
    assert kit.counts == {("get", "", "200"): 3, ("put", "", "200"): 1, ("stat", "", "200"): 1}
    assert kit.sent["put"] == len(answer[0]) + 4
    assert kit.received["put"] > len(BODY)
    assert kit.sent["get"] > 3 * len(DATA)


def until(condition):
    """Wait for the kit's thread."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("what was waited for did not happen")


def test_refused_connections(kit, origin):
    """The service goes away: the connection that asks, and the next two, end at once; then it is back."""
    with Raw(kit) as first, Raw(kit) as idle:
        idle.send("GET", "/bucket/key").head()
        idle.read(len(DATA))
        origin.done.clear()
        kit.add("refuse", times=2)
        first.send("GET", "/bucket/key")
        assert {first.ends(), idle.ends()} == {"reset"}
    for _ in range(2):
        with pytest.raises(OSError):
            get(kit)

    assert origin.done == []
    assert get(kit) == DATA
    assert kit.refused == 2


@pytest.mark.parametrize("fault", ["reset", "reset before answer"])
def test_reset_without_work(fault, kit, origin):
    """The connection is reset, and the server has not been asked."""
    kit.add(fault)
    with Raw(kit) as client:
        assert client.send("PUT", "/bucket/key", BODY).ends() == "reset"
    until(lambda: kit.requests("put", fault))

    assert origin.done == []
    assert kit.counts == {("put", fault, "reset"): 1}


def test_reset_does_not_wait_for_a_body(kit):
    """The head is enough."""
    kit.add("reset")
    with Raw(kit) as client:
        assert client.send("PUT", "/bucket/key", claimed=1000).ends() == "reset"


def test_reset_in_request(kit, origin):
    """The server gets the first half of the body."""
    kit.add("reset in request")
    with Raw(kit) as client:
        assert client.send("PUT", "/bucket/key", BODY).ends() == "reset"
    until(lambda: origin.done or kit.requests())

    assert [entry[2] for entry in origin.done] in ([], ["part of the body"])


def test_lost_answer(kit, origin):
    """The work is done, and nothing comes back."""
    kit.add("lose answer")
    with Raw(kit) as client:
        assert client.send("PUT", "/bucket/key", BODY).ends() == "reset"

    assert [entry[2] for entry in origin.done] == [BODY]


def test_reset_in_answer(kit):
    """Half of the body comes."""
    kit.add("reset in answer")
    with Raw(kit) as client:
        assert length_of(client.send("GET", "/bucket/key").head()) == len(DATA)
        assert client.read(1500) == DATA[:1500]
        assert client.ends() == "reset"


def test_stalls(kit, origin):
    """Nothing comes, or half of the body and then nothing, and the connection stays open."""
    kit.add("stall before headers", operation="put")
    kit.add("stall in answer", operation="get")
    with Raw(kit) as client:
        assert client.send("PUT", "/bucket/key", BODY).is_silent()
    with Raw(kit) as client:
        assert length_of(client.send("GET", "/bucket/key").head()) == len(DATA)
        assert client.read(1500) == DATA[:1500]
        assert client.is_silent()
    until(lambda: kit.requests() == 2)

    assert kit.counts == {("put", "stall before headers", "held"): 1, ("get", "stall in answer", "held"): 1}
    assert [entry[2] for entry in origin.done] == [BODY, b""]


def test_stop_reading(kit, origin):
    """The client cannot send all of the body, and gets no answer; when the kit is cleared the connection ends."""
    kit.add("stop reading")
    with Raw(kit, send_buffer=1 << 16) as client:
        client.send("PUT", "/bucket/key", claimed=LARGE)
        sent = client.fill(LARGE)
        assert LARGE // 2 <= sent < LARGE // 2 + (2 << 20)
        kit.clear()
        assert client.ends() == "reset"

    assert origin.done == []


@pytest.mark.parametrize(
    ("side", "how", "words"),
    [
        ("s3", {"status": 500}, "<Code>InternalError</Code>"),
        ("s3", {"status": 503}, "<Code>SlowDown</Code>"),
        ("s3", {"status": 429, "retry_after": 3}, "<Code>TooManyRequests</Code>"),
        ("s3", {"status": 400, "code": "RequestTimeout"}, "<Code>RequestTimeout</Code>"),
        ("gs", {"status": 408}, '"reason": "requestTimeout"'),
        ("gs", {"status": 403}, '"reason": "rateLimitExceeded"'),
    ],
)
def test_statuses_in_the_words_of_the_side(side, how, words, kit, origin):
    """An error answer, no work, and the connection goes on."""
    kit.side = side
    target = "/bucket/key" if side == "s3" else "/storage/v1/b/bucket/o/key"
    kit.add("status", **how)
    try:
        with Raw(kit) as client:
            head = client.send("GET", target).head()
            body = client.read(length_of(head)).decode()
            client.send("GET", target).head()
            assert client.read(len(DATA)) == DATA
    finally:
        kit.side = "s3"

    assert head.startswith(f"HTTP/1.1 {how['status']} ")
    assert ("Retry-After: 3" in head) == ("retry_after" in how)
    assert words in body
    assert len(origin.done) == 1


def test_head_is_answered_without_a_body(kit):
    """What comes after an error to a HEAD is the next answer."""
    kit.add("status", status=503)
    with Raw(kit) as client:
        assert length_of(client.send("HEAD", "/bucket/key").head()) == 0
        client.send("GET", "/bucket/key").head()
        assert client.read(len(DATA)) == DATA


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("error in 200", 200, b"<Code>InternalError</Code>"),
        ("empty 200", 200, b""),
        ("html 200", 200, b"<html>"),
        ("gateway", 502, b"<html>"),
        ("answer", 201, b"given"),
    ],
)
def test_answers_that_are_none(fault, status, words, kit, origin):
    """No work is done, whatever the status says."""
    kit.add(fault, body=b"given", **({"status": status} if status != 200 else {}))
    with Raw(kit) as client:
        head = client.send("PUT", "/bucket/key", BODY).head()
        body = client.read(length_of(head))

    assert head.startswith(f"HTTP/1.1 {status} ")
    assert words in body
    assert bool(words) == bool(body)
    assert origin.done == []


def test_redirects_lead_into_a_trap(kit, origin):
    """Who follows the Location is seen."""
    kit.add("redirect", status=307)
    with pytest.raises(urllib.error.HTTPError) as told:
        get(kit)
    told.value.close()
    until(lambda: kit.requests("trap"))

    assert kit.counts == {("get", "redirect", "307"): 1, ("trap", "", "404"): 1}
    assert origin.done == []


def test_cut_answer(kit):
    """Half of the body is framed as if it were all, also where the server sends chunks."""
    kit.add("cut", count=2)
    with Raw(kit) as client:
        for target in ("/bucket/key", "/chunked/key"):
            assert length_of(client.send("GET", target).head()) == 1500
            assert client.read(1500) == DATA[:1500]
        client.send("GET", "/bucket/key").head()
        assert client.read(len(DATA)) == DATA


def test_wrong_lengths(kit):
    """Too long: the connection closes before the end. Too short: the rest comes all the same."""
    kit.add("too long")
    kit.add("too short")
    with Raw(kit) as client:
        assert length_of(client.send("GET", "/bucket/key").head()) == len(DATA) + 100
        assert client.read(len(DATA)) == DATA
        assert client.ends() == "closed"
    with Raw(kit) as client:
        assert length_of(client.send("GET", "/bucket/key").head()) == 1500
        assert client.read(len(DATA)) == DATA


def test_flipped_bits(kit, origin):
    """One bit is another one, in the answer or in the request."""
    kit.add("flip answer", operation="get")
    kit.add("flip request", operation="put")
    with Raw(kit) as client:
        client.send("GET", "/bucket/key").head()
        got = client.read(len(DATA))
        client.send("PUT", "/bucket/key", BODY).head()

    assert [at for at in range(len(DATA)) if got[at] != DATA[at]] == [1500]
    assert origin.done[1][2] == BODY[:1500] + b"c" + BODY[1501:]


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_answer_comes_twice(seconds, kit, origin):
    """The same bytes once more, at once or later; the work was done once."""
    kit.add("twice", seconds=seconds)
    with Raw(kit) as client:
        first = client.send("GET", "/bucket/key").head(), client.read(len(DATA))
        again = client.head(), client.read(len(DATA))

    assert first == again
    assert len(origin.done) == 1


def test_trickle(kit):
    """Byte after byte, and all of them."""
    kit.add("trickle", seconds=0.005, amount=20)
    begin = time.monotonic()
    assert get(kit) == DATA
    assert time.monotonic() - begin >= 20 * 0.005


def test_latency(kit):
    """Later, and as it is."""
    kit.add("latency", seconds=0.1)
    begin = time.monotonic()
    assert get(kit) == DATA
    assert time.monotonic() - begin >= 0.1
