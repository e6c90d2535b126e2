"""The state under any order of what an engine may do to it, and under crashes at any moment: a model says what must be true.

A crash is a copy of the files as they stand on the disk while everything is open: whatever was not committed is lost.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import tempfile
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from fuzz.kit import fuzz
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from heavysync.checksums import listing_proves
from heavysync.errors import HeavysyncError
from heavysync.keyspace import KeyRange, cut
from heavysync.listing import _level
from heavysync.objects import Location, ObjectInfo, Page, PartDone, UploadState
from heavysync.outcomes import Changed, Done, Evidence, Failed, Outcome, Postponed, Released, Skipped
from heavysync.state.extras import ExtraOutcome
from heavysync.state.inventory import Listing
from heavysync.state.job import Job, Run, Totals, open_job
from heavysync.state.ranges import RangeState, open_range

A, B = Location.parse("s3://aaa"), Location.parse("gs://bbb")
POOL = ["", "\0", "\x1f", " ", "a", "a\0", "a/b", "aa", "b", "b~", "ü", "\ud7ff", "\ue000", "\uffff", "😀", "\U0010ffff"]
KEYS = st.sampled_from(POOL)
SIDES = ("source", "destination")
END = "\U0010ffff" * 2000
SOURCES = st.builds(
    lambda etag, size: ObjectInfo("", size, etag), st.sampled_from(["a" * 32, "b" * 32, "c" * 32 + "-2"]), st.integers(1, 2)
)
COPIES = st.builds(
    lambda md5, size, version: ObjectInfo("", size, "", md5=md5, crc32c="AAAAAA==", version=version),
    st.sampled_from(["a" * 32, "b" * 32, None]),
    st.integers(1, 2),
    st.sampled_from(["1", "2"]),
)
MEANING = {"--delete": True}
ENDS = ["done", "done", "proven", "skipped", "failed"]


@dataclass
class Row:
    """A transfer as it has to be."""

    size: int
    status: str = "pending"
    attempts: int = 0
    copied: bool = False
    upload: UploadState | None = None


@dataclass
class Slice:
    """A range as it has to be."""

    span: KeyRange
    phase: str = "planned"
    to_cut: int = 0
    file_hi: str | None = None  # the end that its file knows
    has_file: bool = False
    seen: dict[str, dict[str, ObjectInfo]] = field(default_factory=lambda: {side: {} for side in SIDES})
    listings: dict[str, Listing] = field(
        default_factory=lambda: {side: Listing(None, done=False, objects=0, size=0) for side in SIDES}
    )
    rows: dict[str, Row] = field(default_factory=dict)
    extras: dict[str, str] = field(default_factory=dict)
    abandoned: list[tuple[str, str]] = field(default_factory=list)  # uploads to abort: key and id
    left: list[tuple[str, str]] = field(default_factory=list)  # of an earlier run, until its file is opened
    totals: Totals = field(default_factory=Totals)

    def watermark(self) -> str | None:
        """The key up to which both sides have spoken."""
        if any(one.cursor is None and not one.done for one in self.listings.values()):
            return None
        return min(END if one.done else one.cursor or "" for one in self.listings.values())

    def trim(self, hi: str) -> None:
        """The range ends at `hi` from now on."""
        self.file_hi = hi
        for key in [key for key in self.rows if key > hi]:
            self.abandon(key)
        self.rows = {key: row for key, row in self.rows.items() if key <= hi}
        for side, listing in self.listings.items():
            gone = [info for key, info in self.seen[side].items() if key > hi]
            self.seen[side] = {key: info for key, info in self.seen[side].items() if key <= hi}
            is_done = listing.done or (listing.cursor is not None and listing.cursor >= hi)
            self.listings[side] = Listing(
                hi if is_done else listing.cursor,
                is_done,
                listing.objects - len(gone),
                listing.size - sum(info.size for info in gone),
            )

    def abandon(self, key: str) -> None:
        """The upload of a transfer will not be completed; a rewrite leaves nothing behind."""
        upload = self.rows[key].upload
        if upload is not None and upload.kind != "rewrite":
            self.abandoned.append((key, upload.id))
        self.rows[key].upload = None

    def count(self, status: str, *, copied: bool = False) -> int:
        return sum(row.status == status and row.copied == copied for row in self.rows.values())


class StateChart(RuleBasedStateMachine):
    """What an engine does to the state of one pair, over several runs."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.home = Path(tempfile.mkdtemp())
        self.number = 0
        self.world: dict[str, dict[str, ObjectInfo]] = {side: {} for side in SIDES}
        self.proofs: dict[str, tuple[str, str]] = {}
        self.plan = {1: Slice(KeyRange(None, None))}
        self.open: dict[int, tuple[AsyncExitStack, RangeState]] = {}
        self.run_number = 0
        self.reopened = False
        self.generation = 10
        self.finished: dict[tuple[int, int], set[str]] = {}
        self.chance = random.Random(1)
        self._enter()

    def _do(self, work: Any) -> Any:
        return self.loop.run(work)

    def _enter(self) -> None:
        self.directory = self.home / str(self.number)
        (self.directory / "ranges").mkdir(parents=True, exist_ok=True)
        self.stack = AsyncExitStack()
        self.job: Job = self._do(self.stack.enter_async_context(open_job(self.directory, A, B)))

    def _leave(self) -> None:
        for stack, _ in self.open.values():
            self._do(stack.aclose())
        self.open.clear()
        self._do(self.stack.aclose())

    def _begin(self, *, restart: bool = False) -> Run:
        begun = self.job.begin(meaning=MEANING, options={}, dry_run=False, restart=restart, retry_failed=self.reopened)
        return self._do(begun)

    def teardown(self) -> None:
        self._leave()
        self.loop.close()
        shutil.rmtree(self.home)

    @initialize(source=st.dictionaries(KEYS, SOURCES), there=st.dictionaries(KEYS, COPIES))
    def first_run(self, source: dict[str, ObjectInfo], there: dict[str, ObjectInfo]) -> None:
        self._change_world(source, there)
        run = self._begin()
        assert (run.number, run.resumed) == (1, False)
        self.run_number = 1

    def _change_world(self, source: dict[str, ObjectInfo], there: dict[str, ObjectInfo]) -> None:
        self.world["source"] |= {key: info._replace(key=key) for key, info in source.items()}
        self.world["destination"] |= {key: info._replace(key=key) for key, info in there.items()}

    def _new_plan(self) -> None:
        def anew(one: Slice) -> Slice:
            left = [(key, row.upload.id) for key, row in one.rows.items() if row.upload and row.upload.kind != "rewrite"]
            return Slice(one.span, has_file=one.has_file, abandoned=one.abandoned, left=one.left + left)

        self.plan = {number: anew(one) for number, one in self.plan.items()}

    def _pick(self, data: Any, numbers: list[int]) -> int:
        return data.draw(st.sampled_from(sorted(numbers)))

    def _listable(self) -> list[int]:
        return [
            n for n, one in self.plan.items() if n not in self.open and not one.to_cut and one.phase in {"planned", "copied"}
        ]

    def _in(self, phase: str) -> list[int]:
        return [n for n, one in self.plan.items() if one.phase == phase and not one.to_cut]

    def _state(self, number: int) -> RangeState:
        if number not in self.open:
            self._open(number)
        return self.open[number][1]

    @precondition(lambda self: self._listable())
    @rule(data=st.data())
    def open_a_range(self, data: Any) -> None:
        """As an engine does that is started again."""
        self._open(self._pick(data, self._listable()))

    def _open(self, number: int) -> None:
        """What was claimed is pending; what the plan cut off is forgotten."""
        one = self.plan[number]
        planned = next(row for row in self._do(self.job.next_ranges(one.phase, after=0, limit=99)) if row.range == number)
        parent = None if planned.parent is None else self.job.range_file(planned.parent)
        stack = AsyncExitStack()
        opening = open_range(
            self.job.range_file(number), run=self.run_number, span=planned.span, parent=parent, listed=one.phase == "copied"
        )
        state = self._do(stack.enter_async_context(opening))
        self.open[number] = (stack, state)
        # the order of claims is the database's own chance, which has to be the same at each play
        self._do(state._db.read(lambda db: db.create_function("random", 0, lambda: self.chance.getrandbits(62))))
        if one.has_file and one.file_hi != one.span.hi and one.span.hi is not None:
            one.trim(one.span.hi)
        one.abandoned, one.left = one.abandoned + one.left, []
        one.has_file, one.file_hi = True, one.span.hi
        for row in one.rows.values():
            row.status = "pending" if row.status == "claimed" else row.status

    def _unlisted(self) -> list[tuple[int, str]]:
        return [(n, side) for n in self._in("planned") for side in SIDES if not self.plan[n].listings[side].done]

    @precondition(lambda self: self._unlisted())
    @rule(data=st.data(), most=st.integers(0, 5), is_short=st.booleans())
    def record_page(self, data: Any, most: int, is_short: bool) -> None:
        """What becomes decidable is owed once, if it differs."""
        self._record(data, *data.draw(st.sampled_from(self._unlisted())), most, is_short=is_short)

    def _record(self, data: Any, number: int, side: str, most: int, *, is_short: bool = False) -> None:
        self._state(number)
        one = self.plan[number]
        before = one.listings[side]
        after = one.span.lo if before.cursor is None else before.cursor
        left = KeyRange(after, one.span.hi)
        found = [self.world[side][key] for key in sorted(self.world[side]) if key in left]
        objects, cursor = found[:most], None
        if len(found) > most or is_short:
            later = [key for key in POOL if key in left and (not objects or key >= objects[-1].key)]
            later = [key for key in later if len(found) <= most or key < found[most].key]
            cursor = data.draw(st.sampled_from(later)) if later else None
            if cursor is None:
                objects = found
        low = one.watermark()

        recorded = self._do(self._state(number).inventory.record_page(side, Page(objects, cursor), one.span.hi))

        one.seen[side] |= {info.key: info for info in objects}
        one.listings[side] = Listing(
            one.span.hi if cursor is None else cursor,
            cursor is None,
            before.objects + len(objects),
            before.size + sum(info.size for info in objects),
        )
        high = one.watermark()
        new = [
            info
            for key, info in one.seen["source"].items()
            if high is not None and key <= high and (low is None or key > low) and not self._is_equal(one, info)
        ]
        one.rows |= {info.key: Row(info.size) for info in new}
        assert recorded.listing == one.listings[side]
        assert (recorded.queued, recorded.queued_bytes) == (len(new), sum(info.size for info in new))

    def _is_equal(self, one: Slice, info: ObjectInfo) -> bool:
        there = one.seen["destination"].get(info.key)
        if there is None or there.size != info.size:
            return False
        return listing_proves(info, there) or self.proofs.get(info.key) == (info.token, there.token)

    @precondition(lambda self: self._in("planned"))
    @rule(data=st.data(), most=st.integers(1, 6))
    def claim(self, data: Any, most: int) -> None:
        """Pending rows, as many as there are, with all that is known of them."""
        self._claim(self._pick(data, self._in("planned")), most)

    def _claim(self, number: int, most: int) -> None:
        state, one = self._state(number), self.plan[number]
        pending = {key for key, row in one.rows.items() if row.status == "pending"}

        transfers = self._do(state.queue.claim(most))

        keys = {transfer.source.key for transfer in transfers}
        assert len(keys) == len(transfers) == min(most, len(pending))
        assert keys <= pending
        for transfer in transfers:
            row = one.rows[transfer.source.key]
            row.status = "claimed"
            assert transfer.source == one.seen["source"][transfer.source.key]
            assert transfer.destination == one.seen["destination"].get(transfer.source.key)
            assert (transfer.attempts, transfer.upload) == (row.attempts, row.upload)

    def _claimed(self) -> list[tuple[int, str]]:
        return [(n, key) for n in self.open for key, row in self.plan[n].rows.items() if row.status == "claimed"]

    @precondition(lambda self: self._claimed())
    @rule(data=st.data())
    def settle(self, data: Any) -> None:
        """Some claimed rows of a range, each with any outcome."""
        number = self._pick(data, [n for n, _ in self._claimed()])
        claimed = sorted(key for n, key in self._claimed() if n == number)
        keys = data.draw(st.lists(st.sampled_from(claimed), min_size=1, unique=True))
        self._settle(data, number, keys, [*ENDS, "changed", "released", "postponed", "stuck"])

    def _settle(self, data: Any, number: int, keys: list[str], kinds: list[str]) -> None:
        one = self.plan[number]
        outcomes = [self._outcome(data, one, key, data.draw(st.sampled_from(kinds))) for key in keys]
        self._do(self._state(number).queue.settle(outcomes))

    def _outcome(self, data: Any, one: Slice, key: str, kind: str) -> Outcome:
        row, source = one.rows[key], one.seen["source"][key]
        match kind:
            case "done" | "proven":
                self.generation += 1
                md5 = source.etag if len(source.etag) == 32 else None
                there = one.seen["destination"].get(key)
                if there is None or there.size != source.size or kind == "done":
                    there = ObjectInfo(key, source.size, "", md5=md5, crc32c="AAAAAA==", version=str(self.generation))
                evidence = None if listing_proves(source, there) else Evidence(source.token, there.token, md5)
                if evidence is not None:
                    self.proofs[key] = evidence[:2]
                self.world["destination"][key] = there
                row.status, row.copied, row.upload = "done", kind == "done", None
                return Done(key, source.size, row.copied, evidence)
            case "skipped":
                one.abandon(key)
                row.status = "skipped"
                return Skipped(key, "vanished", "gone")
            case "failed":
                one.abandon(key)
                row.status = "failed"
                return Failed(key, "AccessDenied", "no")
            case "changed":
                now = data.draw(SOURCES)._replace(key=key)
                one.seen["source"][key] = self.world["source"][key] = now
                one.abandon(key)
                row.status, row.size, row.attempts = "pending", now.size, row.attempts + 1
                return Changed(now)
            case "postponed" | "stuck":
                row.status = "pending"
                if kind == "stuck" and row.upload is not None:
                    row.upload = None if row.upload.kind == "rewrite" else replace(row.upload, kind="stuck")
                return Postponed(key, "503", suspect=kind == "stuck", alone=True, begin_anew=kind == "stuck")
        row.status = "pending"
        return Released(key)

    @precondition(lambda self: self._in("planned"))
    @rule(data=st.data(), key=KEYS)
    def settle_what_nobody_has_claimed(self, data: Any, key: str) -> None:
        """A late outcome changes nothing: what is done stays done."""
        self._settle_late(self._pick(data, self._in("planned")), key)

    def _settle_late(self, number: int, key: str) -> None:
        queue, row = self._state(number).queue, self.plan[number].rows.get(key)
        if row is None or row.status != "claimed":
            late = [Failed(key, "x", "x"), Skipped(key, "x", "x"), Released(key), Done(key, 1, copied=True)]
            self._do(queue.settle(late))
            self._do(queue.save_upload(key, UploadState(id="late", part_size=1, source_token="")))

    @precondition(lambda self: self._claimed())
    @rule(data=st.data(), parts=st.none() | st.integers(0, 3), kind=st.sampled_from(["upload", "upload", "rewrite"]))
    def save_upload(self, data: Any, parts: int | None, kind: Any) -> None:
        """Kept until the row is settled, also through a crash; one that is begun takes the place of another, which is abandoned."""
        self._save_upload(*data.draw(st.sampled_from(self._claimed())), parts, kind)

    def _save_upload(self, number: int, key: str, parts: int | None, kind: Any) -> None:
        row = self.plan[number].rows[key]
        done = tuple(PartDone(n, f"e{n}", "", n) for n in range(1, (parts or 0) + 1))
        self.generation += 1
        state = None
        if parts and row.upload is not None and row.upload.kind == "upload":
            state = replace(row.upload, parts=done)
        elif parts is not None:
            state = UploadState(kind=kind, id=f"ü\n'\"{self.generation}", part_size=5, source_token="t", nonce="n")
            self.plan[number].abandon(key)
        self._do(self._state(number).queue.save_upload(key, state))
        row.upload = state

    @precondition(lambda self: self._in("planned"))
    @rule(data=st.data(), most=st.integers(1, 5), steps=st.integers(1, 8))
    def work_on_a_range(self, data: Any, most: int, steps: int) -> None:
        """List, claim, and then anything with what is claimed, in any order, without coming to an end."""
        number = self._pick(data, self._in("planned"))
        for side in SIDES:
            if not self.plan[number].listings[side].done:
                self._record(data, number, side, most)
        for _ in range(steps):
            self._claim(number, 99)
            rows = self.plan[number].rows
            claimed = sorted(key for key, row in rows.items() if row.status == "claimed")
            if not claimed:
                return
            key = data.draw(st.sampled_from(claimed))
            match data.draw(st.sampled_from(["upload", "upload", "rewrite", "settle", "settle", "end", "crash", "take up"])):
                case "upload" | "rewrite" as kind:
                    self._save_upload(number, key, data.draw(st.integers(0, 2)), kind)
                case "settle":
                    self._settle(data, number, [key], ["stuck", "stuck", "postponed", "changed", "released"])
                case "end":
                    self._settle(data, number, [key], ENDS)
                case "crash":
                    self.crash()
                case "take up":
                    self._take_up(number, data.draw(st.sampled_from([None, ["AccessDenied"]])))

    @precondition(lambda self: any(self.plan[number].abandoned for number in self.open))
    @rule(data=st.data(), most=st.integers(1, 3))
    def abort_abandoned(self, data: Any, most: int) -> None:
        """Each is offered until it is aborted, those first that were tried least often."""
        number = self._pick(data, [number for number in self.open if self.plan[number].abandoned])
        one, abandoned = self.plan[number], self._state(number).abandoned
        batch = self._do(abandoned.next(most))
        assert len(batch) == min(most, len(one.abandoned))
        for upload in batch:
            if data.draw(st.booleans()):
                self._do(abandoned.aborted(upload.number))
                one.abandoned.remove((upload.key, upload.state.id))
            else:
                self._do(abandoned.failed(upload.number))

    @precondition(lambda self: any(self.plan[n].count("failed") for n in self._in("planned")))
    @rule(data=st.data(), is_named=st.booleans())
    def take_up_failed(self, data: Any, is_named: bool) -> None:
        """What failed is owed again; nothing else is."""
        number = self._pick(data, [n for n in self._in("planned") if self.plan[n].count("failed")])
        self._take_up(number, ["AccessDenied"] if is_named else None)
        assert self._do(self._state(number).queue.take_up(["Other"])) == 0

    def _take_up(self, number: int, codes: list[str] | None = None) -> None:
        failed = [row for row in self.plan[number].rows.values() if row.status == "failed"]
        assert self._do(self._state(number).queue.take_up(codes)) == len(failed)
        for row in failed:
            row.status = "pending"

    def _divisible(self) -> list[int]:
        return [
            n
            for n in self.open
            if self.plan[n].phase == "planned" and _level(self.plan[n].listings) not in {None, self.plan[n].span.hi}
        ]

    @precondition(lambda self: self._divisible())
    @rule(data=st.data(), pieces=st.integers(0, 3), is_cut_off=st.booleans())
    def hand_back(self, data: Any, pieces: int, is_cut_off: bool) -> None:
        """The range ends where both sides have spoken; a crash may come before its file knows."""
        self._hand_back(self._pick(data, self._divisible()), pieces, is_cut_off=is_cut_off)

    def _hand_back(self, number: int, pieces: int, *, is_cut_off: bool) -> None:
        one = self.plan[number]
        at = _level(one.listings)
        self._do(self.job.hand_back(number, at, pieces=pieces))
        self.plan[max(self.plan) + 1] = Slice(KeyRange(at, one.span.hi), to_cut=pieces)
        one.span = KeyRange(one.span.lo, at)
        if is_cut_off:
            self.crash()
        else:
            self._do(self._state(number).inventory.trim(at))
            one.trim(at)

    @precondition(lambda self: any(one.to_cut for one in self.plan.values()))
    @rule(data=st.data(), borders=st.lists(st.one_of(KEYS, st.text(max_size=2).filter(str.isprintable)), max_size=4))
    def cut_a_range(self, data: Any, borders: list[str]) -> None:
        """The pieces tile it; the first keeps the number."""
        self._cut(self._pick(data, [n for n, one in self.plan.items() if one.to_cut]), borders)

    def _cut(self, number: int, borders: list[str]) -> None:
        first, *rest = cut(self.plan[number].span, borders)
        assert self._do(self.job.cut(number, borders)) == [first, *rest]
        self.plan[number].span, self.plan[number].to_cut = first, 0
        for span in rest:
            self.plan[max(self.plan) + 1] = Slice(span)

    def _copied(self) -> list[int]:
        return [
            n
            for n in self.open
            if self.plan[n].phase == "planned"
            and all(one.done for one in self.plan[n].listings.values())
            and not {row.status for row in self.plan[n].rows.values()} & {"pending", "claimed"}
        ]

    @precondition(lambda self: self._copied())
    @rule(data=st.data())
    def advance_to_copied(self, data: Any) -> None:
        """As the engine ends its first pass over a range."""
        self._advance(self._pick(data, self._copied()))

    def _advance(self, number: int) -> None:
        one, (stack, state) = self.plan[number], self.open.pop(number)
        assert not self._do(state.queue.owed())
        self._do(state.queue.forget_stale_proofs())
        self._do(state.sync())
        one.totals = self._do(state.totals())
        self._do(self.job.advance(number, before="planned", after="copied", totals=one.totals))
        self._do(stack.aclose())
        one.phase = "copied"
        source, there = one.seen["source"], one.seen["destination"]
        settled = list(one.extras.values())  # by an earlier pass, if what failed is taken up
        self.proofs = {key: proof for key, proof in self.proofs.items() if key not in one.span or key in source}
        assert one.totals == Totals(
            source_objects=len(source),
            source_bytes=one.listings["source"].size,
            destination_objects=len(there),
            destination_bytes=sum(info.size for info in there.values()),
            extra=len(set(there) - set(source) - {""}),
            to_copy=len(one.rows),
            to_copy_bytes=sum(row.size for row in one.rows.values()),
            copied=one.count("done", copied=True),
            copied_bytes=sum(row.size for row in one.rows.values() if row.copied),
            proven=one.count("done"),
            skipped=one.count("skipped"),
            failed=one.count("failed"),
            deleted=settled.count("deleted"),
            kept=settled.count("kept"),
            delete_failed=settled.count("failed"),
        )

    @precondition(lambda self: self._in("copied"))
    @rule(data=st.data(), most=st.integers(1, 4))
    def delete_some(self, data: Any, most: int) -> None:
        """What the destination has and the source does not: found once, settled once."""
        self._delete(data, self._pick(data, self._in("copied")), most)

    def _delete(self, data: Any, number: int, most: int) -> None:
        one, state = self.plan[number], self._state(number)
        self._do(state.extras.find())
        surplus = sorted(set(one.seen["destination"]) - set(one.seen["source"]) - {""})
        one.extras = {key: one.extras.get(key, "pending") for key in surplus}
        pending = [key for key, status in one.extras.items() if status == "pending"]
        batch = self._do(state.extras.pending(None, most))
        assert [info.key for info in batch] == pending[:most]
        for info in batch:
            status = data.draw(st.sampled_from(["deleted", "kept", "failed"]))
            words = ("x", "y") if status == "failed" else (None, None)
            self._do(state.extras.settle([ExtraOutcome(info.key, status, *words)]))
            self._do(state.extras.settle([ExtraOutcome(info.key, "kept")]))  # late: changes nothing
            one.extras[info.key] = status
            if status == "deleted":
                self.world["destination"].pop(info.key, None)
        totals, became = self._do(state.totals()), list(one.extras.values())
        assert (totals.deleted, totals.kept, totals.delete_failed) == tuple(map(became.count, ("deleted", "kept", "failed")))
        if not batch:
            one.totals = self._do(state.totals())
            assert (one.totals.deleted + one.totals.kept + one.totals.delete_failed) == one.totals.extra == len(surplus)
            self._do(self.job.advance(number, before="copied", after="deleted", totals=one.totals))
            self._do(self.open.pop(number)[0].aclose())
            one.phase = "deleted"

    @precondition(lambda self: self._in("planned"))
    @rule(data=st.data(), most=st.integers(1, 5))
    def bring_on(self, data: Any, most: int) -> None:
        """A whole pass over one range, as it goes where nothing goes wrong."""
        self._bring_on(data, self._pick(data, self._in("planned")), most)

    def _bring_on(self, data: Any, number: int, most: int) -> None:
        one = self.plan[number]
        self._state(number)
        while one.phase == "planned":
            for side in SIDES:
                if not one.listings[side].done:
                    self._record(data, number, side, most)
            if number in self._divisible() and data.draw(st.booleans()):
                self._hand_back(number, data.draw(st.integers(0, 3)), is_cut_off=data.draw(st.booleans()))
            self._claim(number, most)
            if data.draw(st.integers(0, 4)) == 1:
                self.crash()
                self._state(number)
            claimed = [key for key, row in one.rows.items() if row.status == "claimed"]
            if claimed:
                self._settle(data, number, claimed, ENDS)
                self._settle_late(number, data.draw(st.sampled_from(claimed)))
            if number in self._copied():
                self._advance(number)

    @rule(
        data=st.data(),
        source=st.dictionaries(KEYS, SOURCES, max_size=3),
        there=st.dictionaries(KEYS, COPIES, max_size=2),
        gone=st.sets(KEYS, max_size=3),
        chance=st.integers(0, 3),
    )
    def next_run(
        self, data: Any, source: dict[str, ObjectInfo], there: dict[str, ObjectInfo], gone: set[str], chance: int
    ) -> None:
        """Now and then. The plan stays, everything is listed again, and what was proven is not owed while both tokens are unchanged."""
        if chance != 1:
            return
        self._finish(data)
        failed = {number for number, one in self.plan.items() if one.totals.failed}
        undeleted = {n for n, one in self.plan.items() if one.totals.extra > one.totals.deleted + one.totals.kept}
        if (failed or undeleted) and data.draw(st.booleans()):
            self.reopened = True
            run = self._begin()
            assert (run.number, run.resumed, run.reopened) == (self.run_number, True, True)
            self._plan_failed()
            for number in failed:
                self._take_up(number)
            for number in undeleted:
                self._do(self._state(number).extras.take_up())
                self.plan[number].extras = {
                    key: "pending" if status == "failed" else status for key, status in self.plan[number].extras.items()
                }
            self._finish(data)
            self.reopened = False
        for key in gone:
            self.world["source"].pop(key, None)
        self._change_world(source, there)
        run = self._begin()
        assert (run.number, run.resumed) == (self.run_number + 1, False)
        self.run_number += 1
        self._new_plan()

    def _plan_failed(self) -> None:
        """What failed is owed again, by every start that goes on with a run that was reopened."""
        for one in self.plan.values():
            if one.totals.failed:
                one.phase = "planned"
            elif one.phase in {"deleted", "purged"} and one.totals.extra > one.totals.deleted + one.totals.kept:
                one.phase = "copied"

    def _finish(self, data: Any) -> None:
        """Go on with all ranges to the end of the run."""
        while left := [number for number, one in self.plan.items() if one.phase in {"planned", "copied"}]:
            number = left[0]
            one = self.plan[number]
            if one.to_cut:
                self._cut(number, data.draw(st.lists(KEYS, max_size=2)))
            if one.phase == "planned":
                self._bring_on(data, number, data.draw(st.integers(1, 5)))
            while one.phase == "copied":
                self._delete(data, number, 20)
        self._do(self.job.skip_pass(before="deleted", after="purged"))
        for one in self.plan.values():
            one.phase = "purged"
        run = Run(number=self.run_number, resumed=False, started_at=0)
        self._do(self.job.finish(run, status="done", message="", totals=self._do(self.job.totals())))

    @rule(chance=st.integers(0, 9))
    def restart(self, chance: int) -> None:
        """Now and then an unfinished run is given up."""
        if chance != 1:
            return
        self._leave()
        self._enter()
        run = self._begin(restart=True)
        assert (run.number, run.resumed) == (self.run_number + 1, False)
        self.run_number += 1
        self._new_plan()

    @precondition(lambda self: self.open)
    @rule()
    def crash(self) -> None:
        """Go on from what is on the disk, while nothing was closed."""
        old, self.number = self.directory, self.number + 1
        shutil.copytree(old, self.home / str(self.number))
        self._leave()
        shutil.rmtree(old)
        self._enter()
        run = self._begin()
        assert (run.number, run.resumed, run.reopened) == (self.run_number, True, self.reopened)
        if self.reopened:
            self._plan_failed()

    @invariant()
    def ranges_tile_the_key_space(self) -> None:
        rows = self._table(
            self.directory / "job.db", "SELECT range, lo, hi, phase, to_cut FROM range ORDER BY lo IS NOT NULL, lo"
        )
        assert {row[0]: row[1:] for row in rows} == {n: (*one.span, one.phase, one.to_cut) for n, one in self.plan.items()}
        assert (rows[0][1], rows[-1][2]) == (None, None)
        assert all(a[2] is not None and a[2] == b[1] for a, b in zip(rows, rows[1:], strict=False))

    @invariant()
    def transfers_are_as_they_have_to_be(self) -> None:
        owed: dict[str, int] = {}
        for number, one in self.plan.items():
            path = self.directory / "ranges" / f"{number:06d}.db"
            if not path.exists() or self._table(path, "SELECT run FROM span") != [(self.run_number,)]:
                assert not one.rows
                continue
            found = self._table(path, "SELECT key, size, status, attempts, copied FROM transfer")
            assert {row[0]: row[1:] for row in found} == {
                key: (row.size, row.status, row.attempts, int(row.copied)) for key, row in one.rows.items()
            }
            uploads = self._table(path, "SELECT key, json_extract(upload, '$.id') FROM transfer WHERE upload IS NOT NULL")
            assert dict(uploads) == {key: row.upload.id for key, row in one.rows.items() if row.upload}
            for key in one.rows:
                if key in one.span:
                    owed[key] = owed.get(key, 0) + 1
        assert set(owed.values()) <= {1}, "a key in two transfers"

    @invariant()
    def what_is_owed_is_known(self) -> None:
        """A range is not taken for copied as long as a transfer of it is pending or claimed."""
        for number, (_, state) in self.open.items():
            owed = any(row.status in {"pending", "claimed"} for row in self.plan[number].rows.values())
            assert self._do(state.queue.owed()) == owed

    @invariant()
    def no_upload_is_forgotten(self) -> None:
        """One that was begun is in its transfer, or waits to be aborted, until it is known to be gone."""
        for number, one in self.plan.items():
            path = self.directory / "ranges" / f"{number:06d}.db"
            found = self._table(path, "SELECT key, json_extract(upload, '$.id') FROM abandoned") if path.exists() else []
            assert sorted(found) == sorted(one.abandoned)

    @invariant()
    def what_is_done_stays_done(self) -> None:
        """Within a run: also through crashes and late outcomes."""
        for number, one in self.plan.items():
            now = {key for key, row in one.rows.items() if row.status == "done"}
            before = self.finished.get((self.run_number, number), set())
            assert {key for key in before if key in one.span} <= now
            self.finished[self.run_number, number] = now

    @invariant()
    def totals_add_up(self) -> None:
        expected = Totals(*map(sum, zip(*(one.totals for one in self.plan.values()), strict=True)))
        assert self._do(self.job.totals()) == expected

    def _table(self, path: Path, query: str) -> list[Any]:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            return db.execute(query).fetchall()


TestStateChart = StateChart.TestCase
TestStateChart.settings = fuzz(80, stateful_step_count=25, phases=[Phase.generate])


@pytest.mark.parametrize(
    ("info", "message"),
    [
        pytest.param(
            ObjectInfo("k", 1 << 63, "e" * 32),
            "size",
        ),
        pytest.param(
            ObjectInfo("\ud800", 1, "e" * 32),
            "key",
        ),
        pytest.param(
            ObjectInfo("\U0010ffff" * 1101, 1, "e" * 32),
            "key",
        ),
    ],
    ids=["size", "surrogate", "long key"],
)
def test_what_a_listing_should_not_hold_is_no_silent_loss(tmp_path: Path, info: ObjectInfo, message: str) -> None:
    """An error of ours, or a transfer."""

    async def run() -> int:
        async with open_range(tmp_path / "r.db", run=1, span=KeyRange(None, None)) as state:
            await state.inventory.record_page("destination", Page([], None), None)
            return (await state.inventory.record_page("source", Page([info], None), None)).queued

    try:
        queued = asyncio.run(run())
    except HeavysyncError as error:
        queued = str(error)
    assert queued == 1 or message in str(queued)
