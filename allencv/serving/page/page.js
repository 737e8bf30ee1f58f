"use strict";

const AT_A_TIME = 3; // images sent at once
const RETRIES = 5; // when the server is busy

const WORDS = {
  unsupported_format: "This is not a supported image. Use JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF.",
  damaged_image: "The file is damaged or was cut short.",
  empty_file: "The file is empty.",
  odd_shape: "The image is too long and narrow.",
  too_much_work: "The file takes too long to read. Save it as JPEG or PNG first.",
  too_many_pixels: "The image has too many pixels. Scale it down first.",
  body_too_large: "The file is too large. Scale the image down first.",
  too_slow: "The upload took too long.",
  overloaded: "The server is busy.",
  too_many_connections: "The server is busy.",
  no_answer_in_time: "The server took too long to answer.",
  unreachable: "The server cannot be reached.",
};
const MAY_WORK_LATER = ["too_slow", "overloaded", "too_many_connections", "no_answer_in_time", "unreachable",
  "internal_error", "shutting_down"];

const byId = (id) => document.getElementById(id);
const waiting = [];
let round = []; // the items that the status line describes
let active = 0;
let limits = null;

function percent(probability) {
  if (probability > 0 && probability < 0.001) return "< 0.1%";
  return `${(100 * probability).toFixed(1)}%`;
}

function say(text) {
  byId("status").textContent = text;
}

/** Put a card for each file at the top of the list, and send the files. */
function add(files) {
  const items = [...files].map((file) => ({ file, card: makeCard(file), canceller: new AbortController() }));
  if (!items.length) return say("No image file found.");
  byId("results").prepend(...items.map((item) => item.card));
  byId("clear").hidden = false;
  items.forEach(enqueue);
}

function makeCard(file) {
  const card = byId("card").content.cloneNode(true).firstElementChild;
  const image = card.querySelector("img");
  image.addEventListener("error", () => {
    image.parentElement.classList.add("none");
    image.parentElement.textContent = "No preview";
  });
  image.src = URL.createObjectURL(file);
  card.querySelector(".file").textContent = file.name;
  return card;
}

function enqueue(item) {
  if (round.every((each) => each.words)) round = [];
  if (!round.includes(item)) round.push(item);
  item.words = "";
  item.failed = false;
  item.card.classList.remove("failed");
  item.card.setAttribute("aria-busy", "true");
  item.card.querySelector(".label").textContent = "Waiting …";
  item.card.querySelector(".error").textContent = "";
  waiting.push(item);
  sayProgress();
  sendNext();
}

async function sendNext() {
  if (active >= AT_A_TIME || !waiting.length) return;
  const item = waiting.shift();
  active += 1;
  item.card.querySelector(".label").textContent = "Classifying …";
  const started = performance.now();
  try {
    const prediction = await ask(item);
    showPrediction(item, prediction, (performance.now() - started) / 1000);
  } catch (error) {
    showError(item, error);
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
  if (limits && file.size > limits.max_body_bytes - 10000) throw failure("body_too_large", "");
  for (let retry = 0; ; retry += 1) {
    const form = new FormData();
    form.append("file", file);
    let response, answer;
    try {
      response = await fetch("predict", { method: "POST", body: form, signal: canceller.signal });
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

function showPrediction(item, prediction, seconds) {
  const chosen = prediction.labels || [prediction.label];
  const title = chosen.join(", ") || "None of the labels";
  const { card, file } = item;
  card.querySelector(".label").textContent = title;
  card.querySelector(".bars").replaceChildren(
    ...prediction.top_k.map((each) => makeBar(each, chosen.includes(each.label))));
  card.querySelector(".time").textContent = `answered in ${seconds.toFixed(2)} s`;
  const sure = prediction.labels ? "" : `, ${percent(prediction.top_k[0].probability)}`;
  item.words = `${file.name}: ${title}${sure}.`;
}

function element(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

function makeBar({ label, probability }, isChosen) {
  const fill = element("div", "fill");
  fill.style.width = `${100 * probability}%`;
  const track = element("div", "track", fill);
  track.setAttribute("aria-hidden", "true"); // the number says the same
  const number = element("span", "number", percent(probability));
  return element("li", isChosen ? "chosen" : "", element("span", "name", label), track, number);
}

function showError(item, error) {
  const { file, card } = item;
  const words = WORDS[error.code] || `The server says: ${error.message || "something went wrong"}`;
  card.classList.add("failed");
  card.querySelector(".label").textContent = "No answer";
  card.querySelector(".error").textContent = words;
  item.words = `${file.name}: ${words}`;
  item.failed = true;
  const again = card.querySelector(".again");
  again.hidden = !MAY_WORK_LATER.includes(error.code);
  again.onclick = () => {
    again.hidden = true;
    byId("files").focus(); // keep the focus when the button is hidden
    enqueue(item);
  };
}

function sayProgress() {
  const done = round.filter((item) => item.words).length;
  const failed = round.filter((item) => item.failed).length;
  if (done < round.length) {
    say(round.length === 1 ? "Classifying …" : `${done} of ${round.length} images done …`);
  } else if (round.length === 1) {
    say(round[0].words);
  } else {
    say(`${done} images done${failed ? `, ${failed} failed` : ""}.`);
  }
}

function clear() {
  waiting.length = 0;
  for (const item of round) item.canceller.abort(); // the server then drops them
  round = [];
  for (const image of byId("results").querySelectorAll("img")) URL.revokeObjectURL(image.src);
  byId("results").replaceChildren();
  byId("clear").hidden = true;
  byId("files").focus();
  say("");
}

async function showModel() {
  try {
    const model = await (await fetch("labels")).json();
    limits = model.limits;
    document.title = `${model.name}: classify images`;
    byId("model").textContent = model.name;
    byId("about").hidden = false;
    byId("about").querySelector("summary").textContent = `Labels (${model.labels.length})`;
    byId("labels").textContent = model.labels.join(", ");
  } catch {
    say(WORDS.unreachable);
  }
}

byId("files").addEventListener("change", (event) => {
  if (event.target.files.length) add(event.target.files);
  event.target.value = ""; // so that the same file can be chosen again
});
byId("clear").addEventListener("click", clear);
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
showModel();
