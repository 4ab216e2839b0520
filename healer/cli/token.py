"""`healer token`: who may use the API of this healer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from healer.cli.lazy import Lazy
from healer.cli.option import ConfigFile, OutputAs

if TYPE_CHECKING:
    from healer.cli import token_act as _act
else:
    _act = Lazy("healer.cli.token_act")

__all__ = ["token"]

token = typer.Typer(name="token", help="Say who may use the API.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Stands in every event it causes.")]


@token.command()
def create(
    name: Name,
    *,
    scope: Annotated[str, typer.Option(help="read, operate or admin.")] = "read",
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="After how long: 90d. Default: never.")
    ] = None,
    config: ConfigFile = None,
    output: OutputAs = None,
) -> None:
    """Make a token and show it, this once: only its digest is kept."""
    raise typer.Exit(_act.create(config, name, scope, expires, output))


@token.command("list")
def list_(config: ConfigFile = None, output: OutputAs = None) -> None:
    """Show the names and scopes of all tokens."""
    raise typer.Exit(_act.show_all(config, output))


@token.command()
def revoke(name: Name, config: ConfigFile = None, output: OutputAs = None) -> None:
    """Refuse a token from now on, also in streams that are open."""
    raise typer.Exit(_act.revoke(config, name, output))


@token.command()
def show(config: ConfigFile = None, output: OutputAs = None) -> None:
    """Print the token of this machine, which the healer made at its first start."""
    raise typer.Exit(_act.show(config, output))
