"use strict";

const element = (name, text, ...children) => {
  const made = document.createElement(name);
  made.append(text, ...children);
  return made;
};

function table(rows) {
  const body = document.createElement("tbody");
  for (const [name, meaning] of rows) {
    const head = element("th", name);
    head.scope = "row";
    body.append(element("tr", head, element("td", meaning)));
  }
  return element("table", body);
}

function route(method, path, operation) {
  const badge = element("span", method.toUpperCase());
  badge.className = "method";
  const heading = element("h2", badge, ` ${path}`);
  heading.className = "route";
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
  const words = element("p", operation.description || `${operation.summary}.`);
  return rows.length ? [heading, words, table(rows)] : [heading, words];
}

async function show() {
  const server = location.href.replace(/docs\/?$/, "");
  const write = (id, text) => { document.getElementById(id).textContent = text; };
  write("form", `curl -F file=@photo.jpg ${server}predict`);
  write("body", `curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' ${server}predict`);
  write("json", `curl --json '{"images": ["<base64>"]}' ${server}predict`);
  const { labels, multi_label } = await (await fetch("labels")).json();
  const label = labels[0];
  const prediction = multi_label ? { file: "photo.jpg", labels: [label] } : { file: "photo.jpg", label };
  prediction.top_k = [{ label, probability: 0.93 }, "…"];
  write("answer", JSON.stringify({ predictions: [prediction], seconds: 0.012 }, null, 2).replace('"…"', "…"));
  const api = await (await fetch("openapi.json")).json();
  const routes = document.getElementById("routes");
  for (const [path, operations] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      routes.append(...route(method, path, operation));
    }
  }
}

show();
