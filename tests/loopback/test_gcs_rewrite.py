"""Server-side copies: rewrite and its token, copyTo, compose."""

from urllib.parse import quote

import pytest

MIB = 1 << 20


def rewrite(api, source, target, *, to="bkt", json=None, verb="rewriteTo", **query):
    path = f"b/bkt/o/{quote(source, safe='')}/{verb}/b/{to}/o/{quote(target, safe='')}"
    return api.call("POST", path, json, **query)


def test_rewrite_in_one_call(api):
    """Within a location and class: all bytes, all metadata, a generation of its own."""
    source = api.server.put("bkt", "x", b"data", contentType="a/b", metadata={"k": "v"}, cacheControl="no-store")
    reply = rewrite(api, "x", "y").json

    assert reply.pop("resource") == api.object("GET", "y").json
    assert reply == {
        "kind": "storage#rewriteResponse",
        "totalBytesRewritten": "4",
        "objectSize": "4",
        "done": True,
    }
    copied = api.server.read("bkt", "y")
    assert (copied.data, copied.fields, copied.metadata) == (b"data", source.fields, {"k": "v"})
    assert copied.generation > source.generation


def test_rewrite_with_a_resource_replaces_the_metadata(api):
    """What is given is all there is, except for the bytes."""
    api.server.put("bkt", "x", b"data", contentType="a/b", metadata={"k": "v"})
    found = rewrite(api, "x", "y", json={"contentType": "c/d"}).json["resource"]

    assert found["contentType"] == "c/d"
    assert "metadata" not in found


def test_rewrite_between_locations_takes_steps(api):
    """Each answer but the last has a token; the object appears with the last one."""
    api.server.create_bucket("far", location="EU")
    data = bytes(range(256)) * (10 * MIB // 1024)  # 2.5 MiB
    api.server.put("bkt", "x", data)
    step = {"to": "far", "maxBytesRewrittenPerCall": MIB}
    first = rewrite(api, "x", "y", **step).json
    assert (first["done"], first["totalBytesRewritten"]) == (False, str(MIB))
    assert "resource" not in first
    second = rewrite(api, "x", "y", **step, rewriteToken=first["rewriteToken"]).json
    again = rewrite(api, "x", "y", **step, rewriteToken=first["rewriteToken"]).json

    assert second["totalBytesRewritten"] == again["totalBytesRewritten"] == str(2 * MIB)
    assert api.names("far") == []
    last = rewrite(api, "x", "y", **step, rewriteToken=second["rewriteToken"]).json
    assert (last["done"], last["objectSize"]) == (True, str(len(data)))
    assert "rewriteToken" not in last
    assert api.server.read("far", "y").data == data


def test_storage_class_of_the_target_makes_steps_too(api):
    """Another class is another place; the setting decides where no limit is asked for."""
    api.server.put("bkt", "x", b"0" * 3 * MIB)
    api.server.state.settings.rewrite_bytes = 2 * MIB
    first = rewrite(api, "x", "y", json={"storageClass": "NEARLINE"}).json
    last = rewrite(api, "x", "y", json={"storageClass": "NEARLINE"}, rewriteToken=first["rewriteToken"]).json

    assert last["resource"]["storageClass"] == "NEARLINE"


def test_token_needs_the_same_request(api):
    """Other fields or parameters than at first are refused; so are unknown tokens; a dead one is 410."""
    api.server.create_bucket("far", location="EU")
    api.server.put("bkt", "x", b"0" * 2 * MIB)
    step = {"to": "far", "maxBytesRewrittenPerCall": MIB}
    token = rewrite(api, "x", "y", **step).json["rewriteToken"]

    assert rewrite(api, "x", "z", **step, rewriteToken=token).status == 400
    assert rewrite(api, "x", "y", to="far", maxBytesRewrittenPerCall=2 * MIB, rewriteToken=token).status == 400
    assert rewrite(api, "x", "y", **step, json={"contentType": "a/b"}, rewriteToken=token).status == 400
    assert rewrite(api, "x", "y", **step, rewriteToken="unknown").status == 400
    api.server.expire_uploads()
    assert rewrite(api, "x", "y", **step, rewriteToken=token).status == 410


def test_step_is_a_multiple_of_1_mib(api):
    """Anything else is refused."""
    api.server.put("bkt", "x", b"0")

    assert rewrite(api, "x", "y", maxBytesRewrittenPerCall=MIB + 1).status == 400
    assert rewrite(api, "x", "y", maxBytesRewrittenPerCall=0).status == 400


@pytest.mark.parametrize("verb", ["rewriteTo", "copyTo"])
def test_both_sides_have_conditions(api, verb):
    """The source's and the target's; `sourceGeneration` picks the version."""
    source = api.server.put("bkt", "x", b"1").generation
    target = api.server.put("bkt", "y", b"2").generation

    def ask(**query):
        return rewrite(api, "x", "y", verb=verb, **query).status

    assert ask(ifSourceGenerationMatch=source + 1) == 412
    assert ask(ifSourceGenerationNotMatch=source) == 412
    assert ask(ifSourceMetagenerationMatch=2) == 412
    assert ask(ifSourceMetagenerationNotMatch=1) == 412
    assert ask(ifGenerationMatch=0) == 412
    assert ask(ifGenerationNotMatch=target) == 412
    assert ask(ifMetagenerationMatch=2) == 412
    assert ask(sourceGeneration=source + 1) == 404
    assert ask(sourceGeneration=source, ifSourceGenerationMatch=source, ifGenerationMatch=target) == 200
    assert rewrite(api, "none", "y", verb=verb).status == 404
    assert rewrite(api, "x", "y", to="nowhere", verb=verb).status == 404


def test_conditions_are_looked_at_in_each_step(api):
    """Who writes to the target or the source meanwhile is noticed."""
    api.server.create_bucket("far", location="EU")
    api.server.put("bkt", "x", b"0" * 2 * MIB)
    step = {"to": "far", "maxBytesRewrittenPerCall": MIB, "ifGenerationMatch": 0}
    token = rewrite(api, "x", "y", **step).json["rewriteToken"]
    api.server.put("far", "y", b"theirs")
    assert rewrite(api, "x", "y", **step, rewriteToken=token).status == 412
    token = rewrite(api, "x", "z", **step).json["rewriteToken"]
    api.server.put("bkt", "x", b"new")

    assert rewrite(api, "x", "z", **step, rewriteToken=token).status == 404


def test_copy_answers_the_object(api):
    """Copying by copyTo is one call, whatever the locations."""
    api.server.create_bucket("far", location="EU")
    api.server.put("bkt", "x", b"data", metadata={"k": "v"})
    found = rewrite(api, "x", "y", to="far", verb="copyTo").json

    assert (found["kind"], found["size"], found["metadata"]) == ("storage#object", "4", {"k": "v"})


def compose(api, names, *, target="whole", destination=None, **query):
    entries = [entry if isinstance(entry, dict) else {"name": entry} for entry in names]
    body = {"sourceObjects": entries, "destination": destination or {}}
    return api.call("POST", f"b/bkt/o/{target}/compose", body, **query)


def test_composite_objects_have_no_md5(api):
    """They have a crc32c and count their components, also those of composites within."""
    for name in "abc":
        api.server.put("bkt", name, name.encode() * 3)
    first = compose(api, "ab", target="first").json
    whole = compose(api, ["first", "c"], destination={"contentType": "a/b"}).json

    assert api.media("whole").body == b"aaabbbccc"
    assert "md5Hash" not in whole
    assert "md5=" not in api.media("whole").headers["x-goog-hash"]
    assert (first["componentCount"], whole["componentCount"], whole["contentType"]) == (2, 3, "a/b")
    assert whole["crc32c"] == api.insert("same", b"aaabbbccc").json["crc32c"]
    copied = rewrite(api, "whole", "copied").json["resource"]
    assert "md5Hash" not in copied


def test_composite_moved_to_another_location_has_one_component(api):
    """It stays composite, without an md5."""
    api.server.create_bucket("far", location="EU")
    api.server.put("bkt", "a", b"a")
    compose(api, "aa")
    moved = rewrite(api, "whole", "whole", to="far").json["resource"]

    assert moved["componentCount"] == 1
    assert "md5Hash" not in moved


def test_compose_refuses(api):
    """More than 32 sources, none, a missing one, a changed one, a target that is there."""
    generation = api.server.put("bkt", "a", b"a").generation

    def source(**more):
        return [{"name": "a", **more}]

    assert compose(api, "a" * 33).status == 400
    assert compose(api, "").status == 400
    assert compose(api, "ax").status == 404
    assert compose(api, source(generation="1")).status == 404
    assert compose(api, source(objectPreconditions={"ifGenerationMatch": "1"})).status == 412
    assert compose(api, source(objectPrecondition={})).status == 400
    exact = source(generation=str(generation), objectPreconditions={"ifGenerationMatch": str(generation)})
    assert compose(api, exact, ifGenerationMatch=0).status == 200
    assert compose(api, "a", ifGenerationMatch=0).status == 412
    assert compose(api, "a" * 32).status == 200
