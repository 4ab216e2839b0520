"""The read side: pure folds over the log.

Adding a projection is adding one file and its name to `ALL`; a test finds one that was forgotten.
"""

from __future__ import annotations

from typing import Any, Final

from projections.active import ACTIVE
from projections.components import COMPONENTS
from projections.history import HISTORY
from projections.pause import PAUSE
from projections.playbook_stats import PLAYBOOK_STATS
from projections.projection import Projection
from projections.recommendations import RECOMMENDATIONS
from projections.stats import STATS
from projections.training import TRAINING

__all__ = ["ALL"]

ALL: Final[tuple[Projection[Any], ...]] = (
    STATS,
    HISTORY,
    ACTIVE,
    PLAYBOOK_STATS,
    RECOMMENDATIONS,
    COMPONENTS,
    PAUSE,
    TRAINING,
)
