// What is being healed now. An issue stays in sight for some seconds after its end: most heals are
// over sooner than anybody can read.

import { Ask } from "./ask.js";
import { html } from "./dom.js";
import { clock, words } from "./format.js";
import { Empty, Mark, Section } from "./part.js";
import { inPast, state, world } from "./store.js";

const STATES = ["detected", "diagnosing", "remediating", "verified"];
const MOST = 24;

export function Active() {
  const { active, components } = world();
  const open = active ?? [];
  const ids = new Set(open.map((issue) => issue.issue_id));
  const ended = inPast() ? [] : [...state.ended.values()].filter((each) => !ids.has(each.issue_id));
  const shown = [...open, ...ended].sort((a, b) => a.position - b.position);
  const asking = new Set((components ?? []).filter((each) => each.awaits_approval).map((each) => each.open_issue));
  return html`<${Section} id="active" title="Active healings"
      aside=${active && html`<span class="muted">${open.length ? `${open.length} open` : "none open"}</span>`}>
    <div aria-live="polite" aria-relevant="additions" class="cards-grid">
      ${shown.slice(0, MOST).map((issue) => html`<${Card} key=${issue.issue_id} issue=${issue} asks=${asking.has(issue.issue_id)} />`)}
    </div>
    ${shown.length > MOST && html`<p class="muted">and ${shown.length - MOST} more</p>`}
    ${!shown.length && html`<${Empty} of=${active} problem=${state.problem.active}
      none=${inPast() ? "No issue was open at this moment." : "Nothing is being healed."} />`}
  <//>`;
}

function Card({ issue, asks }) {
  const over = issue.good !== undefined;
  const name = issue.component ?? "issue";
  const lines = inPast() ? [] : (state.lines.get(issue.issue_id) ?? []);
  const doing = [issue.playbook, issue.step].filter(Boolean).map(words).join(": ");
  return html`<article class=${`card ${over ? (issue.good ? "good" : "bad") : "warn"}`}>
    <h3><a href=${`#/issue/${encodeURIComponent(issue.issue_id)}`}>${name}</a>${" "}<span class="muted">${words(issue.issue_type)}</span></h3>
    ${over
      ? html`<p><${Mark} level=${issue.good ? "good" : "bad"}>${issue.text}<//></p>`
      : html`<ol class="states" aria-label="State">${STATES.map((each) => html`<li key=${each}
            class=${STATES.indexOf(each) < STATES.indexOf(issue.state) ? "done" : ""}
            aria-current=${each === issue.state ? "step" : null}>${each}</li>`)}</ol>
          <p class="muted">since ${clock(issue.since)}${doing && html` · <span class="doing">${doing}</span>`}
            ${asks && html` · <span class="warn-text">asks for approval</span>`}
            ${issue.attempt > 1 && html` · attempt ${issue.attempt}`}
            ${issue.withheld && html` · <span class="warn-text">withheld: ${words(issue.withheld)}</span>`}
            ${issue.escalated && html` · <strong class="bad-text">escalated</strong>`}</p>`}
    ${!over && lines.length > 0 && html`<ul class="log" aria-live="off">${lines.map((line, at) => html`<li key=${at} class=${line.level}>${line.text}</li>`)}</ul>`}
    ${asks && html`<p class="row-actions">
      <${Ask} id=${issue.issue_id} component=${name} /></p>`}
  </article>`;
}
