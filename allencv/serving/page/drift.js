import { byId, element } from "./elements.js";

const SECONDS = 10; // between two looks at the server
const MOST_LABELS = 30; // the most frequent ones, in the table
const SVG = "http://www.w3.org/2000/svg";

const percent = (share) => `${(100 * share).toFixed(1)}%`;
const sum = (counts) => counts.reduce((total, count) => total + count, 0);
const sharesOf = (counts, images = sum(counts)) => counts.map((count) => count / (images || 1));

function drawn(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  return node;
}

/** A column for each bin of scores, and a line at the share of the calibration images. */
function columns({ calibration, recent }) {
  const expected = sharesOf(calibration);
  const given = sharesOf(recent);
  const [width, height] = [10, 120];
  const most = Math.max(...expected, ...given) * 1.1;
  const chart = drawn("svg", {
    viewBox: `0 0 ${width * given.length} ${height}`, role: "img", class: "columns",
    "aria-label": "Shares of the last images by their likeness",
    preserveAspectRatio: "none",
  });
  given.forEach((share, place) => {
    const y = height * (1 - share / most);
    const bar = drawn("rect", { x: place * width + 1, y, width: width - 2, height: height - y });
    bar.append(drawn("title", {}));
    bar.firstChild.textContent = `${percent(share)}, calibration ${percent(expected[place])}`;
    chart.append(bar);
    const line = height * (1 - expected[place] / most);
    chart.append(drawn("line", { x1: place * width, x2: (place + 1) * width, y1: line, y2: line }));
  });
  return chart;
}

/** A row for each label. An image may have several labels, so scores give the numbers of images. */
function labelRows(labels, { labels: { calibration, recent }, scores }) {
  const expected = sharesOf(calibration, sum(scores.calibration));
  const given = sharesOf(recent, sum(scores.recent));
  const order = labels.map((_, place) => place);
  order.sort((first, second) => given[second] + expected[second] - given[first] - expected[first]);
  const most = Math.max(...expected, ...given) || 1;
  return order.slice(0, MOST_LABELS).map((place) => {
    const bar = drawn("svg", { viewBox: "0 0 100 10", class: "share", "aria-hidden": "true",
      preserveAspectRatio: "none" });
    bar.append(drawn("rect", { x: 0, y: 1, height: 8, width: (97 * given[place]) / most }));
    const mark = (97 * expected[place]) / most;
    bar.append(drawn("line", { x1: mark, x2: mark, y1: 0, y2: 10 }));
    const name = element("th", "", labels[place]);
    name.scope = "row";
    return element("tr", "", name, element("td", "", bar),
      element("td", "number", percent(given[place])),
      element("td", "number", percent(expected[place])));
  });
}

function stateOf(drift) {
  const seen = drift.windows * drift.images_in_window + drift.pending_images;
  const images = `${seen.toLocaleString("en")} ${seen === 1 ? "image" : "images"} so far`;
  if (!drift.windows) return `${images}. The first comparison comes after ${drift.images_in_window}.`;
  if (!drift.is_alarm) {
    const earlier = drift.alarms === 1 ? "1 earlier alarm" : `${drift.alarms} earlier alarms`;
    return `${images}. The last ones do not differ clearly from those of the calibration${
      drift.alarms ? `; ${earlier}` : ""}.`;
  }
  return `${images}. The last ones differ from those of the calibration: look at some of them.`;
}

function show(drift) {
  byId("state").textContent = stateOf(drift);
  byId("state").classList.toggle("alarm", drift.is_alarm);
  byId("shown").hidden = !drift.windows;
  if (!drift.windows) return;
  byId("scores").replaceChildren(columns(drift.counts.scores));
  byId("labels").tBodies[0].replaceChildren(...labelRows(drift.labels, drift.counts));
  const kept = `last ${sum(drift.counts.scores.recent).toLocaleString("en")} images`;
  for (const place of document.querySelectorAll(".kept")) place.textContent = kept;
  const rows = drift.comparisons.map((each) => element("tr", each.is_alarm ? "alarm" : "",
    element("td", "", (each.windows * drift.images_in_window).toLocaleString("en")),
    element("td", "", each.of), element("td", "number", each.distance.toFixed(3)),
    element("td", "", each.is_alarm ? "alarm" : "no clear difference")));
  byId("comparisons").tBodies[0].replaceChildren(...rows);
}

async function look() {
  try {
    const answer = await fetch("drift.json");
    const content = await answer.json();
    if (answer.ok) show(content);
    else byId("state").textContent = `No comparison: ${content.error.message}.`;
  } catch {
    byId("state").textContent = "The server does not answer.";
  }
  setTimeout(look, 1000 * SECONDS);
}

look();
