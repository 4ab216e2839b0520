"""What the commands of operators do: ask the healer that runs, and say what has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from healer.cli import choice
from healer.cli.choice import UsageError
from healer.cli.client import Client
from healer.cli.form import Output
from healer.cli.outcome import FINE
from healer.cli.output import as_table, print_json, print_line
from healer.cli.progress import progress_of
from healer.cli.source import config_in
from healer.errors import IllegalCommandError

__all__ = [
    "approve",
    "deny",
    "maintenance",
    "mode",
    "pause",
    "rearm",
    "rebuild",
    "reload",
    "resume",
]

_ONE: Final = 1
_TWO: Final = 2


def mode(
    file: Path | None, words: list[str], reason: str | None, output: Output | None, *, every: bool
) -> int:
    """Set the mode of one component, or of all."""
    if len(words) != (_ONE if every else _TWO):
        raise UsageError("cannot set a mode; allowed: mode NAME MODE, or mode --all MODE")
    word = words[-1]
    body = _body(reason) | {"mode": choice.mode(word)}
    path = "/mode" if every else f"/components/{quote(words[0], safe='')}/mode"
    answer = Client(config_in(file)).post(path, body)
    changed = answer["components"] if every else [answer]
    lines = [
        f"{each['component']}: {each['before']} → {each['mode']}"
        if each["changed"]
        else f"{each['component']}: {each['mode']}, as before"
        for each in changed
    ]
    return _told(answer, lines, output)


def approve(file: Path | None, issue: str, reason: str | None, output: Output | None) -> int:
    """Allow a suggested heal."""
    client = Client(config_in(file))
    answer = client.post(f"/issues/{_issue(client, issue)}/approve", _body(reason))
    return _told(answer, [f"{answer['component']}: issue {answer['issue_id']} approved"], output)


def deny(file: Path | None, issue: str, reason: str | None, output: Output | None) -> int:
    """Refuse a suggested heal."""
    client = Client(config_in(file))
    answer = client.post(f"/issues/{_issue(client, issue)}/deny", _body(reason))
    return _told(answer, [f"{answer['component']}: issue {answer['issue_id']} denied"], output)


def maintenance(
    file: Path | None,
    name: str,
    duration: str | None,
    reason: str | None,
    output: Output | None,
    *,
    end: bool,
) -> int:
    """Open a maintenance window, or close it."""
    if end == (duration is not None):
        raise UsageError(
            f"cannot tell what to do with the maintenance of {name}; allowed: --for 10m, or --end"
        )
    client, path = Client(config_in(file)), f"/components/{quote(name, safe='')}/maintenance"
    if end:
        answer = client.post(f"{path}/end", _body(reason))
        return _told(answer, [f"{name}: maintenance ended"], output)
    answer = client.post(path, _body(reason) | {"for": duration})
    window = answer["maintenance"]
    return _told(
        answer, [f"{name}: in maintenance until {window['until']} ({window['reason']})"], output
    )


def pause(file: Path | None, reason: str | None, output: Output | None) -> int:
    """Hold all heals."""
    answer = Client(config_in(file)).post("/pause", _body(reason))
    held = answer["paused"]
    line = f"all healing is paused since {held['since']} by {held['actor']}: {held['reason']}"
    return _told(answer, [line], output)


def resume(file: Path | None, reason: str | None, output: Output | None) -> int:
    """Allow heals again."""
    answer = Client(config_in(file)).post("/resume", _body(reason))
    was = "healing goes on" if answer["was_paused"] else "healing was not paused"
    return _told(answer, [was], output)


def rearm(file: Path | None, name: str, reason: str | None, output: Output | None) -> int:
    """Give a component its budget back."""
    answer = Client(config_in(file)).post(
        f"/components/{quote(name, safe='')}/rearm", _body(reason)
    )
    line = f"{name}: its whole budget again ({answer['attempts_forgotten']} heals forgotten)"
    return _told(answer, [line], output)


def reload(file: Path | None, output: Output | None) -> int:
    """Read the configuration again."""
    answer = Client(config_in(file)).post("/reload", {})
    lines = [
        f"{word}: {', '.join(answer[word])}"
        for word in ("added", "removed", "changed")
        if answer[word]
    ]
    return _told(answer, lines or ["nothing has changed"], output)


def rebuild(file: Path | None, view: str, output: Output | None) -> int:
    """Fold a view anew in the healer that runs."""
    client = Client(config_in(file))
    with progress_of(f"folding {view} beside the running one"):
        answer = client.post(f"/views/{quote(view, safe='')}/rebuild", {})
    line = f"{view}: folded anew to position {answer['position']}, twice and equal; shown from now"
    return _told(answer, [line], output)


def _body(reason: str | None) -> dict[str, Any]:
    return {} if reason is None else {"reason": reason}


def _issue(client: Client, word: str) -> str:
    """The issue that `word` names, which may be the component that has it."""
    for component in client.get("/components")["components"]:
        if component["name"] == word:
            if component["open_issue"] is None:
                raise IllegalCommandError("answer a suggestion", f"{word} has no open issue")
            return str(component["open_issue"])
    return quote(word, safe="")


def _told(answer: Any, lines: list[str], output: Output | None) -> int:
    if as_table(output):
        for line in lines:
            print_line(line)
    else:
        print_json(answer)
    return FINE
