// The components, those in trouble first; a page at a time, so that a thousand are no burden.

import * as act from "./act.js";
import { Ask } from "./ask.js";
import { html, useMemo, useState } from "./dom.js";
import { ago, arithmetic, duration, words } from "./format.js";
import { Act, Empty, Health, Section } from "./part.js";
import { set, state, world } from "./store.js";

const ORDER = { unhealthy: 0, suspect: 1, starting: 2, unknown: 3, healthy: 4 };
const PAGE = 40;

export function Components() {
  const { components } = world();
  const [text, setText] = useState("");
  const [only, setOnly] = useState("");
  const [page, setPage] = useState(0);
  const found = useMemo(() => {
    const wanted = text.trim().toLowerCase();
    return [...(components ?? [])]
      .filter((each) => (!wanted || each.name.toLowerCase().includes(wanted)) && (!only || trouble(each) === only))
      .sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name));
  }, [components, text, only]);
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  const at = Math.min(page, pages - 1);
  const sick = (components ?? []).filter((each) => trouble(each) === "trouble").length;
  const aside = components && html`<span class="muted">${
    sick ? html`<strong class="bad-text">${sick} in trouble</strong> of ${components.length}` : `${components.length}, none in trouble`}</span>`;
  const filters = components?.length > 8 && html`<div class="filters">
    <label class="field">Name <input type="search" value=${text} onInput=${(e) => { setText(e.target.value); setPage(0); }} /></label>
    <label class="field">Show <select value=${only} onChange=${(e) => { setOnly(e.target.value); setPage(0); }}>
      <option value="">all</option><option value="trouble">in trouble</option><option value="well">well</option>
    </select></label></div>`;
  return html`<${Section} id="components" title="Components" aside=${aside}>
    ${filters}
    ${found.length
      ? html`<div class="scroll"><table class="cards">
          <thead><tr><th scope="col">Component</th><th scope="col">Health</th><th scope="col">Address</th>
            <th scope="col">Last look</th><th scope="col">Process</th><th scope="col">Healing</th>
            <th scope="col"><span class="sr">Actions</span></th></tr></thead>
          <tbody>${found.slice(at * PAGE, (at + 1) * PAGE).map((each) => html`<${Row} key=${each.name} of=${each} />`)}</tbody>
        </table></div>`
      : html`<${Empty} of=${components} problem=${state.problem.components}
          none=${components?.length ? "No component matches." : "No component yet."} />`}
    ${pages > 1 && html`<div class="pager">
      <button type="button" class="act" disabled=${at === 0} onClick=${() => setPage(at - 1)}>Previous</button>
      <span>page ${at + 1} of ${pages}</span>
      <button type="button" class="act" disabled=${at >= pages - 1} onClick=${() => setPage(at + 1)}>Next</button></div>`}
  <//>`;
}

const trouble = (each) => (each.health === "unhealthy" || each.health === "suspect" || each.open_issue ? "trouble" : "well");
const rank = (each) => (each.open_issue ? 0 : (ORDER[each.health] ?? 3));

function Row({ of: each }) {
  const open = () => set({ open: { kind: "component", id: each.name } });
  return html`<tr>
    <th scope="row"><button type="button" class="link" onClick=${open}>${each.name}</button>
      ${each.mode && each.mode !== "act" && html` <span class="tag">${each.mode}</span>`}
      ${each.in_maintenance && html` <span class="tag warn">maintenance</span>`}</th>
    <td data-label="Health"><${Health} of=${each.health} /></td>
    <td data-label="Address" class="mono">${each.host}:${each.port}${
      each.configured_port && each.configured_port !== each.port && html` <span class="tag warn">moved</span>`}</td>
    <td data-label="Last look">${look(each.last_probe)}</td>
    <td data-label="Process" class="mono">${each.process ? `${each.process.name}[${each.process.pid}]` : html`<span class="muted">–</span>`}</td>
    <td data-label="Healing">${healing(each)}</td>
    <td class="row-actions">${each.awaits_approval
      ? html`<${Ask} id=${each.open_issue} component=${each.name} />`
      : html`<${Act} label=${`Heal ${each.name}`} onClick=${() => act.heal(each.name)}>Heal<//>`}</td>
  </tr>`;
}

const look = (probe) =>
  probe ? html`${words(probe.reason)} <span class="muted">${duration(probe.elapsed)}</span>` : html`<span class="muted">–</span>`;

function healing(each) {
  if (each.open_issue) {
    const issue = (world().active ?? []).find((one) => one.issue_id === each.open_issue);
    const word = each.awaits_approval ? "asks for approval" : words(issue?.state ?? each.issue_state ?? "open");
    return html`<a href=${`#/issue/${encodeURIComponent(each.open_issue)}`}>${word}</a>`;
  }
  if (each.withheld) {
    const again = each.withheld.retry_in == null ? "" : `, again in ${duration(each.withheld.retry_in)}`;
    return html`<span class="muted" title=${arithmetic(each.withheld.arithmetic)}>would wait: ${words(each.withheld.reason)}${again}</span>`;
  }
  if (!each.issues) return html`<span class="muted">no issue yet</span>`;
  const last = each.last_change ? `, last change ${ago(each.last_change, state.travel?.time?.getTime())} ago` : "";
  return html`<span class="muted">${each.issues} ${each.issues === 1 ? "issue" : "issues"}${last}</span>`;
}
