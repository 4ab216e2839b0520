"""JSON answers, by orjson."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi.responses import Response

__all__ = ["Json"]


class Json(Response):
    """JSON by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)
