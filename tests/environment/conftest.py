"""A real `healer serve` whose surroundings can be taken away from it."""

from tests.cli.conftest import house

__all__ = ["house"]
