"""Runs one issue through its life, for every component of the node."""

from __future__ import annotations

from healer.engine.dry_run import PlannedStep
from healer.engine.engine import ComponentStatus, Engine, HealReport
from healer.engine.request import HealRequest
from healer.engine.withdrawal import Resolved

__all__ = ["ComponentStatus", "Engine", "HealReport", "HealRequest", "PlannedStep", "Resolved"]
