"use strict";
// One page: what answers, how to connect, a chat, and the figures of this replica. It talks to this server alone.

const $ = (id) => document.getElementById(id);
const base = new URL("v1", location.href).href;
const POLL_MS = 5000;
let language = document.documentElement.lang === "en" ? "en" : "es";
let server = { models: [] };
let state = null;
let plots = [];

const say = (name) => TEXTS[language][name] ?? name;

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function fill(table, heads, rows) {
  const head = element("tr");
  for (const name of heads) head.append(element("th", name, { scope: "col" }));
  const body = rows.map((cells) => {
    const row = element("tr");
    for (const cell of cells) row.append(element("td", cell));
    return row;
  });
  table.replaceChildren(element("thead"), element("tbody"));
  table.tHead.append(head);
  table.tBodies[0].append(...body);
}

function showTexts() {
  document.documentElement.lang = language;
  for (const found of document.querySelectorAll("[data-text]")) found.textContent = say(found.dataset.text);
  $("language").textContent = say("other");
  $("what").textContent = say(server.demo ? "demo" : "real");
  showModels();
  showClients();
  showFigures();
}

function showModels() {
  const rows = server.models.map(({ id, capabilities: can }) => [
    id, say(can.streaming), say(can.tools), say(can.images ? "yes" : "no"), `${can.context_length.toLocaleString(language)} ${say("tokens")}`,
  ]);
  fill($("models"), ["name", "streaming", "tools", "images", "context"].map(say), rows);
  const chosen = $("model").value;
  $("model").replaceChildren(...server.models.map(({ id }) => element("option", id)));
  if (chosen) $("model").value = chosen;
}

function showClients() {
  const open = new Set([...document.querySelectorAll("#clients details[open]")].map((one) => one.dataset.client));
  const model = $("model").value || "sai-model";
  $("clients").replaceChildren(...CLIENTS.map(([name, settings], position) => {
    const details = element("details", undefined, { "data-client": name });
    details.open = open.has(name);
    const text = settings(base, model);
    const summary = element("summary", name, { id: `client-${position}` });
    const copy = element("button", say("copy"), { type: "button", "aria-describedby": summary.id });
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text);
      copy.textContent = say("copied");
      setTimeout(() => { copy.textContent = say("copy"); }, 2000);
    });
    details.append(summary, element("pre", text, { tabindex: "0" }), copy);
    return details;
  }));
}

const headers = () => ({ Authorization: `Bearer ${$("key").value.trim() || "raspberry"}` });

// --- the chat ---
let leaving = null;

async function ask(event) {
  event.preventDefault();
  const started = performance.now();
  const seconds = () => `${((performance.now() - started) / 1000).toFixed(2)} s`;
  const answer = $("answer");
  const facts = [];
  leaving = new AbortController();
  answer.textContent = "";
  answer.className = "";
  $("facts").textContent = "";
  $("send").disabled = true;
  $("stop").disabled = false;
  try {
    const response = await fetch("v1/chat/completions", {
      method: "POST",
      headers: { ...headers(), "Content-Type": "application/json" },
      body: JSON.stringify({
        model: $("model").value, stream: true, stream_options: { include_usage: true },
        messages: [{ role: "user", content: $("message").value }],
      }),
      signal: leaving.signal,
    });
    facts.push(`${say("request")} ${response.headers.get("x-request-id")}`);
    if (!response.ok) throw new Error((await response.json()).error.message);
    for await (const chunk of events(response.body)) {
      if (chunk.error) throw new Error(chunk.error.message);
      const text = chunk.choices[0]?.delta.content;
      if (text && !answer.textContent) facts.push(`${say("first")} ${seconds()}`);
      if (text) answer.append(text);
      if (chunk.usage) facts.push(`${chunk.usage.prompt_tokens} + ${chunk.usage.completion_tokens} ${say("tokens")}`);
    }
    facts.push(`${seconds()} ${say("total")}`);
  } catch (error) {
    const left = error.name === "AbortError";
    answer.append(`${answer.textContent ? "\n" : ""}${left ? say("stopped") : error.message}`);
    if (!left) answer.className = "bad";
  } finally {
    $("facts").textContent = facts.join(" · ");
    $("send").disabled = false;
    $("stop").disabled = true;
    poll();
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").find((line) => line.startsWith("data: "))?.slice(6);
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

// --- the figures ---
async function poll() {
  try {
    const response = await fetch("home/figures.json", { headers: headers() });
    state = response.ok ? await response.json() : null;
    $("figures-state").textContent = response.ok ? "" : say(response.status === 401 ? "needsToken" : "unreachable");
  } catch {
    state = null;
    $("figures-state").textContent = say("unreachable");
  }
  showFigures();
}

const shown = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toLocaleString(language, { maximumFractionDigits: digits }));

function showFigures() {
  if (!state) return;
  const now = [
    ["inFlight", shown(state.in_flight)], ["requests", shown(state.requests)], ["p50", `${shown(state.first_text_p50_s, 3)} s`],
    ["p95", `${shown(state.first_text_p95_s, 3)} s`], ["rate", shown(state.tokens_per_s, 1)], ["failures", shown(state.failures)],
  ];
  $("now").replaceChildren(...now.map(([name, value]) => {
    const pair = element("div");
    pair.append(element("dt", say(name)), element("dd", value));
    return pair;
  }));
  const rows = state.recent.map((one) => [
    new Date(one.time * 1000).toLocaleTimeString(language), String(one.status), one.model ?? "", shown(one.first_text_s, 3), shown(one.duration_s, 3),
    one.completion_tokens === undefined ? "" : `${one.prompt_tokens} + ${one.completion_tokens}`, one.error ?? "",
  ]);
  fill($("recent"), ["time", "status", "model", "first", "seconds", "tokens", "error"].map(say), rows.length ? rows : [[say("none")]]);
  drawPlots();
}

function drawPlots() {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink").trim();
  const line = style.getPropertyValue("--line").trim();
  const [blue, orange, red, green] = ["#3b82c4", "#d98324", "#cf3f47", "#3f9d5c"];
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line } };
  const end = state.series.time.at(-1);
  const made = [
    ["requestsPlot", [["requests", blue, state.series.requests]]],
    ["firstPlot", [["p50", blue, state.series.first_text_p50_s], ["p95", orange, state.series.first_text_p95_s]]],
    ["tokensPlot", [["rate", blue, state.series.tokens_per_s]]],
    ["failuresPlot", Object.entries(state.series.failures).map(([fault, values], index) => [fault, [orange, green, red, blue][index], values])],
  ];
  plots.forEach((plot) => plot.destroy());
  const places = made.map(([title, lines]) => {
    const last = lines.map(([name, , values]) => `${say(name)} ${shown(values.at(-1))}`).join(", ");
    return element("div", undefined, { role: "img", "aria-label": `${say(title)}: ${last}` });
  });
  $("plots").replaceChildren(...places); // all of them first: the width of each depends on how many there are
  plots = made.map(([title, lines], index) => {
    const options = {
      title: say(title), width: Math.max(places[index].clientWidth, 200), height: 170, legend: { live: false },
      series: [{}, ...lines.map(([name, stroke]) => ({ label: say(name), stroke, width: 2, spanGaps: true, points: { show: true, size: 4 } }))],
      axes: [{ ...axis, values: (_, times) => times.map(clock) }, { ...axis, size: 46 }],
      scales: { x: { range: () => [end - 15 * 60, end + 1] }, y: { range: (_, low, high) => [0, Math.max(high, 1e-3) * 1.1] } },
    };
    return new uPlot(options, [state.series.time, ...lines.map(([, , values]) => values)], places[index]);
  });
}

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit" });

async function start() {
  server = await (await fetch("home/server.json")).json();
  $("key").value = sessionStorage.getItem("key") ?? "";
  $("key").addEventListener("change", () => { sessionStorage.setItem("key", $("key").value); poll(); });
  $("model").addEventListener("change", showClients);
  $("language").addEventListener("click", () => { language = language === "es" ? "en" : "es"; showTexts(); });
  $("chat").addEventListener("submit", ask);
  $("stop").addEventListener("click", () => leaving?.abort());
  showTexts();
  await poll();
  setInterval(() => { if (!document.hidden) poll(); }, POLL_MS);
}

start();
