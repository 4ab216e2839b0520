// What the views are made with. Preact writes text as text: nothing that comes from the log is
// ever parsed as HTML, and no view may use dangerouslySetInnerHTML or innerHTML.

export {
  html,
  render,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "./vendor/htm-preact.js";
