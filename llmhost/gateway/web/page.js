// The script of the page. It reads JSON below /llmhost/ and shows it. Every text is set as text, never as HTML:
// questions, answers and names come from outside.
"use strict";

const PERIOD_WORDS = { "1h": "the last hour", "24h": "the last 24 hours", "7d": "the last 7 days", "30d": "the last 30 days" };
const REFRESH = 5000; // milliseconds
const KEY = "llmhost-key";

const state = { fleets: [], fleet: null, period: "24h", key: sessionStorage.getItem(KEY) || "", timer: 0, asking: null };
const $ = (id) => document.getElementById(id);

// Making elements

function make(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// Words for figures

const whole = (count) => Math.round(count).toLocaleString("en-US");
const percent = (share, digits = 1) => (share === null ? "–" : `${(share * 100).toFixed(digits)} %`);
const counted = (count, word) => `${whole(count)} ${word}${count === 1 ? "" : "s"}`;

function dollars(usd) {
  if (usd === null || usd === undefined) return "–";
  const digits = usd === 0 || usd >= 0.995 ? 2 : Math.min(6, Math.max(2, 1 - Math.floor(Math.log10(usd))));
  return `$${usd.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: digits })}`;
}

function milliseconds(ms) {
  if (ms === null || ms === undefined) return "–";
  const [value, unit] = ms >= 999.5 ? [ms / 1000, "s"] : [ms, "ms"];
  return `${value.toFixed(value >= 9.95 || Number.isInteger(value) ? 0 : 1)} ${unit}`;
}

function ago(at) {
  const seconds = Math.max(0, Date.now() / 1000 - at);
  for (const [length, word] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= length) return `${Math.floor(seconds / length)} ${word} ago`;
  }
  return "just now";
}

function moment(at, options) {
  return new Date(at * 1000).toLocaleString([], options || { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
}

// Speaking with the gateway

class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(path, options = {}) {
  const headers = { ...options.headers, "x-llmhost-page": "1" };
  if (state.key) headers.authorization = `Bearer ${state.key}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, "The gateway does not answer. Does `llmhost serve` still run?");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  const failure = new Failure(response.status, (said.error && said.error.message) || `status ${response.status}`);
  if (response.status === 401 || (response.status === 403 && state.key)) askForKey(state.key ? failure.message : "");
  throw failure;
}

const read = async (path) => (await call(path)).json();

function askForKey(problem) {
  $("key-error").textContent = problem;
  if (!$("key-dialog").open) $("key-dialog").showModal();
}

$("key-form").addEventListener("submit", () => {
  state.key = $("key").value.trim();
  sessionStorage.setItem(KEY, state.key);
  $("key").value = "";
  start();
});

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    $("copied").textContent = `Copied ${what}.`;
  } catch {
    $("copied").textContent = "The browser does not allow copying; select the text and copy it.";
  }
}

// What there is

async function start() {
  clearTimeout(state.timer);
  let gateway;
  try {
    gateway = await read("/llmhost/gateway");
  } catch (error) {
    $("headline").textContent = "";
    if ($("key-dialog").open) return showProblems([]);
    showProblems([error.message]);
    state.timer = setTimeout(start, REFRESH);
    return;
  }
  state.fleets = gateway.fleets;
  state.fleet = state.fleets.find((one) => state.fleet && one.name === state.fleet.name) || state.fleets[0];
  if (!state.fleet) return showProblems(["This key may ask no model of this gateway."]);
  $("version").textContent = `llmhost ${gateway.version}`;
  for (const [select, choice, label] of [["fleet", "fleet-choice", (one) => one.name], ["model", "model-choice", (one) => one.model]]) {
    $(select).replaceChildren(...state.fleets.map((one) => make("option", { value: one.name, selected: one === state.fleet }, label(one))));
    $(choice).hidden = state.fleets.length < 2;
  }
  clearHits();
  showConnect();
  refresh();
  showHits();
}

const query = (extra = "") => `fleet=${encodeURIComponent(state.fleet.name)}${extra}`;

async function refresh() {
  if (!state.fleet) return start();
  clearTimeout(state.timer);
  const asked = [state.fleet, state.period];
  try {
    const overview = await read(`/llmhost/overview?${query(`&period=${state.period}`)}`);
    if (asked[0] === state.fleet && asked[1] === state.period) showOverview(overview);
  } catch (error) {
    if ($("key-dialog").open) return;
    showProblems([error.message]);
  }
  if (!document.hidden) state.timer = setTimeout(refresh, REFRESH);
}

function showProblems(problems) {
  const now = problems.map((problem) => `${problem.charAt(0).toUpperCase()}${problem.slice(1)}`);
  if ($("problems").dataset.shown === now.join("\n")) return; // so that a screen reader says it once
  $("problems").dataset.shown = now.join("\n");
  $("problems").replaceChildren(...now.map((problem) => make("p", { class: "notice bad" }, problem)));
}

function showOverview(overview) {
  const lost = overview.problems.length && overview.figures === null;
  showProblems(lost ? [`${overview.problems.join("; ")}. Workers still answer; nothing is cached or counted meanwhile.`] : overview.problems);
  showHeadline(overview);
  showFigures(overview);
  showWorkers(overview);
  showDecisions(overview);
}

function showHeadline(overview) {
  const { workers } = overview;
  const parts = [`${state.fleet.model} on fleet ${state.fleet.name}`];
  if (workers !== null) {
    const ready = workers.filter((one) => one.state === "ready").length;
    parts.push(workers.length ? `${ready} of ${counted(workers.length, "worker")} ready` : "no workers");
    if (overview.hourly_cost_usd) parts.push(`${dollars(overview.hourly_cost_usd)}/h`);
  }
  $("headline").textContent = parts.join(" · ");
}

// Figures

function tile(name, value, note, goal, met) {
  const words = met === null || met === undefined ? null : make("dd", { class: `note ${met ? "met" : "missed"}` }, `goal ${goal} ${met ? "met" : "missed"}`);
  return make("div", { class: "tile" }, make("dt", {}, name), make("dd", { class: "value" }, value), make("dd", { class: "note" }, note), words);
}

function showFigures(overview) {
  const { figures } = overview;
  $("empty").hidden = !(figures && figures.requests === 0);
  $("charts").hidden = !(figures && figures.requests > 0);
  if (figures === null) {
    $("tiles").replaceChildren(...["Hit ratio", "Hit latency", "Miss latency", "Cost", "Saved", "Served error"].map((name) => tile(name, "–", "not known")));
    return;
  }
  const target = Object.fromEntries(figures.targets.map((one) => [one.name, one]));
  const cost = figures.cost;
  const estimated = overview.spent_estimated ? "about " : "";
  $("tiles").replaceChildren(
    tile("Questions", whole(figures.requests), `${whole(figures.misses)} answered by a worker${figures.errors ? `, ${counted(figures.errors, "error")}` : ""}`),
    tile("Hit ratio", percent(figures.hit_ratio), `${whole(figures.exact)} exact, ${whole(figures.semantic)} semantic`, `> ${percent(target.hit_ratio.target, 0)}`, target.hit_ratio.met),
    tile("Hit latency", milliseconds(figures.hit_ms.p50), `median; p95 ${milliseconds(figures.hit_ms.p95)}`, `p95 < ${milliseconds(target.hit_p95_ms.target)}`, target.hit_p95_ms.met),
    tile("Miss latency", milliseconds(figures.miss_ms.p50), `median; p95 ${milliseconds(figures.miss_ms.p95)}`, `p95 < ${milliseconds(target.miss_p95_ms.target)}`, target.miss_p95_ms.met),
    tile("Cost", estimated + dollars(cost.spent_usd), `${dollars(cost.per_query_usd)} per question`, `< ${dollars(target.usd_per_query.target)}`, target.usd_per_query.met),
    tile("Saved by hits", dollars(cost.saved_usd), cost.savings_ratio === null ? "of engine time" : `${percent(cost.savings_ratio)} of the cost without a cache`),
    errorTile(overview.served_error),
  );
  if (figures.requests > 0) showCharts(figures, target);
}

function errorTile(error) {
  const name = "Served error";
  if (error === null) return tile(name, "–", "not known");
  const raised = error.raised ? `; threshold raised by ${counted(error.raised, "step")}` : "";
  if (error.samples === 0) {
    return tile(name, "–", error.audit_share ? `no semantic hit audited yet; ${percent(error.audit_share, 0)} of them are` : "audits are off: cache.audit_share is 0");
  }
  const interval = `${percent(error.low)} to ${percent(error.high)} with 95 % confidence, ${counted(error.samples, "audit")}${raised}`;
  return tile(name, percent(error.estimate), interval, `< ${percent(error.max_error, 0)}`, error.low > error.max_error ? false : error.high < error.max_error ? true : null);
}

// Charts: an SVG each, and the same numbers as a table

const CHARTS = [
  {
    name: "Questions",
    kind: "stack",
    series: [["exact", "exact hit"], ["semantic", "semantic hit"], ["misses", "worker", "miss"], ["other", "no cache or error"]],
    words: whole,
  },
  { name: "Hit ratio", kind: "line", series: [["hit_ratio", "hits of all that the cache was asked", "exact"]], words: (share) => percent(share, 0), top: 1, goal: "hit_ratio" },
  { name: "Median latency", kind: "log", series: [["hit_ms", "hit", "exact"], ["miss_ms", "worker", "miss"]], words: milliseconds },
  { name: "Cost and savings", kind: "bars", series: [["spent_usd", "spent on workers", "miss"], ["saved_usd", "saved by hits", "semantic"]], words: dollars, least: 0.01 },
];

function showCharts(figures, target) {
  if (!$("charts").children.length) $("charts").append(...CHARTS.map(frame));
  CHARTS.forEach((chart, number) => {
    const holder = $("charts").children[number];
    holder.latest = () => plot(holder, chart, figures.series, target);
    holder.latest();
  });
}

function frame(chart) {
  const legend = chart.series.map(([key, words, look]) => {
    const mark = chart.kind === "line" || chart.kind === "log"
      ? draw("svg", { width: 18, height: 10, "aria-hidden": "true" }, draw("line", { x1: 1, x2: 17, y1: 5, y2: 5, class: `line ${look || key}` }))
      : draw("svg", { width: 10, height: 10, "aria-hidden": "true" }, draw("rect", { width: 10, height: 10, rx: 2, class: look || key }));
    return make("span", {}, mark, words);
  });
  const table = make("table", {}, make("caption", {}, chart.name), make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "From"), ...chart.series.map(([, words]) => make("th", { scope: "col", class: "number" }, words)))), make("tbody"));
  return make("figure", { class: "card chart" },
    make("figcaption", {}, make("h3", {}, chart.name), make("span", { class: "legend" }, ...legend)),
    make("div", { class: "plot" }),
    make("details", {}, make("summary", {}, "Show as a table"), make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${chart.name} as a table` }, table)),
  );
}

/** Steps of an axis from 0 that end at or above `most`: 1, 2 or 5 times a power of ten apart. */
function steps(most, wanted = 3) {
  const rough = most / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const found = [];
  for (let value = 0; found.length === 0 || found[found.length - 1] < most * 0.999; value += step) found.push(value);
  return found;
}

function scaleOf(chart, points) {
  const values = points.flatMap((point) => chart.series.map(([key]) => point[key]).filter((value) => value !== null));
  if (chart.kind === "log") {
    const low = Math.floor(Math.log10(Math.max(0.1, Math.min(...values, 1e9))));
    const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values, 0.1))));
    const marks = [];
    for (let power = low; power <= high; power += Math.ceil((high - low) / 4)) marks.push(10 ** power);
    return { marks, at: (value) => (Math.log10(Math.max(value, 10 ** low)) - low) / (high - low) };
  }
  const sums = chart.kind === "stack" ? points.map((point) => chart.series.reduce((sum, [key]) => sum + point[key], 0)) : values;
  const marks = chart.top ? [0, chart.top / 2, chart.top] : steps(Math.max(...sums) || chart.least || 1);
  const top = marks[marks.length - 1];
  return { marks, at: (value) => value / top };
}

function plot(holder, chart, points, target) {
  const box = holder.querySelector(".plot");
  const [width, height] = [box.clientWidth || 400, box.clientHeight || 176];
  const scale = scaleOf(chart, points);
  const left = 8 + 6.6 * Math.max(...scale.marks.map((mark) => chart.words(mark).length));
  const [right, top, bottom] = [6, 8, 22];
  const x = (index) => left + ((width - left - right) * index) / points.length;
  const y = (value) => top + (height - top - bottom) * (1 - scale.at(value));
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": summary(chart, points) });
  for (const mark of scale.marks) {
    svg.append(draw("line", { x1: left, x2: width - right, y1: y(mark), y2: y(mark), class: "grid" }));
    svg.append(draw("text", { x: left - 7, y: y(mark) + 4, "text-anchor": "end" }, chart.words(mark)));
  }
  const goal = chart.goal && target[chart.goal];
  if (goal) svg.append(draw("line", { x1: left, x2: width - right, y1: y(goal.target), y2: y(goal.target), class: "goal" }, draw("title", {}, `goal ${chart.words(goal.target)}`)));
  const [first, middle, last] = [0, Math.floor((points.length - 1) / 2), points.length - 1];
  const roomy = 3 * 7 * label(points[middle]).length < width - left - right;
  for (const index of roomy ? [first, middle, last] : [first, last]) {
    const anchor = index === first ? "start" : index === last ? "end" : "middle";
    const place = index === first ? left : index === last ? width - right : x(index + 0.5);
    svg.append(draw("text", { x: place, y: height - 4, "text-anchor": anchor }, label(points[index])));
  }
  ({ stack: stacked, bars: grouped, line: lines, log: lines })[chart.kind](svg, chart, points, x, y);
  box.replaceChildren(svg);
  const rows = points.map((point) => make("tr", {}, make("th", { scope: "row", class: "nowrap" }, label(point)), ...chart.series.map(([key]) => make("td", { class: "number" }, point[key] === null ? "–" : chart.words(point[key])))));
  holder.querySelector("tbody").replaceChildren(...rows.reverse());
}

function label(point) {
  if (point.end - point.start >= 86400) return moment(point.start, { month: "short", day: "numeric", timeZone: "UTC" });
  if (state.period === "7d") return moment(point.start, { weekday: "short", hour: "2-digit", minute: "2-digit" });
  return moment(point.start, { hour: "2-digit", minute: "2-digit" });
}

/** What a chart shows, in a sentence. */
function summary(chart, points) {
  const parts = chart.series.map(([key, words]) => {
    const values = points.map((point) => point[key]).filter((value) => value !== null && value > 0);
    if (!values.length) return `${words}: none`;
    return `${words}: ${chart.words(Math.min(...values))} to ${chart.words(Math.max(...values))}`;
  });
  return `${chart.name} over ${PERIOD_WORDS[state.period]}. ${parts.join("; ")}. The table below has the numbers.`;
}

function tip(chart, point) {
  const rows = chart.series.map(([key, words]) => `${words}: ${point[key] === null ? "–" : chart.words(point[key])}`);
  return draw("title", {}, `${label(point)}\n${rows.join("\n")}`);
}

function stacked(svg, chart, points, x, y) {
  points.forEach((point, index) => {
    const group = draw("g", {}, tip(chart, point));
    let below = 0;
    for (const [key, , look] of chart.series) {
      if (!point[key]) continue;
      const gap = Math.min(3, (x(1) - x(0)) * 0.2);
      group.append(draw("rect", { x: x(index) + gap / 2, width: x(index + 1) - x(index) - gap, y: y(below + point[key]), height: Math.max(0.5, y(below) - y(below + point[key])), class: look || key }));
      below += point[key];
    }
    svg.append(group);
  });
}

function grouped(svg, chart, points, x, y) {
  points.forEach((point, index) => {
    const group = draw("g", {}, tip(chart, point));
    const slot = (x(1) - x(0)) * 0.8;
    chart.series.forEach(([key, , look], number) => {
      if (!point[key]) return;
      const each = slot / chart.series.length;
      group.append(draw("rect", { x: x(index + 0.1) + number * each, width: Math.max(1, each - 0.5), y: y(point[key]), height: Math.max(0.5, y(0) - y(point[key])), class: look || key }));
    });
    svg.append(group);
  });
}

function lines(svg, chart, points, x, y) {
  for (const [key, , look] of chart.series) {
    let path = "";
    points.forEach((point, index) => {
      if (point[key] === null) return;
      const joined = index > 0 && points[index - 1][key] !== null;
      path += `${joined ? "L" : "M"}${x(index + 0.5).toFixed(1)} ${y(point[key]).toFixed(1)}`;
      const alone = !joined && (index === points.length - 1 || points[index + 1][key] === null);
      svg.append(draw("circle", { cx: x(index + 0.5), cy: y(point[key]), r: alone ? 3.5 : 2.25, class: look || key }, tip(chart, point)));
    });
    svg.append(draw("path", { d: path, class: `line ${look || key}` }));
  }
}

let resizing = 0;
window.addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(() => [...$("charts").children].forEach((chart) => chart.latest && chart.latest()), 100);
});

// Workers and decisions

function tableOf(caption, columns, rows) {
  const head = columns.map(([words, look]) => make("th", { scope: "col", class: look }, words));
  return make("div", { class: "card scroll", tabindex: "0", role: "region", "aria-label": caption }, make("table", { "aria-label": caption }, make("thead", {}, make("tr", {}, head)), make("tbody", {}, rows)));
}

/** Replaces what an element holds where that has changed, so that it keeps its focus and its place. */
function update(element, content) {
  const [before, after] = [element.firstElementChild, content];
  if (before && before.isEqualNode(after)) return;
  const held = before && before.contains(document.activeElement);
  const along = before ? before.scrollLeft : 0;
  element.replaceChildren(after);
  after.scrollLeft = along;
  if (held) after.focus({ preventScroll: true });
}

const emptyCard = (strong, ...rest) => make("div", { class: "card empty" }, make("p", {}, make("strong", {}, strong)), make("p", {}, ...rest));

function showWorkers({ workers, hourly_cost_usd: hourly, spent_estimated: estimated }) {
  if (workers === null) return update($("worker-list"), emptyCard("The workers are not known.", "Redis holds their records."));
  if (!workers.length) {
    return update($("worker-list"), emptyCard("No workers.", "Run ", make("code", {}, "llmhost up"), " to start some. Until then the cache answers what it knows."));
  }
  const rows = workers.map((one) => make("tr", {},
    make("th", { scope: "row", class: "nowrap" }, one.id),
    make("td", { class: "nowrap" }, make("span", { class: `dot ${one.state}` }), one.state),
    make("td", {}, one.gpu || "–"),
    make("td", { class: "wide" }, [(one.url || "–").replace("https://", ""), one.detail].filter(Boolean).join(" · ")),
    make("td", { class: "nowrap" }, ago(one.started)),
    make("td", { class: "number" }, dollars(one.price_per_hour)),
    make("td", { class: "number" }, one.spent_usd === null ? "–" : (estimated ? "~" : "") + dollars(one.spent_usd)),
  ));
  update($("worker-list"), tableOf(`Workers, ${dollars(hourly)} an hour in all`, [["worker"], ["state"], ["GPU"], ["address"], ["started"], ["$/h", "number"], ["cost", "number"]], rows));
}

function showDecisions({ decisions, paused_since: paused }) {
  const note = paused ? make("p", { class: "notice" }, `Autoscaling is paused since ${moment(paused)}; `, make("code", {}, "llmhost up"), " resumes it.") : null;
  let content;
  if (decisions === null) content = emptyCard("The decisions are not known.", "Redis holds them.");
  else if (!decisions.length) content = emptyCard("No scaling steps yet.", "Run ", make("code", {}, "llmhost scale"), ", or let cron do so: ", make("code", {}, "llmhost scale cron"), ".");
  else {
    const rows = decisions.map((one) => make("tr", {},
      make("td", { class: "nowrap" }, moment(one.at)),
      make("th", { scope: "row" }, one.decision),
      make("td", { class: "nowrap" }, one.from === one.to ? whole(one.to) : `${one.from} → ${one.to}`),
      make("td", { class: "wide" }, one.reason),
    ));
    content = tableOf("The last scaling decisions", [["time"], ["decision"], ["workers"], ["why"]], rows);
  }
  update($("decisions"), make("div", {}, note, content));
}

// Connect

const CLIENTS = [
  ["OpenAI, Python", (at) => `from openai import OpenAI

client = OpenAI(base_url="${at.url}/v1", api_key="${at.key}")
answer = client.chat.completions.create(
    model="${at.model}",
    messages=[{"role": "user", "content": "What is Redis?"}],
)
print(answer.choices[0].message.content)`],
  ["OpenAI, JavaScript", (at) => `import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${at.url}/v1", apiKey: "${at.key}" });
const answer = await client.chat.completions.create({
  model: "${at.model}",
  messages: [{ role: "user", content: "What is Redis?" }],
});
console.log(answer.choices[0].message.content);`],
  ["curl", (at) => `curl ${at.url}/v1/chat/completions \\
${at.needsKey ? `  -H "Authorization: Bearer ${at.key}" \\\n` : ""}  -d '{"model": "${at.model}", "messages": [{"role": "user", "content": "What is Redis?"}]}'`],
  ["Ollama", (at) => (at.needsKey
    ? `from ollama import Client

client = Client("${at.url}", headers={"Authorization": "Bearer ${at.key}"})
print(client.chat("${at.model}", [{"role": "user", "content": "What is Redis?"}]).message.content)`
    : `OLLAMA_HOST=${at.url} ollama run ${at.model} "What is Redis?"`)],
  ["Anthropic", (at) => `from anthropic import Anthropic

client = Anthropic(base_url="${at.url}", api_key="${at.key}")
answer = client.messages.create(
    model="${at.model}",
    max_tokens=1024,
    messages=[{"role": "user", "content": "What is Redis?"}],
)
print(answer.content[0].text)`],
  ["Claude Code", (at) => `ANTHROPIC_BASE_URL=${at.url} ANTHROPIC_API_KEY=${at.key} \\
  ANTHROPIC_MODEL=${at.model} ANTHROPIC_SMALL_FAST_MODEL=${at.model} \\
  claude`],
  ["Codex", (at) => `# ~/.codex/config.toml
model = "${at.model}"
model_provider = "llmhost"
web_search = "disabled"

[model_providers.llmhost]
name = "llmhost"
base_url = "${at.url}/v1"
wire_api = "responses"${at.needsKey ? '\nenv_key = "LLMHOST_API_KEY"' : ""}`],
  ["Open WebUI", (at) => `docker run -d --network host -e PORT=3000 \\
  -e OPENAI_API_BASE_URL=${at.url}/v1 -e OPENAI_API_KEY=${at.key} \\
  -v open-webui:/app/backend/data ghcr.io/open-webui/open-webui:main`],
  ["LangChain", (at) => `from langchain_openai import ChatOpenAI

llm = ChatOpenAI(base_url="${at.url}/v1", api_key="${at.key}", model="${at.model}")
print(llm.invoke("What is Redis?").content)`],
];

function showConnect() {
  $("endpoint").value = `${location.origin}/v1`;
  if (!$("clients").querySelector("input")) {
    $("clients").append(...CLIENTS.map(([name], number) => make("label", {}, make("input", { type: "radio", name: "client", value: String(number), checked: number === 0, onchange: showSnippet }), make("span", {}, name))));
  }
  showSnippet();
}

function showSnippet() {
  const chosen = Number(document.querySelector('input[name="client"]:checked').value);
  const at = { url: location.origin, model: state.fleet.model, key: state.key ? "YOUR_KEY" : "none", needsKey: Boolean(state.key) };
  $("snippet").firstElementChild.textContent = CLIENTS[chosen][1](at);
  $("copied").textContent = "";
}

$("copy-endpoint").addEventListener("click", () => copy($("endpoint").value, "the base URL"));
$("copy-snippet").addEventListener("click", () => copy($("snippet").textContent, "the example"));
$("endpoint").addEventListener("focus", (event) => event.target.select());

// Try it

$("try-form").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("try-form").requestSubmit();
});
$("stop").addEventListener("click", () => state.asking && state.asking.abort());

async function ask() {
  const question = $("question").value.trim();
  if (!state.fleet) return start();
  if (!question || state.asking) return;
  const asking = (state.asking = new AbortController());
  const fleet = state.fleets.find((one) => one.name === $("model").value) || state.fleet;
  const began = performance.now();
  $("source").classList.remove("muted");
  $("answer").textContent = "";
  $("answer").setAttribute("aria-busy", "true");
  $("source").replaceChildren("Asking …");
  $("ask").disabled = true;
  $("stop").hidden = false;
  try {
    const headers = { "content-type": "application/json", ...($("fresh").checked ? { "cache-control": "no-cache" } : {}) };
    const body = JSON.stringify({ model: fleet.model, stream: true, messages: [{ role: "user", content: question }] });
    const response = await call("/v1/chat/completions", { method: "POST", headers, body, signal: asking.signal });
    let first = null;
    for await (const text of texts(response)) {
      if (first === null) first = performance.now() - began;
      $("answer").append(text);
    }
    showSource(response.headers, first, performance.now() - began);
    setTimeout(() => { showHits(); refresh(); }, 300); // it is counted after it is answered
  } catch (error) {
    const stopped = error.name === "AbortError";
    $("source").replaceChildren(make("span", { class: "badge failed" }, stopped ? "stopped" : "failed"), " ", stopped ? "" : error.message);
  } finally {
    state.asking = null;
    $("answer").removeAttribute("aria-busy");
    $("ask").disabled = false;
    $("stop").hidden = true;
  }
}

/** The pieces of text of a streamed answer. */
async function* texts(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let kept = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const rows = (kept + value).split("\n");
    kept = rows.pop();
    for (const row of rows) {
      if (!row.startsWith("data: ") || row === "data: [DONE]") continue;
      const event = JSON.parse(row.slice(6));
      if (event.error) throw new Failure(200, event.error.message);
      const text = event.choices && event.choices[0] && event.choices[0].delta.content;
      if (text) yield text;
    }
  }
}

function showSource(headers, first, total) {
  const source = headers.get("x-llmhost-cache");
  const share = (name) => (headers.get(name) === null ? null : Number(headers.get(name)));
  const words = { exact: "from the cache: the same question", semantic: "from the cache: another wording", miss: "answered by a worker", bypass: "answered by a worker, without the cache" };
  const parts = [words[source] || source];
  if (headers.get("x-llmhost-worker")) parts.push(headers.get("x-llmhost-worker"));
  if (source === "semantic" && share("x-llmhost-confidence") !== null) parts.push(`confidence ${percent(share("x-llmhost-confidence"))}`);
  if (source === "semantic" && share("x-llmhost-similarity") !== null) parts.push(`similarity ${share("x-llmhost-similarity").toFixed(2)}`);
  parts.push(first === null ? `${milliseconds(total)}, no text` : total - first > 50 ? `first text ${milliseconds(first)}, all ${milliseconds(total)}` : milliseconds(total));
  $("source").replaceChildren(make("span", { class: `badge ${source}` }, { exact: "exact hit", semantic: "semantic hit" }[source] || source), " ", parts.join(" · "));
}

// Semantic hits

$("refresh-hits").addEventListener("click", showHits);

/** They may be of another fleet, or of another key, than the next ones. */
function clearHits() {
  $("hit-list").replaceChildren();
  $("hits-status").textContent = "";
}

async function showHits() {
  const fleet = state.fleet;
  if (!fleet) return start();
  let found;
  try {
    found = await read(`/llmhost/hits?${query()}`);
  } catch (error) {
    if (fleet === state.fleet) $("hits-status").textContent = error.status === 503 ? "Not known while Redis is away." : error.message;
    return;
  }
  if (fleet !== state.fleet) return;
  const words = found.hits.length ? "" : "No semantic hits to look at. They appear when a question gets the stored answer of another wording.";
  $("hits-status").textContent = words || (found.learns ? "" : "The policy is `threshold`: a verdict teaches it nothing.");
  $("hit-list").replaceChildren(...found.hits.map((hit) => hitOf(fleet, hit)));
}

function hitOf(fleet, hit) {
  const facts = [ago(hit.at), hit.confidence === null ? null : `confidence ${percent(hit.confidence)}`, hit.doubts.length ? `doubted by: ${hit.doubts.join(", ")}` : null, counted(hit.hit_count, "hit")];
  const foot = make("div", { class: "foot" }, make("span", { class: "muted" }, facts.filter(Boolean).join(" · ")));
  const name = `hit-${hit.entry}`;
  for (const [same, words] of [[true, "Same question"], [false, "Other question"]]) {
    foot.append(make("button", { type: "button", "aria-describedby": name, onclick: () => judge(fleet, hit, same, foot) }, words));
  }
  const answer = hit.answer === null ? null : make("details", {}, make("summary", {}, "Show the answer"), make("p", {}, hit.answer));
  return make("li", { class: "card hit" }, make("dl", { id: name }, make("dt", {}, "asked"), make("dd", {}, hit.asked), make("dt", {}, "answered as"), make("dd", {}, hit.stored)), answer, foot);
}

async function judge(fleet, hit, same, foot) {
  const buttons = foot.querySelectorAll("button");
  buttons.forEach((button) => (button.disabled = true));
  const said = make("span", { class: "done", tabindex: "-1", role: "status" });
  try {
    const body = JSON.stringify({ fleet: fleet.name, entry: hit.entry, at: hit.at, same });
    const done = await (await call("/llmhost/label", { method: "POST", headers: { "content-type": "application/json" }, body })).json();
    const learnt = done.learnt ? "learnt" : "nothing to learn";
    said.textContent = same ? `Same question: ${learnt}.` : `Other question: ${learnt}; the stored answer is removed.`;
    buttons.forEach((button) => button.remove());
  } catch (error) {
    said.textContent = error.message;
    said.classList.add("bad-text");
    if (error.status !== 409) buttons.forEach((button) => (button.disabled = false));
  }
  foot.querySelectorAll(".done").forEach((earlier) => earlier.remove());
  foot.append(said);
  said.focus();
}

// What the user chooses

document.querySelectorAll('input[name="period"]').forEach((input) => {
  if (input.checked) state.period = input.value; // a browser keeps it over a reload
  input.addEventListener("change", () => {
    state.period = input.value;
    refresh();
  });
});
$("fleet").addEventListener("change", () => {
  state.fleet = state.fleets.find((one) => one.name === $("fleet").value);
  $("model").value = state.fleet.name;
  clearHits();
  showSnippet();
  refresh();
  showHits();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && state.fleet) refresh();
});

start();
