"""What the S3 store asks, and what it makes of answers that a good server never gives."""

from __future__ import annotations

import asyncio
import gc
import os
from contextlib import asynccontextmanager
from unittest import mock
from urllib.parse import unquote

import pytest
from servers import S3Server
from wire_server import Answer, answer, wire_server

from heavysync.checksums import digest, multipart_etag
from heavysync.errors import (
    ConditionError,
    FatalError,
    NotFoundError,
    PermanentError,
    TransientError,
    UploadGoneError,
    UsageError,
)
from heavysync.objects import (
    ByteRange,
    Content,
    Deletion,
    Location,
    Metadata,
    ObjectInfo,
    Part,
    PartDone,
    UploadState,
)
from heavysync.stores.s3 import S3Options, open_s3

DATA = b"0123456789"
MD5 = digest([DATA]).md5.hex()
INFO = ObjectInfo("k", 10, MD5, modified_at="2026-01-01T00:00:00Z")
EMPTY = b"<ListBucketResult><Name>b</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"


def error(status, code, **headers):
    return answer(status, f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode(), **headers)


def content(data=DATA):
    return Content([data], len(data)), Metadata(), digest([data])


@asynccontextmanager
async def opened(server, location="s3://bkt/p", **how):
    environment = S3Server(name="", url=server.url).environment
    with mock.patch.dict(os.environ, {**environment, **how.pop("environment", {})}):
        options = S3Options(endpoint_url=server.url, stall_s=5, **how)
        async with open_s3(Location.parse(location), options, connections=4) as store:
            yield store


def ask(test, *answers, **how):
    """Run `test(store, server)`; answer its requests."""

    async def main():
        async with wire_server(*answers) as server, opened(server, **how) as store:
            await test(store, server)
            return server.requests

    try:
        return asyncio.run(main())
    finally:
        gc.collect()


def raises(expected, call, *answers, match=None, **how):
    """Assert that `call(store)` raises exactly this class; answer the requests."""

    async def test(store, _server):
        with pytest.raises(expected, match=match) as caught:
            await call(store)
        assert expected is type(caught.value)

    return ask(test, *answers, **how)


@pytest.mark.parametrize(
    "given", [answer(200, b""), answer(200, b"<html/>"), error(200, "SlowDown"), answer(200, EMPTY[:-9]), error(500, "X")]
)
def test_broken_list_answer_is_transient(given):
    """An empty 200, a proxy's page, an error inside a 200, a cut page: never an empty bucket."""
    raises(TransientError, lambda store: store.list_page(None, None), given)


def test_list_asks_for_encoded_keys_below_the_prefix():
    """Start and prefix are escaped once; nothing else is sent."""
    (request,) = ask(lambda store, _: store.list_page("a b+%/ü", None, 7), answer(200, EMPTY))

    assert request.target == "/bkt?encoding-type=url&list-type=2&max-keys=7&prefix=p%2F&start-after=p%2Fa%20b%2B%25%2F%C3%BC"
    assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIA")


@pytest.mark.parametrize("key", ["..", "a/../b", "a//b", "/a", "%2F", "a?b#c", "\\", "\x01", "🐙", " "])
def test_odd_keys_reach_the_server_as_they_are(key):
    """Nothing on the way normalises a path."""
    (request,) = ask(lambda store, _: store.write(key, *content(), None), answer(200, etag="x"))

    assert unquote(request.target) == "/bkt/p/" + key


def test_empty_key_never_becomes_a_request_about_the_bucket():
    """DELETE /bucket would remove it."""

    async def test(store, server):
        failures = await store.delete([Deletion("", listed=INFO), Deletion("\x01")])
        assert ["missing"] == [failure.code for failure in failures if failure.key == ""] or failures == []
        with pytest.raises(PermanentError):
            await store.write("", *content(), None)
        assert not any(
            request.method == "DELETE" and request.target.split("?")[0] in {"/bkt", "/bkt/"} for request in server.requests
        )

    ask(test, answer(200, b"<DeleteResult/>"), answer(204), location="s3://bkt")


def test_read_is_pinned_and_whole():
    """If-Match with the quoted ETag; metadata and checksums come along."""
    headers = {"etag": f'"{MD5}"', "content_type": "a/b", "x_amz_checksum_crc32c": "AAAAAA==", "x_amz_meta_n": "v"}

    async def test(store, server):
        read = await store.read(INFO)
        assert (DATA, "a/b", {"n": "v"}) == (b"".join(read.chunks), read.metadata.content_type, read.metadata.user)
        assert ("AAAAAA==", True) == (read.crc32c, read.is_md5_etag)
        assert f'"{MD5}"' == server.requests[0].headers["if-match"]
        assert "range" not in server.requests[0].headers

    ask(test, answer(200, DATA, **headers))


@pytest.mark.parametrize(
    "headers",
    [
        {"x_amz_server_side_encryption": "aws:kms"},
        {"x_amz_server_side_encryption": "aws:kms:dsse"},
        {"x_amz_server_side_encryption_customer_algorithm": "AES256"},
    ],
)
def test_encrypted_etag_is_no_md5(headers):
    """KMS and customer keys make the ETag something else."""

    async def test(store, _server):
        assert not (await store.read(INFO)).is_md5_etag

    ask(test, answer(200, DATA, etag=f'"{MD5}"', **headers))


def test_examining_tells_crc64nvme_and_encryption():
    """A HEAD with checksum mode tells the CRC64NVME of the whole object, and that KMS made the ETag something else."""
    headers = {"content_length": "5", "x_amz_checksum_crc64nvme": "AAAAAAAAAAA=", "x_amz_server_side_encryption": "aws:kms"}

    async def test(store, server):
        found = await store.examine("k")
        assert ("AAAAAAAAAAA=", False, 5) == (found.crc64nvme, found.is_md5_etag, found.info.size)
        assert "ENABLED" == server.requests[0].headers["x-amz-checksum-mode"]

    ask(test, answer(200, etag=f'"{MD5}"', **headers))


@pytest.mark.parametrize(
    "given",
    [{"x_amz_checksum_crc32c": "AAAAAA==-2"}, {"x_amz_checksum_crc32c": "AAAAAA==", "x_amz_checksum_type": "COMPOSITE"}],
)
def test_checksum_of_checksums_says_nothing(given):
    """Only a full-object checksum is passed on."""

    async def test(store, _server):
        assert (await store.read(INFO)).crc32c is None

    ask(test, answer(200, DATA, etag=f'"{MD5}"', **given))


@pytest.mark.parametrize("status", [206, 200])
def test_span_may_come_with_either_status(status):
    """Rclone answers 200 with a Content-Range."""

    async def test(store, server):
        assert (await store.read(INFO, ByteRange(2, 5))).chunks == [b"234"]
        assert server.requests[0].headers["range"] == "bytes=2-4"

    ask(test, answer(status, b"234", etag=f'"{MD5}"', content_range="bytes 2-4/10"))


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        (TransientError, answer(200, b"012", etag=f'"{MD5}"')),
        (TransientError, answer(206, b"234", etag=f'"{MD5}"', content_range="bytes 0-2/10")),
        (TransientError, answer(206, b"23", etag=f'"{MD5}"', content_range="bytes 2-4/10")),
        (ConditionError, answer(206, b"234", etag=f'"{MD5}"', content_range="bytes 2-4/11")),
        (ConditionError, answer(206, b"234", etag='"other"', content_range="bytes 2-4/10")),
        (ConditionError, answer(200, DATA, etag='"other"')),
        (ConditionError, error(412, "PreconditionFailed")),
        (ConditionError, error(416, "InvalidRange")),
        (NotFoundError, error(404, "NoSuchKey")),
        (PermanentError, error(403, "InvalidObjectState")),
        (FatalError, error(404, "NoSuchBucket")),
    ],
)
def test_span_that_is_not_what_was_asked_for(expected, given):
    """Other bytes, fewer bytes, another object: never content."""
    raises(expected, lambda store: store.read(INFO, ByteRange(2, 5)), given)


def test_whole_object_instead_of_a_span_is_not_taken():
    """A server that ignores Range is noticed, before its answer is read."""
    raises(TransientError, lambda store: store.read(INFO, ByteRange(2, 5)), answer(200, DATA, etag=f'"{MD5}"'))


def test_withheld_metadata_are_an_error():
    """S3 may say that it keeps back metadata; a copy without them would not be equal."""
    raises(PermanentError, lambda store: store.read(INFO), answer(200, DATA, etag=f'"{MD5}"', x_amz_missing_meta="1"))


def test_write_carries_md5_and_conditions():
    """A new object only where there is none, a replacement only of the listed one; tags and class by option."""

    async def test(store, server):
        data, _, digests = content()
        metadata = Metadata(content_type="a/b", user={"N": "v"}, tags=(("t", "u v"),))
        written = await store.write("k", data, metadata, digests, None)
        await store.write("k", data, metadata, digests, INFO._replace(etag="old"))
        first, second = server.requests
        assert ("e", "v7") == (written.etag, written.version)
        assert DATA == first.body
        assert "eB5eJF1ptWaXm4bijSPyxw==" == first.headers["content-md5"]
        assert ("*", '"old"') == (first.headers["if-none-match"], second.headers["if-match"])
        assert ("a/b", "v", "t=u%20v") == tuple(
            first.headers[name] for name in ("content-type", "x-amz-meta-n", "x-amz-tagging")
        )
        assert ("COLD", "requester") == (first.headers["x-amz-storage-class"], first.headers["x-amz-request-payer"])

    ask(test, answer(200, etag='"e"', x_amz_version_id="v7"), storage_class="COLD", request_payer=True)


def test_write_without_etag_is_settled_by_looking():
    """The same bytes at the destination: written; anything else: again."""

    async def test(store, server):
        assert MD5 == (await store.write("k", *content(), None)).etag
        assert ["PUT", "HEAD"] == [request.method for request in server.requests]

    ask(test, answer(200), Answer(f'HTTP/1.1 200 OK\r\netag: "{MD5}"\r\ncontent-length: 10\r\n\r\n'.encode()))
    head = Answer(b'HTTP/1.1 200 OK\r\netag: "other"\r\ncontent-length: 10\r\n\r\n')
    raises(TransientError, lambda store: store.write("k", *content(), None), answer(200), head)


COPIED = b'<CopyObjectResult><ETag>"e"</ETag></CopyObjectResult>'


def test_copy_is_pinned_conditional_and_complete():
    """Source, pin, condition and directives; the key is escaped once more in a header."""

    async def test(store, server):
        async with opened(server, "s3://other/q ü") as source:
            info = INFO._replace(key="a/../b+ %", version="v 1")
            written = await store.copy(source, info, replaces=None)
            assert ("e", 10) == (written.etag, written.size)
            assert source.copy_domain == store.copy_domain
        headers = server.requests[0].headers
        assert "other/q%20%C3%BC/a/../b%2B%20%25?versionId=v%201" == headers["x-amz-copy-source"]
        assert (f'"{MD5}"', "*") == (headers["x-amz-copy-source-if-match"], headers["if-none-match"])
        assert ("COPY", "REPLACE") == (headers["x-amz-metadata-directive"], headers["x-amz-tagging-directive"])

    ask(test, answer(200, COPIED))


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        (TransientError, answer(200, b"")),
        (TransientError, answer(200, b"   \n")),
        (TransientError, error(200, "InternalError")),
        (TransientError, error(200, "SlowDown")),
        (TransientError, answer(200, b"<html/>")),
        (ConditionError, error(200, "PreconditionFailed")),
        (NotFoundError, error(404, "NoSuchKey")),
    ],
)
def test_copy_is_proven_by_its_etag(expected, given):
    """A 200 may hold an error, or nothing."""
    raises(expected, lambda store: store.copy(store, INFO, replaces=None), given, error(404, ""))


def test_missing_destination_of_a_copy_is_no_missing_source():
    """If-Match on a key that has gone answers 404 as well."""
    raises(
        ConditionError,
        lambda store: store.copy(store, INFO, replaces=INFO),
        error(404, "NoSuchKey"),
        answer(404),
        answer(200, EMPTY),
    )


def upload_state(**how):
    return UploadState(id="u/1", part_size=5, source_token="t", **how)


async def uploading(store, **how):
    return await store.resume_upload("k", upload_state(**how), size=10, replaces=None)


PARTS = b"<ListPartsResult><UploadId>u</UploadId><IsTruncated>false</IsTruncated>%s</ListPartsResult>"
BEGUN = answer(200, PARTS % b"")
HALVES = [digest([DATA[:5]]).md5, digest([DATA[5:]]).md5]
DONE = tuple(PartDone(number, md5.hex(), md5.hex()) for number, md5 in enumerate(HALVES, 1))
LISTED = PARTS % b"".join(
    f"<Part><PartNumber>{p.number}</PartNumber><ETag>{p.etag}</ETag><Size>5</Size></Part>".encode() for p in DONE
)


def test_resumed_upload_keeps_what_both_sides_agree_on():
    """A part of another size or ETag, or unknown to the server, is sent again."""

    async def test(store, _server):
        others = (PartDone(1, "other"), DONE[1], PartDone(3, "unknown"))
        upload = await uploading(store, parts=others)
        assert (DONE[1],) == upload.state.parts

    ask(test, answer(200, LISTED))


def test_part_is_proven_by_its_md5():
    """The ETag of a part is its md5; under KMS it is not."""

    async def test(store, server):
        upload = await uploading(store)
        part, data = Part(1, 0, 5), Content([DATA[:5]], 5)
        with pytest.raises(TransientError):
            await upload.write_part(part, data, digest([DATA[:5]]))
        with pytest.raises(TransientError):
            await upload.write_part(part, data, digest([DATA[:5]]))
        done = await upload.write_part(part, data, digest([DATA[:5]]))
        assert ((done,), "f" * 32) == (upload.state.parts, done.etag)
        assert "/bkt/p/k?partNumber=1&uploadId=u%2F1" == server.requests[1].target

    wrong = f'"{"f" * 32}"'
    ask(test, BEGUN, answer(200), answer(200, etag=wrong), answer(200, etag=wrong, x_amz_server_side_encryption="aws:kms"))


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        (PermanentError, answer(200, b"", etag='"d41d8cd98f00b204e9800998ecf8427e"')),
        (PermanentError, answer(200, b"<CopyPartResult/>")),
        (TransientError, answer(200, b"")),
        (TransientError, answer(200, b"<html/>")),
        (TransientError, error(200, "InternalError")),
        (ConditionError, error(412, "PreconditionFailed")),
        (NotFoundError, error(404, "NoSuchKey")),
        (UploadGoneError, error(404, "NoSuchUpload")),
    ],
)
def test_copied_part_is_proven_by_its_etag(expected, given):
    """Servers that take it for an upload of nothing are told apart."""

    async def call(store):
        upload = await uploading(store)
        await upload.copy_part(store, INFO, Part(1, 0, 5))

    requests = raises(expected, call, BEGUN, given)
    assert "bytes=0-4" == requests[1].headers["x-amz-copy-source-range"]


def seen(etag, size=10, stamp=""):
    more = f"x-amz-meta-heavysync: {stamp}\r\n" if stamp else ""
    return Answer(f'HTTP/1.1 200 OK\r\netag: "{etag}"\r\ncontent-length: {size}\r\n{more}\r\n'.encode())


WHOLE = multipart_etag(HALVES)
COMPLETED = answer(200, b"<CompleteMultipartUploadResult><ETag>&quot;e-2&quot;</ETag></CompleteMultipartUploadResult>")


@pytest.mark.parametrize(
    "answers",
    [
        (error(404, "NoSuchUpload"), seen(WHOLE)),
        (error(412, "PreconditionFailed"), seen(WHOLE)),
        (answer(200, b"<CompleteMultipartUploadResult><ETag/></CompleteMultipartUploadResult>"), seen(WHOLE)),
        (error(404, "NoSuchUpload"), seen(MD5)),
        (COMPLETED, seen("e-2")),
        (COMPLETED, seen("anything", stamp="v1;size=10;src=t;n=nonce")),
    ],
)
def test_lost_completion_is_settled_by_looking(answers):
    """The object at the destination is what this upload makes: it succeeded unseen."""

    async def test(store, server):
        upload = await uploading(store, parts=DONE, nonce="nonce")
        written = await upload.complete(digest([DATA]))
        assert (10, server.requests[1].headers["x-amz-mp-object-size"]) == (written.size, "10")
        assert "*" == server.requests[1].headers["if-none-match"]

    ask(test, answer(200, LISTED), *answers)


@pytest.mark.parametrize(
    ("expected", "answers"),
    [
        (UploadGoneError, (error(404, "NoSuchUpload"), answer(404))),
        (UploadGoneError, (error(404, "NoSuchUpload"), seen("other"))),
        (UploadGoneError, (error(409, "ConditionalRequestConflict"), answer(404))),
        (ConditionError, (error(412, "PreconditionFailed"), seen("other"))),
        (ConditionError, (COMPLETED, seen("other"))),
        (ConditionError, (COMPLETED, seen("other", stamp="v1;size=10;src=t;n=other"))),
        (ConditionError, (COMPLETED, answer(404))),
        (ConditionError, (error(412, "PreconditionFailed"), seen(WHOLE, 9))),
        (TransientError, (answer(200, b"<html/>"), answer(404))),
        (TransientError, (error(200, "InternalError"),)),
        (TransientError, (answer(200, b""),)),
    ],
)
def test_completion_is_not_believed_without_proof(expected, answers):
    """Somebody else's object, or none, is not ours."""

    async def call(store):
        upload = await uploading(store, parts=DONE)
        await upload.complete(None)

    raises(expected, call, answer(200, LISTED), *answers)


def test_missing_object_in_a_missing_bucket_is_fatal():
    """A HEAD does not say which of the two is missing, so the bucket is looked at."""
    raises(FatalError, lambda store: store.stat("k"), answer(404), error(404, "NoSuchBucket"))


def test_missing_object_is_none_and_costs_one_request():
    """A bucket that answered a moment ago exists."""

    async def test(store, server):
        await store.list_page(None, None)
        assert await store.stat("k") is None
        assert 2 == len(server.requests)

    ask(test, answer(200, EMPTY), answer(404))


def test_unclear_head_is_asked_again_with_a_body():
    """A HEAD that says 400 may mean an expired token: the GET tells."""
    requests = raises(FatalError, lambda store: store.stat("k"), answer(400), error(400, "ExpiredToken"), match="renew them")

    assert ["HEAD", "GET"] == [request.method for request in requests]


def test_expired_credentials_are_looked_up_anew():
    """Fresh ones from where they came are used at once; the same again end the run."""

    async def test(store, server):
        with mock.patch.dict(os.environ, {"AWS_ACCESS_KEY_ID": "AKIAFRESH"}):
            with pytest.raises(TransientError):
                await store.read(INFO)
            with pytest.raises(NotFoundError):
                await store.read(INFO)
            assert "Credential=AKIAFRESH/" in server.requests[1].headers["authorization"]
            with pytest.raises(FatalError, match="renew them"):
                await store.read(INFO)

    ask(test, error(400, "ExpiredToken"), error(404, "NoSuchKey"), error(400, "ExpiredToken"))


def test_one_renewal_serves_all_who_wait():
    """Requests that were under way with the old credentials do not end the run."""

    async def test(store, _server):
        with mock.patch.dict(os.environ, {"AWS_ACCESS_KEY_ID": "AKIAFRESH"}):

            async def one():
                with pytest.raises(TransientError):
                    await store.read(INFO)

            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(one())

    ask(test, error(400, "ExpiredToken"))


def test_region_named_by_the_server_is_taken():
    """One transient error, then the signature is for the right region; at start not even that."""
    named = answer(400, b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-north-1</Region></Error>")

    async def test(store, server):
        with pytest.raises(TransientError, match="eu-north-1"):
            await store.list_page(None, None)
        await store.list_page(None, None)
        assert "/eu-north-1/s3/" in server.requests[1].headers["authorization"]

    ask(test, named, answer(200, EMPTY))

    async def start(store, _server):
        assert ("eu-north-1", "off") == ((await store.read_bucket()).location, (await store.read_bucket()).versioning)

    status = answer(200, b"<VersioningConfiguration/>")
    ask(start, named, answer(200, EMPTY), status, answer(200, EMPTY), status)
    raises(
        FatalError,
        lambda store: store.list_page(None, None),
        error(301, "PermanentRedirect", x_amz_bucket_region="us-east-1"),
    )


def test_clock_of_the_server_is_taken_once():
    """A wrong clock here is put right by the server's; if that does not help, nothing will."""
    skewed = error(403, "RequestTimeTooSkewed", date="Sun, 01 Nov 2037 00:00:00 GMT")

    async def test(store, server):
        with pytest.raises(TransientError):
            await store.list_page(None, None)
        await store.list_page(None, None)
        assert server.requests[1].headers["x-amz-date"].startswith("20371101T0000")
        with pytest.raises(FatalError, match="clock"):
            await store.list_page(None, None)

    ask(test, skewed, answer(200, EMPTY), skewed)


def test_anonymous_access_signs_nothing():
    """No signature, no credentials needed, and no shared copy domain."""

    async def test(store, server):
        await store.list_page(None, None)
        assert "authorization" not in server.requests[0].headers
        assert store.copy_domain.endswith("anonymous")

    ask(test, answer(200, EMPTY), anonymous=True, environment={"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""})


def test_delete_reports_what_stays():
    """Missing keys are deleted; the rest keeps the provider's code and whether it may pass."""
    rows = [
        ("gone", "NoSuchKey"),
        ("busy", "SlowDown"),
        ("mine", "AccessDenied"),
        ("new", "PreconditionFailed"),
        ("odd", "Strange"),
    ]
    body = "".join(f"<Error><Key>p/{key}</Key><Code>{code}</Code><Message>m</Message></Error>" for key, code in rows)

    async def test(store, server):
        failures = await store.delete([Deletion(key, listed=INFO) for key, _ in rows])
        assert [
            ("busy", "SlowDown", True),
            ("mine", "AccessDenied", False),
            ("new", "changed", False),
            ("odd", "Strange", False),
        ] == [(failure.key, failure.code, failure.transient) for failure in failures]
        assert {"content-md5", "content-type"} <= set(server.requests[0].headers)

    ask(test, answer(200, f"<DeleteResult>{body}</DeleteResult>".encode()))


def test_failure_without_a_version_is_of_the_only_one_asked_for():
    """Some servers leave it out; where several versions of the key were asked for, each is asked about alone."""
    body = b"<DeleteResult><Error><Key>p/a</Key><Code>AccessDenied</Code><Message>m</Message></Error></DeleteResult>"

    async def test(store, server):
        (failure,) = await store.delete([Deletion("a", "1"), Deletion("b", "1")])
        assert (failure.key, failure.version, failure.code) == ("a", "1", "AccessDenied")
        (failure,) = await store.delete([Deletion("a", "1"), Deletion("a", "2")])
        assert (failure.key, failure.version, failure.code) == ("a", "2", "AccessDenied")
        assert ["POST", "POST", "DELETE", "DELETE"] == [request.method for request in server.requests]

    ask(test, answer(200, body), answer(200, body), answer(204), error(403, "AccessDenied"))


def test_delete_of_unspeakable_keys_goes_singly():
    """Keys that XML cannot carry get a request each, with the condition in a header."""

    async def test(store, server):
        failures = await store.delete(
            [Deletion("\x01", listed=INFO), Deletion("\x02"), Deletion("\x03", version="v"), Deletion("a")]
        )
        assert [("\x02", "AccessDenied", False), ("\x03", "transient", True)] == [
            (f.key, f.code, f.transient) for f in failures
        ]
        assert ["POST", "DELETE", "DELETE", "DELETE"] == [request.method for request in server.requests]
        assert f'"{MD5}"' == server.requests[1].headers["if-match"]
        assert "/bkt/p/%03?versionId=v" == server.requests[3].target

    ask(test, answer(200, b"<DeleteResult/>"), answer(204), error(403, "AccessDenied"), error(500, "InternalError"))


def test_throttled_single_delete_makes_all_wait():
    """With what the server asks for."""

    async def test(store, _server):
        with pytest.raises(TransientError) as caught:
            await store.delete([Deletion("\x01"), Deletion("\x02")])
        assert (caught.value.throttled, caught.value.retry_after) == (True, 7.0)

    ask(test, answer(204), error(503, "SlowDown", retry_after="7"))


@pytest.mark.parametrize(("looks", "failed"), [(answer(404), 0), (seen("e"), 1)])
def test_delete_that_is_not_answered_as_one_is_looked_after(looks, failed):
    """A proxy's 200 does not delete anything."""

    async def test(store, server):
        failures = await store.delete([Deletion("\x01")])
        assert [True] * failed == [failure.transient for failure in failures]
        assert ["DELETE", "HEAD"] == [request.method for request in server.requests][:2]

    ask(test, answer(200), looks)


@pytest.mark.parametrize(
    ("headers", "is_md5"),
    [({}, True), ({"x_amz_server_side_encryption": "aws:kms"}, False), ({"x_amz_server_side_encryption": "AES256"}, True)],
)
def test_answer_to_a_write_says_whether_its_etag_is_an_md5(headers, is_md5):
    """Whoever wrote the object compares it then."""

    async def test(store, _server):
        written = await store.write("k", *content(), None)
        assert (written.etag, written.is_md5_etag) == ("b" * 32, is_md5)

    ask(test, answer(200, etag='"' + "b" * 32 + '"', **headers))


def test_head_that_is_refused_without_a_reason_is_answered_by_a_get():
    """400 RequestTimeout and the like: the headers of the first byte are as good, but for the length."""

    async def test(store, server):
        info = await store.stat("k")
        assert (info.size, info.etag) == (10, MD5)
        assert server.requests[1].headers["range"] == "bytes=0-0"

    first = f'HTTP/1.1 206 OK\r\netag: "{MD5}"\r\ncontent-range: bytes 0-0/10\r\ncontent-length: 1\r\n\r\nx'
    ask(test, answer(400), Answer(first.encode()))


def test_server_without_conditional_deletes_is_remembered():
    """Refused with conditions, done without; not asked with them again."""

    async def test(store, server):
        for _ in range(2):
            assert [] == await store.delete([Deletion("a", listed=INFO)])
        assert [True, False, False] == [b"<ETag>" in request.body for request in server.requests]

    ask(test, error(501, "NotImplemented"), answer(200, b"<DeleteResult/>"))


@pytest.mark.parametrize(
    "given",
    [
        answer(200, b""),
        answer(200, b"<html/>"),
        error(503, "SlowDown"),
        answer(200, b"<DeleteResult><Error><Key>p/other</Key><Code>X</Code></Error></DeleteResult>"),
    ],
)
def test_unclear_deletion_is_asked_again(given):
    """Nothing is known about any of the keys."""
    raises(TransientError, lambda store: store.delete([Deletion("a")]), given)


@pytest.mark.parametrize(
    ("expected", "etag", "headers"),
    [
        (6, "x-2", {"x_amz_mp_parts_count": "2"}),
        (None, "x-3", {"x_amz_mp_parts_count": "3"}),
        (None, "x-2", {"x_amz_mp_parts_count": "3"}),
        (None, "x-2", {}),
    ],
)
def test_part_size_is_told_only_where_it_fits(expected, etag, headers):
    """The count of parts has to agree with the ETag and with the size."""

    async def test(store, _server):
        assert expected == await store.part_size(INFO._replace(etag=etag))

    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    ask(test, Answer(f"HTTP/1.1 206 P\r\ncontent-length: 6\r\n{lines}\r\n".encode()))


def test_object_without_parts_costs_no_request():
    """The listing shows it."""

    async def test(store, server):
        assert await store.part_size(INFO) is None
        assert [] == server.requests

    ask(test, answer(500))


@pytest.mark.parametrize(
    ("expected", "location", "how", "word"),
    [
        (FatalError, "s3://bkt", {"environment": {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}}, "no credentials"),
        (FatalError, "s3://bkt", {"profile": "nobody"}, "nobody"),
        (FatalError, "s3://b k", {}, "bucket name"),
        (FatalError, "s3://x--use1-az4--x-s3", {}, "directory buckets"),
        (FatalError, "s3://bkt", {"region": "no region"}, "region"),
    ],
)
def test_what_cannot_start_is_said_at_once(expected, location, how, word):
    """Each mistake has its own words."""

    async def main():
        async with wire_server(answer()) as server, opened(server, location, **how):
            raise AssertionError("opened")

    with pytest.raises(expected, match=word):
        asyncio.run(main())


@pytest.mark.parametrize("url", ["127.0.0.1:9000", "ftp://x", "http://", "s3.example.com"])
def test_endpoint_needs_its_scheme(url):
    """It would be guessed wrong."""
    with pytest.raises(UsageError, match="scheme"):
        S3Options(endpoint_url=url)


@pytest.mark.parametrize(("key", "word"), [("x" * 1023, "1025 bytes"), ("ä" * 512, "1026 bytes"), ("\ud800", "Unicode")])
def test_names_that_s3_cannot_have(key, word):
    """Counted with the prefix, in UTF-8."""

    async def test(store, _server):
        assert word in store.name_error(key)
        assert store.name_error("") is None
        assert store.name_error("x" * 1022) is None

    ask(test, answer())


def test_aws_gets_what_others_may_refuse():
    """Virtual host, the extra checksum and the annotation directive go to AWS's own endpoints only."""

    async def main():
        with mock.patch.dict(os.environ, S3Server(name="", url="").environment):
            async with open_s3(Location.parse("s3://bkt"), S3Options(region="eu-west-1"), connections=1) as store:
                sent = []

                async def record(method, url, headers, body, **_):
                    sent.append((method, url, headers()))
                    return answer_of()

                with mock.patch.object(store._wire._door, "request", record):
                    await store.write("k", *content(), None)
                return sent, store.copy_domain

    def answer_of():
        from heavysync.stores.http import Response

        return Response(200, {"etag": "e"}, [])

    ((method, url, headers),), domain = asyncio.run(main())
    assert ("PUT", "https://bkt.s3.eu-west-1.amazonaws.com/k") == (method, url)
    assert "x-amz-checksum-crc32c" in headers
    assert domain.startswith("s3 aws key ")


def test_secrets_stay_out_of_errors():
    """Keys, tokens and signatures appear in no message."""

    async def test(store, _server):
        with pytest.raises(TransientError) as caught:
            await store.read(INFO)
        text = repr(caught.value) + repr(caught.value.__cause__)
        assert "secretsecret" not in text
        assert "Signature" not in text

    ask(test, Answer(then="close"))


def test_truncated_page_without_keys_leads_on_by_its_token():
    """Some servers send such pages; without a token it is an error in passing."""
    nothing = b"<ListBucketResult><Name>b</Name><KeyCount>0</KeyCount><IsTruncated>true</IsTruncated>%s</ListBucketResult>"
    token = b"<NextContinuationToken>t+1/=</NextContinuationToken>"

    async def test(store, server):
        assert ([], None) == await store.list_page(None, None)
        assert "continuation-token=t%2B1%2F%3D" in server.requests[1].target

    ask(test, answer(200, nothing % token), answer(200, EMPTY))
    raises(TransientError, lambda store: store.list_page(None, None), answer(200, nothing % b""))


def test_listing_without_etags_is_refused():
    """Nothing could be pinned."""
    page = b"<ListBucketResult><Name>b</Name><KeyCount>1</KeyCount><IsTruncated>false</IsTruncated><Contents><Key>p/k</Key><LastModified>x</LastModified><ETag></ETag><Size>1</Size></Contents></ListBucketResult>"

    raises(FatalError, lambda store: store.list_page(None, None), answer(200, page), match="no ETags")
