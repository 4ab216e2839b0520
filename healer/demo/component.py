"""A component to break: a tiny HTTP service that can make real trouble inside itself.

    python -m healer.demo.component --port 8220

`GET /health` answers 200 with `{name, pid, port, launch}`. `POST /fault {"kind": KIND}` answers 202
and then makes the trouble that `FAULTS` describes; it lasts until the process is started anew. The
demo, the tests and the benchmarks start it. Bare sockets and the standard library only, and few
modules even of that: what it costs to start is the floor that every healing is measured against.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
import sys
import time

__all__ = ["FAULTS", "main"]

# Mapping, not Final[dict]: importing `typing` would cost a tenth of the whole start.
FAULTS = {
    "crash": "killed by SIGKILL from within",
    "exit": "leaves with exit status 3",
    "500": "answers every look with 500",
    "hang": "accepts connections and never answers",
    "close_listener": "lives on, but listens no more",
    "orphan": "dies, while a child that it forked keeps the listening socket",
    "rebind_wrong": "listens on 127.0.0.2 only",
}

USAGE = """\
usage: component --port N [--host H] [--name X] [--workers N] [--start-delay SECONDS]
                 [--ignore-sigterm] [--no-reuseaddr] [--child-holds] [--lie-in-wait]
                 [--broken-until-restart FLAGFILE] [--crash-loop FILE]

  --port N                       where to listen (also: the variable PORT)
  --host H                       on which IPv4 or IPv6 address (127.0.0.1)
  --name X                       what /health says (the variable HEALER_COMPONENT, or "component")
  --workers N                    that many more processes share the port (SO_REUSEPORT)
  --start-delay SECONDS          listen only then
  --ignore-sigterm               end by SIGKILL only
  --no-reuseaddr                 bind without SO_REUSEADDR: TIME_WAIT holds the port
  --child-holds                  a child inherits the listening socket and sleeps
  --lie-in-wait                  say so while another has the port, and take it once it is free
  --broken-until-restart FILE    while FILE exists answer 500; the next start removes it
  --crash-loop FILE              exit with status 4 at once while FILE exists
"""

_VALUES = {
    "--port": "",
    "--host": "127.0.0.1",
    "--name": "",
    "--workers": "0",
    "--start-delay": "0",
    "--broken-until-restart": "",
    "--crash-loop": "",
}
_FLAGS = ("--ignore-sigterm", "--no-reuseaddr", "--child-holds", "--lie-in-wait")
_REASONS = {200: "OK", 202: "Accepted", 400: "Bad Request", 404: "Not Found", 500: "Broken"}
_REQUEST_LIMIT = 65536  # bytes; a request that is longer is not one of ours
_WRONG_HOST = "127.0.0.2"


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM.

    The exit status: 0 terminated, 1 cannot listen, 2 usage, 3 the faults "exit" and "orphan",
    4 the crash loop.
    """
    try:
        values, flags = _options(arguments)
        host = values["--host"]
        port = int(values["--port"] or os.environ.get("PORT", ""))
        workers, delay = int(values["--workers"]), float(values["--start-delay"])
    except ValueError as error:
        _say(f"cannot start: {error}\n{USAGE}")
        return 2
    if values["--crash-loop"] and os.path.exists(values["--crash-loop"]):  # noqa: PTH110 - pathlib costs start time
        return 4
    signal.signal(
        signal.SIGTERM, signal.SIG_IGN if "--ignore-sigterm" in flags else lambda *_: os._exit(0)
    )
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a child that ends must not stay as a zombie
    if delay:
        time.sleep(delay)
    component = Component(
        name=values["--name"] or os.environ.get("HEALER_COMPONENT", "component"),
        host=host,
        port=port,
        reuse_address="--no-reuseaddr" not in flags,
        reuse_port=workers > 0,
        broken_flag=values["--broken-until-restart"],
    )
    try:
        if "--lie-in-wait" in flags:
            component.lie_in_wait(host)
        else:
            component.listen(host)
    except OSError as error:
        _say(f"cannot listen on {host} port {port}: {error}\n")
        return 1
    if "--child-holds" in flags:
        component.leave_holder()
    for _ in range(workers):
        if os.fork() == 0:
            component.listen(host)
            break
    component.serve()
    return 0


class Component:
    """One process's worth of service: a listener, its connections, and the faults it has."""

    def __init__(
        self,
        *,
        name: str,
        host: str,
        port: int,
        reuse_address: bool,
        reuse_port: bool,
        broken_flag: str,
    ) -> None:
        self._name = name
        self._host = host
        self._port = port
        self._reuse_address = reuse_address
        self._reuse_port = reuse_port
        self._flag = broken_flag
        self._broken = False
        self._hung = False
        self._selector = selectors.DefaultSelector()
        self._listener: socket.socket | None = None
        self._received: dict[socket.socket, bytes] = {}
        if broken_flag and os.path.exists(broken_flag):  # noqa: PTH110 - pathlib costs start time
            os.unlink(broken_flag)  # noqa: PTH108 - pathlib costs start time

    def listen(self, host: str) -> None:
        """Listen on `host` and nowhere else from now on."""
        self._close_listener()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        if self._reuse_address:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, self._port))
        listener.listen(128)
        listener.setblocking(False)
        self._listener = listener

    def lie_in_wait(self, host: str) -> None:
        """Listen on `host` once nobody else does; until then one line says that it waits."""
        waiting = False
        while True:
            try:
                return self.listen(host)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            if not waiting:
                waiting = True
                _say("waiting for the port\n")
            time.sleep(0.001)

    def leave_holder(self) -> int:
        """Fork a child that holds the listening socket and does nothing else; its pid."""
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for connection in self._received:
                connection.close()
            while True:
                signal.pause()
        return child

    def serve(self) -> None:
        """Answer until a signal ends the process."""
        # An epoll instance made before a fork would be shared by all processes.
        self._selector = selectors.DefaultSelector()
        self._watch_listener()
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket):
                    self._read(key.fileobj)

    def _watch_listener(self) -> None:
        if self._listener is not None:
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the client went away between the two calls
        connection.setblocking(True)
        self._received[connection] = b""
        self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, connection: socket.socket) -> None:
        try:
            piece = connection.recv(_REQUEST_LIMIT)
        except ConnectionError:
            piece = b""
        received = self._received[connection] + piece
        self._received[connection] = received
        if not piece or len(received) > _REQUEST_LIMIT:
            self._drop(connection)
        elif not self._hung and _is_whole(received):
            self._answer(connection, received)

    def _answer(self, connection: socket.socket, request: bytes) -> None:
        head, _, body = request.partition(b"\r\n\r\n")
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        verb, path = (words[0], words[1]) if len(words) == 3 else ("", "")
        fault = None
        if (verb, path) == ("POST", "/fault"):
            fault = _kind(body)
            status = 202 if fault in FAULTS else 400
            answer: dict[str, object] = {"kind": fault, "allowed": list(FAULTS)}
        elif self._broken or (self._flag and os.path.exists(self._flag)):  # noqa: PTH110 - as above
            status, answer = 500, {"error": "broken until restarted"}
        elif path == "/health":
            launch = os.environ.get("HEALER_LAUNCH_ID")
            status = 200
            answer = {"name": self._name, "pid": os.getpid(), "port": self._port, "launch": launch}
        else:
            status, answer = 404, {"error": f"cannot find {path}; there are /health and /fault"}
        self._send(connection, status, answer)
        if status == 202 and fault is not None:
            self._suffer(fault)

    def _send(self, connection: socket.socket, status: int, answer: dict[str, object]) -> None:
        import json  # noqa: PLC0415 - not needed to be listening

        body = json.dumps(answer).encode()
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        try:
            connection.sendall(head.encode() + body)
        except ConnectionError:
            _say("the client left before it was answered\n")
        self._drop(connection)

    def _suffer(self, fault: str) -> None:
        if fault == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault == "exit":
            os._exit(3)
        elif fault == "500":
            self._broken = True
        elif fault == "hang":
            self._hung = True
        elif fault == "close_listener":
            self._close_listener()
        elif fault == "orphan":
            self.leave_holder()
            os._exit(3)
        elif fault == "rebind_wrong":
            self.listen(_WRONG_HOST)
            self._watch_listener()

    def _close_listener(self) -> None:
        if self._listener is not None:
            if self._listener in self._selector.get_map():
                self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _drop(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._received[connection]
        connection.close()


def _options(arguments: list[str]) -> tuple[dict[str, str], set[str]]:
    values, flags = dict(_VALUES), set[str]()
    words = iter(arguments)
    for word in words:
        option, glued, value = word.partition("=")
        if option in _FLAGS and not glued:
            flags.add(option)
        elif option in values:
            values[option] = value if glued else next(words, "")
            if not values[option]:
                raise ValueError(f"{option} wants a value")
        else:
            raise ValueError(f"{word!r} is not an option")
    return values, flags


def _is_whole(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    if not end:
        return False
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"content-length" and value.strip().isdigit():
            return len(body) >= int(value)
    return True


def _kind(body: bytes) -> str:
    import json  # noqa: PLC0415 - not needed to be listening

    try:
        fault = json.loads(body)
    except ValueError:
        return ""
    return str(fault.get("kind", "")) if isinstance(fault, dict) else ""


def _say(text: str) -> None:
    sys.stderr.write(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
