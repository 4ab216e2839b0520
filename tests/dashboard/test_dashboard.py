"""What an operator sees and does, in a real Chromium, over real components that really fail."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Until
from tests.dashboard.conftest import ACTING, CHROMIUM, DESKTOP, PHONE, SOON, Look, Served, Watched
from tests.dashboard.page import NAMELESS, contrasts, give_token, ready, sideways

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


def moment(instant: str, seconds: float) -> str:
    """What a person types into the field, in the browser's time zone (UTC here)."""
    at = datetime.fromisoformat(instant).timestamp() + seconds
    return datetime.utcfromtimestamp(at).isoformat(timespec="milliseconds")


def rows(page: Any) -> Any:
    return page.locator("#history tbody tr")


def test_a_component_that_breaks_is_seen_being_healed_without_a_reload(
    served: Served, look: Look, until: Until
) -> None:
    until(lambda: served.healthy("chat_api"))
    page = ready(look(served))
    page.evaluate("window.same = true")
    listed = rows(page).count()
    served.kill("chat_api")
    card = page.locator("#active article", has_text="chat_api")
    card.get_by_text("healed by restart_component").wait_for()
    page.wait_for_function(
        "count => document.querySelectorAll('#history tbody tr').length > count", arg=listed
    )
    newest = rows(page).filter(has_text="chat_api").first
    newest.get_by_text("healed", exact=True).wait_for()
    assert newest.locator("td", has_text="process crashed").count() == 1
    assert page.evaluate("window.same") is True


def test_the_page_asks_no_other_host(served: Served, look: Look) -> None:
    watched = look(served)
    page = ready(watched)
    page.get_by_role("button", name="One fact back").click()
    page.get_by_text("Nothing can be changed here").wait_for()
    assert len(watched.asked) > 15
    assert [url for url in watched.asked if not url.startswith(f"{served.url}/")] == []
    assert page.context.cookies() == []


def test_the_history_is_filtered(served: Served, look: Look, until: Until) -> None:
    served.healed(until, "search_api")
    page = ready(look(served))
    history = page.get_by_role("search", name="Filter the history")
    history.get_by_label("Component").fill("search_api")
    history.get_by_label("Issue type").select_option("process_crashed")
    page.wait_for_function(
        "() => document.querySelector('#history tbody tr') && "
        "[...document.querySelectorAll('#history tbody tr')].every("
        "row => row.innerText.includes('search_api') && row.innerText.includes('process crashed'))"
    )
    history.get_by_label("Outcome").select_option("failed")
    page.get_by_text("No issue matches these filters.").wait_for()
    history.get_by_label("Outcome").select_option("")
    history.get_by_label("Component").fill("no_such_component")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("no_such_component").wait_for()


def test_an_issue_is_told_step_by_step_and_why_it_was_withheld(
    served: Served, look: Look, until: Until, tmp_path: Path
) -> None:
    served.healed(until, "search_api")
    before = served.last("search_api")
    served.kill("search_api", again=True)
    until(lambda: served.last("search_api") != before and served.story("search_api")["withheld"])
    served.rearm("search_api")
    until(lambda: served.healthy("search_api"))
    issue = served.story("search_api")
    page = ready(look(served))
    rows(page).filter(has_text="search_api").filter(has_text="withheld").first.get_by_role(
        "link"
    ).click()
    sheet = page.get_by_role("dialog")
    sheet.get_by_role("heading", name="Why it was withheld").wait_for()
    figures = sheet.locator(".arithmetic").first
    for name in issue["withheld"][0]["arithmetic"]:
        figures.get_by_role("rowheader", name=name.replace("_", " "), exact=True).wait_for()
    steps = sheet.locator(".timeline > li")
    assert steps.count() == len(issue["events"])
    first = steps.first
    assert "process_crashed" in first.inner_text()
    first.locator("summary").click()
    first.get_by_text("issue.detected.v1").wait_for()
    assert "signal" in first.locator(".facts").first.inner_text()
    page.screenshot(path=tmp_path / "issue.png")
    page.keyboard.press("Escape")
    sheet.wait_for(state="detached")
    assert "#" not in page.url


def test_an_issue_has_an_address(served: Served, look: Look) -> None:
    issue = served.get("/network-healer/history", limit=1).json()["records"][0]
    page = look(served, f"/#/issue/{issue['issue_id']}").page
    page.get_by_role("dialog").get_by_text(issue["issue_id"]).wait_for()


def test_a_heal_by_button_asks_for_the_token_once(served: Served, look: Look, until: Until) -> None:
    until(lambda: served.healthy("chat_api"))
    pid = served.component("chat_api")["process"]["pid"]
    watched = look(served)
    page = ready(watched)
    page.get_by_role("button", name="chat_api", exact=True).click()
    page.get_by_label("Treat as").select_option("process_crashed")
    page.get_by_role("button", name="What would be done?").click()
    give_token(page, "0" * 64)
    page.get_by_text("That token was not accepted.").wait_for()
    give_token(page, served.token)
    plan = page.get_by_role("list", name="What would be done")
    plan.get_by_text("restart component: terminate").wait_for()
    assert served.component("chat_api")["process"]["pid"] == pid, "a dry run does nothing"
    page.get_by_role("button", name="Heal chat_api", exact=True).last.click()
    page.get_by_role("status").get_by_text("Healing chat_api.").wait_for()
    until(lambda: served.healthy("chat_api"))
    until(lambda: served.component("chat_api")["process"]["pid"] != pid)
    assert page.evaluate("Object.keys(localStorage).length") == 0


def test_healing_is_paused_and_resumed(served: Served, look: Look) -> None:
    page = ready(look(served))
    page.get_by_role("button", name="Pause healing").click()
    give_token(page, served.token)
    page.get_by_text("Healing is paused since").wait_for()
    assert served.get("/network-healer/components").json()["paused"]["reason"] == (
        "from the dashboard"
    )
    page.get_by_role("button", name="Resume healing").click()
    page.get_by_role("button", name="Pause healing").wait_for()
    assert served.get("/network-healer/components").json()["paused"] is None


def test_the_mode_and_maintenance_of_a_component_are_switched(
    served: Served, look: Look, until: Until
) -> None:
    page = ready(look(served))
    page.get_by_role("button", name="memory_kernel", exact=True).click()
    sheet = page.get_by_role("dialog", name="memory_kernel")
    sheet.get_by_label("Reason").fill("deploy 4.2")
    sheet.get_by_role("button", name="Begin maintenance").click()
    give_token(page, served.token)
    sheet.get_by_role("button", name="End maintenance").click()
    sheet.get_by_role("button", name="Begin maintenance").wait_for()
    sheet.get_by_role("combobox", name="Mode").select_option("observe")
    row = page.locator("#components tbody tr", has_text="memory_kernel")
    row.get_by_text("observe", exact=True).wait_for()
    sheet.get_by_role("combobox", name="Mode").select_option("act")
    until(lambda: served.component("memory_kernel")["mode"] == "act")


def test_the_slider_shows_the_world_before_the_fault(
    served: Served, look: Look, until: Until, tmp_path: Path
) -> None:
    issue = served.healed(until, "memory_kernel")
    page = ready(look(served, timezone_id="UTC"))
    now = served.component("memory_kernel")["process"]["pid"]
    history = page.get_by_role("search", name="Filter the history")
    history.get_by_label("Component").fill("memory_kernel")
    history.get_by_label("Issue type").select_option("process_crashed")
    row = page.locator("#components tbody tr", has_text="memory_kernel")
    row.get_by_text(f"[{now}]").wait_for()
    rows(page).first.wait_for()

    fault = moment(issue["timestamp"], -issue["time_to_detect"] - 0.002)
    page.get_by_label("Go to a moment").fill(fault)
    page.get_by_text("Nothing can be changed here").wait_for()
    page.get_by_text("No issue matches these filters.").wait_for()
    row.get_by_text("healthy", exact=True).wait_for()
    assert f"[{now}]" not in row.inner_text(), "the process of now is not the one of then"
    assert page.get_by_role("button", name="Pause healing").is_disabled()
    assert row.get_by_role("button", name="Heal memory_kernel").is_disabled()
    page.screenshot(path=tmp_path / "past.png")

    page.get_by_label("Go to a moment").fill(moment(issue["timestamp"], 0.002))
    rows(page).get_by_text("open", exact=True).wait_for()
    page.locator("#active article", has_text="memory_kernel").get_by_role("link").click()
    steps = page.get_by_role("dialog").locator(".timeline > li")
    steps.first.wait_for()
    assert steps.count() < len(issue["events"])
    page.keyboard.press("Escape")

    for _ in range(3):
        page.get_by_role("button", name="One fact forward").click()
    page.get_by_role("button", name="Back to now").click()
    row.get_by_text(f"[{now}]").wait_for()
    assert page.get_by_role("button", name="Pause healing").is_enabled()
    page.get_by_role("slider").fill("0")
    page.get_by_text("No component yet.").wait_for()
    page.get_by_text("No playbook has run yet.").wait_for()


def test_dragging_the_slider_asks_little_and_ends_where_it_was_left(
    served: Served, look: Look
) -> None:
    page = ready(look(served))
    asked: list[str] = []
    page.on("request", lambda request: "/at?" in request.url and asked.append(request.url))
    slider = page.get_by_role("slider")
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] - 8, middle)
    page.mouse.down()
    for step in range(60):
        page.mouse.move(box["x"] + box["width"] * (1 - step / 100), middle)
    page.mouse.up()
    page.get_by_text(re.compile("after fact")).wait_for()
    page.locator("main[aria-busy=false]").wait_for()
    assert 1 <= len(asked) < 30
    assert 380 <= int(slider.input_value()) <= 440


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_is_readable_in_both_schemes_and_widths(
    served: Served, look: Look, scheme: str, viewport: dict[str, int], tmp_path: Path
) -> None:
    options = {"viewport": viewport, "color_scheme": scheme, "reduced_motion": "reduce"}
    page = ready(look(served, **options))
    rows(page).first.wait_for()
    page.screenshot(path=tmp_path / f"{scheme}-{viewport['width']}.png", full_page=True)
    assert sideways(page) == []
    assert contrasts(page) == []
    rows(page).first.get_by_role("link").click()
    page.get_by_role("dialog").locator(".timeline > li").first.wait_for()
    assert sideways(page) == []
    assert contrasts(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="One fact back").click()
    page.get_by_text("Nothing can be changed here").wait_for()
    assert sideways(page) == []
    assert contrasts(page) == []


def test_everything_has_a_name_and_a_place(served: Served, look: Look) -> None:
    page = ready(look(served))
    rows(page).first.wait_for()
    assert page.evaluate(NAMELESS) == []
    for landmark in ("banner", "navigation", "main", "search"):
        assert page.get_by_role(landmark).count() == 1
    assert page.locator("h1").count() == 1
    names = page.get_by_role("region").evaluate_all(
        "all => all.map(each => document.getElementById("
        "each.getAttribute('aria-labelledby'))?.innerText ?? each.getAttribute('aria-label'))"
    )
    assert names == [
        "Time",
        "Active healings",
        "Components",
        "Success and time to resolution",
        "History",
        "Playbooks",
    ]
    page.get_by_role("button", name="chat_api", exact=True).click()
    assert page.evaluate(NAMELESS) == []


def test_it_can_be_used_by_keyboard_alone(served: Served, look: Look, until: Until) -> None:
    until(lambda: served.healthy(*ACTING))
    page = ready(look(served))
    rows(page).first.wait_for()

    def tab_to(selector: str, at_most: int = 120) -> None:
        for _ in range(at_most):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        pytest.fail(f"cannot reach {selector} by keyboard")

    tab_to(".skip", 1)
    tab_to("input[type=range]")
    page.keyboard.press("Home")
    page.get_by_text("Nothing can be changed here").wait_for()
    page.get_by_text("No component yet.").wait_for()
    tab_to(".banner.past button")
    page.keyboard.press("Enter")
    page.get_by_text("Nothing can be changed here").wait_for(state="detached")
    ready(Watched(page))
    tab_to("#components .link")
    page.keyboard.press("Enter")
    sheet = page.get_by_role("dialog")
    sheet.get_by_role("heading", name="Facts").wait_for()
    page.keyboard.press("Escape")
    sheet.wait_for(state="detached")
    assert page.evaluate("document.activeElement.matches('#components .link')")
    tab_to("#history tbody a")
    page.keyboard.press("Enter")
    sheet.locator(".timeline summary").first.wait_for()
    tab_to(".timeline summary")
    page.keyboard.press("Enter")
    sheet.locator("details[open]").wait_for()
    page.keyboard.press("Escape")
    sheet.wait_for(state="detached")
    assert page.evaluate("document.activeElement.matches('#history tbody a')")


def test_a_healer_that_asks_for_a_token_to_read_gets_it(served: Served, look: Look) -> None:
    watched = look(served)
    page = ready(watched)

    def guarded(route: Any) -> None:
        if route.request.headers.get("authorization") == f"Bearer {served.token}":
            route.continue_()
        else:
            body = '{"detail": "cannot read without a token"}'
            route.fulfill(status=401, body=body, content_type="application/problem+json")

    page.route("**/network-healer/**", guarded)
    page.reload()
    page.get_by_text("This healer asks for a token to read.").wait_for()
    assert page.get_by_role("dialog").count() == 1
    give_token(page, "0" * 64)
    page.get_by_text("That token was not accepted.").wait_for()
    page.keyboard.press("Escape")
    page.locator(".connection", has_text="token needed").wait_for()
    page.get_by_text("cannot read without a token").first.wait_for()
    page.get_by_role("button", name="Forget token").click()
    page.get_by_role("button", name="Token …").click()
    give_token(page, served.token)
    ready(watched)
    rows(page).first.wait_for()
    page.reload()
    ready(watched)
    assert page.get_by_role("dialog").count() == 0, "the tab remembers"


def test_a_healer_that_goes_away_is_said_and_found_again(
    served: Served, look: Look, until: Until
) -> None:
    page = ready(look(served))
    served.process.terminate()
    page.locator(".connection", has_text="no connection").wait_for()
    served.process.wait(20)
    served.serve(until)
    page.locator(".connection", has_text="live").wait_for(timeout=2 * SOON)
    until(lambda: served.healthy(*ACTING))
    began = time.monotonic()
    served.kill("chat_api")
    page.locator("#active article", has_text="chat_api").first.wait_for()
    assert time.monotonic() - began < SOON / 1000
