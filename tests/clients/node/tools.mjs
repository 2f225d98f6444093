// A tool loop, or structured output: `node tools.mjs ACTION BASE_URL KEY TEXT`, its result as one line of JSON.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";

const [action, baseURL, apiKey, prompt] = process.argv.slice(2);
const city = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };
const weather = ({ city }) => `sunny, 21 degrees in ${city}`;
const model = createOpenAICompatible({ name: "sai", baseURL, apiKey, supportsStructuredOutputs: true })("sai-model");
const steps = {
  model,
  prompt,
  maxRetries: 0,
  stopWhen: stepCountIs(3),
  tools: { get_weather: tool({ description: "The weather in a city.", inputSchema: jsonSchema(city), execute: weather }) },
};

const actions = {
  async "ai-steps"() {
    return (await generateText(steps)).text;
  },
  async "ai-stream"() {
    let text = "";
    for await (const part of streamText(steps).fullStream) {
      if (part.type === "error") throw part.error;
      if (part.type === "start-step") text = "";
      if (part.type === "text-delta") text += part.text;
    }
    return text;
  },
  async "ai-object"() {
    const properties = { city: { type: "string" }, days: { type: "integer" } };
    const schema = jsonSchema({ type: "object", properties, required: ["city", "days"], additionalProperties: false });
    return (await generateObject({ model, prompt: "Plan a trip.", schema, maxRetries: 0 })).object;
  },
  async "openai-run-tools"() {
    const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
    const get_weather = { name: "get_weather", description: "The weather in a city.", parameters: city, parse: JSON.parse };
    const runner = client.chat.completions.runTools({
      model: "sai-model",
      messages: [{ role: "user", content: prompt }],
      tools: [{ type: "function", function: { ...get_weather, function: weather } }],
    });
    return await runner.finalContent();
  },
};

console.log(JSON.stringify(await actions[action]()));
