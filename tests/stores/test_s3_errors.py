"""Every S3 error means one thing."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from heavysync.errors import (
    ConditionError,
    DamagedError,
    FatalError,
    NotFoundError,
    PermanentError,
    TransientError,
    UploadGoneError,
)
from heavysync.stores import s3_errors as s3
from heavysync.stores.s3_credentials import credentials_error


PAYS = " (or --request-payer, if the bucket's owner lets requesters pay)"


def error(operation, status, code="", headers=None, words="words &amp; more", more=""):
    body = f"<Error><Code>{code}</Code><Message>{words}</Message>{more}</Error>".encode() if code else b""
    return s3.error_for(operation, "s3://b/k", status, headers or {}, body)


@pytest.mark.parametrize(
    ("operation", "status", "code", "expected"),
    [
        (s3.READ, 500, "InternalError", TransientError),
        (s3.READ, 502, "", TransientError),
        (s3.READ, 520, "", TransientError),
        (s3.READ, 408, "", TransientError),
        (s3.READ, 400, "RequestTimeout", TransientError),
        (s3.WRITE, 400, "BadDigest", DamagedError),
        (s3.WRITE, 409, "ConditionalRequestConflict", TransientError),
        (s3.WRITE, 307, "TemporaryRedirect", TransientError),
        (s3.COMPLETE, 200, "InternalError", TransientError),
        (s3.COMPLETE, 200, "NeverHeardOf", TransientError),
        (s3.READ, 404, "NoSuchKey", NotFoundError),
        (s3.READ, 404, "NoSuchVersion", NotFoundError),
        (s3.COPY, 404, "NoSuchKey", NotFoundError),
        (s3.STAT, 404, "", NotFoundError),
        (s3.READ, 404, "NoSuchBucket", FatalError),
        (s3.LIST, 404, "NoSuchBucket", FatalError),
        (s3.PROBE, 404, "NoSuchBucket", NotFoundError),
        (s3.WRITE, 404, "NoSuchKey", ConditionError),
        (s3.COMPLETE, 404, "NoSuchKey", ConditionError),
        (s3.WRITE, 404, "", TransientError),
        (s3.BEGIN, 404, "", TransientError),
        (s3.LIST, 404, "", TransientError),
        (s3.PROBE, 404, "", FatalError),
        (s3.READ, 412, "PreconditionFailed", ConditionError),
        (s3.STAT, 412, "", TransientError),
        (s3.LIST, 412, "PreconditionFailed", TransientError),
        (s3.WRITE_PART, 412, "PreconditionFailed", TransientError),
        (s3.READ, 416, "InvalidRange", ConditionError),
        (s3.WRITE_PART, 404, "NoSuchUpload", UploadGoneError),
        (s3.COMPLETE, 409, "ConditionalRequestConflict", UploadGoneError),
        (s3.COMPLETE, 400, "InvalidPart", UploadGoneError),
        (s3.COMPLETE, 412, "PreconditionFailed", ConditionError),
        (s3.READ, 403, "AccessDenied", PermanentError),
        (s3.LIST, 403, "AccessDenied", FatalError),
        (s3.READ, 403, "InvalidObjectState", PermanentError),
        (s3.READ, 403, "SignatureDoesNotMatch", PermanentError),
        (s3.LIST, 403, "SignatureDoesNotMatch", FatalError),
        (s3.LIST, 400, "", FatalError),
        (s3.READ, 400, "KMS.DisabledException", PermanentError),
        (s3.WRITE, 400, "KMS.DisabledException", FatalError),
        (s3.WRITE, 400, "KMS.ThrottlingException", TransientError),
        (s3.WRITE, 400, "EntityTooLarge", PermanentError),
        (s3.WRITE, 501, "NotImplemented", PermanentError),
        (s3.WRITE, 418, "", PermanentError),
        (s3.READ, 301, "PermanentRedirect", FatalError),
        (s3.READ, 400, "ExpiredToken", TransientError),
        (s3.READ, 403, "RequestTimeTooSkewed", TransientError),
    ],
)
def test_error_table(operation, status, code, expected):
    """Code first, then status, seen from what was asked."""
    assert expected is type(error(operation, status, code))


@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (503, ""), (429, ""), (400, "ThrottlingException"), (200, "SlowDown")]
)
def test_slow_down_cuts_the_rate(status, code):
    """What asks for less says so."""
    caught = error(s3.WRITE, status, code, {"retry-after": "7"})

    assert caught.throttled
    assert caught.retry_after == 7.0


@pytest.mark.parametrize(("text", "seconds"), [("", None), ("soon", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)])
def test_retry_after_is_read_with_care(text, seconds):
    """Seconds, a date, or nonsense."""
    assert seconds == error(s3.READ, 503, "", {"retry-after": text}).retry_after


def test_message_has_operation_key_words_and_advice():
    """Who reads it knows what to do."""
    text = str(error(s3.LIST, 403, "AccessDenied"))

    assert text == "list s3://b/k: 403 AccessDenied: words & more; the credentials need s3:ListBucket" + PAYS


def test_permanent_errors_keep_the_code():
    """The provider's name of the error is what is recorded."""
    assert error(s3.READ, 403, "InvalidObjectState").code == "InvalidObjectState"
    assert error(s3.READ, 418).code == "http-418"


@pytest.mark.parametrize(
    ("operation", "code", "words", "name", "advice"),
    [
        (s3.DELETE, "AccessDenied", "Access Denied because object protected by object lock.", "locked", "retention has ended"),
        (s3.WRITE, "InvalidRequest", "Object is WORM protected and cannot be overwritten", "locked", "retention has ended"),
        (s3.READ, "InvalidObjectState", "not valid", "InvalidObjectState", "archived (DEEP_ARCHIVE): restore it first"),
        (
            s3.READ,
            "AccessDenied",
            "User: arn:x is not authorized to perform: kms:Decrypt on resource: y",
            "KMS.AccessDeniedException",
            "kms:Decrypt on the KMS key",
        ),
        (
            s3.READ,
            "AccessDenied",
            "User: arn:x is not authorized to perform: s3:GetObject on resource: y",
            "AccessDenied",
            "need s3:GetObject",
        ),
        (s3.DELETE, "AccessDenied", "Mfa Authentication must be used for this request", "mfa", "one-time password"),
        (s3.READ, "AccessDenied", "Access Denied", "AccessDenied", "the credentials need s3:GetObject"),
        (s3.WRITE, "MetadataTooLarge", "too large", "MetadataTooLarge", "2 KiB"),
        (s3.WRITE, "KeyTooLongError", "too long", "KeyTooLongError", "no name as long"),
    ],
)
def test_lasting_refusals_have_their_own_words(operation, code, words, name, advice):
    """One code of S3 means many things; who reads the message knows which, and what to do."""
    caught = error(operation, 403, code, words=words, more="<StorageClass>DEEP_ARCHIVE</StorageClass>")

    assert PermanentError is type(caught)
    assert name == caught.code
    assert advice in str(caught)


@pytest.mark.parametrize("body", [b"", b"<html>", b"<Error><Code>Cut", b"\xff\xfe<Code>\xff</Code>"])
def test_unreadable_errors_are_judged_by_status(body):
    """Proxies answer what they like."""
    assert TransientError is type(s3.error_for(s3.LIST, "w", 502, {}, body))


def test_delete_marker_is_no_object():
    """405 with the marker's header: the object is gone."""
    caught = error(s3.READ, 405, "MethodNotAllowed", {"x-amz-delete-marker": "true"})

    assert NotFoundError is type(caught)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (EndpointConnectionError(endpoint_url="https://sts"), TransientError),
        (OSError("unreachable"), TransientError),
        (ClientError({"ResponseMetadata": {"HTTPStatusCode": 503}}, "AssumeRole"), TransientError),
        (ClientError({"Error": {"Code": "Throttling"}}, "AssumeRole"), TransientError),
        (ClientError({"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "A"), FatalError),
    ],
)
def test_credentials_that_cannot_be_had_now_may_be_had_later(error, expected):
    """An outage of the network or of the token service does not end a run; a refusal does."""
    assert expected is type(credentials_error("refresh", error))
