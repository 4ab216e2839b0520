"""The published description against a real daemon: what it says is what is answered.

`make fuzz-api` runs it for longer.
"""

from __future__ import annotations

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.cli.conftest import House
from tests.conftest import Until

SHORT = 8
EXAMPLES = int(os.environ.get("HEALER_FUZZ_EXAMPLES", SHORT))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.mark.timeout(300 if EXAMPLES <= SHORT else 7200)
def test_the_description_is_kept_whatever_is_asked(house: House, until: Until) -> None:
    house.write(f"{house.config.read_text()}auth: {{acting_per_minute: 100000}}\n")
    daemon = house.serve(until)
    until(house.healthy)
    token = house.run("token", "show").stdout.strip()
    base = f"http://127.0.0.1:{house.listen}"
    schema = schemathesis.openapi.from_url(f"{base}/network-healer/openapi.json")
    headers = {"Authorization": f"Bearer {token}"}
    asked = 0

    def ask(case: schemathesis.Case) -> None:
        nonlocal asked
        asked += 1
        response = case.call(headers=headers, timeout=120)
        case.validate_response(response, checks=CHECKS)

    bounded = settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=EXAMPLES <= SHORT,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for result in schema.get_all_operations():
        operation = result.ok()
        if not operation.path.endswith("/events"):  # a stream has no end
            bounded(given(case=operation.as_strategy())(ask))()
    assert asked >= 50
    assert daemon.poll() is None
    assert house.stop(daemon) == 0
