"""How a component is looked at."""

from healer.probes.prober import NetworkProber
from healer.probes.vantage import Vantage

__all__ = ["NetworkProber", "Vantage"]
