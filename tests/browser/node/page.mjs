// The home page in a real browser: `node page.mjs URL CHROMIUM [SCREENSHOTS]`, its findings as one line of JSON.
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [url, executablePath, screenshots] = process.argv.slice(2);
const axePath = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const browser = await chromium.launch({ executablePath, args });
const found = { errors: [], elsewhere: [] };

async function open(options) {
  const context = await browser.newContext({ permissions: ["clipboard-read", "clipboard-write"], bypassCSP: false, ...options });
  const page = await context.newPage();
  page.on("console", (message) => { if (message.type() === "error") found.errors.push(message.text()); });
  page.on("pageerror", (error) => found.errors.push(String(error)));
  page.on("request", (request) => { if (!request.url().startsWith(url) && !request.url().startsWith("data:")) found.elsewhere.push(request.url()); });
  await page.goto(url);
  await page.waitForSelector("#now dd");
  return page;
}

async function axe(page) {
  // evaluated by the driver, so that the page's policy need not allow it
  await page.evaluate(await (await import("node:fs/promises")).readFile(axePath, "utf8"));
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  return violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.target.join(" ")).join(", ")}`);
}

const page = await open({ locale: "es-EC" });
found.language = await page.getAttribute("html", "lang");
found.title = await page.textContent("#what");
found.models = await page.$$eval("#models tbody tr", (rows) => rows.map((row) => row.cells[0].textContent));

// the chat streams: the text grows while the answer has not ended
await page.fill("#message", "Hola mundo");
await page.click("#send");
await page.waitForFunction(() => document.getElementById("answer").textContent.length > 0);
const early = (await page.textContent("#answer")).length;
found.stoppable = await page.isEnabled("#stop");
await page.waitForFunction(() => !document.getElementById("send").disabled);
found.answer = await page.textContent("#answer");
found.grew = found.answer.length > early;
found.facts = await page.textContent("#facts");

// and stops
await page.fill("#message", "[[chars=400]][[pieces=200]][[delay=0.1]]");
await page.click("#send");
await page.waitForFunction(() => document.getElementById("answer").textContent.length > 0);
await page.click("#stop");
await page.waitForFunction(() => !document.getElementById("send").disabled);
found.stopped = await page.textContent("#answer");

// a failure is shown
await page.fill("#message", "[[status=429]]");
await page.click("#send");
await page.waitForSelector("#answer.bad");
found.failure = await page.textContent("#answer");

// the figures move
await page.waitForFunction(() => document.querySelectorAll("#recent tbody tr").length >= 3);
found.recent = await page.$$eval("#recent tbody tr", (rows) => rows.map((row) => row.cells[1].textContent));
found.plots = await page.$$eval("#plots canvas", (plots) => plots.length);

// settings can be copied, by keyboard alone
await page.focus("#clients details:nth-of-type(4) summary");
await page.keyboard.press("Enter");
await page.keyboard.press("Tab");
await page.keyboard.press("Tab");
await page.keyboard.press("Enter");
await page.waitForFunction(() => document.querySelector("#clients details:nth-of-type(4) button").textContent === "Copiado");
found.copied = await page.evaluate(() => navigator.clipboard.readText());

found.axe = await axe(page);
if (screenshots) await page.screenshot({ path: `${screenshots}/desktop.png`, fullPage: true });
await page.click("#language");
found.switched = await page.textContent("#connect-title");
await page.context().close();

const phone = await open({ locale: "en-US", viewport: { width: 375, height: 720 }, colorScheme: "dark" });
found.english = await phone.getAttribute("html", "lang");
found.wide = await phone.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
found.axePhone = await axe(phone);
if (screenshots) await phone.screenshot({ path: `${screenshots}/phone.png`, fullPage: true });
await browser.close();
found.errors = found.errors.filter((text) => !text.includes("429"));
console.log(JSON.stringify(found));
