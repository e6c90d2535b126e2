"""Proof by Google's own Python library, which nobody here wrote: what it does against GCS it does here."""

import gzip
import io
import os

import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

CHUNK = 1 << 18
MIB = 1 << 20


@pytest.fixture
def client(api):
    with storage.Client(
        project="p", credentials=AnonymousCredentials(), client_options={"api_endpoint": api.server.url}
    ) as client:
        yield client
        client._http.close()


@pytest.fixture
def bucket(client):
    return client.create_bucket("theirs", location="eu")


def test_bucket_round_trip(client, bucket):
    """Create, find, version, list, delete."""
    bucket.versioning_enabled = True
    bucket.patch()

    found = client.get_bucket("theirs")
    assert (found.location, found.versioning_enabled) == ("EU", True)
    assert [entry.name for entry in client.list_buckets()] == ["bkt", "theirs"]
    bucket.delete()
    assert client.lookup_bucket("theirs") is None


@pytest.mark.parametrize("checksum", ["md5", "crc32c", "auto"])
@pytest.mark.parametrize("name", ["small", "a//b/../ü \U0001f600?#%2F+"])
def test_small_upload_and_download(api, bucket, name, checksum):
    """One multipart upload with its digest checked; the read is checked against X-Goog-Hash."""
    blob = bucket.blob(name)
    blob.metadata = {"K": "ü"}
    blob.cache_control = "no-store"
    blob.upload_from_string(b"data", content_type="a/b", checksum=checksum, if_generation_match=0)

    found = bucket.get_blob(name)
    assert (found.size, found.content_type, found.metadata, found.cache_control) == (4, "a/b", {"K": "ü"}, "no-store")
    assert found.download_as_bytes(checksum="md5") == b"data"
    assert api.server.log.counts["insert"] == 1


def test_resumable_upload(api, bucket):
    """Chunks of 256 KiB, the digest checked at the end."""
    data = os.urandom(3 * CHUNK + 17)
    blob = bucket.blob("large", chunk_size=CHUNK)
    blob.metadata = {"k": "v"}
    blob.upload_from_file(io.BytesIO(data), checksum="crc32c", if_generation_match=0)

    assert api.server.read("theirs", "large").data == data
    assert api.server.log.counts["start"] == 1
    assert api.server.log.counts["chunk"] == 4
    assert bucket.get_blob("large").metadata == {"k": "v"}
    assert bucket.blob("large", chunk_size=CHUNK).download_as_bytes() == data


def test_resumable_upload_of_unknown_size(api, bucket):
    """`bytes a-b/*` until the end, by the file-like writer; a size that is a multiple of the chunk, too."""
    for size in (2 * CHUNK + 1, 2 * CHUNK, 0):
        with bucket.blob("stream").open("wb", chunk_size=CHUNK) as sink:
            sink.write(b"0" * size)
        assert len(api.server.read("theirs", "stream").data) == size


def test_resumable_upload_goes_on_after_faults(api, bucket):
    """503 on a chunk and a dropped answer: the library sends the chunk again, kept or not."""
    data = os.urandom(4 * CHUNK + 1)
    api.server.add_rule(operation="chunk", skip=1, status=503)
    api.server.add_rule(operation="chunk", skip=1, action="drop")
    bucket.blob("large", chunk_size=CHUNK).upload_from_file(io.BytesIO(data), if_generation_match=0)

    assert api.server.read("theirs", "large").data == data
    assert (api.server.log.statuses["chunk 503"], api.server.log.statuses["chunk 0"]) == (1, 1)


def test_ranged_reads(bucket):
    """Start and end are inclusive; a read beyond the end is refused."""
    blob = bucket.blob("x")
    blob.upload_from_string(b"0123456789")

    assert blob.download_as_bytes(start=2, end=4) == b"234"
    assert blob.download_as_bytes(start=-3) == b"789"
    with blob.open("rb", chunk_size=CHUNK) as source:
        source.seek(5)
        assert source.read() == b"56789"
    with pytest.raises(exceptions.RequestRangeNotSatisfiable):
        blob.download_as_bytes(start=10)


def test_gzip_objects(bucket):
    """Raw reads give the stored bytes, others the text."""
    stored = gzip.compress(b"text" * 1000)
    blob = bucket.blob("z")
    blob.content_encoding = "gzip"
    blob.upload_from_string(stored, content_type="text/plain")

    assert blob.download_as_bytes(raw_download=True) == stored
    assert blob.download_as_bytes() == b"text" * 1000


def test_listing(client, bucket):
    """Prefix, delimiter, offsets and small pages."""
    names = [f"d{number % 3}/{number:02}" for number in range(20)]
    for name in names:
        bucket.blob(name).upload_from_string(b"")

    def listed(**query):
        return [blob.name for blob in client.list_blobs("theirs", **query)]

    assert listed(page_size=3) == sorted(names)
    assert listed(prefix="d1/", page_size=2) == sorted(name for name in names if name.startswith("d1/"))
    assert listed(start_offset="d1/", end_offset="d2/") == listed(prefix="d1/")
    shallow = client.list_blobs("theirs", delimiter="/", page_size=2)
    assert list(shallow) == []
    assert shallow.prefixes == {"d0/", "d1/", "d2/"}
    some = client.list_blobs("theirs", fields="items(name,size),nextPageToken", max_results=1)
    assert [(blob.name, blob.size) for blob in some] == [("d0/00", 0)]


def test_versions(client, bucket):
    """Noncurrent versions are listed, read and deleted by generation."""
    bucket.versioning_enabled = True
    bucket.patch()
    blob = bucket.blob("x")
    for text in ("one", "two"):
        blob.upload_from_string(text)
    bucket.delete_blob("x")  # blob.delete() would name the generation and remove it for good

    old = list(client.list_blobs("theirs", versions=True))
    assert [entry.time_deleted is not None for entry in old] == [True, True]
    assert [bucket.blob("x", generation=entry.generation).download_as_bytes() for entry in old] == [b"one", b"two"]
    old[0].delete()
    assert len(list(client.list_blobs("theirs", versions=True))) == 1


def test_rewrite_with_tokens(client, bucket):
    """Between locations in steps, with conditions on both sides."""
    source = client.bucket("bkt").blob("x")
    source.metadata = {"k": "v"}
    source.upload_from_string(b"0" * (2 * MIB + 1))
    target = bucket.blob("y")
    token, steps = None, 0
    while True:
        token, done, size = target.rewrite(
            source, token=token, if_generation_match=0, if_source_generation_match=source.generation
        )
        steps += 1
        if token is None:
            break

    assert (done, size) == (2 * MIB + 1, 2 * MIB + 1)
    assert steps == 1
    assert bucket.get_blob("y").metadata == {"k": "v"}


def test_rewrite_in_several_steps(api, client, bucket):
    """The server decides how much one call moves; storage classes change on the way."""
    api.server.state.settings.rewrite_bytes = MIB
    source = client.bucket("bkt").blob("x")
    source.upload_from_string(b"0" * (2 * MIB + 1))
    source.update_storage_class("NEARLINE")

    assert api.server.log.counts["rewrite"] == 3
    assert client.bucket("bkt").get_blob("x").storage_class == "NEARLINE"


def test_copy_compose_patch_delete(client, bucket):
    """The rest of an object's life."""
    for name in "ab":
        bucket.blob(name).upload_from_string(name * 3)
    whole = bucket.blob("whole")
    whole.compose([bucket.blob("a"), bucket.blob("b")], if_generation_match=0)
    copied = bucket.copy_blob(whole, client.bucket("bkt"), "copied")

    assert (whole.component_count, whole.md5_hash) == (2, None)
    assert copied.download_as_bytes() == b"aaabbb"
    copied.metadata = {"k": "v"}
    copied.patch(if_metageneration_match=copied.metageneration)
    assert client.bucket("bkt").get_blob("copied").metadata == {"k": "v"}
    copied.content_language = "de"
    copied.update()
    bucket.delete_blobs(["a", "b"])
    assert [blob.name for blob in client.list_blobs("theirs")] == ["whole"]


def test_preconditions(bucket):
    """412 and 304 arrive as the library's own exceptions."""
    blob = bucket.blob("x")
    blob.upload_from_string(b"1")
    with pytest.raises(exceptions.PreconditionFailed):
        blob.upload_from_string(b"2", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.delete(if_generation_match=1)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.download_as_bytes(if_generation_match=1)
    with pytest.raises(exceptions.NotModified):
        blob.reload(if_generation_not_match=blob.generation)
    with pytest.raises(exceptions.NotFound):
        bucket.blob("none").download_as_bytes()
    with pytest.raises(exceptions.Conflict):
        bucket.delete()


def test_batch(client, bucket):
    """Its own multipart/mixed, with conditions."""
    blobs = [bucket.blob(name) for name in ("a", "b", "c/ü")]
    for blob in blobs:
        blob.upload_from_string(b"")
    with client.batch():
        blobs[0].delete()
        blobs[2].delete(if_generation_match=blobs[2].generation)
        blobs[1].metadata = {"k": "v"}
        blobs[1].patch()

    assert [(blob.name, blob.metadata) for blob in client.list_blobs("theirs")] == [("b", {"k": "v"})]
    with pytest.raises(exceptions.NotFound), client.batch():
        blobs[0].delete()
