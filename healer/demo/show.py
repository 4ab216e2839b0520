"""What the demo shows a person: each healing as it happens, and a table at the end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from healer.demo.observation import Observation
from healer.domain import events as fact
from healer.domain.playbook import CheckStatus
from replay.line import Level
from replay.timeline import Timeline

__all__ = ["Show", "save_picture"]

_STYLES: Final = {Level.INFO: "", Level.GOOD: "green", Level.WARN: "yellow", Level.BAD: "red"}


class Show:
    """Prints to `console`, and what suits a picture to `picture` too; to none with `--json`."""

    def __init__(self, console: Console | None, picture: Console | None = None) -> None:
        self._console = console
        self._picture = picture
        self._featured = False
        self._timeline = Timeline()

    def say(self, text: str) -> None:
        """One line of progress."""
        self._print(escape(text))

    def begin(self, number: int, of: int, observation: Observation, port: int) -> None:
        """A fault is about to be made."""
        self._timeline = Timeline()
        member = observation.fault.member
        self._featured = member.rebinds
        title = escape(f"{number}/{of}  {observation.fault.title}")
        self._print(f"\n[bold]{title}[/bold]  [dim]{member.name}:{port}[/dim]")

    def event(self, event: fact.Fact) -> None:
        """A fact about the component that was broken; checks that found nothing are left out."""
        if isinstance(event, fact.CheckRecorded) and event.check.status is CheckStatus.OK:
            return
        entry = self._timeline.tell(event)
        self._print(
            escape(f"  {entry}"), style=_STYLES[entry.level], highlight=False, soft_wrap=True
        )

    def end(self, observation: Observation) -> None:
        """The fault has ended, well or not."""
        if observation.problem is not None:
            self._print(f"  [red]not as expected: {escape(observation.problem)}[/red]")
        self._featured = False

    def table(self, observations: list[Observation]) -> None:
        """All faults and how they ended."""
        table = Table(title="What was broken, and what became of it", title_justify="left")
        for column in ("fault", "issue type", "playbooks"):
            table.add_column(column, overflow="fold")
        table.add_column("seen after", justify="right")
        table.add_column("healthy after", justify="right")
        table.add_column("verdict", overflow="fold")
        for observation in observations:
            view = observation.view()
            colour = "green" if view["ok"] else "red"
            mark = "ok" if view["ok"] else "NOT AS EXPECTED"
            table.add_row(
                escape(view["fault"]),
                str(view["issue_type"] or "-"),
                " → ".join(view["playbooks"]) or "(none)",
                _milliseconds(view["detected_ms"]),
                _milliseconds(view["healthy_ms"]),
                f"[{colour}]{escape(view['verdict'])}: {mark}[/{colour}]",
            )
        self._featured = True
        self._print()
        self._print(table)
        self._featured = False

    def json(self, text: str) -> None:
        """The statistics, as the API gives them."""
        if self._console is not None:
            self._console.print("\n[bold]GET /network-healer/stats[/bold]")
            self._console.print_json(text)

    def _print(self, *what: Any, **how: Any) -> None:
        if self._console is not None:
            self._console.print(*what, **how)
        if self._picture is not None and self._featured:
            # A line that is too long for a picture is cut, not wrapped.
            how.pop("soft_wrap", None)
            self._picture.print(*what, **how, no_wrap=True, overflow="ellipsis")


def save_picture(picture: Console, path: Path) -> None:
    """Draw what `picture` recorded into the SVG file `path`; it asks no other host for fonts."""
    drawing = picture.export_svg(title="healer demo")
    path.write_text(re.sub(r"@font-face \{.*?\}", "", drawing, flags=re.DOTALL), encoding="utf-8")


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms"
