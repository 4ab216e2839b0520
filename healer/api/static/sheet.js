// A modal dialog. The focus stays in it in both directions and goes back to where it came from,
// Escape closes it.

import { html, useEffect, useRef } from "./dom.js";
import { Notices } from "./notice.js";

const STOPS = "a[href], button, input, select, textarea, summary";

// `name` is what the sheet is (see `onTop`); of each there is one at most.
export function Sheet({ name, title, onClose, children, small = false }) {
  const own = useRef(null);
  useEffect(() => {
    const sheet = own.current;
    const hold = (event) => event.key === "Tab" && topmost() === sheet && turn(sheet, event);
    if (!sheet.open) sheet.showModal();
    // Where what had the focus is gone, the page has it, and no sheet hears of the key.
    document.addEventListener("keydown", hold);
    return () => {
      document.removeEventListener("keydown", hold);
      sheet.close();
      // What had opened it may be gone: an approval takes its own button away.
      if (document.activeElement === document.body) (topmost() ?? document.querySelector("main")).focus();
    };
  }, []);
  const outside = (event) => event.target === own.current && onClose();
  const id = `${name}-sheet`;
  return html`<dialog ref=${own} class=${small ? "sheet small" : "sheet"} aria-labelledby=${id} tabindex="-1"
      onClick=${outside} onCancel=${(event) => { event.preventDefault(); onClose(); }}>
    <div class="sheet-body">
      <header class="sheet-head">
        <h2 id=${id}>${title}</h2>
        <button type="button" class="act plain" aria-label="Close" onClick=${onClose}>✕</button>
      </header>
      ${children}
    </div>
    <${Notices} on=${name} />
  </dialog>`;
}

const topmost = () => [...document.querySelectorAll("dialog[open]")].at(-1) ?? null;

// From the last stop on to the first, and back; the browser does what lies between.
function turn(sheet, event) {
  const stops = [...sheet.querySelectorAll(STOPS)].filter((each) => !each.disabled && each.checkVisibility());
  const [from, to] = event.shiftKey ? [stops[0], stops.at(-1)] : [stops.at(-1), stops[0]];
  const at = document.activeElement;
  if (at !== from && stops.includes(at)) return;
  event.preventDefault();
  to.focus();
}
