"""Who acts: the name of the token that a request came with, as the guard has found it."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, Request

__all__ = ["LOCAL", "SCOPE_KEY", "Actor"]

SCOPE_KEY: Final = "healer.actor"
LOCAL: Final = "api:local"
"""The holder of the token that the healer makes for this machine."""


def _actor(request: Request) -> str:
    return str(request.scope.get(SCOPE_KEY, LOCAL))


Actor = Annotated[str, Depends(_actor)]
