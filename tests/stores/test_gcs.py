"""What only Google Cloud Storage has: sessions that keep less than was sent, lost answers, pages without rows."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from contract.kit import all_versions, begin, copied, everything, get, held, keys, noise, put, see, send

from heavysync.checksums import crc32c_text, digest
from heavysync.errors import (
    ConditionError,
    FatalError,
    NotFoundError,
    PermanentError,
    TransientError,
    UploadGoneError,
    UsageError,
)
from heavysync.loopback import LoopbackGcs
from heavysync.objects import Deletion, Location, Metadata
from heavysync.parts import plan_parts
from heavysync.stores.gcs import open_gcs
from heavysync.stores.gcs_errors import error_of, refusal_of
from heavysync.stores.gcs_json import metadata_text
from heavysync.stores.gcs_upload import rest_of
from heavysync.stores.gcs_wire import GcsOptions

PART = 256 << 10


@asynccontextmanager
async def _server(**how):
    """A server with one bucket, and a store on it."""
    async with LoopbackGcs() as server:
        server.create_bucket("bucket-b")
        options = GcsOptions(endpoint_url=server.url, **how)
        async with open_gcs(Location(scheme="gs", bucket="bucket-b"), options, connections=8) as store:
            yield server, store


def _part(data, number):
    part = plan_parts(len(data), PART)[number - 1]
    piece = data[part.start : part.end]
    return part, held(piece), digest([piece])


def test_part_kept_only_in_part_is_continued_where_the_server_stands():
    """The server keeps 256 KiB of a bigger part; the rest follows within the same call."""

    async def body():
        async with _server() as (server, store):
            data = noise(4 * PART + 3)
            upload = await store.begin_upload(
                "k", Metadata(), size=len(data), part_size=4 * PART, source_token="", nonce="", replaces=None
            )
            rule = server.add_rule(operation="chunk", action="persist", amount=PART)
            parts = plan_parts(len(data), 4 * PART)
            for part in parts:
                piece = data[part.start : part.end]
                await upload.write_part(part, held(piece), digest([piece]))
            await upload.complete(digest([data]))

            assert rule.fired == 1
            assert data == await get(store, await see(store, "k"))

    asyncio.run(body())


@pytest.mark.parametrize("action", ["drop", "reset", "status"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_part_with_a_lost_answer_goes_on_after_asking(action, number):
    """After any failed attempt the same upload is used again: it asks what the server has, and finishes."""

    async def body():
        async with _server() as (server, store):
            data = noise(2 * PART + 3)
            upload = await begin(store, "k", data)
            rule = server.add_rule(method="PUT", action=action, skip=number - 1)
            for index in (1, 2, 3):
                try:
                    await upload.write_part(*_part(data, index))
                except TransientError:
                    await upload.write_part(*_part(data, index))
            await upload.complete(digest([data]))

            assert rule.fired == 1
            assert data == await get(store, await see(store, "k"))

    asyncio.run(body())


def test_finished_session_is_resumed_without_sending_anything():
    """A run that died after the last byte finds the object finished: parts are answered at once."""

    async def body():
        async with _server() as (server, store):
            data = noise(2 * PART)
            upload = await begin(store, "k", data)
            early = upload.state
            await send(upload, data)
            sent = len([entry for entry in server.log.entries if entry.method == "PUT"])
            again = await store.resume_upload("k", early, size=len(data), replaces=None)
            await send(again, data)
            written = await again.complete(digest([data]))

            assert written.version == (await see(store, "k")).version
            assert len([entry for entry in server.log.entries if entry.method == "PUT"]) == sent + 1

    asyncio.run(body())


def test_expired_session_is_gone():
    """A session that the server has forgotten begins anew; the destination is not touched."""

    async def body():
        async with _server() as (server, store):
            data = noise(2 * PART)
            upload = await begin(store, "k", data)
            await upload.write_part(*_part(data, 1))
            server.expire_uploads()

            with pytest.raises(UploadGoneError):
                await upload.write_part(*_part(data, 2))
            with pytest.raises(UploadGoneError):
                await store.resume_upload("k", upload.state, size=len(data), replaces=None)
            assert [] == await keys(store)

    asyncio.run(body())


def test_object_with_another_checksum_than_the_source_is_taken_away():
    """Parts that were right one by one, but not the object that was asked for, do not stay."""

    async def body():
        async with _server() as (_, store):
            data = noise(2 * PART)
            upload = await begin(store, "k", data)
            await send(upload, data)

            with pytest.raises(UploadGoneError):
                await upload.complete(digest([b"something else"]))
            assert [] == await keys(store)

    asyncio.run(body())


@pytest.mark.parametrize("action", ["html", "empty"])
def test_answer_that_is_no_listing_is_never_an_empty_page(action):
    """A proxy's page and an empty 200 are errors that pass, on both kinds of listing."""

    async def body():
        async with _server() as (server, store):
            await put(store, "k")
            server.add_rule(method="GET", action=action, count=2)

            with pytest.raises(TransientError):
                await store.list_page(None, None)
            with pytest.raises(TransientError):
                await store.list_versions_page(None, None, None)
            assert ["k"] == await keys(store)

    asyncio.run(body())


@pytest.mark.parametrize("action", ["cut_body", "reset_body"])
def test_cut_answers_are_errors_that_pass(action):
    """Half a page is no page and half an object is no object."""

    async def body():
        async with _server() as (server, store):
            data = noise(100_000)
            await put(store, "k", data)
            info = await see(store, "k")
            server.add_rule(method="GET", action=action, amount=50, count=2)

            with pytest.raises(TransientError):
                await store.read(info)
            with pytest.raises(TransientError):
                await store.list_page(None, None)
            assert data == await get(store, info)

    asyncio.run(body())


def test_write_whose_answer_was_lost_meets_its_own_success_as_a_condition():
    """The second attempt of a write that took effect is refused, for the engine to look."""

    async def body():
        async with _server() as (server, store):
            server.add_rule(method="POST", action="drop")
            with pytest.raises(TransientError):
                await put(store, "k")
            with pytest.raises(ConditionError):
                await put(store, "k")

    asyncio.run(body())


def test_every_request_is_made_once():
    """One call, one request: nothing is repeated behind the engine's back."""

    async def body():
        async with _server() as (server, store):
            server.log.clear()
            await put(store, "k", b"x")
            info = await see(store, "k")
            await store.read(info)
            await store.copy(store, info._replace(key="k"), replaces=info)

            assert ["POST", "GET", "GET", "POST"] == [entry.method for entry in server.log.entries]

    asyncio.run(body())


def test_throttling_says_so():
    """429 and rate limits that come as 403 cut the rate, and Retry-After is passed on."""

    async def body():
        async with _server() as (server, store):
            for status, reason in ((429, "rateLimitExceeded"), (403, "userRateLimitExceeded")):
                server.add_rule(action="status", status=status, reason=reason, retry_after=7.0)
                with pytest.raises(TransientError) as caught:
                    await store.list_page(None, None)
                assert (caught.value.throttled, caught.value.retry_after) == (True, 7.0)

    asyncio.run(body())


def test_rewrite_with_a_storage_class_keeps_the_metadata():
    """A class can only be set with all metadata, so they are sent again; the copy takes steps."""

    async def body():
        async with LoopbackGcs() as server:
            server.state.settings.rewrite_bytes = PART
            server.create_bucket("bucket-b")
            server.create_bucket("bucket-c")
            options = GcsOptions(endpoint_url=server.url, storage_class="COLDLINE")
            async with (
                open_gcs(Location(scheme="gs", bucket="bucket-b"), GcsOptions(endpoint_url=server.url), connections=2) as a,
                open_gcs(Location(scheme="gs", bucket="bucket-c"), options, connections=2) as b,
            ):
                metadata = Metadata(content_type="text/plain", content_language="de", user={"k": "v"})
                data = noise(3 * PART)
                await put(a, "k", data, metadata)
                _, calls = await copied(b, a, await see(a, "k"))
                result = await see(b, "k")

                assert calls > 1
                assert ("COLDLINE", metadata) == (result.storage_class, Metadata.from_json(result.metadata))
                state = await b.copy(a, await see(a, "k"), replaces=result)
                server.expire_uploads()
                with pytest.raises(UploadGoneError):
                    await b.copy(a, await see(a, "k"), replaces=result, state=state)

    asyncio.run(body())


def test_digest_of_a_read_is_taken_from_its_answer():
    """Where the listing had none: what arrives is held against it."""

    async def body():
        async with _server() as (_, store):
            await put(store, "k", b"some bytes")
            info = await see(store, "k")
            content = await store.read(info._replace(crc32c=None))
            assert (content.crc32c, info.crc32c) == (crc32c_text(digest([b"some bytes"]).crc32c),) * 2

    asyncio.run(body())


def test_one_refused_deletion_does_not_hide_the_others():
    """Each call of a batch has an answer of its own; a batch that fails as a whole is asked again."""

    async def body():
        async with _server() as (server, store):
            for name in ("a", "b", "c"):
                await put(store, name)
            server.add_rule(operation="delete", key="^b$", status=503)
            failures = await store.delete([Deletion(name) for name in ("a", "b", "c")])
            assert [("b", True)] == [(failure.key, failure.transient) for failure in failures]
            assert ["b"] == await keys(store)
            server.add_rule(operation="batch", status=503)
            with pytest.raises(TransientError):
                await store.delete([Deletion("b")])

    asyncio.run(body())


def test_versions_of_one_key_may_fill_pages():
    """A key with more versions than a page holds is answered whole, newest first."""

    async def body():
        async with _server() as (server, store):
            await store.enable_versioning()
            server.state.settings.page_limit = 2
            for index in range(7):
                await put(store, "k", b"x" * index, replaces=await see(store, "k"))
            await put(store, "l")
            rows = await all_versions(store)

            assert [*range(6, -1, -1), 1] == [row.size for row in rows]

    asyncio.run(body())


def test_listing_costs_one_request_a_page():
    """No page is asked for twice, with or without bounds."""

    async def body():
        async with _server() as (server, store):
            for index in range(10):
                server.put("bucket-b", f"k{index}", b"")
            server.log.clear()
            assert len(await everything(store, limit=4)) == 10
            assert len(server.log.entries) == 3

    asyncio.run(body())


@pytest.mark.parametrize(
    ("status", "reason", "message", "key", "expected"),
    [
        (404, "notFound", "No such object: b/k", "k", NotFoundError),
        (404, "notFound", "The specified bucket does not exist.", "k", FatalError),
        (412, "conditionNotMet", "", "k", ConditionError),
        (304, "", "", "k", ConditionError),
        (416, "requestedRangeNotSatisfiable", "", "k", ConditionError),
        (403, "forbidden", "", "k", PermanentError),
        (403, "forbidden", "", "", FatalError),
        (403, "accountDisabled", "", "k", FatalError),
        (403, "rateLimitExceeded", "", "k", TransientError),
        (403, "retentionPolicyNotMet", "", "k", PermanentError),
        (412, "orgPolicyConstraintFailed", "", "k", FatalError),
        (400, "invalid", "", "k", PermanentError),
        (408, "", "", "k", TransientError),
        (500, "backendError", "", "k", TransientError),
        (502, "", "", "", TransientError),
        (302, "", "", "", TransientError),
        (204, "", "", "", TransientError),
    ],
)
def test_refusals_are_told_by_status_and_reason(status, reason, message, key, expected):
    """The table of SEMANTICS, row by row."""
    body = json.dumps({"error": {"message": message, "errors": [{"reason": reason}] if reason else []}})
    error = error_of("read", key, refusal_of(status, {}, body.encode()))

    assert type(error) is expected


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "x"}', b"\xff\xfe"])
def test_refusals_without_json_are_still_told_by_status(body):
    """A proxy's words do not confuse the mapping."""
    assert isinstance(error_of("list", "", refusal_of(503, {}, body)), TransientError)


def test_metadata_text_is_what_metadata_would_write():
    """The fast text and the slow one are equal, so that rows compare as text."""
    headers = {"contentType": "text/plain", "cacheControl": 'no "cache"', "contentLanguage": "ü"}
    for fixed in ({}, headers):
        for user in ({}, {"b": "ü", "a": '"\\\n'}):
            expected = Metadata(
                content_type=fixed.get("contentType"),
                cache_control=fixed.get("cacheControl"),
                content_language=fixed.get("contentLanguage"),
                user=user,
            )
            text = metadata_text({**fixed, "metadata": user})
            assert text == (expected.to_json() if fixed or user else None)


@pytest.mark.parametrize("skip", range(8))
def test_rest_of_chunks_is_exact(skip):
    """Skipping bytes over chunks loses and repeats nothing."""
    assert b"abcdefg"[skip:] == b"".join(rest_of([b"abc", b"", b"de", b"fg"], skip))


def test_credentials_never_travel_over_plain_http_to_another_machine(monkeypatch):
    """A token on the wire in the clear is refused before anything is sent; emulators are asked without one."""
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    with pytest.raises(UsageError):
        _ = GcsOptions(endpoint_url="http://storage.example.com").needs_credentials

    assert not GcsOptions(endpoint_url="http://127.0.0.1:1").needs_credentials
    assert not GcsOptions(endpoint_url="http://localhost:1").needs_credentials
    assert GcsOptions(endpoint_url="http://127.0.0.1:1", credentials_file="f").needs_credentials
    assert GcsOptions().needs_credentials
    assert not GcsOptions(anonymous=True).needs_credentials
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "gcs:4443")
    assert not GcsOptions().needs_credentials
    assert GcsOptions().endpoint == "http://gcs:4443"
