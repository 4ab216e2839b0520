"""Options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from healer.cli.form import Output

__all__ = ["Component", "ConfigFile", "OutputAs", "Reason", "Store"]

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
Component = Annotated[str, typer.Argument(metavar="NAME", help="A component.")]
Reason = Annotated[str | None, typer.Option(help="Why, for the healer's log.")]
