// The yes to a suggested heal: to what, by a fresh look, and on which process it would act.

import * as act from "./act.js";
import { html, useEffect, useState } from "./dom.js";
import { words } from "./format.js";
import { Act } from "./part.js";
import { Plan, targetName } from "./plan.js";
import { Sheet } from "./sheet.js";
import { set } from "./store.js";

const close = () => set({ approving: null });
const ENDING = new Set(["terminate", "evict"]);

export function Approval({ id, component }) {
  const [planned, setPlanned] = useState(null);
  const [problem, setProblem] = useState(null);
  useEffect(() => {
    let mine = true;
    act.suggestion(id).then(
      (found) => mine && (found ? setPlanned(found) : close()),
      (error) => mine && setProblem(error.message),
    );
    return () => { mine = false; };
  }, []);
  const answer = async (said) => (await said) && close();
  return html`<${Sheet} name="approval" title=${`Heal ${component}?`} onClose=${close}>
    ${problem && html`<p class="bad-text" role="alert">${problem}</p>`}
    ${!planned && !problem && html`<p class="empty" role="status">Looking at what would be done …</p>`}
    ${planned && html`<${Plan} of=${planned} />
      <p class="muted">This is what a look just now says. What runs looks again before it acts.</p>
      <p class="row-actions">
        <${Act} kind="primary" onClick=${() => answer(act.approve(id, component))}>${ask(component, planned)}<//>
        <${Act} onClick=${() => answer(act.deny(id, component))}>${`Refuse the heal of ${component}`}<//></p>`}
  <//>`;
}

function ask(component, { steps }) {
  const playbooks = [...new Set(steps.map((step) => words(step.playbook)))].join(", then ");
  return `Approve: ${playbooks} of ${component}; ${onWhat(steps.filter((step) => ENDING.has(step.action)))}`;
}

function onWhat(ending) {
  const ended = [...new Set(ending.flatMap((step) => step.targets.map(targetName)))];
  if (ended.length) return `ends ${ended.join(", ")}`;
  const done = [...new Set(ending.filter((step) => !step.skipped).map((step) => step.does))];
  return done.length ? done.join(", ") : "no process of it is alive";
}
