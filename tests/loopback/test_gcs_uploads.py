"""Uploads in one request and in many: what is kept, what is refused, how it ends."""

import base64
import hashlib
import socket
import time

import pytest
from awscrt import checksums as crt

CHUNK = 1 << 18


def md5_text(data):
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def crc_text(data):
    return base64.b64encode(crt.crc32c(data).to_bytes(4, "big")).decode()


def test_multipart_carries_all_metadata(api):
    """The resource of the first part, the bytes of the second, whatever they are."""
    data = b"\r\n--a+bound\r\n\r\n{}--\r\n"
    given = {
        "name": "x",
        "contentType": "a/b",
        "contentEncoding": "br",
        "contentLanguage": "de",
        "contentDisposition": "attachment",
        "cacheControl": "no-store",
        "storageClass": "NEARLINE",
        "metadata": {"k": "v"},
        "md5Hash": md5_text(data),
        "crc32c": crc_text(data),
    }
    found = api.multipart(given, data).json

    assert {name: found[name] for name in given} == given
    assert api.server.read("bkt", "x").data == data


@pytest.mark.parametrize("field", ["md5Hash", "crc32c"])
def test_wrong_digest_is_refused(api, field):
    """400 and no object, also where the digest is none at all."""
    good = {"md5Hash": md5_text, "crc32c": crc_text}[field]
    reply = api.multipart({"name": "x", field: good(b"other")}, b"data")

    assert (reply.status, reply.reason) == (400, "invalid")
    assert "doesn't match calculated" in reply.json["error"]["message"]
    assert api.multipart({"name": "x", field: "!!"}, b"data").status == 400
    assert api.names() == []
    assert api.multipart({"name": "x", field: good(b"data")}, b"data").status == 200


def test_malformed_multipart_is_refused(api):
    """No boundary, no end, no JSON."""
    target = "/upload/storage/v1/b/bkt/o?uploadType=multipart"
    related = {"Content-Type": "multipart/related; boundary=q"}

    assert api.raw("POST", target, b"x", {"Content-Type": "text/plain"}).status == 400
    assert api.raw("POST", target, b"--q\r\n\r\n{}\r\n--q", related).status == 400
    bad = b"--q\r\nContent-Type: application/json\r\n\r\n{\r\n--q\r\n\r\ndata\r\n--q--"
    assert api.raw("POST", target, bad, related).status == 400


def test_upload_type_is_needed(api):
    """And it is one of three."""
    assert api.raw("POST", "/upload/storage/v1/b/bkt/o?name=x", b"").status == 400
    assert api.raw("POST", "/upload/storage/v1/b/bkt/o?name=x&uploadType=simple", b"").status == 400


def test_resumable_in_chunks(api):
    """308 with what is kept until the last chunk, which answers the resource."""
    data = bytes(range(256)) * 2400  # two chunks and a bit
    session = api.session("x")
    total = len(data)
    first = api.put(session, f"bytes 0-{CHUNK - 1}/{total}", data[:CHUNK])
    second = api.put(session, f"bytes {CHUNK}-{2 * CHUNK - 1}/{total}", data[CHUNK : 2 * CHUNK])

    assert (first.status, first.headers["Range"]) == (308, f"bytes=0-{CHUNK - 1}")
    assert (second.status, second.headers["Range"]) == (308, f"bytes=0-{2 * CHUNK - 1}")
    assert api.names() == []
    last = api.put(session, f"bytes {2 * CHUNK}-{total - 1}/{total}", data[2 * CHUNK :])
    assert (last.status, last.json["size"], last.json["md5Hash"]) == (200, str(total), md5_text(data))
    assert api.server.read("bkt", "x").data == data


def test_status_of_a_session(api):
    """No Range while nothing is kept; the resource once it is done, for every later PUT."""
    session = api.session("x")
    for asked in ("bytes */*", f"bytes */{CHUNK + 1}"):
        reply = api.put(session, asked)
        assert (reply.status, reply.headers["Range"]) == (308, None)
    api.put(session, f"bytes 0-{CHUNK - 1}/*", b"0" * CHUNK)
    assert api.put(session, "bytes */*").headers["Range"] == f"bytes=0-{CHUNK - 1}"
    done = api.put(session, f"bytes {CHUNK}-{CHUNK}/{CHUNK + 1}", b"1").json
    for asked in ("bytes */*", f"bytes */{CHUNK + 1}"):
        assert api.put(session, asked).json == done
    assert len(api.list(versions="true")["items"]) == 1


def test_unknown_total_until_the_end(api):
    """`*` until the last chunk, or until a query that names what is kept."""
    one, two = api.session("one"), api.session("two")
    for session in (one, two):
        assert api.put(session, f"bytes 0-{CHUNK - 1}/*", b"0" * CHUNK).status == 308

    assert api.put(one, f"bytes {CHUNK}-{CHUNK + 1}/{CHUNK + 2}", b"12").json["size"] == str(CHUNK + 2)
    assert api.put(two, f"bytes */{CHUNK}").json["size"] == str(CHUNK)


def test_empty_object(api):
    """`bytes */0` ends a session without a byte, and so does a PUT with nothing."""
    assert api.put(api.session("x"), "bytes */0").json["size"] == "0"
    assert api.put(api.session("y"), "").json["size"] == "0"


def test_whole_object_without_content_range(api):
    """A PUT without the header brings everything."""
    assert api.put(api.session("x"), "", b"all").json["size"] == "3"


def test_bytes_sent_again_are_skipped(api):
    """An overlap is no error: what is kept is kept, the rest is appended."""
    session = api.session("x")
    api.put(session, f"bytes 0-{CHUNK - 1}/*", b"0" * CHUNK)

    again = api.put(session, f"bytes 0-{CHUNK - 1}/*", b"9" * CHUNK)
    assert (again.status, again.headers["Range"]) == (308, f"bytes=0-{CHUNK - 1}")
    both = api.put(session, f"bytes 0-{CHUNK}/{CHUNK + 1}", b"9" * CHUNK + b"1")
    assert both.status == 200
    assert api.server.read("bkt", "x").data == b"0" * CHUNK + b"1"


def test_gap_is_refused(api):
    """503 in Google's words, and nothing is kept of it."""
    session = api.session("x")
    reply = api.put(session, f"bytes {CHUNK}-{2 * CHUNK - 1}/*", b"0" * CHUNK)

    assert reply.status == 503
    assert b"exceeds already uploaded size of 0 byte(s)" in reply.body
    assert api.put(session, "bytes */*").headers["Range"] is None


@pytest.mark.parametrize(
    ("content_range", "data"),
    [
        ("bytes 0-99/200", b"0" * 100),  # not the last, no multiple of 256 KiB
        ("bytes 0-9/*", b"0" * 10),
        ("bytes 0-9/10", b"0" * 9),
        ("bytes 0-9/5", b"0" * 10),
        ("bytes 5-1/*", b""),
        ("bytes=0-9/10", b"0" * 10),
        ("bytes 0-9", b"0" * 10),
        ("bytes */*", b"data"),
        ("bytes */4", b"data"),
    ],
)
def test_senseless_chunks_are_refused(api, content_range, data):
    """400 and nothing kept; Google lets some of them pass."""
    session = api.session("x")

    assert api.put(session, content_range, data).status == 400
    assert api.put(session, "bytes */*").headers["Range"] is None


def test_total_cannot_change(api):
    """Neither between chunks nor against X-Upload-Content-Length."""
    session = api.session("x")
    api.put(session, f"bytes 0-{CHUNK - 1}/{CHUNK + 1}", b"0" * CHUNK)
    declared = api.start({"name": "y"}, headers={"X-Upload-Content-Length": "3"}).headers["Location"]

    assert api.put(session, f"bytes {CHUNK}-{CHUNK + 1}/{CHUNK + 2}", b"11").status == 400
    assert api.put(declared.removeprefix(api.server.url), "bytes 0-3/4", b"1234").status == 400
    assert api.put(declared.removeprefix(api.server.url), "bytes 0-2/3", b"123").status == 200


def test_dead_and_unknown_sessions(api):
    """Cancelled 499 then 410, expired 410, never seen 404."""
    cancelled, expired = api.session("x"), api.session("y")

    assert api.raw("DELETE", cancelled).status == 499
    assert api.put(cancelled, "bytes */*").status == 410
    assert api.raw("DELETE", cancelled).status == 410
    assert api.control("DELETE", "uploads").status == 204
    assert api.put(expired, "bytes 0-0/1", b"1").status == 410
    assert api.put(expired.replace("upload_id=", "upload_id=x"), "bytes */*").status == 404
    assert api.names() == []


def test_digest_is_checked_at_the_end(api):
    """From the resource of the start or X-Goog-Hash of the last request; the session is dead then."""
    start = api.start({"name": "x", "md5Hash": md5_text(b"other")}).headers["Location"]
    wrong = start.removeprefix(api.server.url)
    late = api.session("y")

    assert api.put(wrong, "bytes 0-3/4", b"data").status == 400
    assert api.put(wrong, "bytes */4").status == 410
    assert api.put(late, "bytes 0-3/4", b"data", X_Goog_Hash=f"crc32c={crc_text(b'x')}").status == 400
    assert api.names() == []
    good = f"crc32c={crc_text(b'data')},md5={md5_text(b'data')}"
    assert api.put(api.session("z"), "bytes 0-3/4", b"data", X_Goog_Hash=good).status == 200


def test_conditions_hold_at_the_start_and_at_the_end(api):
    """A writer who comes in between is not overwritten."""
    session = api.session("x", ifGenerationMatch=0)
    api.insert("x", b"theirs")

    assert api.start({"name": "x"}, ifGenerationMatch=0).status == 412
    reply = api.put(session, "bytes 0-3/4", b"ours")
    assert (reply.status, reply.reason) == (412, "conditionNotMet")
    assert api.put(session, "bytes */4").status == 412
    assert api.server.read("bkt", "x").data == b"theirs"


def test_metadata_of_a_session(api):
    """The resource of the start, with X-Upload-Content-Type where it names no type."""
    start = api.start(
        {"name": "x", "metadata": {"k": "v"}, "contentEncoding": "gzip"},
        headers={"X-Upload-Content-Type": "a/b"},
        fields="name",
    )
    reply = api.put(start.headers["Location"].removeprefix(api.server.url), "bytes 0-0/1", b"1")

    assert reply.json == {"name": "x"}
    found = api.object("GET", "x").json
    assert (found["contentType"], found["contentEncoding"], found["metadata"]) == ("a/b", "gzip", {"k": "v"})


def test_last_request_may_add_custom_metadata(api):
    """`X-Goog-Meta-…`: what became known only while the bytes went by."""
    start = api.start({"name": "x", "metadata": {"early": "1"}}).headers["Location"]
    session = start.removeprefix(api.server.url)
    found = api.put(session, "bytes 0-0/1", b"1", X_Goog_Meta_late="2").json

    assert found["metadata"] == {"early": "1", "late": "2"}


def test_clients_that_cannot_take_308(api):
    """`X-GUploader-No-308: yes` gets a 200 with the status in a header, as Google's Go library asks."""
    reply = api.put(api.session("x"), "bytes */*", X_GUploader_No_308="yes")

    assert (reply.status, reply.headers["X-HTTP-Status-Code-Override"]) == (200, "308")


def test_persist_rule_keeps_less_than_was_sent(api):
    """The answer's Range is the truth, also on what would have been the last chunk."""
    api.server.add_rule(operation="chunk", action="persist", amount=CHUNK)
    session, data = api.session("x"), b"0" * CHUNK + b"1" * 5
    short = api.put(session, f"bytes 0-{CHUNK + 4}/{CHUNK + 5}", data)

    assert (short.status, short.headers["Range"]) == (308, f"bytes=0-{CHUNK - 1}")
    assert api.put(session, f"bytes {CHUNK}-{CHUNK + 4}/{CHUNK + 5}", b"1" * 5).status == 200
    assert api.server.read("bkt", "x").data == data


def test_broken_chunk_leaves_whole_multiples(api):
    """A client that dies within a chunk finds 256 KiB multiples of what had arrived."""
    session = api.session("x")
    total = 4 * CHUNK
    with socket.create_connection((api.host, int(api.port))) as raw:
        head = f"PUT {session} HTTP/1.1\r\nHost: x\r\nContent-Length: {total}\r\n"
        raw.sendall(f"{head}Content-Range: bytes 0-{total - 1}/{total}\r\n\r\n".encode())
        raw.sendall(b"0" * (2 * CHUNK + 5))
    for _ in range(200):
        if kept := api.put(session, "bytes */*").headers["Range"]:
            break
        time.sleep(0.01)

    assert kept == f"bytes=0-{2 * CHUNK - 1}"
    rest = api.put(session, f"bytes {2 * CHUNK}-{total - 1}/{total}", b"1" * 2 * CHUNK)
    assert rest.json["md5Hash"] == md5_text(b"0" * 2 * CHUNK + b"1" * 2 * CHUNK)
