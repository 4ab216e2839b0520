"""Who is told of events (`guardian:`), and of which."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from healer.config.destination import host_address, is_permitted, read_network
from healer.config.problem import Problems, validated
from healer.domain.spec import check_name
from healer.domain.value import Value

__all__ = [
    "FileSpec",
    "NatsSpec",
    "SinkSpec",
    "WebhookSpec",
    "check_secret",
    "is_loopback",
    "read_sinks",
]


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine, by address or as localhost."""
    address = host_address(host)
    return host == "localhost" if address is None else address.is_loopback


def _check_webhook(url: str) -> str:
    # The URL may hold a password or a token: no message shows it.
    allowed = "allowed: https://HOST/PATH, or http:// to this machine (127.0.0.1, [::1], localhost)"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(f"it is no URL; {allowed}") from None
    if not host or parts.scheme not in {"http", "https"}:
        raise ValueError(f"it is no URL of a webhook; {allowed}")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(f"it would be sent in the clear; {allowed}")
    return url


def _check_network(text: str) -> str:
    read_network(text)
    return text


def _check_nats(url: str) -> str:
    if urlsplit(url).scheme not in {"nats", "tls"} or not urlsplit(url).hostname:
        raise ValueError("it is no address of NATS; allowed: nats://HOST:4222, tls://HOST:4222")
    return url


def _check_hidden(secret: SecretStr) -> SecretStr:
    check_secret(secret.get_secret_value())
    return secret


def check_secret(secret: str) -> str:
    """The secret, when it is one.

    Raises:
        ValueError: it is none; it is not shown.
    """
    allowed = "allowed: whsec_ and 24 to 64 bytes in base64, as `openssl rand -base64 32` makes"
    head, found, rest = secret.partition("whsec_")
    try:
        length = len(base64.b64decode(rest, validate=True))
    except (binascii.Error, ValueError):
        length = 0
    if head or not found or not 24 <= length <= 64:
        raise ValueError(f"it is no secret of Standard Webhooks (not shown); {allowed}")
    return secret


class _Sink(Value):
    """`events` are patterns of event types (`issue.*`); with `only_uncured` those events alone that
    a person must know: failed or escalated issues. `start` is where one that is new begins."""

    name: Annotated[str, AfterValidator(check_name)]
    events: Annotated[tuple[str, ...], Field(min_length=1)] = ("*",)
    only_uncured: bool = False
    start: Literal["now", "beginning"] = "now"


class WebhookSpec(_Sink):
    """An HTTP receiver. With several `secrets` each signs: one can be exchanged for another.
    `tries` answers that are not 2xx make an event a dead letter. `allow` are networks and addresses
    that its name may resolve to although they are not public."""

    webhook: Annotated[str, AfterValidator(_check_webhook)]
    secrets: Annotated[
        tuple[Annotated[SecretStr, AfterValidator(_check_hidden)], ...], Field(min_length=1)
    ]
    tries: Annotated[int, Field(ge=1, le=100)] = 8
    allow: tuple[Annotated[str, AfterValidator(_check_network)], ...] = ()

    @model_validator(mode="after")
    def _check_destination(self) -> Self:
        host = urlsplit(self.webhook).hostname or ""
        address = host_address(host)
        allowed = [read_network(each) for each in self.allow]
        if address is not None and not is_permitted(str(address), host, allowed):
            raise ValueError(
                f"{address} is no place for events; allowed: it, when `allow` names it"
            )
        return self


class NatsSpec(_Sink):
    """A JetStream: events go to `subject`, a dot and their type."""

    nats: Annotated[str, AfterValidator(_check_nats)]
    subject: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")] = "healer"


class FileSpec(_Sink):
    """A file that gains one event a line."""

    file: Path


SinkSpec = WebhookSpec | NatsSpec | FileSpec


def read_sinks(listed: Any, directory: Path, problems: Problems) -> tuple[SinkSpec, ...]:
    """The sinks of the list `listed`; what is wrong with it goes to `problems`."""
    if not isinstance(listed, list):
        problems.add(("guardian",), "is not a list; allowed: a list of webhook, nats or file")
        return ()
    kinds: dict[str, type[SinkSpec]] = {
        "webhook": WebhookSpec,
        "nats": NatsSpec,
        "file": FileSpec,
    }
    sinks: list[SinkSpec] = []
    for number, fields in enumerate(listed):
        path = ("guardian", str(number))
        named = [kind for kind in kinds if isinstance(fields, dict) and kind in fields]
        if len(named) != 1:
            problems.add(path, "says no one receiver; allowed: one of webhook, nats, file")
            continue
        sink = validated(kinds[named[0]], fields, path, problems)
        if sink is None:
            continue
        if any(sink.name == other.name for other in sinks):
            problems.add((*path, "name"), f"{sink.name!r} is another one's; allowed: a new name")
        if isinstance(sink, FileSpec):
            sink = sink.model_copy(update={"file": directory / sink.file})
        sinks.append(sink)
    return tuple(sinks)
