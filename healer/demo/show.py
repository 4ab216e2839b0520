"""What the demo shows a person: each healing as it happens, and a table at the end."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from healer.demo.observation import Observation
from healer.domain import events as fact
from healer.domain.playbook import CheckStatus
from replay.line import Level
from replay.timeline import Timeline

__all__ = ["Show"]

_STYLES: Final = {Level.INFO: "", Level.GOOD: "green", Level.WARN: "yellow", Level.BAD: "red"}


class Show:
    """Prints to `console`; prints nothing when there is none (`--json`)."""

    def __init__(self, console: Console | None) -> None:
        self._console = console
        self._timeline = Timeline()

    def say(self, text: str) -> None:
        """One line of progress."""
        if self._console is not None:
            self._console.print(escape(text))

    def begin(self, number: int, of: int, observation: Observation, port: int) -> None:
        """A fault is about to be made."""
        self._timeline = Timeline()
        if self._console is not None:
            member = observation.fault.member
            title = escape(f"{number}/{of}  {observation.fault.title}")
            self._console.print(f"\n[bold]{title}[/bold]  [dim]{member.name}:{port}[/dim]")

    def event(self, event: fact.Fact) -> None:
        """A fact about the component that was broken; checks that found nothing are left out."""
        if self._console is None:
            return
        if isinstance(event, fact.CheckRecorded) and event.check.status is CheckStatus.OK:
            return
        entry = self._timeline.tell(event)
        self._console.print(
            escape(f"  {entry}"), style=_STYLES[entry.level], highlight=False, soft_wrap=True
        )

    def end(self, observation: Observation) -> None:
        """The fault has ended, well or not."""
        if self._console is not None and observation.problem is not None:
            self._console.print(f"  [red]not as expected: {escape(observation.problem)}[/red]")

    def table(self, observations: list[Observation]) -> None:
        """All faults and how they ended."""
        if self._console is None:
            return
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
        self._console.print()
        self._console.print(table)

    def json(self, text: str) -> None:
        """The statistics, as the API gives them."""
        if self._console is not None:
            self._console.print("\n[bold]GET /network-healer/stats[/bold]")
            self._console.print_json(text)


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms"
