"""What an S3 error means: one table from code and status to the classes of `heavysync.errors`. Pure.

A code decides where it is known, else the status. An error inside a 200 is judged the same way, and is
transient where its code is unknown.
Source: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html and the retry tables of botocore
(`retries/standard.py`).
"""

from __future__ import annotations

import email.utils
import html
import re
import time
from collections.abc import Mapping
from typing import Literal, NamedTuple

from heavysync.errors import (
    ConditionError,
    FatalError,
    HeavysyncError,
    NotFoundError,
    PermanentError,
    TransientError,
    UploadGoneError,
)

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

_ADVICE = {
    "NoSuchBucket": "there is no such bucket: check its name, or create it with --create-bucket",
    "AllAccessDisabled": "the account or bucket is disabled",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key id, or a proxy alters requests",
    "InvalidObjectState": "archived: restore it first",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
}


class ErrorText(NamedTuple):
    """The provider's words.

    Attributes:
        code: empty where there is none (a HEAD has no body).
        message: at most 300 characters.
        region: of the bucket, where the error tells; else empty.
    """

    code: str
    message: str
    region: str


def read_error(headers: Mapping[str, str], body: bytes) -> ErrorText:
    """Take code and message from an error body; it may be cut, HTML or empty."""
    region = headers.get("x-amz-bucket-region") or _tag(body, b"Region")
    return ErrorText(_tag(body, b"Code"), _tag(body, b"Message")[:300], region)


def _tag(body: bytes, name: bytes) -> str:
    found = re.search(rb"<" + name + rb">([^<]*)</" + name + rb">", body)
    return html.unescape(found[1].decode("utf-8", "replace")).strip() if found else ""


def classify(status: int, code: str, operation: Operation) -> Kind:
    """What an error means for this operation."""
    kind = _CODES.get(code)
    if kind is None:
        kind = _STATUSES.get(status) or ("transient" if status >= 500 or status < 400 else "permanent")
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
    advice = _ADVICE.get(text.code, "")
    if status == 403 and text.code in {"", "AccessDenied"}:
        advice = f"the credentials need {operation.permission}"
    message = f"{words}; {advice}" if advice else words
    kind = classify(status, text.code, operation)
    if kind == "missing" and not text.code and body:
        kind = "transient"  # a proxy's 404: S3 says NoSuchKey, or nothing at all to a HEAD
    if status == 405 and headers.get("x-amz-delete-marker") == "true":
        kind = "missing"
    match kind:
        case "transient" | "throttled" | "auth" | "clock":
            wait = _retry_after(headers)
            return TransientError(message, retry_after=wait, throttled=kind == "throttled")
        case "missing":
            return NotFoundError(message, code=text.code)
        case "changed":
            return ConditionError(message)
        case "gone":
            return UploadGoneError(message)
        case "permanent":
            return PermanentError(message, code=text.code or f"http-{status}")
        case "fatal" | "region":
            return FatalError(message)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "")
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
