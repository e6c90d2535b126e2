"""One object: read the copy, find what tells its true digest, and say what is so.

The cheapest proof comes first (docs/design/0008-what-a-check-says.md): the digests that the source states, those that the
copy was made with, and only then the source's own bytes. "corrupt" is said after everything was looked at and read twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

from heavysync.checksums import ObjectHasher, ObjectSums, md5_hex
from heavysync.errors import ConditionError, NotFoundError, ObjectError, PermanentError, cause
from heavysync.objects import STAMP_KEY, ByteRange, Content, Examined, Metadata, ObjectInfo
from heavysync.pacing import ByteBudget
from heavysync.parts import DEFAULT_PART_SIZE
from heavysync.retry import Retrier
from heavysync.state.records import Record
from heavysync.stores.base import Store
from heavysync.transfer.context import find_listed
from heavysync.transfer.settle import stamp_of
from heavysync.verdicts import Draw, Finding, Verdict

MOST_CHANGES = 10
"""So often an object may change under our hands before nothing can be said of it."""

READ_AHEAD = 4
"""Parts of one object that are read while as many are hashed."""

_THREAD_FROM = 1 << 20  # hashing 1 MiB takes 1.4 ms; from here on it leaves the event loop
_STATE, _STAMP = "the state", "the copy's stamp"
_SECOND = 19  # characters of an RFC 3339 time up to the second: the providers write fractions differently


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a check needs to verify objects.

    Args:
        source: the truth.
        destination: the copy.
        retry: the retry policy.
        budget: bytes of content in memory.
        moved: is told of bytes that were read.
        read_source: the source's bytes may be read.
        last_run: RFC 3339 UTC, when the last finished run began and ended; None: none has finished.
    """

    source: Store
    destination: Store
    retry: Retrier
    budget: ByteBudget
    moved: Callable[[int], None]
    read_source: bool = True
    last_run: tuple[str, str] | None = None


class Copied(NamedTuple):
    """What is known of a content that was copied to the destination.

    Attributes:
        source_token: of that content.
        md5: hex, or None.
        crc32c: base64, or None.
        where: in words, where that is written.
    """

    source_token: str
    md5: str | None
    crc32c: str | None
    where: str

    def is_in(self, sums: ObjectSums) -> bool | None:
        """Whether these are the bytes; None: no digest is known."""
        if self.md5:
            return self.md5 == sums.md5
        if self.crc32c:
            return self.crc32c == sums.crc32c
        return None


async def verify(draw: Draw, record: Record, bench: Bench) -> Finding:
    """Find out about one object; transient errors are retried for ever.

    Raises:
        StoppedError: the check is stopping; nothing was found out.
        FatalError: the check cannot go on.
    """
    case = _Case(draw, record, bench)
    for _ in range(MOST_CHANGES):
        try:
            finding = await case.judge()
            if finding.verdict == "corrupt":
                finding = await case.judge()
        except (NotFoundError, ConditionError):  # a side changed while it was looked at
            continue
        except ObjectError as error:
            return case.finding("unverifiable", reason=f"{error.code}: {error}")
        return finding
    return case.finding("unverifiable", reason=f"it changed {MOST_CHANGES} times while it was looked at")


class _Case:
    """All that comes to light about one object."""

    def __init__(self, draw: Draw, record: Record, bench: Bench) -> None:
        self._key = draw.key
        self._size = draw.size
        self._record = record
        self._bench = bench
        self._bytes_read = 0
        self._tokens = (draw.source_token, "")

    def finding(self, verdict: Verdict, *, method: str = "", reason: str = "", metadata: tuple[str, ...] = ()) -> Finding:
        """The finding, with what is known by now."""
        return Finding(self._key, verdict, method, reason, self._size, *self._tokens, self._bytes_read, metadata)

    async def judge(self) -> Finding:
        """Look at both sides and read the copy, and where need be the source.

        Raises:
            NotFoundError: a side changed meanwhile.
            ConditionError: the same.
        """
        bench = self._bench
        now = await self._look(bench.source)
        if now is None:
            return self.finding("vanished", reason="the source object is gone")
        self._size, self._tokens = now.info.size, (now.info.token, "")
        if error := bench.destination.name_error(self._key):
            return self.finding("missing", reason=f"it cannot be copied: {error}")
        there = await self._look(bench.destination)
        if there is None:
            return self._absent(now.info)
        self._tokens = now.info.token, there.info.token
        part_size = await bench.retry(f"look at {self._key}", partial(bench.source.part_size, now.info))
        sums = await self._read(bench.destination, there.info, part_size, crc64nvme=now.crc64nvme is not None)
        metadata = differences(now.info, there.info, bench.destination.location.scheme)
        return await self._decide(now, there.info, sums, metadata)

    async def _look(self, store: Store) -> Examined | None:
        """Look at a live object; that it is gone is believed only to a listing."""
        found = await self._bench.retry(f"look at {self._key}", partial(store.examine, self._key))
        if found is None and await find_listed(self._bench.retry, store, self._key) is not None:
            found = await self._bench.retry(f"look at {self._key}", partial(store.examine, self._key))
            if found is None:
                raise PermanentError(f"{self._key}: {store.location} lists it, but a look does not find it", code="unreadable")
        return found

    def _absent(self, now: ObjectInfo) -> Finding:
        """The destination does not have it: should it?"""
        record = self._record
        if record.outcome == "failed":
            return self.finding("missing", reason=f"the last run could not copy it: {record.code}: {record.message}")
        was_copied = record.proof is not None or (record.listed is not None and record.outcome in {None, "done"})
        match "copied" if was_copied else self._written(now):
            case "since":
                return self.finding("stale", reason="it is new at the source since the last finished run")
            case "meanwhile":
                reason = (
                    "it came to the source while the last run was under way, and what that run listed is not known any more"
                )
                return self.finding("unverifiable", reason=reason)
            case _:
                why = "" if self._bench.last_run else " (no finished run of heavy-sync is known here)"
                return self.finding("missing", reason=f"the destination has no such object{why}")

    def _written(self, now: ObjectInfo) -> Literal["before", "meanwhile", "since"]:
        """When a source object that nobody is known to have copied was written, as seen from the last finished run."""
        if self._bench.last_run is None:
            return "before"
        began, ended = (text[:_SECOND] for text in self._bench.last_run)
        moment = now.modified_at[:_SECOND]
        if moment < began:
            return "before"
        # a listing that is at hand, and does not have it, was made before it came
        return "since" if moment > ended or self._record.is_listed else "meanwhile"

    async def _decide(self, now: Examined, there: ObjectInfo, sums: ObjectSums, metadata: tuple[str, ...]) -> Finding:
        copied = [one for one in self._copied(there) if one.where != _STAMP or stamp_of(now.info) != stamp_of(there)]
        match = compare(now, sums)
        if match.is_weak:
            match = _by_record([one for one in copied if one.source_token == now.info.token], sums) or match
        if match.is_weak:
            match = await self._read_source(now, sums, match)
        if match.agrees:
            return self.finding("ok", method=match.method, metadata=metadata)
        older = [] if self._was_current(now.info, copied) else copied
        for one in older:
            if one.is_in(sums):
                reason = f"the source changed since it was copied (the copy is what {one.where} says was copied)"
                return self.finding("stale", method=one.where, reason=reason)
        if match.agrees is None:
            return self.finding("unverifiable", reason=match.why)
        verdict, reason = self._different(now.info, there, sums, copied)
        return self.finding(verdict, method=match.method, reason=reason)

    def _was_current(self, now: ObjectInfo, copied: list[Copied]) -> bool:
        """Whether it is written down that the destination had the source's present content."""
        return self._was_listed(now.token) or any(one.source_token == now.token for one in copied)

    def _was_listed(self, token: str) -> bool:
        """Whether the last run listed this content and brought it to the destination, or found it there."""
        listed = self._record.listed
        return listed is not None and listed.token == token and self._record.outcome in {None, "done"}

    async def _read_source(self, now: Examined, sums: ObjectSums, match: Match) -> Match:
        """The last resort: whether the source's own bytes are the same; else why that is not known."""
        if not self._bench.read_source:
            why = "nothing that the source states can be compared, and --no-read-source forbids to read it"
            return match._replace(why=why)
        try:
            own = await self._read(self._bench.source, now.info, None, crc64nvme=False)
        except (NotFoundError, ConditionError):
            raise
        except ObjectError as error:
            return Match(None, why=f"the source cannot be read: {error.code}: {error}")
        return Match(own.md5 == sums.md5, "source read")

    def _different(
        self, now: ObjectInfo, there: ObjectInfo, sums: ObjectSums, copied: list[Copied]
    ) -> tuple[Literal["corrupt", "stale", "unverifiable"], str]:
        """The copy is not the source as it is now: did the source change, or is the copy bad?"""
        record = self._record
        if self._was_current(now, copied):
            return "corrupt", self._why_corrupt(now, sums)
        if told := self._by_record_of_copy(there, sums, copied):
            return told
        if record.listed is not None and record.outcome in {None, "done"}:
            return "stale", "the source changed since the last run listed and copied it"
        if now.modified_at[:_SECOND] > there.modified_at[:_SECOND]:
            return "stale", f"the source was written at {now.modified_at}, after the copy ({there.modified_at})"
        if not record.is_listed and self._written(now) != "before":
            return "unverifiable", "the source was written since the last finished run began, and what was copied is not known"
        return "corrupt", self._why_corrupt(now, sums)

    def _by_record_of_copy(
        self, there: ObjectInfo, sums: ObjectSums, copied: list[Copied]
    ) -> tuple[Literal["corrupt", "stale"], str] | None:
        """The same by what is written down of an older content; None: that does not tell."""
        proof = self._record.proof
        is_untouched = proof is not None and proof.destination_token == there.token
        for one in copied:
            # what the state proved is of this copy only if nobody has written it since
            if one.is_in(sums) is False and (is_untouched or one.where != _STATE):
                return "corrupt", f"its bytes are neither those that {one.where} says were copied, nor the source's"
        return ("stale", "the source changed since it was copied, and the copy was not written since") if is_untouched else None

    def _why_corrupt(self, now: ObjectInfo, sums: ObjectSums) -> str:
        reason = f"{sums.size} bytes with md5 {sums.md5} are not the source's {now.size} bytes"
        if self._record.outcome == "failed":
            reason += f"; the last run could not copy it: {self._record.code}"
        return reason

    def _copied(self, there: ObjectInfo) -> Iterator[Copied]:
        """What is written down of the content that the copy was made of."""
        record = self._record
        if record.proof is not None:
            yield Copied(record.proof.source_token, record.proof.md5, record.proof.crc32c, _STATE)
        if record.listed is not None and record.outcome in {None, "done"} and (record.listed.md5 or record.listed.crc32c):
            # a bare ETag may be no md5 (KMS), so it is left to the comparison with the source
            yield Copied(record.listed.token, record.listed.md5, record.listed.crc32c, "the last run's listing")
        if (stamp := stamp_of(there)) is not None and (stamp.md5 or stamp.crc32c):
            yield Copied(stamp.source_token, md5_hex(stamp.md5) or None, stamp.crc32c or None, _STAMP)

    async def _read(self, store: Store, info: ObjectInfo, part_size: int | None, *, crc64nvme: bool) -> ObjectSums:
        """Read an object whole, as stored, pinned to `info`, and compute its digests.

        Raises:
            NotFoundError: it is gone.
            ConditionError: it is not that object any more.
        """
        hasher = ObjectHasher(part_size, crc64nvme=crc64nvme)
        most = self._bench.budget.limit // (2 * DEFAULT_PART_SIZE)  # one window is read while another is hashed
        window = max(1, min(READ_AHEAD, most)) * DEFAULT_PART_SIZE
        async with self._bench.budget.take(min(info.size, 2 * window)):
            ready: list[Content] = []
            for start in range(0, max(info.size, 1), window):
                ready = await self._advance(store, info, ByteRange(start, min(start + window, info.size)), ready, hasher)
            await _hash(ready, hasher)
        return hasher.sums()

    async def _advance(
        self, store: Store, info: ObjectInfo, span: ByteRange, ready: list[Content], hasher: ObjectHasher
    ) -> list[Content]:
        """Read the parts of a span at once, while those of the span before are hashed."""
        bench = self._bench
        if bench.retry.stopping.is_set():
            bench.retry.stop_now()
        contents: dict[int, Content] = {}
        starts = range(span.start, max(span.end, span.start + 1), DEFAULT_PART_SIZE)

        async def read(start: int) -> None:
            part = ByteRange(start, min(start + DEFAULT_PART_SIZE, span.end))
            whole = part == (0, info.size)
            step = partial(store.read, info, None if whole else part)
            content = await bench.retry(f"read {self._key}", step)
            contents[start] = content
            self._bytes_read += content.size
            bench.moved(content.size)

        try:
            async with asyncio.TaskGroup() as group:
                for start in starts:
                    group.create_task(read(start))
                await _hash(ready, hasher)
        except BaseExceptionGroup as group_of_errors:
            raise cause(group_of_errors) from group_of_errors
        return [contents[start] for start in starts]


async def _hash(contents: list[Content], hasher: ObjectHasher) -> None:
    for content in contents:
        if content.size < _THREAD_FROM:
            hasher.update(content.chunks)
        else:
            await asyncio.to_thread(hasher.update, content.chunks)


class Match(NamedTuple):
    """Whether bytes are those of a source object.

    Attributes:
        agrees: True, False, or None: there is nothing to compare.
        method: the digest that says so.
        why: in words, why there is nothing.
    """

    agrees: bool | None
    method: str = ""
    why: str = ""

    @property
    def is_weak(self) -> bool:
        """Another word may overrule this one: an ETag that differs may be no md5, some servers invent theirs."""
        return self.agrees is None or (self.agrees is False and self.method == "ETag")


def compare(source: Examined, sums: ObjectSums) -> Match:
    """Compare bytes with what the source states of its own.

    A multipart ETag can only agree: that it differs may be due to parts of different sizes, or to encryption.
    """
    info = source.info
    if info.size != sums.size:
        return Match(False, "size")
    if info.etag and info.etag in {sums.md5, sums.etag}:
        return Match(True, "multipart ETag" if "-" in info.etag else "md5")
    stated = (
        (info.md5, sums.md5, "md5"),
        (info.crc32c, sums.crc32c, "crc32c"),
        (source.crc64nvme, sums.crc64nvme, "crc64nvme"),
    )
    for known, found, method in stated:
        if known is not None:
            return Match(known == found, method)
    if source.is_md5_etag and info.candidate_md5 is not None:
        return Match(False, "ETag")
    return Match(None)


def _by_record(copied: list[Copied], sums: ObjectSums) -> Match | None:
    """The same by what was written down when this very content was copied."""
    answers = ((one, one.is_in(sums)) for one in copied)
    return next((Match(is_in, one.where) for one, is_in in answers if is_in is not None), None)


_SHARED = ("content_type", "cache_control", "content_disposition", "content_language", "content_encoding")
_ONLY_S3 = ("expires", "website_redirect")
_NO_TYPE = {None, "", "binary/octet-stream", "application/octet-stream"}


def differences(source: ObjectInfo, destination: ObjectInfo, scheme: str) -> tuple[str, ...]:
    """How the metadata of a copy differ from its source's, one text each; what the destination cannot keep is left out."""
    ours = Metadata.from_json(source.metadata) if source.metadata else Metadata()
    theirs = Metadata.from_json(destination.metadata) if destination.metadata else Metadata()
    names = _SHARED + (_ONLY_S3 if scheme == "s3" else ())
    found = [(name, getattr(ours, name), getattr(theirs, name)) for name in names]
    mine, other = _user(ours), _user(theirs)
    found += [(f"user metadata {name}", mine.get(name), other.get(name)) for name in sorted({*mine, *other})]
    return tuple(
        f"{name}: {here!r} at the source, {there!r} at the destination"
        for name, here, there in found
        if here != there and not (name == "content_type" and {here, there} <= _NO_TYPE)
    )


def _user(metadata: Metadata) -> dict[str, str]:
    """User metadata but for our stamp; S3 knows no upper case in names."""
    return {name.lower(): value for name, value in metadata.user.items() if name.lower() != STAMP_KEY}
