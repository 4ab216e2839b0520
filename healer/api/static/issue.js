// One issue: what it was, what became of it, and each step with its evidence.

import { get } from "./api.js";
import { html, useEffect, useRef, useState } from "./dom.js";
import { Facts, plain } from "./facts.js";
import { clock, duration, offset, words } from "./format.js";
import { Ask } from "./ask.js";
import { Mark, OutcomeMark } from "./part.js";
import { issueThen } from "./past.js";
import { Sheet } from "./sheet.js";
import { inPast, state } from "./store.js";

export function Issue({ id, onClose }) {
  const [issue, setIssue] = useState(undefined);
  const [problem, setProblem] = useState(null);
  const asked = useRef(0);
  const shown = useRef(0);
  const lines = state.lines.get(id);
  const moment = state.past?.position;
  useEffect(() => {
    const number = ++asked.current;
    const take = (found, problem = null) => {
      if (number < shown.current) return; // a later answer was quicker
      shown.current = number;
      setProblem(problem);
      if (problem === null) setIssue(found);
    };
    const read = inPast() ? issueThen(id) : get(`/issues/${encodeURIComponent(id)}`);
    read.then(take, (error) => take(null, error.message));
  }, [id, lines, moment]);
  const title = issue ? html`${issue.component} <span class="muted">${words(issue.issue_type)}</span>` : "Issue";
  return html`<${Sheet} name="issue" title=${title} onClose=${onClose}>
    ${problem && html`<p class="bad-text" role="alert">${problem}</p>`}
    ${issue === undefined && !problem && html`<p class="empty">Reading …</p>`}
    ${issue === null && html`<p class="empty">Not in the log yet at this moment.</p>`}
    ${issue && html`<${Story} issue=${issue} />`}
  <//>`;
}

function Story({ issue }) {
  const asks = issue.approval === "requested" && issue.outcome === "open";
  const detected = issue.detected_as !== issue.issue_type ? `, seen as ${words(issue.detected_as)}` : "";
  return html`
    <p class="summary"><${OutcomeMark} of=${issue.outcome} />
      ${issue.success && html`, healthy after <strong>${duration(issue.time_to_resolution)}</strong>`}
      ${issue.reason && html`: ${words(issue.reason)}`}
      <span class="muted">; detected ${clock(issue.timestamp, { date: true, millis: true })} on ${issue.host}:${issue.port}${detected}${
        issue.time_to_detect != null ? `, after ${duration(issue.time_to_detect)}` : ""}${
        issue.recurrence ? `, recurrence ${issue.recurrence}` : ""}</span></p>
    ${asks && html`<p class="row-actions">
      <${Ask} id=${issue.issue_id} component=${issue.component} /></p>`}
    ${issue.previous && html`<p class="muted">Came back after <a href=${`#/issue/${encodeURIComponent(issue.previous)}`}>the issue before</a>.</p>`}
    ${issue.withheld.length > 0 && html`<section aria-labelledby="withheld-title"><h3 id="withheld-title">Why it was withheld</h3>
      <ul class="withheld">${issue.withheld.map((each, at) => html`<li key=${at}><${Withheld} of=${each} /></li>`)}</ul></section>`}
    ${issue.recommendations.length > 0 && html`<section aria-labelledby="advice-title"><h3 id="advice-title">Recommended</h3>
      <ul>${issue.recommendations.map((each, at) => html`<li key=${at}>${each}</li>`)}</ul></section>`}
    <h3 id="story-title">Timeline</h3>
    <ol class="timeline" aria-labelledby="story-title">${issue.events.map((each) => html`<${Step} key=${each.event_id} of=${each} />`)}</ol>
    <p class="muted mono">issue ${issue.issue_id}</p>`;
}

function Withheld({ of: each }) {
  return html`<${Mark} level="warn">${words(each.reason)}<//>
    <span class="muted"> at ${clock(each.timestamp, { millis: true })}${each.cause ? `, because of ${each.cause}` : ""}${
      each.retry_in != null ? `, again in ${duration(each.retry_in)}` : ""}</span>
    <table class="arithmetic"><caption class="sr">The arithmetic</caption><tbody>${Object.entries(each.arithmetic).map(
      ([name, value]) => html`<tr key=${name}><th scope="row">${words(name)}</th><td class="number">${plain(name, value)}</td></tr>`)}</tbody></table>`;
}

function Step({ of: each }) {
  const { facts } = each;
  return html`<li class=${each.level}>
    <time class="mono" datetime=${each.timestamp} title=${clock(each.timestamp, { date: true, millis: true })}>${offset(each.offset_ms)}</time>
    <span class="where">${each.state}</span>
    <details><summary>${each.text}</summary>
      <${Facts} of=${facts} />
      <p class="muted mono">${each.type} · ${each.actor} · ${clock(each.timestamp, { date: true, millis: true })}</p>
    </details></li>`;
}
