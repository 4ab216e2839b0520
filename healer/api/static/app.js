// The page: what stands where, and what is open. `#/issue/ID` opens an issue.

import { Active } from "./active.js";
import { Approval } from "./approval.js";
import { Component } from "./component.js";
import { Components } from "./components.js";
import { html, render } from "./dom.js";
import { Charts, Playbooks, Strip } from "./figures.js";
import { History } from "./history.js";
import { Issue } from "./issue.js";
import { follow, refresh, tick } from "./live.js";
import { Notices } from "./notice.js";
import { reach } from "./past.js";
import { inPast, set, state, watch } from "./store.js";
import { TimeBar, Top } from "./top.js";
import { Token } from "./token.js";

function close() {
  set({ open: null });
  if (location.hash) history.pushState(null, "", location.pathname);
}

function App() {
  const { open, approving, asking } = state;
  return html`
    <a class="skip" href="#components">To the components</a>
    <${Top} />
    <${TimeBar} />
    <main tabindex="-1" class=${inPast() ? "then" : ""} aria-busy=${inPast() && state.travel.loading}>
      <${Strip} />
      <${Active} />
      <${Components} />
      <${Charts} />
      <${History} />
      <${Playbooks} />
    </main>
    <${Notices} on="page" />
    ${open?.kind === "issue" && html`<${Issue} key=${open.id} id=${open.id} onClose=${close} />`}
    ${open?.kind === "component" && html`<${Component} key=${open.id} name=${open.id} onClose=${close} />`}
    ${approving && html`<${Approval} key=${approving.id} ...${approving} />`}
    ${asking && html`<${Token} ...${asking} />`}`;
}

function route() {
  const found = location.hash.match(/^#\/issue\/(.+)$/);
  if (!found) return state.open?.kind === "issue" && set({ open: null });
  try {
    return set({ open: { kind: "issue", id: decodeURIComponent(found[1]) } });
  } catch {
    return set({ open: null });
  }
}

const root = document.getElementById("app");
watch(() => render(html`<${App} />`, root));
addEventListener("hashchange", route);
addEventListener("popstate", route);
set({});
route();
refresh();
follow();
tick();
reach();
