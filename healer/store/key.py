"""The private key that signs a log's checkpoints: in a file of its own, never in the log.

A change of keys happens in three steps that can each be the last one of a process: the new key is
written beside the old, a checkpoint signed by the old one names the new one, the new file takes the
place of the old. The old key is gone then: who takes the new one cannot rewrite earlier epochs.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from healer.errors import StoreError

__all__ = ["KeyFile", "public"]


def public(key: Ed25519PrivateKey) -> bytes:
    """The public half of `key` (32 bytes)."""
    return key.public_key().public_bytes_raw()


class KeyFile:
    """The file of a private key: PEM, PKCS #8, mode 0600, owned by us or by root."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting = path.with_name(f"{path.name}.next")

    def create(self) -> Ed25519PrivateKey:
        """A new key in a new file.

        A key that is there already is taken as it is: the process that made it ended before it
        could sign.

        Raises:
            StoreError: the file cannot be made, or others could read it or put another in its
                place.
        """
        self._check_directory()
        if not self.path.exists():
            # Under another name first: a file cut short by a crash would never open again.
            key = Ed25519PrivateKey.generate()
            self._write(self._waiting, key)
            self._replace()
            return key
        return self._read(self.path)

    def load(self, expected: bytes) -> Ed25519PrivateKey:
        """The key whose public half is `expected`; finishes a change of keys that was cut short.

        Raises:
            StoreError: the file is missing, others may read it, or it holds another key.
        """
        self._check_directory()
        key = self._read(self.path)
        if public(key) == expected:
            return key
        if self._waiting.exists():
            waiting = self._read(self._waiting)
            if public(waiting) == expected:
                self._replace()
                return waiting
        raise StoreError(
            f"cannot sign with {self.path}: it holds the key {public(key).hex()}; allowed: "
            f"{expected.hex()}, with which the log was signed last"
        )

    def prepare(self) -> Ed25519PrivateKey:
        """A new key, durable beside the one in use, which it replaces at `switch`.

        Raises:
            StoreError: it cannot be written.
        """
        key = Ed25519PrivateKey.generate()
        self._write(self._waiting, key)
        return key

    def switch(self) -> None:
        """The prepared key replaces the one in use, which is gone.

        Raises:
            StoreError: the files cannot be renamed.
        """
        self._replace()

    def _check_directory(self) -> None:
        directory = self.path.parent
        try:
            mode = directory.stat().st_mode
        except OSError as error:
            raise StoreError(f"cannot use {self.path}: {error.strerror}") from error
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise StoreError(
                f"cannot use {self.path}: every user may replace files in {directory}, its mode is "
                f"{stat.S_IMODE(mode):04o}; allowed: 0700"
            )

    def _read(self, path: Path) -> Ed25519PrivateKey:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise StoreError(f"cannot use {path}: it is not a regular file")
                content = file.read()
        except OSError as error:
            raise StoreError(
                f"cannot use {path}: {error.strerror}; without its key the log cannot be signed"
            ) from error
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise StoreError(
                f"cannot use {path}: its mode {stat.S_IMODE(status.st_mode):04o} lets others use "
                "the key; allowed: 0600"
            )
        if status.st_uid not in {0, os.geteuid()}:
            raise StoreError(
                f"cannot use {path}: it belongs to user {status.st_uid}; allowed: "
                f"{os.geteuid()} or root"
            )
        try:
            key = load_pem_private_key(content, password=None)
        except (TypeError, ValueError) as error:
            raise StoreError(f"cannot use {path}: it is not a PEM private key") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise StoreError(f"cannot use {path}: it is not an Ed25519 key")
        return key

    def _write(self, path: Path, key: Ed25519PrivateKey) -> None:
        content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        try:
            with suppress(FileNotFoundError):
                path.unlink()
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            self._sync_directory()
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}") from error

    def _replace(self) -> None:
        try:
            self._waiting.replace(self.path)
            self._sync_directory()
        except OSError as error:
            raise StoreError(f"cannot replace {self.path}: {error.strerror}") from error

    def _sync_directory(self) -> None:
        descriptor = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
