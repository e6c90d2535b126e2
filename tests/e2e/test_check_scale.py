"""A million keys: one pass over the listing, memory that does not grow, and requests for nothing but the sample."""

from __future__ import annotations

import http.server
import threading
from collections import Counter
from collections.abc import Iterator
from hashlib import md5
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from commands import Command, Ended, environment, peak_kib
from damage import verdicts

DATA = bytes(1024)
ETAG = md5(DATA).hexdigest()
SMALL, LARGE = 250_000, 1_000_000
_HEAD = '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{}</Name><Prefix/>'
_ENTRY = (
    "<Contents><Key>key-{:08d}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    f"<ETag>&quot;{ETAG}&quot;</ETag><Size>{len(DATA)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


class Seen:
    """What the server was asked for."""

    def __init__(self) -> None:
        self.url = ""
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Start counting anew."""
        self.listed = 0
        self.pages = 0
        self.asked: Counter[str] = Counter()

    def page(self, rows: int) -> None:
        """Count a list page."""
        with self._lock:
            self.listed += rows
            self.pages += 1

    def object(self, key: str) -> None:
        """Count a request for an object."""
        with self._lock:
            self.asked[key] += 1


class MadeUp(http.server.BaseHTTPRequestHandler):
    """S3 with buckets `source-N` and `copy-N` that hold N objects of 1 KiB each; no page and no object is kept."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two packets, and the second would wait for 40 ms
    seen: Seen

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def _serve(self) -> None:
        url = urlsplit(self.path)
        bucket, _, key = url.path[1:].partition("/")
        query = parse_qs(url.query)
        if key:
            self.seen.object(unquote(key))
            self._answer(DATA, {"ETag": f'"{ETAG}"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"})
        elif "list-type" in query:
            total = int(bucket.split("-")[1])
            start = _first_after(query.get("start-after", [""])[0])
            self._list(bucket, range(start, min(start + int(query.get("max-keys", ["1000"])[0]), total)), total)
        else:
            self._answer(b"<VersioningConfiguration/>")

    def _list(self, bucket: str, numbers: range, total: int) -> None:
        self.seen.page(len(numbers))
        is_cut = numbers.stop < total and len(numbers) > 0
        more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
        self._answer(
            f"{_HEAD.format(bucket)}<KeyCount>{len(numbers)}</KeyCount><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType>"
            f"{more if is_cut else '<IsTruncated>false</IsTruncated>'}{''.join(map(_ENTRY.format, numbers))}"
            "</ListBucketResult>".encode()
        )

    def _answer(self, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(200)
        for name, value in {"Content-Type": "application/xml", "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _first_after(key: str) -> int:
    """The number of the first made-up key above `key`, for any key at all."""
    low, high = 0, 10**8
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if f"key-{middle:08d}" <= key else (low, middle)
    return low


class Server(http.server.ThreadingHTTPServer):
    """Takes as many connections at once as a check opens."""

    daemon_threads = True
    request_queue_size = 256


@pytest.fixture
def made_up() -> Iterator[Seen]:
    """A server that makes its buckets up, and what it was asked for."""
    seen = Seen()
    server = Server(("127.0.0.1", 0), type("Handler", (MadeUp,), {"seen": seen}))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    seen.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def checked(check: Command, url: str, count: int, *words: object) -> tuple[Ended, int]:
    """Check a copy of `count` objects; how it ended, and its peak memory in KiB."""
    ends = (f"s3://source-{count}", f"s3://copy-{count}", "--source-endpoint-url", url, "--destination-endpoint-url", url)
    return peak_kib(check.start(*ends, *words, "--json"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "draws"),
    [("--samples 50", 50), ("--samples 50 --by bytes", 50), ("--samples 0.01%", 100)],
    ids=["objects", "bytes", "share"],
)
def test_a_million_keys_cost_one_listing_and_no_memory(words, draws, made_up, moto, tmp_path):
    """Peak memory is that of a quarter, every key is listed once, and only sampled objects are asked for, a few times each."""
    check = Command(environment(tmp_path, moto.environment), name="heavy-check")
    peaks = {}
    for count in (SMALL, LARGE):
        made_up.forget()
        told, peaks[count] = checked(check, made_up.url, count, *words.split(), "--state", tmp_path / str(count))

        found, sampled = verdicts(told), draws if "%" not in words else draws * count // LARGE
        print(
            f"{words}: {count:,} keys: {made_up.listed:,} handed out in {made_up.pages:,} pages, {len(found)} objects checked "
            f"by {made_up.asked.total()} requests, {peaks[count]:,} KiB at the peak"
        )
        assert told.code == 0, told
        assert set(found.values()) == {"ok"}
        assert len(found) == sampled
        assert set(made_up.asked) == set(found)
        assert max(made_up.asked.values()) <= 3  # a look at either side, and the read
        assert count <= made_up.listed <= 1.01 * count
        assert told.summary["objects"] == count
    assert peaks[LARGE] < 1.2 * peaks[SMALL]
