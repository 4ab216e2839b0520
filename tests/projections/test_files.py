"""The healings files: each line once, whatever happens to the writer."""

from __future__ import annotations

import asyncio
import os

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from healer.domain import events as fact
from projections.files import HealingFileError, HealingFiles
from tests.projections.build import Log, MemoryLog, heal, logs


def content(directory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("*")}


def written_from_nothing(directory, facts) -> dict[str, bytes]:
    files = HealingFiles(directory)
    files.feed(facts)
    files.flush()
    return content(directory)


def test_a_line_holds_what_the_document_wants_logged(tmp_path):
    log = Log()
    heal(log)
    [(name, line)] = written_from_nothing(tmp_path, log.facts).items()
    assert name == "healings_20260301.jsonl"
    assert line.endswith(b"}\n")
    shown = orjson.loads(line)
    assert shown["position"] == len(log.facts)
    expected = {
        "timestamp": "2026-03-01T12:00:00.013000Z",
        "component": "chat_api",
        "port": 8220,
        "issue_type": "port_not_listening",
        "playbooks": ["restart_component"],
        "success": True,
        "outcome": "healed",
        "actions_taken": [
            "terminate chat_api[42]: stopped",
            "start chat_api[43]: started on port 8220",
        ],
        "time_to_resolution": 1.5,
    }
    assert expected.items() <= shown.items()


def test_the_day_is_that_of_the_end_in_utc(tmp_path):
    log = Log()
    issue = log.detect()
    log.wait(hours=12)
    issue.fail()
    assert list(written_from_nothing(tmp_path, log.facts)) == ["healings_20260302.jsonl"]


def test_an_open_issue_has_no_line(tmp_path):
    log = Log()
    log.detect().diagnose()
    assert written_from_nothing(tmp_path, log.facts) == {}


@given(facts=logs(15), data=st.data())
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_writer_that_dies_anywhere_is_continued_byte_for_byte(tmp_path_factory, facts, data):
    whole = written_from_nothing(tmp_path_factory.mktemp("whole"), facts)
    directory = tmp_path_factory.mktemp("torn")
    files = HealingFiles(directory)
    files.feed(facts[: data.draw(st.integers(0, len(facts)))])
    files.flush()
    if files.position:
        # The last write was cut short, or came to nothing.
        [path] = [
            each
            for each in directory.glob("*")
            if orjson.loads(each.read_bytes().splitlines()[-1])["position"] == files.position
        ]
        last = path.read_bytes().splitlines(keepends=True)[-1]
        os.truncate(path, path.stat().st_size - data.draw(st.integers(0, len(last))))
    again = HealingFiles(directory)
    again.feed(facts)
    again.flush()
    assert {name: lines for name, lines in content(directory).items() if lines} == whole


def test_a_second_flush_writes_nothing(tmp_path):
    log = Log()
    heal(log)
    files = HealingFiles(tmp_path)
    files.feed(log.facts)
    files.flush()
    before = content(tmp_path)
    files.feed(log.facts)
    files.flush()
    assert content(tmp_path) == before


def test_a_very_long_last_line_is_found_and_continued(tmp_path):
    log = Log()
    issue = log.detect().diagnose().route("restart_component").remediate()
    issue.playbook("restart_component")
    for _ in range(5000):
        issue.step()
    issue.finish().look(healthy=True, after="restart_component").verify("restart_component")
    end = len(log.facts)
    whole = written_from_nothing(tmp_path, log.facts)
    [path] = tmp_path.glob("*")
    assert path.stat().st_size > 1 << 16
    with path.open("ab") as file:
        file.write(b'{"position": 99999, "time')
    assert HealingFiles(tmp_path).position == end
    assert content(tmp_path) == whole


@pytest.mark.parametrize("line", [b"not json\n", b"{}\n", b"[1]\n", b"\0\0\0\n"])
def test_a_file_that_is_not_ours_is_left_alone_and_named(tmp_path, line):
    path = tmp_path / "healings_20260301.jsonl"
    path.write_bytes(line)
    with pytest.raises(HealingFileError, match=r"cannot continue .*healings_20260301"):
        HealingFiles(tmp_path)
    assert path.read_bytes() == line


def test_a_disk_that_refuses_loses_nothing(tmp_path):
    log = Log()
    heal(log)
    files = HealingFiles(tmp_path)
    files.feed(log.facts)
    obstacle = tmp_path / "healings_20260301.jsonl"
    obstacle.mkdir()
    with pytest.raises(IsADirectoryError):
        files.flush()
    obstacle.rmdir()
    files.flush()
    assert len(obstacle.read_bytes().splitlines()) == 1


async def test_lines_follow_the_log_and_wait_out_a_disk_that_refuses(tmp_path, until):
    told, log = Log(), MemoryLog()
    heal(told)
    files = HealingFiles(tmp_path)
    obstacle = tmp_path / "healings_20260301.jsonl"
    obstacle.mkdir()
    running = asyncio.create_task(files.run(log, retry=0.01))
    try:
        async with asyncio.timeout(60):
            await log.append([recorded.event for recorded in told.facts])
            await until.soon(lambda: files.trouble is not None)
            assert isinstance(files.trouble, IsADirectoryError)
            obstacle.rmdir()
            await until.soon(lambda: files.position == len(log.facts))
            later = told.detect("other")
            at = len(log.facts)
            later.add(fact.IssueFailed, reason="not_cured", resolved_in=1.0)
            await log.append([recorded.event for recorded in told.facts[at:]])
            await until.soon(lambda: files.position == len(log.facts))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert files.trouble is None
    assert len(obstacle.read_bytes().splitlines()) == 2
