"""Durations as people write them: `500ms`, `5s`, `1m`, `1h30m`; inside, float seconds."""

from __future__ import annotations

import math
import re
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

__all__ = ["Duration", "format_duration", "parse_duration"]

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_LONGEST: Final = 32
FORMS: Final = "500ms, 5s, 1m, 1h30m, 2d, or a number of seconds"


def parse_duration(text: object) -> float:
    """Seconds that `text` stands for.

    Raises:
        ValueError: it is not a duration, or not a finite and non-negative one.
    """
    problem = f"{text!r} is not a duration; allowed: {FORMS}"
    if isinstance(text, bool):
        raise ValueError(problem)
    if isinstance(text, int | float):
        if not math.isfinite(text) or text < 0:
            raise ValueError(problem)
        return float(text)
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise ValueError(problem)
    compact = text.strip().lower()
    parts = _PART.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise ValueError(problem)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """`seconds` for people: two significant units at most (`1m30s`, `250ms`)."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.3g}s"
    for unit, smaller in (("d", "h"), ("h", "m"), ("m", "s")):
        if seconds >= _UNITS[unit]:
            whole, over = divmod(seconds, _UNITS[unit])
            rest = int(over / _UNITS[smaller])
            return f"{whole:.0f}{unit}{rest}{smaller}" if rest else f"{whole:.0f}{unit}"
    return f"{seconds:.3g}s"


Duration = Annotated[
    float,
    BeforeValidator(parse_duration, json_schema_input_type=str | float),
    Field(ge=0),
]
