"""What the README says is so: its diagram, its routes, its sample and its links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from healer.config import parse
from healer.domain.lifecycle import mermaid
from healer.domain.routing import ROUTES
from healer.domain.spec import IssueType

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_diagram_is_the_lifecycle_table() -> None:
    [block] = re.findall(r"```mermaid\n(.*?)```", README, re.DOTALL)
    assert block.strip() == mermaid()


@pytest.mark.parametrize("issue_type", list(IssueType))
def test_the_routes_are_the_routes(issue_type: IssueType) -> None:
    [row] = re.findall(rf"^\| `{issue_type}` \|.*\|(.*)\|$", README, re.MULTILINE)
    said = row.strip().removesuffix(": diagnosis, recommendations, escalation")
    assert said == (" → ".join(ROUTES[issue_type]) or "none")


def test_the_sample_configuration_is_accepted(tmp_path: Path) -> None:
    [sample] = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    config = parse(sample, source="README", environ={}, hostname="here", directory=tmp_path)
    assert set(config.components) == {"chat_api", "message_bus"}


def test_every_linked_file_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
