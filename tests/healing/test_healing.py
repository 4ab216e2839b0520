"""Real faults on real processes, seen, healed and written down."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
import pytest

from healer.domain import events as fact
from healer.domain.component import component_stream
from healer.domain.playbook import PlaybookOutcome
from healer.domain.process import OwnerProof
from healer.domain.spec import IssueType
from healer.engine import HealRequest
from healer.errors import HealWithheldError, UnknownNameError
from replay.case import case_of
from tests.conftest import Processes, Until
from tests.healing.conftest import OpenLab, command
from tests.simulator.case import Case
from tests.simulator.simulation import run


def tell(port: int, kind: str) -> None:
    with httpx.Client(trust_env=False) as client:
        client.post(f"http://127.0.0.1:{port}/fault", json={"kind": kind}).raise_for_status()


def alive(process: psutil.Process) -> bool:
    """Whether it still runs; a zombie that nobody has reaped does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def answers(port: int) -> dict[str, Any] | None:
    try:
        with httpx.Client(trust_env=False, timeout=1) as client:
            answer = client.get(f"http://127.0.0.1:{port}/health")
    except httpx.TransportError:
        return None
    found: dict[str, Any] = answer.json()
    return found if answer.status_code == 200 else None


async def test_a_component_that_is_down_is_started_and_adopted(
    lab: OpenLab, free_port: int
) -> None:
    async with lab({"chat_api": {"port": free_port, "launch": command()}}) as it:
        pid = await it.healthy()
        [adopted] = await it.of(fact.ProcessAdopted)
        assert (adopted.process.pid, adopted.proof) == (pid, OwnerProof.LAUNCHED)
        assert answers(free_port) == {
            "name": "chat_api",
            "pid": pid,
            "port": free_port,
            "launch": adopted.launch_id,
        }


async def test_a_component_is_named_as_what_its_script_became(lab: OpenLab, free_port: int) -> None:
    launch = command()
    launch["command"] = ["sh", "-c", 'sleep 0.3; exec "$@"', "sh", *launch["command"]]
    async with lab({"chat_api": {"port": free_port, "launch": launch}}) as it:
        pid = await it.healthy()
        status = it.healer.engine.status("chat_api")
        assert status.process is not None
        assert (status.process.pid, status.process.name) == (pid, psutil.Process(pid).name())
        it.signal(pid, signal.SIGKILL)
        await it.end_of_issue(2)
        detected = (await it.of(fact.IssueDetected))[1]
        assert detected.evidence.process == status.process


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
async def test_a_crash_is_seen_by_its_process_and_names_its_signal(
    lab: OpenLab, free_port: int, ending: signal.Signals
) -> None:
    async with lab({"chat_api": {"port": free_port, "launch": command(), "interval": "1m"}}) as it:
        pid = await it.healthy()
        it.signal(pid, ending)
        end = await it.end_of_issue(2)
        assert isinstance(end, fact.IssueVerified)
        assert end.healed_by == "restart_component"
        detected = (await it.of(fact.IssueDetected))[1]
        assert detected.issue_type is IssueType.PROCESS_CRASHED
        # A component that catches SIGTERM leaves with a status of its own.
        ended = detected.evidence.exit
        assert ended.code == 0 if ending is signal.SIGTERM else ended.signal == ending
        assert await it.healthy() != pid


async def test_a_process_that_the_healer_did_not_start_is_watched_and_restarted(
    lab: OpenLab, free_port: int, processes: Processes, until: Until
) -> None:
    found = processes.component(free_port)
    until(lambda: answers(free_port))
    entry = {
        "port": free_port,
        "launch": command(),
        "owner": {"cmdline": "component.py"},
        "interval": "1m",
    }
    async with lab({"chat_api": entry}) as it:
        assert await it.healthy() == found.pid
        [adopted] = await it.until.soon(lambda: it.of(fact.ProcessAdopted))
        assert (adopted.proof, adopted.launch_id) == (OwnerProof.CMDLINE, None)
        found.kill()
        end = await it.end_of_issue()
        assert isinstance(end, fact.IssueVerified)
        assert (await it.of(fact.IssueDetected))[0].issue_type is IssueType.PROCESS_CRASHED
        assert await it.healthy() != found.pid


async def test_the_whole_group_ends_before_the_next_start(
    lab: OpenLab, free_port: int, until: Until
) -> None:
    """Workers share the port by SO_REUSEPORT: one that stayed would answer in its place."""
    entry = {"port": free_port, "launch": command("--workers", "3", "--ignore-sigterm")}
    async with lab({"chat_api": entry}) as it:
        pid = await it.healthy()
        group = [psutil.Process(pid), *psutil.Process(pid).children()]
        assert len(group) == 4
        for member in group:
            member.suspend()
        end = await it.end_of_issue(2)
        assert isinstance(end, fact.IssueVerified)
        assert not any(alive(member) for member in group)
        stopped = {
            process.pid
            for event in await it.of(fact.StepSucceeded)
            for process in event.result.stopped
        }
        assert stopped >= {member.pid for member in group}


async def test_sigterm_is_given_its_grace_and_then_sigkill(lab: OpenLab, free_port: int) -> None:
    entry = {"port": free_port, "launch": command("--ignore-sigterm")}
    async with lab({"chat_api": entry}) as it:
        pid = await it.healthy()
        tell(free_port, "500")
        end = await it.end_of_issue(2)
        assert isinstance(end, fact.IssueVerified)
        [terminated] = [e for e in await it.of(fact.StepSucceeded) if e.action == "terminate"]
        assert [process.pid for process in terminated.result.killed] == [pid]
        assert terminated.elapsed >= 0.5


@pytest.mark.parametrize(
    ("kind", "issue_type"),
    [
        ("close_listener", IssueType.PORT_NOT_LISTENING),
        ("hang", IssueType.CONNECTION_TIMEOUT),
        ("500", IssueType.CONNECTION_REFUSED),
        ("rebind_wrong", IssueType.CONNECTION_REFUSED),
        ("orphan", IssueType.PORT_CONFLICT),
        ("exit", IssueType.PROCESS_CRASHED),
    ],
)
async def test_each_trouble_gets_its_issue_type_from_the_evidence_and_is_healed(
    lab: OpenLab, free_port: int, kind: str, issue_type: IssueType
) -> None:
    async with lab({"chat_api": {"port": free_port, "launch": command()}}) as it:
        before = await it.healthy()
        tell(free_port, kind)
        end = await it.end_of_issue(2)
        assert isinstance(end, fact.IssueVerified)
        assert (await it.of(fact.IssueDetected))[1].issue_type is issue_type
        after = await it.healthy()
        assert after != before
        assert answers(free_port)["pid"] == after  # type: ignore[index]


async def test_an_address_that_no_route_leads_to_is_escalated_and_nothing_is_done(
    lab: OpenLab, free_port: int
) -> None:
    # TCP to a multicast address: the kernel answers ENETUNREACH by itself, and sends nothing.
    entry = {"port": free_port, "host": "239.0.0.1", "start_period": 0}
    async with lab({"remote": entry}) as it:
        end = await it.end_of_issue(1, "remote")
        assert isinstance(end, fact.IssueFailed)
        detected = (await it.of(fact.IssueDetected, "remote"))[0]
        assert detected.issue_type is IssueType.NETWORK_UNREACHABLE
        assert await it.of(fact.IssueEscalated, "remote")
        assert not await it.of(fact.StepStarted, "remote")


async def test_a_foreign_listener_is_never_killed_and_the_component_moves(
    lab: OpenLab, free_ports: Any, processes: Processes, until: Until, tmp_path: Path
) -> None:
    first = free_ports(3)[0]
    told = tmp_path / "told"
    entry = {
        "port": first,
        "launch": command(),
        "rebind": f"{first + 1}-{first + 2}",
        "announce": ["/bin/sh", "-c", f'echo "$0 $1" > {told}', "{name}", "{port}"],
    }
    async with lab({"chat_api": entry}) as it:
        await it.healthy()
        tell(first, "close_listener")
        stranger = processes.component(first, "--name", "stranger")
        until(lambda: answers(first))
        await it.until.soon(lambda: it.healer.engine.status("chat_api").port == first + 1)
        await it.healthy()
        assert stranger.poll() is None
        assert answers(first)["pid"] == stranger.pid  # type: ignore[index]
        [moved] = await it.of(fact.PortRebound)
        assert (moved.old_port, moved.new_port) == (first, first + 1)
        assert told.read_text() == f"chat_api {first + 1}\n"
    async with lab({"chat_api": entry}) as it:
        # Where it was moved to is remembered: the configuration has not changed since.
        assert it.healer.engine.status("chat_api").port == first + 1 or await it.healthy()
        assert it.healer.engine.status("chat_api").port == first + 1


async def test_without_a_range_a_foreign_listener_is_escalated(
    lab: OpenLab, free_port: int, processes: Processes, until: Until
) -> None:
    stranger = processes.component(free_port, "--name", "stranger")
    until(lambda: answers(free_port))
    async with lab({"chat_api": {"port": free_port, "launch": command()}}) as it:
        end = await it.end_of_issue()
        assert isinstance(end, fact.IssueFailed)
        assert (await it.of(fact.IssueDetected))[0].issue_type is IssueType.PORT_CONFLICT
        [failed, *_] = await it.of(fact.StepFailed)
        assert failed.result.error == "foreign_listener"
        assert [process.pid for process in failed.result.foreign] == [stranger.pid]
        assert await it.of(fact.IssueEscalated)
    assert stranger.poll() is None


async def test_of_two_processes_that_share_a_port_only_ours_is_ended(
    lab: OpenLab, free_ports: Any, processes: Processes
) -> None:
    first = free_ports(2)[0]
    sharing = ("--workers", "1")
    entry = {
        "port": first,
        "launch": command(*sharing),
        "rebind": f"{first + 1}-{first + 1}",
        "timeout": "20s",
    }
    async with lab({"chat_api": entry}) as it:
        leader = psutil.Process(await it.healthy())
        ours = [leader, *leader.children()]
        stranger = psutil.Process(processes.component(first, *sharing, "--name", "stranger").pid)
        # The kernel gives each connection to one of those who listen.
        await it.until.soon(lambda: (answers(first) or {}).get("name") == "stranger")
        foreign = [stranger, *await it.until.soon(stranger.children)]

        async def heal(playbook: str) -> None:
            request = HealRequest(actor="cli", playbooks=(playbook,))
            issue_id = await it.healer.engine.heal("chat_api", request)
            await it.healer.engine.outcome("chat_api", issue_id)

        # To end one of them would free nothing.
        await heal("clear_port")
        assert [failed.result.error for failed in await it.of(fact.StepFailed)] == [
            "foreign_listener"
        ]
        assert all(alive(each) for each in (*ours, *foreign))

        await heal("restart_component")
        await it.until.soon(lambda: it.healer.engine.status("chat_api").port == first + 1)
        await it.healthy()
        assert [alive(each) for each in (*ours, *foreign)] == [False, False, True, True]
        targets = {
            target.process.pid
            for event in await it.of(fact.StepStarted)
            for target in event.targets
        }
        assert targets == {each.pid for each in ours}


async def test_a_program_that_is_content_with_a_stranger_cures_nothing(
    lab: OpenLab, free_port: int, processes: Processes, until: Until
) -> None:
    stranger = processes.component(free_port, "--name", "stranger")
    until(lambda: answers(free_port))
    content = {"probe": {"exec": ["true"]}, "timeout": "30s"}
    async with lab({"chat_api": {"port": free_port, "launch": command(), **content}}) as it:
        end = await it.end_of_issue(timeout=60)
        assert isinstance(end, fact.IssueFailed)
        assert (await it.of(fact.IssueDetected))[0].issue_type is IssueType.PORT_CONFLICT
        assert not await it.of(fact.IssueVerified)
    assert stranger.poll() is None


async def test_a_component_is_healed_by_what_a_program_says(lab: OpenLab, free_port: int) -> None:
    script = 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1])))'
    looks = {"probe": {"exec": ["python", "-S", "-E", "-c", script, "{port}"]}, "timeout": "30s"}
    async with lab({"chat_api": {"port": free_port, "launch": command(), **looks}}) as it:
        first = await it.healthy(timeout=60)
        it.signal(first, signal.SIGKILL)
        end = await it.end_of_issue(2, timeout=60)  # the first one started it
        assert isinstance(end, fact.IssueVerified)
        assert await it.healthy(timeout=60) != first


async def test_a_foreign_listener_is_ended_where_the_configuration_says_so(
    lab: OpenLab, free_port: int, processes: Processes, until: Until
) -> None:
    stranger = processes.component(free_port, "--name", "stranger")
    until(lambda: answers(free_port))
    entry = {"port": free_port, "launch": command(), "evict_foreign": True}
    async with lab({"chat_api": entry}) as it:
        end = await it.end_of_issue()
        assert isinstance(end, fact.IssueVerified)
        assert await it.healthy() != stranger.pid
        assert stranger.wait(timeout=60) in {-signal.SIGTERM, -signal.SIGKILL, 0}


async def test_a_client_of_the_port_is_left_alone(
    lab: OpenLab, free_port: int, processes: Processes
) -> None:
    """A connection to the port is no claim on it, whatever a list of sockets shows."""
    async with lab({"chat_api": {"port": free_port, "launch": command()}}) as it:
        await it.healthy()
        with socket.create_connection(("127.0.0.1", free_port)) as client:
            tell(free_port, "hang")
            end = await it.end_of_issue(2)
            assert isinstance(end, fact.IssueVerified)
            assert client.fileno() >= 0
        touched = {
            target.process.pid
            for event in await it.of(fact.StepStarted)
            for target in event.targets
        }
        assert os.getpid() not in touched


async def test_a_component_without_a_launcher_is_cleared_and_its_own_supervisor_waited_for(
    lab: OpenLab, free_port: int, processes: Processes, until: Until
) -> None:
    first = processes.component(free_port)
    until(lambda: answers(free_port))
    entry = {"port": free_port, "owner": {"cmdline": "component.py"}}
    async with lab({"chat_api": entry}) as it:
        await it.healthy()
        tell(free_port, "hang")
        # The healer ends it; then its own supervisor (this test) starts it anew.
        await it.until.soon(lambda: first.poll() is not None)
        second = processes.component(free_port)
        end = await it.end_of_issue()
        assert isinstance(end, fact.IssueVerified)
        assert await it.healthy() == second.pid
        [skipped] = [e for e in await it.of(fact.StepSkipped) if e.action == "start"]
        assert "own supervisor" in skipped.reason


async def test_a_rebinding_that_does_not_verify_is_undone(
    lab: OpenLab, free_ports: Any, processes: Processes, until: Until, tmp_path: Path
) -> None:
    first = free_ports(2)[0]
    flag = tmp_path / "broken"
    entry = {
        "port": first,
        "launch": command("--crash-loop", str(flag)),
        "rebind": f"{first + 1}-{first + 1}",
        "start_period": "1s",
    }
    async with lab({"chat_api": entry}) as it:
        await it.healthy()
        flag.touch()
        tell(first, "close_listener")
        stranger = processes.component(first, "--name", "stranger")
        until(lambda: answers(first))
        end = await it.end_of_issue(2)
        assert isinstance(end, fact.IssueFailed)
        outcomes = {e.playbook: e.outcome for e in await it.of(fact.PlaybookFinished)}
        assert outcomes["rebind_port"] is PlaybookOutcome.UNDONE
        assert not await it.of(fact.PortRebound)
        assert it.healer.engine.status("chat_api").port == first
        assert stranger.poll() is None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", first + 1))  # the reservation was given up


async def test_a_component_that_cannot_share_a_reserved_port_is_started_without_the_reservation(
    lab: OpenLab, free_ports: Any, processes: Processes, until: Until
) -> None:
    first = free_ports(2)[0]
    stranger = processes.component(first, "--name", "stranger")
    until(lambda: answers(first))
    entry = {
        "port": first,
        "launch": command("--no-reuseaddr"),
        "rebind": f"{first + 1}-{first + 1}",
    }
    async with lab({"chat_api": entry}) as it:
        end = await it.end_of_issue()
        assert isinstance(end, fact.IssueVerified)
        assert end.healed_by == "rebind_port"
        assert it.healer.engine.status("chat_api").port == first + 1
        assert await it.healthy()
    assert stranger.poll() is None


async def test_a_dry_run_names_the_process_and_changes_nothing(
    lab: OpenLab, free_port: int
) -> None:
    async with lab({"chat_api": {"port": free_port, "launch": command()}}) as it:
        pid = await it.healthy()
        before = await it.healer.log.head()
        issue_type, steps = await it.healer.engine.plan(
            "chat_api", issue_type=IssueType.PROCESS_CRASHED
        )
        assert issue_type is IssueType.PROCESS_CRASHED
        terminate = steps[0]
        assert (terminate.playbook, terminate.action) == ("restart_component", "terminate")
        assert [target.process.pid for target in terminate.targets] == [pid]
        assert str(pid) in str(terminate.does)
        assert str(free_port) in str(steps[2].does)
        assert await it.healer.log.head() == before
        assert await it.healthy() == pid


async def test_an_operator_can_force_a_playbook_on_a_healthy_component(
    lab: OpenLab, free_port: int
) -> None:
    async with lab({"chat_api": {"port": free_port, "launch": command()}}) as it:
        pid = await it.healthy()
        request = HealRequest(actor="cli", playbooks=("restart_component",))
        issue_id = await it.healer.engine.heal("chat_api", request)
        report = await it.healer.engine.outcome("chat_api", issue_id)
        assert report.success
        assert report.playbooks_executed == ("restart_component",)
        assert await it.healthy() != pid
        route = (await it.of(fact.RouteChosen))[-1]
        assert (route.chosen_by, route.actor) == ("operator", "cli")
        with pytest.raises(UnknownNameError, match="cannot find playbook 'reboot'"):
            await it.healer.engine.heal("chat_api", HealRequest("cli", playbooks=("reboot",)))


async def test_a_component_outlives_the_healer_and_is_the_same_to_the_next_one(
    lab: OpenLab, free_port: int
) -> None:
    entry = {"port": free_port, "launch": command()}
    async with lab({"chat_api": entry}, leave=True) as it:
        pid = await it.healthy()
    assert answers(free_port)["pid"] == pid  # type: ignore[index]
    async with lab({"chat_api": entry}) as it:
        assert await it.healthy() == pid
        assert len(await it.of(fact.ProcessAdopted)) == 1
        it.signal(pid, signal.SIGKILL)
        end = await it.end_of_issue(2)
        assert isinstance(end, fact.IssueVerified)


async def test_a_quiet_healer_adds_nothing_to_the_log(lab: OpenLab, free_port: int) -> None:
    async with lab({"chat_api": {"port": free_port, "launch": command()}}) as it:
        await it.healthy()
        before = await it.healer.log.head()
        watched = it.healer.engine.status("chat_api").health.successes
        await it.until.soon(
            lambda: it.healer.engine.status("chat_api").health.successes >= watched + 5
        )
        assert await it.healer.log.head() == before


async def test_finished_issues_are_lines_in_the_files(
    lab: OpenLab, free_port: int, tmp_path: Path
) -> None:
    async with lab({"chat_api": {"port": free_port, "launch": command()}}) as it:
        await it.healthy()
        logs = tmp_path / "logs"

        def lines() -> list[str]:
            texts = [file.read_text() for file in logs.glob("healings_*.jsonl")]
            return [line for text in texts for line in text.splitlines()]

        [line] = await it.until.soon(lines)
        for key in ("timestamp", "component", "port", "issue_type", "playbooks", "success"):
            assert f'"{key}"' in line


async def test_a_healthy_component_is_healed_by_hand_only_when_it_is_said_of_what(
    lab: OpenLab, free_port: int
) -> None:
    async with lab({"chat_api": {"port": free_port, "launch": command()}}) as it:
        pid = await it.healthy()
        with pytest.raises(HealWithheldError, match="name an issue type or a playbook"):
            await it.healer.engine.heal("chat_api", HealRequest(actor="cli"))
        assert await it.healthy() == pid


async def test_a_real_incident_takes_the_same_course_in_the_simulator(
    lab: OpenLab, free_port: int
) -> None:
    patient = {"interval": "1m", "timeout": "20s", "start_period": "1m"}
    async with lab({"chat_api": {"port": free_port, "launch": command(), **patient}}) as it:
        pid = await it.healthy(timeout=120)
        brought_up = {event.originator_id for event in await it.of(fact.IssueDetected)}
        it.signal(pid, signal.SIGKILL)
        await it.end_of_issue(len(brought_up) + 1, timeout=120)
        facts = await it.facts()
    [detected] = [
        event
        for event in facts
        if isinstance(event, fact.IssueDetected) and event.originator_id not in brought_up
    ]
    issue = [event for event in facts if event.originator_id == detected.originator_id]
    own = [event for event in facts if event.originator_id == component_stream("chat_api")]
    case = Case.load(orjson.dumps(case_of(issue, own)))
    played = await asyncio.to_thread(run, case)
    assert played.broken is None
    assert case.incident is not None
    assert played.course == case.incident.course
    assert played.course[0] == "detected process_crashed"
