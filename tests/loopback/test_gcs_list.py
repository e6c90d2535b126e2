"""What a listing shows, in which order, and how it is paged."""

import random

import pytest

ODD = ["", "!", "a", "a/", "a//", "a/b", "a0", "z", "é", "￰", "\U0001f600", "Z", "a\x00", "~", "ÿ"]


def fill(api, names):
    for name in names:
        api.server.put("bkt", name)


def test_order_is_that_of_utf8_bytes(api):
    """Astral characters come after the others, as their UTF-8 does and their UTF-16 does not."""
    names = [name for name in ODD if name]
    random.Random(1).shuffle(names)
    fill(api, names)

    assert api.names() == sorted(names, key=lambda name: name.encode())


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pages_tile_the_listing(api, size):
    """Following the tokens gives every key once, whatever the page size."""
    names = sorted((name for name in ODD if name), key=str.encode)
    fill(api, names)
    seen, token, pages = [], None, 0
    while True:
        page = api.list(maxResults=size, **({"pageToken": token} if token else {}))
        assert len(page["items"]) <= size
        seen += [item["name"] for item in page["items"]]
        pages += 1
        token = page.get("nextPageToken")
        if token is None:
            break

    assert seen == names
    assert pages == -(-len(names) // size)


def test_page_has_at_most_1000_entries(api):
    """`maxResults` above 1,000 is cut to 1,000."""
    fill(api, [f"{number:04}" for number in range(1001)])
    page = api.list(maxResults=5000)

    assert len(page["items"]) == 1000
    assert len(api.list(maxResults=5000, pageToken=page["nextPageToken"])["items"]) == 1


def test_server_may_answer_shorter_pages_than_asked(api):
    """`page_limit` makes it so; only the token says whether there is more."""
    fill(api, "abcde")
    api.server.state.settings.page_limit = 2

    assert len(api.list(maxResults=5)["items"]) == 2


def test_empty_listing_is_still_a_listing(api):
    """It has its kind and no items, so that it can be told from an empty answer."""
    assert api.list() == {"kind": "storage#objects"}


def test_start_offset_is_inclusive_and_end_offset_exclusive(api):
    """As the discovery document says."""
    fill(api, ["a", "b", "b\x00", "c", "d"])

    assert api.names(startOffset="b", endOffset="d") == ["b", "b\x00", "c"]
    assert api.names(startOffset="b\x00") == ["b\x00", "c", "d"]
    assert api.names(prefix="b", startOffset="a", endOffset="z") == ["b", "b\x00"]
    assert api.names(prefix="b", endOffset="b") == []


def test_delimiter_gathers_prefixes(api):
    """Directory-like listing; a prefix counts as an entry of the page."""
    fill(api, ["a", "d/1", "d/2", "d/e/3", "d0", "\U0010ffff/1"])

    assert api.list(delimiter="/")["prefixes"] == ["d/", "\U0010ffff/"]
    assert api.names(delimiter="/") == ["a", "d0"]
    below = api.list(delimiter="/", prefix="d/")
    assert (below["prefixes"], [item["name"] for item in below["items"]]) == (["d/e/"], ["d/1", "d/2"])
    page = api.list(delimiter="/", maxResults=2)
    assert (len(page["items"]), page["prefixes"]) == (1, ["d/"])
    rest = api.list(delimiter="/", maxResults=2, pageToken=page["nextPageToken"])
    assert ([item["name"] for item in rest["items"]], rest["prefixes"]) == (["d0"], ["\U0010ffff/"])


def test_trailing_delimiter_shows_directory_markers(api):
    """`includeTrailingDelimiter` lists `d/` itself beside the prefix."""
    fill(api, ["d/", "d/1"])

    assert api.names(delimiter="/") == []
    assert api.names(delimiter="/", includeTrailingDelimiter="true") == ["d/"]


def test_versions_page_within_one_key(api):
    """A page may end between two versions of the same key; ascending generations."""
    api.call("PATCH", "b/bkt", {"versioning": {"enabled": True}})
    fill(api, ["x", "a", "x", "x", "y"])
    seen, query = [], {"versions": "true", "maxResults": 2}
    page = api.list(**query)
    while True:
        seen += [(item["name"], "timeDeleted" in item) for item in page["items"]]
        if "nextPageToken" not in page:
            break
        page = api.list(**query, pageToken=page["nextPageToken"])

    assert seen == [("a", False), ("x", True), ("x", True), ("x", False), ("y", False)]
    assert api.names() == ["a", "x", "y"]


def test_fields_select_in_items(api):
    """The selector that a careful client sends."""
    api.server.put("bkt", "x", b"123", metadata={"a": "1", "b": "2"})
    api.server.put("bkt", "y", b"")
    page = api.list(maxResults=1, fields="kind,nextPageToken,items(name,size,metadata/a)")

    token = page.pop("nextPageToken")
    assert page == {
        "kind": "storage#objects",
        "items": [{"name": "x", "size": "3", "metadata": {"a": "1"}}],
    }
    assert "nextPageToken" not in api.list(maxResults=1, pageToken=token)
    assert api.list(fields="items/name,items/size") == {"items": [{"name": "x", "size": "3"}, {"name": "y", "size": "0"}]}
    assert api.list(fields="prefixes") == {}
    assert api.call("GET", "b/bkt/o", fields="items(names)").status == 400
    assert api.call("GET", "b/bkt/o", fields="items(name").status == 400


def test_page_token_belongs_to_its_query(api):
    """Another prefix with the same token is a bug of the client, and refused; so is a token made up."""
    fill(api, "abc")
    token = api.list(maxResults=1)["nextPageToken"]

    assert api.call("GET", "b/bkt/o", pageToken=token, prefix="a").status == 400
    assert api.call("GET", "b/bkt/o", pageToken="nonsense").status == 400
    assert api.call("GET", "b/bkt/o", pageToken=token, maxResults=2).status == 200


def test_listing_survives_changes_between_pages(api):
    """The token is a place in the order of keys: what is deleted or added meanwhile does no harm."""
    fill(api, "bdf")
    token = api.list(maxResults=1)["nextPageToken"]
    api.object("DELETE", "d")
    fill(api, "ace")

    assert api.names(pageToken=token) == ["e", "f"]
