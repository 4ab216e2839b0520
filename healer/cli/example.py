"""An example or two for each command, at the end of its help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from typer import Typer

__all__ = ["EXAMPLES", "add_examples"]

EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = {
    "approve": ("healer approve 9439d383318c4e759f4b165b22de69fd --reason 'looked at it'",),
    "archive": ("healer archive --before -90d", "healer archive --before 2026-03-01 --out /backup"),
    "auto-heal": ("healer auto-heal",),
    "demo": ("healer demo", "healer demo --json --store sqlite:///demo.db"),
    "deny": ("healer deny 9439d383318c4e759f4b165b22de69fd --reason 'in the middle of a backup'",),
    "doctor": ("healer doctor -c healer.yaml",),
    "events": ("healer events -f", "healer events --after 1000 --limit 50 -o json"),
    "guardian": ("healer guardian --listen 127.0.0.1:9000",),
    "heal": (
        "healer heal chat_api",
        "healer heal chat_api --playbook clear_port --playbook restart_component --dry-run",
    ),
    "history": ("healer history --component chat_api --outcome failed --since 2026-03-01",),
    "init": ("healer init healer.yaml",),
    "issues": ("healer issues", "healer issues 9439d383318c4e759f4b165b22de69fd"),
    "maintenance": (
        "healer maintenance chat_api --for 10m --reason deploy",
        "healer maintenance chat_api --end",
    ),
    "mode": ("healer mode chat_api suggest", "healer mode --all observe --reason storm"),
    "pause": ("healer pause --reason storm",),
    "playbooks": ("healer playbooks -o json",),
    "rearm": ("healer rearm chat_api --reason 'disk replaced'",),
    "rebuild": ("healer rebuild stats",),
    "recommend": ("healer recommend chat_api",),
    "reload": ("healer reload",),
    "replay at": ("healer replay at 2026-03-01T12:00:00Z", "healer replay at -10m --view active"),
    "replay diff": ("healer replay diff -1h 4711",),
    "replay export": ("healer replay export --format parquet --out exported --table history",),
    "replay export-case": (
        "healer replay export-case 9439d383318c4e759f4b165b22de69fd --out incident.json",
    ),
    "replay issue": ("healer replay issue 9439d383318c4e759f4b165b22de69fd",),
    "replay rebuild": ("healer replay rebuild --store sqlite:///healer.db",),
    "replay verify": ("healer replay verify --witness /var/lib/witness/healer",),
    "resume": ("healer resume --reason 'storm is over'",),
    "schemas": ("healer schemas schemas --check",),
    "serve": ("healer serve -c healer.yaml",),
    "stats": ("healer stats", "healer stats --store sqlite:///healer.db -o json"),
    "status": ("healer status",),
    "token create": ("healer token create ci --scope operate --expires 90d",),
    "token list": ("healer token list",),
    "token revoke": ("healer token revoke ci",),
    "token show": ("healer token show",),
    "validate": ("healer validate -c healer.yaml",),
    "version": ("healer version",),
}
"""By the words of the command. A test parses each of them."""


def add_examples(app: Typer, *words: str) -> None:
    """Show them behind what the commands of `app` say themselves; `words` lead to it."""
    for command in app.registered_commands:
        name = command.name or getattr(command.callback, "__name__", "").replace("_", "-")
        examples = EXAMPLES.get(" ".join((*words, name)))
        if examples:
            title = "Example:" if len(examples) == 1 else "Examples:"
            command.epilog = "\n\n".join(filter(None, (command.epilog, title, *examples)))
    for group in app.registered_groups:
        if group.typer_instance is not None:
            add_examples(group.typer_instance, *words, str(group.typer_instance.info.name))
