// Going back: the newest question wins, those before it are given up.

import { get, Refused } from "./api.js";
import { historyQuery } from "./live.js";
import { set, state } from "./store.js";

const SETTLE = 70; // ms that the slider stands still before anything is asked
let timer;
let asked = null;

// Go to {time: Date} or {position: number}.
export function travel(point) {
  const time = point.time ?? null;
  set({ travel: { point, time, progress: null, problem: null, loading: true }, more: null });
  ask(SETTLE);
}

export function backToNow() {
  clearTimeout(timer);
  asked?.abort();
  set({ travel: null, past: null, more: null });
}

// Ask again, with other filters.
export function again() {
  if (state.travel) ask(0);
}

function ask(delay) {
  clearTimeout(timer);
  asked?.abort();
  timer = setTimeout(read, delay);
}

function pointQuery() {
  const { point } = state.travel;
  return point.position == null
    ? { time: point.time.toISOString() }
    : { position: point.position };
}

async function read() {
  const mine = (asked = new AbortController());
  const travelling = (patch) => {
    if (mine === asked && state.travel) set({ travel: { ...state.travel, ...patch } });
  };
  try {
    const query = { ...pointQuery(), ...historyQuery() };
    const found = await get("/at", query, { signal: mine.signal });
    if (mine !== asked || !state.travel) return;
    keep(found);
    travelling({
      time: state.travel.point.time ?? new Date(found.label ?? found.first ?? Date.now()),
      progress: null, problem: null, loading: false,
    });
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error instanceof Refused && error.status === 503 && error.problem.head) {
      travelling({ progress: error.problem.read / error.problem.head });
      if (mine === asked) timer = setTimeout(read, 500);
      return;
    }
    const problem = error instanceof Refused ? error.message : "the healer does not answer";
    travelling({ problem, loading: false });
  }
}

function keep(found) {
  set({
    span: { first: found.first, head: found.head },
    past: {
      position: found.position,
      label: found.label,
      head: found.head,
      passedOver: found.passed_over,
      world: {
        components: found.components,
        paused: found.paused,
        active: found.active,
        stats: found.stats,
        playbookStats: found.playbook_stats,
        history: found.history,
      },
    },
  });
}

// One issue, as it was at the moment that is shown; null where it did not exist yet.
export async function issueThen(id) {
  const found = await get("/at", { ...pointQuery(), issue: id, limit: 1 });
  return found.issue;
}

// How far one can go back, before one does.
export async function reach() {
  try {
    set({ span: await get("/span") });
  } catch {
    // The slider says why when it is moved.
  }
}
