"""The compiled schemas are never laxer than the models that they come from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson
import pytest

from healer.domain.value import Value
from healer.errors import StoreError
from healer.store.codec import Codec, Encoded
from healer.store.compiled import CompiledReader, Unreadable
from tests import factory

CODEC = Codec()
LIGHT = CompiledReader(CODEC)
FACTS = [CODEC.encode(fact) for fact in factory.every_fact()]
ODD = (None, True, 0, -1, 1.5, 2**70, "", "x", "2026-13-01T00:00:00Z", [], ["x", 1], {}, {"x": []})


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.topic)
def test_every_event_is_read_as_the_codec_reads_it(fact: Encoded) -> None:
    found = LIGHT.decode(fact.stream, fact.version, fact.topic, fact.body, 1)
    assert found.REAL is type(fact.event)
    assert (found.event_id, found.TOPIC) == (fact.event.event_id, fact.topic)
    told = orjson.loads(msgspec.json.encode(found))
    assert {name: told[name] for name in told if name[0] != " "} == orjson.loads(fact.body)
    for name in type(fact.event).model_fields:
        value = getattr(fact.event, name)
        if not isinstance(value, Value | tuple):
            assert getattr(found, name) == value


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


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.topic)
def test_what_it_takes_the_codec_takes(fact: Encoded) -> None:
    refused = 0
    for body in harmed(fact, 400):
        found = LIGHT.read(fact.topic, body)
        try:
            CODEC.decode(fact.stream, fact.version, fact.topic, body, place="it")
        except StoreError:
            refused += 1
            assert found is None, body
    assert refused > 100


@pytest.mark.parametrize("topic", ["issue.verified.v9", "", "healer.domain.events:Event"])
def test_a_topic_that_it_does_not_know_is_the_codecs(topic: str) -> None:
    assert LIGHT.read(topic, b"{}") is None


@pytest.mark.parametrize(
    ("value", "sure"),
    [(["a", 1], False), ([1, 2], True), (["a", "b"], True), ([], True), ([None], False)],
)
def test_a_list_of_texts_and_numbers_is_none(value: object, *, sure: bool) -> None:
    fact = next(each for each in FACTS if each.topic == "issue.check_recorded.v1")
    tree = orjson.loads(fact.body)
    tree["check"]["facts"] = {"x": value}
    assert (LIGHT.read(fact.topic, orjson.dumps(tree)) is not None) is sure


def test_what_it_is_not_sure_of_the_codec_decides() -> None:
    fact = next(each for each in FACTS if each.topic == "issue.remediation_started.v1")
    body = orjson.dumps(orjson.loads(fact.body) | {"attempt": "5"})  # pydantic takes a text for it
    assert LIGHT.read(fact.topic, body) is None
    assert LIGHT.decode(fact.stream, fact.version, fact.topic, body, 1).attempt == 5
    with pytest.raises(StoreError, match=r"cannot read event 7: topic .*, attempt"):
        LIGHT.decode(
            fact.stream, fact.version, fact.topic, fact.body.replace(b"attempt", b"tries"), 7
        )


def test_rows_that_cannot_be_read_are_told_of_in_their_place() -> None:
    fact = FACTS[0]
    rows = [
        (1, fact.stream, 1, fact.topic, 0, fact.body, b""),
        (2, fact.stream, 2, "issue.unheard_of.v1", 0, b"{}", b""),
    ]
    first, second = LIGHT.facts(rows)
    assert first.event.event_id == f"{fact.stream}/1"
    assert isinstance(second.event, Unreadable)
    assert "issue.unheard_of.v1" in str(second.event.error)
