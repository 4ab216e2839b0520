// One component: all that is known of it, and its switches.

import * as act from "./act.js";
import { get } from "./api.js";
import { html, useEffect, useState } from "./dom.js";
import { Facts } from "./facts.js";
import { clock, words } from "./format.js";
import { TYPES } from "./history.js";
import { Act, Health } from "./part.js";
import { Plan } from "./plan.js";
import { Sheet } from "./sheet.js";
import { inPast, world } from "./store.js";

const MODES = ["observe", "suggest", "act"];
const WINDOWS = ["10m", "30m", "1h", "4h", "1d"];

export function Component({ name, onClose }) {
  const each = (world().components ?? []).find((one) => one.name === name);
  const [type, setType] = useState("");
  const [planned, setPlanned] = useState(null);
  const [length, setLength] = useState("30m");
  const [reason, setReason] = useState("");
  const [advice, setAdvice] = useState([]);
  const issues = each?.issues;
  useEffect(() => {
    if (inPast()) return setAdvice([]);
    get(`/recommendations/${encodeURIComponent(name)}`).then((found) => setAdvice(found.recommendations), () => setAdvice([]));
    return undefined;
  }, [name, issues]);
  if (!each) return html`<${Sheet} name="component" title=${name} onClose=${onClose}><p class="empty">Not in the log yet at this moment.</p><//>`;
  const { host, port, configured_port, criticality, launcher, depends_on, epoch, failures, last_change, last_probe, process, withheld, maintenance } = each;
  return html`<${Sheet} name="component" title=${html`${name} <${Health} of=${each.health} />`} onClose=${onClose}>
    <section aria-labelledby="heal-title"><h3 id="heal-title">Heal</h3>
      <div class="filters"><label class="field">Treat as <select value=${type} onChange=${(e) => { setType(e.target.value); setPlanned(null); }}>
          <option value="">what the evidence says</option>${TYPES.map((one) => html`<option key=${one} value=${one}>${words(one)}</option>`)}</select></label>
        <${Act} onClick=${async () => setPlanned(await act.plan(name, type))}>What would be done?<//>
        <${Act} kind="primary" onClick=${() => act.heal(name, type)}>Heal ${name}<//></div>
      ${planned && html`<${Plan} of=${planned} />`}
    </section>
    <section aria-labelledby="mode-title"><h3 id="mode-title">Mode and maintenance</h3>
      <div class="filters">
        <label class="field">Mode <select value=${each.mode ?? "act"} disabled=${inPast()} onChange=${(e) => act.changeMode(name, e.target.value)}>
          ${MODES.map((mode) => html`<option key=${mode} value=${mode}>${mode}</option>`)}</select></label>
        ${each.in_maintenance
          ? html`<${Act} onClick=${() => act.endMaintenance(name)}>End maintenance<//>`
          : html`<label class="field">For <select value=${length} onChange=${(e) => setLength(e.target.value)}>
                ${WINDOWS.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}</select></label>
              <label class="field">Reason <input value=${reason} maxlength="200" placeholder="deploy" onInput=${(e) => setReason(e.target.value)} /></label>
              <${Act} onClick=${() => act.maintain(name, length, reason)}>Begin maintenance<//>`}
        <${Act} onClick=${() => act.rearm(name)}>Reset budget<//></div>
    </section>
    ${advice.length > 0 && html`<section aria-labelledby="advice-title"><h3 id="advice-title">Recommended</h3>
      <ul>${advice.map((one, at) => html`<li key=${at}>${typeof one === "string" ? one : html`<${Facts} of=${one} />`}</li>`)}</ul></section>`}
    <section aria-labelledby="facts-title"><h3 id="facts-title">Facts</h3>
      <${Facts} of=${{ address: `${host}:${port}`, configured_port: configured_port === port ? null : configured_port, criticality, launcher,
        depends_on, epoch, became_unhealthy: failures ? `${failures}×` : null, last_change: last_change && clock(last_change, { date: true, millis: true }),
        last_probe, process, maintenance, a_heal_would_wait: withheld }} /></section>
  <//>`;
}
