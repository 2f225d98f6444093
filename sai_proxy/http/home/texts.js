// Everything that the page says, in both languages.
const TEXTS = {
  es: {
    other: "English", demo: "DEMO: responde un simulador, no SAI", real: "delante de SAI", docs: "API (/docs)",
    models: "Modelos", name: "Nombre", streaming: "Streaming", tools: "Herramientas", images: "Imágenes", context: "Contexto",
    live: "en vivo", buffered: "al terminar", native: "nativas", emulated: "emuladas", yes: "sí", no: "no", tokens: "tokens",
    connect: "Conecta tu cliente", connectHint: "La clave es tu API Key de SAI, o raspberry para usar la del servidor, si la ofrece.",
    copy: "Copiar", copied: "Copiado", chat: "Pruébalo", model: "Modelo", key: "API Key o token",
    keyHint: "Se queda en esta pestaña. Vacía cuenta como raspberry.", message: "Mensaje", send: "Enviar", stop: "Detener",
    stopped: "Detenido.", first: "primer texto", total: "en total", request: "petición",
    figures: "Esta réplica, los últimos 15 minutos", figuresHint: "Sin textos ni claves. Cada réplica tiene las suyas.",
    needsToken: "Este servidor pide un token de acceso: escríbelo arriba para ver las cifras.", unreachable: "El servidor no responde.",
    inFlight: "en curso", requests: "peticiones", p50: "primer texto p50", p95: "primer texto p95", rate: "tokens por segundo",
    failures: "fallos", requestsPlot: "Peticiones por intervalo", firstPlot: "Primer texto, s", tokensPlot: "Tokens por segundo",
    failuresPlot: "Fallos, por de quién son", recent: "Últimas peticiones", time: "Hora", status: "Estado", seconds: "Segundos",
    error: "Error", none: "Todavía ninguna.", caller: "del cliente", policy: "de un límite o permiso", sai: "de SAI", proxy: "del proxy",
  },
  en: {
    other: "Español", demo: "DEMO: a simulator answers, not SAI", real: "in front of SAI", docs: "API (/docs)",
    models: "Models", name: "Name", streaming: "Streaming", tools: "Tools", images: "Images", context: "Context",
    live: "live", buffered: "when done", native: "native", emulated: "emulated", yes: "yes", no: "no", tokens: "tokens",
    connect: "Connect your client", connectHint: "The key is your SAI API key, or raspberry for the server's own, if it offers that.",
    copy: "Copy", copied: "Copied", chat: "Try it", model: "Model", key: "API key or token",
    keyHint: "It stays in this tab. Empty counts as raspberry.", message: "Message", send: "Send", stop: "Stop",
    stopped: "Stopped.", first: "first text", total: "in all", request: "request",
    figures: "This replica, the last 15 minutes", figuresHint: "No texts and no keys. Each replica has its own.",
    needsToken: "This server asks for an access token: put it in above to see the figures.", unreachable: "The server does not answer.",
    inFlight: "in flight", requests: "requests", p50: "first text p50", p95: "first text p95", rate: "tokens a second",
    failures: "failures", requestsPlot: "Requests an interval", firstPlot: "First text, s", tokensPlot: "Tokens a second",
    failuresPlot: "Failures, by whose they are", recent: "Last requests", time: "Time", status: "Status", seconds: "Seconds",
    error: "Error", none: "None yet.", caller: "the client's", policy: "a limit's or permission's", sai: "SAI's", proxy: "the proxy's",
  },
};

// The settings of each client, for this server's own base URL and a model.
const CLIENTS = [
  ["curl", (base, model) => `curl -N ${base}/chat/completions \\
  -H "Content-Type: application/json" -H "Authorization: Bearer raspberry" \\
  -d '{"model": "${model}", "stream": true, "messages": [{"role": "user", "content": "Hola"}]}'`],
  ["Python (openai)", (base, model) => `from openai import OpenAI

client = OpenAI(base_url="${base}", api_key="raspberry")
answer = client.chat.completions.create(model="${model}", messages=[{"role": "user", "content": "Hola"}])
print(answer.choices[0].message.content)`],
  ["JavaScript (openai)", (base, model) => `import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${base}", apiKey: "raspberry" });
const answer = await client.chat.completions.create({ model: "${model}", messages: [{ role: "user", content: "Hola" }] });
console.log(answer.choices[0].message.content);`],
  ["Codex CLI (~/.codex/config.toml)", (base, model) => `model = "${model}"
model_provider = "sai"
web_search = "disabled"

[model_providers.sai]
name = "SAI"
base_url = "${base}"
env_key = "SAI_API_KEY"
wire_api = "responses"
model_catalog_url = "${base}/models"
request_max_retries = 0
stream_max_retries = 1`],
  ["opencode (opencode.json)", (base, model) => JSON.stringify({
    model: `sai/${model}`,
    provider: { sai: { npm: "@ai-sdk/openai-compatible", name: "SAI", options: { baseURL: base, apiKey: "raspberry" },
      models: { [model]: { name: "SAI", limit: { context: 128000, output: 8192 } } } } },
  }, null, 2)],
  ["Continue (config.yaml)", (base, model) => `name: sai
version: 1.0.0
schema: v1
models:
  - name: SAI
    provider: openai
    model: ${model}
    apiBase: ${base}
    apiKey: raspberry
    roles: [chat, edit, apply]
    capabilities: [tool_use]`],
  ["aider", (base, model) => `export OPENAI_API_BASE=${base} OPENAI_API_KEY=raspberry
aider --model openai/${model}`],
  ["Cline, Roo Code, JetBrains, GitKraken, Open WebUI", (base, model) => `OpenAI Compatible
Base URL: ${base}
Model: ${model}
API Key: raspberry`],
];
