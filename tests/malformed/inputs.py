"""What nobody should send: requests, webhook bodies, configurations and stored events.

Each request is malformed for certain (it could not be taken by any route that acts), so that
whatever the state says afterwards is the healer's doing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from hypothesis import strategies as st

__all__ = [
    "ACTING",
    "READING",
    "Sent",
    "acting",
    "bodies",
    "json_values",
    "of_old",
    "reading",
    "stored",
]

PREFIX: Final = "/network-healer"
ACTING: Final = (
    "/heal", "/auto-heal", "/initialize", "/pause", "/resume", "/mode", "/reload",
    "/components/{}/mode", "/components/{}/maintenance", "/components/{}/maintenance/end",
    "/components/{}/rearm", "/issues/{}/approve", "/issues/{}/deny",
    "/webhooks/alertmanager", "/webhooks/datadog",
)  # fmt: skip
READING: Final = (
    "/stats", "/history", "/history/{}", "/active", "/playbook-stats", "/recommendations/{}",
    "/components", "/components/{}", "/playbooks", "/routes", "/mttr", "/views", "/issues",
    "/issues/{}", "/events", "/cloudevents", "/span", "/at", "/openapi.json", "/nothing",
    "/static/{}",
)  # fmt: skip
_FIELDS: Final = (
    "component_name", "port", "issue_type", "severity", "dry_run", "skip", "playbooks", "reason",
    "wait", "mode", "for", "alerts", "status", "labels", "startsAt", "fingerprint", "tags",
    "alert_transition", "alert_cycle_key", "__proto__", "class", "",
)  # fmt: skip
_QUERIES: Final = (
    "component_name", "issue_type", "outcome", "since", "until", "limit", "cursor", "position",
    "time", "points", "x",
)  # fmt: skip
_NASTY: Final = (
    "kept", "..", "../../etc/passwd", "a b", "\x00", "\u202e", "%00", "'; DROP TABLE events; --",
    "${jndi:ldap://x}", "{{7*7}}", "<script>", "\ud7ff", "-1", "9" * 400, "NaN", "1e999", "é" * 200,
)  # fmt: skip

_TEXT: Final = st.one_of(st.sampled_from(_NASTY), st.text(max_size=30))
json_values: Final = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), _TEXT, st.sampled_from(_FIELDS)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(_FIELDS), _TEXT), inner, max_size=4),
    ),
    max_leaves=12,
)
"""Anything that JSON can say, NaN and numbers without end among it."""


@dataclass(frozen=True)
class Sent:
    """A request. `path` is already quoted."""

    method: str
    path: str
    query: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, bytes] = field(default_factory=dict)
    content: bytes = b""


def _broken_json() -> st.SearchStrategy[bytes]:
    whole = json_values.map(lambda value: json.dumps(value).encode())
    return st.one_of(
        whole.map(lambda body: b'{"component_name": "kept", ' + body),  # has no end
        st.binary(min_size=1, max_size=60).map(lambda body: b"\xff" + body),
        st.sampled_from(
            [
                b"{",
                b'{"a":',
                b"[" * 20_000,
                b'{"a":' * 5_000,
                b"\xed\xa0\x80",
                b"\x00",
                b"nul",
                b"{}{}",
            ]
        ),
    )


def _no_object() -> st.SearchStrategy[bytes]:
    """JSON that is no object: no route takes it."""
    return json_values.filter(lambda value: not isinstance(value, dict | type(None))).map(
        lambda value: json.dumps(value).encode()
    )


def _with_unknown_field(path: str) -> st.SearchStrategy[bytes]:
    """Webhooks ignore what they do not know, but need what is not there."""
    objects = st.dictionaries(st.sampled_from(_FIELDS), json_values, max_size=5)
    if path == "/webhooks/alertmanager":
        strange = st.one_of(
            st.none(), st.integers(), st.text(max_size=5), st.just([{}]), st.just([{"status": 1}])
        )
        return st.builds(
            lambda known, alerts: json.dumps({**known, "alerts": alerts}).encode(),
            objects,
            strange.filter(lambda alerts: alerts != []),
        )
    if path == "/webhooks/datadog":
        return objects.map(lambda known: json.dumps({**known, "alert_transition": 7}).encode())
    return objects.map(lambda known: json.dumps({**known, "no_such_field": 1}).encode())


def bodies(path: str) -> st.SearchStrategy[bytes]:
    """Bodies that the route `path` cannot take."""
    return st.one_of(
        _broken_json(),
        _no_object(),
        _with_unknown_field(path),
        st.just(b'{"reason": "' + b"x" * 70_000 + b'"}'),
    )


_JSON: Final = {"content-type": b"application/json"}


def acting(authorization: bytes) -> st.SearchStrategy[Sent]:
    """Requests to routes that act, none of which may."""

    def about(path: str) -> st.SearchStrategy[Sent]:
        told = {**_JSON, "authorization": authorization}
        spoiled = st.sampled_from(
            [
                {"authorization": b""},
                {"authorization": b"Bearer "},
                {"authorization": b"Bearer \xff\xfe"},
                {"authorization": b"Basic " + authorization},
                {"authorization": authorization + b"0"},
                {"host": b"evil.example"},
                {"origin": b"https://evil.example"},
                {"sec-fetch-site": b"cross-site"},
                {"content-type": b"text/plain"},
                {"content-type": b"application/x-www-form-urlencoded"},
                {"content-type": b"\xff"},
            ]
        )
        return st.one_of(
            st.builds(Sent, st.just("POST"), _paths(path), _QUERY, st.just(told), bodies(path)),
            st.builds(
                lambda at, worse, content: Sent("POST", at, [], {**told, **worse}, content),
                _paths(path),
                spoiled,
                st.sampled_from([b"", b"{}", b'{"component_name": "kept"}', b'{"mode": "act"}']),
            ),
            st.builds(
                Sent,
                st.sampled_from(["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]),
                _paths(path.replace("/maintenance", "/mode")),
                _QUERY,
                st.just(told),
                bodies(path),
            ),
        )

    return st.sampled_from(ACTING).flatmap(about)


def reading() -> st.SearchStrategy[Sent]:
    """Requests to routes that read, with questions that may make no sense."""

    def about(path: str) -> st.SearchStrategy[Sent]:
        query = _QUERY
        if path == "/events":  # a good question would never be answered to its end
            query = st.sampled_from(["-1", "x", "", "9" * 400, "1.5"]).map(
                lambda after: [("after", after)]
            )
        last = st.sampled_from([{}, {"last-event-id": b"\xff"}, {"accept": b"\x01"}])
        return st.builds(Sent, st.just("GET"), _paths(path), query, last)

    return st.sampled_from(READING).flatmap(about)


_QUERY: Final = st.lists(st.tuples(st.one_of(st.sampled_from(_QUERIES), _TEXT), _TEXT), max_size=4)


def _paths(path: str) -> st.SearchStrategy[str]:
    def filled(word: str) -> str:
        return PREFIX + path.replace("{}", quote(word, safe=""))

    return _TEXT.filter(bool).map(filled)


def stored(topics: list[str]) -> st.SearchStrategy[tuple[str, bytes]]:
    """The topic and the body of an event in a log."""
    topic = st.one_of(st.sampled_from(topics), _TEXT)
    fields = st.dictionaries(st.sampled_from(["node", "actor", "timestamp", "probe"]), json_values)
    return st.tuples(
        topic,
        st.one_of(
            _broken_json(), _no_object(), fields.map(lambda known: json.dumps(known).encode())
        ),
    )


def of_old(topics: list[str], whole: Mapping[str, object]) -> st.SearchStrategy[tuple[str, bytes]]:
    """The topic of an old version, and what the body `whole` of it may have become."""
    deep = st.just("[" * 300 + "]" * 300).map(
        json.loads
    )  # read by the parser, and too deep to write
    fields = st.dictionaries(
        st.sampled_from([*whole, "no_such_field"]), st.one_of(json_values, deep), max_size=3
    )
    changed = fields.map(lambda others: json.dumps({**whole, **others}).encode())
    without = st.sampled_from(list(whole)).map(
        lambda name: json.dumps({key: whole[key] for key in whole if key != name}).encode()
    )
    return st.tuples(
        st.sampled_from(topics), st.one_of(changed, without, _broken_json(), _no_object())
    )
