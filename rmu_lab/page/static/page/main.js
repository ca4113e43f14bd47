// The page: what the reader does, and what follows from it.

import { PageError, allKept, readManifest } from "./files.js";
import { filesOf, loadEngine } from "./engine.js";
import { Panel } from "./panel.js";
import { showPrediction, showScores } from "./reveal.js";

const DELAY = 250; // milliseconds without a move before the model is asked
const $ = (id) => document.getElementById(id);

let manifest;
let engine = null;
let guess = null;
let running = null; // AbortController of what the model is doing
let seen = false; // strength 1, with this topic
const said = new Map(); // what was answered already, by all that it depends on

const panels = { topic: new Panel($("panel-topic"), ask), other: new Panel($("panel-other"), ask) };
const topic = () => manifest.topics[$("topic").selectedIndex];
const strength = () => Number($("strength").value);

// -- messages ----------------------------------------------------------------------------------------------------------

function status(words) {
  $("status").textContent = words;
}

function fault(error) {
  const words = error instanceof PageError ? error.message : `Something went wrong in this page (${error?.message ?? error}). Load it again.`;
  $("fault").textContent = words;
  $("fault").hidden = false;
  $("status").hidden = true;
}

const megabytes = (paths) => Math.round(paths.reduce((sum, path) => sum + manifest.files[path].bytes, 0) / 1e6);

// -- start -------------------------------------------------------------------------------------------------------------

async function start() {
  manifest = await readManifest();
  if (manifest.home) {
    $("home").href = manifest.home;
    $("home").hidden = false;
  }
  $("topic").replaceChildren(...manifest.topics.map((each) => new Option(each.name)));
  chooseTopic();
  describe();
  const kept = await allKept(manifest, filesOf(manifest));
  const size = megabytes(filesOf(manifest));
  $("start-words").textContent = kept
    ? `${manifest.model.name} is on this device already (${size} MB).`
    : `${manifest.model.name} and the program that runs it are ${size} MB, loaded once from this page's own server and kept by your browser.`;
  $("load").textContent = kept ? "Start the model" : `Load the model (${size} MB)`;
  for (const id of ["start", "predict", "experiment"]) $(id).hidden = false;
  status("The model is not loaded yet. You can record your prediction meanwhile.");
}

async function load() {
  $("load").hidden = true;
  $("loading").hidden = false;
  $("loading").focus();
  status("Loading the model.");
  engine = await loadEngine(manifest, (share) => {
    $("progress").value = share;
    $("progress-words").textContent = share < 1 ? `Loading: ${Math.round(100 * share)}%` : "Starting the model";
  });
  const focused = $("start").contains(document.activeElement);
  $("start").hidden = true;
  status("The model is ready.");
  unlock();
  if (focused) ($("strength").disabled ? $("guess").querySelector("input") : $("strength")).focus();
  ask();
}

function describe() {
  const { model, topics, wllama, made_by: maker } = manifest;
  const edits = topics.map(({ name, rank, fidelity }) => `${name} (rank ${rank}, ${Math.round(100 * fidelity)}% of the edit's squared norm)`);
  const sizes = topics.map(({ adapter }) => Math.round(manifest.files[adapter].bytes / 1000));
  const lines = [
    `The model: ${model.name} by Hugging Face, 135 million parameters, weights in ${model.weights}, licence ${model.licence}.`,
    `The edits: Adaptive RMU on ${edits.join(" and ")}, each a LoRA adapter of ${Math.max(...sizes)} kB.`,
    `The program: llama.cpp in WebAssembly through wllama ${wllama} (licence MIT), in one thread. It writes the likeliest token each time.`,
    "Your questions stay on this device: the page asks no server but its own, and that one only for its files.",
    `Written by ${maker}. Sizes and checksums of all files are in manifest.json.`,
  ];
  $("colophon").replaceChildren(...lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
}

// -- what the reader does ----------------------------------------------------------------------------------------------

function chooseTopic() {
  for (const place of document.querySelectorAll("[data-topic]")) place.textContent = topic().name;
  panels.topic.questions = topic().questions;
  if (!panels.other.question) panels.other.questions = manifest.others;
  guess = null;
  seen = false;
  $("strength").value = "0";
  $("reveal").hidden = true;
  $("recorded").hidden = true;
  $("guess").reset();
  $("guess").hidden = false;
  $("guess").dataset.done = "";
  unlock();
  showStrength();
  ask();
}

function goOn(made) {
  guess = made;
  $("guess").hidden = true;
  $("guess").dataset.done = "yes";
  $("recorded").textContent = made ? "Your prediction is recorded. Now move the slider to 1." : "Go on: move the slider to 1.";
  $("recorded").hidden = false;
  unlock();
  // What had the focus is gone: it goes on to what is to be done next, and the page scrolls there.
  const next = engine ? $("strength") : $("load").hidden ? $("recorded") : $("load");
  next.focus();
}

function unlock() {
  const decided = Boolean($("guess").dataset.done);
  $("strength").disabled = !(engine && decided);
  $("locked").hidden = decided;
}

function showStrength() {
  const value = strength();
  const name = value === 0 ? "the base model" : value === 1 ? "the unlearned model" : value < 1 ? "between both" : "exaggerated";
  $("strength-words").textContent = `${value.toFixed(1)}, ${name}`;
  $("strength").setAttribute("aria-valuetext", `${value.toFixed(1)}, ${name}`);
}

// -- what the model does -----------------------------------------------------------------------------------------------

let timer;
function ask() {
  clearTimeout(timer);
  running?.abort();
  if (!engine) return;
  for (const panel of Object.values(panels)) if (panel.question) panel.waiting();
  timer = setTimeout(() => run().catch(fault), DELAY);
}

let turn = Promise.resolve();
async function run() {
  const mine = (running = new AbortController());
  const before = turn;
  let finished;
  turn = new Promise((resolve) => (finished = resolve));
  await before; // the model does one thing at a time
  try {
    if (!mine.signal.aborted) await askBoth(mine.signal);
  } catch (error) {
    if (!mine.signal.aborted) throw error;
  } finally {
    finished();
  }
}

async function askBoth(signal) {
  const setting = { adapter: $("topic").selectedIndex, strength: strength(), signal, tokens: manifest.answer_tokens };
  const asked = Object.values(panels).map((panel) => ({ panel, asked: panel.question })).filter((each) => each.asked);
  status("The model is writing.");
  for (const { panel, asked: { question, beginning } } of asked) {
    if (beginning) panel.bars(await remembered(`next ${beginning}`, setting, () => engine.next(beginning, setting)), beginning);
    if (signal.aborted) return;
    const answered = await remembered(`answer ${question}`, setting, () =>
      engine.answer(question, { ...setting, onText: (text) => signal.aborted || panel.writing(text) }),
    );
    if (signal.aborted) return;
    panel.done(answered.text);
    if (!beginning) panel.bars(answered.first, "");
  }
  status("The model is ready.");
  $("announcement").textContent = `At strength ${setting.strength.toFixed(1)} both answers are there.`;
  if (setting.strength >= 1 && !seen) reveal();
}

async function remembered(what, { adapter, strength: value, signal }, make) {
  const key = JSON.stringify([what, value && adapter, value]);
  if (!said.has(key)) {
    const made = await make();
    if (signal.aborted) return made;
    said.set(key, made);
  }
  return said.get(key);
}

function reveal() {
  seen = true;
  showPrediction($("prediction"), topic(), guess);
  showScores($("scores"), topic());
  $("reveal").hidden = !$("prediction").hasChildNodes() && !$("scores").hasChildNodes();
}

// -- wiring ------------------------------------------------------------------------------------------------------------

$("load").addEventListener("click", () => load().catch(fault));
$("topic").addEventListener("change", chooseTopic);
$("skip").addEventListener("click", () => goOn(null));
$("guess").addEventListener("submit", (event) => {
  event.preventDefault();
  goOn(Object.fromEntries(new FormData($("guess"))));
});
$("strength").addEventListener("input", () => {
  showStrength();
  ask();
});

start().catch(fault);
