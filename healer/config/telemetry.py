"""Where traces go (`telemetry:`)."""

from __future__ import annotations

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from healer.config.guardian import is_loopback
from healer.domain.value import Value

__all__ = ["TelemetrySpec"]


def _check_url(url: str) -> str:
    allowed = "allowed: http://HOST:4318/v1/traces or https://HOST/PATH, without a password in it"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"it is no URL; {allowed}") from None
    if not host or parts.scheme not in {"http", "https"} or parts.username or parts.password:
        raise ValueError(f"it is no URL of a collector; {allowed}")
    return url


class TelemetrySpec(Value):
    """An OpenTelemetry collector. `traces` is the whole URL that spans are posted to (OTLP over
    HTTP), `headers` are sent with them, and `resource` are further attributes of this healer."""

    traces: Annotated[str, AfterValidator(_check_url)]
    headers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")], SecretStr] = Field(
        default_factory=dict
    )
    service: Annotated[str, Field(min_length=1, max_length=200)] = "network-healer"
    resource: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _keep_secrets(self) -> Self:
        parts = urlsplit(self.traces)
        if self.headers and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ValueError(
                "headers would be sent in the clear; allowed: https://, or http:// to this machine"
            )
        return self
