"""Options that are one of the domain's words."""

from __future__ import annotations

from healer.domain.spec import IssueType, Severity
from healer.errors import UnknownNameError

__all__ = ["issue_type", "severity"]


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


def _one_of(kind: str, word: str, known: list[str]) -> str:
    if word not in known:
        raise UnknownNameError(kind, word, known)
    return word
