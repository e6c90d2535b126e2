"""One request and its answer on their way through the kit: passed on as they are, or broken as a rule says."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from faults.answers import MADE_UP, Answer, flipped, made_up, parse_head
from faults.line import PIECE, Line, chunks, unchunked
from faults.operations import Asked, asked, name_in, upload_id_in
from faults.rules import Rule

if TYPE_CHECKING:
    from faults.kit import FaultKit

HOLD_S = 3600.0
LINGER_S = 1.0

BROKEN = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
"""What reading from and writing to a connection ends with."""

_NO_BODY = {"204", "304"}


class EndedError(Exception):
    """The connection is over; the text is the outcome."""


class Exchange:
    """One request.

    Args:
        kit: whose rules are followed.
        client: who asks.
        open_server: gives the connection to the server.
    """

    def __init__(self, kit: FaultKit, client: Line, open_server: Callable[[], Awaitable[Line]]) -> None:
        self._kit = kit
        self._client = client
        self._open_server = open_server
        self._first = b""
        self._left = 0  # bytes of the request's body that have not been read; -1: it is chunked
        self._body_done = False

    async def run(self) -> str:
        """Do it, and answer the outcome; what was asked for is in `asked`, the fault in `fault`.

        Raises:
            EndedError: the connection cannot be used any more.
        """
        self._head = await self._client.head()
        line, *fields = self._head.decode("latin-1").rstrip("\r\n").split("\r\n")
        self._method, self._target, _ = line.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (entry.partition(":") for entry in fields)}
        chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._left = -1 if chunked else int(headers.get("content-length") or 0)
        self.asked = await self._name(asked(self._kit.side, self._method, self._target, headers))
        rule = self._kit.pick(self.asked)
        self.fault = rule.fault if rule else ""
        if self.asked.operation == "trap":
            return await self._answer(Answer("HTTP/1.1 404 Not Found", [("Content-Length", "0")], b""))
        if rule is None:
            return await self._relay()
        if rule.call is not None and rule.fault != "call after":
            await asyncio.to_thread(rule.call, self.asked)
        if rule.fault in MADE_UP:
            await self._swallow()
            return await self._answer(made_up(rule, self.asked, self._method, self._target, self._kit.url))
        return await _FAULTS[rule.fault](self, rule)

    async def _name(self, what: Asked) -> Asked:
        """Uploads to Google name the object in the body, and then by their session only."""
        if what.side == "s3":
            return what
        if what.operation in {"insert", "start"} and not what.key and self._left > 0:
            self._first = await self._client.read(self._left)
            self._left -= len(self._first)
            return what._replace(key=name_in(self._first))
        if what.operation in {"chunk", "status", "cancel"}:
            return what._replace(key=self._kit.sessions.get(upload_id_in(self._target), ""))
        return what

    # what is read from the client

    async def _body(self, most: int | None = None) -> AsyncIterator[bytes]:
        """The request's body as it comes, framing included; at most `most` bytes of it."""
        if self._left < 0:
            async for piece in chunks(self._client):
                yield piece
        else:
            left = len(self._first) + self._left if most is None else most
            if self._first:
                piece, self._first = self._first[:left], self._first[left:]
                left -= len(piece)
                yield piece
            while left > 0:
                piece = await self._client.read(left)
                self._left -= len(piece)
                left -= len(piece)
                yield piece
        self._body_done = self._left <= 0 and not self._first

    @property
    def _size(self) -> int:
        return len(self._first) + max(self._left, 0)

    async def _swallow(self, most: int | None = None) -> None:
        async for _ in self._body(most):
            pass

    # what is passed on

    async def _send(self, server: Line, flip_at: int | None = None) -> None:
        """Send the request; `flip_at`: the place of a byte in its body."""
        await server.write(self._head)
        at = 0
        async for piece in self._body():
            if flip_at is not None and at <= flip_at < at + len(piece):
                piece = flipped(piece, flip_at - at)
            at += len(piece)
            await server.write(piece)

    async def _relay(self, flip_at: int | None = None) -> str:
        """Pass both on as they come; a server may answer before it has read all."""
        server = await self._open_server()
        is_broken = False
        try:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(self._send(server, flip_at))
                answer = await self._read_head(server)
                framed = answer.get("transfer-encoding") or answer.get("content-length") or not answer.has_body
                closes = answer.get("connection").lower() == "close"
                if framed:
                    answer.drop("connection")
                await self._client.write(answer.head)
                async for piece in self._answer_body(server, answer):
                    await self._client.write(piece)
                sending.cancel()
        except* BROKEN:
            is_broken = True
        if is_broken:
            raise EndedError("gone")
        if closes or not framed or not self._body_done:
            await server.close()
        if not framed or not self._body_done:
            await self._linger()
            raise EndedError(answer.status)
        return answer.status

    async def _linger(self) -> None:
        """Read what the client still sends for a while: an answer would be lost if the connection ended at once."""
        if self._left > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    await self._swallow()

    async def _read_head(self, server: Line) -> Answer:
        """The head of the final answer; what comes before it is passed on."""
        while True:
            answer = parse_head(await server.head())
            if not answer.status.startswith("1"):
                break
            await self._client.write(answer.head)
        answer.has_body = self._method != "HEAD" and answer.status not in _NO_BODY
        if place := answer.get("location"):
            answer.set("Location", place.replace(self._kit.upstream, self._kit.url))
            if self.asked.operation == "start":
                self._kit.sessions[upload_id_in(place)] = self.asked.key
        return answer

    async def _answer_body(self, server: Line, answer: Answer) -> AsyncIterator[bytes]:
        """The answer's body as it comes, framing included."""
        if not answer.has_body:
            return
        if answer.get("transfer-encoding"):
            async for piece in chunks(server):
                yield piece
        elif answer.get("content-length"):
            left = answer.length
            while left:
                piece = await server.read(left)
                left -= len(piece)
                yield piece
        else:
            while piece := await server.reader.read(PIECE):
                yield piece

    async def _whole(self) -> Answer:
        """Do the work and take the whole answer, framed by its length."""
        server = await self._open_server()
        await self._send(server)
        answer = await self._read_head(server)
        pieces = [piece async for piece in self._answer_body(server, answer)]
        answer.body = b"".join(unchunked(pieces) if answer.get("transfer-encoding") else pieces)
        if answer.get("connection").lower() == "close":
            await server.close()
        for name in ("connection", "transfer-encoding"):
            answer.drop(name)
        if answer.has_body:
            answer.set("Content-Length", str(len(answer.body)))
        return answer

    async def _answer(self, answer: Answer) -> str:
        await self._client.write(answer.head + answer.body)
        return answer.status

    # the faults

    async def _refuse(self, rule: Rule) -> str:
        self._kit.refuse(rule.times)
        return self._reset("refused")

    async def _reset_now(self, _rule: Rule) -> str:
        return self._reset()

    async def _reset_in_request(self, _rule: Rule) -> str:
        server = await self._open_server()
        await server.write(self._head)
        async for piece in self._body(self._size // 2):
            await server.write(piece)
        server.reset()
        return self._reset()

    async def _reset_before_answer(self, _rule: Rule) -> str:
        await self._swallow()
        return self._reset()

    async def _lose_answer(self, _rule: Rule) -> str:
        await self._whole()
        return self._reset()

    async def _reset_in_answer(self, _rule: Rule) -> str:
        answer = await self._whole()
        await self._client.write(answer.head + answer.body[: len(answer.body) // 2])
        await asyncio.sleep(0.02)  # or the reset would overtake what was sent
        return self._reset()

    async def _stall_before_headers(self, _rule: Rule) -> str:
        await self._whole()
        await self._client.until_gone()
        raise EndedError("held")

    async def _stall_in_answer(self, _rule: Rule) -> str:
        answer = await self._whole()
        await self._client.write(answer.head + answer.body[: len(answer.body) // 2])
        await self._client.until_gone()
        raise EndedError("held")

    async def _stop_reading(self, _rule: Rule) -> str:
        await self._swallow(self._size // 2)
        self._kit.count(self, "held")
        await asyncio.sleep(HOLD_S)
        raise EndedError("held")

    async def _cut(self, _rule: Rule) -> str:
        answer = await self._whole()
        answer.body = answer.body[: len(answer.body) // 2]
        answer.set("Content-Length", str(len(answer.body)))
        return await self._answer(answer)

    async def _too_long(self, _rule: Rule) -> str:
        answer = await self._whole()
        answer.set("Content-Length", str(answer.length + 100))
        await self._answer(answer)
        if answer.has_body:
            raise EndedError(answer.status)
        return answer.status

    async def _too_short(self, _rule: Rule) -> str:
        answer = await self._whole()
        answer.set("Content-Length", str(answer.length // 2))
        return await self._answer(answer)

    async def _flip_answer(self, _rule: Rule) -> str:
        answer = await self._whole()
        if answer.body:
            answer.body = flipped(answer.body, len(answer.body) // 2)
        return await self._answer(answer)

    async def _flip_request(self, _rule: Rule) -> str:
        return await self._relay(flip_at=self._size // 2)

    async def _odd_range(self, rule: Rule) -> str:
        answer = await self._whole()
        if answer.status == "308":
            answer.set("Range", rule.code)
        return await self._answer(answer)

    async def _other_digest(self, _rule: Rule) -> str:
        answer = await self._whole()
        answer.body = re.sub(rb'("crc32c": *)"[^"]*"', rb'\1"AAAAAA=="', answer.body)
        answer.set("Content-Length", str(len(answer.body)))
        return await self._answer(answer)

    async def _twice(self, rule: Rule) -> str:
        answer = await self._whole()
        data = answer.head + answer.body
        await self._client.write(data if rule.seconds else data + data)
        if rule.seconds:
            await asyncio.sleep(rule.seconds)
            await self._client.write(data)
        return answer.status

    async def _trickle(self, rule: Rule) -> str:
        answer = await self._whole()
        data = answer.head + answer.body
        slow = len(data) if rule.amount is None else rule.amount
        for at in range(min(slow, len(data))):
            await self._client.write(data[at : at + 1])
            await asyncio.sleep(rule.seconds)
        await self._client.write(data[slow:])
        return answer.status

    async def _late(self, rule: Rule) -> str:
        await asyncio.sleep(rule.seconds)
        return await self._relay()

    async def _elsewhere(self, rule: Rule) -> str:
        answer = await self._whole()
        answer.set("Location", answer.get("location").replace(self._kit.url, rule.location))
        return await self._answer(answer)

    async def _call_after(self, rule: Rule) -> str:
        answer = await self._whole()
        if rule.call is not None:
            await asyncio.to_thread(rule.call, self.asked)
        return await self._answer(answer)

    def _reset(self, outcome: str = "reset") -> str:
        self._client.reset()
        raise EndedError(outcome)


_FAULTS: dict[str, Callable[[Exchange, Rule], Awaitable[str]]] = {
    "refuse": Exchange._refuse,
    "reset": Exchange._reset_now,
    "reset in request": Exchange._reset_in_request,
    "reset before answer": Exchange._reset_before_answer,
    "lose answer": Exchange._lose_answer,
    "reset in answer": Exchange._reset_in_answer,
    "stall before headers": Exchange._stall_before_headers,
    "stall in answer": Exchange._stall_in_answer,
    "stop reading": Exchange._stop_reading,
    "cut": Exchange._cut,
    "too long": Exchange._too_long,
    "too short": Exchange._too_short,
    "flip answer": Exchange._flip_answer,
    "flip request": Exchange._flip_request,
    "odd range": Exchange._odd_range,
    "other digest": Exchange._other_digest,
    "twice": Exchange._twice,
    "trickle": Exchange._trickle,
    "latency": Exchange._late,
    "call after": Exchange._call_after,
    "elsewhere": Exchange._elsewhere,
}
