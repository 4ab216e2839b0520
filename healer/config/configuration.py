"""The configuration: one YAML file, taken whole or refused with all of its mistakes."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from healer.config.check import check_components
from healer.config.component import component_schema, read_component
from healer.config.document import DocumentError, read_document
from healer.config.environment import substitute
from healer.config.file import read_file
from healer.config.guardian import NatsSpec, SinkSpec, read_sinks
from healer.config.problem import Problems, unknown_key, validated
from healer.config.telemetry import TelemetrySpec
from healer.domain.duration import Duration
from healer.domain.spec import Budget, ComponentSpec, Criticality, Mode, check_name
from healer.domain.value import Value
from healer.errors import ConfigError

__all__ = [
    "PLAYBOOKS",
    "Config",
    "Defaults",
    "check_store",
    "config_schema",
    "load",
    "parse",
    "split_listen",
]

PLAYBOOKS: Final = ("restart_component", "clear_port", "rebind_port", "diagnose_network")
_STORES: Final = "sqlite:///FILE or postgresql://USER@HOST/DATABASE"

_HOST: Final = r"^[A-Za-z0-9][A-Za-z0-9.-]{0,252}(:[0-9]{1,5})?$"


class Defaults(Value):
    """What holds for every component that does not say otherwise; durations in seconds."""

    interval: Annotated[Duration, Field(ge=0.01)] = 5.0
    fast_interval: Annotated[Duration, Field(ge=0.005)] = 0.25
    timeout: Annotated[Duration, Field(ge=0.005)] = 2.0
    failure_threshold: Annotated[int, Field(ge=1, le=1000)] = 3
    success_threshold: Annotated[int, Field(ge=1, le=1000)] = 2
    start_period: Duration = 10.0
    mode: Mode = Mode.ACT
    criticality: Criticality = Criticality.MEDIUM


class Signing(Value):
    """How the log is signed: a key that has signed for `rotate_every` seconds hands over to a new
    one and is destroyed. None: it signs for ever."""

    rotate_every: Annotated[Duration, Field(ge=60)] | None = None


def _check_store_url(url: str) -> str:
    scheme, found, rest = url.partition("://")
    if scheme == "sqlite" and found and rest.startswith("/") and len(rest) > 1:
        return url
    if scheme == "postgresql" and found and rest:
        return url
    # The rest of the URL may hold a password.
    raise ValueError(f"the scheme {scheme!r} cannot be used; allowed: {_STORES}")


def split_listen(listen: str) -> tuple[str, int]:
    """Host and port of `listen`.

    Raises:
        ValueError: it is not host:port.
    """
    host, colon, port = listen.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    bracketed = bare != host
    numeric = port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65535
    if not colon or not bare or not numeric or (":" in bare) != bracketed:
        raise ValueError(f"{listen!r} is not host:port; allowed: 127.0.0.1:8000, [::1]:8000")
    return bare, int(port)


def _check_listen(listen: str) -> str:
    split_listen(listen)
    return listen


class Auth(Value):
    """Who may do what. `read`: `open` on loopback needs no token for reading, `token` always does.
    `acting_per_minute` is how often each token may act."""

    read: Annotated[str, Field(pattern="^(open|token)$")] = "open"
    acting_per_minute: Annotated[int, Field(ge=1, le=100_000)] = 120


class Tls(Value):
    """The certificate (with its chain) and its key, as PEM files."""

    certificate: Path
    key: Path


class Lease(Value):
    """Where several nodes share the log: for how long (`term`, in seconds) a node that is not heard
    of keeps the issue that it is healing. It is renewed each third of that."""

    term: Annotated[Duration, Field(ge=1, le=3600)] = 15.0


class Alerts(Value):
    """Which labels (tags) of an alert name the component and the type of the issue."""

    component_label: Annotated[str, Field(min_length=1, max_length=200)] = "component"
    issue_type_label: Annotated[str, Field(min_length=1, max_length=200)] = "issue_type"


class Config(Value):
    """A configuration in force. Paths are absolute, `sqlite:///` URLs too (`sqlite:////...`).

    `hosts` are further names by which the healer is called: a Host header may say them.
    `logs` is beside a SQLite store when nothing is said. `token_file` None means that the doors
    choose a place for the token. `witness` is a file, best of another user, that gains a line with
    each signed checkpoint of a log in SQLite.
    """

    node: Annotated[str, AfterValidator(check_name)]
    lease: Lease = Lease()
    store: Annotated[str, AfterValidator(_check_store_url)] = "sqlite:///healer.db"
    listen: Annotated[str, AfterValidator(_check_listen)] = "127.0.0.1:8000"
    hosts: tuple[Annotated[str, Field(pattern=_HOST)], ...] = ()
    tls: Tls | None = None
    auth: Auth = Auth()
    logs: Path = Path("logs/network_healer")
    token_file: Path | None = None
    witness: Path | None = None
    signing: Signing = Signing()
    defaults: Defaults = Defaults()
    budget: Budget = Budget()
    guardian: tuple[SinkSpec, ...] = ()
    alerts: Alerts = Alerts()
    telemetry: TelemetrySpec | None = None
    components: dict[str, ComponentSpec] = Field(default_factory=dict)

    @property
    def endpoint(self) -> tuple[str, int]:
        """The host and port of `listen`."""
        return split_listen(self.listen)

    @property
    def exposed(self) -> bool:
        """Whether `listen` is more than this machine."""
        host, _ = self.endpoint
        try:
            return not ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host != "localhost"


def load(
    path: Path,
    *,
    environ: Mapping[str, str],
    hostname: str,
    playbooks: Collection[str] = PLAYBOOKS,
) -> Config:
    """The configuration in the file `path`. Blocks on the disk.

    Raises:
        ConfigError: it cannot be read, may be written by everybody, or `parse` refuses it.
    """
    source = str(path)
    text = read_file(path)
    directory = path.absolute().parent
    return parse(
        text,
        source=source,
        environ=environ,
        hostname=hostname,
        directory=directory,
        playbooks=playbooks,
    )


def parse(
    text: str,
    *,
    source: str,
    environ: Mapping[str, str],
    hostname: str,
    directory: Path,
    playbooks: Collection[str] = PLAYBOOKS,
) -> Config:
    """The configuration that `text` spells out. Relative paths start at `directory`.

    Raises:
        ConfigError: with every problem of the text, each with its line where it has one.
    """
    try:
        document = read_document(text)
    except DocumentError as error:
        raise ConfigError(source, [str(error)]) from error
    problems = Problems(document)
    unset: list[tuple[tuple[str, ...], str]] = []
    tree = substitute(document.tree, environ, unset)
    for path, what in unset:
        problems.spoil(path, what)
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise ConfigError(source, [f"it is {_kind(tree)}; allowed: a mapping of names to values"])
    config = _build(tree, problems, hostname, directory, playbooks)
    if problems.sentences() or config is None:
        raise ConfigError(source, problems.sentences())
    return config


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else "a single value"


def _build(
    tree: dict[str, Any],
    problems: Problems,
    hostname: str,
    directory: Path,
    playbooks: Collection[str],
) -> Config | None:
    for key in tree.keys() - Config.model_fields.keys():
        problems.add((key,), unknown_key(key, Config.model_fields))
    # An empty section (`components:` and nothing behind it) is one that was left out.
    tree = {key: tree[key] for key in Config.model_fields if tree.get(key) is not None}
    listed = tree.pop("components", {})
    if not isinstance(listed, dict):
        problems.add(("components",), f"is {_kind(listed)}; allowed: a mapping of names to values")
        listed = {}
    sinks = read_sinks(tree.pop("guardian", []), directory, problems)
    top = validated(Config, {"node": hostname, **tree}, (), problems)
    defaults = validated(Defaults, tree.get("defaults", {}), ("defaults",), problems)
    shared = (defaults or Defaults()).model_dump()
    components: dict[str, ComponentSpec] = {}
    for name, fields in listed.items():
        spec = read_component(name, fields, shared, directory, problems)
        if spec is not None:
            components[name] = spec
    check_components(
        components,
        names=listed.keys(),
        listen=top.endpoint if top else None,
        playbooks=playbooks,
        problems=problems,
    )
    if top is None:
        return None
    return top.model_copy(
        update={
            "components": components,
            "guardian": sinks,
            "store": _absolute_store(top.store, directory),
            "logs": (directory if "logs" in tree else _beside(top.store, directory)) / top.logs,
            "token_file": directory / top.token_file if top.token_file else None,
            "tls": top.tls
            and Tls(certificate=directory / top.tls.certificate, key=directory / top.tls.key),
            "witness": directory / top.witness if top.witness else None,
        }
    )


def _absolute_store(url: str, directory: Path) -> str:
    scheme, _, rest = url.partition(":///")
    return f"sqlite:///{directory / rest}" if scheme == "sqlite" else url


def _beside(url: str, directory: Path) -> Path:
    """Where the store's file lies: what belongs to it goes there too, since the configuration's own
    directory may be read-only."""
    scheme, _, rest = url.partition(":///")
    return (directory / rest).parent if scheme == "sqlite" else directory


def check_store(config: Config, *, source: str) -> None:
    """Refuse what this installation has no library for; for the composition root to call.

    Raises:
        ConfigError: what it needs is not installed.
    """
    needed = [
        (any(isinstance(sink, NatsSpec) for sink in config.guardian), "nats", *_NATS),
        (config.store.startswith("postgresql:"), "psycopg", *_POSTGRES),
        (_probed_by("grpc", config), "h2", *_GRPC),
        (config.telemetry is not None, "opentelemetry.exporter.otlp.proto.common", *_OTEL),
    ]
    for wanted, module, who, what, extra in needed:
        if wanted and not _is_there(module):
            why = f"{who} needs {what}, which is not installed"
            install = f"install it with: pip install 'network-healer[{extra}]'"
            raise ConfigError(source, [f"{why}; {install}"])


_NATS: Final = ("guardian: nats", "nats-py", "nats")
_POSTGRES: Final = ("store: postgresql", "psycopg", "postgres")
_GRPC: Final = ("probe: grpc", "h2", "grpc")
_OTEL: Final = ("telemetry", "opentelemetry-exporter-otlp-proto-http", "otel")


def _probed_by(kind: str, config: Config) -> bool:
    return any(spec.probe.kind == kind for spec in config.components.values())


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # what it stands in is not there
        return False


def config_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the file, for editors; `parse` checks more than it can say."""
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "healer.yaml"
    schema.pop("required", None)
    schema["$defs"] |= component_schema(Defaults.model_fields, schema["$defs"])
    return schema
