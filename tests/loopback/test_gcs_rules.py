"""Faults, latency and the log, in the same process and over HTTP."""

import http.client
import time

import pytest


def counts(api):
    return dict(api.server.log.counts)


def test_status_rule_hits_as_often_as_it_says(api):
    """Skip, count, reason and Retry-After; then all is well again."""
    api.server.add_rule(operation="list", skip=1, count=2, status=429, reason="rateLimitExceeded", retry_after=1.5)
    replies = [api.call("GET", "b/bkt/o") for _ in range(4)]

    assert [reply.status for reply in replies] == [200, 429, 429, 200]
    assert (replies[1].reason, replies[1].headers["Retry-After"]) == ("rateLimitExceeded", "1.5")
    assert counts(api) == {"list": 4}
    assert dict(api.server.log.statuses) == {"list 200": 2, "list 429": 2}


def test_rules_pick_by_method_path_and_key(api):
    """Patterns on what was sent and on the decoded name, of uploads too."""
    api.server.add_rule(method="PUT|PATCH", status=500, count=None)
    api.server.add_rule(path="prefix=secret", status=403, reason="forbidden", count=None)
    api.server.add_rule(key="^bad/", status=502, count=None)

    assert api.object("PATCH", "x", json={}).status == 500
    assert api.call("GET", "b/bkt/o", prefix="secret").status == 403
    assert api.call("GET", "b/bkt/o", prefix="open").status == 200
    assert api.insert("bad/x", b"").status == 502
    assert api.multipart({"name": "bad/x"}, b"").status == 502
    assert api.start({"metadata": {}, "name": 'bad/"x'}).status == 502
    assert api.multipart({"name": "good/bad/"}, b"").status == 200
    api.server.rules.clear()
    session = api.session("bad/y")
    api.server.add_rule(key="^bad/", status=502)
    assert api.put(session, "bytes */0").status == 502


def test_probability_is_the_same_in_every_run(api):
    """A seed draws the same hits again."""
    drawn = []
    for _ in range(2):
        api.server.rules.clear()
        api.server.add_rule(operation="stat", probability=0.5, seed=7, count=None)
        drawn.append([api.object("GET", "x").status for _ in range(20)])

    assert drawn[0] == drawn[1]
    assert {404, 503} == set(drawn[0])


def test_latency_adds_up_and_the_work_is_done(api):
    """A rule that only delays lets the next one decide."""
    api.server.add_rule(operation="stat", action="pass", delay_s=0.03)
    api.server.add_rule(operation="stat", delay_s=0.03, status=500)
    began = time.monotonic()

    assert api.object("GET", "x").status == 500
    assert time.monotonic() - began >= 0.06
    assert api.object("GET", "x").status == 404


def test_listing_that_is_none(api):
    """An empty 200, a page of HTML, a flipped byte: what a client must not take for a listing."""
    api.server.add_rule(operation="list", action="empty")
    api.server.add_rule(operation="list", action="html")
    empty, page = api.call("GET", "b/bkt/o"), api.call("GET", "b/bkt/o")

    assert (empty.status, empty.body) == (200, b"")
    assert page.status == 200
    assert b"<html>" in page.body


def test_reset_instead_of_the_work(api):
    """The connection is reset and nothing has happened."""
    api.server.add_rule(operation="insert", action="reset")
    with pytest.raises(ConnectionError):
        api.insert("x", b"1")
    api.connection.close()

    assert api.names() == []
    assert api.server.log.statuses["insert 0"] == 1


def test_drop_after_the_work(api):
    """The object is there, the answer is not: the ambiguous case."""
    api.server.add_rule(operation="insert", action="drop")
    with pytest.raises(ConnectionError):
        api.insert("x", b"1", ifGenerationMatch=0)
    api.connection.close()

    assert api.names() == ["x"]
    assert api.insert("x", b"1", ifGenerationMatch=0).status == 412


def test_body_that_is_cut(api):
    """Fewer bytes than Content-Length, then the end of the connection."""
    api.insert("x", b"0123456789")
    api.server.add_rule(operation="get", action="cut_body", amount=4)
    api.server.add_rule(operation="get", action="cut_body", amount=-1)
    for kept in (b"0123", b"012345678"):
        with pytest.raises(http.client.IncompleteRead) as caught:
            api.media("x")
        assert caught.value.partial == kept
        api.connection.close()

    assert api.media("x").body == b"0123456789"


def test_body_that_is_reset(api):
    """A reset within the body is an error of the connection."""
    api.insert("x", b"0" * (1 << 20))
    api.server.add_rule(operation="get", action="reset_body", amount=1000)
    with pytest.raises((ConnectionError, http.client.IncompleteRead)):
        api.media("x")
    api.connection.close()

    assert len(api.media("x").body) == 1 << 20


def test_body_that_stalls(api):
    """The rest comes late, but it comes."""
    api.insert("x", b"0123456789")
    api.server.add_rule(operation="get", action="stall_body", amount=4, stall_s=0.05)
    began = time.monotonic()

    assert api.media("x").body == b"0123456789"
    assert time.monotonic() - began >= 0.05


def test_flipped_byte(api):
    """The same length, the same digests in the header, one bit off."""
    api.insert("x", b"0000")
    api.server.add_rule(operation="get", action="flip", amount=2)

    assert api.media("x").body == b"0010"
    assert api.media("x").body == b"0000"


def test_rules_over_http(api):
    """Added alone or in a list, shown with their counters, removed; nonsense is refused."""
    assert api.control("POST", "rules", {"operation": "list", "status": 500}).status == 200
    assert api.control("POST", "rules", [{"key": "x"}, {"action": "pass"}]).status == 200
    assert api.call("GET", "b/bkt/o").status == 500

    rules = api.control("GET", "rules").json["rules"]
    assert [(rule["operation"], rule["fired"]) for rule in rules] == [("list", 1), ("", 0), ("", 0)]
    for bad in ({"operations": "x"}, {"action": "explode"}, {"key": "("}, {"probability": 2}, [1]):
        assert api.control("POST", "rules", bad).status == 400
    assert api.control("DELETE", "rules").status == 204
    assert api.control("GET", "rules").json == {"rules": []}


def test_log_over_http(api):
    """Counters per operation, and each request; what is asked of /_loopback/ itself is not in it."""
    api.insert("x", b"123")
    api.media("x")
    api.call("GET", "b/bkt/o")

    log = api.control("GET", "log").json
    assert log["counts"] == {"insert": 1, "get": 1, "list": 1}
    first = log["entries"][0]
    assert (first["operation"], first["key"], first["status"], first["received"]) == ("insert", "x", 200, 3)
    assert log["entries"][1]["sent"] == 3
    assert "entries" not in api.control("GET", "log?entries=0").json
    assert api.control("DELETE", "log").status == 204
    assert api.control("GET", "log").json == {"counts": {}, "statuses": {}, "entries": []}


def test_settings_over_http(api):
    """Some are changed, unknown ones are refused."""
    assert api.control("POST", "settings", {"page_limit": 1, "clock_offset_s": -5}).json["page_limit"] == 1
    assert api.control("POST", "settings", {"page_limits": 1}).status == 400
    assert api.control("POST", "settings", {"page_limit": "1"}).status == 400
    assert api.control("GET", "settings").json["clock_offset_s"] == -5


def test_state_can_be_forgotten(api):
    """One server can serve many tests."""
    api.insert("x", b"")
    assert api.control("DELETE", "state").status == 204

    assert api.call("GET", "b/bkt").status == 404
    assert api.control("GET", "nonsense").status == 404
