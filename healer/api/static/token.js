// Asks for the token, once for this tab.

import { html, useState } from "./dom.js";
import { Sheet } from "./sheet.js";

export function Token({ why, refused, done }) {
  const [token, setToken] = useState("");
  const given = (event) => {
    event.preventDefault();
    if (token.trim()) done(token.trim());
  };
  return html`<${Sheet} name="token" title="Token" small onClose=${() => done(null)}>
    <form onSubmit=${given}>
      <p id="token-why" role=${refused ? "alert" : null} class=${refused ? "bad-text" : ""}>${why}</p>
      <p>It stays in this tab and goes nowhere else. On the healer's machine, <code>healer token show</code>${" "}
        tells it; it lies in <code>healer.token</code> beside the log.</p>
      <label class="field wide">Token <input type="password" autocomplete="off" spellcheck="false" autofocus value=${token}
        aria-describedby="token-why" aria-invalid=${refused ? "true" : null}
        onInput=${(event) => setToken(event.target.value)} /></label>
      <p class="row-actions"><button type="submit" class="act primary">Use it</button>
        <button type="button" class="act" onClick=${() => done(null)}>Cancel</button></p>
    </form>
  <//>`;
}
