"""A thread answers a loop: in order, whatever one answer does, and as if nobody had asked."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from contextvars import ContextVar

from healer.store.answer import Bell

WHO: ContextVar[str] = ContextVar("WHO", default="nobody")


def in_a_thread(bell: Bell, answered: asyncio.Future[None], *calls: object) -> threading.Thread:
    """Rings for each of `calls`, then for the end of the wait."""

    def ring() -> None:
        for call in calls:
            bell.ring(*call)  # type: ignore[misc]
        bell.ring(answered.set_result, None)

    thread = threading.Thread(target=ring)
    thread.start()
    return thread


async def test_a_loop_calls_in_the_order_of_asking() -> None:
    loop = asyncio.get_running_loop()
    bell, heard, answered = Bell(loop), list[int](), loop.create_future()
    thread = in_a_thread(bell, answered, *((heard.append, number) for number in range(1000)))
    await answered
    thread.join()
    bell.close()
    assert heard == list(range(1000))


async def test_an_answer_that_fails_is_reported_and_the_next_one_given() -> None:
    loop = asyncio.get_running_loop()
    reported: list[str] = []
    loop.set_exception_handler(
        lambda _loop, context: reported.append(f"{context['message']}: {context['exception']!r}")
    )
    bell, answered = Bell(loop), loop.create_future()
    thread = in_a_thread(bell, answered, (int, "x"))
    await answered
    thread.join()
    bell.close()
    [report] = reported
    assert report.startswith("an answer of the log failed: ValueError(")


async def test_what_is_called_knows_nothing_of_who_asked_first() -> None:
    loop = asyncio.get_running_loop()
    WHO.set("who asked first")
    bell, heard, answered = Bell(loop), list[str](), loop.create_future()
    thread = in_a_thread(bell, answered, (lambda: heard.append(WHO.get()),))
    await answered
    thread.join()
    bell.close()
    assert heard == ["nobody"]


async def test_ringing_for_a_loop_that_is_gone_does_nothing() -> None:
    heard: list[int] = []

    async def leave() -> Bell:
        return Bell(asyncio.get_running_loop())

    def leave_alone() -> None:
        bell = asyncio.run(leave())
        bell.ring(heard.append, 1)
        bell.close()

    await asyncio.to_thread(leave_alone)
    assert heard == []


async def test_a_program_that_is_started_has_no_part_in_it() -> None:
    bell = Bell(asyncio.get_running_loop())
    seen = subprocess.run(  # noqa: ASYNC221 - in nobody's way
        ["ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True, text=True, check=True
    )
    bell.close()
    assert "eventfd" not in seen.stdout
