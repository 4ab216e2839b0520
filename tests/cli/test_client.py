"""What the command line says of whatever answers it: one line, whoever that is."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from healer.cli.client import Client, NoHealerError, RefusedError
from healer.cli.outcome import BAD_INPUT, FAILED, exit_status
from healer.config import Config, parse

TOKEN = "ab" * 32


def http(status: str, body: bytes, *, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), size, body)


@contextmanager
def answering(port: int, answer: bytes) -> Iterator[None]:
    """Something that answers one request, whatever it is."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(60)

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(60)
                while b"\r\n\r\n{}" not in peer.recv(65536, socket.MSG_PEEK):
                    pass
                peer.recv(65536)
                peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            thread.join()


@pytest.fixture
def config(tmp_path: Path, free_port: int) -> Config:
    text = f"{{listen: '127.0.0.1:{free_port}', token_file: token}}"
    made = parse(text, source="x", environ={}, hostname="h", directory=tmp_path)
    (tmp_path / "token").touch(0o600)
    (tmp_path / "token").write_text(TOKEN)
    return made


Refused = Callable[[bytes], NoHealerError | RefusedError]


@pytest.fixture
def refused(config: Config) -> Refused:
    """How acting fails when it is answered so."""

    def ask(answer: bytes) -> NoHealerError | RefusedError:
        with (
            answering(config.endpoint[1], answer),
            pytest.raises((NoHealerError, RefusedError)) as caught,
        ):
            Client(config).post("/heal", {})
        assert len(str(caught.value).splitlines()) == 1
        assert str(caught.value).startswith("cannot ")
        error: NoHealerError | RefusedError = caught.value
        return error

    return ask


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        http("200 OK", b"hello"),
        http("200 OK", b"[]"),
        http("200 OK", b"7"),
        http("404 Not Found", b"{}"),
        http("502 Bad Gateway", b"null"),
    ],
)
def test_what_is_no_healer_is_called_that(refused: Refused, config: Config, answer: bytes) -> None:
    error = refused(answer)
    where = config.listen
    assert str(error) == f"cannot understand what answers at {where}: it is no healer"
    assert exit_status(error) == FAILED


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "it hung up without an answer"),
        (http("200 OK", b'{"accepted"', length=99), "it hung up in the middle of its answer"),
    ],
)
def test_who_hangs_up_is_not_reached(refused: Refused, answer: bytes, said: str) -> None:
    error = refused(answer)
    assert f": {said}; start one with `healer serve`" in str(error)
    assert exit_status(error) == FAILED


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_a_token_that_is_refused_is_named_by_its_file(
    refused: Refused, config: Config, status: str
) -> None:
    error = refused(http(status, b'{"detail": "cannot act"}'))
    assert str(error) == f"cannot act (the token sent is that of {config.token_file})"
    assert exit_status(error) == BAD_INPUT
    assert TOKEN not in str(error)


def test_what_is_refused_for_something_else_names_no_token(refused: Refused) -> None:
    error = refused(http("409 Conflict", b'{"detail": "cannot heal: paused"}'))
    assert str(error) == "cannot heal: paused"
    assert exit_status(error) == FAILED
