import { givenLabels, verdict } from "./certainty.js";
import { byId, element, percent } from "./elements.js";

const BARS = 5; // the least bars of a card, if there are so many labels
const LONG = 24; // characters of a label
const MOST_IN_TITLE = 3;

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

export function wordsOf(error) {
  return WORDS[error.code] || `The server says: ${error.message || "something went wrong"}`;
}

export function makeCard(file) {
  const card = byId("card").content.cloneNode(true).firstElementChild;
  const image = card.querySelector("img");
  image.addEventListener("error", () => {
    image.parentElement.classList.add("none");
    image.parentElement.textContent = "No preview";
  });
  image.src = URL.createObjectURL(file);
  card.querySelector(".file").textContent = card.querySelector(".file").title = file.name;
  return card;
}

export function showWaiting(card) {
  card.classList.remove("failed");
  card.setAttribute("aria-busy", "true");
  card.querySelector(".label").className = "label";
  card.querySelector(".label").textContent = "Waiting …";
  card.querySelector(".error").textContent = "";
}

/** Show the labels of an image, and return them as a text. */
export function showPrediction(card, prediction, { thresholds, certainty }, seconds) {
  const chosen = givenLabels(prediction);
  const { title: words, isWarning, why } = verdict(prediction, certainty);
  const ranked = prediction.top_k;
  const sure = ranked.filter(({ label }) => chosen.includes(label));
  const title = card.querySelector(".label");
  title.replaceChildren(...sure.slice(0, MOST_IN_TITLE).flatMap((each, index) =>
    index ? [" ", makePair(each)] : [makePair(each)]));
  const more = chosen.length - Math.min(sure.length, MOST_IN_TITLE);
  if (more > 0) title.append(` and ${more} more`);
  if (!chosen.length) title.textContent = "None of the labels";
  title.title = chosen.join(", ");
  if (words) {
    title.textContent = words;
    title.title = `${words}. ${why}`;
  }
  const isUnsure = !certainty && prediction.label !== undefined && ranked[0].probability < 0.5;
  title.classList.toggle("long", title.textContent.length > LONG);
  title.classList.toggle("unsure", isUnsure);
  title.classList.toggle("warning", isWarning);
  card.querySelector(".note").textContent = isUnsure ? "The model is not sure: no label reaches 50%." : why;
  const marked = isWarning ? [] : prediction.labels || chosen;
  card.querySelector(".bars").replaceChildren(...ranked.slice(0, Math.max(BARS, chosen.length)).map(
    (each) => makeBar(each, marked.includes(each.label), thresholds?.[each.label])));
  card.querySelector(".time").textContent = `answered in ${seconds.toFixed(2)} s`;
  if (words) return `${words}. ${why}`.replace(/\.$/, "");
  const first = prediction.label === undefined ? "" : `, ${percent(ranked[0].probability)}`;
  return `${chosen.join(", ") || title.textContent}${first}`;
}

function makePair({ label, probability }) {
  return element("span", "pair", element("span", "name", label), " ",
    element("span", "number", percent(probability)));
}

function makeBar({ label, probability }, isChosen, threshold) {
  const fill = element("div", "fill");
  fill.style.width = `${100 * probability}%`;
  const track = element("div", "track", fill);
  track.setAttribute("aria-hidden", "true"); // the number says the same
  if (threshold !== undefined) {
    const tick = element("div", "tick");
    tick.style.left = `${100 * threshold}%`;
    track.append(tick);
    track.title = `threshold ${percent(threshold)}`;
  }
  return element("li", isChosen ? "chosen" : "", element("span", "name", label), " ",
    element("span", "number", percent(probability)), track);
}

/** Show why there is no answer, and call `again` when the person asks for another try. */
export function showError(card, error, again) {
  card.classList.add("failed");
  card.querySelector(".label").textContent = "No answer";
  card.querySelector(".note").textContent = "";
  card.querySelector(".error").textContent = wordsOf(error);
  const button = card.querySelector(".again");
  button.hidden = !MAY_WORK_LATER.includes(error.code);
  button.onclick = () => {
    button.hidden = true;
    byId("files").focus(); // keep the focus when the button is hidden
    again();
  };
}
