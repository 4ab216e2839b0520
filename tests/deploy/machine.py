"""A small Debian that systemd boots in a container, with the healer as docs/deploy describes it.

The tree is made once, by debootstrap (it needs root, and a few minutes); what the machine writes
goes into memory and is gone with it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from tests.conftest import COMPONENT, ROOT

__all__ = ["DEPLOY", "TREE", "Machine", "missing", "prepare"]

DEPLOY: Final = ROOT / "docs" / "deploy"
TREE: Final = Path(os.environ.get("HEALER_SYSTEMD_TREE", ROOT / ".venv" / "systemd"))
"""Holds `root`, the machine's files, and `opt`, the healer's."""

_SUITE, _PYTHON = "bookworm", "3.11"
_PACKAGES: Final = "systemd,systemd-sysv,libpam-systemd,dbus,polkitd,python3,procps"
_BOOTED: Final = 600.0

_UNIT: Final = """
[Service]
User=nobody
ExecStart=/usr/bin/python3 -S -E /opt/component.py --port 8102
[Install]
WantedBy=multi-user.target
"""

CONFIG: Final = """
node: m1
store: sqlite:////var/lib/healer/healer.db
defaults: {interval: 500ms, timeout: 5s, failure_threshold: 2, fast_interval: 100ms}
components:
  web:
    port: 8101
    probe: {http: /health}
    launch: {command: [/usr/bin/python3, -S, -E, /opt/component.py, --port, "{port}"]}
  unit:
    port: 8102
    probe: {http: /health}
    launch: {systemd: kept.service}
"""


def missing() -> str | None:
    """What keeps this machine from booting another one; None when nothing does."""
    if os.geteuid():
        return "only root can boot a machine"
    tools = [
        each for each in ("debootstrap", "systemd-nspawn", "nsenter") if not shutil.which(each)
    ]
    return f"not installed: {', '.join(tools)}" if tools else None


def prepare() -> None:
    """Make the machine's tree where it is not there yet, and put today's healer beside it."""
    root, opt = TREE / "root", TREE / "opt"
    if not (TREE / ".made").exists():
        shutil.rmtree(root, ignore_errors=True)
        TREE.mkdir(parents=True, exist_ok=True)
        packages = f"--include={_PACKAGES}"
        _do("debootstrap", "--variant=minbase", packages, _SUITE, str(root))
        _pip(opt, "--require-hashes", "-r", str(ROOT / "requirements.txt"))
        (TREE / ".made").touch()
    site = _site(opt)
    for package in ("healer", "projections", "replay"):
        shutil.rmtree(site / package, ignore_errors=True)
        shutil.copytree(
            ROOT / package, site / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    (opt / "bin").mkdir(exist_ok=True)
    (opt / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {_PYTHON}\n")
    python = opt / "bin" / "python"
    if not python.is_symlink():
        python.symlink_to("/usr/bin/python3")
    program = opt / "bin" / "healer"
    program.write_text("#!/opt/healer/bin/python\nfrom healer.__main__ import main\nmain()\n")
    program.chmod(0o755)


def _site(opt: Path) -> Path:
    return opt / "lib" / f"python{_PYTHON}" / "site-packages"


def _pip(opt: Path, *words: str) -> None:
    """Install for the machine's Python, which need not be ours."""
    target = ("--target", str(_site(opt)), "--python-version", _PYTHON, "--only-binary=:all:")
    _do(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *target, *words)


def _do(*argv: str) -> None:
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


class Machine:
    """Booted while the context lasts. Its network is its own."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init = 0

    def __enter__(self) -> Machine:
        self._furnish()
        with (self._scratch / "console").open("wb") as console:
            self._nspawn = self._boot(console)
        try:
            self._init = self._wait(self._find_init, "init")
            self._wait(self._booted, "the machine's boot")
            self._set_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._nspawn is not None
        self._nspawn.send_signal(signal.SIGTERM)
        try:
            self._nspawn.wait(30)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()

    def _boot(self, console: BinaryIO) -> subprocess.Popen[bytes]:
        binds = {
            TREE / "opt": "/opt/healer",
            Path(COMPONENT): "/opt/component.py",
            self._scratch / "healer.service": "/etc/systemd/system/healer.service",
            self._scratch / "kept.service": "/etc/systemd/system/kept.service",
            self._scratch / "50-healer.rules": "/etc/polkit-1/rules.d/50-healer.rules",
        }
        return subprocess.Popen(
            [
                "systemd-nspawn", "--quiet", "--boot", f"--directory={TREE / 'root'}",
                "--volatile=overlay", "--private-network", "--register=no", "--keep-unit",
                "--console=pipe", f"--machine=healer-test-{os.getpid()}",
                *(f"--bind-ro={source}:{target}" for source, target in binds.items()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
        )  # fmt: skip

    def _furnish(self) -> None:
        unit = (DEPLOY / "healer.service").read_text()
        # The one change: a hang is to be noticed within a test's patience.
        assert "WatchdogSec=30" in unit
        unit = unit.replace("WatchdogSec=30", "WatchdogSec=10\nTimeoutAbortSec=5")
        (self._scratch / "healer.service").write_text(unit)
        (self._scratch / "kept.service").write_text(_UNIT)
        rules = (DEPLOY / "50-healer.rules").read_text()
        (self._scratch / "50-healer.rules").write_text(
            rules.replace("message-bus.service", "kept.service")
        )

    def _set_up(self) -> None:
        self.run("useradd", "--system", "--home-dir", "/nonexistent", "healer")
        self.run("install", "-d", "/etc/healer")
        self.configure(CONFIG)
        # For the command line, whatever becomes of the other one.
        self.run("cp", "/etc/healer/healer.yaml", "/etc/healer/client.yaml")
        self.run("ip", "link", "set", "lo", "up", may_fail=True)
        self.run("systemctl", "start", "kept", "healer")

    def _find_init(self) -> int:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, (self._scratch / "console").read_text()
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text()
        return int(children.split()[0]) if children.split() else 0

    def _booted(self) -> bool:
        said = self.run("systemctl", "is-system-running", may_fail=True)
        return said in {"running", "degraded"}

    def _wait(self, condition: Callable[[], int], what: str) -> int:
        deadline = time.monotonic() + _BOOTED
        while not (answer := condition()):
            assert time.monotonic() < deadline, f"not within {_BOOTED:g} s: {what}"
            time.sleep(0.2)
        return answer

    def run(self, *argv: str, may_fail: bool = False) -> str:
        """What `argv` prints in the machine, as root."""
        ran = subprocess.run(
            ["nsenter", "-a", "-t", str(self._init), *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={"PATH": "/opt/healer/bin:/usr/sbin:/usr/bin:/sbin:/bin", "COLUMNS": "200"},
        )
        assert may_fail or ran.returncode == 0, f"{argv}: {ran.stdout}{ran.stderr}"
        return ran.stdout.strip()

    def configure(self, text: str) -> None:
        """Make `text` the healer's configuration, which only root may write."""
        script = f"cat > /etc/healer/healer.yaml <<'END'\n{text}\nEND\n"
        self.run("sh", "-c", script)

    def shown(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit)
