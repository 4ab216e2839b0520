// Facts as a tree of names and values, as people say them; what is empty is left out.

import { html } from "./dom.js";
import { bytes, duration, percent, words } from "./format.js";

// What the stored name does not say by itself.
const LABELS = {
  seen_after: "seen after",
  resolved_in: "took",
  expires_in: "can be answered for",
  retry_in: "tried again in",
  exe: "program",
  uid: "user id",
  pid: "process id",
  pids: "process ids",
  start_ticks: "started (clock ticks since boot)",
  pidfd_inode: "pidfd inode",
  boot_id: "boot",
  exit: "how it ended",
  code: "exit code",
  eai: "resolver's error",
  load_1m: "load (1 minute)",
  sockets_inuse: "sockets in use",
  sockets_orphan: "orphaned sockets",
  sockets_tw: "sockets in TIME_WAIT",
  ephemeral_used: "outgoing ports in use",
  ephemeral_total: "outgoing ports in all",
  files_open: "open files (all)",
  files_max: "open files allowed (all)",
  own_files_open: "open files (healer)",
  own_files_max: "open files allowed (healer)",
  disk_root_free: "disk free (/)",
  disk_cwd_free: "disk free (healer's directory)",
  memory_available_bytes: "memory available (size)",
  cpu: "CPU busy",
  cpu_pressure: "time that work waited for a CPU",
  ipv4: "IPv4",
  ipv6: "IPv6",
  proof: "why it is the component's",
  owned: "held by the component",
  inode: "socket inode",
};

// Figures with a unit: in the log durations are seconds.
const SECONDS = new Set([
  "seen_after", "resolved_in", "expires_in", "retry_in", "elapsed", "duration", "delay", "rearm_after",
  "denial_rests",
]);
// Stored words, that are shown as such.
const STORED = new Set([
  "issue_type", "reason", "playbook", "playbooks", "action", "outcome", "settlement", "status", "code", "checks",
  "pending", "healed_by", "after", "candidates", "bind", "error", "why", "strained", "chosen_by", "criticality",
]);
const SIGNALS = {
  1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL",
  11: "SIGSEGV", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 24: "SIGXCPU", 31: "SIGSYS",
};
const ERRNOS = {
  1: "EPERM", 2: "ENOENT", 12: "ENOMEM", 13: "EACCES", 24: "EMFILE", 32: "EPIPE", 98: "EADDRINUSE", 99: "EADDRNOTAVAIL",
  100: "ENETDOWN", 101: "ENETUNREACH", 103: "ECONNABORTED", 104: "ECONNRESET", 110: "ETIMEDOUT", 111: "ECONNREFUSED",
  112: "EHOSTDOWN", 113: "EHOSTUNREACH",
};

export function Facts({ of }) {
  const shown = Object.entries(of ?? {}).filter(([, value]) => !isEmpty(value));
  if (!shown.length) return null;
  return html`<dl class="facts">${shown.map(([name, value]) => html`<div key=${name}>
    <dt>${label(name)}</dt><dd><${Value} name=${name} of=${value} /></dd></div>`)}</dl>`;
}

export function label(name) {
  const bare = name.replace(/_percent$/, "");
  return LABELS[bare] ?? words(bare);
}

function Value({ name, of }) {
  if (Array.isArray(of)) {
    if (!of.some(isObject)) return of.map((each) => plain(name, each)).join(", ");
    return html`<ol class="list">${of.map((each, at) => html`<li key=${at}><${Value} name=${name} of=${each} /></li>`)}</ol>`;
  }
  if (!isObject(of)) return plain(name, of);
  const [said, told] = headline(of);
  // A check's facts are its own.
  const whole = isObject(of.facts) ? { ...of, ...of.facts, facts: null } : of;
  const rest = Object.fromEntries(Object.entries(whole).filter(([each]) => !told.includes(each)));
  return html`${said}<${Facts} of=${rest} />`;
}

// The line by which one knows a nested fact, and which of its parts that line has told.
function headline(of) {
  if (of.pid !== undefined && of.name !== undefined) return [processName(of), ["pid", "name"]];
  if (of.target !== undefined && of.reason !== undefined)
    return [`${of.kind} ${of.target}: ${words(of.reason)}`, ["kind", "target", "reason"]];
  if (of.address !== undefined && of.port !== undefined) return [`${of.address}:${of.port}`, ["address", "port"]];
  if (of.signal !== undefined && of.code !== undefined)
    return [of.signal === null ? `exit code ${of.code}` : `signal ${plain("signal", of.signal)}`, ["signal", "code"]];
  if (typeof of.code === "string") return [words(of.code), ["code"]];
  if (of.undo !== undefined) return [`${words(of.action)}${of.undo ? " (when a step has failed)" : ""}`, ["action", "undo"]];
  if (of.name !== undefined && of.status !== undefined) return [`${words(of.name)}: ${of.status}`, ["name", "status"]];
  if (typeof of.name === "string") return [words(of.name), ["name"]];
  if (typeof of.playbook === "string" && of.why !== undefined) return [`${words(of.playbook)}: ${words(of.why)}`, ["playbook", "why"]];
  return ["", []];
}

export const processName = (process) => `${process.name || "process"}[${process.pid}]`;

// One figure or word, with its unit.
export function plain(name, of) {
  if (typeof of === "boolean") return of ? "yes" : "no";
  if (typeof of === "string") return STORED.has(name) ? words(of) : of;
  if (typeof of !== "number") return "unknown";
  if (SECONDS.has(name)) return duration(of);
  if (name.endsWith("_percent")) return percent(of);
  if (name === "max_unhealthy") return percent(100 * of);
  if (name.endsWith("_bytes")) return bytes(of);
  if (name === "signal" && SIGNALS[of]) return `${of} (${SIGNALS[of]})`;
  if (name === "errno" && ERRNOS[of]) return `${of} (${ERRNOS[of]})`;
  return String(Number.isInteger(of) ? of : Number(of.toPrecision(6)));
}

const isObject = (value) => value !== null && typeof value === "object";

const isEmpty = (value) =>
  value === null || value === "" || value === undefined || (isObject(value) && Object.values(value).every(isEmpty));
