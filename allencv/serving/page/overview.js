import { NOT_ANSWERED, UNKNOWN, decisions } from "./certainty.js";
import { byId, element } from "./elements.js";

const MANY = 6; // images, from which on they are shown as a grid
const MOST_COUNTS = 12; // labels, before the others are unfolded
const MOST_LISTED = 5; // labels of an image in the table
const NO_LABEL = "None of the labels";
const NO_ANSWER = "No answer";

let chosenView = ""; // "list" or "grid", once the person has chosen one
let chosenLabel = ""; // "" for all images
let isUnfolded = false;

/** The names under which an image is counted. */
function groupsOf(item) {
  if (item.failed) return [NO_ANSWER];
  if (item.prediction.is_unknown) return [UNKNOWN];
  if (item.prediction.is_answered === false) return [NOT_ANSWERED];
  return item.labels.length ? item.labels : [NO_LABEL];
}

/** Fit the page to its images: list or grid, counts by label, and the images of the chosen label. */
export function showOverview(items) {
  const view = chosenView || (items.length > MANY ? "grid" : "list");
  document.body.classList.toggle("as-grid", view === "grid");
  byId("actions").hidden = !items.length;
  for (const each of document.querySelectorAll(".several")) each.hidden = items.length < 2;
  for (const name of ["list", "grid"]) byId(name).setAttribute("aria-pressed", String(view === name));
  for (const { card } of items.filter((item) => item.card.dataset.view !== view)) {
    card.dataset.view = view;
    card.querySelector(".more").open = view === "list";
  }
  const done = items.filter((item) => item.words);
  showCounts(done);
  for (const item of done) {
    item.card.hidden = chosenLabel !== "" && !groupsOf(item).includes(chosenLabel);
  }
}

function showCounts(items) {
  const counts = new Map();
  for (const name of items.flatMap(groupsOf)) counts.set(name, (counts.get(name) || 0) + 1);
  if (!counts.has(chosenLabel)) chosenLabel = "";
  const sorted = [...counts].sort(([first, a], [second, b]) => b - a || first.localeCompare(second));
  const shown = isUnfolded ? sorted : sorted.slice(0, MOST_COUNTS);
  const buttons = [["", items.length], ...shown].map(([name, count]) => {
    const button = element("button", "", element("span", "name", name || "All"), " ",
      element("span", "number", String(count)));
    button.type = "button";
    button.dataset.label = name;
    button.setAttribute("aria-pressed", String(name === chosenLabel));
    return button;
  });
  if (shown.length < sorted.length) {
    const unfold = element("button", "unfold", `${sorted.length - shown.length} more labels`);
    unfold.type = "button";
    buttons.push(unfold);
  }
  const focused = document.activeElement?.dataset.label;
  byId("counts").replaceChildren(...buttons.map((button) => element("li", "", button)));
  buttons.find((button) => button.dataset.label === focused)?.focus();
  byId("counts").hidden = items.length < 2;
}

/** Call `update` when the person chooses a view or a label. */
export function watchOverview(update) {
  for (const name of ["list", "grid"]) {
    byId(name).addEventListener("click", () => {
      chosenView = name;
      update();
    });
  }
  byId("counts").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.classList.contains("unfold")) isUnfolded = true;
    else chosenLabel = button.dataset.label;
    update();
  });
}

/** Return the answers as a table with the columns of `allencv classify`. */
export function asCsv(items, isMultiLabel) {
  const rows = items.map((item) => {
    const row = { path: item.file.name };
    if (item.failed) return { ...row, error: item.reason };
    if (isMultiLabel) Object.assign(row, { labels: item.labels.join("|") }, decisions(item.prediction));
    item.prediction.top_k.slice(0, MOST_LISTED).forEach(({ label, probability }, index) => {
      const end = index || isMultiLabel ? `_${index + 1}` : "";
      row[`label${end}`] = label;
      row[`probability${end}`] = probability;
      if (!end) Object.assign(row, decisions(item.prediction));
    });
    return row;
  });
  const columns = new Set(rows.flatMap((row) => Object.keys(row)));
  columns.delete("error"); // it is the last column
  const lines = [[...columns, "error"], ...rows.map((row) => [...columns, "error"].map((name) => row[name] ?? ""))];
  const quoted = (cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
  return lines.map((line) => `${line.map(quoted).join(",")}\n`).join("");
}
