"""Valid answers of both providers, to be damaged."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote_plus

from hypothesis import strategies as st

from fuzz.kit import TEXT

NS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
MODIFIED = "2026-01-02T03:04:05.000Z"


def s3_row(key: str, size: object = 3, etag: str = "e" * 32) -> str:
    """A row of a listing, as AWS writes it."""
    return (
        f"<Contents><Key>{quote_plus(key)}</Key><LastModified>{MODIFIED}</LastModified><ETag>&quot;{etag}&quot;</ETag>"
        f"<Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


def s3_page(*rows: str, truncated: bool = False, more: str = "") -> bytes:
    """A page of ListObjectsV2, its elements in AWS's order."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult {NS}><Name>b</Name><Prefix></Prefix>'
        f"<KeyCount>{len(rows)}</KeyCount><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType>"
        f"<IsTruncated>{str(truncated).lower()}</IsTruncated>{more}{''.join(rows)}</ListBucketResult>"
    ).encode()


def s3_version(key: str, version: str, tag: str = "Version", *, latest: bool = True, modified: str = MODIFIED) -> str:
    """A row of ListObjectVersions."""
    return (
        f"<{tag}><Key>{quote_plus(key)}</Key><VersionId>{version}</VersionId><IsLatest>{str(latest).lower()}</IsLatest>"
        f"<LastModified>{modified}</LastModified><Size>3</Size></{tag}>"
    )


def s3_versions(*rows: str, truncated: bool = False) -> bytes:
    """A page of ListObjectVersions."""
    return (
        f"<ListVersionsResult {NS}><Name>b</Name><EncodingType>url</EncodingType>"
        f"<IsTruncated>{str(truncated).lower()}</IsTruncated>{''.join(rows)}</ListVersionsResult>"
    ).encode()


def s3_error(code: str = "SlowDown") -> bytes:
    """An error answer."""
    return f"<Error><Code>{code}</Code><Message>m &amp; n</Message><Region>eu-west-1</Region></Error>".encode()


S3_OTHERS = [
    b"",
    b"<html><body>It works!</body></html>",
    *map(s3_error, ["SlowDown", "NoSuchKey", "NoSuchBucket", "AccessDenied", "PermanentRedirect", "RequestTimeTooSkewed"]),
    b"<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code><Message>m</Message></Error></DeleteResult>",
    b"<DeleteResult/>",
    (
        b"<ListPartsResult><UploadId>u</UploadId><IsTruncated>false</IsTruncated><Part><PartNumber>1</PartNumber>"
        b'<ETag>"e"</ETag><Size>5</Size></Part></ListPartsResult>'
    ),
    b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>",
    b'<CompleteMultipartUploadResult><ETag>"e-1"</ETag></CompleteMultipartUploadResult>',
    b'<CopyObjectResult><ETag>"e"</ETag></CopyObjectResult>',
    b'<CopyPartResult><ETag>"e"</ETag></CopyPartResult>',
    b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
    b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>",
]

_KEYS = st.lists(TEXT.filter(bool), max_size=4, unique=True).map(sorted)


@st.composite
def s3_pages(draw: Any, prefix: str = "") -> bytes:
    """Any valid page."""
    rows = [s3_row(prefix + key) for key in draw(_KEYS)]
    token = "<NextContinuationToken>t</NextContinuationToken>"
    truncated = draw(st.booleans()) and bool(rows)
    return s3_page(*rows, truncated=truncated, more=token if truncated else "")


@st.composite
def s3_version_pages(draw: Any, prefix: str = "") -> bytes:
    """Any valid page of versions."""
    rows = []
    for key in draw(_KEYS):
        for number in range(draw(st.integers(1, 2))):
            tag = draw(st.sampled_from(["Version", "DeleteMarker"]))
            rows.append(s3_version(prefix + key, f"v{number}", tag, latest=number == 0))
    return s3_versions(*rows, truncated=draw(st.booleans()) and bool(rows))


def gcs_item(name: str, generation: int = 7, **more: object) -> dict[str, Any]:
    """An object resource."""
    return {
        "name": name,
        "size": "3",
        "md5Hash": "7hcNJJ2SsOPXbBf1N4tSxw==",
        "crc32c": "AAAAAA==",
        "generation": str(generation),
        "updated": MODIFIED,
        "timeCreated": MODIFIED,
        "storageClass": "STANDARD",
        "contentType": "text/plain",
        "metadata": {"a": "b"},
        **more,
    }


def gcs_page(*items: dict[str, Any], token: str | None = None) -> dict[str, Any]:
    """A page of a listing."""
    return {"kind": "storage#objects", "items": list(items), **({"nextPageToken": token} if token else {})}


def gcs_error(reason: str = "backendError", message: str = "m") -> dict[str, Any]:
    """An error answer."""
    return {"error": {"code": 503, "message": message, "errors": [{"reason": reason, "message": message}]}}


GCS_OTHERS: list[Any] = [
    gcs_item("k"),
    *map(gcs_error, ["backendError", "notFound", "rateLimitExceeded", "conditionNotMet", "forbidden"]),
    {"kind": "storage#rewriteResponse", "done": True, "resource": gcs_item("k")},
    {"kind": "storage#rewriteResponse", "done": False, "rewriteToken": "t"},
    {"kind": "storage#bucket", "name": "b", "location": "EU", "versioning": {"enabled": True}},
]


@st.composite
def gcs_pages(draw: Any, prefix: str = "") -> dict[str, Any]:
    """Any valid page; also of versions, oldest first."""
    items = []
    for key in draw(_KEYS):
        items += [gcs_item(prefix + key, number) for number in range(draw(st.sampled_from([1, 1, 2])))]
    return gcs_page(*items, token=draw(st.sampled_from([None, None, "t"])))


def gcs_batch(*parts: tuple[str, int, bytes], boundary: str = "bnd") -> bytes:
    """The answer to a batch: content id, status and body of each."""
    lines = b""
    for number, status, body in parts:
        head = f"--{boundary}\r\nContent-Type: application/http\r\nContent-ID: <response-heavysync+{number}>\r\n\r\n"
        lines += head.encode() + f"HTTP/1.1 {status} Words\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body + b"\r\n"
    return lines + f"--{boundary}--\r\n".encode()
