import { byId, element, percent } from "./elements.js";

const RESERVED = "ksux"; // the keys of the actions
const KEYS = [..."1234567890", ..."abcdefghijklmnopqrstuvwxyz"].filter((key) => !RESERVED.includes(key));
const FOUND = 12; // labels that a search shows
const TWO_COLUMNS = 12; // from this number of labels on

let about = null; // what does not change: the labels
let view = null; // the image and the progress
let chosen = new Set(); // the labels that are on, if an image may have several

const current = () => view.image;
const isBusy = () => byId("image").getAttribute("aria-busy") === "true";
const setBusy = (value) => byId("image").setAttribute("aria-busy", value);
const names = (numbers) => numbers.map((number) => about.labels[number]).join(", ") || "no label";
const hasKeys = () => about.labels.length <= KEYS.length;

async function ask(path, body) {
  let response, answer;
  try {
    const options = body === undefined ? {} : {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    };
    response = await fetch(path, options);
    answer = await response.json();
  } catch {
    throw new Error("The command does not answer. Start it again, and open the address that it prints.");
  }
  if (response.ok) return answer;
  throw Object.assign(new Error(answer.error?.message || "Something went wrong."), { code: answer.error?.code });
}

/** Ask the server for a new view, and show it. Ignore keys meanwhile. */
async function update(path, body, said) {
  if (isBusy()) return;
  setBusy(true);
  try {
    const answered = await ask(path, body);
    showError("");
    show(answered);
    byId("status").textContent = said;
  } catch (error) {
    showError(error.message);
    if (error.code === "answered_already") show(await ask("view"));
  } finally {
    setBusy(false);
  }
}

function showError(text) {
  byId("error").textContent = text;
  byId("error").hidden = !text;
}

function save(labels) {
  update("answers", { image: current().place, answer: "label", labels }, `Saved: ${names(labels)}.`);
}

const ACTIONS = {
  accept: () => save(about.multi_label ? [...chosen] : current().suggestion),
  keep: () => current().labels && save(current().labels),
  none: () => update("answers", { image: current().place, answer: "none" }, "Saved: none of these labels."),
  skip: () => update("answers", { image: current().place, answer: "skip" }, "Skipped: it comes again at the end."),
  undo: () => view.can_undo && update("undo", {}, "The last answer was removed."),
};
const KEY_OF = { Enter: "accept", k: "keep", x: "none", s: "skip", u: "undo" };

function choose(number) {
  if (!about.multi_label) return save([number]);
  if (chosen.has(number)) chosen.delete(number);
  else chosen.add(number);
  showChoices();
}

function show(next) {
  view = next;
  const image = current();
  byId("count").textContent = `${view.answered} of ${view.total} images answered`;
  byId("progress").max = Math.max(1, view.total);
  byId("progress").value = view.answered;
  byId("image").hidden = !image;
  byId("done").hidden = Boolean(image);
  for (const id of ["accept", "keep", "none", "skip"]) byId(id).disabled = !image;
  byId("undo").disabled = !view.can_undo;
  byId("typed").value = "";
  if (!image) return;
  const picture = byId("picture");
  picture.classList.remove("failed");
  picture.src = `images/${image.place}`;
  picture.alt = `Image ${image.name}`;
  byId("name").textContent = image.name;
  byId("title").textContent = image.title;
  byId("reason").textContent = image.reason;
  byId("keep").hidden = !image.labels || about.multi_label;
  byId("actions").className = byId("keep").hidden ? "three" : ""; // buttons below the first
  chosen = new Set(image.suggestion);
  showChoices();
  showSimilar(image.similar);
  if (view.next !== null) new Image().src = `images/${view.next}`; // so that it is there at once
  byId("image").focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

/** The labels to show: all that have keys, or the most probable ones; or those that a text is in. */
function shownLabels() {
  const typed = byId("typed").value.trim().toLowerCase();
  const all = about.labels.map((_, number) => number);
  if (typed) {
    const found = all.filter((number) => about.labels[number].toLowerCase().includes(typed));
    const starts = (number) => about.labels[number].toLowerCase().startsWith(typed);
    return found.sort((a, b) => starts(b) - starts(a)); // the sort is stable
  }
  if (hasKeys()) return all;
  const probable = current().top.map(({ label }) => label);
  return [...new Set([...current().suggestion, ...(current().labels || []), ...probable, ...chosen])];
}

function keyOf(number, place) {
  if (byId("typed").value.trim()) return "";
  return KEYS[hasKeys() ? number : place] || "";
}

function showChoices() {
  const labels = shownLabels();
  const isSearch = Boolean(byId("typed").value.trim());
  const shown = isSearch ? labels.slice(0, FOUND) : labels;
  byId("choices").className = shown.length > TWO_COLUMNS ? "many" : "";
  byId("choices").replaceChildren(...shown.map((number, place) => element("li", "", makeChoice(number, keyOf(number, place)))));
  byId("more").hidden = !isSearch && hasKeys();
  byId("more").textContent = isSearch
    ? (labels.length ? `${labels.length} of ${about.labels.length} labels; Enter takes the first` : "No label has this text.")
    : `The most probable of ${about.labels.length} labels`;
  byId("accept").firstElementChild.textContent = about.multi_label
    ? `Save: ${names([...chosen].sort((a, b) => a - b))}` : `Accept: ${names(current().suggestion)}`;
}

function makeChoice(number, key) {
  const probability = current().top.find(({ label }) => label === number)?.probability;
  const isGiven = current().labels?.includes(number);
  const button = element("button", current().suggestion.includes(number) ? "suggested" : "",
    key ? element("kbd", "", key) : element("span", ""),
    element("span", "name", about.labels[number], ...(isGiven ? [" ", element("span", "now", "in the data")] : [])),
    element("span", "number", probability === undefined ? "" : percent(probability)));
  button.type = "button";
  if (key) button.setAttribute("aria-keyshortcuts", key);
  if (about.multi_label) button.setAttribute("aria-pressed", chosen.has(number));
  if (probability !== undefined) {
    const fill = element("span", "fill");
    fill.style.width = `${100 * probability}%`;
    button.append(fill);
  }
  button.addEventListener("click", () => choose(number));
  return button;
}

function showSimilar(similar) {
  byId("similar").hidden = !similar.length;
  byId("similar").lastElementChild.replaceChildren(...similar.map(({ place, labels }) => {
    const image = element("img", "");
    image.src = `similar/${place}`;
    image.alt = "";
    return element("li", "", image, element("span", "", names(labels)));
  }));
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !view) return;
  if (event.target === byId("typed")) return onTypedKey(event);
  if (event.key === "Enter" && event.target.closest("button")) return; // the button's own
  if (event.repeat) return;
  const action = KEY_OF[event.key];
  if (action) {
    if (!byId(action).disabled && !byId(action).hidden) {
      event.preventDefault();
      ACTIONS[action]();
    }
  } else if (event.key === "/" && current()) {
    event.preventDefault();
    byId("typed").focus();
  } else if (current()) {
    const place = KEYS.indexOf(event.key);
    const labels = shownLabels();
    if (place >= 0 && place < labels.length) choose(labels[place]);
  }
}

function onTypedKey(event) {
  if (event.key === "Escape") {
    byId("typed").value = "";
    showChoices();
    byId("image").focus({ preventScroll: true });
  } else if (event.key === "Enter") {
    event.preventDefault();
    const [first] = shownLabels();
    if (!byId("typed").value.trim() || first === undefined) return;
    byId("typed").value = "";
    byId("image").focus({ preventScroll: true });
    choose(first);
  }
}

for (const [id, action] of Object.entries(ACTIONS)) byId(id).addEventListener("click", action);
byId("typed").addEventListener("input", showChoices);
byId("picture").addEventListener("error", () => {
  byId("picture").classList.add("failed");
  byId("name").textContent = `${current().name}: the image cannot be shown`;
});
document.addEventListener("keydown", onKey);

try {
  about = await ask("session");
  document.title = `Review labels: ${about.name}`;
  for (const place of document.querySelectorAll(".file")) place.textContent = about.file;
  byId("filter").hidden = about.labels.length <= 10;
  show(await ask("view"));
  setBusy(false);
} catch (error) {
  showError(error.message);
}
