// One action of the Vercel AI SDK with its default model class, which speaks the Responses API.
import { createOpenAI } from "@ai-sdk/openai";
import { generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

const [action, baseURL, apiKey, prompt] = process.argv.slice(2);
const model = createOpenAI({ baseURL, apiKey })("sai-model");
const request = { model, prompt, maxRetries: 0, onError() {} };
const city = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };
const get_weather = tool({
  description: "The weather in a city.",
  inputSchema: jsonSchema(city),
  execute: ({ city }) => `sunny, 21 degrees in ${city}`,
});
const steps = { ...request, stopWhen: stepCountIs(3), tools: { get_weather } };

const actions = {
  async ask() {
    const { text, usage } = await generateText(request);
    return { text, usage: [usage.inputTokens, usage.outputTokens] };
  },
  async stream() {
    const pieces = [];
    for await (const part of streamText(request).fullStream) {
      if (part.type === "error") throw part.error;
      if (part.type === "text-delta") pieces.push(part.text);
    }
    return { pieces };
  },
  async leave() {
    const leaving = new AbortController();
    for await (const part of streamText({ ...request, abortSignal: leaving.signal }).fullStream) {
      if (part.type === "text-delta") {
        leaving.abort();
        break;
      }
    }
    return {};
  },
  async models() {
    return { models: null };
  },
  async steps() {
    const { text, steps: taken } = await generateText(steps);
    return { text, steps: taken.length };
  },
  async "stream-steps"() {
    let text = "";
    let taken = 0;
    for await (const part of streamText(steps).fullStream) {
      if (part.type === "error") throw part.error;
      if (part.type === "start-step") [text, taken] = ["", taken + 1];
      if (part.type === "text-delta") text += part.text;
    }
    return { text, steps: taken };
  },
  async object() {
    const properties = { city: { type: "string" }, days: { type: "integer" } };
    const schema = jsonSchema({ type: "object", properties, required: ["city", "days"], additionalProperties: false });
    return (await generateObject({ model, prompt, schema, maxRetries: 0 })).object;
  },
  // Its second turn sends a reference in place of the assistant's text
  async turns() {
    const messages = [{ role: "user", content: prompt }];
    const first = await generateText({ model, messages, maxRetries: 0 });
    messages.push(...first.response.messages, { role: "user", content: "And now?" });
    const second = await generateText({ model, messages, maxRetries: 0 });
    const { body } = second.request;
    const { input } = typeof body === "string" ? JSON.parse(body) : body;
    return { sent: input.map((item) => item.type ?? item.role), text: second.text };
  },
};

try {
  console.log(JSON.stringify(await actions[action]()));
} catch (error) {
  console.log(JSON.stringify({ failure: { name: error.name ?? "none", message: error.message ?? String(error) } }));
}
// `leave` must end the call by itself, not by the end of the process
if (action === "leave") await new Promise((resolve) => process.stdin.once("end", resolve).resume());
