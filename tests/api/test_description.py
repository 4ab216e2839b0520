"""The description of the API: every answer has an example, every object in one has a name."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from healer.api.access import Access
from healer.api.app import create_app
from healer.bootstrap import Healer
from tests.api.conftest import TOKEN
from tests.projections.build import random_log

PREFIX = "/network-healer"


@pytest.fixture
def described(healer: Healer) -> Any:
    return create_app(healer, access=Access(TOKEN)).openapi()


def contents(described: Any) -> Iterator[tuple[str, str, Any]]:
    """Each answer of each operation: which it is, its media type, and what is said of it."""
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            for status, answer in operation["responses"].items():
                for media_type, content in answer["content"].items():
                    yield f"{method} {path} {status}", media_type, content


def check(described: Any, schema: Any, value: Any) -> None:
    Draft202012Validator({**schema, "components": described["components"]}).validate(value)


def test_every_answer_has_an_example_that_is_one(described: Any) -> None:
    for name, media_type, content in contents(described):
        assert content["schema"], name
        assert content["example"] is not None, name
        assert content["example"] != {}, name
        if media_type.endswith("json"):
            check(described, content["schema"], content["example"])


def test_every_operation_says_how_it_fails(described: Any) -> None:
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            failures = {"401", "403", "404", "421", "422", "429", "500", "503"}
            failures |= {"409", "413", "415"} if method != "get" else set()
            assert failures <= set(operation["responses"]), (method, path)


def test_objects_within_objects_have_names(described: Any) -> None:
    for name, _, content in contents(described):
        for field, schema in content["schema"].get("properties", {}).items():
            items = schema.get("items", {})
            assert "properties" not in schema, (name, field)
            assert "properties" not in items, (name, field)
    models = described["components"]["schemas"]
    assert {"Issue", "Component", "ActiveIssue", "TimelineEntry", "Playbook", "Route"} <= set(
        models
    )


async def test_real_answers_are_as_described(
    healer: Healer, client: httpx.AsyncClient, described: Any
) -> None:
    await healer.log.append([each.event for each in random_log(Random(12), issues=40)])
    await healer.views.caught_up()
    [issue, *_] = (await client.get(f"{PREFIX}/history")).json()["records"]
    places = {"issue_id": issue["issue_id"], "component": issue["component"], "name": "chat_api"}
    for path, operations in described["paths"].items():
        if "get" not in operations or path in {f"{PREFIX}/events", "/metrics"}:
            continue
        answer = await client.get(path.format(**places))
        said = operations["get"]["responses"][str(answer.status_code)]["content"]
        [content] = said.values()
        check(described, content["schema"], answer.json())
