"""The compiled schemas are never laxer than the models that they come from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson
import pytest

from healer.domain.events import EVENT_TYPES
from healer.errors import StoreError
from healer.store.codec import Codec, Encoded
from replay.light import Light
from tests import factory

CODEC = Codec()
LIGHT = Light(EVENT_TYPES)
FACTS = [CODEC.encode(fact) for fact in factory.every_fact()]
ODD = (None, True, 0, -1, 1.5, 2**70, "", "x", "2026-13-01T00:00:00Z", [], ["x", 1], {}, {"x": []})


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.topic)
def test_every_event_is_read_as_the_codec_reads_it(fact: Encoded) -> None:
    found = LIGHT.read(fact.topic, fact.body)
    assert found is not None
    kind, fields = found
    assert kind is type(fact.event)
    assert orjson.loads(msgspec.json.encode(fields)) == orjson.loads(fact.body)


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
