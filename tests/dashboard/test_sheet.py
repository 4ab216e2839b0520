"""What lies open over the page: it says what happens, holds the focus, and grows as facts come."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest

from tests.conftest import Until
from tests.dashboard.conftest import CHROMIUM, PHONE, Look, Served
from tests.dashboard.page import NAMELESS, contrasts, give_token, ready, sideways

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

NOTIFY: Final = "text => import('/static/store.js').then(store => store.notify(text, 'bad'))"
FOCUS: Final = """
() => {
  const at = document.activeElement;
  const sheet = [...document.querySelectorAll("dialog[open]")].at(-1);
  if (!sheet || !sheet.contains(at)) return "outside";
  return at.getAttribute("aria-label") || at.innerText || at.tagName;
}
"""


def component_sheet(page: Any, name: str) -> Any:
    page.get_by_role("button", name=name, exact=True).click()
    sheet = page.get_by_role("dialog", name=name)
    sheet.get_by_role("heading", name="Facts").wait_for()
    return sheet


def asking(served: Served, until: Until) -> str:
    """The issue of `orders_api` whose heal is suggested; it answers, but badly."""
    name = "orders_api"
    until(lambda: served.healthy(name) or served.component(name)["awaits_approval"])
    if served.healthy(name):
        served.fault(name, "500")
    until(lambda: served.component(name)["awaits_approval"])
    issue: str = served.component(name)["open_issue"]
    return issue


def started(served: Served, until: Until) -> None:
    """`orders_api` is healthy: what it asks for is allowed."""
    name = "orders_api"
    until(lambda: served.healthy(name) or served.component(name)["awaits_approval"])
    if not served.healthy(name):
        issue = served.component(name)["open_issue"]
        assert served.post(f"/issues/{issue}/approve", {}).status_code == 200
        until(lambda: served.healthy(name))


def test_what_is_refused_is_said_in_the_sheet_that_is_open(served: Served, look: Look) -> None:
    page = ready(look(served))
    detail = "cannot record it: the log cannot be written"

    def full(route: Any) -> None:
        if served.token in route.request.headers["authorization"]:
            route.fulfill(status=503, json={"detail": detail})
        else:
            route.continue_()

    page.route("**/maintenance", full)
    sheet = component_sheet(page, "memory_kernel")
    sheet.get_by_role("button", name="Begin maintenance").click()
    give_token(page, "0" * 64)
    token = page.get_by_role("dialog", name="Token")
    token.get_by_role("alert").get_by_text("That token was not accepted.").wait_for()
    give_token(page, served.token)
    sheet.get_by_role("alert").get_by_text("the log cannot be written").wait_for()
    assert sheet.get_by_role("alert").locator(".notice").bounding_box()["height"] > 0


def test_a_notice_is_said_in_what_lies_on_top_and_nowhere_else(served: Served, look: Look) -> None:
    page = ready(look(served))

    def said(text: str) -> Any:
        page.evaluate(NOTIFY, text)
        notice = page.get_by_text(text)
        notice.wait_for()
        assert notice.count() == 1
        return notice.evaluate("each => each.closest('dialog')?.querySelector('h2').innerText")

    assert said("nothing is open") is None
    component_sheet(page, "memory_kernel").get_by_role("button", name="Reset budget").click()
    page.get_by_role("dialog", name="Token").wait_for()
    assert said("two are open") == "Token"
    page.keyboard.press("Escape")
    page.get_by_role("dialog", name="Token").wait_for(state="detached")
    assert said("one is open").startswith("memory_kernel")


def test_two_sheets_share_no_id(served: Served, look: Look) -> None:
    page = ready(look(served))
    component_sheet(page, "memory_kernel").get_by_role("button", name="Reset budget").click()
    page.get_by_role("dialog", name="Token").wait_for()
    assert page.locator("dialog[open]").count() == 2
    assert page.evaluate(NAMELESS) == []


def test_the_focus_stays_in_a_sheet_both_ways_and_goes_back(served: Served, look: Look) -> None:
    page = ready(look(served))
    opener = page.get_by_role("button", name="memory_kernel", exact=True)
    opener.focus()
    page.keyboard.press("Enter")
    sheet = page.get_by_role("dialog", name="memory_kernel")
    sheet.get_by_role("heading", name="Facts").wait_for()
    assert page.evaluate(FOCUS) == "Close"
    for key in ("Tab", "Shift+Tab"):
        stops: list[str] = []
        while (stop := page.evaluate(FOCUS)) not in stops[1:]:
            assert stop != "outside", f"{key} left it after {stops}"
            stops.append(stop)
            page.keyboard.press(key)
        assert "Reset budget" in stops
        assert "Close" in stops
    # What has the focus may go away: then the page has it, and the next Tab is in the sheet again.
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate(FOCUS) != "outside"
    sheet.get_by_role("button", name="Reset budget").focus()
    page.keyboard.press("Enter")
    token = page.get_by_role("dialog", name="Token")
    token.wait_for()
    for key in ("Tab", "Shift+Tab"):
        for _ in range(6):
            page.keyboard.press(key)
            assert page.evaluate(FOCUS) != "outside"
    page.keyboard.press("Escape")
    token.wait_for(state="detached")
    assert page.evaluate(FOCUS) == "Reset budget"
    page.keyboard.press("Escape")
    sheet.wait_for(state="detached")
    assert opener.evaluate("each => each === document.activeElement")


def test_an_approval_says_to_what_before_it_is_given(
    served: Served, look: Look, until: Until
) -> None:
    started(served, until)
    issue = asking(served, until)
    pid = served.component("orders_api")["process"]["pid"]
    page = ready(look(served))
    row = page.locator("#components tbody tr", has_text="orders_api")
    row.get_by_text("asks for approval").wait_for()
    row.get_by_role("button", name="Approve the heal of orders_api").click()
    give_token(page, served.token)
    sheet = page.get_by_role("dialog", name="Heal orders_api?")
    plan = sheet.get_by_role("list", name="What would be done")
    plan.get_by_text("restart component: terminate").wait_for()
    assert page.evaluate(NAMELESS) == []
    yes = sheet.get_by_role("button", name="Approve:")
    assert re.fullmatch(
        rf"Approve: restart component, then clear port of orders_api; ends \S+\[{pid}\]",
        yes.inner_text(),
    )
    plan.get_by_text(f"[{pid}] (the component's: launched)").first.wait_for()
    assert served.component("orders_api")["awaits_approval"], "a look is no yes"
    page.set_viewport_size(PHONE)
    assert sideways(page) == []
    assert contrasts(page) == []
    yes.click()
    sheet.wait_for(state="detached")
    page.get_by_role("status").get_by_text("The heal of orders_api is approved.").wait_for()
    row.get_by_text("healthy", exact=True).wait_for()
    until(lambda: served.healthy("orders_api"))
    found = served.get(f"/network-healer/issues/{issue}").json()
    assert found["approval"].startswith("granted by api:")


def test_an_approval_that_came_too_late_is_told(served: Served, look: Look, until: Until) -> None:
    issue = asking(served, until)
    page = ready(look(served))
    ask = page.locator("#active").get_by_role("button", name="Approve the heal of orders_api")
    ask.wait_for()
    page.route(
        f"**/issues/{issue}",
        lambda route: route.fulfill(
            json={**served.get(f"/network-healer/issues/{issue}").json(), "approval": "granted"}
        ),
    )
    ask.click()
    sheet = page.get_by_role("dialog", name="Heal orders_api?")
    sheet.get_by_role("alert").get_by_text("Nothing is suggested any more.").wait_for()
    assert sheet.get_by_role("button", name="Approve:").count() == 0


def test_an_open_issue_is_told_as_it_goes_and_to_its_end(
    served: Served, look: Look, until: Until
) -> None:
    started(served, until)
    asking(served, until)
    window = {"for": "1h", "reason": "deploy"}
    assert served.post("/components/orders_api/maintenance", window).status_code == 200
    page = ready(look(served))
    page.evaluate("window.same = true")
    page.locator("#active article", has_text="orders_api").get_by_role("link").click()
    sheet = page.get_by_role("dialog", name="orders_api")
    steps = sheet.locator(".timeline > li")
    steps.filter(has_text="asks to run").wait_for()
    asked = steps.count()
    steps.first.locator("summary").click()

    sheet.get_by_role("button", name="Approve the heal of orders_api").click()
    give_token(page, served.token)
    page.get_by_role("button", name="Approve:").click()
    steps.filter(has_text="heal withheld: maintenance").wait_for()
    sheet.locator(".summary").get_by_text("open", exact=True).wait_for()
    assert steps.count() > asked

    assert served.post("/components/orders_api/maintenance/end", {}).status_code == 200
    steps.filter(has_text="healed by restart_component").wait_for()
    sheet.locator(".summary").get_by_text("healed", exact=True).wait_for()
    assert sheet.get_by_role("button", name="Approve the heal of orders_api").count() == 0
    told = served.story("orders_api")["events"]
    page.wait_for_function(
        "count => document.querySelectorAll('.timeline > li').length === count", arg=len(told)
    )
    assert sheet.locator("details[open]").count() == 1, "what was opened stays open"
    assert page.evaluate("window.same") is True


def test_the_evidence_is_readable(served: Served, look: Look, until: Until) -> None:
    issue = served.healed(until, "search_api")
    page = ready(look(served, f"/#/issue/{issue['issue_id']}"))
    sheet = page.get_by_role("dialog", name="search_api")
    steps = sheet.locator(".timeline > li")
    steps.filter(has_text="healed by").wait_for()
    for step in steps.locator("summary").all():
        step.click()
    detected = steps.first.locator(".facts").first.inner_text()
    assert "how it ended\nsignal 9 (SIGKILL)" in detected
    assert re.search(r"seen after\n[\d.]+ m?s", detected)
    assert re.search(r"process\n\S+\[\d+\]", detected)
    check = steps.filter(has_text="system_resources:").locator(".facts").first.inner_text()
    assert re.search(r"memory available\n[\d.]+ %", check)
    assert re.search(r"memory available \(size\)\n[\d.]+ [GM]iB", check)
    shown = " ".join(sheet.locator(".facts").all_inner_texts())
    assert "{" not in shown
    names = sheet.locator(".facts dt").all_inner_texts()
    assert [each for each in names if re.search("[a-z]_|^(pid|uid|exe|eai)$", each)] == []
