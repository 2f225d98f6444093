// One action of openai-node over the Responses API: `node openai-responses.mjs ACTION BASE_URL KEY TEXT`.
import OpenAI from "openai";

const [action, baseURL, apiKey, text] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const body = { model: "sai-model", input: text };
const city = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };

const actions = {
  async ask() {
    const answer = await client.responses.create(body);
    return { text: answer.output_text, usage: [answer.usage.input_tokens, answer.usage.output_tokens] };
  },
  async stream() {
    const pieces = [];
    for await (const event of await client.responses.create({ ...body, stream: true })) {
      if (event.type === "response.output_text.delta") pieces.push(event.delta);
    }
    return { pieces };
  },
  async leave() {
    for await (const event of await client.responses.create({ ...body, stream: true })) {
      if (event.type === "response.output_text.delta") break;
    }
    return {};
  },
  async models() {
    return { models: (await client.models.list()).data.map((model) => model.id) };
  },
  // What the library's own accumulator makes of the events, which fails on any that it does not expect
  async accumulate() {
    const stream = client.responses.stream({ ...body, tools: [{ type: "function", name: "get_weather", parameters: city, strict: true }] });
    const final = await stream.finalResponse();
    return { text: final.output_text, calls: final.output.filter((item) => item.type === "function_call") };
  },
};

try {
  console.log(JSON.stringify(await actions[action]()));
} catch (error) {
  console.log(JSON.stringify({ failure: { name: error.constructor.name, message: error.message } }));
}
// `leave` must end the call by itself, not by the end of the process
if (action === "leave") await new Promise((resolve) => process.stdin.once("end", resolve).resume());
