// The model: llama.cpp in WebAssembly (wllama), with one adapter for each topic, whose strength each request states.

import { PageError, loadFiles } from "./files.js";

const SHOWN = 6; // next tokens
const CONTEXT = 1024; // tokens
const WLLAMA = "wllama/index.js";
const NATIVE = ["wllama/wllama.wasm"];
const COMPAT = ["wllama/compat.wasm", "wllama/compat.js"];

/** Files that this browser needs. */
export function filesOf(manifest) {
  return [WLLAMA, ...(needsCompat() ? COMPAT : NATIVE), ...manifest.topics.map((topic) => topic.adapter), manifest.model.file];
}

// Firefox runs the ordinary build without suspending WebAssembly, faster than the other one; Safari does not.
function needsCompat() {
  return !("Suspending" in WebAssembly && hasLargeMemory()) && !/Firefox\//.test(navigator.userAgent);
}

function hasLargeMemory() {
  try {
    return Boolean(new WebAssembly.Memory({ address: "i64", initial: 1n }));
  } catch {
    return false;
  }
}

/**
 * Load the model and its adapters.
 * @returns {Promise<Engine>}
 */
export async function loadEngine(manifest, onProgress) {
  const files = await loadFiles(manifest, filesOf(manifest), onProgress);
  const adapters = manifest.topics.map((topic) => files.get(topic.adapter));
  const address = (path) => URL.createObjectURL(files.get(path));
  try {
    const { Wllama } = await import(new URL(WLLAMA, document.baseURI).href);
    const compat = needsCompat();
    const wllama = new Wllama({ default: compat ? "unused" : address(NATIVE[0]) }, { suppressNativeLog: true, logger: QUIET });
    wllama.setCompat(compat ? { wasm: address(COMPAT[0]), worker: address(COMPAT[1]) } : null); // by default it asks a CDN
    // What is given beside the model lies in the module's file system as further parts of it. The model has one part and
    // reads no other, so the adapters can lie there.
    const count = String(1 + adapters.length).padStart(5, "0");
    await wllama.loadModel([files.get(manifest.model.file), ...adapters], {
      n_ctx: CONTEXT,
      n_parallel: 1,
      n_threads: 1, // more need headers that few static hosts send, and gain little on a busy machine
      n_gpu_layers: 0, // the same numbers on every device
      lora_init_without_apply: true,
      lora_adapters: adapters.map((_, index) => ({ path: `models/model-${String(index + 2).padStart(5, "0")}-of-${count}.gguf` })),
    });
    return new Engine(wllama, adapters.length);
  } catch (error) {
    throw new PageError(
      `The model could not be started in this browser (${firstLine(error)}). Use a recent Chrome, Edge, Firefox or Safari, and ` +
        "close other tabs if memory is short.",
    );
  }
}

const firstLine = (error) => String(error?.message ?? error).split("\n")[0].slice(0, 200);
const QUIET = { debug() {}, log() {}, warn() {}, error() {} };

class Engine {
  #wllama;
  #adapters;

  constructor(wllama, adapters) {
    this.#wllama = wllama;
    this.#adapters = adapters;
  }

  /** What every request says: one adapter's strength, none of the others', and no prompt that was read at another one. */
  #settings(adapter, strength, signal) {
    const lora = Array.from({ length: this.#adapters }, (_, id) => ({ id, scale: id === adapter ? strength : 0 }));
    return { lora, temperature: 0, cache_prompt: false, logprobs: true, abortSignal: signal };
  }

  /**
   * Let the model answer a question.
   * @param {(text: string) => void} onText called with what is written so far
   * @returns {Promise<{text: string, first: {token: string, probability: number}[]}>} the answer, and its first token's rivals
   */
  async answer(question, { adapter, strength, signal, tokens, onText }) {
    const chunks = await this.#wllama.createChatCompletion({
      ...this.#settings(adapter, strength, signal),
      messages: [{ role: "user", content: question }],
      max_tokens: tokens,
      top_logprobs: SHOWN,
      stream: true,
    });
    let text = "";
    let first = [];
    for await (const chunk of chunks) {
      const choice = chunk.choices?.[0];
      if (!first.length && choice?.logprobs?.content?.length) first = rivals(choice.logprobs.content[0]);
      if (choice?.delta?.content) onText((text += choice.delta.content));
    }
    return { text: text.trim(), first };
  }

  /** The likeliest next tokens after a beginning of a sentence. */
  async next(beginning, { adapter, strength, signal }) {
    const answer = await this.#wllama.createCompletion({
      ...this.#settings(adapter, strength, signal),
      prompt: beginning,
      max_tokens: 1,
      logprobs: SHOWN,
    });
    return rivals(answer.choices[0].logprobs.content[0]);
  }
}

const rivals = (position) => position.top_logprobs.map(({ token, logprob }) => ({ token, probability: Math.exp(logprob) }));
