// Figures: the strip at the top, success rates and times to resolution, playbooks.

import { Chart } from "./chart.js";
import { html, useMemo } from "./dom.js";
import { duration, percent, plural, words } from "./format.js";
import { Empty, Rate, Section } from "./part.js";
import { state, world } from "./store.js";

const ROLLING = 20;

export function Strip() {
  const { components, active, stats } = world();
  const healthy = components?.filter((each) => each.health === "healthy").length;
  const resolve = stats?.time_to_resolution.overall;
  const figures = [
    ["Healthy", components?.length ? `${healthy} / ${components.length}` : "–", !components?.length ? "" : healthy < components.length ? "warn" : "good"],
    ["Open issues", active ? active.length : "–", active?.length ? "warn" : ""],
    ["Healed", stats ? stats.successful_healings : "–", ""],
    ["Failed", stats ? stats.failed_healings : "–", stats?.failed_healings ? "bad" : ""],
    ["Success rate", stats?.total_healings ? percent(stats.success_rate) : "–", ""],
    ["Median to healthy", duration(resolve?.p50), ""],
    ["Withheld", stats ? stats.withheld : "–", ""],
    ["Escalated", stats ? stats.escalated : "–", stats?.escalated ? "warn" : ""],
  ];
  return html`<dl class="strip" aria-label="In short">${figures.map(
    ([name, value, level]) => html`<div key=${name} class=${level}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

export function Charts() {
  const { stats, history } = world();
  const records = history?.records;
  const { times, rates } = useMemo(() => series(records ?? []), [records]);
  const judged = times[0].length;
  const types = Object.entries(stats?.success_by_issue_type ?? {}).sort(byName);
  return html`<${Section} id="rates" title="Success and time to resolution"
      aside=${judged > 0 && html`<span class="muted">charts: the last ${plural(judged, "healing")} of the history below</span>`}>
    ${judged > 0 && html`<div class="charts">
      <${Chart} title="Time to resolution" kind="times" data=${times}
        summary=${`Time to resolution of ${plural(judged, "healing")}; the figures are in the table below`} />
      <${Chart} title=${`Success rate of the last ${ROLLING}`} kind="rates" data=${rates}
        summary=${`Success rate over ${plural(judged, "healing")}, now ${percent(rates[1].at(-1))}`} /></div>`}
    ${types.length
      ? html`<div class="scroll"><table class="cards">
          <thead><tr><th scope="col">Issue type</th><th scope="col">Success rate</th><th scope="col" class="number">Healings</th>
            <th scope="col" class="number">Median</th><th scope="col" class="number">95 %</th><th scope="col" class="number">Longest</th></tr></thead>
          <tbody>${types.map(([name, tally]) => {
            const time = stats.time_to_resolution.by_issue_type[name];
            return html`<tr key=${name}><th scope="row">${words(name)}</th>
              <td data-label="Success rate"><${Rate} rate=${tally.success_rate} interval=${tally.success_interval} n=${tally.n} /></td>
              <td data-label="Healings" class="number">${tally.n}</td>
              <td data-label="Median" class="number">${duration(time?.p50)}</td>
              <td data-label="95 %" class="number">${duration(time?.p95)}</td>
              <td data-label="Longest" class="number">${duration(time?.max)}</td></tr>`;
          })}</tbody></table></div>`
      : html`<${Empty} of=${stats} problem=${state.problem.stats} none="Nothing has been healed yet." />`}
  <//>`;
}

// Of finished healings, oldest first: [ended], [healed after], [failed after]; and the rolling rate.
function series(records) {
  const judged = records
    .filter((each) => each.ended && (each.outcome === "healed" || each.outcome === "failed"))
    .map((each) => [new Date(each.ended).getTime() / 1000, each])
    .sort((a, b) => a[0] - b[0]);
  const at = judged.map(([time]) => time);
  const took = (outcome) =>
    judged.map(([, each]) => (each.outcome === outcome ? Math.max(each.time_to_resolution ?? 0, 0.001) : null));
  const good = judged.map(([, each]) => (each.outcome === "healed" ? 1 : 0));
  const rolling = good.map((_, index) => {
    const last = good.slice(Math.max(0, index + 1 - ROLLING), index + 1);
    return (100 * last.reduce((sum, each) => sum + each, 0)) / last.length;
  });
  return { times: [at, took("healed"), took("failed")], rates: [at, rolling] };
}

const byName = ([a], [b]) => a.localeCompare(b);

export function Playbooks() {
  const { playbookStats } = world();
  const rows = Object.entries(playbookStats ?? {}).sort(byName);
  return html`<${Section} id="playbooks" title="Playbooks">
    ${rows.length
      ? html`<div class="scroll"><table class="cards">
          <thead><tr><th scope="col">Playbook</th><th scope="col">Success rate</th><th scope="col" class="number">Runs</th>
            <th scope="col" class="number">Median</th><th scope="col" class="number">95 %</th><th scope="col">Steps that failed</th></tr></thead>
          <tbody>${rows.map(([name, each]) => html`<tr key=${name}><th scope="row">${words(name)}</th>
            <td data-label="Success rate"><${Rate} rate=${each.success_rate} interval=${each.success_interval} n=${each.executions} /></td>
            <td data-label="Runs" class="number">${each.executions}</td>
            <td data-label="Median" class="number">${duration(each.duration.p50)}</td>
            <td data-label="95 %" class="number">${duration(each.duration.p95)}</td>
            <td data-label="Steps that failed">${failed(each.failed_steps)}</td></tr>`)}</tbody></table></div>`
      : html`<${Empty} of=${playbookStats} problem=${state.problem.playbookStats} none="No playbook has run yet." />`}
  <//>`;
}

function failed(steps) {
  const most = Object.entries(steps ?? {}).sort((a, b) => b[1] - a[1]).slice(0, 3);
  if (!most.length) return html`<span class="muted">none</span>`;
  return most.map(([step, count]) => `${words(step)} (${count}×)`).join("; ");
}
