// All that the page knows. Views read `state`; whoever learns something calls `set`.

const empty = {
  components: null, paused: null, active: null, stats: null, playbookStats: null, history: null,
};

export const state = {
  live: empty, // the world now
  past: null, // the world at a moment: {world, position, label, head, ...}
  travel: null, // where the slider stands: {point, time, progress, problem}
  span: null, // what there is to go back to: {first, head}
  connection: "connecting", // connecting | live | lost
  position: 0, // the last fact that the stream told of
  lines: new Map(), // issue id → its last facts, as text
  names: new Map(), // issue id → what its detection said
  ended: new Map(), // issue id → what became of it, for a few seconds
  filters: { component_name: "", issue_type: "", outcome: "", since: "" },
  more: null, // older pages of the history: {records, next}
  problem: {}, // what could not be read, by name
  open: null, // the sheet that is open: {kind: "issue" | "component", id}
  approving: null, // the heal that somebody is about to allow: {id, component}
  asking: null, // the token dialog: {why, done, refused}
  notice: null, // what an action came to: {text, level}
};

const watchers = new Set();
let due = false;

export function set(patch) {
  Object.assign(state, patch);
  if (!due) {
    due = true;
    queueMicrotask(() => {
      due = false;
      for (const watcher of watchers) watcher();
    });
  }
}

export function watch(watcher) {
  watchers.add(watcher);
}

export function learn(patch) {
  set({ live: { ...state.live, ...patch } });
}

export const inPast = () => state.travel !== null;

// The world that is shown: that of the moment, when the slider stands in the past.
export const world = () => (inPast() ? (state.past?.world ?? empty) : state.live);

// The sheet that lies on top: what is said has to be said in it, for all behind it is inert.
export const onTop = () => (state.asking ? "token" : state.approving ? "approval" : (state.open?.kind ?? "page"));

let noticeTimer;

export function notify(text, level = "info") {
  clearTimeout(noticeTimer);
  set({ notice: { text, level } });
  noticeTimer = setTimeout(() => set({ notice: null }), level === "bad" ? 15000 : 6000);
}
