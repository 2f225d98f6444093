// One action of openai-node: `node openai.mjs ACTION BASE_URL KEY TEXT`, its result as one line of JSON.
import OpenAI from "openai";

const [action, baseURL, apiKey, text] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const body = { model: "sai-model", messages: [{ role: "user", content: text }] };

const actions = {
  async ask() {
    const answer = await client.chat.completions.create(body);
    return { text: answer.choices[0].message.content, usage: [answer.usage.prompt_tokens, answer.usage.completion_tokens] };
  },
  async stream() {
    const pieces = [];
    for await (const chunk of await client.chat.completions.create({ ...body, stream: true })) {
      if (chunk.choices[0]?.delta.content) pieces.push(chunk.choices[0].delta.content);
    }
    return { pieces };
  },
  async leave() {
    for await (const chunk of await client.chat.completions.create({ ...body, stream: true })) {
      if (chunk.choices[0]?.delta.content) break;
    }
    return {};
  },
  async models() {
    return { models: (await client.models.list()).data.map((model) => model.id) };
  },
};

try {
  console.log(JSON.stringify(await actions[action]()));
} catch (error) {
  console.log(JSON.stringify({ failure: { name: error.constructor.name, message: error.message } }));
}
// `leave` must end the call by itself, not by the end of the process
if (action === "leave") await new Promise((resolve) => process.stdin.once("end", resolve).resume());
