"""What a page must hold to, asked of the page itself."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["NAMELESS", "contrasts", "give_token", "ready", "sideways"]

_SIDEWAYS: Final = """
() => {
  const wide = document.documentElement.scrollWidth > innerWidth ? ["the page"] : [];
  const dialog = document.querySelector("dialog[open]");
  if (dialog && dialog.scrollWidth > dialog.clientWidth + 1) wide.push("the dialog");
  if (innerWidth < 500)
    for (const each of document.querySelectorAll(".scroll"))
      if (each.scrollWidth > each.clientWidth + 1) wide.push(each.closest("section").id);
  return wide;
}
"""

# WCAG 2.2, 1.4.3: the contrast of text and what it stands on, 4.5 at least; disabled controls and
# what only a screen reader hears are exempt.
_CONTRASTS: Final = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) =>
      v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgb("Canvas");
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (element.closest(":disabled, .sr, .skip, option, noscript, script, datalist")) continue;
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(ground(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5)
      poor.push(`${contrast.toFixed(2)} ${element.className}: ${walker.currentNode.data}`);
  }
  return poor;
}
"""

NAMELESS: Final = """
() => {
  const found = [];
  const text = (each) => (each.innerText || each.textContent || "").trim();
  for (const each of document.querySelectorAll("button, a, input, select, dialog, [role=img]")) {
    const by = each.getAttribute("aria-labelledby");
    const name = each.getAttribute("aria-label") || (by && text(document.getElementById(by))) ||
      [...(each.labels ?? [])].map(text).join("") ||
      (/BUTTON|A/.test(each.tagName) ? text(each) : "");
    if (!name) found.push(each.outerHTML.slice(0, 120));
  }
  for (const each of document.querySelectorAll("th")) if (!text(each)) found.push("an empty th");
  for (const each of document.querySelectorAll("img:not([alt])")) found.push("an img without alt");
  const ids = [...document.querySelectorAll("[id]")].map((each) => each.id);
  found.push(...ids.filter((id, at) => ids.indexOf(id) !== at).map((id) => `twice: ${id}`));
  const levels = [...document.querySelectorAll("h1, h2, h3")].map((each) => +each.tagName[1]);
  levels.forEach((level, at) => {
    if (level > (levels[at - 1] ?? 0) + 1) found.push(`h${level} skips a level`);
  });
  return found;
}
"""


def sideways(page: Any) -> list[str]:
    """What would have to be scrolled sideways."""
    found: list[str] = page.evaluate(_SIDEWAYS)
    return found


def contrasts(page: Any) -> list[str]:
    """Texts that are hard to read on their ground."""
    found: list[str] = page.evaluate(_CONTRASTS)
    return found


def ready(watched: Any) -> Any:
    """The page, when it shows the components and is live."""
    page = watched.page
    page.get_by_role("button", name="chat_api", exact=True).wait_for()
    page.locator(".connection", has_text="live").wait_for()
    return page


def give_token(page: Any, token: str) -> None:
    """Type `token` into the sheet that asks for one."""
    page.get_by_role("dialog").get_by_label("Token").fill(token)
    page.get_by_role("button", name="Use it").click()
