
"use strict";
const MOST_CARDS = 50;
const TRIES_WHEN_BUSY = 20;
const VIEWS = { input: "network input", fft: "FFT", lbp: "LBP" };
const $ = (id) => document.getElementById(id);
const results = $("results");
const queue = [];
// Of each finished card, its entry as in an answer of /api/detect about several images.
const entries = new WeakMap();
const COLUMNS = ["path", "fake_probability", "verdict", "error", "note"];
let model = null;
let working = false;
let done = 0;

function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 2 ** 20 ? `${Math.round(bytes / 1024)} KiB` : `${+(bytes / 2 ** 20).toFixed(1)} MiB`;
}

function milliseconds(value) {
  return value < 10 ? `${value.toFixed(1)} ms` : value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

async function showModel() {
  try {
    model = await (await fetch("/api/model")).json();
  } catch {
    $("model").textContent = "The service does not respond.";
    return;
  }
  const { name, backbone, channels, resolution, dataset, trained_on } = model;
  const bold = document.createElement("b");
  bold.textContent = name;
  const parts = [backbone, channels && channels.join(" + "), `${resolution}×${resolution} px`].filter(Boolean);
  const known = trained_on || dataset;
  const training = known ? ` Trained on ${known}; verdicts on other kinds of images are unreliable.` : "";
  $("model").replaceChildren("Model ", bold, ` (${parts.join(", ")}).${training}`);
  $("accepted").textContent =
    `JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF; up to ${size(model.max_upload_bytes)} and ${Math.round(model.max_pixels / 1e6)} megapixels`;
}

function finished() {
  return [...results.children].map((card) => entries.get(card)).filter(Boolean);
}

// The columns and the quoting of `bdd detect --csv`.
function asCsv(list) {
  const field = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[,"\r\n]/.test(text) || text !== text.trim() ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const rows = list.map((entry) => COLUMNS.map((column) => field(entry[column === "path" ? "name" : column])).join(","));
  return [COLUMNS.join(","), ...rows].map((row) => `${row}\n`).join("");
}

function asJson(list) {
  return `${JSON.stringify({ images: list }, null, 2)}\n`;
}

function download(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function newCard(file) {
  const card = $("card").content.firstElementChild.cloneNode(true);
  const name = file.name || "pasted image";
  card.querySelector("h3").textContent = name;
  const preview = card.querySelector(".preview img");
  preview.addEventListener("load", () => preview.classList.toggle("small", preview.naturalWidth < 150));
  // If the browser cannot show the file (TIFF), show() replaces the preview by the network input.
  preview.addEventListener("error", () => preview.remove());
  preview.src = URL.createObjectURL(file);
  return { file, name, card };
}

function add(files) {
  const items = [...files].map(newCard);
  if (!items.length) return;
  results.prepend(...items.map((item) => item.card));
  queue.push(...items);
  while (results.children.length > MOST_CARDS && results.lastElementChild.ariaBusy === "false") discard(results.lastElementChild);
  count();
  work();
}

function discard(card) {
  const preview = card.querySelector(".preview img");
  if (preview) URL.revokeObjectURL(preview.src);
  card.remove();
}

function count() {
  const total = results.children.length;
  $("bar-row").hidden = total === 0;
  const left = queue.length + (working ? 1 : 0);
  $("csv").disabled = $("json").disabled = finished().length === 0;
  $("count").textContent = `${total} image${total === 1 ? "" : "s"}${left ? `, ${left} to go` : ""}`;
}

async function work() {
  if (working) return;
  while (queue.length) {
    const item = queue.shift();
    working = true;
    count();
    try {
      show(item, await detect(item.file));
    } catch (error) {
      fail(item, error.message);
    }
    item.card.ariaBusy = "false";
    working = false;
    done += 1;
    document.body.dataset.done = done;
  }
  count();
}

async function detect(file) {
  if (model && file.size > model.max_upload_bytes)
    throw new Error(`The file has ${size(file.size)}; the limit is ${size(model.max_upload_bytes)}.`);
  let content;
  try {
    content = await file.arrayBuffer();
  } catch {
    throw new Error("This is a folder, or a file that cannot be read.");
  }
  for (let tries = 1; ; tries++) {
    let answer;
    try {
      answer = await fetch("/api/detect?pictures=1", {
        method: "POST",
        headers: { "Content-Type": "application/octet-stream" },
        body: content,
      });
    } catch {
      throw new Error("The service does not respond; is bdd serve still running?");
    }
    if (answer.status === 503 && tries < TRIES_WHEN_BUSY) {
      const seconds = Number(answer.headers.get("Retry-After")) || 1;
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      continue;
    }
    const result = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(result.error || `The service returned status ${answer.status}.`);
    return result;
  }
}

function show({ file, name, card }, result) {
  const { pictures, ...entry } = result;
  entries.set(card, { name, ...entry });
  const percent = (value) => `${(100 * value).toFixed(2)}%`;
  const find = (selector) => card.querySelector(selector);
  card.classList.add(result.verdict);
  find(".badge").textContent = result.verdict;
  const number = document.createElement("b");
  number.textContent = result.fake_probability.toFixed(4);
  find(".score").replaceChildren("fake probability ", number);
  find(".fill").style.width = percent(result.fake_probability);
  find(".tick").style.left = percent(result.threshold);
  find(".tick").style.visibility = "visible";
  find(".threshold").textContent = `threshold ${result.threshold.toFixed(3)}`;
  find(".threshold").style.left = percent(Math.min(0.75, Math.max(0.25, result.threshold)));
  const meter = find(".meter");
  meter.ariaValueNow = result.fake_probability;
  meter.ariaValueText = `${result.fake_probability.toFixed(4)}, ${result.verdict}`;
  find(".facts").textContent = `${result.width}×${result.height} px · ${size(file.size)} · ${milliseconds(result.latency_ms)}`;
  find(".note").textContent = result.note ? `${result.note[0].toUpperCase()}${result.note.slice(1)}. This verdict is unreliable.` : "";
  find(".note").hidden = !result.note;
  find(".facts").title = "Latency: decoding, resizing and inference.";
  for (const [key, caption] of Object.entries(VIEWS)) {
    const figure = document.createElement("figure");
    const image = new Image();
    image.src = result.pictures[key];
    image.alt = key === "input" ? "Network input" : `${caption} of the image`;
    const text = document.createElement("figcaption");
    text.textContent = caption;
    figure.append(image, text);
    find(".views").append(figure);
  }
  if (!find(".preview img")) {
    const image = new Image();
    image.src = result.pictures.input;
    image.alt = "";
    image.className = "small";
    find(".preview").append(image);
  }
  $("status").textContent = `${name}: ${result.verdict}, fake probability ${result.fake_probability.toFixed(4)}.`;
}

function fail({ name, card }, sentence) {
  entries.set(card, { name, error: sentence });
  card.classList.add("failed");
  card.querySelector(".preview").textContent = "✕";
  card.querySelector(".error").textContent = sentence;
  card.querySelector(".error").hidden = false;
  $("status").textContent = `${name}: ${sentence}`;
}

$("form").addEventListener("submit", (event) => event.preventDefault());
$("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = "";
});
// With a byte order mark, without which spreadsheets take UTF-8 for another encoding.
$("csv").addEventListener("click", () => download("bdd.csv", "text/csv", `\ufeff${asCsv(finished())}`));
$("json").addEventListener("click", () => download("bdd.json", "application/json", asJson(finished())));
$("clear").addEventListener("click", () => {
  for (const card of [...results.children]) if (card.ariaBusy === "false") discard(card);
  count();
  $("files").focus();
});
document.addEventListener("paste", (event) => add(event.clipboardData.files));
let depth = 0;
for (const kind of ["dragenter", "dragover", "dragleave", "drop"])
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    if (kind === "dragenter") depth += 1;
    if (kind === "dragleave") depth -= 1;
    if (kind === "drop") {
      depth = 0;
      add(event.dataTransfer.files);
    }
    document.body.classList.toggle("over", depth > 0);
  });
showModel();
