"""A receiver in a process of its own, and facts to tell it of."""

from __future__ import annotations

import base64

SECRET = "whsec_" + base64.b64encode(b"a" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"b" * 32).decode()
