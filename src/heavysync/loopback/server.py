"""The socket of the loopback server: reads requests, applies faults, writes answers. START HERE."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

from heavysync.loopback import control, sessions
from heavysync.loopback.buckets import make_bucket
from heavysync.loopback.conditions import Conditions
from heavysync.loopback.control import PREFIX
from heavysync.loopback.log import RequestLog
from heavysync.loopback.model import Bucket, Settings, State, StoredObject, sums
from heavysync.loopback.routes import route
from heavysync.loopback.rules import INSTEAD, Rule, RuleBook
from heavysync.loopback.service import Service
from heavysync.loopback.wire import Answer, ApiError, Call
from heavysync.loopback.writing import NewObject, write

_LINE_MAX = 1 << 16  # two names of 1,024 bytes, percent-encoded, and a token fit
_BUFFER = 1 << 20
_BODY_ACTIONS = frozenset(("reset_body", "cut_body", "stall_body"))
_NAME = re.compile(rb'"name"\s*:\s*("(?:[^"\\]|\\.)*")')
_BROKEN = (ConnectionError, aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError)


class LoopbackGcs:
    """A Google Cloud Storage JSON API on this machine, in memory; use it with `async with`.

    Args:
        port: to listen on, 0 for a free one.
        settings: see `model.Settings`; may be changed while it runs.
    """

    def __init__(self, *, port: int = 0, settings: Settings | None = None) -> None:
        self._port = port
        self.state = State(settings=settings or Settings())
        self._service = Service(self.state)
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        """The server's base, as in `http://127.0.0.1:4443`; also a value for STORAGE_EMULATOR_HOST."""
        return self.state.url

    @property
    def rules(self) -> RuleBook:
        """The faults."""
        return self._service.rules

    @property
    def log(self) -> RequestLog:
        """The requests so far."""
        return self._service.log

    def add_rule(self, **rule: Any) -> Rule:
        """Add a fault; the arguments are those of `rules.Rule`."""
        return self.rules.add(Rule(**rule))

    def expire_uploads(self) -> None:
        """Let all open sessions and rewrite tokens expire, as a week would."""
        control.expire_uploads(self._service)

    def create_bucket(self, name: str, **fields: Any) -> Bucket:
        """Create a bucket without a request; `fields` are those of the bucket resource."""
        return make_bucket(self.state, name, fields)

    def put(self, bucket: str, name: str, data: bytes = b"", **fields: Any) -> StoredObject:
        """Write an object without a request; `fields` are those of the object resource."""
        new = NewObject(name=name, resource=fields, data=data, sums=sums(data))
        return write(self.state, self.state.bucket(bucket), new, Conditions())

    def read(self, bucket: str, name: str) -> StoredObject | None:
        """The live object, without a request."""
        return self.state.bucket(bucket).find(name)

    async def __aenter__(self) -> Self:
        server = web.Server(
            self._handle,
            access_log=None,
            auto_decompress=False,
            read_bufsize=_BUFFER,
            max_line_size=_LINE_MAX,
            max_field_size=_LINE_MAX,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=1024)
        await site.start()
        self.state.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path.startswith(PREFIX):
            body = await request.content.read()
            return _plain(control.control(self._service, request.method, request.raw_path, body))
        try:
            call = route(request.method, request.raw_path, request.headers)
        except ApiError as error:
            return await self._refuse(request, error)
        first = await self._locate(request, call)
        delay_s, rule = self.rules.pick(call)
        if delay_s:
            await asyncio.sleep(delay_s)
        if not await self._read(request, call, first):
            return web.Response(status=400)
        return await self._respond(request, call, rule)

    async def _refuse(self, request: web.BaseRequest, error: ApiError) -> web.StreamResponse:
        call = Call(operation="unknown", method=request.method, path=request.raw_path)
        call.body = await request.content.read()
        answer = error.answer()
        self.log.add(call, answer.status, len(answer.body))
        return _plain(answer)

    async def _locate(self, request: web.BaseRequest, call: Call) -> bytes:
        """Find the object's name for uploads, where the path has none; answers what it read for that."""
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        if call.operation in ("chunk", "status", "cancel"):
            session = self.state.uploads.get(call.query.get("upload_id", ""))
            call.names = (call.bucket, session.name if session else "")
            return b""
        if call.operation not in ("insert", "start"):
            return b""
        if "name" in call.query:
            call.names = (call.bucket, call.query["name"])
            return b""
        first = await _some(request)
        match = _NAME.search(first)
        call.names = (call.bucket, _unquoted(match[1]) if match else "")
        return first

    async def _read(self, request: web.BaseRequest, call: Call, first: bytes) -> bool:
        """Read the body; False if the client went away, then what came of a chunk may be kept."""
        chunks = [first] if first else []
        try:
            while not request.content.at_eof():
                if chunk := await request.content.readany():
                    chunks.append(chunk)
        except _BROKEN:
            if call.operation == "chunk":
                sessions.keep_partial(self.state, call, b"".join(chunks))
            self.log.add(call, 0, 0, "client went away")
            return False
        call.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return True

    async def _respond(self, request: web.BaseRequest, call: Call, rule: Rule | None) -> web.StreamResponse:
        action = rule.action if rule else ""
        if rule is not None and action == "persist":
            call.persist = rule.amount
        instead = rule is not None and action in INSTEAD
        answer = rule.answer() if rule and instead else self._service.answer(call)
        if action in ("reset", "drop"):
            self.log.add(call, 0, 0, action)
            _reset(request)
            return web.Response(status=500)
        self.log.add(call, answer.status, len(answer.body), action)
        if rule is not None and action == "flip" and answer.body:
            body = bytearray(answer.body)
            body[rule.amount % len(body)] ^= 1
            answer.body = bytes(body)
        if rule is not None and action in _BODY_ACTIONS:
            return await _broken(request, answer, rule)
        if answer.chunked:
            return await _stream(request, answer)
        return _plain(answer)


def _plain(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, headers=answer.headers, body=answer.body)


async def _stream(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.enable_chunked_encoding()
    await response.prepare(request)
    for start in range(0, len(answer.body), _BUFFER):
        await response.write(answer.body[start : start + _BUFFER])
    await response.write_eof()
    return response


async def _broken(request: web.BaseRequest, answer: Answer, rule: Rule) -> web.StreamResponse:
    """Send a part of the body, then do what the rule says."""
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    if answer.chunked:
        response.enable_chunked_encoding()
    else:
        response.content_length = len(answer.body)
    await response.prepare(request)
    cut = max(rule.amount if rule.amount >= 0 else len(answer.body) + rule.amount, 0)
    await response.write(answer.body[:cut])
    if rule.action == "stall_body":
        await asyncio.sleep(rule.stall_s)
        await response.write(answer.body[cut:])
        await response.write_eof()
    elif rule.action == "cut_body":
        if request.transport is not None:
            request.transport.close()
    else:
        await asyncio.sleep(0)
        _reset(request)
    return response


def _reset(request: web.BaseRequest) -> None:
    """End the connection with RST, so that the client sees an error and no end of file."""
    if request.transport is None:
        return
    sock = request.transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()


async def _some(request: web.BaseRequest) -> bytes:
    """The first bytes of the body; nothing if the client went away."""
    try:
        return await request.content.readany()
    except _BROKEN:
        return b""


def _unquoted(raw: bytes) -> str:
    try:
        return str(json.loads(raw))
    except ValueError:
        return ""
