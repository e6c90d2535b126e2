"""What an S3 error means: one table from code and status to the classes of `heavysync.errors`. Pure.

A code decides where it is known, else the status. An error inside a 200 is judged the same way, and is
transient where its code is unknown.
Source: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html and the retry tables of botocore
(`retries/standard.py`).
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from heavysync.errors import (
    ConditionError,
    DamagedError,
    FatalError,
    HeavysyncError,
    NotFoundError,
    PermanentError,
    TransientError,
    UploadGoneError,
)
from heavysync.stores.answers import is_text, retry_after, words

Kind = Literal["transient", "throttled", "missing", "changed", "gone", "permanent", "fatal", "auth", "clock", "region"]


class Operation(NamedTuple):
    """One kind of request.

    Attributes:
        name: for messages.
        permission: what it needs, for messages.
        on_bucket: it concerns the bucket, so that a refusal ends the run.
        is_slow: the server may work for minutes before it answers.
    """

    name: str
    permission: str
    on_bucket: bool = False
    is_slow: bool = False


PROBE = Operation("look at", "s3:ListBucket", on_bucket=True)
LIST = Operation("list", "s3:ListBucket", on_bucket=True)
LIST_VERSIONS = Operation("list versions of", "s3:ListBucketVersions", on_bucket=True)
READ_VERSIONING = Operation("read the versioning of", "s3:GetBucketVersioning", on_bucket=True)
WRITE_VERSIONING = Operation("enable versioning of", "s3:PutBucketVersioning", on_bucket=True)
CREATE_BUCKET = Operation("create bucket", "s3:CreateBucket", on_bucket=True)
STAT = Operation("stat", "s3:GetObject")
READ = Operation("read", "s3:GetObject")
READ_TAGS = Operation("read the tags of", "s3:GetObjectTagging")
WRITE = Operation("write", "s3:PutObject")
COPY = Operation("copy to", "s3:GetObject on the source and s3:PutObject", is_slow=True)
COPY_PART = Operation("copy part to", "s3:GetObject on the source and s3:PutObject", is_slow=True)
BEGIN = Operation("begin upload of", "s3:PutObject")
WRITE_PART = Operation("write part of", "s3:PutObject")
LIST_PARTS = Operation("list parts of", "s3:ListMultipartUploadParts")
COMPLETE = Operation("complete", "s3:PutObject", is_slow=True)
ABORT = Operation("abort upload of", "s3:AbortMultipartUpload")
DELETE = Operation("delete", "s3:DeleteObject and s3:DeleteObjectVersion", is_slow=True)
DELETE_ONE = Operation("delete", "s3:DeleteObject and s3:DeleteObjectVersion")

_TABLE: tuple[tuple[Kind, str], ...] = (
    (
        "transient",
        """InternalError ServiceUnavailable RequestTimeout RequestTimeoutException BadDigest IncompleteBody
        XAmzContentSHA256Mismatch XAmzContentChecksumMismatch OperationAborted ConditionalRequestConflict
        TemporaryRedirect ClientDisconnected""",
    ),
    (
        "throttled",
        """SlowDown Throttling ThrottlingException ThrottledException RequestThrottled TooManyRequests
        RequestThrottledException TooManyRequestsException RequestLimitExceeded BandwidthLimitExceeded
        LimitExceededException ProvisionedThroughputExceededException PriorRequestNotComplete
        EC2ThrottledException TransactionInProgressException KMS.ThrottlingException""",
    ),
    ("missing", "NoSuchKey NoSuchVersion NotFound"),
    ("changed", "PreconditionFailed InvalidRange BucketAlreadyOwnedByYou BucketAlreadyExists"),
    ("gone", "NoSuchUpload"),
    (
        "permanent",
        """AccessDenied InvalidObjectState EntityTooLarge EntityTooSmall KeyTooLongError MetadataTooLarge
        InvalidTag InvalidStorageClass InvalidArgument InvalidRequest NotImplemented MethodNotAllowed
        SignatureDoesNotMatch InvalidURI MalformedXML""",
    ),
    (
        "fatal",
        """NoSuchBucket AllAccessDisabled AccountProblem NotSignedUp InvalidSecurity InvalidBucketName
        IllegalLocationConstraintException InvalidLocationConstraint
        KMS.DisabledException KMS.NotFoundException KMS.KMSInvalidStateException""",
    ),
    (
        "auth",
        """ExpiredToken ExpiredTokenException TokenRefreshRequired InvalidToken RequestExpired
        InvalidAccessKeyId""",
    ),
    ("clock", "RequestTimeTooSkewed"),
    ("region", "PermanentRedirect AuthorizationHeaderMalformed"),
)

_CODES: dict[str, Kind] = {code: kind for kind, codes in _TABLE for code in codes.split()}

_WRITES = {WRITE, BEGIN, WRITE_PART, COMPLETE}  # a missing key is the destination here, never the source

_UNCONDITIONAL = {PROBE, LIST, LIST_VERSIONS, READ_VERSIONING, STAT, READ_TAGS, WRITE_PART, LIST_PARTS, ABORT}

# a 404 without a word is S3's answer to a HEAD; to the first questions about a bucket it is that of a wrong endpoint
_WORDLESS = {STAT, PROBE, CREATE_BUCKET, READ_VERSIONING, WRITE_VERSIONING}

_STATUSES: dict[int, Kind] = {
    200: "transient",
    301: "region",
    302: "transient",
    307: "transient",
    404: "missing",
    408: "transient",
    409: "transient",
    412: "changed",
    416: "changed",
    425: "transient",
    429: "throttled",
    501: "permanent",
    503: "throttled",
    509: "throttled",
}

_MESSAGE_BYTES = 4096

_ADVICE = {
    "NoSuchBucket": "there is no such bucket: check its name, or create it with --create-bucket",
    "AllAccessDisabled": "the account or bucket is disabled",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key id, or a proxy alters requests",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "KeyTooLongError": "the server takes no name as long as this",
    "MetadataTooLarge": "the server takes no user metadata as large as this object's: S3 takes 2 KiB",
    "EntityTooLarge": "the server takes no object as large as this one",
    "InvalidStorageClass": "the server does not have the storage class: see --storage-class",
    "KMS.DisabledException": "the KMS key is disabled: enable it",
    "KMS.NotFoundException": "the KMS key does not exist (any more)",
    "KMS.KMSInvalidStateException": "the KMS key cannot be used for now: it is disabled, or is going to be deleted",
}

DAMAGED = frozenset({"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"})
"""Codes that say that other bytes arrived than were sent."""

_LOCK = re.compile("object[- ]?lock|worm[- ]protected|legal hold|under retention", re.IGNORECASE)
_ACTION = re.compile(r"not authorized to perform: (?P<action>[a-z0-9-]{1,20}:[A-Za-z0-9]{1,60})")
_MFA = re.compile("mfa authentication|multi-?factor", re.IGNORECASE)


class ErrorText(NamedTuple):
    """The provider's words.

    Attributes:
        code: empty where there is none (a HEAD has no body), at most 100 characters.
        message: at most 300 characters.
        region: of the bucket, where the error tells; else empty.
        storage_class: of an archived object, where the error tells; else empty.
    """

    code: str
    message: str
    region: str
    storage_class: str = ""


def read_error(headers: Mapping[str, str], body: bytes) -> ErrorText:
    """Take code and message from an error body; it may be cut, HTML or empty."""
    region = headers.get("x-amz-bucket-region") or _tag(body, b"Region")
    return ErrorText(
        _tag(body, b"Code")[:100],
        _tag(body, b"Message"),
        region if is_text(region) and len(region) <= 64 else "",
        (_tag(body, b"AccessTier") or _tag(body, b"StorageClass"))[:40],
    )


def _tag(body: bytes, name: bytes) -> str:
    found = re.search(rb"<" + name + rb">([^<]*)</" + name + rb">", body)
    if not found:
        return ""
    text = found[1][:_MESSAGE_BYTES].decode("utf-8", "replace")
    try:
        return words(html.unescape(text).strip())
    except ValueError:  # a character reference of more digits than Python reads
        return words(text)


def classify(status: int, code: str, operation: Operation) -> Kind:
    """What an error means for this operation."""
    kind = _CODES.get(code)
    if kind is None:
        kind = _STATUSES.get(status) or ("transient" if status >= 500 or status < 400 else "permanent")
    if kind == "changed" and operation in _UNCONDITIONAL:
        kind = "transient"  # there was no condition that could have failed: the answer is to another request
    if operation is COMPLETE and (status == 409 or code in {"InvalidPart", "InvalidPartOrder"}):
        return "gone"  # S3: after a 409 here the upload has to be begun again
    if operation is PROBE and code == "NoSuchBucket":
        return "missing"
    if code.startswith("KMS.") and operation in {STAT, READ}:
        return "throttled" if kind == "throttled" else "permanent"  # the object's key, not the bucket's
    if operation in _WRITES and kind == "missing":
        return "changed" if code == "NoSuchKey" else "permanent"  # If-Match on a key that is not there (any more)
    if operation.on_bucket and kind in {"permanent", "missing"}:
        return "fatal"
    return kind


def error_for(operation: Operation, where: str, status: int, headers: Mapping[str, str], body: bytes) -> HeavysyncError:
    """The error to raise for an answer that is no success; `where` names bucket and key."""
    text = read_error(headers, body)
    words = ": ".join(filter(None, (f"{operation.name} {where}", f"{status} {text.code}".strip(), text.message)))
    code, advice = advise(text, operation, refused=status == 403)
    message = f"{words}; {advice}" if advice else words
    kind = classify(status, text.code, operation)
    if status == 404 and not text.code and (operation not in _WORDLESS or (kind == "missing" and body)):
        kind = "transient"  # a proxy's 404, or another request's: S3 says NoSuchKey, or nothing at all to a HEAD
    if status == 405 and headers.get("x-amz-delete-marker") == "true":
        kind = "missing"
    match kind:
        case "transient" | "throttled" | "auth" | "clock":
            kind_of = DamagedError if text.code in DAMAGED else TransientError
            return kind_of(message, retry_after=retry_after(headers), throttled=kind == "throttled")
        case "missing":
            return NotFoundError(message, code=text.code)
        case "changed":
            return ConditionError(message)
        case "gone":
            return UploadGoneError(message)
        case "permanent":
            return PermanentError(message, code=code or f"http-{status}")
        case "fatal" | "region":
            return FatalError(message)


def advise(text: ErrorText, operation: Operation, *, refused: bool) -> tuple[str, str]:
    """The short name under which an error is recorded, and what to do about it ("" where that is not known).

    S3 has one code, `AccessDenied`, for many things; its words tell them apart.

    Args:
        text: the provider's words.
        operation: what was asked for.
        refused: the status, or that of one key in a batch, is 403.
    """
    code, message = text.code, text.message
    if code in {"", "AccessDenied", "InvalidRequest"} and _LOCK.search(message):
        return "locked", "it may be replaced or deleted when its retention has ended and no legal hold is on it"
    if code == "InvalidObjectState":
        named = f" ({text.storage_class})" if text.storage_class else ""
        return code, f"it is archived{named}: restore it first, then run this again"
    if code == "AccessDenied" and _MFA.search(message):
        return "mfa", "the bucket demands a one-time password for this (MFA delete)"
    if code == "AccessDenied" and (found := _ACTION.search(message)):
        is_kms = found["action"].startswith("kms:")
        more = " on the KMS key of the object or bucket" if is_kms else ""
        return "KMS.AccessDeniedException" if is_kms else code, f"the credentials need {found['action']}{more}"
    if refused and code in {"", "AccessDenied"}:
        pays = " (or --request-payer, if the bucket's owner lets requesters pay)" if operation.on_bucket else ""
        return code, f"the credentials need {operation.permission}{pays}"
    return code, _ADVICE.get(code, "")
