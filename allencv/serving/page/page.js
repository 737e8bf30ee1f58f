import { makeCard, showError, showPrediction, showWaiting, wordsOf } from "./cards.js";
import { givenLabels } from "./certainty.js";
import { byId, element } from "./elements.js";
import { drawExample } from "./example.js";
import { asCsv, showOverview, watchOverview } from "./overview.js";

const AT_A_TIME = 3; // images sent at once
const RETRIES = 5; // when the server is busy
const MOST_RANKED = 100; // labels asked for, if an image can have several

let model = { labels: [], multi_label: false, thresholds: null, limits: null, certainty: null };
let thresholds = null; // by label, if an image can have several labels
let items = []; // the images on the page, the newest first
const waiting = [];
let round = []; // the items that the status line describes
let active = 0;

function say(text) {
  byId("status").textContent = text;
}

/** Put a card for each file at the top of the list, and send the files. */
function add(files) {
  const added = [...files].map((file) => ({ file, card: makeCard(file), canceller: new AbortController() }));
  if (!added.length) return say("No image file found.");
  byId("results").prepend(...added.map((item) => item.card));
  items = [...added, ...items];
  added.forEach(enqueue);
  showOverview(items);
}

function enqueue(item) {
  if (round.every((each) => each.words)) round = [];
  if (!round.includes(item)) round.push(item);
  item.words = "";
  item.failed = false;
  showWaiting(item.card);
  waiting.push(item);
  sayProgress();
  sendNext();
}

async function sendNext() {
  if (active >= AT_A_TIME || !waiting.length) return;
  const item = waiting.shift();
  active += 1;
  item.card.querySelector(".label").textContent = "Classifying …";
  try {
    await ready;
    const started = performance.now();
    const prediction = await ask(item);
    item.labels = givenLabels(prediction);
    item.prediction = prediction;
    const seconds = (performance.now() - started) / 1000;
    item.words = `${item.file.name}: ${showPrediction(
      item.card, prediction, { thresholds, certainty: model.certainty }, seconds)}.`;
  } catch (error) {
    showError(item.card, error, () => enqueue(item));
    item.failed = true;
    item.reason = wordsOf(error);
    item.words = `${item.file.name}: ${item.reason}`;
  }
  item.card.removeAttribute("aria-busy");
  active -= 1;
  if (round.includes(item)) sayProgress(); // not if it was cleared
  sendNext();
}

function failure(code, message) {
  return Object.assign(new Error(message), { code });
}

async function ask({ file, canceller }) {
  const { limits } = model;
  if (limits && file.size > limits.max_body_bytes - 10000) throw failure("body_too_large", "");
  const path = model.multi_label ? `predict?top_k=${MOST_RANKED}` : "predict";
  for (let retry = 0; ; retry += 1) {
    const form = new FormData();
    form.append("file", file);
    let response, answer;
    try {
      response = await fetch(path, { method: "POST", body: form, signal: canceller.signal });
      answer = await response.json();
    } catch {
      throw failure("unreachable", "");
    }
    if (response.ok) return answer.predictions[0];
    if (response.status === 429 && retry < RETRIES) {
      const seconds = Number(response.headers.get("Retry-After")) || 1;
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      continue;
    }
    throw failure(answer.error?.code, answer.error?.message);
  }
}

function sayProgress() {
  const done = round.filter((item) => item.words).length;
  const failed = round.filter((item) => item.failed).length;
  if (done < round.length) {
    return say(round.length === 1 ? "Classifying …" : `${done} of ${round.length} images done …`);
  }
  say(round.length === 1 ? round[0].words : `${done} images done${failed ? `, ${failed} failed` : ""}.`);
  showOverview(items);
}

function clear() {
  waiting.length = 0;
  for (const item of round) item.canceller.abort(); // the server then drops them
  round = [];
  items = [];
  for (const image of byId("results").querySelectorAll("img")) URL.revokeObjectURL(image.src);
  byId("results").replaceChildren();
  showOverview(items);
  byId("files").focus();
  say("");
}

function saveCsv() {
  const done = items.filter((item) => item.words);
  // Excel takes a file for UTF-8 if it begins with this mark.
  const table = new Blob([`\ufeff${asCsv(done, model.multi_label)}`], { type: "text/csv" });
  const link = element("a", "");
  link.href = URL.createObjectURL(table);
  link.download = "predictions.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function showModel() {
  try {
    model = await (await fetch("labels")).json();
  } catch {
    return say(wordsOf({ code: "unreachable" }));
  }
  if (model.thresholds) {
    thresholds = Object.fromEntries(model.labels.map((label, index) => [label, model.thresholds[index]]));
    byId("ticks").hidden = false;
  }
  if (model.certainty) {
    byId("drift").hidden = false;
    byId("promises").hidden = false;
    byId("promises").querySelector("ul").append(
      ...model.certainty.promises.map((sentence) => element("li", "", sentence)));
  }
  document.title = `${model.name}: classify images`;
  byId("model").textContent = model.name;
  byId("about").hidden = false;
  byId("about").querySelector("summary").textContent = `Labels (${model.labels.length})`;
  byId("labels").append(...model.labels.map((label) => element("li", "", label)));
}

const ready = showModel();
for (const id of ["files", "camera"]) {
  byId(id).addEventListener("change", (event) => {
    if (event.target.files.length) add(event.target.files);
    event.target.value = ""; // so that the same file can be chosen again
  });
}
byId("example").addEventListener("click", async () => {
  await ready;
  add([await drawExample(model.labels)]);
});
byId("clear").addEventListener("click", clear);
byId("save").addEventListener("click", saveCsv);
watchOverview(() => showOverview(items));
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) add(event.clipboardData.files);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  add(event.dataTransfer.files);
});
