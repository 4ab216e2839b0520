"""The base of every value that the log stores or the configuration reads."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Value"]


class Value(BaseModel):
    """Immutable, compared by content, and closed: an unknown field is an error, and so is a number
    that is none or infinite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
