"""Runs one issue through its life, for every component of the node."""

from __future__ import annotations

from healer.engine.engine import ComponentStatus, Engine, HealReport, PlannedStep
from healer.engine.keeper import HealRequest

__all__ = ["ComponentStatus", "Engine", "HealReport", "HealRequest", "PlannedStep"]
