"""The server's own door, `/_loopback/…`: rules, log, settings, for tests in another process.

GET, POST, DELETE  /_loopback/rules      the rules; add one (or a list); remove all
GET, DELETE        /_loopback/log        counters and entries (`?entries=0`: counters only); start anew
GET, POST          /_loopback/settings   see `model.Settings`; change some
DELETE             /_loopback/uploads    all open sessions and rewrite tokens expire
DELETE             /_loopback/tokens     all access tokens expire
DELETE             /_loopback/state      no buckets, sessions, tokens, rules or log any more
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

from heavysync.loopback import sessions
from heavysync.loopback.model import Settings
from heavysync.loopback.rules import Rule
from heavysync.loopback.service import Service
from heavysync.loopback.wire import Answer, ApiError, Json, invalid, json_answer, parse_query

PREFIX = "/_loopback/"


def control(service: Service, method: str, path: str, body: bytes) -> Answer:
    """Do what a request to `/_loopback/…` asks for."""
    name, _, query = path.removeprefix(PREFIX).partition("?")
    try:
        if name in _VIEWS and method in ("GET", "POST"):
            return _VIEWS[name](service, method, query, body)
        if method == "DELETE" and name in _ENDS:
            _ENDS[name](service)
            return Answer(status=204)
    except (ValueError, TypeError) as error:
        return invalid(str(error)).answer()
    except ApiError as error:
        return error.answer()
    return ApiError(404, "notFound", f"No control {method} {name}.").answer()


def expire_uploads(service: Service) -> None:
    """What a week does: open sessions and rewrite tokens are gone."""
    for session in service.state.uploads.values():
        if session.done is None:
            sessions.kill(session)
    for token in service.state.rewrites:
        service.state.rewrites[token] = None


def forget(service: Service) -> None:
    """Make the server as new; the settings stay."""
    state = service.state
    for held in (state.buckets, state.uploads, state.rewrites, state.tokens):
        held.clear()
    service.rules.clear()
    service.log.clear()


def change_settings(settings: Settings, wanted: Json) -> None:
    """Change the named settings.

    Raises:
        ValueError: an unknown name, or a value of another type.
    """
    known = asdict(settings)
    for name, value in wanted.items():
        if name not in known:
            raise ValueError(f"unknown setting {name!r}")
        kind = type(known[name])
        if kind is not float and not isinstance(value, kind):
            raise ValueError(f"setting {name!r} is {value!r}, not {kind.__name__}")
        setattr(settings, name, kind(value))


def _rules(service: Service, method: str, _query: str, body: bytes) -> Answer:
    if method == "POST":
        wanted = json.loads(body)
        added = [Rule.from_json(entry) for entry in (wanted if isinstance(wanted, list) else [wanted])]
        service.rules.rules.extend(added)
    return json_answer({"rules": [rule.as_json() for rule in service.rules.rules]})


def _log(service: Service, _method: str, query: str, _body: bytes) -> Answer:
    return json_answer(service.log.as_json(entries=parse_query(query).get("entries", "1") != "0"))


def _settings(service: Service, method: str, _query: str, body: bytes) -> Answer:
    if method == "POST":
        change_settings(service.state.settings, json.loads(body))
    return json_answer(asdict(service.state.settings))


_VIEWS: dict[str, Callable[[Service, str, str, bytes], Answer]] = {
    "rules": _rules,
    "log": _log,
    "settings": _settings,
}
_ENDS: dict[str, Callable[[Service], None]] = {
    "rules": lambda service: service.rules.clear(),
    "log": lambda service: service.log.clear(),
    "uploads": expire_uploads,
    "tokens": lambda service: service.state.tokens.clear(),
    "state": forget,
}
