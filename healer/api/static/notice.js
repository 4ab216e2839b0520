// What an action came to, said where the reader is: on the page, or in the sheet that lies on top.
// Both regions are there from the beginning: a screen reader reads only what changes in one.

import { html } from "./dom.js";
import { onTop, state } from "./store.js";

export function Notices({ on }) {
  const notice = onTop() === on ? state.notice : null;
  const bad = notice?.level === "bad";
  const text = notice && html`<p class=${`notice ${notice.level}`}>${notice.text}</p>`;
  return html`<div class="notices">
    <div role="status">${!bad && text}</div>
    <div role="alert">${bad && text}</div>
  </div>`;
}
