"""Text that does nothing to a terminal: a component's name must not command it."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["plain"]

# C0, DEL, C1, and what turns the direction of text.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def plain(value: object) -> str:
    """`value` as text, with what a terminal would obey written out."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", str(value))
