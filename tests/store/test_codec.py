"""What is stored is what was meant, for ever; what cannot be read says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import orjson
import pytest
from eventsourcing.persistence import EventStore, StoredEvent
from eventsourcing.popo import POPOAggregateRecorder
from hypothesis import given, settings

from healer.domain.events import EVENT_TYPES, Event, IssueEvent
from healer.errors import StoreError
from healer.store.codec import Codec, EventMapper
from tests import factory
from tests.store.strategies import events

GOLDEN = Path(__file__).parent / "golden" / "v1.jsonl"

PINNED = [
    "issue.detected.v1",
    "issue.diagnosis_started.v1",
    "issue.check_recorded.v1",
    "issue.diagnosis_completed.v1",
    "issue.route_chosen.v1",
    "issue.approval_requested.v1",
    "issue.approval_granted.v1",
    "issue.approval_denied.v1",
    "issue.remediation_started.v1",
    "issue.playbook_started.v1",
    "issue.step_started.v1",
    "issue.step_succeeded.v1",
    "issue.step_failed.v1",
    "issue.step_skipped.v1",
    "issue.step_settled.v1",
    "issue.playbook_finished.v1",
    "issue.verification_recorded.v1",
    "issue.heal_withheld.v1",
    "issue.escalated.v1",
    "issue.taken_over.v1",
    "issue.verified.v1",
    "issue.failed.v1",
    "component.registered.v1",
    "component.health_changed.v1",
    "component.port_rebound.v1",
    "component.maintenance_started.v1",
    "component.maintenance_ended.v1",
    "component.mode_changed.v1",
    "component.process_adopted.v1",
    "component.budget_reset.v1",
    "component.removed.v1",
    "fleet.paused.v1",
    "fleet.resumed.v1",
]


def decoded(codec: Codec, event: Event) -> Event:
    encoded = codec.encode(event)
    return codec.decode(
        encoded.stream, encoded.version, encoded.topic, encoded.body, place="event 1"
    )


@given(event=events())
@settings(max_examples=300)
def test_any_event_is_read_back_as_it_was(event: Event) -> None:
    assert decoded(Codec(), event) == event


@given(event=events())
@settings(max_examples=50)
def test_equal_events_have_equal_bytes(event: Event) -> None:
    codec = Codec()
    body = codec.encode(event).body
    assert codec.encode(decoded(codec, event)).body == body
    assert body == orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)


def test_the_body_does_not_repeat_the_columns() -> None:
    encoded = Codec().encode(factory.issue_verified(stream="i1", version=7))
    assert (encoded.stream, encoded.version, encoded.topic) == ("i1", 7, "issue.verified.v1")
    assert not {"originator_id", "originator_version", "topic"} & set(orjson.loads(encoded.body))


def test_time_is_stored_to_the_microsecond() -> None:
    when = factory.BEGIN.replace(microsecond=123_457)
    encoded = Codec().encode(factory.issue_verified(timestamp=when))
    assert encoded.time == 1_767_268_800_123_457
    assert isinstance(encoded.time, int)


def test_the_topics_are_pinned() -> None:
    assert list(EVENT_TYPES) == PINNED


def golden_lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in GOLDEN.read_text().splitlines()]


def test_the_golden_log_holds_one_event_of_each_type() -> None:
    assert [line["topic"] for line in golden_lines()] == PINNED


def test_every_golden_event_is_read_with_all_that_was_written() -> None:
    # Written once from tests.factory.every_fact(), and never again: a later version may know more
    # fields, which have defaults, but what a line says it says for ever.
    codec = Codec()
    for line in golden_lines():
        event = codec.decode(
            line["stream"], line["version"], line["topic"], line["body"].encode(), place="golden"
        )
        read = orjson.loads(codec.encode(event).body)
        written = orjson.loads(line["body"])
        assert {key: read[key] for key in written} == written
        assert event.event_id == f"{line['stream']}/{line['version']}"


def test_the_factory_makes_one_fact_of_each_type() -> None:
    assert [fact.TOPIC for fact in factory.every_fact()] == PINNED


def test_an_unknown_topic_is_named_with_its_position() -> None:
    with pytest.raises(
        StoreError,
        match=r"^cannot read event 17: topic issue\.foo\.v9 is not known to this version$",
    ):
        Codec().decode("i1", 1, "issue.foo.v9", b"{}", place="event 17")


def test_a_topic_is_never_imported() -> None:
    with pytest.raises(StoreError, match="is not known"):
        Codec().decode("i1", 1, "healer.domain.events:IssueVerified", b"{}", place="event 1")


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"[]", b'{"actor": 3}', b"\xff", b"null"])
def test_a_body_that_does_not_fit_its_topic_is_named(body: bytes) -> None:
    with pytest.raises(StoreError, match=r"^cannot read event 9: topic issue\.verified\.v1, "):
        Codec().decode("i1", 1, "issue.verified.v1", body, place="event 9")


def test_an_old_topic_is_read_through_all_its_upcasters() -> None:
    def from_v0(body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return "issue.cured.v1", {**body, "healed_by": body["by"]}

    def from_cured(body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        kept = {key: value for key, value in body.items() if key != "by"}
        return "issue.verified.v1", {**kept, "resolved_in": 1.5}

    codec = Codec(upcasters={"issue.cured.v0": from_v0, "issue.cured.v1": from_cured})
    old = orjson.loads(codec.encode(factory.issue_verified()).body)
    del old["healed_by"], old["resolved_in"]
    event = codec.decode(
        factory.ISSUE, 12, "issue.cured.v0", orjson.dumps({**old, "by": "x"}), place="event 1"
    )
    assert event == factory.issue_verified(healed_by="x", resolved_in=1.5)


def test_upcasters_that_lead_in_a_circle_end() -> None:
    codec = Codec(upcasters={"a.v1": lambda body: ("a.v2", body), "a.v2": lambda b: ("a.v1", b)})
    with pytest.raises(StoreError, match=r"topic a\.v1 is not known"):
        codec.decode("i1", 1, "a.v1", b"{}", place="event 1")


def test_an_upcaster_that_fails_is_named() -> None:
    codec = Codec(upcasters={"a.v1": lambda body: ("a.v2", body["missing"])})
    for body, why in ((b"{}", "KeyError('missing')"), (b"[]", "TypeError"), (b"{", "JSONDecode")):
        with pytest.raises(
            StoreError, match=r"^cannot read event 4: topic a\.v1 does not "
        ) as told:
            codec.decode("i1", 1, "a.v1", body, place="event 4")
        assert f"does not upcast: {why}" in str(told.value)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"reason": 7}', "AttributeError"),
        (b'{"reason": null}', "AttributeError"),
        (b'{"reason": "x", "by": 0}', "ZeroDivisionError"),
        (b'{"reason": "x", "by": ' + b"[" * 300 + b"]" * 300 + b"}", "TypeError"),
        (b'{"reason": "x", "by": 1, "deep": ' + b"[" * 300 + b"]" * 300 + b"}", "Recursion limit"),
    ],
)
def test_what_an_upcaster_meets_in_a_malformed_body_is_named(body: bytes, why: str) -> None:
    def upcast(body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return "issue.verified.v1", {**body, "was": body["reason"].upper(), "part": 1 / body["by"]}

    codec = Codec(upcasters={"issue.cured.v1": upcast})
    with pytest.raises(StoreError, match=f"cannot read event 1: topic issue.*{why}"):
        codec.decode("i", 1, "issue.cured.v1", body, place="event 1")


class Stranger(IssueEvent):
    """Not in the registry."""

    TOPIC: ClassVar[str] = "issue.stranger.v1"


class Impostor(IssueEvent):
    """Bears a registered topic."""

    TOPIC: ClassVar[str] = "issue.approval_granted.v1"


@pytest.mark.parametrize("event_type", [Stranger, Impostor])
def test_an_event_outside_the_registry_is_not_stored(event_type: type[Event]) -> None:
    event = event_type(
        originator_id="i1",
        originator_version=1,
        timestamp=factory.BEGIN,
        actor="x",
        node="x",
        correlation_id="i1",
    )
    with pytest.raises(StoreError, match=r"cannot store i1/1: topic .* is not registered"):
        Codec().encode(event)


@pytest.mark.parametrize(
    "make",
    [
        lambda: factory.issue_verified(timestamp=datetime(2026, 1, 1)),
        lambda: factory.issue_verified(stream="\ud800"),
        lambda: factory.issue_verified(node="\ud800"),
        lambda: factory.issue_verified().model_copy(update={"resolved_in": float("nan")}),
        lambda: factory.heal_withheld().model_copy(update={"arithmetic": {"x": float("inf")}}),
        lambda: factory.playbook_started().model_copy(update={"playbook": 2**70}),
    ],
)
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_what_could_not_be_read_back_is_not_stored(make: Callable[[], Event]) -> None:
    with pytest.raises(StoreError, match=r"^cannot store "):
        Codec().encode(make())


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (
            factory.issue_verified().model_copy(update={"resolved_in": float("nan")}),
            f"{factory.ISSUE}/12 (issue.verified.v1): JSON has no number nan",
        ),
        (
            factory.heal_withheld().model_copy(update={"arithmetic": {"x": float("-inf")}}),
            f"{factory.ISSUE}/6 (issue.heal_withheld.v1): JSON has no number -inf",
        ),
        (
            factory.check_recorded().model_copy(update={"check": [1, (2, float("inf"))]}),
            f"{factory.ISSUE}/3 (issue.check_recorded.v1): JSON has no number inf",
        ),
        (
            factory.issue_verified().model_copy(update={"healed_by": b"x"}),
            f"{factory.ISSUE}/12 (issue.verified.v1): Type is not JSON serializable: bytes",
        ),
        (
            factory.issue_verified(stream="a\ud800b"),
            "a\\ud800b/12 (issue.verified.v1): 'utf-8' codec can't encode character '\\ud800' "
            "in position 1: surrogates not allowed",
        ),
    ],
)
def test_why_an_event_is_not_stored_is_said(event: Event, why: str) -> None:
    with pytest.raises(StoreError) as refused:
        Codec().encode(event)
    assert str(refused.value) == f"cannot store {why}"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "body: Invalid JSON: "),
        (b"{}", "body: Invalid JSON: "),
        (b'{"actor":3}', "timestamp: Field required"),
    ],
)
def test_why_an_event_cannot_be_read_is_said(body: bytes, why: str) -> None:
    with pytest.raises(StoreError) as refused:
        Codec().decode("i1", 1, "issue.verified.v1", body, place="event 9")
    assert str(refused.value).startswith(f"cannot read event 9: topic issue.verified.v1, {why}")


def test_a_place_inside_an_event_is_named() -> None:
    encoded = Codec().encode(factory.issue_detected())
    body = encoded.body.replace(b'"elapsed":0.0004', b'"elapsed":"long"')
    with pytest.raises(
        StoreError, match=r"\.v1, evidence\.probe\.elapsed: Input should be a valid"
    ):
        Codec().decode("i1", 1, encoded.topic, body, place="event 9")


def test_an_event_of_another_program_is_not_the_mappers() -> None:
    with pytest.raises(StoreError, match=r"^cannot store 'x': it is not an event of the healer$"):
        EventMapper().to_stored_event("x")  # type: ignore[arg-type]


def test_the_mapper_uses_the_codec_that_it_is_given() -> None:
    mapper = EventMapper(Codec(upcasters={"a.v1": lambda body: ("issue.verified.v1", body)}))
    stored = mapper.to_stored_event(factory.issue_verified())
    assert stored == StoredEvent(factory.ISSUE, 12, "issue.verified.v1", stored.state)
    renamed = StoredEvent(factory.ISSUE, 12, "a.v1", stored.state)
    assert mapper.to_domain_event(renamed) == factory.issue_verified()
    held = mapper.transcoder
    assert held.encode({"b": 1, "a": [2]}) == b'{"a":[2],"b":1}'
    assert held.decode(b'{"a":[2]}') == {"a": [2]}


def test_the_librarys_event_store_works_with_the_mapper() -> None:
    store = EventStore[str](EventMapper(), POPOAggregateRecorder())
    facts = [factory.issue_detected(), factory.diagnosis_started()]
    store.put(facts)
    assert list(store.get(factory.ISSUE)) == facts


def test_the_mapper_names_the_event_that_it_cannot_read() -> None:
    stored = StoredEvent("i1", 3, "issue.foo.v9", b"{}")
    with pytest.raises(StoreError, match=r"cannot read event i1/3: topic issue\.foo\.v9"):
        EventMapper().to_domain_event(stored)
