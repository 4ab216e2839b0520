"""Tokens and TLS, with a real daemon and the command line beside it."""

from __future__ import annotations

import ipaddress
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.cli.conftest import House, environment
from tests.conftest import Until


def certificate(directory: Path) -> Path:
    """A certificate for localhost that signs itself, and its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    alternative = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = directory / "cert.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file


def test_tokens_are_made_used_listed_and_revoked(house: House, until: Until) -> None:
    made = house.json("token", "create", "alice", "--scope", "operate", "--expires", "90d")
    assert (made["name"], made["scope"], made["valid"]) == ("alice", "operate", True)
    shown = house.run("token", "list")
    assert made["token"] not in shown.stdout
    daemon = house.serve(until)
    url = f"http://127.0.0.1:{house.listen}/network-healer/pause"
    headers = {"Authorization": f"Bearer {made['token']}"}
    with httpx.Client(trust_env=False, timeout=120) as client:
        assert client.post(url, headers=headers).json()["paused"]["actor"] == "api:alice"
        assert house.run("token", "revoke", "alice").returncode == 0
        assert client.post(url, headers=headers).status_code == 401
    assert house.json("token", "list") == {"tokens": []}
    assert house.run("token", "revoke", "alice").returncode == 2
    local = (house.directory / "healer.token").read_text()
    assert house.run("token", "show").stdout == local
    assert house.json("token", "show", "-o", "json") == {"token": local.strip()}
    assert house.stop(daemon) == 0
    # Nothing that was written holds a token: not the log, not the files, not what was said.
    for file in house.directory.rglob("*"):
        if file.is_file() and file.name != "healer.token":
            content = file.read_bytes()
            assert made["token"].encode() not in content, file
            assert local.strip().encode() not in content, file


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("create", "ci", "--scope", "root"), "read, operate, admin"),
        (("create", "ci", "--expires", "soon"), "is not a duration"),
        (("create", "ci", "--expires", "0s"), "expires at once"),
        (("revoke", "nobody"), "nobody"),
    ],
)
def test_a_wrong_word_makes_no_token(house: House, words: tuple[str, ...], said: str) -> None:
    ran = house.run("token", *words)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert not (house.directory / "healer.tokens").exists()


def refused(house: House) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "healer", "serve", "-c", str(house.config)]
    return subprocess.run(
        argv, cwd=house.directory, env=environment(), capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def test_another_address_needs_tls_and_a_token(house: House, until: Until) -> None:
    text = house.config.read_text().replace("listen: 127.0.0.1", "listen: 0.0.0.0")
    house.write(text)
    ran = refused(house)
    assert ran.returncode == 2
    assert "healer token create" in ran.stderr
    certificate(house.directory)
    house.write(f"{text}tls: {{certificate: cert.pem, key: key.pem}}\n")
    assert refused(house).returncode == 2
    made = house.json("token", "create", "eyes", "--scope", "read")
    daemon = house.start()
    context = ssl.create_default_context(cafile=str(house.directory / "cert.pem"))
    base = f"https://localhost:{house.listen}"
    with httpx.Client(verify=context, trust_env=False, timeout=120) as client:

        def ready() -> bool:
            try:
                return client.get(f"{base}/readyz").status_code == 200
            except httpx.TransportError:
                return False

        until(ready)
        stats = f"{base}/network-healer/stats"
        assert client.get(stats).status_code == 401
        headers = {"Authorization": f"Bearer {made['token']}"}
        assert client.get(stats, headers=headers).status_code == 200
        act = f"{base}/network-healer/initialize"
        assert client.post(act, headers=headers).status_code == 403
    # The command line of this machine uses its own token, over TLS.
    assert house.json("status")["live"] is True
    assert house.json("pause")["paused"]["actor"] == "api:local"
    assert house.stop(daemon) == 0


def test_a_certificate_that_cannot_be_used_is_refused_before_anything_is_touched(
    house: House,
) -> None:
    file = certificate(house.directory)
    (house.directory / "key.pem").write_text("no key")
    house.write(f"{house.config.read_text()}tls: {{certificate: cert.pem, key: key.pem}}\n")
    ran = refused(house)
    assert ran.returncode == 2
    assert str(file) in ran.stderr
    assert not (house.directory / "healer.db").exists()


def test_reading_can_demand_a_token_on_loopback(house: House, until: Until) -> None:
    house.write(f"{house.config.read_text()}auth: {{read: token}}\n")
    daemon = house.serve(until)
    assert house.get("/network-healer/stats").status_code == 401
    assert house.json("status")["live"] is True
    assert house.stop(daemon) == 0
