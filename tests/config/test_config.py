"""What a configuration file says, and what is answered to each mistake in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from healer.config import Config, Defaults, check_store, config_schema, load, parse
from healer.domain.spec import CommandLaunch, ComponentSpec, Mode, PortRange
from healer.errors import ConfigError

SAMPLE = Path(__file__).resolve().parents[2] / "docs" / "healer.yaml"


def read(text: str, **environ: str) -> Config:
    return parse(
        text,
        source="healer.yaml",
        environ=environ,
        hostname="host-1",
        directory=Path("/etc/healer"),
    )


def problems(text: str, **environ: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read(text, **environ)
    assert caught.value.source == "healer.yaml"
    assert str(caught.value).startswith("cannot use healer.yaml: ")
    return caught.value.problems


def problem(text: str, **environ: str) -> str:
    (only,) = problems(text, **environ)
    return only


def component(fields: str, name: str = "chat_api") -> str:
    return f"components:\n  {name}: {{port: 8220, {fields}}}\n"


def test_logs_are_beside_the_store_unless_it_is_said():
    elsewhere = "store: sqlite:////var/lib/healer/healer.db\n"
    assert read(elsewhere).logs == Path("/var/lib/healer/logs/network_healer")
    assert read(elsewhere + "logs: here\n").logs == Path("/etc/healer/here")
    assert read("store: postgresql://u@h/db\n").logs == Path("/etc/healer/logs/network_healer")


def test_an_empty_file_is_all_defaults():
    config = read("")
    assert config.node == "host-1"
    assert config.store == "sqlite:////etc/healer/healer.db"
    assert config.logs == Path("/etc/healer/logs/network_healer")
    assert config.endpoint == ("127.0.0.1", 8000)
    assert config.token_file is None
    assert config.components == {}


def test_an_empty_section_is_one_that_was_left_out():
    assert read("components:\nbudget:\ndefaults:\n") == read("")


def test_components_stand_over_the_defaults():
    text = "defaults: {interval: 1m, mode: observe}\n" + component("mode: act, timeout: 500ms")
    spec = read(text).components["chat_api"]
    assert (spec.name, spec.interval, spec.timeout, spec.mode) == ("chat_api", 60.0, 0.5, Mode.ACT)


def test_the_defaults_are_those_of_a_component():
    for name, field in Defaults.model_fields.items():
        assert ComponentSpec.model_fields[name].default == field.default
        assert ComponentSpec.model_fields[name].metadata == field.metadata


def test_the_sample_is_sound():
    config = parse(
        SAMPLE.read_text(), source="sample", environ={}, hostname="edge", directory=SAMPLE.parent
    )
    assert config.components["chat_api"].rebind == PortRange(first=8220, last=8229)
    assert config.components["chat_api"].interval == 5.0
    assert {8100, 8110, 8220, 8230, 8282} == {spec.port for spec in config.components.values()}
    assert Config.model_validate_json(config.model_dump_json()) == config


def test_the_defaults_in_the_sample_are_the_real_ones():
    config = parse(
        SAMPLE.read_text(), source="sample", environ={}, hostname="edge", directory=SAMPLE.parent
    )
    bare = parse("", source="bare", environ={}, hostname="edge", directory=SAMPLE.parent)
    for section in ("store", "listen", "logs", "defaults", "budget"):
        assert getattr(config, section) == getattr(bare, section)


def test_paths_start_at_the_file():
    text = component("launch: {command: [x], cwd: run, log: /var/log/x.log}")
    launch = (
        read(f"token_file: t\nstore: sqlite:////var/x.db\n{text}").components["chat_api"].launch
    )
    assert isinstance(launch, CommandLaunch)
    assert (str(launch.cwd), str(launch.log)) == ("/etc/healer/run", "/var/log/x.log")
    assert read("token_file: t").token_file == Path("/etc/healer/t")
    assert read("store: sqlite:////var/x.db").store == "sqlite:////var/x.db"


def test_a_number_is_text_where_text_is_wanted():
    launch = read(component("launch: {command: [serve, 0800, true, 1.50]}")).components
    assert launch["chat_api"].launch == CommandLaunch(command=("serve", "0800", "true", "1.50"))
    assert read("node: 12").node == "12"


def test_a_program_that_looks_is_a_list_of_texts():
    spec = read(component('probe: {exec: [check, 8220, "{port}"]}')).components["chat_api"]
    assert (spec.probe.kind, spec.probe.exec) == ("exec", ("check", "8220", "{port}"))
    long = read(component("probe: {kind: exec, exec: [check]}")).components["chat_api"]
    assert long.probe.exec == ("check",)


def test_a_call_asks_about_the_server_or_a_service_of_it():
    for written, service in (("grpc", None), ("{grpc: }", None), ("{grpc: a.B}", "a.B")):
        probe = read(component(f"probe: {written}")).components["chat_api"].probe
        assert (probe.kind, probe.grpc) == ("grpc", service)


def test_the_argument_of_a_handshake_may_be_left_out():
    for written in ("tls", "{tls: }", "{kind: tls}"):
        probe = read(component(f"probe: {written}")).components["chat_api"].probe
        assert (probe.kind, probe.tls, probe.verify) == ("tls", None, False)
    probe = read(component("probe: {tls: a.example, verify: yes}")).components["chat_api"].probe
    assert (probe.tls, probe.verify) == ("a.example", True)


def test_yes_and_no_and_times_are_what_they_look_like():
    config = read(
        component("owner: {cmdline: no}, evict_foreign: on, depends_on: [yes]") + "  yes: {port: 1}"
    )
    assert config.components["chat_api"].owner.cmdline == "no"
    assert config.components["chat_api"].evict_foreign is True


def test_anchors_and_merges_work():
    text = "components:\n  a: &a {port: 1, interval: 9s}\n  b: {<<: *a, port: 2}\n"
    assert read(text).components["b"].interval == 9.0


# variables


def test_variables_are_replaced_in_values():
    text = component('port: "${PORT}", timeout: "${T:-3}", owner: {cmdline: "$$x ${E:-} $y"}')
    spec = read(text.replace("port: 8220, ", ""), PORT="8230", E="").components["chat_api"]
    assert (spec.port, spec.timeout, spec.owner.cmdline) == (8230, 3.0, "$x  $y")


def test_a_variable_cannot_add_structure():
    text = component('owner: {cmdline: "${X}"}')
    spec = read(text, X='a", exe: /bin/sh, y: "\nnode: evil').components["chat_api"]
    assert spec.owner.exe is None


def test_an_unset_variable_is_named():
    assert "line 1: node: the environment variable NODE is not set" in problem("node: ${NODE}")


def test_a_broken_variable_is_shown_the_forms():
    assert "${NAME:-default}" in problem("logs: ${NO DE}")


# mistakes, one each

MISTAKES = {
    "unknown key": (
        "stor: x",
        ["line 1: stor: unknown key; did you mean 'store'?", "allowed: alerts, auth, budget"],
    ),
    "unknown key of a component": (
        component("prot: 1"),
        [
            "line 2: components.chat_api.prot: unknown key; did you mean 'port'?",
            "allowed: announce",
        ],
    ),
    "unknown key deep": (
        "budget: {backoff: {factr: 2}}",
        ["budget.backoff.factr: unknown key; did you mean 'factor'? allowed: factor, initial"],
    ),
    "duplicate key": (
        "node: a\nlogs: b\nnode: c",
        ["line 3: node: is there twice (first in line 1)"],
    ),
    "duplicate component": (
        "components:\n  a: {port: 1}\n  a: {port: 2}",
        ["line 3: components.a: is there twice (first in line 2)"],
    ),
    "missing port": ("components: {a: {}}", ["components.a.port: is required"]),
    "port out of range": (
        "components: {a: {port: 70000}}",
        ["components.a.port: 70000 cannot be used; allowed: a whole number from 1 to 65535"],
    ),
    "port that is none": (
        "components: {a: {port: http}}",
        ["components.a.port: 'http' is text; allowed: a whole number from 1 to 65535"],
    ),
    "bad name": ('components: {"../x": {port: 1}}', ["'../x' is not a name; allowed: 1 to 63"]),
    "component that is no mapping": ("components: {a: 8220}", ["components.a: is not a mapping"]),
    "components that are a list": ("components: [a]", ["components: is a list"]),
    "name in a component": (component("name: x"), ["components.chat_api.name"]),
    "bad duration": (
        component("timeout: 5 parsecs"),
        ["components.chat_api.timeout: '5 parsecs' is not a duration; allowed: 500ms, 5s"],
    ),
    "bad default": ("defaults: {interval: soon}", ["defaults.interval: 'soon' is not a duration"]),
    "bad mode": (component("mode: sugest"), ["did you mean 'suggest'? allowed: 'observe'"]),
    "bad share": ("budget: {max_unhealthy: 150%}", ["budget.max_unhealthy: '150%'", "equal to 1"]),
    "bad rebind": (component("rebind: 9-8"), ["components.chat_api.rebind: 9-8 ends before"]),
    "bad listen": ("listen: 127.0.0.1", ["listen: '127.0.0.1' is not host:port; allowed: 127"]),
    "bad IPv6 listen": ("listen: ::1:80", ["listen: '::1:80' is not host:port", "[::1]:8000"]),
    "bad store": ("store: mysql://u:secret@h/d", ["store: the scheme 'mysql'", "sqlite:///FILE"]),
    "duplicate port": (
        "components:\n  a: {port: 1}\n  b: {port: 1}",
        ["line 3: components.b.port: 1 is a's port already; allowed: a port that no other"],
    ),
    "duplicate port on a wildcard": (
        'components:\n  a: {port: 1, host: 10.0.0.1}\n  b: {port: 1, host: "::"}',
        ["components.b.port: 1 is a's port already"],
    ),
    "duplicate port by another name": (
        "components:\n  a: {port: 1, host: localhost}\n  b: {port: 1}",
        ["components.b.port: 1 is a's port already"],
    ),
    "the healer's own port": (
        "listen: 0.0.0.0:8220\n" + component(""),
        ["components.chat_api.port: 8220 is the port that the healer itself listens on"],
    ),
    "unknown dependency": (
        component("depends_on: [massage_bus]") + "  message_bus: {port: 1}",
        [
            "components.chat_api.depends_on.0: there is no component 'massage_bus'",
            "did you mean 'message_bus'? allowed: message_bus",
        ],
    ),
    "cycle": (
        "components:\n  a: {port: 1, depends_on: [b]}\n  b: {port: 2, depends_on: [a]}",
        ["line 2: components.a.depends_on: a cycle: a → b → a"],
    ),
    "cycle of one": (component("depends_on: [chat_api]"), ["a cycle: chat_api → chat_api"]),
    "unknown playbook": (
        component("routes: {port_conflict: [rebind_prot]}"),
        [
            "components.chat_api.routes.port_conflict.0: unknown playbook 'rebind_prot'",
            "did you mean 'rebind_port'? allowed: restart_component, clear_port, rebind_port",
        ],
    ),
    "diagnosis in a route": (
        component("routes: {port_conflict: [diagnose_network]}"),
        ["'diagnose_network' always runs, before every route; allowed: restart_component"],
    ),
    "unknown issue type": (
        component("routes: {port_conflit: [rebind_port]}"),
        ["'port_conflit' is unknown; did you mean 'port_conflict'?"],
    ),
    "launch of no kind": (
        component("launch: {comand: [x]}"),
        [
            "components.chat_api.launch: says nothing that starts a component",
            "did you mean 'command'? allowed: exactly one of command, systemd, docker",
        ],
    ),
    "launch of two kinds": (
        component("launch: {command: [x], docker: y}"),
        ["components.chat_api.launch: has command and docker; allowed: exactly one of"],
    ),
    "launch that is a word": (component("launch: systemd"), ["launch: says nothing that starts"]),
    "launch of one kind with another's key": (
        component("launch: {docker: x, cwd: /}"),
        ["components.chat_api.launch.cwd: unknown key; allowed: docker, grace"],
    ),
    "launch with a shell line": (
        component("launch: {command: serve --port 1}"),
        ["launch.command: is one text; allowed: [serve, --port, 1]"],
    ),
    "launch with what only a shell understands": (
        component('launch: {command: "a | b > c"}'),
        ['launch.command: is one text; allowed: [sh, -c, "a | b > c"]'],
    ),
    "launch with a quotation without an end": (
        component("launch: {command: it's}"),
        ["launch.command: is one text; allowed: [PROGRAM, ARGUMENT]"],
    ),
    "launch that is a shell line": (
        component("launch: \"serve --name 'a b' --port {port}\""),
        ['launch: is one text; allowed: {command: [serve, --name, "a b", --port, "{port}"]}'],
    ),
    "dependency that is no list": (
        component("depends_on: message_bus"),
        ["depends_on: is one text; allowed: [message_bus]"],
    ),
    "tab": (
        "components:\n  a:\n\tport: 1",
        ["line 3, column 1: begins with a tab; YAML takes spaces, not tabs"],
    ),
    "tab behind spaces": (
        "components:\n  a: {port: 1}\n \tb: {port: 2}",
        ["line 3, column 2: begins with a tab; YAML takes spaces, not tabs"],
    ),
    "fraction of a port": (
        component("rebind: {first: 80.5, last: 90}"),
        ["rebind.first: 80.5 cannot be used; allowed: a whole number from 1 to 65535"],
    ),
    "launch without arguments": (component("launch: {command: []}"), ["launch.command: []"]),
    "unit that is an option": (
        component("launch: {systemd: --force}"),
        ["launch.systemd: '--force'"],
    ),
    "unknown probe": (
        component("probe: {htp: /x}"),
        ["components.chat_api.probe: unknown probe 'htp'; did you mean 'http'? allowed: tcp"],
    ),
    "probe of two kinds": (
        component("probe: {http: /, tcp: }"),
        ["components.chat_api.probe: is not one kind of probe"],
    ),
    "probe without its program": (
        component("probe: exec"),
        ["components.chat_api.probe: names no program; allowed: {exec: [PROGRAM, ARGUMENT]}"],
    ),
    "probe by an empty program": (component("probe: {exec: []}"), ["components.chat_api.probe"]),
    "probe with a shell line": (
        component('probe: {exec: "check --port {port}"}'),
        ['components.chat_api.probe.exec: is one text; allowed: [check, --port, "{port}"]'],
    ),
    "probe with another kind's option": (
        component("probe: {exec: [check], path: /}"),
        ["components.chat_api.probe.path: unknown key; allowed: exec"],
    ),
    "probe of a server with no name": (
        component("probe: {tls: 'a b'}"),
        ["components.chat_api.probe.tls: 'a b' cannot be used"],
    ),
    "probe of a service with blanks": (
        component("probe: {grpc: 'a b'}"),
        ["components.chat_api.probe.grpc: 'a b' cannot be used"],
    ),
    "probe with a misspelt option": (
        component("probe: {tls: , verfy: true}"),
        ["probe.verfy: unknown key; did you mean 'verify'? allowed: tls, verify"],
    ),
    "probe path": (component("probe: {http: health}"), ["components.chat_api.probe", "'health'"]),
    "status range": (
        component("probe: {http: /, status_min: 300, status_max: 200}"),
        ["probe.status_max: 200 is below status_min; allowed: 300 to 599"],
    ),
    "list as a file": ("- a", ["it is a list; allowed: a mapping"]),
    "word as a file": ("hello", ["it is a single value; allowed: a mapping"]),
    "not YAML": ("a: [1, 2", ["line 2, column 1: is not YAML: ", "expected ',' or ']'"]),
    "a text that needs quotes": (
        component("launch: {command: [serve, --on=127.0.0.1:{port}]}"),
        ["is not YAML: ", "; a text with any of {}[],:#@%&*` in it stands in quotes"],
    ),
    "{port} of a probe's program without quotes": (
        component("probe: {exec: [check, {port}]}"),
        ['components.chat_api.probe.exec.1: {port} without quotes is a mapping; allowed: "{port}"'],
    ),
    "{port} without quotes": (
        component("launch: {command: [serve, --port, {port}]}"),
        [
            "components.chat_api.launch.command.2: {port} without quotes is a mapping; "
            'allowed: "{port}"'
        ],
    ),
    "control characters": ("a: \x00", ["is not YAML: "]),
    "two documents": (
        "node: a\n---\nnode: b",
        ["line 2: a second document is refused; allowed: one"],
    ),
    "tag": ("node: !!python/name:os.system x", ["line 1: the tag 'tag:yaml.org,2002:python"]),
    "own tag": ("a: !x {b: c}", ["line 1: the tag '!x' is refused; allowed: no tags"]),
    "mapping as key": ("? {a: b}\n: c", ["line 1: a key that is not plain text"]),
    "unknown alias": ("a: *b", ["the alias *b is refused; allowed: an anchor on"]),
    "alias of itself": ("a: &a [*a]", ["line 1: the alias *a is refused"]),
    "depth": ("a: " + "[" * 100_000, ["such deep nesting is refused; allowed: 16 levels"]),
    "depth by aliases": (
        "\n".join([f"a{n + 1}: &a{n + 1} [[[[*a{n}]]]]" for n in range(90)]).join(
            ["a0: &a0 1\n", ""]
        ),
        ["such deep nesting is refused; allowed: 16 levels"],
    ),
    "many aliases": (
        "a: &a 1\nb: [" + "*a, " * 101 + "]",
        ["one alias more is refused; allowed: 100 aliases"],
    ),
    "alias bomb": (
        "a: &a [" + "x, " * 50 + "]\nb: &b [" + "*a, " * 30 + "]\nc: &c [" + "*b, " * 30 + "]\n"
        "d: [" + "*c, " * 30 + "]",
        ["allowed: 200000 values, copies by alias included"],
    ),
    "size": ("node: " + "a" * 1024 * 1024, ["is too large; allowed: 1048576 bytes"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_what_is_allowed(mistake: str):
    text, parts = MISTAKES[mistake]
    sentence = problem(text)
    for part in parts:
        assert part in sentence
    assert len(sentence) < 600


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file():
    found = problems("stor: x\nlisten: y\ncomponents:\n  a: {port: 0}\n  b: {prot: 1, port: 2}\n")
    assert [sentence.split(":")[0] for sentence in found] == [
        "line 1",
        "line 2",
        "line 4",
        "line 5",
    ]


def test_secrets_are_not_shown():
    for text in (
        "store: mysql://u:hunter2@h/d",
        component("launch: {command: [x], env: {TOKEN: [hunter2]}}"),
    ):
        assert "hunter2" not in problem(text)


def test_the_same_port_on_different_hosts_is_fine():
    text = "components:\n  a: {port: 1, host: 10.0.0.1}\n  b: {port: 1, host: 10.0.0.2}\n"
    assert len(read(text).components) == 2


def test_a_rebind_range_may_hold_other_ports():
    text = component("rebind: 8000-9000") + "  other: {port: 8230, rebind: 1-2}\n"
    assert len(read(text).components) == 2


def test_a_long_chain_of_dependencies_is_no_cycle():
    lines = [f"  c{n}: {{port: {n + 1}, depends_on: [c{n + 1}]}}" for n in range(3000)]
    config = read("components:\n" + "\n".join(lines) + "\n  c3000: {port: 9000}\n")
    assert len(config.components) == 3001


def test_playbooks_of_ones_own_can_be_routed():
    config = parse(
        component("routes: {port_conflict: [mine]}"),
        source="x",
        environ={},
        hostname="h",
        directory=Path("/"),
        playbooks=("mine",),
    )
    assert list(config.components["chat_api"].routes.values()) == [("mine",)]


def test_postgresql_is_refused_where_its_client_is_missing(monkeypatch: pytest.MonkeyPatch):
    config = read("store: postgresql://user@host/db")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"postgresql needs psycopg.*network-healer\[postgres\]"):
        check_store(config, source="healer.yaml")
    check_store(read(""), source="healer.yaml")


def test_a_call_is_refused_where_its_client_is_missing(monkeypatch: pytest.MonkeyPatch):
    config = read(component("probe: grpc"))
    monkeypatch.setitem(sys.modules, "h2", None)
    with pytest.raises(ConfigError, match=r"probe: grpc needs h2.*network-healer\[grpc\]"):
        check_store(config, source="healer.yaml")


def test_postgresql_is_accepted_where_its_client_is_installed():
    pytest.importorskip("psycopg", exc_type=ImportError)
    check_store(read("store: postgresql://user@host/db"), source="healer.yaml")


# the file


def put(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o644)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, environ={}, hostname="h")
    assert str(caught.value).startswith(f"cannot use {path}: ")
    return str(caught.value)


def test_a_file_is_read_and_its_directory_is_where_paths_start(tmp_path: Path):
    config = load(put(tmp_path / "h.yaml", "\ufefflogs: l"), environ={}, hostname="h")
    assert config.logs == tmp_path / "l"


def test_a_missing_file_is_named(tmp_path: Path):
    path = tmp_path / "none.yaml"
    assert f"there is no such file; `healer init {path}` writes one" in refusal(path)


def test_a_directory_is_no_file(tmp_path: Path):
    assert "it is a directory; allowed: a file" in refusal(tmp_path)


def test_a_pipe_is_no_file_and_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "not a regular file" in refusal(tmp_path / "pipe")


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path):
    path = put(tmp_path / "h.yaml", "")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("we may read every file here")
    assert "Permission denied" in refusal(path)


@pytest.mark.parametrize("content", [b"node: caf\xe9", b"\x7fELF\x02\x01\xff"])
def test_what_is_not_utf_8_is_refused(tmp_path: Path, content: bytes):
    assert "is no UTF-8 text; allowed: YAML in UTF-8" in refusal(put(tmp_path / "h", content))


def test_a_file_that_everybody_may_write_is_refused(tmp_path: Path):
    path = put(tmp_path / "h.yaml", "")
    path.chmod(0o666)
    assert f"it can be written by everybody (mode 0666); allowed: chmod o-w {path}" in refusal(path)


def test_a_huge_file_is_refused_unread(tmp_path: Path):
    path = put(tmp_path / "h.yaml", "")
    os.truncate(path, 1 << 40)  # sparse: reading it all would not end
    assert "is too large; allowed: 1048576 bytes" in refusal(path)


# the schema


def test_the_schema_speaks_of_the_file():
    schema = config_schema()
    component_schema = schema["$defs"]["ComponentSpec"]
    assert "required" not in schema
    assert component_schema["required"] == ["port"]
    assert "name" not in component_schema["properties"]
    assert set(component_schema["properties"]) == set(ComponentSpec.model_fields) - {"name"}
    assert schema["additionalProperties"] is False
