"""The base of every value that the log stores or the configuration reads."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Value"]


class Value(BaseModel):
    """Immutable, compared by content, and closed: an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64")
