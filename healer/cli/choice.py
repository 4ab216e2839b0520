"""Options that are one of the domain's words."""

from __future__ import annotations

from healer.domain.spec import IssueType, Mode, Severity
from healer.errors import HealerError, UnknownNameError

__all__ = ["UsageError", "issue_type", "mode", "severity"]


class UsageError(HealerError):
    """Options that do not make a command together."""


def issue_type(word: str) -> str:
    """`word`, if it is an issue type.

    Raises:
        UnknownNameError: it is none.
    """
    return _one_of("issue type", word, [each.value for each in IssueType])


def severity(word: str) -> str:
    """`word`, if it is a severity.

    Raises:
        UnknownNameError: it is none.
    """
    return _one_of("severity", word, [each.value for each in Severity])


def mode(word: str) -> str:
    """`word`, if it is a mode.

    Raises:
        UnknownNameError: it is none.
    """
    return _one_of("mode", word, [each.value for each in Mode])


def _one_of(kind: str, word: str, known: list[str]) -> str:
    if word not in known:
        raise UnknownNameError(kind, word, known)
    return word
