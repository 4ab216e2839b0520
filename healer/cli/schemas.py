"""`healer schemas`: the published contract, written or compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from healer.cli.form import Output
from healer.cli.lazy import Lazy

if TYPE_CHECKING:
    from healer.cli import publish as _publish
else:
    _publish = Lazy("healer.cli.publish")

__all__ = ["schemas"]


def schemas(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where they go.")] = Path(
        "schemas"
    ),
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail when they differ.")
    ] = False,
    output: Annotated[
        Output | None,
        typer.Option("-o", "--output", help="Default: table on a terminal, json in a pipe."),
    ] = None,
) -> None:
    """Write the JSON Schemas of events, configuration and exports."""
    raise typer.Exit(_publish.publish(directory, output, check=check))
