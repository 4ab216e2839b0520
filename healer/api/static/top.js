// The head of the page: where one is connected, pause and token, and the way through time.

import * as act from "./act.js";
import { askToken, forgetToken, hasToken } from "./api.js";
import { html, useState } from "./dom.js";
import { clock, words } from "./format.js";
import { refresh } from "./live.js";
import { Act, Mark } from "./part.js";
import { backToNow, travel } from "./past.js";
import { inPast, notify, set, state, world } from "./store.js";

const CONNECTION = { live: ["good", "live"], connecting: ["quiet", "connecting"], lost: ["bad", "no connection"], locked: ["warn", "token needed"] };

export function Top() {
  const { paused } = world();
  const [level, word] = CONNECTION[state.connection];
  const token = async () => {
    if (!hasToken()) return (await askToken("Acting needs the token of this healer.")) && refresh();
    forgetToken();
    notify("The token is forgotten.");
    return set({});
  };
  return html`<header class="top">
    <h1><img src="/static/icon.svg" alt="" width="22" height="22" />Network healer</h1>
    <span role="status" class="connection"><${Mark} level=${level}>${word}<//></span>
    <nav class="top-actions" aria-label="Controls">
      <${Act} onClick=${act.healAll}>Heal all that fail<//>
      ${paused
        ? html`<${Act} kind="primary" onClick=${act.resume}>Resume healing<//>`
        : html`<${Act} onClick=${act.pause}>Pause healing<//>`}
      <button type="button" class="act plain" onClick=${token}>${hasToken() ? "Forget token" : "Token …"}</button>
    </nav>
  </header>
  ${paused && html`<p class="banner warn" role="status">
    Healing is paused since ${clock(paused.since)} by ${paused.actor}: ${paused.reason}</p>`}`;
}

const WINDOWS = [[600, "10 minutes"], [3600, "1 hour"], [86400, "1 day"], [604800, "1 week"], [0, "all"]];
const STEPS = 1000;
const EDGE = 1000; // ms in front of the first fact, so that one can stand there

export function TimeBar() {
  const [length, setLength] = useState(3600);
  const [end, setEnd] = useState(() => Date.now());
  const past = inPast();
  const now = past ? end : Date.now();
  const first = state.span?.first ? new Date(state.span.first).getTime() : null;
  const begin = Math.min(Math.max(length ? now - length * 1000 : 0, first ? first - EDGE : now - 3600e3), now - EDGE);
  const place = past && state.travel.time ? ((state.travel.time - begin) / (now - begin)) * STEPS : STEPS;
  const slide = (event) => {
    const value = Number(event.target.value);
    if (value >= STEPS) return backToNow();
    if (!past) setEnd(now);
    return travel({ time: new Date(begin + (value / STEPS) * (now - begin)) });
  };
  const head = Math.max(state.position, state.span?.head ?? 0);
  const here = past ? (state.past?.position ?? state.travel.point.position ?? head) : head;
  const step = (by) => {
    if (!past) setEnd(Date.now());
    const position = here + by;
    return position >= head && by > 0 ? backToNow() : travel({ position: Math.max(0, position) });
  };
  const typed = (event) => {
    const time = new Date(event.target.value);
    if (Number.isNaN(time.getTime())) return;
    setEnd(Date.now());
    travel({ time });
  };
  const told = past && state.travel.time ? clock(state.travel.time, { date: true }) : "now";
  return html`<section class="time" aria-label="Time">
    <div class="time-row">
      <label class="field">Window
        <select value=${length} onChange=${(event) => setLength(Number(event.target.value))}>
          ${WINDOWS.map(([seconds, name]) => html`<option key=${seconds} value=${seconds}>${name}</option>`)}
        </select>
      </label>
      <div class="slide">
        <${Ticks} begin=${begin} end=${now} />
        <input type="range" min="0" max=${STEPS} step="1" value=${Math.round(Math.min(STEPS, Math.max(0, place)))}
          aria-label="Moment that is shown" aria-valuetext=${told} onInput=${slide} />
        <div class="ends" aria-hidden="true"><span>${clock(begin)}</span><span>${past ? clock(now) : "now"}</span></div>
      </div>
      <div class="steps">
        <button type="button" class="act" aria-label="One fact back" disabled=${here <= 0} onClick=${() => step(-1)}>‹</button>
        <button type="button" class="act" aria-label="One fact forward" disabled=${!past} onClick=${() => step(1)}>›</button>
        <label class="field"><span class="sr">Go to a moment</span>
          <input type="datetime-local" step="0.001" onChange=${typed} /></label>
      </div>
    </div>
    ${past && html`<${Then} told=${told} />`}
  </section>`;
}

function Then({ told }) {
  const { travel: at, past } = state;
  const place = past ? `, after fact ${past.position} of ${past.head}` : "";
  return html`<div class="banner past" role="status">
    <p><strong>The past: ${told}</strong>${place}. Nothing can be changed here.
      ${at.progress !== null && html` Reading the log: ${Math.round(100 * at.progress)} %.`}
      ${at.problem && html` <span class="bad-text">${at.problem}</span>`}
      ${past?.passedOver > 0 && html` A clock had jumped: ${past.passedOver} facts that bear a later time are left out.`}
    </p>
    <button type="button" class="act primary" onClick=${backToNow}>Back to now</button>
  </div>`;
}

// Where issues were: a picture for the eye, of what the history lists.
function Ticks({ begin, end }) {
  const records = state.live.history?.records ?? [];
  const marks = records.flatMap((record) => {
    const at = (new Date(record.timestamp).getTime() - begin) / (end - begin);
    return at < 0 || at > 1 ? [] : [[record.issue_id, at * STEPS, record.outcome]];
  });
  return html`<svg class="ticks" viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true">
    ${marks.map(([id, x, outcome]) => html`<rect key=${id} class=${words(outcome)} x=${x} width="3" height="10"></rect>`)}
  </svg>`;
}
