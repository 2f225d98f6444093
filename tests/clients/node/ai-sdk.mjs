// One action of the Vercel AI SDK: `node ai-sdk.mjs ACTION BASE_URL KEY TEXT`, its result as one line of JSON.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";

const [action, baseURL, apiKey, prompt] = process.argv.slice(2);
const provider = createOpenAICompatible({ name: "sai", baseURL, apiKey, includeUsage: true });
const request = { model: provider("sai-model"), prompt, maxRetries: 0, onError() {} };

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
};

try {
  console.log(JSON.stringify(await actions[action]()));
} catch (error) {
  console.log(JSON.stringify({ failure: { name: error.name ?? "none", message: error.message ?? String(error) } }));
}
// `leave` must end the call by itself, not by the end of the process
if (action === "leave") await new Promise((resolve) => process.stdin.once("end", resolve).resume());
