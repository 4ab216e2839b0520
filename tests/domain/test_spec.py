"""What people write: durations, ranges, shares, probes, components."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from healer.domain.duration import format_duration, parse_duration
from healer.domain.spec import Budget, ComponentSpec, PortRange, check_name


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("5s", 5),
        ("1m", 60),
        ("1h30m", 5400),
        ("2d", 172800),
        (" 1.5S ", 1.5),
        ("1m1ms", 60.001),
        ("0" * 31 + "s", 0.0),
        (5, 5.0),
        (0, 0.0),
        (0.25, 0.25),
    ],
)
def test_a_duration_is_read_as_people_write_it(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        *[
            "",
            "5",
            "5 s",
            "s",
            "-5s",
            "1y",
            "5s!",
            "1e3s",
            "\u0665s",
            "5sm",
            "9" * 40 + "s",
            "0" * 32 + "s",
        ],
        *[-1, True, float("nan"), float("inf"), None, [], b"5s"],
    ],
)
def test_what_is_no_duration_is_refused_and_told_what_is_allowed(text: object) -> None:
    with pytest.raises(ValueError, match="500ms, 5s, 1m"):
        parse_duration(text)


@given(st.floats(0.001, 1e7))
def test_a_duration_for_people_is_read_back_to_within_its_second_unit(seconds: float) -> None:
    back = parse_duration(format_duration(seconds))
    assert abs(back - seconds) <= max(0.05 * seconds, 0.001)


@pytest.mark.parametrize(
    ("text", "first", "last"), [("8220-8229", 8220, 8229), ("8220", 8220, 8220), (8220, 8220, 8220)]
)
def test_a_range_is_read(text: object, first: int, last: int) -> None:
    assert PortRange.model_validate(text) == PortRange(first=first, last=last)


@pytest.mark.parametrize(
    "text", ["9-8", "0-5", "1-65536", "a-b", "1-", "-1", "", True, "1-2-3", "\u00b2"]
)
def test_a_range_that_is_none_is_refused(text: object) -> None:
    with pytest.raises(ValidationError):
        PortRange.model_validate(text)


@pytest.mark.parametrize(("text", "share"), [("50%", 0.5), ("0%", 0), ("100 %", 1), (0.2, 0.2)])
def test_a_share_is_a_percentage_or_a_fraction(text: object, share: float) -> None:
    assert Budget.model_validate({"max_unhealthy": text}).max_unhealthy == share


@pytest.mark.parametrize("text", ["101%", "-1%", "half", "x%", 1.5, "nan%"])
def test_a_share_that_is_none_is_refused(text: object) -> None:
    with pytest.raises(ValidationError):
        Budget.model_validate({"max_unhealthy": text})


@pytest.mark.parametrize(
    ("read", "text", "said"),
    [
        (Budget.model_validate, {"max_unhealthy": "x%"}, "'x%' is not a percentage; allowed: 50%"),
        (PortRange.model_validate, "1-", "'1-' is not a port range; allowed: 8220-8229"),
        (
            PortRange.model_validate,
            "9-8",
            "9-8 ends before it begins; allowed: first-last, e.g. 8220-8229",
        ),
        (
            check_name,
            "a b",
            "'a b' is not a name; allowed: 1 to 63 letters, digits, '_', '.' or '-', "
            "beginning with a letter or digit",
        ),
    ],
)
def test_what_is_refused_is_told_what_would_do(
    read: Callable[[object], object], text: object, said: str
) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - all of it is compared
        read(text)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("probe", "kind", "path"),
    [
        ("tcp", "tcp", "/"),
        ({"tcp": None}, "tcp", "/"),
        ({"http": "/health"}, "http", "/health"),
        ({"http": None}, "http", "/"),
        ({"kind": "http", "path": "/x"}, "http", "/x"),
    ],
)
def test_a_probe_is_read_in_its_short_form(probe: object, kind: str, path: str) -> None:
    spec = ComponentSpec.model_validate({"name": "a", "port": 1, "probe": probe})
    assert (spec.probe.kind, spec.probe.path) == (kind, path)


def test_a_port_behind_tcp_is_refused_and_not_passed_over() -> None:
    with pytest.raises(ValidationError, match="tcp takes no argument 8221; allowed: tcp alone"):
        ComponentSpec.model_validate({"name": "a", "port": 8220, "probe": {"tcp": 8221}})


def test_the_argument_of_a_program_is_what_is_run() -> None:
    spec = ComponentSpec.model_validate({"name": "a", "port": 1, "probe": {"exec": ["true"]}})
    assert (spec.probe.kind, spec.probe.exec) == ("exec", ("true",))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "../etc"),
        ("name", "a b"),
        ("name", "-a"),
        ("name", "\u017fervice"),
        ("name", "a" * 64),
        ("port", 0),
        ("port", 65536),
        ("host", "a b"),
        ("host", "$(reboot)"),
        ("probe", "icmp"),
        ("probe", 8),
        ("probe", {"tcp": None, "http": "/"}),
        ("probe", {"kind": "tcp", "http": "/"}),
        ("probe", {"kind": "http", "tcp": None}),
        ("probe", {"http": "health"}),
        ("probe", {"http": "/a\nb"}),
        ("launch", {"command": []}),
        ("launch", {"systemd": "--now"}),
        ("launch", {"docker": "-v"}),
        ("interval", "0s"),
        ("timeout", 0),
        ("failure_threshold", 0),
        ("mode", "yolo"),
        ("routes", {"boredom": ["restart_component"]}),
        ("prot", 8220),
    ],
)
def test_a_component_that_cannot_be_meant_is_refused(field: str, value: object) -> None:
    good = {"name": "chat_api", "port": 8220}
    ComponentSpec.model_validate(good)
    with pytest.raises(ValidationError) as raised:
        ComponentSpec.model_validate(good | {field: value})
    assert raised.value.errors()[0]["loc"][0] == field
