"""AWS Signature Version 4 for S3, by hand and fast: pure functions of a request, a key and a time.

Bodies are not hashed (`UNSIGNED-PAYLOAD`): `Content-MD5` and TLS guard them, and a body is never read twice.
A path is encoded exactly once and never normalised, so that `..`, `//` and `%` in keys survive. All headers
given are signed. Held byte for byte against botocore's `S3SigV4Auth` by `tests/stores/test_sigv4.py`.
Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from operator import itemgetter
from typing import NamedTuple
from urllib.parse import quote

_ALGORITHM = "AWS4-HMAC-SHA256"
_PAYLOAD = "UNSIGNED-PAYLOAD"
_FORMS = 500
_PLAIN = re.compile(r"[A-Za-z0-9/._~-]*")  # such keys, most of them, are sent as they are; to look costs a third of `quote`


def encode_path(key: str) -> str:
    """Percent-encode a key for the path of a request: all but letters, digits and `/-_.~`.

    Raises:
        UnicodeEncodeError: the key holds a lone surrogate.
    """
    return key if _PLAIN.fullmatch(key) else quote(key, safe="/")


def encode_query(parameters: Iterable[tuple[str, str]]) -> str:
    """Encode a query in its canonical form (sorted, everything escaped), which is also what is sent."""
    encoded = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in parameters)
    return "&".join([f"{name}={value}" for name, value in encoded])


class _Form(NamedTuple):
    """What requests with the same names of headers have in common.

    Attributes:
        pick: takes the values, in the order in which they are signed.
        canonical: the request that is signed, with `%s` for method, path, query and each value.
        authorization: the header, up to the signature.
    """

    pick: Callable[[Mapping[str, str]], tuple[str, ...]]
    canonical: str
    authorization: str


class Signer:
    """Signs requests with one set of credentials for one region; the signing key is kept for the day.

    Args:
        access_key: the access key id.
        secret_key: the secret; it is kept out of every text that this class gives.
        token: the session token of temporary credentials.
        region: of the bucket.
    """

    __slots__ = (
        "_date",
        "_forms",
        "_inner",
        "_outer",
        "_preamble",
        "_scope",
        "_second",
        "_secret_key",
        "_stamp",
        "access_key",
        "region",
        "token",
    )

    def __init__(self, access_key: str, secret_key: str, token: str | None, region: str) -> None:
        self.access_key = access_key
        self.token = token
        self.region = region
        self._secret_key = secret_key
        self._date = ""
        self._inner, self._outer = sha256(), sha256()
        self._forms: dict[tuple[str, ...], _Form] = {}
        self._scope = ""
        self._second = -1
        self._stamp = self._preamble = ""

    def __repr__(self) -> str:
        return f"Signer({self.region!r})"

    def sign(self, method: str, host: str, path: str, query: str, headers: Mapping[str, str], *, now: float) -> dict[str, str]:
        """Answer the headers to send: those given, in lower case, and the ones that carry the signature.

        Args:
            method: upper case.
            host: the `Host` header as it will be sent: lower case, without a default port.
            path: encoded once by `encode_path`.
            query: from `encode_query`.
            headers: what else is sent and signed; names in lower case, ASCII or UTF-8 values.
            now: seconds since the epoch, corrected by the server's clock where that is known.
        """
        if int(now) != self._second:
            self._tick(int(now))
        signed = {**headers, "x-amz-content-sha256": _PAYLOAD, "x-amz-date": self._stamp}
        if self.token:
            signed["x-amz-security-token"] = self.token
        names = (host, *signed)
        form = self._forms.get(names) or self._form(names)
        values = form.pick(signed)
        joined = "".join(values)
        if " " in joined or not joined.isprintable():
            values = tuple([" ".join(value.split()) for value in values])
        canonical = form.canonical % (method, path, query, *values)
        # hmac.digest gives the interpreter away for each signature, and waits for the database's thread to get it back
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(f"{self._preamble}{sha256(canonical.encode()).hexdigest()}".encode())
        outer.update(inner.digest())
        signed["authorization"] = form.authorization + outer.hexdigest()
        return signed

    def _form(self, shape: tuple[str, ...]) -> _Form:
        """The form of requests to a host with these headers; a run sends a few sets of headers only."""
        host, *given = shape
        names = sorted({*given, "host"})
        lines = "".join([f"{_raw(name)}:{_raw(host) if name == 'host' else '%s'}\n" for name in names])
        signed_headers = ";".join(names)
        if len(self._forms) >= _FORMS:  # user metadata can be named as one likes
            self._forms.clear()
        self._forms[shape] = form = _Form(
            itemgetter(*[name for name in names if name != "host"]),
            f"%s\n%s\n%s\n{lines}\n{_raw(signed_headers)}\n{_PAYLOAD}",
            f"{_ALGORITHM} Credential={self.access_key}/{self._scope}, SignedHeaders={signed_headers}, Signature=",
        )
        return form

    def _tick(self, second: int) -> None:
        """Write the time stamp of this second; on a new day, derive the day's key."""
        self._stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        self._second = second
        date = self._stamp[:8]
        if date != self._date:
            self._begin_day(date)
        self._preamble = f"{_ALGORITHM}\n{self._stamp}\n{self._scope}\n"

    def _begin_day(self, date: str) -> None:
        self._forms.clear()
        self._scope = f"{date}/{self.region}/s3/aws4_request"
        key = f"AWS4{self._secret_key}".encode()
        for step in (date, self.region, "s3", "aws4_request"):
            key = hmac.digest(key, step.encode(), "sha256")
        key = key.ljust(sha256().block_size, b"\0")
        self._inner, self._outer = (sha256(bytes(byte ^ pad for byte in key)) for pad in (0x36, 0x5C))  # RFC 2104
        self._date = date


def _raw(text: str) -> str:
    """A text that stays as it is where values are put in."""
    return text.replace("%", "%%")
