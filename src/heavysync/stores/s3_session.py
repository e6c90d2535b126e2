"""Who we are and where the bucket is: credentials, region and endpoint as aiobotocore and botocore resolve them.

Nothing is sent to S3 here. aiobotocore reads profiles, assumes roles and refreshes; botocore, on which it stands, reads
settings and says which URL a bucket has. Each is imported when it is needed, because that takes a tenth of a second.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import orjson

from heavysync.errors import FatalError, HeavysyncError, TransientError, UsageError
from heavysync.stores import s3_credentials
from heavysync.stores.http import STALL_S, Client
from heavysync.stores.renewal import Patience, Renewal
from heavysync.stores.sigv4 import Signer

if TYPE_CHECKING:
    from botocore.session import Session as BotoSession

T = TypeVar("T")

_RECHECK_S = (60.0, 30.0, 15.0, 8.0, 4.0, 2.0, 1.0)
"""Seconds until botocore is asked again: it refreshes 15 minutes before expiry, so once a minute is early enough, but for
credentials that live shorter than that."""

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
        http_client: who speaks HTTP.
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
    http_client: Client = "lean"
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
        patience: what to do while the credentials are not accepted.
    """

    def __init__(self, options: S3Options, bucket: str, patience: Patience | None = None) -> None:
        self._options = options
        self._bucket = bucket
        self._where = f"s3://{bucket}"
        self._renewal = Renewal(patience or Patience(name=self._where))
        self._relocating = asyncio.Lock()
        self._signer: Signer | None = None
        self._credentials: Any = None
        self._good_until = 0.0  # when the signer's credentials are looked at again; monotonic
        self._accepted: Signer | None = None
        self._refused = ("", "")  # access key and token
        self._refusal = ""
        self.clock_offset = 0.0  # seconds that the server's clock is ahead of ours
        self.identity = "anonymous"
        self.ca_bundle = options.ca_bundle

    async def open(self) -> Endpoint:
        """Find credentials and endpoint.

        Raises:
            FatalError: there is no such profile, no credentials, or no endpoint for this bucket and region.
            TransientError: whoever hands out credentials did not answer; or the run stops.
        """
        session = self._new_session()
        self.ca_bundle = self._options.ca_bundle or session.get_config_variable("ca_bundle")
        if not self._options.anonymous:
            await self._renewal.unless_stopped(self._loading(session))
        self.endpoint = await asyncio.to_thread(self._resolve, session, self._options.region)
        if self._credentials is not None:
            await self.signer()
        return self.endpoint

    async def relocate(self, region: str) -> None:
        """Go on with the region that the server named."""
        async with self._relocating:
            if region == self.endpoint.region:
                return
            if self.endpoint.partition:
                self.endpoint = await asyncio.to_thread(self._resolve, self._new_session(), region)
            else:
                self.endpoint = self.endpoint._replace(region=region)
            self._signer = None

    async def signer(self) -> Signer | None:
        """The credentials to sign with, once there are some that were not refused; None: anonymous.

        Free but for one look a minute.

        Raises:
            FatalError: there are none; see `Renewal`.
            TransientError: they cannot be had now.
        """
        if self._credentials is None:
            return None
        if self._signer is None or time.monotonic() > self._good_until:
            await self._renewal(self._is_due, self._renew)
        return self._signer

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may repeat."""
        signer = self._signer
        return () if signer is None or not signer.token else (signer.token,)

    def accepted(self, signer: Signer | None) -> None:
        """A request that was signed so succeeded."""
        if signer is not self._accepted and signer is self._signer:
            self._accepted = signer
            self._renewal.accepted()

    async def renew(self, rejected: Signer, message: str) -> None:
        """Look for other credentials after `rejected` ones; one look for all who ask at the same time.

        Raises:
            FatalError: there are no others, or the fresh ones are rejected too; at the start, or for longer than the grace.
            TransientError: they could not be looked up now.
        """
        if self._signer is rejected:
            any_more = " any more" if self._accepted else ""
            self._refused = _name_of(rejected)
            self._refusal = (
                f"{message}: the credentials in {self._renewal.source} are not accepted{any_more}: renew them and start again"
            )
            self._renewal.refuse(self._refusal)
            self._signer = None
        await self.signer()

    def _is_due(self) -> bool:
        return self._signer is None or time.monotonic() > self._good_until

    async def _renew(self) -> None:
        """Take the credentials of now, from a source read anew where what it held is refused."""
        try:
            if self._renewal.must_reread:
                await self._loading(self._new_session())()
            await self._freeze()
        except HeavysyncError:
            if self._signer is None or self._ends_within(30):
                raise
            self._good_until = time.monotonic() + _RECHECK_S[0]  # they could not be refreshed, but are good for a while

    def _new_session(self, kind: type[BotoSession] | None = None) -> BotoSession:
        """A session that has read the files and the environment anew; botocore's, unless another kind is wanted."""
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session as BotoSession

        session = (kind or BotoSession)(profile=self._options.profile)
        session.register_component("data_loader", _loader())
        try:
            session.get_scoped_config()
        except BotoCoreError as error:
            raise FatalError(f"s3://{self._bucket}: {error}") from error
        return session

    def _loading(self, session: BotoSession) -> Callable[[], Awaitable[None]]:
        """What finds credentials in the files as they are now, however often it is tried: without them it would look elsewhere.

        Keys of the environment do without aiobotocore, which takes a fifth of a start to import.
        """
        given = None if self._options.profile is not None else s3_credentials.from_environment(self._where)
        if given is None:
            from aiobotocore.session import AioSession

            session = self._new_session(AioSession)
        s3_credentials.check_files(session)
        return functools.partial(self._load, session, given)

    async def _load(self, session: BotoSession, given: Any) -> None:
        """Take what the environment has given, or look where else credentials may be; never at the machine's after others."""
        if given is None:
            is_ours = self._credentials is not None and not s3_credentials.is_of_machine(self._credentials)
            given = await self._answered(s3_credentials.load(session, self._where, is_ours=is_ours))
        self._credentials = given
        self._renewal.source, self._renewal.can_change = s3_credentials.source_of(session, self._credentials)
        self._name_identity(session)

    async def _answered(self, question: Awaitable[T]) -> T:
        """Wait for who hands out credentials, but not for ever: botocore alone would take five minutes, without a word.

        Raises:
            TransientError: no answer.
        """
        limit = 2 * self._options.stall_s
        try:
            async with asyncio.timeout(limit):
                return await question
        except TimeoutError:
            raise TransientError(f"{self._where}: credentials: no answer for {limit:g} s") from None

    def _name_identity(self, session: BotoSession) -> None:
        """Temporary keys of a role differ each time, so there the profile is what identifies us."""
        from botocore.credentials import RefreshableCredentials

        if isinstance(self._credentials, RefreshableCredentials):
            self.identity = f"profile {session.profile or 'default'}"
        else:
            self.identity = f"key {self._credentials.access_key}"

    async def _freeze(self) -> None:
        """Take the credentials of now; a signer is kept as long as they stay the same."""
        frozen = await self._answered(s3_credentials.freeze(self._credentials, self._where))
        if (frozen.access_key, frozen.token or "") == self._refused:
            raise FatalError(self._refusal)
        old = self._signer
        if old is None or _name_of(old) != (frozen.access_key, frozen.token or ""):
            self._signer = Signer(frozen.access_key, frozen.secret_key, frozen.token, self.endpoint.region)
        wait = next((seconds for seconds in _RECHECK_S if not self._ends_within(2 * seconds)), _RECHECK_S[-1])
        self._good_until = time.monotonic() + wait

    def _ends_within(self, seconds: float) -> bool:
        """Whether the credentials end so soon, as far as they tell."""
        from botocore.credentials import RefreshableCredentials

        return isinstance(self._credentials, RefreshableCredentials) and self._credentials.refresh_needed(seconds)

    def _resolve(self, session: BotoSession, region: str | None) -> Endpoint:
        """Ask botocore for the bucket's URL: it builds a HeadBucket request and is stopped from sending it.

        In a thread: with `defaults_mode = auto` it asks the metadata server for the region.
        """
        from botocore import UNSIGNED
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        def stop(request: Any, **_: Any) -> None:
            raise _BuiltRequest(request.url)

        try:
            client = session.create_client(
                "s3",
                region_name=region,
                endpoint_url=self._options.endpoint_url,
                aws_access_key_id="unused",  # else it would look for some
                aws_secret_access_key="unused",  # noqa: S106
                config=Config(signature_version=UNSIGNED),
            )
            client.meta.events.register("request-created.s3.HeadBucket", stop)
            try:
                client.head_bucket(Bucket=self._bucket)
            except _BuiltRequest as built:
                return _endpoint(built.url, client.meta)
            finally:
                client.close()
            raise AssertionError("HeadBucket builds a request")
        except (BotoCoreError, ValueError, OSError) as error:
            raise FatalError(f"s3://{self._bucket}: {_USER_INFO.sub('//[secret]@', str(error))}") from None


@functools.cache
def _loader() -> Any:
    """The model files of botocore, parsed once for all sessions: the second store opens in half the time."""
    from botocore.loaders import Loader

    return Loader(file_loader=_ModelFiles())


class _ModelFiles:
    """Finds and reads model files as botocore's own class for that does, but by orjson: a fiftieth of a start."""

    _KINDS = ((".json", open), (".json.gz", gzip.open))

    def exists(self, path: str) -> bool:
        """Whether there is a file; the path has no suffix."""
        return any(Path(path + suffix).is_file() for suffix, _ in self._KINDS)

    def load_file(self, path: str) -> Any:
        """What a file holds; None: there is none."""
        for suffix, opener in self._KINDS:
            if Path(path + suffix).is_file():
                with opener(path + suffix, "rb") as file:
                    return orjson.loads(file.read())
        return None


def _name_of(signer: Signer) -> tuple[str, str]:
    """What tells credentials apart."""
    return signer.access_key, signer.token or ""


class _BuiltRequest(Exception):  # noqa: N818 - no error, a way out
    """Carries the URL of a request that is not sent."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


_USER_INFO = re.compile(r"//[^/\s]*@")


def _endpoint(url: str, meta: Any) -> Endpoint:
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise FatalError("AWS_ENDPOINT_URL must not hold a user name or password: use profiles or the environment")
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
