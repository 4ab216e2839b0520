"""The compiled schemas are never laxer than the models that they come from."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, cast

import msgspec
import orjson
import pytest
from annotated_types import Le
from pydantic import field_validator

from healer.domain.events import Event, IssueDetected, IssueEvent, ProcessAdopted
from healer.domain.value import Value
from healer.errors import StoreError
from healer.store import compiled
from healer.store.codec import Codec, Encoded
from healer.store.compiled import (
    REFUSALS,
    CompiledReader,
    LightValue,
    Unreadable,
    light_types,
    plain,
    sparse,
)
from tests import factory

CODEC = Codec()
FACTS = [CODEC.encode(fact) for fact in factory.every_fact()]
ODD = (None, True, 0, -1, 1.5, 2**70, "", "x", "2026-13-01T00:00:00Z", [], ["x", 1], {}, {"x": []})


@pytest.fixture
def reader() -> CompiledReader:
    return CompiledReader(CODEC, light_types())


def said_by(event: Any) -> dict[str, Any]:
    """What is in the body of a light event."""
    told = orjson.loads(msgspec.json.encode(event))
    return {name: told[name] for name in told if name[0] != " "}


def says_the_same(reader: CompiledReader, fact: Encoded) -> None:
    found = reader.decode(fact.stream, fact.version, fact.topic, fact.body, 1)
    assert found.REAL is type(fact.event)
    assert type(found).__module__ == compiled.__name__
    assert (found.event_id, found.TOPIC) == (fact.event.event_id, fact.topic)
    assert said_by(found) == orjson.loads(fact.body)
    for name in type(fact.event).model_fields:
        value = getattr(fact.event, name)
        if not isinstance(value, Value | tuple):
            assert getattr(found, name) == value


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.topic)
def test_every_event_is_read_as_the_codec_reads_it(reader: CompiledReader, fact: Encoded) -> None:
    says_the_same(reader, fact)


def spoiled(value: Any, chance: random.Random) -> Any:
    """`value` with one place in it changed."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(sorted(value))
        draw = chance.random()
        if draw < 0.1:
            return {each: kept for each, kept in value.items() if each != key}
        if draw < 0.2:
            return {**value, "unknown": 1}
        return {**value, key: spoiled(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.85:
        at = chance.randrange(len(value))
        return [*value[:at], spoiled(value[at], chance), *value[at + 1 :]]
    return chance.choice(ODD)


def harmed(fact: Encoded, count: int) -> Iterator[bytes]:
    chance = random.Random(fact.topic)
    for _ in range(count):
        tree = spoiled(orjson.loads(fact.body), chance)
        try:
            yield orjson.dumps(tree)
        except TypeError:
            yield str(tree).replace("'", '"').encode()
    for _ in range(count):
        body = bytearray(fact.body)
        body[chance.randrange(len(body))] = chance.randrange(256)
        yield bytes(body)


def refused_by_both(reader: CompiledReader, fact: Encoded, count: int) -> int:
    """How many bodies, of twice `count`, the codec refuses; what it refuses, the struct does."""
    refused = 0
    for body in harmed(fact, count):
        found = reader.read(fact.topic, body)
        try:
            CODEC.decode(fact.stream, fact.version, fact.topic, body, place="it")
        except StoreError:
            refused += 1
            assert found is None, body
    return refused


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.topic)
def test_what_it_takes_the_codec_takes(reader: CompiledReader, fact: Encoded) -> None:
    assert refused_by_both(reader, fact, 400) > 100


def test_what_an_escape_may_hide_is_left_to_the_codec(reader: CompiledReader) -> None:
    fact = next(each for each in FACTS if each.topic == "issue.verified.v1")
    for text, sure in ((r"a \"name\"", True), (r"\u006e", False), (r"\ud800", False)):
        body = fact.body.replace(b'"actor":"watchdog"', b'"actor":"%b"' % text.encode())
        assert body != fact.body
        assert (reader.read(fact.topic, body) is not None) is sure


@pytest.mark.parametrize("topic", ["issue.verified.v9", "", "healer.domain.events:Event"])
def test_a_topic_that_it_does_not_know_is_the_codecs(reader: CompiledReader, topic: str) -> None:
    assert reader.read(topic, b"{}") is None


@pytest.mark.parametrize(
    ("value", "sure"),
    [(["a", 1], False), ([1, 2], True), (["a", "b"], True), ([], True), ([None], False)],
)
def test_a_list_of_texts_and_numbers_is_none(
    reader: CompiledReader, value: object, *, sure: bool
) -> None:
    fact = next(each for each in FACTS if each.topic == "issue.check_recorded.v1")
    tree = orjson.loads(fact.body)
    tree["check"]["facts"] = {"x": value}
    assert (reader.read(fact.topic, orjson.dumps(tree)) is not None) is sure


def test_what_it_is_not_sure_of_the_codec_decides(reader: CompiledReader) -> None:
    fact = next(each for each in FACTS if each.topic == "issue.remediation_started.v1")
    body = orjson.dumps(orjson.loads(fact.body) | {"attempt": "5"})  # pydantic takes a text for it
    assert reader.read(fact.topic, body) is None
    found = reader.decode(fact.stream, fact.version, fact.topic, body, 1)
    assert (found.attempt, found.event_id) == (5, fact.event.event_id)
    with pytest.raises(StoreError, match=r"cannot read event 7: topic .*, attempt"):
        reader.decode(
            fact.stream, fact.version, fact.topic, fact.body.replace(b"attempt", b"tries"), 7
        )


def test_rows_that_cannot_be_read_are_told_of_in_their_place(reader: CompiledReader) -> None:
    fact = FACTS[0]
    rows = [
        (1, fact.stream, 1, fact.topic, 0, fact.body, b""),
        (2, fact.stream, 2, "issue.unheard_of.v1", 7, b'{"a":1}', b""),
        (3, fact.stream, 0, fact.topic, 0, fact.body, b""),
    ]
    first, second, third = reader.facts(rows)
    assert [each.position for each in (first, second, third)] == [1, 2, 3]
    assert first.event.event_id == f"{fact.stream}/1"
    assert isinstance(second.event, Unreadable)
    assert str(second.event.error) == (
        "cannot read event 2: topic issue.unheard_of.v1 is not known to this version"
    )
    assert (second.event.topic, second.event.time) == ("issue.unheard_of.v1", 7)
    assert second.event.body == b'{"a":1}'
    # A stream begins with version 1: the codec refuses what the struct cannot see.
    assert isinstance(third.event, Unreadable)
    assert "originator_version" in str(third.event.error)


def fills_in(reader: CompiledReader, fact: Encoded) -> None:
    told = orjson.loads(fact.body)
    fields = type(fact.event).model_fields
    least = orjson.dumps({name: told[name] for name in told if fields[name].is_required()})
    found = reader.read(fact.topic, least)
    assert found is not None
    real = CODEC.decode(fact.stream, fact.version, fact.topic, least, place="it")
    assert said_by(found) == orjson.loads(CODEC.encode(real).body)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.topic)
def test_what_a_body_leaves_out_is_what_the_model_says(
    reader: CompiledReader, fact: Encoded
) -> None:
    fills_in(reader, fact)


def shows_values(reader: CompiledReader, fact: Encoded) -> None:
    found = reader.decode(fact.stream, fact.version, fact.topic, fact.body, 1)
    values = [name for name, value in fact.event if isinstance(value, Value)]
    for name in values:
        light, real = getattr(found, name), getattr(fact.event, name)
        assert as_json(plain(light)) == as_json(plain(real)) == real.model_dump(mode="json")
        assert plain(real) == real.model_dump(mode="json")
        spare = real.model_dump(mode="json", exclude_defaults=True)
        assert as_json(sparse(light)) == sparse(real) == spare


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.topic)
def test_a_light_value_is_shown_as_the_real_one(reader: CompiledReader, fact: Encoded) -> None:
    shows_values(reader, fact)


def test_what_is_compiled_anew_says_the_same() -> None:
    reader = CompiledReader(CODEC, light_types())
    for fact in FACTS:
        says_the_same(reader, fact)
        fills_in(reader, fact)
        shows_values(reader, fact)
        assert refused_by_both(reader, fact, 30) > 5
    check = next(each for each in FACTS if each.topic == "issue.check_recorded.v1")
    for listed, sure in ((["a", "b"], True), ([1, 2], True), (["a", 1], False)):
        tree = orjson.loads(check.body)
        tree["check"]["facts"] = {"x": listed}
        assert (reader.read(check.topic, orjson.dumps(tree)) is not None) is sure


def test_what_a_value_says_of_itself_a_light_one_says() -> None:
    reader = CompiledReader(CODEC, light_types())
    failed = next(each for each in FACTS if each.topic == "issue.detected.v1")
    light = reader.decode(failed.stream, 1, failed.topic, failed.body, 1).evidence.probe
    real = cast(IssueDetected, failed.event).evidence.probe
    assert light.outcome is real.outcome
    adopted = next(each for each in FACTS if each.topic == "component.process_adopted.v1")
    process = reader.decode(adopted.stream, 1, adopted.topic, adopted.body, 1).process
    same = cast(ProcessAdopted, adopted.event).process
    assert str(process) == str(same)
    assert process.same_as(same) is True
    # Of what a model says of itself nothing else is in it.
    assert not hasattr(process, "model_dump")
    assert not hasattr(process, "_copy_and_set_values")
    with pytest.raises(TypeError, match="unhashable"):
        hash(process)


def test_a_value_is_of_one_kind_wherever_it_stands() -> None:
    reader = CompiledReader(CODEC, light_types())
    kinds: dict[type, set[type]] = {}
    for fact in FACTS:
        found = reader.decode(fact.stream, fact.version, fact.topic, fact.body, 1)
        for name, value in fact.event:
            if isinstance(value, Value):
                kinds.setdefault(type(value), set()).add(type(getattr(found, name)))
    assert {len(each) for each in kinds.values()} == {1}


def as_json(value: object) -> Any:
    return orjson.loads(orjson.dumps(value))


def test_a_list_of_values_is_shown_without_what_says_no_more_than_its_defaults() -> None:
    probes = factory.verification_recorded().probes
    assert sparse(list(probes)) == sparse(probes)
    assert sparse(probes) == [
        probe.model_dump(mode="json", exclude_defaults=True) for probe in probes
    ]


class Timed(LightValue):
    """A value whose default is no object that there is once only."""

    took: float = 1.5


def test_what_equals_its_default_says_no_more_than_it() -> None:
    decode = msgspec.json.Decoder(Timed).decode
    assert sparse(decode(b'{"took":1.5}')) == {}
    assert sparse(decode(b'{"took":2.5}')) == {"took": 2.5}


def test_no_body_names_the_columns(reader: CompiledReader) -> None:
    for fact in FACTS:
        told = orjson.loads(fact.body)
        for name in ("originator_id", " originator_id", "originator_version"):
            for value in (0, 1, "i1", None):
                assert reader.read(fact.topic, orjson.dumps({**told, name: value})) is None


def test_who_decodes_one_topic_is_told_what_the_codec_has_to_be_asked(
    reader: CompiledReader,
) -> None:
    for fact in FACTS:
        decode = reader.decoder(fact.topic)
        assert decode(fact.body) == reader.read(fact.topic, fact.body)
        for body in (b"{}", b"[", b'{"x":1}', b"\xff"):
            with pytest.raises(REFUSALS):
                decode(body)
    mixed = next(each for each in FACTS if each.topic == "issue.check_recorded.v1")
    tree = orjson.loads(mixed.body)
    tree["check"]["facts"] = {"y": 1, "x": ["a", 1]}
    with pytest.raises(ValueError, match=r"^a list mixes texts and numbers$"):
        reader.decoder(mixed.topic)(orjson.dumps(tree))


def test_an_event_goes_from_one_process_to_another() -> None:
    light = CompiledReader(CODEC)
    for fact in FACTS:
        event = light.decode(fact.stream, fact.version, fact.topic, fact.body, 1)
        assert pickle.loads(pickle.dumps(event)) == event  # noqa: S301
    with pytest.raises(AttributeError, match=r"^LightNothing$"):
        compiled.LightNothing  # noqa: B018


class Odd(IssueEvent):
    """Not in the registry."""

    TOPIC: ClassVar[str] = "issue.odd.v1"


def with_field(annotation: Any) -> type[Event]:
    return type("Odder", (Odd,), {"__annotations__": {"said": annotation}, "__module__": __name__})


class Judged(Value):
    """Validated by code, which a struct cannot do."""

    said: str

    @field_validator("said")
    @classmethod
    def _short(cls, said: str) -> str:
        return said


@pytest.mark.parametrize(
    ("annotation", "why"),
    [
        (set[str], r"cannot compile set\[str\]: it has no form in a struct"),
        (tuple[str, str], r"cannot compile tuple\[str, str\]: it has no form in a struct"),
        (bytes, r"cannot compile <class 'bytes'>: it has no form in a struct"),
        (Annotated[int, Le(5)], r"cannot compile said: Le\(le=5\) has no form in a struct"),
        (Judged, "cannot compile Judged: it is validated by code"),
        (list[Judged] | None, "cannot compile Judged: it is validated by code"),
    ],
)
def test_a_model_that_a_struct_cannot_follow_is_refused(annotation: Any, why: str) -> None:
    with pytest.raises(TypeError, match=f"^{why}$"):
        light_types({Odd.TOPIC: with_field(annotation)})


def test_an_event_that_only_the_codec_knows_is_named() -> None:
    codec = Codec({Odd.TOPIC: Odd})
    odd = Odd(
        originator_id="i1",
        originator_version=1,
        timestamp=factory.BEGIN,
        actor="x",
        node="x",
        correlation_id="i1",
    )
    fact = codec.encode(odd)
    for place, words in ((7, "event 7"), ("the one", "the one")):
        with pytest.raises(
            StoreError, match=rf"^cannot read {words}: topic issue\.odd\.v1 is not compiled$"
        ):
            CompiledReader(codec).decode(fact.stream, 1, fact.topic, fact.body, place)
    light = CompiledReader(codec, light_types({Odd.TOPIC: Odd}))
    assert light.decode(fact.stream, 1, fact.topic, fact.body, 7).event_id == "i1/1"
