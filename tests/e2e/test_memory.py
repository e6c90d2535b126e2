"""Memory does not grow with the bucket: a server that makes up its listing, and twice as long a one."""

from __future__ import annotations

import http.server
import threading
from urllib.parse import parse_qs, urlsplit

import pytest
from commands import Command, environment, peak_kib

_ENTRY = (
    "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    "<ETag>&quot;{etag}&quot;</ETag><Size>1024</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
ETAG = "0f343b0931126a20f133d67c2b018a3b"


class Endless(http.server.BaseHTTPRequestHandler):
    """Answers ListObjectsV2 for `/bucket-N` as if it held N small objects; looks at buckets succeed."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if "list-type" not in query:
            self._answer(b"<VersioningConfiguration/>")
            return
        name = url.path.strip("/")
        most = int(query.get("max-keys", ["1000"])[0])
        total = int(name.split("-")[1])
        start = _first_after(query.get("start-after", [""])[0])
        numbers = range(start, min(start + most, total))
        rows = "".join(_ENTRY.format(key=f"key-{number:08d}", etag=ETAG) for number in numbers)
        more = "true" if start + most < total else "false"
        token = "<NextContinuationToken>t</NextContinuationToken>" if more == "true" else ""
        self._answer(
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{name}</Name><Prefix/><KeyCount>{len(numbers)}</KeyCount><MaxKeys>{most}</MaxKeys>"
            f"<EncodingType>url</EncodingType><IsTruncated>{more}</IsTruncated>{token}{rows}</ListBucketResult>".encode()
        )

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
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


@pytest.fixture
def endless():
    """The URL of a server that makes up listings."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
def test_memory_is_the_same_for_twice_the_objects(endless, tmp_path, moto):
    """100,000 objects or 200,000, all of them to be copied: peak memory differs by less than a fifth."""
    peaks = {}
    for number in (100_000, 200_000):
        words = [f"s3://bucket-{number}", "s3://bucket-0", "--source-endpoint-url", endless]
        words += ["--destination-endpoint-url", endless, "--dry-run", "--quiet", "--state", tmp_path / str(number)]
        ended, peaks[number] = peak_kib(Command(environment(tmp_path, moto.environment)).start(*words))
        assert ended.code == 0, ended

    print(f"peak memory in KiB by objects: {peaks}")
    assert max(peaks.values()) < 1.2 * min(peaks.values())
