"""`healer demo`, as a user runs it: a process of its own that breaks and heals real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson

from healer.domain.spec import IssueType

_FIELDS = {
    "fault",
    "component",
    "issue_type",
    "playbooks",
    "detected_ms",
    "healthy_ms",
    "expected",
    "verdict",
    "ok",
}


def run_demo(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "healer", "demo", *options],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=120,
    )


def test_every_fault_ends_as_it_should_and_programs_can_read_it(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'demo.db'}"
    ran = run_demo(tmp_path, "--json", "--store", store)
    report = orjson.loads(ran.stdout)
    problems = [fault for fault in report["faults"] if not fault["ok"]]
    assert (ran.returncode, problems) == (0, []), ran.stderr.decode()
    assert all(fault.keys() >= _FIELDS for fault in report["faults"])
    assert {fault["issue_type"] for fault in report["faults"]} == {str(kind) for kind in IssueType}
    assert report["stats"]["total_healings"] >= len(report["faults"]) - 1
    assert (tmp_path / "demo.db").stat().st_size > 0


def test_people_see_a_timeline_for_each_fault_and_a_table(tmp_path: Path) -> None:
    ran = run_demo(tmp_path)
    shown = ran.stdout.decode()
    assert ran.returncode == 0, shown[-2000:]
    assert "1/9" in shown
    assert "9/9" in shown
    assert "What was broken, and what became of it" in shown
    assert "NOT AS EXPECTED" not in shown
    assert list(tmp_path.iterdir()) == []
