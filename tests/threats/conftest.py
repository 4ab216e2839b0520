"""A real `healer serve` with a secret in its keeping."""

from tests.cli.conftest import house

__all__ = ["house"]
