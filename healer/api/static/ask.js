// Where a heal is suggested: the way to a yes, which first says to what, and the no.

import * as act from "./act.js";
import { html } from "./dom.js";
import { Act } from "./part.js";
import { set } from "./store.js";

export const Ask = ({ id, component }) => html`<${Act} kind="primary" label=${`Approve the heal of ${component} …`}
    onClick=${() => set({ approving: { id, component } })}>Approve …<//>
  <${Act} label=${`Refuse the heal of ${component}`} onClick=${() => act.deny(id, component)}>Refuse<//>`;
