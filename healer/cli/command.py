"""The commands and their options. What they do is imported when they run."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from healer.cli.example import add_examples
from healer.cli.form import LogForm
from healer.cli.lazy import Lazy
from healer.cli.option import Component, ConfigFile, OutputAs, Reason, Store
from healer.cli.replay import replay
from healer.cli.schemas import schemas
from healer.cli.setup import add_setup
from healer.cli.switch import add_switches
from healer.cli.token import token

if TYPE_CHECKING:
    from healer.cli import act as _act
    from healer.cli import archive as _archive
    from healer.cli import choice as _choice
    from healer.cli import past as _past
    from healer.cli import read as _read
    from healer.cli import serve as _serve
    from healer.cli import showcase as _showcase
    from healer.cli import status as _status
    from healer.demo import run as _demo
    from projections import history as _history
else:
    _act = Lazy("healer.cli.act")
    _archive = Lazy("healer.cli.archive")
    _choice = Lazy("healer.cli.choice")
    _demo = Lazy("healer.demo.run")
    _history = Lazy("projections.history")
    _past = Lazy("healer.cli.past")
    _read = Lazy("healer.cli.read")
    _serve = Lazy("healer.cli.serve")
    _showcase = Lazy("healer.cli.showcase")
    _status = Lazy("healer.cli.status")

__all__ = ["app"]

app = typer.Typer(
    name="healer",
    help="Sees a service on a port fail, heals it, verifies the cure, and remembers every step.",
    epilog="Exit status: 0 fine, 1 unhealthy or failed, 2 usage or bad input.",
    pretty_exceptions_enable=False,
)

Playbooks = Annotated[
    list[str] | None,
    typer.Option("--playbook", metavar="P", help="Run this playbook; repeat for several."),
]
Skips = Annotated[
    list[str] | None, typer.Option("--skip", metavar="P", help="Leave this playbook out.")
]


@app.callback(invoke_without_command=True)
def _healer(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def serve(
    config: ConfigFile = None,
    *,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more.")] = False,
    log_format: Annotated[
        LogForm | None, typer.Option(help="Default: console on a terminal, json otherwise.")
    ] = None,
) -> None:
    """Watch and heal until told to stop (SIGTERM); components live on."""
    raise typer.Exit(_serve.serve(config, verbose=verbose, log_format=log_format))


@app.command()
def validate(config: ConfigFile = None, output: OutputAs = None) -> None:
    """Check a configuration and name everything that is wrong with it."""
    raise typer.Exit(_status.validate(config, output))


@app.command()
def status(config: ConfigFile = None, store: Store = None, output: OutputAs = None) -> None:
    """Show the components: live, or as the log last saw them."""
    raise typer.Exit(_status.status(config, store, output))


@app.command()
def heal(
    name: Component,
    *,
    issue_type: Annotated[str | None, typer.Option(help="Default: what the evidence says.")] = None,
    severity: Annotated[str | None, typer.Option(help="How bad it is.")] = None,
    playbook: Playbooks = None,
    skip: Skips = None,
    reason: Reason = None,
    config: ConfigFile = None,
    output: OutputAs = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be done, to which process.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Return when the issue is open.")
    ] = False,
) -> None:
    """Heal a component now."""
    wish: dict[str, Any] = {"component_name": name, "dry_run": dry_run, "wait": not no_wait}
    if issue_type is not None:
        wish["issue_type"] = _choice.issue_type(issue_type)
    if severity is not None:
        wish["severity"] = _choice.severity(severity)
    if playbook:
        wish["playbooks"] = playbook
    if skip:
        wish["skip"] = skip
    if reason is not None:
        wish["reason"] = reason
    raise typer.Exit(_act.heal(config, wish, output))


@app.command()
def auto_heal(config: ConfigFile = None, output: OutputAs = None) -> None:
    """Heal every component that fails."""
    raise typer.Exit(_act.auto_heal(config, output))


add_switches(app)
add_setup(app)


@app.command()
def issues(
    issue_id: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="Show this one's timeline; its beginning is enough."),
    ] = None,
    *,
    component: Annotated[str | None, typer.Option(help="Of this component only.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.")] = 20,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Tell the timeline as it happens, to its end.")
    ] = False,
    config: ConfigFile = None,
    store: Store = None,
    output: OutputAs = None,
) -> None:
    """List the latest issues, or tell one."""
    source = _read.Source(config, store)
    if follow:
        if issue_id is None:
            raise typer.BadParameter("name the issue to follow", param_hint="ID")
        raise typer.Exit(_past.issue(source, issue_id, output, live=True))
    if issue_id is not None:
        raise typer.Exit(_read.issue(source, issue_id, output))
    query = _history.HistoryQuery(component=component, limit=limit)
    raise typer.Exit(_read.history(source, query, output))


@app.command()
def history(
    *,
    component: Annotated[str | None, typer.Option(help="Of this component only.")] = None,
    issue_type: Annotated[str | None, typer.Option(help="Of this type only.")] = None,
    outcome: Annotated[str | None, typer.Option(help="With this outcome only.")] = None,
    since: Annotated[datetime | None, typer.Option(help="From then on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Before then (UTC).")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.")] = 100,
    cursor: Annotated[int | None, typer.Option(help="Where the page before ended.")] = None,
    config: ConfigFile = None,
    store: Store = None,
    output: OutputAs = None,
) -> None:
    """Search all issues, newest first."""
    query = _history.HistoryQuery(
        component=component,
        issue_type=_choice.issue_type(issue_type) if issue_type else None,
        outcome=outcome,
        since=_utc(since),
        until=_utc(until),
        before=cursor,
        limit=limit,
    )
    raise typer.Exit(_read.history(_read.Source(config, store), query, output))


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=moment.tzinfo or UTC)


@app.command()
def stats(config: ConfigFile = None, store: Store = None, output: OutputAs = None) -> None:
    """Show the statistics of all healings."""
    raise typer.Exit(_read.stats(_read.Source(config, store), output))


@app.command()
def playbooks(config: ConfigFile = None, store: Store = None, output: OutputAs = None) -> None:
    """Show what each playbook achieved."""
    raise typer.Exit(_read.playbooks(_read.Source(config, store), output))


@app.command()
def recommend(
    name: Component, config: ConfigFile = None, store: Store = None, output: OutputAs = None
) -> None:
    """Show what a component's record advises."""
    raise typer.Exit(_read.recommend(_read.Source(config, store), name, output))


@app.command()
def events(
    *,
    after: Annotated[int | None, typer.Option(min=0, help="Behind this position.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Without --after: the last so many.")] = 20,
    config: ConfigFile = None,
    store: Store = None,
    output: OutputAs = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Show new ones too.")] = False,
) -> None:
    """Show the end of the log; in JSON, one event per line."""
    raise typer.Exit(
        _read.events(
            _read.Source(config, store),
            after=after,
            limit=limit,
            follow=follow,
            output=output,
        )
    )


@app.command(context_settings={"ignore_unknown_options": True})
def archive(
    before: Annotated[
        str,
        typer.Option("--before", metavar="DATE", help="Older than this: 2026-03-01, or -90d."),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where to. Default: beside the log, in FILE.archive. PostgreSQL: a directory that "
            "every machine which reads the log reaches under this name.",
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="PostgreSQL: what signs the log. Default: LOGS/NODE.key of -c."
        ),
    ] = None,
    config: ConfigFile = None,
    store: Store = None,
    output: OutputAs = None,
) -> None:
    """Move finished issues to Parquet; they stay a part of the log.

    Of a log in a file the healer must be stopped. Of one in PostgreSQL name the owner in --store;
    the healers go on.
    """
    source = _read.Source(config, store)
    raise typer.Exit(_archive.archive(source, before, _archive.Place(out, key), output))


@app.command()
def demo(
    store: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the log goes: sqlite:///FILE.")
    ] = None,
    *,
    json_output: Annotated[bool, typer.Option("--json", help="One object for programs.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the scratch directory.")] = False,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Draw one healing and the table as SVG.")
    ] = None,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Break things until Ctrl-C; watch in a browser.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Of the dashboard; from 8000 on.")
    ] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between faults there.")] = 5,
) -> None:
    """Start a small stack, break it for real, and watch it being healed."""
    if dashboard:
        raise typer.Exit(_showcase.showcase(port=port, every=every))
    raise typer.Exit(_demo.demo(json_output=json_output, store=store, keep=keep, picture=picture))


@app.command()
def version() -> None:
    """Show the version."""
    try:
        number = installed("network-healer")
    except PackageNotFoundError:
        number = "(not installed)"
    typer.echo(f"healer {number}")


app.command()(schemas)
app.add_typer(replay)
app.add_typer(token)
add_examples(app)
