"""The token file: made once, kept to its owner."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from healer.api.token import make_token, read_token, token_path
from healer.config import parse
from healer.errors import ConfigError


def test_the_first_start_makes_it_and_the_next_finds_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "healer.token"
    token = make_token(path)
    assert len(bytes.fromhex(token)) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert make_token(path) == token == read_token(path)
    assert [each.name for each in path.parent.iterdir()] == ["healer.token"]


def test_two_are_never_the_same(tmp_path: Path) -> None:
    assert make_token(tmp_path / "a") != make_token(tmp_path / "b")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o666])
def test_one_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "healer.token"
    make_token(path)
    path.chmod(mode)
    for use in (make_token, read_token):
        with pytest.raises(ConfigError, match=rf"{path}.*mode {mode:04o}.*chmod 600"):
            use(path)


@pytest.mark.parametrize("content", [b"", b"secret of something else", b"ab" * 31, b"\xff" * 64])
def test_something_else_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "healer.token"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="it holds no token") as caught:
        make_token(path)
    assert "secret" not in str(caught.value)
    assert path.read_bytes() == content


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    make_token(tmp_path / "real")
    (tmp_path / "healer.token").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigError, match=r"cannot use .*it is a symbolic link; allowed: "):
        make_token(tmp_path / "healer.token")


def test_where_there_is_none_who_makes_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory; `healer serve` makes it"):
        read_token(tmp_path / "healer.token")


def test_one_that_cannot_be_read_is_not_for_serve_to_make(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="Not a directory; allowed: a file that the user of"):
        read_token(tmp_path / "file" / "healer.token")


def test_a_pipe_does_not_hold_us_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "healer.token", 0o600)
    with pytest.raises(ConfigError, match="not a regular file"):
        read_token(tmp_path / "healer.token")


def test_a_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot use the token file"):
        make_token(tmp_path / "file" / "healer.token")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("store: sqlite:///data/h.db", "data/healer.token"),
        ("token_file: secret/t", "secret/t"),
        ("{store: 'postgresql://u@h/d', logs: l}", "l/healer.token"),
    ],
)
def test_it_lies_beside_the_log(tmp_path: Path, text: str, expected: str) -> None:
    config = parse(text, source="x", environ={}, hostname="h", directory=tmp_path)
    assert token_path(config) == tmp_path / expected
