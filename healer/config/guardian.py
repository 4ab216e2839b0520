"""Who is told of what happens: the section `guardian` of the configuration."""

from __future__ import annotations

import base64
import binascii
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from healer.domain.value import Value

__all__ = ["GuardianSink"]

_FEWEST = 24
"""Bytes of a secret, at least, by the Standard Webhooks specification."""


def _check_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().removeprefix("whsec_")
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) < _FEWEST:
        raise ValueError(
            f"is no signing secret; allowed: whsec_ and {_FEWEST} bytes or more in base64"
        )
    return secret


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_webhook(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a password; allowed: a secret in `secrets`")
    if not host or parts.scheme not in {"https", "http"}:
        raise ValueError("is no address; allowed: https://HOST/PATH, or http:// on loopback")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ValueError("would send in the clear; allowed: https://, or http:// on loopback")
    return url


class GuardianSink(Value):
    """One consumer: a `webhook` (with its `secrets`) or a `file` of JSON Lines.

    `events` are globs over event types; with `only_uncured` it hears only of what was not cured.
    `name` names its position; without one it is made of the address.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] | None = None
    webhook: Annotated[str, AfterValidator(_check_webhook)] | None = None
    file: Path | None = None
    secrets: tuple[Annotated[SecretStr, AfterValidator(_check_secret)], ...] = ()
    events: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "issue.*",
        "component.port_rebound.*",
    )
    only_uncured: bool = False

    @model_validator(mode="after")
    def _be_one(self) -> Self:
        if (self.webhook is None) == (self.file is None):
            raise ValueError("names neither or both; allowed: one of webhook, file")
        if self.webhook is not None and not self.secrets:
            raise ValueError("has no secrets to sign with; allowed: secrets: [whsec_...]")
        return self

    @property
    def title(self) -> str:
        """What its position, and what is told of it, is called."""
        if self.name is not None:
            return self.name
        kind, place = ("webhook", self.webhook) if self.webhook else ("file", str(self.file))
        return f"{kind}-{sha256(str(place).encode()).hexdigest()[:12]}"
