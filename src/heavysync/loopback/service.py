"""From a routed call to its answer: authorisation, query check, method, error body. Does no I/O."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from functools import partial
from urllib.parse import parse_qs

from heavysync.loopback import buckets, listing, objects, rewrites, sessions, uploads
from heavysync.loopback.batch import batch
from heavysync.loopback.log import RequestLog
from heavysync.loopback.model import State
from heavysync.loopback.routes import route
from heavysync.loopback.rules import RuleBook
from heavysync.loopback.schema import check_query
from heavysync.loopback.wire import Answer, ApiError, Call, json_answer

HANDLERS: dict[str, Callable[[State, Call], Answer]] = {
    "bucket.list": buckets.list_buckets,
    "bucket.insert": buckets.insert_bucket,
    "bucket.get": buckets.get_bucket,
    "bucket.patch": buckets.patch_bucket,
    "bucket.delete": buckets.delete_bucket,
    "list": listing.list_objects,
    "stat": objects.get_metadata,
    "get": objects.get_media,
    "patch": objects.patch,
    "update": objects.update,
    "delete": objects.delete,
    "insert": uploads.insert,
    "start": sessions.start,
    "chunk": sessions.put,
    "status": sessions.put,
    "cancel": sessions.cancel,
    "rewrite": rewrites.rewrite,
    "copy": rewrites.copy,
    "compose": rewrites.compose,
}
"""The method of each operation."""

_GRANTS = ("urn:ietf:params:oauth:grant-type:jwt-bearer", "refresh_token")
_OPEN = frozenset(("token", "batch", "chunk", "status", "cancel"))
"""Needs no token: a batch is checked call by call, a session's URI is a credential itself."""


class Service:
    """The API without its socket.

    Attributes:
        state: buckets, sessions, settings.
        rules: the faults.
        log: the requests.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.rules = RuleBook()
        self.log = RequestLog()

    def answer(self, call: Call) -> Answer:
        """Do what the call asks for; an error is an answer too."""
        try:
            self._authorise(call)
            if call.operation == "token":
                return self._token(call)
            check_query(call.operation, dict(call.query))
            if call.operation == "batch":
                return batch(call, partial(self._inner, call.headers.get("host", "")))
            return HANDLERS[call.operation](self.state, call)
        except ApiError as error:
            return error.answer(text=call.operation == "get")  # media errors are bare text at Google

    def _inner(self, host: str, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        """One call of a batch. Of the faults only those with an answer can hit it."""
        headers.setdefault("host", host)
        call = Call(operation="unknown", method=method, path=target, body=body)
        rule = None
        try:
            call = route(method, target, headers)
            call.body = body
            rule = self.rules.pick(call).rule
            answer = rule.answer() if rule and rule.action == "status" else self.answer(call)
        except ApiError as error:
            answer = error.answer()
        self.log.add(call, answer.status, len(answer.body), rule.action if rule else "")
        return answer

    def _authorise(self, call: Call) -> None:
        if not self.state.settings.require_auth or call.operation in _OPEN:
            return
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            message = "Anonymous caller does not have access to the resource (or it may not exist)."
            raise ApiError(401, "required", message, location="Authorization", location_type="header")
        if self.state.tokens.get(token, 0.0) <= time.monotonic():
            raise ApiError(401, "authError", "Invalid Credentials", location="Authorization", location_type="header")

    def _token(self, call: Call) -> Answer:
        """POST /token: any service-account assertion or refresh token gets an access token.

        Source: https://developers.google.com/identity/protocols/oauth2/service-account#httprest
        """
        form = {name: values[0] for name, values in parse_qs(call.body.decode("latin-1")).items()}
        if form.get("grant_type") not in _GRANTS:
            return json_answer({"error": "unsupported_grant_type"}, status=400)
        if not form.get("assertion") and not form.get("refresh_token"):
            return json_answer({"error": "invalid_grant"}, status=400)
        token = f"ya29.{secrets.token_urlsafe(32)}"
        lifetime_s = self.state.settings.token_lifetime_s
        self.state.tokens[token] = time.monotonic() + lifetime_s
        return json_answer({"access_token": token, "expires_in": int(lifetime_s), "token_type": "Bearer"})
