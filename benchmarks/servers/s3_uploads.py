"""Multipart uploads of the S3 subset."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode
from collections.abc import Sequence
from itertools import count
from xml.sax.saxutils import escape

from servers.bodies import combined, crc32c_of, md5_of, span
from servers.buckets import Bucket, Meta, Thing
from servers.http import Answer, Chunk, Request
from servers.s3 import NAMESPACE, S3, Query, S3Error, meta_of, prove_conditions, range_of, xml

_PART = re.compile(r"<PartNumber>(\d+)</PartNumber>")
_REFUSED = {"refused": (501, "NotImplemented"), "stumbling": (500, "InternalError")}
_UNFINISHED = {
    "unfinished": (501, "NotImplemented"),
    "unfinished: digest": (400, "BadDigest"),
    "unfinished: part": (400, "InvalidPart"),
}
_CRC = re.compile(r"<ChecksumCRC32C>([^<]*)</ChecksumCRC32C>")


class _Upload:
    """An upload under way: parts by number, each with its pieces and md5; whether they carry CRC32Cs."""

    def __init__(self, meta: Meta, *, crcs: bool) -> None:
        self.meta = meta
        self.crcs = crcs
        self.parts: dict[int, tuple[Sequence[Chunk], bytes]] = {}
        self.sums: dict[int, str] = {}


class Uploads:
    """Answers what has to do with uploads; see `S3.uploads`."""

    def __init__(self) -> None:
        self._uploads: dict[str, _Upload] = {}
        self._ids = count(1)

    def __call__(self, s3: S3, request: Request, bucket: Bucket, key: str, query: Query) -> Answer:
        method = request.method
        if method == "POST" and "uploads" in query:
            s3.counts["begin upload"] += 1
            name = f"upload-{next(self._ids)}"
            lines = _algorithm(s3, request.headers)
            self._uploads[name] = _Upload(meta_of(request.headers), crcs=bool(lines))
            lines = "" if s3.checksums == "silent" else lines
            told = f"<Key>{escape(key)}</Key><UploadId>{name}</UploadId>"
            answer = xml(f"<InitiateMultipartUploadResult {NAMESPACE}>{told}</InitiateMultipartUploadResult>")
            return answer._replace(headers=answer.headers + lines)
        name = query.get("uploadId", "")
        upload = self._uploads.get(name)
        if upload is None:
            raise S3Error(404, "NoSuchUpload")
        if method == "PUT":
            return self._write(s3, request, upload, int(query["partNumber"]))
        if method == "POST":
            s3.counts["complete upload"] += 1
            if upload.crcs and s3.checksums in _UNFINISHED:
                raise S3Error(*_UNFINISHED[s3.checksums])
            answer = self._complete(request, bucket, key, upload)
            del self._uploads[name]
            return answer
        if method == "DELETE":
            s3.counts["abort upload"] += 1
            del self._uploads[name]
            return Answer(204)
        s3.counts["list parts"] += 1
        return self._list(name, upload)

    def _write(self, s3: S3, request: Request, upload: _Upload, number: int) -> Answer:
        headers = request.headers
        if "x-amz-copy-source" in headers:
            s3.counts["copy part"] += 1
            source = s3.copied(headers)
            start, end = range_of(headers.get("x-amz-copy-source-range", ""), source.size)
            pieces: Sequence[Chunk] = span(source.pieces, start, end)
        else:
            s3.counts["put part"] += 1
            pieces = (request.body,)
        md5 = md5_of(pieces)
        if (told := headers.get("content-md5")) and b64decode(told) != md5:
            raise S3Error(400, "BadDigest")
        crc = ""
        if upload.crcs and "x-amz-copy-source" not in headers:
            if "x-amz-checksum-crc32c" not in headers:
                raise S3Error(400, "InvalidRequest")
            crc = headers["x-amz-checksum-crc32c"]
            if s3.checksums != "repeated" and crc != crc32c_of(pieces):
                raise S3Error(500, "InternalError") if s3.checksums == "choking" else S3Error(400, "BadDigest")
        upload.parts[number], upload.sums[number] = (pieces, md5), crc
        if "x-amz-copy-source" in headers:
            return xml(f"<CopyPartResult {NAMESPACE}><ETag>&quot;{md5.hex()}&quot;</ETag></CopyPartResult>")
        stated = f"x-amz-checksum-crc32c: {crc}\r\n" if crc else ""
        return Answer(200, f'ETag: "{md5.hex()}"\r\n{stated}')

    def _complete(self, request: Request, bucket: Bucket, key: str, upload: _Upload) -> Answer:
        prove_conditions(request.headers, bucket, key)
        body = bytes(request.body).decode()
        numbers = [int(number) for number in _PART.findall(body)]
        if not numbers or any(number not in upload.parts for number in numbers):
            raise S3Error(400, "InvalidPart")
        parts = [upload.parts[number] for number in numbers]
        pieces = [piece for one, _ in parts for piece in one]
        md5s = b"".join(md5 for _, md5 in parts)
        etag = f"{hashlib.md5(md5s, usedforsecurity=False).hexdigest()}-{len(parts)}"
        sizes = [sum(map(len, one)) for one, _ in parts]
        # the md5 of the whole is no part of what S3 tells; computing it would cost what the client is measured by
        thing = Thing(pieces, upload.meta, md5=b"", etag=etag, parts=sizes)
        if upload.crcs:
            crcs = [upload.sums[number] for number in numbers]
            thing.crc32c = combined(zip(crcs, sizes, strict=True))
            if request.headers.get("x-amz-checksum-crc32c", thing.crc32c) != thing.crc32c or _CRC.findall(body) != crcs:
                raise S3Error(400, "BadDigest")
        bucket.put(key, thing)
        told = f"<Key>{escape(key)}</Key><ETag>&quot;{etag}&quot;</ETag>"
        if upload.crcs:
            told += f"<ChecksumCRC32C>{thing.crc32c}</ChecksumCRC32C><ChecksumType>FULL_OBJECT</ChecksumType>"
        return xml(f"<CompleteMultipartUploadResult {NAMESPACE}>{told}</CompleteMultipartUploadResult>")

    def _list(self, name: str, upload: _Upload) -> Answer:
        rows = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{md5.hex()}&quot;</ETag>"
            f"<Size>{sum(map(len, pieces))}</Size></Part>"
            for number, (pieces, md5) in sorted(upload.parts.items())
        )
        told = f"<UploadId>{name}</UploadId><IsTruncated>false</IsTruncated>{rows}"
        return xml(f"<ListPartsResult {NAMESPACE}>{told}</ListPartsResult>")


def _algorithm(s3: S3, headers: dict[str, str]) -> str:
    """What the answer to the beginning of an upload says of its checksums."""
    if headers.get("x-amz-checksum-algorithm") != "CRC32C" or s3.checksums == "ignored":
        return ""
    if s3.checksums in _REFUSED:
        raise S3Error(*_REFUSED[s3.checksums])
    kind = "" if s3.checksums == "composite" else f"x-amz-checksum-type: {headers.get('x-amz-checksum-type', '')}\r\n"
    return f"x-amz-checksum-algorithm: CRC32C\r\n{kind}"
