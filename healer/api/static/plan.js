// What a heal would do: each step, and to which process.

import { processName } from "./facts.js";
import { html } from "./dom.js";
import { words } from "./format.js";

export const targetName = (target) => processName(target.process);

// Why it may be ended, and what it is.
function told({ process, proof }) {
  const owner = proof ? `the component's: ${words(proof)}` : "foreign";
  const user = process.uid == null ? "" : `, user id ${process.uid}`;
  return `${processName(process)} (${owner})${process.exe ? `, ${process.exe}` : ""}${user}`;
}

export const Plan = ({ of: { steps } }) => html`<ol class="plan" aria-label="What would be done">
  ${steps.map((step, at) => html`<li key=${at}>
    <strong>${words(step.playbook)}: ${words(step.action)}</strong> ${step.skipped ? html`<span class="muted">nothing to do: ${step.skipped}</span>` : step.does}
    ${step.targets.length > 0 && html`<ul class="muted">${step.targets.map((each) => html`<li key=${each.process.pid}>${told(each)}</li>`)}</ul>`}</li>`)}
  ${!steps.length && html`<li>nothing</li>`}</ol>`;
