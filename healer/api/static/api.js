// The same HTTP interface that everybody uses. No cookies: the token is kept for this tab only and
// sent as a header.

import { set } from "./store.js";

const PREFIX = "/network-healer";
const KEY = "healer.token";

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? problem.title ?? `cannot: status ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

export const hasToken = () => sessionStorage.getItem(KEY) !== null;

export function forgetToken() {
  sessionStorage.removeItem(KEY);
}

let asking = null;
let declined = false; // to read: who does not want to is not asked again and again

// Ask for the token; resolves to whether one was given. Who asks meanwhile gets the same answer.
export function askToken(why, { refused = false } = {}) {
  asking ??= new Promise((resolve) => {
    const done = (token) => {
      asking = null;
      declined = !token;
      set({ asking: null });
      if (token) sessionStorage.setItem(KEY, token);
      resolve(Boolean(token));
    };
    set({ asking: { why, refused, done } });
  });
  return asking;
}

const askAgain = () => askToken("That token was not accepted.", { refused: true });

function headers(more = {}) {
  const token = sessionStorage.getItem(KEY);
  return token === null ? more : { ...more, Authorization: `Bearer ${token}` };
}

async function answered(response) {
  const text = await response.text();
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    body = { detail: text.slice(0, 200) };
  }
  if (!response.ok) throw new Refused(response.status, body);
  return body;
}

export async function get(path, query = {}, options = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value != null);
  const search = new URLSearchParams(given).toString();
  const url = `${PREFIX}${path}${search ? `?${search}` : ""}`;
  const ask = () => fetch(url, { headers: headers(), cache: "no-store", ...options });
  let response = await ask();
  while (response.status === 401 && !declined) {
    const sent = sessionStorage.getItem(KEY);
    const given = sent === null ? askToken("This healer asks for a token to read.") : askAgain();
    if (!(await given) || sessionStorage.getItem(KEY) === sent) break;
    response = await ask();
  }
  return answered(response);
}

export async function post(path, body) {
  if (!hasToken() && !(await askToken("Acting needs the token of this healer."))) return null;
  for (;;) {
    const response = await fetch(`${PREFIX}${path}`, {
      method: "POST",
      headers: headers({ "Content-Type": "application/json" }),
      body: JSON.stringify(body ?? {}),
    });
    if (response.status !== 401) return answered(response);
    forgetToken();
    if (!(await askAgain())) return null;
  }
}

// The server-sent events behind a position, by fetch, because EventSource sends no header.
export async function* events(after, signal, opened) {
  const query = after === null ? "" : `?after=${after}`;
  const response = await fetch(`${PREFIX}/events${query}`, { headers: headers(), signal });
  if (!response.ok) return answered(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return undefined;
    opened();
    rest += value;
    let end;
    while ((end = rest.indexOf("\n\n")) >= 0) {
      const data = rest.slice(0, end).split("\n").filter((line) => line.startsWith("data: "));
      rest = rest.slice(end + 2);
      if (data.length) yield JSON.parse(data.map((line) => line.slice(6)).join("\n"));
    }
  }
}
