"""A plain HTTP client for these tests: nothing is normalised, decoded, followed or tried again."""

import asyncio
import contextlib
import http.client
import json as jsonlib
import threading
from typing import NamedTuple
from urllib.parse import quote, urlencode

from heavysync.loopback import LoopbackGcs

JSON = {"Content-Type": "application/json"}


class Reply(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        return jsonlib.loads(self.body)

    @property
    def reason(self):
        return self.json["error"]["errors"][0]["reason"]


class Api:
    """`server` is the LoopbackGcs; the methods send one request each."""

    def __init__(self, server, run):
        self.server = server
        self.run = run
        self.host, self.port = server.url.removeprefix("http://").split(":")
        self.connection = http.client.HTTPConnection(self.host, int(self.port), timeout=20)

    def raw(self, method, target, body=None, headers=None):
        self.connection.request(method, target, body=body, headers=headers or {})
        answer = self.connection.getresponse()
        return Reply(answer.status, answer.headers, answer.read())

    def call(self, method, path, json=None, headers=None, **query):
        target = f"/storage/v1/{path}" + (f"?{urlencode(query)}" if query else "")
        body = None if json is None else jsonlib.dumps(json).encode()
        return self.raw(method, target, body, {**(JSON if body else {}), **(headers or {})})

    def object(self, method, name, *, json=None, headers=None, bucket="bkt", **query):
        return self.call(method, f"b/{bucket}/o/{quote(name, safe='')}", json, headers, **query)

    def media(self, name, *, headers=None, **query):
        return self.object("GET", name, headers=headers, alt="media", **query)

    def insert(self, name, data=b"", *, bucket="bkt", headers=None, **query):
        """Send the bytes alone."""
        query = {"uploadType": "media", "name": name, **query}
        return self.raw("POST", f"/upload/storage/v1/b/{bucket}/o?{urlencode(query)}", data, headers)

    def multipart(self, resource, data=b"", *, bucket="bkt", **query):
        mark = b"--a+boundary"
        body = b"\r\n".join(
            [
                mark,
                b"Content-Type: application/json; charset=UTF-8",
                b"",
                jsonlib.dumps(resource).encode(),
                mark,
                b"Content-Type: text/plain",
                b"",
                data,
                mark + b"--",
                b"",
            ]
        )
        query = {"uploadType": "multipart", **query}
        headers = {"Content-Type": 'multipart/related; boundary="a+boundary"'}
        return self.raw("POST", f"/upload/storage/v1/b/{bucket}/o?{urlencode(query)}", body, headers)

    def start(self, resource, *, bucket="bkt", headers=None, **query):
        """Open a resumable session; answers the reply, `session` gives its target."""
        query = {"uploadType": "resumable", **query}
        target = f"/upload/storage/v1/b/{bucket}/o?{urlencode(query)}"
        return self.raw("POST", target, jsonlib.dumps(resource).encode(), {**JSON, **(headers or {})})

    def session(self, name, **query):
        reply = self.start({"name": name}, **query)
        assert reply.status == 200
        return reply.headers["Location"].removeprefix(self.server.url)

    def put(self, session, content_range, data=b"", **headers):
        sent = {"Content-Range": content_range} if content_range else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.raw("PUT", session, data, sent)

    def list(self, bucket="bkt", **query):
        reply = self.call("GET", f"b/{bucket}/o", **query)
        assert reply.status == 200, reply.body
        return reply.json

    def names(self, bucket="bkt", **query):
        return [item["name"] for item in self.list(bucket, **query).get("items", [])]

    def control(self, method, name, json=None):
        return self.raw(method, f"/_loopback/{name}", None if json is None else jsonlib.dumps(json).encode())


@contextlib.contextmanager
def running(**options):
    """A server in a thread of its own, with a bucket `bkt`."""
    started, box = threading.Event(), {}

    async def serve():
        box["loop"], box["end"] = asyncio.get_running_loop(), asyncio.Event()
        async with LoopbackGcs(**options) as server:
            server.create_bucket("bkt")
            box["server"] = server
            started.set()
            await box["end"].wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(10)
    api = Api(box["server"], lambda act: box["loop"].call_soon_threadsafe(act))
    try:
        yield api
    finally:
        api.connection.close()
        box["loop"].call_soon_threadsafe(box["end"].set)
        thread.join()
