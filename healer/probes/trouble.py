"""What the C library does not say: whether a failure was a lack of descriptors of our own."""

from __future__ import annotations

import socket

__all__ = ["descriptor_left"]


def descriptor_left() -> bool:
    """Whether a descriptor could have been opened."""
    try:
        socket.socket().close()
    except OSError:
        return False
    return True
