import { byId, element } from "./elements.js";
import { drawExample } from "./example.js";

/** Make a box with a text and a button that copies it. */
function code(text) {
  const box = element("pre", "", text);
  const button = element("button", "", "Copy");
  button.type = "button";
  button.addEventListener("click", async () => {
    button.textContent = (await copy(box)) ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  return element("div", "code", box, button);
}

async function copy(box) {
  getSelection().selectAllChildren(box);
  if (!navigator.clipboard) return document.execCommand("copy"); // a page without HTTPS
  return navigator.clipboard.writeText(box.textContent).then(() => true, () => false);
}

function table(rows) {
  const body = element("tbody", "");
  for (const [name, meaning] of rows) {
    const head = element("th", "", name);
    head.scope = "row";
    body.append(element("tr", "", head, element("td", "", meaning)));
  }
  return element("table", "", body);
}

function route(method, path, operation) {
  const badge = element("span", "method", method.toUpperCase());
  const parts = [element("h2", "route", badge, ` ${path}`)];
  const rows = [];
  for (const parameter of operation.parameters || []) {
    rows.push([`?${parameter.name}=`, parameter.description || ""]);
  }
  for (const type of Object.keys(operation.requestBody?.content || {})) {
    const fields = Object.keys(operation.requestBody.content[type].schema.properties || {});
    rows.push([type, fields.length ? `fields: ${fields.join(", ")}` : "the image itself"]);
  }
  for (const [status, response] of Object.entries(operation.responses)) {
    if (status !== "200" && method === "post") rows.push([status, response.description]);
  }
  parts.push(element("p", "", operation.description || `${operation.summary}.`));
  if (rows.length) parts.push(table(rows));
  if (method === "get") {
    const outcome = element("div", "");
    const button = element("button", "", "Send");
    button.type = "button";
    button.setAttribute("aria-label", `Send GET ${path}`);
    button.addEventListener("click", () => send(outcome, path.slice(1)));
    parts.push(button, outcome);
  }
  return parts;
}

/** Send a request, and show its status, its time and its answer. */
async function send(place, path, options = {}) {
  const started = performance.now();
  try {
    const response = await fetch(path, options);
    const text = await response.text();
    const seconds = ((performance.now() - started) / 1000).toFixed(2);
    const isJson = response.headers.get("Content-Type")?.includes("json");
    const status = element("p", "", `Status ${response.status}, ${seconds} s`);
    status.setAttribute("role", "status");
    const answer = code(isJson ? JSON.stringify(JSON.parse(text), null, 2) : text);
    answer.firstChild.tabIndex = 0; // a long answer is scrolled
    place.replaceChildren(status, answer);
  } catch {
    place.replaceChildren(element("p", "error", "The server cannot be reached."));
  }
}

async function show() {
  const server = location.href.replace(/docs\/?([?#].*)?$/, "");
  const write = (id, text) => byId(id).append(code(text));
  write("form", `curl -F file=@photo.jpg ${server}predict`);
  write("body", `curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' ${server}predict`);
  write("json", `curl --json '{"images": ["<base64>"]}' ${server}predict`);
  write("error", '{"error": {"code": "unsupported_format", "message": "…"}}');
  const { labels, multi_label, certainty } = await (await fetch("labels")).json();
  byId("try").addEventListener("submit", async (event) => {
    event.preventDefault();
    const { file, top_k } = event.target.elements;
    const body = new FormData();
    body.append("file", file.files[0] || await drawExample(labels));
    send(byId("outcome"), `predict?top_k=${top_k.value}`, { method: "POST", body });
  });
  const label = labels[0];
  const prediction = multi_label ? { file: "photo.jpg", labels: [label] } : { file: "photo.jpg", label };
  if (certainty?.sets) prediction[certainty.sets.key] = [label, "…"];
  if (certainty?.unknown) prediction.is_unknown = false;
  if (certainty?.answered) prediction.is_answered = true;
  prediction.top_k = [{ label, probability: 0.93 }, "…"];
  write("answer", JSON.stringify({ predictions: [prediction], seconds: 0.012 }, null, 2).replaceAll('"…"', "…"));
  const api = await (await fetch("openapi.json")).json();
  for (const [path, operations] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      byId("routes").append(...route(method, path, operation));
    }
  }
}

show();
