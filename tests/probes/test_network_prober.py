"""What one look over the network says, against real servers."""

from __future__ import annotations

import asyncio
import errno
import http.server
import socket
import threading
import time

import pytest

from healer.domain.probe import Outcome, Reason
from healer.probes import NetworkProber

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@pytest.fixture
def prober() -> NetworkProber:
    return NetworkProber(agent="network-healer/test")


async def test_an_answer_within_the_range_is_ok(prober, spec, serve, answer):
    served = await serve(answer(OK))
    result = await prober.probe(spec(probe={"http": "/health"}), served.port)
    assert (result.reason, result.status, result.kind) == (Reason.OK, 200, "http")
    assert result.target == f"127.0.0.1:{served.port}"
    assert 0 < result.elapsed < 5
    lines = served.requests[0].split(b"\r\n")
    assert lines[0] == b"GET /health HTTP/1.1"
    assert f"Host: 127.0.0.1:{served.port}".encode() in lines
    assert b"User-Agent: network-healer/test" in lines
    assert b"Connection: close" in lines


async def test_a_listener_is_enough_for_tcp(prober, spec, serve, answer):
    served = await serve(answer(b""))
    result = await prober.probe(spec(probe="tcp"), served.port)
    assert (result.reason, result.kind, result.status) == (Reason.OK, "tcp", None)


async def test_a_tcp_probe_is_not_seen_by_the_server(prober, spec):
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        for _ in range(20):  # far beyond the back-log: nothing may pile up in it
            assert (await prober.probe(spec(probe="tcp"), port)).reason is Reason.OK
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize("kind", ["tcp", "http"])
async def test_a_port_without_listener_is_refused(prober, spec, kind):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        result = await prober.probe(spec(probe=kind), bound.getsockname()[1])
    assert (result.reason, result.errno) == (Reason.REFUSED, errno.ECONNREFUSED)
    assert result.outcome is Outcome.UNHEALTHY


async def test_a_server_that_accepts_and_never_answers_times_out(prober, spec, serve):
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    served = await serve(silent)
    result = await prober.probe(spec(timeout=0.2), served.port)
    assert result.reason is Reason.TIMEOUT
    assert 0.2 <= result.elapsed < 2


async def test_a_full_backlog_times_out(prober, spec):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(8)]
        try:
            for plug in waiting:
                plug.setblocking(False)
                plug.connect_ex(("127.0.0.1", port))
            result = await prober.probe(spec(probe="tcp", timeout=0.2), port)
        finally:
            for plug in waiting:
                plug.close()
    assert result.reason is Reason.TIMEOUT


@pytest.mark.parametrize(
    ("endless", "reason"),
    [
        (b"\xff" * 4096, Reason.BAD_RESPONSE),
        (b"x" * 4096, Reason.BAD_RESPONSE),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 50, Reason.BAD_RESPONSE),
    ],
)
async def test_endless_bytes_end_at_a_bound(prober, spec, serve, endless, reason):
    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(endless)
            await writer.drain()

    served = await serve(flood)
    assert (await prober.probe(spec(), served.port)).reason is reason


async def test_endless_headers_end_at_a_bound(prober, spec, serve):
    sent = 0

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x-more: " + b"y" * 1000 + b"\r\n")
            sent += 1010
            await writer.drain()

    served = await serve(flood)
    assert (await prober.probe(spec(), served.port)).reason is Reason.BAD_RESPONSE
    assert sent > 64 * 1024


async def test_an_endless_body_is_no_fault_and_not_waited_for(prober, spec, serve):
    async def stream(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while True:
            writer.write(b"data: x\n\n")
            await writer.drain()
            await asyncio.sleep(0.005)

    served = await serve(stream)
    started = time.perf_counter()
    assert (await prober.probe(spec(timeout=120.0), served.port)).reason is Reason.OK
    assert time.perf_counter() - started < 60


async def test_a_deadline_in_the_body_does_not_change_the_verdict(prober, spec, serve):
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        await reader.read()

    served = await serve(stall)
    assert (await prober.probe(spec(timeout=0.03), served.port)).reason is Reason.OK


async def test_a_slow_drip_cannot_stretch_the_deadline(prober, spec, serve):
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in OK:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)

    served = await serve(drip)
    result = await prober.probe(spec(timeout=0.25), served.port)
    assert result.reason is Reason.TIMEOUT
    assert result.elapsed < 2


async def test_a_reset_is_a_reset(prober, spec, serve, abort):
    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        abort(writer)

    served = await serve(reset)
    result = await prober.probe(spec(), served.port)
    assert (result.reason, result.errno) == (Reason.RESET, errno.ECONNRESET)


async def test_a_server_that_closes_without_a_byte_closed(prober, spec, serve, answer):
    served = await serve(answer(b""))
    assert (await prober.probe(spec(), served.port)).reason is Reason.CLOSED


@pytest.mark.parametrize(
    "garbage",
    [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 200 OK\r\nhalf", b"HTTP/9.9 banana\r\n\r\n", b"\n"],
)
async def test_what_is_not_http_is_a_bad_response(prober, spec, serve, answer, garbage):
    served = await serve(answer(garbage))
    assert (await prober.probe(spec(), served.port)).reason is Reason.BAD_RESPONSE


@pytest.mark.parametrize(
    ("probe", "status", "expected"),
    [
        ({"http": "/"}, 500, Reason.BAD_STATUS),
        ({"http": "/"}, 404, Reason.BAD_STATUS),
        ({"http": "/"}, 204, Reason.OK),
        ({"http": "/", "status_min": 401, "status_max": 401}, 401, Reason.OK),
        ({"http": "/", "status_min": 401, "status_max": 401}, 200, Reason.BAD_STATUS),
    ],
)
async def test_the_status_decides(prober, spec, serve, answer, probe, status, expected):  # noqa: PLR0917 - a table's columns
    served = await serve(answer(f"HTTP/1.1 {status} x\r\nConnection: close\r\n\r\n".encode()))
    result = await prober.probe(spec(probe=probe), served.port)
    assert (result.reason, result.status) == (expected, status)


async def test_a_redirect_loop_is_one_request(prober, spec, serve, answer):
    served = await serve(answer(b"HTTP/1.1 302 x\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"))
    result = await prober.probe(spec(), served.port)
    assert (result.reason, result.status) == (Reason.OK, 302)
    assert (served.connections, len(served.requests)) == (1, 1)


async def test_an_informational_answer_is_passed_over(prober, spec, serve, answer):
    served = await serve(answer(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK))
    assert (await prober.probe(spec(), served.port)).status == 200


async def test_an_ipv6_literal_is_probed(prober, spec, serve, answer):
    try:
        served = await serve(answer(OK), host="::1")
    except OSError:
        pytest.skip("there is no IPv6 loopback here")
    result = await prober.probe(spec(host="::1"), served.port)
    assert result.reason is Reason.OK
    assert result.target == f"[::1]:{served.port}"
    assert f"Host: [::1]:{served.port}".encode() in served.requests[0]


async def test_a_name_is_tried_on_all_its_addresses(prober, spec, serve, answer):
    served = await serve(answer(OK))  # IPv4 only, while `localhost` may mean ::1 first
    result = await prober.probe(spec(host="localhost"), served.port)
    assert (result.reason, result.target) == (Reason.OK, f"127.0.0.1:{served.port}")
    assert f"Host: localhost:{served.port}".encode() in served.requests[0]


@pytest.mark.parametrize("host", ["a" * 70, "a..b"])
async def test_what_cannot_be_a_name_is_unresolvable(prober, spec, host):
    result = await prober.probe(spec(host=host), 80)
    assert (result.reason, result.target) == (Reason.UNRESOLVABLE, f"{host}:80")


async def test_a_blocked_event_loop_accuses_nobody(prober, spec):
    with socket.create_server(("127.0.0.1", 0)) as listener:  # accepts, never answers
        loop = asyncio.get_running_loop()
        loop.call_later(0.05, time.sleep, 0.4)
        result = await prober.probe(spec(timeout=0.5), listener.getsockname()[1])
    assert (result.reason, result.outcome) == (Reason.PROBER_FAILED, Outcome.UNKNOWN)


async def test_a_probe_leaves_no_time_wait_on_the_port(prober, spec):
    """The server closes first, as `Connection: close` asks; its port must be free at once, also for
    a server that does not set SO_REUSEADDR."""

    def serve_once(listener: socket.socket) -> None:
        plug, _ = listener.accept()
        plug.recv(4096)
        plug.sendall(b"HTTP/1.0 200 OK\r\n\r\nall until the end")
        plug.close()

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        served = asyncio.create_task(asyncio.to_thread(serve_once, listener))
        assert (await prober.probe(spec(), port)).reason is Reason.OK
        await served
    with socket.socket() as again:
        again.bind(("127.0.0.1", port))


async def test_a_probe_makes_no_noise_in_a_plain_server(prober, spec):
    errors: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            for _ in range(2):
                time.sleep(0.005)  # a body that is made slower than its head
                self.wfile.write(b"x" * 1000)

        def log_message(self, *_: object) -> None: ...

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            errors.append("handler failed")

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        for kind in ["http", "tcp"] * 10:
            result = await prober.probe(spec(probe=kind), server.server_port)
            assert result.reason is Reason.OK
    finally:
        await asyncio.to_thread(server.shutdown)
        thread.join()
        server.server_close()
    assert errors == []


async def test_a_cancelled_probe_closes_its_connection(prober, spec, serve):
    asked, gone = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        asked.set()
        try:
            await reader.read()
        finally:
            gone.set()

    served = await serve(silent)
    task = asyncio.create_task(prober.probe(spec(), served.port))
    async with asyncio.timeout(60):
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gone.wait()
