// Numbers, times and stored words, as people read them.

export const words = (stored) => String(stored ?? "").replaceAll("_", " ");

const pad = (number, width = 2) => String(number).padStart(width, "0");

export function clock(instant, { date = false, millis = false } = {}) {
  if (instant == null) return "–";
  const at = new Date(instant);
  if (Number.isNaN(at.getTime())) return String(instant);
  const time = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  const full = millis ? `${time}.${pad(at.getMilliseconds(), 3)}` : time;
  const today = at.toDateString() === new Date().toDateString();
  if (today && !date) return full;
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${full}`;
}

export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds > 0 && seconds < 0.0005) return "< 1 ms";
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 99.5) return `${Number(seconds.toPrecision(3))} s`;
  if (seconds < 5940) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Number((seconds / 3600).toPrecision(3))} h`;
  return `${Math.round(seconds / 86400)} d`;
}

export const ago = (instant, now = Date.now()) =>
  duration(Math.max(0, (now - new Date(instant).getTime()) / 1000));

export const percent = (rate) => (rate == null ? "–" : `${Number(rate.toFixed(1))} %`);

export function offset(milliseconds) {
  if (milliseconds == null) return "";
  return `${milliseconds < 0 ? "−" : "+"}${duration(Math.round(Math.abs(milliseconds)) / 1000)}`;
}

export const arithmetic = (figures) =>
  Object.entries(figures ?? {})
    .map(([name, value]) => `${words(name)} ${Number(Number(value).toPrecision(4))}`)
    .join(", ");

export function bytes(size) {
  const power = Math.min(4, Math.floor(Math.log2(Math.max(1, size)) / 10));
  return `${Number((size / 1024 ** power).toPrecision(3))} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;
