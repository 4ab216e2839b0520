// What an operator can do. Each goes through the interface that everybody uses, and says how it went.

import { get, post, Refused } from "./api.js";
import { arithmetic, words } from "./format.js";
import { refresh } from "./live.js";
import { notify } from "./store.js";

const REASON = "from the dashboard";

async function act(path, body, told) {
  try {
    const answer = await post(path, body);
    if (answer === null) return null;
    notify(typeof told === "function" ? told(answer) : told, "good");
    refresh();
    return answer;
  } catch (error) {
    notify(error instanceof Refused ? refusal(error) : "the healer does not answer", "bad");
    return null;
  }
}

function refusal(error) {
  const figures = arithmetic(error.problem.arithmetic);
  return figures ? `${error.message} (${figures})` : error.message;
}

const of = (name) => `/components/${encodeURIComponent(name)}`;
const issue = (id) => `/issues/${encodeURIComponent(id)}`;

export const heal = (name, issueType) =>
  act(
    "/heal",
    { component_name: name, wait: false, reason: REASON, ...(issueType ? { issue_type: issueType } : {}) },
    (answer) => (answer.accepted ? `Healing ${name}.` : `${name}: ${words(answer.reason ?? answer.state)}`),
  );

export const plan = (name, issueType) =>
  act(
    "/heal",
    { component_name: name, dry_run: true, ...(issueType ? { issue_type: issueType } : {}) },
    `What a heal of ${name} would do is shown below; nothing was done.`,
  );

export const healAll = () => act("/auto-heal", {}, "All components that fail are being healed.");
export const pause = () => act("/pause", { reason: REASON }, "Healing is paused.");
export const resume = () => act("/resume", { reason: REASON }, "Healing goes on.");

// What a suggested heal would do now; null when no token is given for asking.
export async function suggestion(id) {
  const found = await get(issue(id));
  if (found.approval !== "requested") throw new Error("Nothing is suggested any more.");
  const { playbooks } = found.events.findLast((each) => each.type === "issue.approval_requested.v1").facts;
  const { component, issue_type } = found;
  try {
    return await post("/heal", { component_name: component, dry_run: true, issue_type, playbooks });
  } catch (error) {
    throw error instanceof Refused ? error : new Error("The healer does not answer.");
  }
}

export const approve = (id, name) => act(`${issue(id)}/approve`, { reason: REASON }, `The heal of ${name} is approved.`);
export const deny = (id, name) => act(`${issue(id)}/deny`, { reason: REASON }, `The heal of ${name} is refused.`);
export const changeMode = (name, mode) =>
  act(`${of(name)}/mode`, { mode, reason: REASON }, `${name}: mode ${mode}.`);
export const maintain = (name, length, reason) =>
  act(`${of(name)}/maintenance`, { for: length, reason: reason || REASON }, `${name} is in maintenance for ${length}.`);
export const endMaintenance = (name) =>
  act(`${of(name)}/maintenance/end`, { reason: REASON }, `${name} is not in maintenance any more.`);
export const rearm = (name) =>
  act(`${of(name)}/rearm`, { reason: REASON }, `${name} has its whole budget again.`);
