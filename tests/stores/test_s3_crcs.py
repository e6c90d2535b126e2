"""Parts that carry CRC32Cs: to servers that check them, and to no others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
from bench_server import KEYS, Server, running

from heavysync.checksums import crc32c, crc32c_text, digest, multipart_etag
from heavysync.errors import DamagedError, PermanentError, TransientError, UploadGoneError
from heavysync.objects import Content, Digests, Location, Metadata, ObjectInfo, Part, UploadState
from heavysync.outcomes import Transfer
from heavysync.state.uploads import upload_from_json, upload_to_json
from heavysync.stores import s3_begin, s3_errors
from heavysync.stores.s3 import S3Options, S3Store, open_s3
from heavysync.transfer.large import _Relay

BODY = [b"first part, " * 4, b"and the last"]
WHOLE = crc32c(BODY)
PARTS = [Part(1, 0, len(BODY[0])), Part(2, len(BODY[0]), len(BODY[0]) + len(BODY[1]))]
SIZE = PARTS[-1].end
METADATA = Metadata(user={"a": "b"})


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as found:
        yield found


@pytest.fixture
def bench(server, monkeypatch) -> Server:
    """An empty bucket on a server that checks."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    server.control("/checksums", how="checked")
    server.control("/fill", service="s3", bucket="b", count=0, size=1)
    server.control("/reset")
    return server


def on(bench, work):
    async def run():
        async with open_s3(Location.parse("s3://b"), S3Options(endpoint_url=bench.urls["s3"]), connections=4) as store:
            return await work(store)

    return asyncio.run(run())


async def begin(store: S3Store, key="k", **how):
    return await store.begin_upload(
        key, METADATA, size=SIZE, part_size=PARTS[0].size, source_token="t", nonce="n", replaces=None, **how
    )


async def send(upload, number, body=None, *, md5: bool, crc=None):
    body = BODY[number - 1] if body is None else body
    sums = digest([body])
    digests = Digests(sums.md5 if md5 else b"", sums.crc32c if crc is None else crc)
    return await upload.write_part(PARTS[number - 1], Content([body], len(body)), digests)


def counts(bench):
    return bench.control("/stats")["counts"]["s3"]


ASKED = {
    "checked": (1, 0, 0),
    "repeated": (1, 1, 1),
    "choking": (1, 1, 1),
    "composite": (0, 1, 1),
    "ignored": (0, 1, 1),
    "silent": (0, 1, 1),
    "refused": (0, 0, 1),
    "stumbling": (0, 0, 1),
}
"""Wrong parts that are sent, uploads that are aborted, and those that are begun once more, by what the server does."""


@pytest.mark.parametrize("how", ASKED)
def test_only_a_server_that_checks_gets_crcs_instead_of_md5s(bench, how):
    """All others get md5s, and are asked once; the object comes out the same."""
    bench.control("/checksums", how=how)

    async def work(store):
        for key in ("k", "l", "m"):
            upload = await begin(store, key)
            assert upload.state.crcs == (how == "checked")
            assert upload.needs_md5s == (how != "checked")
            for number in (1, 2):
                await send(upload, number, md5=upload.needs_md5s)
            await upload.complete(Digests(b"", WHOLE))
            found = await store.stat(key)
            assert found.crc32c == (crc32c_text(WHOLE) if how == "checked" else None)
            assert found.etag == multipart_etag([digest([part]).md5 for part in BODY])

    on(bench, work)
    for key in ("k", "l", "m"):
        assert bench.read("s3", "b", key) == b"".join(BODY)
    told = counts(bench)
    probes, aborts, again = ASKED[how]
    assert told["put part"] == 6 + probes
    assert told.get("abort upload", 0) == aborts
    assert told["begin upload"] == 3 + again


def test_part_that_was_damaged_on_the_way_is_refused(bench):
    """The server compares; nothing of it is kept."""

    async def work(store):
        upload = await begin(store)
        with pytest.raises(DamagedError):
            await send(upload, 1, md5=False, crc=crc32c([b"other bytes"]))
        assert upload.state.parts == ()
        await send(upload, 1, md5=False)

    on(bench, work)


@pytest.mark.parametrize("md5", [True, False])
def test_answer_without_a_crc_is_held_against_the_md5(bench, md5):
    """A server that checked and then says nothing of it: the ETag decides, whether the md5 was known or not."""

    async def work(store):
        upload = await begin(store)
        bench.control("/checksums", how="repeated")
        upload._wire = Silent(upload._wire)
        await send(upload, 1, md5=md5)
        upload._wire.etag = "0" * 32
        with pytest.raises(DamagedError, match="the ETag of what is there"):
            await send(upload, 2, md5=md5)

    on(bench, work)


def test_answer_with_another_crc_is_damage(bench):
    """What is there is not what was sent."""

    async def work(store):
        upload = await begin(store)
        upload._wire = Silent(upload._wire, crc="AAAAAA==")
        with pytest.raises(DamagedError, match="what is there has AAAAAA=="):
            await send(upload, 1, md5=False)

    on(bench, work)


class Silent:
    """A wire whose answers to parts say what they are told to, or nothing, of checksums."""

    def __init__(self, wire, crc=None):
        self._wire, self.crc, self.etag = wire, crc, None

    def __getattr__(self, name):
        return getattr(self._wire, name)

    async def send(self, *args, **named):
        response = await self._wire.send(*args, **named)
        headers = {name: value for name, value in response.headers.items() if name != "x-amz-checksum-crc32c"}
        headers |= {"x-amz-checksum-crc32c": self.crc} if self.crc else {}
        headers |= {"etag": f'"{self.etag}"'} if self.etag else {}
        return response._replace(headers=headers)


def test_whole_that_does_not_add_up_never_appears(bench):
    """The server holds the CRC of the whole against what it has."""

    async def work(store):
        upload = await begin(store)
        for number in (1, 2):
            await send(upload, number, md5=False)
        with pytest.raises(UploadGoneError, match="BadDigest"):
            await upload.complete(Digests(b"", WHOLE ^ 1))
        assert await store.stat("k") is None

    on(bench, work)


def test_another_object_is_not_taken_for_ours_by_its_stamp(bench):
    """A server that lost the answer to a completion: what is there has to have our CRC, where it states one."""

    async def work(store):
        upload = await begin(store)
        for number in (1, 2):
            await send(upload, number, md5=False)
        await upload.complete(Digests(b"", WHOLE))
        assert await upload._look(upload.state.parts, Digests(b"", WHOLE)) is not None
        assert await upload._look(upload.state.parts, Digests(b"", WHOLE ^ 1)) is None

    on(bench, work)


def test_upload_that_is_resumed_goes_on_with_crcs(bench):
    """By another process: what the first one kept tells."""

    async def first(store):
        upload = await begin(store)
        await send(upload, 1, md5=False)
        return upload.state

    state = on(bench, first)
    kept = upload_from_json(upload_to_json(state))
    assert kept.crcs
    assert not upload_from_json('{"kind": "upload", "id": "x", "part_size": 1, "source_token": "t", "nonce": ""}').crcs

    async def second(store):
        upload = await store.resume_upload("k", state, size=SIZE, replaces=None)
        assert [part.number for part in upload.state.parts] == [1]
        assert not upload.needs_md5s
        await send(upload, 2, md5=False)
        await upload.complete(Digests(b"", WHOLE))

    on(bench, second)
    assert bench.read("s3", "b", "k") == b"".join(BODY)


def test_server_side_copies_ask_for_no_crcs(bench):
    """Their bytes are never here."""

    async def work(store):
        upload = await begin(store, server_side=True)
        assert upload.needs_md5s
        assert not upload.state.crcs

    on(bench, work)


def test_question_that_fails_in_passing_leaves_no_upload(bench, monkeypatch):
    """Nobody would know of it; the next attempt asks again."""

    async def work(store):
        broken = store._begin._refuses_damage
        monkeypatch.setattr(store._begin, "_refuses_damage", cut)
        with pytest.raises(ConnectionError):
            await begin(store)
        assert counts(bench)["abort upload"] == 1
        monkeypatch.setattr(store._begin, "_refuses_damage", broken)
        assert (await begin(store)).state.crcs

    async def cut(*_):
        raise ConnectionError

    on(bench, work)


@pytest.mark.parametrize("how", ["unfinished", "unfinished: digest", "unfinished: part"])
def test_server_that_cannot_complete_with_crcs_gets_md5s(bench, how):
    """It checks parts, and refuses the whole: the upload counts as gone, and the next one goes without."""
    bench.control("/checksums", how=how)

    async def work(store):
        upload = await begin(store)
        for number in (1, 2):
            await send(upload, number, md5=False)
        with pytest.raises(UploadGoneError):
            await upload.complete(Digests(b"", WHOLE))
        await upload.abort()
        upload = await begin(store)
        assert upload.needs_md5s
        for number in (1, 2):
            await send(upload, number, md5=True)
        await upload.complete(Digests(b"", WHOLE))

    on(bench, work)
    assert bench.read("s3", "b", "k") == b"".join(BODY)


def test_many_uploads_at_once_ask_once(bench):
    """All others wait for the answer."""

    async def work(store):
        async with asyncio.TaskGroup() as group:
            uploads = [group.create_task(begin(store, f"k{number}")) for number in range(6)]
        assert all(upload.result().state.crcs for upload in uploads)

    on(bench, work)
    assert (counts(bench)["put part"], counts(bench)["begin upload"]) == (1, 6)


def test_question_that_is_throttled_is_asked_again(bench, monkeypatch):
    """That the server is busy says nothing of checksums; the upload is given up, and the begin is tried again like any other."""

    async def work(store):
        send_it = store._wire.send

        async def throttled(operation, *args, **named):
            if operation is s3_errors.WRITE_PART:
                raise TransientError("slow down", throttled=True)
            return await send_it(operation, *args, **named)

        monkeypatch.setattr(store._wire, "send", throttled)
        with pytest.raises(TransientError):
            await begin(store)
        monkeypatch.setattr(store._wire, "send", send_it)
        assert (await begin(store)).state.crcs

    on(bench, work)
    assert counts(bench)["abort upload"] == 1


def test_abort_of_the_asking_upload_is_tried_again(bench, monkeypatch):
    """Nobody but this process knows of it."""
    bench.control("/checksums", how="repeated")
    monkeypatch.setattr(s3_begin, "_PAUSE_S", 0.0)

    async def work(store):
        send_it, failures = store._wire.send, [TransientError("no"), TransientError("no")]

        async def flaky(operation, *args, **named):
            if operation is s3_errors.ABORT and failures:
                raise failures.pop()
            return await send_it(operation, *args, **named)

        monkeypatch.setattr(store._wire, "send", flaky)
        assert not (await begin(store)).state.crcs

    on(bench, work)
    assert counts(bench)["abort upload"] == 1


def test_state_without_crcs_is_what_older_versions_read():
    """A member that they do not know would end their run."""
    state = UploadState(id="u", part_size=1, source_token="t")
    assert "crcs" not in upload_to_json(state)
    assert upload_from_json(upload_to_json(state)) == state


def test_aws_is_not_asked_and_not_distrusted(bench):
    """It is known to check; a completion that it refuses has another reason."""

    async def work(store):
        store._begin._is_aws = store._begin._checks = True
        upload = await begin(store)
        assert upload.state.crcs
        for number in (1, 2):
            await send(upload, number, md5=False)
        bench.control("/checksums", how="unfinished")
        with pytest.raises(PermanentError):
            await upload.complete(Digests(b"", WHOLE))
        assert (await begin(store, "l")).state.crcs

    on(bench, work)
    assert counts(bench)["put part"] == 2


@pytest.mark.parametrize("crcs", [True, False])
def test_upload_with_crcs_is_not_gone_on_with_by_copies(crcs):
    """What the provider copies has no CRCs here that a completion could name."""
    info = ObjectInfo("k", SIZE, "e")
    state = UploadState(id="u", part_size=PARTS[0].size, source_token=info.token, crcs=crcs)
    given_up, resumed = [], []

    async def give_up(upload):
        given_up.append(upload)

    async def resume(_, step):
        resumed.append(step)

    relay = _Relay(Transfer(info, None, "new", 0, state), Mock(), Mock(), server_side=True, alone=False)
    relay._give_up, relay._suspiciously = give_up, resume
    assert asyncio.run(relay._resume()) is None
    assert (given_up, len(resumed)) == (([state], 0) if crcs else ([], 1))
