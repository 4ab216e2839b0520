"""docs/deploy/Dockerfile built and run without an engine: Debian's buildah executes it.

A Debian of debootstrap's stands in for the base image, and the wheels are fetched beforehand, by
the pip of this machine: the build reaches no network. Both are kept, and made by root in minutes.
All that is built and run has namespaces and memory of its own, and is gone with them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.conftest import COMPONENT, ROOT

__all__ = ["CAPABILITIES", "Container", "Host", "missing", "prepare"]

TREE: Final = Path(os.environ.get("HEALER_IMAGE_TREE", ROOT / ".venv" / "image"))
"""Holds `base.tar`, the stand-in for the base image, and `wheels`, what pip installs in it."""

CAPABILITIES: Final = {"kill": 5, "sys_ptrace": 19, "dac_read_search": 2}
"""The capabilities that the Dockerfile's comment gives the container, and their bits."""

_SUITE, _PYTHON = "trixie", "3.13"
_BASE: Final = f"docker.io/library/python:{_PYTHON}-slim"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PATIENCE: Final = 600.0

_CONFIG: Final = """
node: c1
store: sqlite:////var/lib/healer/healer.db
listen: 127.0.0.1:8000
defaults: {interval: 500ms, timeout: 5s, failure_threshold: 2, fast_interval: 100ms}
components:
  web:
    port: 8101
    probe: {http: /health}
    launch: {hook: [/etc/healer/start]}
    owner: {cmdline: component.py}
"""

_HOOK: Final = """#!/bin/sh
echo "$PORT $HEALER_LAUNCH_ID" > /etc/healer/door
"""

_HOST: Final = """set -e
ip link set lo up
mount -t tmpfs -o size=4g,mode=755 memory /var/lib
mount -t tmpfs -o mode=755 memory /run
mkdir /run/build /run/healer
mkfifo -m 600 /run/healer/door
cp "$0" /run/component.py
touch /run/healer/up
while read -r port id; do
    PORT=$port HEALER_LAUNCH_ID=$id setpriv --reuid=65534 --regid=65534 --clear-groups \\
        /usr/bin/python3 -S -E /run/component.py --port "$port" </dev/null &
done <>/run/healer/door
"""
"""What the host's init does: it starts the component, as another user, whenever the hook asks."""

_RUN: Final = """set -e
root=$1 volume=$2; shift 2
mount --bind "$root" "$root"
mkdir -p "$root/etc/healer"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount --bind /run/state "$root$volume"
mount --bind /run/healer "$root/etc/healer"
mount -o remount,bind,ro "$root/etc/healer"
mount -o remount,bind,ro "$root"
exec chroot "$root" env -i -C "$volume" "$@"
"""
"""What `docker run --pid=host --network=host --read-only --tmpfs /tmp -v` does."""


def missing() -> str | None:
    """What keeps this machine from building the image; None when nothing does."""
    if os.geteuid():
        return "only root can build and run the image"
    wanted = ("debootstrap", "buildah", "unshare", "nsenter", "setpriv", "ip")
    tools = [each for each in wanted if not shutil.which(each)]
    return f"not installed: {', '.join(tools)}" if tools else None


def prepare() -> None:
    """Make the base image's files and fetch the wheels where they are not there yet."""
    if not (TREE / "base.tar").exists():
        root = TREE / "root"
        shutil.rmtree(root, ignore_errors=True)
        TREE.mkdir(parents=True, exist_ok=True)
        packages = "--include=python3,python3-venv"
        _do("debootstrap", "--variant=minbase", packages, _SUITE, str(root))
        for name in ("python", "python3"):  # where the base image has it
            (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3")
        fresh = TREE / "base.tar.new"
        leave = [f"--exclude=./{each}" for each in ("proc/*", "sys/*", "dev/*", "var/cache/apt/*")]
        _do("tar", "-C", str(root), *leave, "-cf", str(fresh), ".")
        fresh.rename(TREE / "base.tar")
        shutil.rmtree(root)
    lock = ROOT / "requirements.txt"
    wheels, of = TREE / "wheels", TREE / "wheels.of"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not of.exists() or of.read_text() != digest:
        shutil.rmtree(wheels, ignore_errors=True)
        target = ("--python-version", _PYTHON, "--only-binary=:all:", "--dest", str(wheels))
        locked = ("--no-deps", "--require-hashes", "-r", str(lock))
        _do(sys.executable, "-m", "pip", "download", "--quiet", *locked, *target)
        of.write_text(digest)
    (TREE / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")


def _do(*argv: str) -> None:
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


def _until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + _PATIENCE
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {_PATIENCE:g} s: {what}"
        time.sleep(0.1)
    return answer


def _child_of(process: subprocess.Popen[bytes]) -> int:
    """The process that `process`, which has one thread, waits for; 0 while there is none."""
    assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(children[0]) if children else 0


class Host:
    """A host with processes, network and mounts of its own while the context lasts. It holds the
    image, and a component that the healer's hook has started."""

    def __enter__(self) -> Host:
        namespaces = ("--mount", "--net", "--pid", "--mount-proc", "--fork", "--kill-child")
        self._unshare = subprocess.Popen(
            ["unshare", *namespaces, "sh", "-c", _HOST, COMPONENT],
            stdin=subprocess.DEVNULL,
            env={"PATH": _PATH},
            start_new_session=True,
        )
        try:
            self._init = _until(lambda: _child_of(self._unshare), "the host's init")
            up = self.enter("test", "-e", "/run/healer/up")
            _until(lambda: _run(up).returncode == 0, "the host")
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._unshare.kill()  # and with it its child, and with that one all others there
        self._unshare.wait()

    def _build(self) -> None:
        base = self.buildah("from", "scratch")
        self.buildah("add", "-q", base, str(TREE / "base.tar"), "/")
        self.buildah("commit", "-q", "--rm", base, _BASE)
        binds = {TREE / "pip.conf": "/etc/pip.conf", TREE / "wheels": "/wheels"}
        volumes = [f"--volume={source}:{target}:ro" for source, target in binds.items()]
        file = ("-f", str(ROOT / "docs" / "deploy" / "Dockerfile"))
        form = ("--isolation", "chroot", "--format", "docker", "--pull-never")
        self.buildah("build", *form, *volumes, *file, "-t", "healer", str(ROOT))
        image = json.loads(self.buildah("inspect", "--type", "image", "healer"))
        self.config: dict[str, Any] = image["Docker"]["config"]
        """What the Dockerfile says beside the files: Entrypoint, Cmd, Healthcheck, ..."""
        name = self.buildah("from", "--pull-never", "healer")
        self.root = self.buildah("mount", name)
        """The image's files."""
        (volume,) = self.config["Volumes"]
        self.run("cp", "-a", f"{self.root}{volume}", "/run/state")  # as a new volume is filled
        self.write("/run/healer/healer.yaml", _CONFIG)
        self.write("/run/healer/start", _HOOK)
        self.run("chmod", "755", "/run/healer/start")

    def buildah(self, *words: str) -> str:
        return self.run("env", "TMPDIR=/run/build", "buildah", "--storage-driver", "vfs", *words)

    def write(self, path: str, text: str) -> None:
        self.run("sh", "-c", 'printf %s "$1" > "$0"', path, text)

    def run(self, *argv: str) -> str:
        """What `argv` prints on the host, as root."""
        ran = _run(self.enter(*argv))
        assert ran.returncode == 0, f"{argv}: {ran.stdout}{ran.stderr}"
        return ran.stdout.strip()

    def enter(self, *argv: str) -> list[str]:
        """The words that run `argv` on the host."""
        return ["nsenter", "-a", "-t", str(self._init), *argv]


class Container:
    """The image's own command while the context lasts, run as the Dockerfile's comment says."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def __enter__(self) -> Container:
        config = self._host.config
        allowed = ",".join(f"+{each}" for each in CAPABILITIES)
        (volume,) = config["Volumes"]
        assert volume == config["WorkingDir"]
        self._nsenter = subprocess.Popen(
            self._host.enter(
                "unshare", "--mount", "sh", "-c", _RUN, "run", self._host.root, volume,
                *config["Env"], "setpriv", f"--bounding-set=-all,{allowed}", "--inh-caps=-all",
                *config["Entrypoint"], *config["Cmd"],
            ),
            stdin=subprocess.DEVNULL,
            env={"PATH": _PATH},
        )  # fmt: skip
        self._pid = _until(lambda: _child_of(self._nsenter), "the container's process")
        return self

    def __exit__(self, *_: object) -> None:
        if self._nsenter.poll() is None:
            os.kill(self._pid, signal.SIGKILL)
            self._nsenter.kill()  # it stops when what it waits for is stopped, and stays so
            self._nsenter.wait()

    def exec(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run `argv` in the container, as `docker exec` does."""
        return _run(["nsenter", "-a", "--root", "--wd", "-t", str(self._pid), *argv])

    def healthy(self) -> bool:
        """Whether the image's health check ends well now."""
        form, *argv = self._host.config["Healthcheck"]["Test"]
        assert form == "CMD"
        return self.exec(*argv).returncode == 0

    def status(self) -> dict[str, Any]:
        """What /proc says of the container's process."""
        lines = Path(f"/proc/{self._pid}/status").read_text().splitlines()
        return dict(line.split(":", 1) for line in lines)

    def signal(self, name: str) -> None:
        os.kill(self._pid, signal.Signals[name])

    def stop(self) -> int:
        """Its exit status, once it has had the signal that the image names."""
        self.signal(self._host.config["StopSignal"])
        return self._nsenter.wait(_PATIENCE)


def _run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE,
        env={"PATH": _PATH, "COLUMNS": "200"},
    )
