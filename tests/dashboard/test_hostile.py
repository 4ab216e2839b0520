"""A log that was written by an attacker, and a fleet that is large: neither hurts the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from healer.domain import events as fact
from healer.domain.health import Health
from healer.domain.playbook import Evidence
from healer.domain.probe import Reason
from healer.domain.spec import Criticality, IssueType, Severity
from tests.conftest import Processes, Until
from tests.dashboard.conftest import CHROMIUM, Look, Served
from tests.projections.build import Log, Told, probe

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

IMAGE = "<img src=x onerror=alert(1)>"
SCRIPT = "</script><script>alert(2)</script>"
QUOTED = "\" onmouseover=alert(3) style='position:fixed' x=\""
SCHEME = "javascript:alert(4)"


@pytest.fixture(scope="module")
def hostile(
    tmp_path_factory: pytest.TempPathFactory,
    free_ports: Callable[[int], list[int]],
    until: Until,
) -> Iterator[Served]:
    """A healer whose log tells of components, reasons and errors that are HTML."""
    log = Log()
    log.now = datetime.now(UTC)
    for name in (IMAGE, SCRIPT, SCHEME):
        log.register(name)
        log.health(Health.HEALTHY, Health.UNHEALTHY, name, reason=Reason.REFUSED)
    ended = log.detect(IMAGE, reason=SCRIPT).diagnose(recommendations=(IMAGE, SCRIPT))
    ended.add(fact.HealWithheld, reason=QUOTED, arithmetic={IMAGE: 1.0})
    ended.escalate(IMAGE).fail(SCRIPT, 1.0)
    # An issue whose very name is hostile, and that is still open.
    Told(log, QUOTED).add(
        fact.IssueDetected,
        component=SCHEME,
        host=IMAGE,
        port=8220,
        issue_type=IssueType.PORT_NOT_LISTENING,
        severity=Severity.HIGH,
        criticality=Criticality.MEDIUM,
        epoch=1,
        evidence=Evidence(probe=probe(Reason.REFUSED)),
        seen_after=0.25,
    )
    events = [each.event for each in log.facts]
    it = Served(tmp_path_factory.mktemp("hostile"), free_ports(5), Processes())
    try:
        it.write(events)
        it.serve(until)
        yield it
    finally:
        it.end()


def untouched(page: Any) -> None:
    assert page.evaluate("document.querySelectorAll('script:not([src])').length") == 0
    assert page.evaluate("document.querySelectorAll('img').length") == 1
    assert page.evaluate("document.querySelectorAll('[onmouseover], [onerror]').length") == 0
    assert page.evaluate("document.querySelectorAll('a[href^=\"javascript:\" i]').length") == 0


def test_what_is_html_in_the_log_is_text_on_the_page(hostile: Served, look: Look) -> None:
    page = look(hostile).page
    history = page.locator("#history tbody")
    history.get_by_text(IMAGE).wait_for()
    page.locator("#active article", has_text=SCHEME).wait_for()
    untouched(page)
    history.locator("tr", has_text=IMAGE).get_by_role("link").click()
    sheet = page.get_by_role("dialog")
    sheet.locator(".timeline > li").first.wait_for()
    for step in sheet.locator(".timeline summary").all():
        step.click()
    shown = sheet.inner_text()
    for text in (IMAGE, SCRIPT, QUOTED):
        assert text in shown
    untouched(page)


def test_the_past_of_such_a_log_is_text_as_well(hostile: Served, look: Look) -> None:
    page = look(hostile).page
    page.locator("#history tbody").get_by_text(IMAGE).wait_for()
    page.get_by_role("button", name="One fact back").click()
    page.locator("#components").get_by_role("button", name=SCRIPT, exact=True).click()
    page.get_by_role("dialog").get_by_role("heading", name="Facts").wait_for()
    untouched(page)
    page.keyboard.press("Escape")
    page.locator("#active article", has_text=SCHEME).get_by_role("link").click()
    page.get_by_role("dialog").locator(".timeline > li").first.wait_for()
    untouched(page)


def test_an_address_that_is_hostile_opens_nothing(hostile: Served, look: Look) -> None:
    page = look(hostile, f"/#/issue/{IMAGE}").page
    page.get_by_role("dialog").get_by_role("alert").get_by_text(IMAGE).wait_for()
    untouched(page)
    assert look(hostile, "/#/issue/%E0%A4%A").page.get_by_role("dialog").count() == 0


def test_a_thousand_components_are_shown_a_page_at_a_time(hostile: Served, look: Look) -> None:
    watched = look(hostile)
    page = watched.page
    page.locator("#components tbody tr").first.wait_for()
    found = hostile.get("/network-healer/components").json()
    one = found["components"][0]
    many = [
        {**one, "name": f"api_{number:04}", "health": "unhealthy" if number == 777 else "healthy",
         "open_issue": None}
        for number in range(1000)
    ]  # fmt: skip
    body = json.dumps({**found, "components": many})
    page.route("**/network-healer/components", lambda route: route.fulfill(body=body))
    page.reload()
    first = page.locator("#components tbody tr").first
    first.get_by_text("api_0777").wait_for()
    page.get_by_text("page 1 of 25").wait_for()
    page.get_by_role("button", name="Next").click()
    page.get_by_text("page 2 of 25").wait_for()
    page.locator("#components").get_by_label("Name").fill("api_09")
    page.get_by_text("page 1 of 3").wait_for()
    page.locator("#components").get_by_label("Show").select_option("trouble")
    page.get_by_text("No component matches.").wait_for()
    assert page.evaluate("document.querySelectorAll('*').length") < 3000
