// The history, with filters; older pages are read when they are asked for.

import { get } from "./api.js";
import { html, useState } from "./dom.js";
import { clock, duration, words } from "./format.js";
import { historyQuery, refresh } from "./live.js";
import { Empty, OutcomeMark, Section } from "./part.js";
import { again } from "./past.js";
import { inPast, notify, set, state, world } from "./store.js";

export const TYPES = ["port_not_listening", "connection_timeout", "connection_refused", "port_conflict", "process_crashed", "network_unreachable"];
const OUTCOMES = ["healed", "recovered", "failed", "open"];
const SINCE = [["", "any time"], [3600, "last hour"], [86400, "last day"], [604800, "last week"]];
const PAGE = 25;

function filter(name, value) {
  set({ filters: { ...state.filters, [name]: value }, more: null });
  if (inPast()) again();
  else refresh("history");
}

export function History() {
  const { history, components } = world();
  const [shown, setShown] = useState(PAGE);
  const { filters } = state;
  const records = [...(history?.records ?? []), ...(state.more?.records ?? [])];
  const next = state.more ? state.more.next : (history?.next ?? null);
  const narrowed = Object.values(filters).some(Boolean);
  const choose = (name) => (event) => { setShown(PAGE); filter(name, event.target.value); };
  // A name that was picked from the list, or the field emptied, holds at once; others when entered.
  const typed = (event) => {
    const name = event.target.value;
    if (!name || (components ?? []).some((each) => each.name === name)) choose("component_name")(event);
  };
  const older = async () => {
    if (shown + PAGE > records.length && next !== null) {
      try {
        const asked = { ...historyQuery(), cursor: next };
        const found = inPast()
          ? (await get("/at", { position: state.past.position, ...asked })).history
          : await get("/history", asked);
        set({ more: { records: [...(state.more?.records ?? []), ...found.records], next: found.next } });
      } catch (error) {
        return notify(error.message, "bad");
      }
    }
    return setShown(shown + PAGE);
  };
  return html`<${Section} id="history" title="History">
    <form class="filters" role="search" aria-label="Filter the history" onSubmit=${(event) => event.preventDefault()}>
      <label class="field">Component <input list="names" value=${filters.component_name}
        onInput=${typed} onChange=${choose("component_name")} placeholder="all" /></label>
      <datalist id="names">${(components ?? []).slice(0, 1000).map((each) => html`<option key=${each.name} value=${each.name}></option>`)}</datalist>
      <label class="field">Issue type <select value=${filters.issue_type} onChange=${choose("issue_type")}>
        <option value="">all</option>${TYPES.map((type) => html`<option key=${type} value=${type}>${words(type)}</option>`)}</select></label>
      <label class="field">Outcome <select value=${filters.outcome} onChange=${choose("outcome")}>
        <option value="">all</option>${OUTCOMES.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select></label>
      <label class="field">Detected <select value=${filters.since} onChange=${choose("since")}>
        ${SINCE.map(([seconds, name]) => html`<option key=${seconds} value=${seconds}>${name}</option>`)}</select></label>
    </form>
    ${state.problem.history && !inPast() && html`<p class="empty bad-text" role="alert">${state.problem.history}</p>`}
    ${records.length
      ? html`<div class="scroll"><table class="cards">
          <thead><tr><th scope="col">Detected</th><th scope="col">Component</th><th scope="col">Issue type</th>
            <th scope="col">Outcome</th><th scope="col">Playbooks</th><th scope="col" class="number">Healthy after</th></tr></thead>
          <tbody>${records.slice(0, shown).map((each) => html`<${Row} key=${each.issue_id} of=${each} />`)}</tbody>
        </table></div>
        <div class="pager"><span class="muted">${Math.min(shown, records.length)}${next !== null || shown < records.length ? ` of ${records.length}${next !== null ? "+" : ""}` : ""} shown</span>
          ${(shown < records.length || next !== null) && html`<button type="button" class="act" onClick=${older}>Show older</button>`}</div>`
      : html`<${Empty} of=${history} problem=${null} none=${
          narrowed ? "No issue matches these filters." : inPast() ? "No issue had been detected yet." : "No issue yet: nothing has failed."} />`}
  <//>`;
}

const Row = ({ of: each }) => html`<tr>
  <th scope="row" class="when"><a href=${`#/issue/${encodeURIComponent(each.issue_id)}`}>${clock(each.timestamp)}</a></th>
  <td data-label="Component">${each.component}</td>
  <td data-label="Issue type">${words(each.issue_type)}</td>
  <td data-label="Outcome"><${OutcomeMark} of=${each.outcome} />
    ${each.withheld.length > 0 && html` <span class="tag warn">withheld ${each.withheld.length}×</span>`}
    ${each.escalations.length > 0 && html` <span class="tag bad">escalated</span>`}</td>
  <td data-label="Playbooks">${each.playbooks_executed.length ? each.playbooks_executed.map(words).join(" → ") : html`<span class="muted">none</span>`}</td>
  <td data-label="Healthy after" class="number">${each.success ? duration(each.time_to_resolution) : html`<span class="muted">–</span>`}</td>
</tr>`;
