// Small parts that several views use.

import { html } from "./dom.js";
import { percent, words } from "./format.js";
import { inPast, state } from "./store.js";

const HEALTH = { healthy: "good", unhealthy: "bad", suspect: "warn", starting: "info", unknown: "quiet" };
const OUTCOME = { healed: "good", recovered: "info", failed: "bad", open: "warn" };

// A word with a mark of its own shape, so that colour is not all that tells.
export const Mark = ({ level, children }) => html`<span class=${`mark ${level}`}>${children}</span>`;
export const Health = ({ of }) => html`<${Mark} level=${HEALTH[of] ?? "quiet"}>${words(of)}<//>`;
export const OutcomeMark = ({ of }) => html`<${Mark} level=${OUTCOME[of] ?? "quiet"}>${words(of)}<//>`;

export function Section({ id, title, aside, children }) {
  return html`<section class="panel" id=${id} aria-labelledby=${`${id}-title`}>
    <header class="panel-head"><h2 id=${`${id}-title`}>${title}</h2>${aside}</header>
    ${children}
  </section>`;
}

// What stands where nothing is: why it could not be read, that it is being read, or that none is.
export function Empty({ of, problem, none }) {
  if (problem) return html`<p class="empty bad-text">Cannot show this: ${problem}</p>`;
  if (of === null) {
    const failed = inPast() && state.travel.problem;
    return html`<p class="empty">${failed ? "Not known at this moment." : "Reading …"}</p>`;
  }
  return html`<p class="empty">${none}</p>`;
}

// Pressing it acts; in the past, nothing can be done.
export const Act = ({ onClick, children, kind = "", label }) => html`<button
  type="button" class=${`act ${kind}`} aria-label=${label}
  disabled=${inPast()} title=${inPast() ? "The past cannot be changed" : null}
  onClick=${onClick}>${children}</button>`;

// A rate, its 95 % interval and n, as a bar.
export function Rate({ rate, interval, n }) {
  if (!n) return html`<span class="muted">none yet</span>`;
  const [low, high] = interval ?? [rate, rate];
  const level = rate >= 90 ? "good" : rate >= 60 ? "warn" : "bad";
  const name = `${percent(rate)} of ${n}; 95 % interval ${percent(low)} to ${percent(high)}`;
  return html`<span class="rate" title=${name}>
    <svg class=${`bar ${level}`} viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
      <rect class="track" width="100" height="10" rx="0"></rect>
      <rect class="fill" width=${rate} height="10"></rect>
      <rect class="interval" x=${low} y="4" width=${Math.max(0.5, high - low)} height="2"></rect>
    </svg>
    <span class="figure">${percent(rate)}</span><span class="sr"> of ${n}</span>
  </span>`;
}
