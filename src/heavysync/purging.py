"""Noncurrent versions at the destination that are older than the threshold, and the delete markers that are left alone.

A version's age counts from when it became noncurrent (S3: its successor's creation; GCS: `timeDeleted`), by the server's
clock. The live version is never deleted: a page of versions is listed and its victims are deleted at once, and if the
delete does not go through, the page is listed again first.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple

from heavysync.errors import TransientError
from heavysync.events import Deleted, Listener
from heavysync.keyspace import KeyRange
from heavysync.objects import Deletion, ObjectVersion, VersionCursor, VersionPage
from heavysync.retry import Retrier, StoppedError
from heavysync.state.extras import PURGE_FAILURES, Extras, PurgeFailure, PurgeProgress, PurgeStep
from heavysync.stores.base import Store


class _Step(NamedTuple):
    """What one page came to."""

    page: VersionPage
    deleted: int
    failures: list[PurgeFailure]


class Purger:
    """Purges one range.

    Args:
        store: the destination.
        retry: the retry policy.
        listener: is told of what was deleted.
        days: the threshold, above 0.
        null_is_safe: versioning is enabled, so that S3's version "null" cannot be overwritten in place.
    """

    def __init__(self, store: Store, retry: Retrier, *, listener: Listener, days: float, null_is_safe: bool) -> None:
        self._store = store
        self._retry = retry
        self._listener = listener
        self._days = days
        self._null_is_safe = null_is_safe

    async def run(self, extras: Extras, span: KeyRange) -> bool:
        """Purge the range; answer False if the run stopped first. Goes on where an earlier attempt was."""
        progress = await extras.purge_progress()
        try:
            while progress.step == "versions":
                step = await self._retry("purge", partial(self._page, span, progress.cursor))
                self._listener(Deleted(step.deleted, len(step.failures)))
                progress = _after(progress, step)
                await extras.save_purge(progress, step.failures)
                if progress.step == "versions" and self._retry.stopping.is_set():
                    return False
            if progress.step == "markers":
                deleted, failures = await self._retry("purge markers", partial(self._markers, span))
                purged, failed = progress.purged + deleted, progress.failed + len(failures)
                await extras.save_purge(progress._replace(purged=purged, failed=failed, step="done"), failures)
        except StoppedError:
            return False
        return True

    async def _page(self, span: KeyRange, cursor: VersionCursor | None) -> _Step:
        """List one page and delete its victims right away: one step, so that a repeated one lists again."""
        page = await self._store.list_versions_page(cursor, span.lo, span.hi)
        cutoff = self._cutoff(page.server_time)
        victims = [version for version in page.versions if self._is_old(version, cutoff)]
        failures = await self._delete(victims)
        return _Step(page, len(victims) - len(failures), failures)

    def _is_old(self, version: ObjectVersion, cutoff: datetime) -> bool:
        if version.is_live or version.noncurrent_since is None:
            return False
        if version.version == "null" and not self._null_is_safe:
            return False
        return parse_time(version.noncurrent_since) < cutoff

    async def _markers(self, span: KeyRange) -> tuple[int, list[PurgeFailure]]:
        """Delete live delete markers that are old and the only version of their key."""
        deleted = 0
        failures: list[PurgeFailure] = []
        cursor: VersionCursor | None = None
        group: list[ObjectVersion] = []
        while True:
            page = await self._store.list_versions_page(cursor, span.lo, span.hi)
            cutoff = self._cutoff(page.server_time)
            victims: list[ObjectVersion] = []
            for version in page.versions:
                if group and group[0].key != version.key:
                    victims += self._expired(group, cutoff)
                    group = []
                if len(group) < 2:  # one key may have millions of versions; two of them are enough
                    group.append(version)
            cursor = page.cursor
            if cursor is None:
                victims += self._expired(group, cutoff)
            refused = await self._delete(victims)
            deleted += len(victims) - len(refused)
            failures += refused[:PURGE_FAILURES]
            if cursor is None:
                return deleted, failures

    def _expired(self, group: list[ObjectVersion], cutoff: datetime) -> list[ObjectVersion]:
        is_alone = len(group) == 1 and group[0].is_live and group[0].is_marker
        if not is_alone or (group[0].version == "null" and not self._null_is_safe):
            return []
        return group if parse_time(group[0].modified_at) < cutoff else []

    async def _delete(self, victims: list[ObjectVersion]) -> list[PurgeFailure]:
        """Delete versions by their ids; answer those that could not be."""
        refused: list[PurgeFailure] = []
        limit = self._store.limits.delete_batch
        for start in range(0, len(victims), limit):
            batch = [Deletion(victim.key, victim.version) for victim in victims[start : start + limit]]
            failures = await self._store.delete(batch)
            for failure in failures:
                if failure.transient:
                    raise TransientError(f"purge {failure.key}: {failure.code}: {failure.message}")
                words = f"purge version {failure.version} of {failure.key}: {failure.message}"
                refused.append(PurgeFailure(failure.key, failure.version or "", failure.code, words))
        return refused

    def _cutoff(self, server_time: str) -> datetime:
        return parse_time(server_time) - timedelta(days=self._days)


def _after(progress: PurgeProgress, step: _Step) -> PurgeProgress:
    """How far purging has come when a page is dealt with."""
    markers_seen = progress.markers_seen or any(v.is_live and v.is_marker for v in step.page.versions)
    then: PurgeStep = "markers" if markers_seen else "done"
    return PurgeProgress(
        step.page.cursor or progress.cursor,
        markers_seen,
        progress.purged + step.deleted,
        progress.failed + len(step.failures),
        "versions" if step.page.cursor is not None else then,
    )


def parse_time(text: str) -> datetime:
    """An RFC 3339 time of a provider."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
