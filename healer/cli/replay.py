"""`healer replay`: audit and time travel. It reads the log, and holds nothing that could act."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from healer.cli.form import Output
from healer.cli.lazy import Lazy

if TYPE_CHECKING:
    from healer.cli import case as _case
    from healer.cli import export as _export
    from healer.cli import past as _past
    from healer.cli import read as _read
    from healer.cli import rebuild as _rebuild
    from healer.cli import verify as _verify
else:
    _case = Lazy("healer.cli.case")
    _export = Lazy("healer.cli.export")
    _past = Lazy("healer.cli.past")
    _read = Lazy("healer.cli.read")
    _rebuild = Lazy("healer.cli.rebuild")
    _verify = Lazy("healer.cli.verify")

__all__ = ["replay"]

replay = typer.Typer(
    name="replay",
    help="Verify the log, rebuild what is shown from it, go back in time. Nothing here can act.",
    epilog="A TIME is ISO 8601, a while ago (-10m), or a position in the log.",
    no_args_is_help=True,
)

ConfigFile = Annotated[
    Path | None,
    typer.Option("-c", "--config", metavar="FILE", help="The configuration; default healer.yaml."),
]
Store = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="Read this log: sqlite:///FILE."),
]
OutputAs = Annotated[
    Output | None,
    typer.Option("-o", "--output", help="Default: table on a terminal, json in a pipe."),
]
Time = Annotated[str, typer.Argument(metavar="TIME", help="ISO 8601, -10m, or a position.")]

# `-10m` looks like an option.
_TAKES_TIMES = {"ignore_unknown_options": True}


@replay.command()
def verify(
    config: ConfigFile = None,
    *,
    store: Store = None,
    output: OutputAs = None,
    witness: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The checkpoints that a witness kept.")
    ] = None,
    public_key: Annotated[
        str | None, typer.Option(metavar="HEX", help="The first key that it was signed with.")
    ] = None,
    log_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The name that the log must have.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only hashes and signatures; decode nothing.")
    ] = False,
) -> None:
    """Check the log from its first event: chain, order, schemas, transitions, checkpoints."""
    trust = _verify.Trust(witness, public_key, log_id, quick)
    raise typer.Exit(_verify.verify(_read.Source(config, store), output, trust))


@replay.command()
def rebuild(config: ConfigFile = None, *, store: Store = None, output: OutputAs = None) -> None:
    """Fold all projections from nothing, and compare them with the live ones."""
    raise typer.Exit(_rebuild.rebuild(_read.Source(config, store), output))


@replay.command(context_settings=_TAKES_TIMES)
def at(
    time: Time,
    *,
    view: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this projection; repeat.")
    ] = None,
    config: ConfigFile = None,
    store: Store = None,
    output: OutputAs = None,
) -> None:
    """Show the whole world as it was then."""
    raise typer.Exit(_past.at(_read.Source(config, store), time, view or (), output))


@replay.command()
def issue(
    issue_id: Annotated[str, typer.Argument(metavar="ID", help="An issue, or how its id begins.")],
    *,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Tell it until it ends.")] = False,
    config: ConfigFile = None,
    store: Store = None,
    output: OutputAs = None,
) -> None:
    """Tell the timeline of an issue, with what happened to its component meanwhile."""
    raise typer.Exit(_past.issue(_read.Source(config, store), issue_id, output, live=follow))


@replay.command(context_settings=_TAKES_TIMES)
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A time or a position.")],
    b: Annotated[str, typer.Argument(metavar="B", help="A time or a position.")],
    *,
    config: ConfigFile = None,
    store: Store = None,
    output: OutputAs = None,
) -> None:
    """Show what changed from A to B: components, issues, statistics."""
    raise typer.Exit(_past.diff(_read.Source(config, store), a, b, output))


@replay.command("export-case")
def export_case(
    issue_id: Annotated[str, typer.Argument(metavar="ID", help="An issue, or how its id begins.")],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the case there.")
    ] = None,
    config: ConfigFile = None,
    store: Store = None,
    output: OutputAs = None,
) -> None:
    """Write an incident as a case that the simulator plays (python -m tests.simulator --case)."""
    raise typer.Exit(_case.export_case(_read.Source(config, store), issue_id, out, output))


@replay.command()
def export(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files go.")],
    *,
    form: Annotated[
        str, typer.Option("--format", metavar="F", help="parquet, jsonl, csv or bandit.")
    ] = "parquet",
    table: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="events, history, training, ...; repeat. Default: all."),
    ] = None,
    since: Annotated[
        int | None, typer.Option(min=0, help="Begin a new export behind this position.")
    ] = None,
    config: ConfigFile = None,
    store: Store = None,
    output: OutputAs = None,
) -> None:
    """Write events, history and training rows for analysis."""
    source = _read.Source(config, store)
    raise typer.Exit(
        _export.export(source, out, output, tables=table or (), form=form, since=since)
    )
