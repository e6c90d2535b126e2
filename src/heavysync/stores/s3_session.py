"""Who we are and where the bucket is: credentials, region and endpoint as aiobotocore resolves them.

aiobotocore sends nothing to S3 here: it reads profiles and environment, assumes roles, refreshes, and says
which URL a bucket has. It is imported when a store is opened, because that import takes a third of a second.
"""

from __future__ import annotations

import asyncio
import functools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from heavysync.errors import FatalError, HeavysyncError, TransientError, UsageError
from heavysync.stores.http import STALL_S
from heavysync.stores.sigv4 import Signer

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

_RECHECK_S = 60.0  # botocore refreshes 15 minutes before expiry: asking once a minute is early enough

_DEFAULT_REGION = "us-east-1"  # what botocore takes too; the server corrects it


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """How to reach one side. What is not set is taken from where AWS tools look (`AWS_*`, profiles).

    Args:
        endpoint_url: another server than AWS's, with its scheme.
        profile: of the AWS configuration files.
        region: of the bucket; found by asking where it is wrong.
        anonymous: sign nothing.
        request_payer: we pay for requests to somebody else's bucket.
        storage_class: for objects written here; None leaves it to the bucket.
        copy_tags: server-side copies carry the tags (and need the permissions for it).
        stall_s: seconds without progress that end a request.
        ca_bundle: PEM file of certificate authorities; None: `AWS_CA_BUNDLE`, else the system's.
        trust_env: use the proxies that the environment names.
    """

    endpoint_url: str | None = None
    profile: str | None = None
    region: str | None = None
    anonymous: bool = False
    request_payer: bool = False
    storage_class: str | None = None
    copy_tags: bool = False
    stall_s: float = STALL_S
    ca_bundle: str | None = None
    trust_env: bool = False

    def __post_init__(self) -> None:
        url = self.endpoint_url
        if url is not None and (urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).netloc):
            raise UsageError(f"endpoint {url!r}: give it with its scheme, such as https://s3.example.com")


class Endpoint(NamedTuple):
    """Where a bucket is.

    Attributes:
        origin: scheme and authority, without a slash at the end.
        host: the `Host` header.
        root: encoded path of the bucket: empty where the bucket is in the host name.
        region: to sign for.
        partition: "aws", "aws-cn", …: where it is AWS's own; else empty.
    """

    origin: str
    host: str
    root: str
    region: str
    partition: str


class Session:
    """One side's credentials and endpoint.

    Args:
        options: how to reach the side.
        bucket: its name.
    """

    def __init__(self, options: S3Options, bucket: str) -> None:
        self._options = options
        self._bucket = bucket
        self._lock = asyncio.Lock()
        self._signer: Signer | None = None
        self._credentials: Any = None
        self._checked_at = 0.0
        self._renewed: Signer | None = None  # got by force: if it is rejected too, only a human can help
        self.clock_offset = 0.0  # seconds that the server's clock is ahead of ours
        self.identity = "anonymous"
        self.ca_bundle = options.ca_bundle

    async def open(self) -> Endpoint:
        """Find credentials and endpoint.

        Raises:
            FatalError: there is no such profile, no credentials, or no endpoint for this bucket and region.
            TransientError: the service that hands out credentials did not answer.
        """
        session = self._new_session()
        self.ca_bundle = self._options.ca_bundle or session.get_config_variable("ca_bundle")
        if not self._options.anonymous:
            await self._load(session)
        self.endpoint = await self._resolve(session, self._options.region)
        if self._credentials is not None:
            await self.signer()
        return self.endpoint

    async def relocate(self, region: str) -> None:
        """Go on with the region that the server named."""
        async with self._lock:
            if region == self.endpoint.region:
                return
            if self.endpoint.partition:
                self.endpoint = await self._resolve(self._new_session(), region)
            else:
                self.endpoint = self.endpoint._replace(region=region)
            self._signer = None

    async def signer(self) -> Signer | None:
        """The credentials to sign with; None: anonymous. Free but for one look a minute."""
        if self._credentials is None:
            return None
        if self._signer is None or time.monotonic() - self._checked_at > _RECHECK_S:
            async with self._lock:
                if self._signer is None or time.monotonic() - self._checked_at > _RECHECK_S:
                    await self._freeze()
        return self._signer

    async def renew(self, rejected: Signer, message: str) -> None:
        """Look for fresh credentials after `rejected` ones; one look for all who ask at the same time.

        Raises:
            FatalError: there are no others, or the fresh ones are rejected too.
            TransientError: they could not be looked up now.
        """
        advice = "the credentials are not accepted (any more): renew them and start again; nothing is lost"
        async with self._lock:
            if self._signer is not rejected:
                return  # somebody else has renewed them meanwhile
            if rejected is self._renewed:
                raise FatalError(f"{message}: {advice}")
            await self._load(self._new_session())
            self._signer = None
            self._renewed = await self._freeze()
            if (self._renewed.access_key, self._renewed.token) == (rejected.access_key, rejected.token):
                raise FatalError(f"{message}: {advice}")

    def _new_session(self) -> AioSession:
        """A session that has read the files and the environment anew."""
        from aiobotocore.session import AioSession
        from botocore.exceptions import BotoCoreError

        session = AioSession(profile=self._options.profile)
        session.register_component("data_loader", _loader())
        try:
            session.get_scoped_config()
        except BotoCoreError as error:
            raise FatalError(f"s3://{self._bucket}: {error}") from error
        return session

    async def _load(self, session: AioSession) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        where = f"s3://{self._bucket}"
        try:
            self._credentials = await session.get_credentials()
        except (BotoCoreError, ClientError, TimeoutError, OSError) as error:
            raise _credentials_error(f"{where}: credentials: {error}", error) from error
        if self._credentials is None:
            raise FatalError(
                f"{where}: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile, "
                "or ask for anonymous access"
            )
        self._name_identity(session)

    def _name_identity(self, session: AioSession) -> None:
        """Temporary keys of a role differ each time, so there the profile is what identifies us."""
        from botocore.credentials import RefreshableCredentials

        if isinstance(self._credentials, RefreshableCredentials):
            self.identity = f"profile {session.profile or 'default'}"
        else:
            self.identity = f"key {self._credentials.access_key}"

    async def _freeze(self) -> Signer:
        """Take the credentials of now; a signer is kept as long as they stay the same."""
        from botocore.exceptions import BotoCoreError, ClientError

        where = f"s3://{self._bucket}: refreshing credentials"
        try:
            frozen = await self._credentials.get_frozen_credentials()
        except (BotoCoreError, ClientError, TimeoutError, OSError) as error:
            raise _credentials_error(f"{where}: {error}", error) from error
        except RuntimeError as error:  # "refreshed credentials are still expired" (botocore)
            raise FatalError(f"{where}: {error}") from error
        self._checked_at = time.monotonic()
        old = self._signer
        if old is None or (old.access_key, old.token) != (frozen.access_key, frozen.token):
            self._signer = Signer(frozen.access_key, frozen.secret_key, frozen.token, self.endpoint.region)
            return self._signer
        return old

    async def _resolve(self, session: AioSession, region: str | None) -> Endpoint:
        """Ask botocore for the bucket's URL: it builds a HeadBucket request and is stopped from sending it."""
        from aiobotocore.config import AioConfig
        from botocore import UNSIGNED
        from botocore.exceptions import BotoCoreError

        def stop(request: Any, **_: Any) -> None:
            raise _BuiltRequest(request.url)

        try:
            async with session.create_client(
                "s3",
                region_name=region,
                endpoint_url=self._options.endpoint_url,
                config=AioConfig(signature_version=UNSIGNED),
            ) as client:
                client.meta.events.register("request-created.s3.HeadBucket", stop)
                try:
                    await client.head_bucket(Bucket=self._bucket)
                except _BuiltRequest as built:
                    return _endpoint(built.url, client.meta)
                raise AssertionError("HeadBucket builds a request")
        except (BotoCoreError, ValueError) as error:
            raise FatalError(f"s3://{self._bucket}: {error}") from error


@functools.cache
def _loader() -> Any:
    """The model files of botocore, parsed once for all sessions: the second store opens in half the time."""
    from botocore.loaders import create_loader

    return create_loader()


def _credentials_error(text: str, error: Exception) -> HeavysyncError:
    """Whether credentials that could not be had may be had later: the network, or a service that is busy or down.

    botocore has two roots for network errors; `ConnectionError` there is not the built-in one.
    """
    from botocore.exceptions import ClientError, HTTPClientError
    from botocore.exceptions import ConnectionError as BotoConnectionError

    if isinstance(error, (HTTPClientError, BotoConnectionError, TimeoutError, OSError)):
        return TransientError(text)
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status == 429 or status >= 500 or "Throttl" in error.response.get("Error", {}).get("Code", ""):
            return TransientError(text, throttled=status == 429)
    return FatalError(text)


class _BuiltRequest(Exception):  # noqa: N818 - no error, a way out
    """Carries the URL of a request that is not sent."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


def _endpoint(url: str, meta: Any) -> Endpoint:
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else str(parts.hostname)
    if parts.port is not None and parts.port != {"http": 80, "https": 443}[parts.scheme]:
        host = f"{host}:{parts.port}"
    own = ".amazonaws.com" in host
    return Endpoint(
        f"{parts.scheme}://{host}",
        host,
        parts.path.rstrip("/"),
        meta.region_name or _DEFAULT_REGION,
        meta.partition if own else "",
    )
