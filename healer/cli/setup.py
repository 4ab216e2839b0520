"""`healer init` and `healer doctor`: from nothing to a configuration that works here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from healer.cli.lazy import Lazy
from healer.cli.option import ConfigFile, OutputAs

if TYPE_CHECKING:
    from healer.cli import doctor as _doctor
    from healer.cli import guardian as _guardian
    from healer.cli import init as _init
else:
    _doctor = Lazy("healer.cli.doctor")
    _guardian = Lazy("healer.cli.guardian")
    _init = Lazy("healer.cli.init")

__all__ = ["add_setup"]


def add_setup(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command()
    def init(
        file: Annotated[
            Path, typer.Argument(metavar="FILE", help="Where it goes; never overwritten.")
        ] = Path("healer.yaml"),
        *,
        output: OutputAs = None,
    ) -> None:
        """Write a commented configuration from what listens on this machine now.

        Example: healer init && healer validate && healer serve
        """
        raise typer.Exit(_init.init(file, output))

    @app.command()
    def doctor(config: ConfigFile = None, output: OutputAs = None) -> None:
        """Say what is missing on this machine, what that costs, and how to get it.

        Example: healer doctor -c /etc/healer/healer.yaml -o json
        """
        raise typer.Exit(_doctor.doctor(config, output))

    @app.command()
    def guardian(
        listen: Annotated[
            str, typer.Option(metavar="HOST:PORT", help="An address of this machine.")
        ] = "127.0.0.1:9000",
        output: OutputAs = None,
    ) -> None:
        """Receive events as Guardian does: check the signature, drop repetitions, print.

        The secret is taken from the variable GUARDIAN_SECRET.

        Example: GUARDIAN_SECRET=whsec_... healer guardian --listen 127.0.0.1:9000
        """
        raise typer.Exit(_guardian.guardian(listen, output))
