// What a heal would do: each step, and to which process.

import { Facts, processName } from "./facts.js";
import { html } from "./dom.js";
import { words } from "./format.js";

export const targetName = (target) => processName(target.process);

export const Plan = ({ of: { steps } }) => html`<ol class="plan" aria-label="What would be done">
  ${steps.map((step, at) => html`<li key=${at}>
    <strong>${words(step.playbook)}: ${words(step.action)}</strong> ${step.skipped ? html`<span class="muted">nothing to do: ${step.skipped}</span>` : step.does}
    ${step.targets.length > 0 && html`<${Facts} of=${{ targets: step.targets }} />`}</li>`)}
  ${!steps.length && html`<li>nothing</li>`}</ol>`;
