"""What the server says of one object: its resource, its bytes, its conditions, its end."""

import base64
import gzip
import hashlib
import http.client
import json

import pytest
from awscrt import checksums as crt


def crc_text(data):
    return base64.b64encode(crt.crc32c(data).to_bytes(4, "big")).decode()


def md5_text(data):
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def test_resource_has_the_documented_fields(api):
    """Numbers are text, digests are base64, links lead to the object."""
    reply = api.insert("a/b", b"hello", headers={"Content-Type": "text/x"})

    found = reply.json
    assert reply.status == 200
    assert found["kind"] == "storage#object"
    assert (found["name"], found["bucket"], found["size"]) == ("a/b", "bkt", "5")
    assert found["id"] == f"bkt/a/b/{found['generation']}"
    assert found["selfLink"] == f"{api.server.url}/storage/v1/b/bkt/o/a%2Fb"
    assert found["md5Hash"] == md5_text(b"hello")
    assert found["crc32c"] == crc_text(b"hello")
    assert found["metageneration"] == "1"
    assert found["contentType"] == "text/x"
    assert found["storageClass"] == "STANDARD"
    assert found["timeCreated"] == found["updated"]
    assert found["timeCreated"].endswith("Z")
    assert "timeDeleted" not in found
    assert "componentCount" not in found
    assert api.object("GET", "a/b").json == found


def test_media_link_reads_the_object(api):
    """`mediaLink` is an address that answers with the bytes of that generation."""
    link = api.insert("a b", b"hello").json["mediaLink"]

    assert api.raw("GET", link.removeprefix(api.server.url)).body == b"hello"


def test_generations_only_grow(api):
    """Each write has a generation above the last one."""
    seen = [int(api.insert("x", b"").json["generation"]) for _ in range(20)]

    assert seen == sorted(set(seen))


def test_media_headers_tell_the_stored_object(api):
    """Digests, generation and stored size come with every read."""
    found = api.multipart(
        {
            "name": "x",
            "cacheControl": "no-store",
            "contentDisposition": "inline",
            "contentLanguage": "de",
        },
        b"hello",
    ).json
    reply = api.media("x")

    headers = reply.headers
    assert (reply.status, reply.body) == (200, b"hello")
    assert headers["x-goog-hash"] == f"crc32c={found['crc32c']},md5={found['md5Hash']}"
    assert headers["x-goog-generation"] == found["generation"]
    assert headers["x-goog-metageneration"] == "1"
    assert headers["x-goog-stored-content-length"] == "5"
    assert headers["x-goog-stored-content-encoding"] == "identity"
    assert headers["etag"] == found["etag"]
    assert headers["cache-control"] == "no-store"
    assert headers["content-disposition"] == "inline"
    assert headers["content-language"] == "de"
    assert headers["content-type"] == "text/plain"
    assert headers["content-length"] == "5"


@pytest.mark.parametrize(
    ("wanted", "body", "span"),
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=4-", b"456789", "bytes 4-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-30", b"0123456789", "bytes 0-9/10"),
        ("bytes=9-99", b"9", "bytes 9-9/10"),
    ],
)
def test_range_answers_206(api, wanted, body, span):
    """First, last, suffix and overlong ranges are cut out of the stored bytes."""
    api.insert("x", b"0123456789")
    reply = api.media("x", headers={"Range": wanted})

    assert (reply.status, reply.body, reply.headers["Content-Range"]) == (206, body, span)


@pytest.mark.parametrize(("size", "wanted"), [(10, "bytes=10-"), (10, "bytes=-0"), (0, "bytes=0-")])
def test_range_outside_the_object_is_416(api, size, wanted):
    """A range with no byte in it is refused."""
    api.insert("x", b"0" * size)

    assert api.media("x", headers={"Range": wanted}).status == 416


def test_senseless_range_is_ignored(api):
    """As HTTP says of a header that cannot be read."""
    api.insert("x", b"01234")

    assert (api.media("x", headers={"Range": "bytes=3-1"}).status, api.media("x").status) == (200, 200)


def raw_get(api, target, headers):
    connection = http.client.HTTPConnection(api.host, int(api.port))
    connection.putrequest("GET", target, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    return reply, body


TARGET = "/storage/v1/b/bkt/o/z?alt=media"


def test_gzip_is_decoded_for_clients_that_do_not_take_it(api):
    """Decompressive transcoding: no length, no encoding, a warning, and the range is ignored."""
    stored = gzip.compress(b"text" * 1000)
    api.multipart({"name": "z", "contentEncoding": "gzip"}, stored)
    reply, body = raw_get(api, TARGET, {"Range": "bytes=0-3"})

    assert (reply.status, body) == (200, b"text" * 1000)
    assert reply.headers["Content-Length"] is None
    assert reply.headers["Content-Encoding"] is None
    assert reply.headers["Transfer-Encoding"] == "chunked"
    assert "gunzipped" in reply.headers["Warning"]
    assert reply.headers["x-goog-stored-content-encoding"] == "gzip"
    assert reply.headers["x-goog-stored-content-length"] == str(len(stored))
    assert md5_text(stored) in reply.headers["x-goog-hash"]


@pytest.mark.parametrize("accept", ["gzip", "deflate, gzip;q=0.5"])
def test_gzip_is_served_as_stored_to_clients_that_take_it(api, accept):
    """`Accept-Encoding: gzip` gives the stored bytes, ranges too."""
    stored = gzip.compress(b"text" * 1000)
    api.multipart({"name": "z", "contentEncoding": "gzip"}, stored)
    reply, body = raw_get(api, TARGET, {"Accept-Encoding": accept})
    part, first = raw_get(api, TARGET, {"Accept-Encoding": accept, "Range": "bytes=0-3"})

    assert (body, reply.headers["Content-Encoding"]) == (stored, "gzip")
    assert reply.headers["Content-Length"] == str(len(stored))
    assert (part.status, first) == (206, stored[:4])


def test_no_transform_prevents_decoding(api):
    """`Cache-Control: no-transform` gives everybody the stored bytes."""
    stored = gzip.compress(b"text")
    api.multipart({"name": "z", "contentEncoding": "gzip", "cacheControl": "public, no-transform"}, stored)

    assert raw_get(api, TARGET, {})[1] == stored


def test_not_found_has_the_documented_body(api):
    """Metadata errors are JSON; media errors are the bare words."""
    reply, bucket = api.object("GET", "none"), api.object("GET", "x", bucket="nowhere")

    assert reply.status == 404
    assert reply.json == {
        "error": {
            "code": 404,
            "message": "No such object: bkt/none",
            "errors": [{"message": "No such object: bkt/none", "domain": "global", "reason": "notFound"}],
        }
    }
    assert (bucket.status, bucket.json["error"]["message"]) == (404, "The specified bucket does not exist.")
    assert (api.media("none").status, api.media("none").body) == (404, b"No such object: bkt/none")


def test_condition_not_met_has_the_documented_body(api):
    """412, reason conditionNotMet."""
    api.insert("x", b"1")
    reply = api.insert("x", b"2", ifGenerationMatch=0)

    assert (reply.status, reply.reason) == (412, "conditionNotMet")
    assert reply.json["error"]["message"] == "At least one of the pre-conditions you specified did not hold."


def test_write_conditions(api):
    """Generation and metageneration, match and not match, of a present and of an absent object."""
    assert api.insert("x", b"", ifGenerationMatch=1).status == 412
    assert api.insert("x", b"", ifGenerationNotMatch=1).status == 412  # no live object: fails
    assert api.insert("x", b"", ifMetagenerationMatch=1).status == 412
    generation = int(api.insert("x", b"", ifGenerationMatch=0).json["generation"])
    assert api.insert("x", b"", ifGenerationNotMatch=generation).status == 412
    assert api.insert("x", b"", ifGenerationMatch=generation - 1).status == 412
    assert api.insert("x", b"", ifMetagenerationNotMatch=1).status == 412
    assert api.insert("x", b"", ifMetagenerationMatch=2).status == 412
    assert api.insert("x", b"", ifGenerationMatch=generation, ifMetagenerationMatch=1).status == 200
    assert api.insert("x", b"", ifGenerationMatch="one").status == 400


def test_read_conditions(api):
    """On reads a failed not-match is 304, a failed match 412, for metadata and media alike."""
    found = api.insert("x", b"1").json
    same = {"ifGenerationNotMatch": found["generation"]}

    for read in (api.media, lambda name, **more: api.object("GET", name, **more)):
        assert read("x", **same).status == 304
        assert read("x", ifMetagenerationNotMatch=1).status == 304
        assert read("x", ifGenerationMatch=1).status == 412
        assert read("x", ifMetagenerationMatch=7).status == 412
        assert read("x", headers={"If-None-Match": found["etag"]}).status == 304
        assert read("x", headers={"If-Match": '"other"'}).status == 412
        assert read("x", ifGenerationMatch=found["generation"]).status == 200
        assert read("x", generation=found["generation"]).status == 200
        assert read("x", generation=1).status == 404


def test_delete_needs_its_conditions(api):
    """412 keeps the object; 204 and then 404 when it is gone."""
    generation = api.insert("x", b"").json["generation"]

    assert api.object("DELETE", "x", ifGenerationMatch=1).status == 412
    assert api.object("DELETE", "x", ifMetagenerationMatch=2).status == 412
    reply = api.object("DELETE", "x", ifGenerationMatch=generation)
    assert (reply.status, reply.body) == (204, b"")
    assert api.object("DELETE", "x", ifGenerationMatch=generation).status == 404
    assert api.names() == []


def versioned(api):
    reply = api.call("PATCH", "b/bkt", {"versioning": {"enabled": True}})
    assert reply.json["versioning"] == {"enabled": True}


def test_versioning_keeps_what_is_overwritten_and_deleted(api):
    """Noncurrent versions have timeDeleted, are listed with versions=true and read by generation."""
    versioned(api)
    first = api.insert("x", b"one").json["generation"]
    second = api.insert("x", b"two").json["generation"]
    assert api.object("DELETE", "x").status == 204

    items = api.list(versions="true")["items"]
    assert [item["generation"] for item in items] == [first, second]
    assert all(item["timeDeleted"] for item in items)
    assert api.names() == []
    assert api.object("GET", "x").status == 404
    assert api.media("x", generation=first).body == b"one"


def test_delete_of_a_generation_is_for_good(api):
    """The named version goes, live or not, the others stay."""
    versioned(api)
    first = api.insert("x", b"one").json["generation"]
    second = api.insert("x", b"two").json["generation"]

    assert api.object("DELETE", "x", generation=first).status == 204
    assert api.object("DELETE", "x", generation=first).status == 404
    assert [item["generation"] for item in api.list(versions="true")["items"]] == [second]
    assert api.object("DELETE", "x", generation=second).status == 204
    assert "items" not in api.list(versions="true")


def test_without_versioning_nothing_stays(api):
    """An overwritten object is gone, its generation is a 404."""
    first = api.insert("x", b"one").json["generation"]
    api.insert("x", b"two")

    assert len(api.list(versions="true")["items"]) == 1
    assert api.media("x", generation=first).status == 404


def test_clock_can_be_set_back_so_that_versions_are_old(api):
    """What a purge needs: timeDeleted far in the past, generations still growing."""
    versioned(api)
    api.server.state.settings.clock_offset_s = -30 * 86400.0
    api.insert("x", b"one")
    api.insert("x", b"two")
    api.server.state.settings.clock_offset_s = 0.0
    live = api.insert("x", b"three").json

    old = api.list(versions="true")["items"]
    assert old[0]["timeDeleted"] < old[1]["timeDeleted"] == live["timeCreated"]
    assert [int(item["generation"]) for item in old] == sorted(int(item["generation"]) for item in old)


def test_patch_merges_and_bumps_the_metageneration(api):
    """Fields are replaced or removed by null, custom metadata is merged entry by entry."""
    api.multipart({"name": "x", "metadata": {"a": "1", "b": "2"}, "contentLanguage": "de"}, b"")
    reply = api.object(
        "PATCH", "x", json={"metadata": {"b": None, "c": "3"}, "contentLanguage": None, "cacheControl": "no-store"}
    )

    found = reply.json
    assert found["metadata"] == {"a": "1", "c": "3"}
    assert "contentLanguage" not in found
    assert (found["cacheControl"], found["metageneration"]) == ("no-store", "2")
    assert found["contentType"] == "text/plain"
    assert api.object("PATCH", "x", json={}, ifMetagenerationMatch=1).status == 412
    assert "metadata" not in api.object("PATCH", "x", json={"metadata": None}).json


def test_update_replaces_all_metadata(api):
    """PUT leaves nothing that it does not name."""
    api.multipart({"name": "x", "metadata": {"a": "1"}, "contentLanguage": "de"}, b"")
    found = api.object("PUT", "x", json={"contentType": "a/b"}).json

    assert (found["contentType"], found["metageneration"]) == ("a/b", "2")
    assert "metadata" not in found
    assert "contentLanguage" not in found


def test_custom_time_only_moves_forward(api):
    """As documented: it cannot be removed or set back."""
    api.multipart({"name": "x", "customTime": "2024-05-01T00:00:00Z"}, b"")

    assert api.object("PATCH", "x", json={"customTime": "2024-04-01T00:00:00Z"}).status == 400
    assert api.object("PATCH", "x", json={"customTime": None}).status == 400
    assert api.object("PATCH", "x", json={"customTime": "2024-06-01T00:00:00Z"}).status == 200


def test_custom_metadata_is_any_unicode_up_to_8_kib(api):
    """Case and Unicode survive; more than 8 KiB or no text is refused."""
    odd = {"Über": "naïve ☃", "UPPER": "", "x": "y" * 8000}
    found = api.multipart({"name": "x", "metadata": odd}, b"").json

    assert found["metadata"] == odd
    assert api.multipart({"name": "x", "metadata": {"x": "y" * 8192}}, b"").status == 400
    assert api.multipart({"name": "x", "metadata": {"x": 1}}, b"").status == 400


def test_unknown_spellings_are_refused(api):
    """Google drops unknown fields and parameters silently; here they are errors."""
    api.insert("x", b"")

    for reply in (
        api.multipart({"name": "x", "content_type": "a/b"}, b""),
        api.object("PATCH", "x", json={"contenttype": "a/b"}),
        api.object("GET", "x", ifgenerationmatch=1),
        api.object("DELETE", "x", ifGenerationsMatch=1),
        api.call("GET", "b/bkt/o", max_results=1),
        api.call("GET", "b/bkt/o", versions="yes"),
        api.call("GET", "b/bkt/o", projection="all"),
        api.object("GET", "x", fields="sizes"),
    ):
        assert reply.status == 400, reply
    assert api.call("GET", "b/bkt/o", matchGlob="*").status == 501
    assert api.multipart({"name": "x", "eventBasedHold": True}, b"").status == 501


def test_fields_select_what_is_answered(api):
    """Names, nested names and lists of them."""
    api.multipart({"name": "x", "metadata": {"a": "1", "b": "2"}}, b"12")

    assert api.object("GET", "x", fields="size,name").json == {"size": "2", "name": "x"}
    assert api.object("GET", "x", fields="metadata/a").json == {"metadata": {"a": "1"}}
    assert api.object("GET", "x", fields="*").json == api.object("GET", "x").json
    assert api.multipart({"name": "y"}, b"", fields="name").json == {"name": "y"}
    assert json.loads(api.object("GET", "x", fields="metadata(a,b)").body) == {"metadata": {"a": "1", "b": "2"}}
