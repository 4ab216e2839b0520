// Keeps the live world current: the stream of facts says what has changed, and that is read again.
// At most one round of reading at a time, and none sooner than four times what the last one took.

import { events, get, Refused } from "./api.js";
import { inPast, learn, notify, set, state } from "./store.js";

const ALL = ["components", "active", "stats", "playbookStats", "history"];
const PAGE = 200;
const SOON = 60; // ms
const LINGER = 8000; // ms that an issue stays in sight after its end
const LINES = 4;

const READ = {
  components: async () => {
    const found = await get("/components");
    return { components: found.components, paused: found.paused };
  },
  active: async () => ({ active: (await get("/active")).active }),
  stats: async () => ({ stats: await get("/stats") }),
  playbookStats: async () => ({ playbookStats: (await get("/playbook-stats")).playbook_stats }),
  history: async () => ({ history: await get("/history", historyQuery()) }),
};

export function historyQuery() {
  const { since, ...filters } = state.filters;
  return { ...filters, since: sinceOf(since), limit: PAGE };
}

function sinceOf(seconds) {
  if (!seconds) return "";
  const now = inPast() ? new Date(state.travel.time ?? state.past?.label ?? Date.now()) : new Date();
  return new Date(now.getTime() - Number(seconds) * 1000).toISOString();
}

const dirty = new Set();
let timer = null;
let reading = false;
let rest = SOON;

export function refresh(...names) {
  for (const name of names.length ? names : ALL) dirty.add(name);
  if (timer === null && !reading) timer = setTimeout(round, rest);
}

async function round() {
  timer = null;
  reading = true;
  const began = performance.now();
  const names = [...dirty];
  dirty.clear();
  const problem = { ...state.problem };
  await Promise.all(
    names.map(async (name) => {
      try {
        learn(await READ[name]());
        delete problem[name];
      } catch (error) {
        problem[name] = error instanceof Refused ? error.message : "the healer does not answer";
      }
    }),
  );
  set({ problem });
  rest = Math.max(SOON, 4 * (performance.now() - began));
  reading = false;
  if (dirty.size) refresh(...dirty);
}

const JUDGED = new Set(["issue.detected.v1", "issue.verified.v1", "issue.failed.v1"]);
const TOLD = /^issue\.(heal_withheld|escalated|approval_|remediation_started|route_chosen)/;

function take(fact) {
  const type = fact.type;
  set({ position: fact.position });
  if (!type.startsWith("issue.")) return refresh("components");
  const id = fact.originator_id;
  if (type === "issue.detected.v1") state.names.set(id, fact);
  const lines = [...(state.lines.get(id) ?? []), { text: fact.text, level: fact.level }];
  state.lines.set(id, lines.slice(-LINES));
  if (type === "issue.verified.v1" || type === "issue.failed.v1") linger(id, fact);
  if (JUDGED.has(type)) return refresh();
  if (TOLD.test(type)) return refresh("active", "components", "history", "stats");
  return refresh("active");
}

function linger(id, fact) {
  const known = state.names.get(id) ?? (state.live.active ?? []).find((issue) => issue.issue_id === id);
  const verdict = {
    issue_id: id,
    component: known?.component ?? null,
    issue_type: known?.issue_type ?? null,
    good: fact.type === "issue.verified.v1",
    text: fact.text,
    position: known?.position ?? fact.position,
  };
  set({ ended: new Map(state.ended).set(id, verdict) });
  setTimeout(() => {
    const ended = new Map(state.ended);
    ended.delete(id);
    state.lines.delete(id);
    state.names.delete(id);
    set({ ended });
  }, LINGER);
}

// Follow the stream for ever; what happened while it was away is told when it is back.
export async function follow() {
  let wait = 500;
  for (;;) {
    const abort = new AbortController();
    try {
      let first = true;
      const opened = () => {
        if (!first) return;
        first = false;
        wait = 500;
        set({ connection: "live" });
        refresh();
      };
      for await (const fact of events(state.position || null, abort.signal, opened)) take(fact);
    } catch (error) {
      if (error instanceof Refused && error.status === 401) {
        set({ connection: "locked" });
        await get("/active").then(() => set({ connection: "connecting" }), () => {});
        wait = 500;
      } else if (error instanceof Refused) notify(error.message, "bad");
    }
    abort.abort();
    if (state.connection !== "locked") set({ connection: "lost" });
    await new Promise((done) => setTimeout(done, wait));
    wait = Math.min(2 * wait, 8000);
  }
}

// What changes without a fact: the last probe, and how long a heal is still withheld.
export function tick() {
  setInterval(() => {
    if (!document.hidden && !inPast() && state.connection === "live") refresh("components");
  }, 5000);
}
