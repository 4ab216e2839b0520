"""Commands of operators that change what the healer that runs may do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from healer.cli.lazy import Lazy
from healer.cli.option import Component, ConfigFile, OutputAs, Reason

if TYPE_CHECKING:
    from healer.cli import control as _control
else:
    _control = Lazy("healer.cli.control")

__all__ = ["add_switches"]

Issue = Annotated[
    str, typer.Argument(metavar="ID", help="An issue, or the component whose open issue it is.")
]


def add_switches(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (mode, approve, deny, maintenance, pause, resume, rearm, reload, rebuild):
        app.command()(command)


def mode(
    words: Annotated[
        list[str],
        typer.Argument(metavar="[NAME] MODE", help="MODE: observe, suggest or act."),
    ],
    *,
    every: Annotated[bool, typer.Option("--all", help="For all components.")] = False,
    reason: Reason = None,
    config: ConfigFile = None,
    output: OutputAs = None,
) -> None:
    """Set how far the healer may go by itself: `healer mode chat_api suggest`."""
    raise typer.Exit(_control.mode(config, words, reason, output, every=every))


def approve(
    issue: Issue, reason: Reason = None, config: ConfigFile = None, output: OutputAs = None
) -> None:
    """Allow the heal that an issue suggests."""
    raise typer.Exit(_control.approve(config, issue, reason, output))


def deny(
    issue: Issue, reason: Reason = None, config: ConfigFile = None, output: OutputAs = None
) -> None:
    """Refuse the heal that an issue suggests."""
    raise typer.Exit(_control.deny(config, issue, reason, output))


def maintenance(
    name: Component,
    *,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="How long: 10m, 1h30m.")
    ] = None,
    end: Annotated[bool, typer.Option("--end", help="Close the window.")] = False,
    reason: Reason = None,
    config: ConfigFile = None,
    output: OutputAs = None,
) -> None:
    """Withhold a component's heals for a while: `healer maintenance chat_api --for 10m`."""
    raise typer.Exit(_control.maintenance(config, name, duration, reason, output, end=end))


def pause(reason: Reason = None, config: ConfigFile = None, output: OutputAs = None) -> None:
    """Hold all heals, also after a restart, until `healer resume`."""
    raise typer.Exit(_control.pause(config, reason, output))


def resume(reason: Reason = None, config: ConfigFile = None, output: OutputAs = None) -> None:
    """Allow heals again."""
    raise typer.Exit(_control.resume(config, reason, output))


def reload(config: ConfigFile = None, output: OutputAs = None) -> None:
    """Take a changed configuration into force; an unusable one changes nothing."""
    raise typer.Exit(_control.reload(config, output))


def rearm(
    name: Component, reason: Reason = None, config: ConfigFile = None, output: OutputAs = None
) -> None:
    """Give a component its whole budget of heals back."""
    raise typer.Exit(_control.rearm(config, name, reason, output))


def rebuild(
    view: Annotated[str, typer.Argument(metavar="VIEW", help="stats, history, components, ...")],
    config: ConfigFile = None,
    output: OutputAs = None,
) -> None:
    """Fold a view anew in the healer that runs, beside the old one, and switch when two folds
    agree."""
    raise typer.Exit(_control.rebuild(config, view, output))
