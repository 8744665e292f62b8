// The page: takes images, asks the worker, shows verdicts and heat maps.

const MOST_CARDS = 50;
const FAULTS = {
  numbers: "This browser computes other numbers than it should: a fixed image did not get its known score. Do not rely on verdicts here.",
  pixels:
    "This browser changes the pixels that a page reads (protection against fingerprinting, or colour conversion): a fixed " +
    "image did not come back unchanged. Verdicts are unreliable here; allow canvas access for this page, or use another browser.",
};
const $ = (id) => document.getElementById(id);
const results = $("results");
const queue = [];
let working = false;
let done = 0;

// The worker -------------------------------------------------------------------------------------------------------

const waiting = new Map();
let worker = null;
let number = 0;

function startWorker() {
  worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  worker.addEventListener("message", ({ data }) => {
    const { resolve, reject } = waiting.get(data.id);
    waiting.delete(data.id);
    if (data.error === undefined) resolve(data.result);
    else reject(new Error(data.error));
  });
  worker.addEventListener("error", (event) => {
    event.preventDefault();
    for (const { reject } of waiting.values()) reject(new Error("this browser cannot run the detector"));
    waiting.clear();
  });
}

function ask(kind, more = {}) {
  number += 1;
  const id = number;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, kind, ...more });
  });
}

function sentence(text) {
  const ended = /[.?!]$/.test(text) ? text : `${text}.`;
  return ended[0].toUpperCase() + ended.slice(1);
}

async function showModel() {
  try {
    startWorker();
    const { name, backbone, channels, resolution, dataset, fault } = await ask("load");
    const bold = document.createElement("b");
    bold.textContent = name.replace(/\.tflite$/, "");
    const parts = [backbone, channels && channels.join(" + "), `${resolution}×${resolution} px`].filter(Boolean);
    const training = dataset ? ` Trained on ${dataset}; verdicts on other kinds of images are unreliable.` : "";
    $("model").replaceChildren("Model ", bold, ` (${parts.join(", ")}).${training}`);
    if (fault) warn(FAULTS[fault]);
  } catch (error) {
    $("model").textContent = "";
    warn(sentence(error.message));
  }
  document.body.dataset.ready = "1";
}

function warn(text) {
  $("warning").textContent = text;
  $("warning").hidden = false;
}

// Cards ------------------------------------------------------------------------------------------------------------

function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 2 ** 20 ? `${Math.round(bytes / 1024)} KiB` : `${+(bytes / 2 ** 20).toFixed(1)} MiB`;
}

function milliseconds(value) {
  return value < 10 ? `${value.toFixed(1)} ms` : value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

function newCard(file) {
  const card = $("card").content.firstElementChild.cloneNode(true);
  const name = file.name || "pasted image";
  card.querySelector("h3").textContent = name;
  const button = card.querySelector(".preview");
  button.setAttribute("aria-label", `Enlarge ${name}`);
  button.addEventListener("click", () => {
    const wide = card.classList.toggle("wide");
    button.setAttribute("aria-expanded", wide);
  });
  const preview = button.querySelector("img");
  preview.addEventListener("load", () => preview.classList.toggle("small", preview.naturalWidth < 150));
  preview.addEventListener("error", () => preview.remove());
  preview.src = URL.createObjectURL(file);
  return { file, name, card, url: preview.src };
}

function add(files) {
  const items = [...files].map(newCard);
  if (!items.length) return;
  for (const { card, url } of items) card.dataset.url = url;
  results.prepend(...items.map((item) => item.card));
  queue.push(...items);
  while (results.children.length > MOST_CARDS && results.lastElementChild.ariaBusy === "false") discard(results.lastElementChild);
  count();
  work();
}

function discard(card) {
  URL.revokeObjectURL(card.dataset.url);
  card.remove();
}

function count() {
  const total = results.children.length;
  $("bar-row").hidden = total === 0;
  $("legend").hidden = total === 0 || results.classList.contains("cool");
  const left = queue.length + (working ? 1 : 0);
  $("count").textContent = `${total} image${total === 1 ? "" : "s"}${left ? `, ${left} to go` : ""}`;
}

async function work() {
  if (working) return;
  while (queue.length) {
    const item = queue.shift();
    working = true;
    count();
    try {
      show(item, await ask("predict", { file: item.file }));
    } catch (error) {
      fail(item, sentence(error.message));
    }
    item.card.ariaBusy = "false";
    working = false;
    done += 1;
    document.body.dataset.done = done;
  }
  count();
}

function show({ file, name, card }, result) {
  const percent = (value) => `${(100 * value).toFixed(2)}%`;
  const find = (selector) => card.querySelector(selector);
  const { probability, verdict, threshold, note } = result;
  card.classList.add(verdict);
  find(".badge").textContent = verdict;
  const bold = document.createElement("b");
  bold.textContent = probability.toFixed(4);
  find(".score").replaceChildren("fake probability ", bold);
  find(".fill").style.width = percent(probability);
  find(".tick").style.left = percent(threshold);
  find(".tick").style.visibility = "visible";
  find(".threshold").textContent = `threshold ${threshold.toFixed(3)}`;
  find(".threshold").style.left = percent(Math.min(0.75, Math.max(0.25, threshold)));
  const meter = find(".meter");
  meter.ariaValueNow = probability;
  meter.ariaValueText = `${probability.toFixed(4)}, ${verdict}`;
  find(".facts").textContent = `${result.width}×${result.height} px · ${size(file.size)} · ${milliseconds(result.milliseconds)}`;
  find(".facts").title = "Time for decoding and inference.";
  find(".note").textContent = note ? `${sentence(note)} This verdict is unreliable.` : "";
  find(".note").hidden = !note;
  showCrops(card, result);
  $("status").textContent = `${name}: ${verdict}, fake probability ${probability.toFixed(4)}.${note ? ` ${sentence(note)} This verdict is unreliable.` : ""}`;
}

/** Colours each crop by its own probability: the farther from the threshold, the stronger. */
function showCrops(card, { width, height, threshold, crops }) {
  const heat = card.querySelector(".heat");
  heat.setAttribute("viewBox", `0 0 ${width} ${height}`);
  card.style.setProperty("--ratio", width / height);
  const body = card.querySelector(".crops tbody");
  crops.forEach(({ box, probability }, i) => {
    const fake = probability >= threshold;
    const strength = fake ? (probability - threshold) / (1 - threshold || 1) : (threshold - probability) / (threshold || 1);
    const rect = document.createElementNS(heat.namespaceURI, "rect");
    const place = { x: box.left, y: box.top, width: box.width, height: box.height };
    for (const [key, value] of Object.entries(place)) rect.setAttribute(key, value);
    rect.setAttribute("class", fake ? "fake" : "real");
    rect.setAttribute("fill-opacity", (0.12 + 0.5 * strength).toFixed(3));
    heat.append(rect);
    const row = body.insertRow();
    row.insertCell().textContent = i + 1;
    row.insertCell().textContent = `${box.left}, ${box.top}`;
    const score = row.insertCell();
    score.textContent = probability.toFixed(4);
    score.className = fake ? "FAKE" : "REAL";
  });
  const highest = Math.max(...crops.map((crop) => crop.probability));
  card.querySelector(".crops summary").textContent =
    `${crops.length} crop${crops.length === 1 ? "" : "s"}, highest ${highest.toFixed(4)}`;
  card.querySelector(".crops").hidden = false;
}

function fail({ name, card }, text) {
  card.classList.add("failed");
  const mark = document.createElement("div");
  mark.className = "preview";
  mark.ariaHidden = "true";
  mark.textContent = "✕";
  card.querySelector(".preview").replaceWith(mark);
  card.querySelector(".error").textContent = text;
  card.querySelector(".error").hidden = false;
  $("status").textContent = `${name}: ${text}`;
}

// Events -----------------------------------------------------------------------------------------------------------

$("form").addEventListener("submit", (event) => event.preventDefault());
for (const id of ["files", "camera"])
  $(id).addEventListener("change", (event) => {
    add(event.target.files);
    event.target.value = "";
  });
$("take").addEventListener("click", () => $("camera").click());
$("heat").addEventListener("click", () => {
  const cool = results.classList.toggle("cool");
  $("heat").setAttribute("aria-pressed", !cool);
  count();
});
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

async function keepForOffline() {
  if (!("serviceWorker" in navigator)) return;
  try {
    await navigator.serviceWorker.register("sw.js", { updateViaCache: "none" });
    await navigator.serviceWorker.ready;
    $("offline").textContent = "This page is stored and works without a network.";
    document.body.dataset.offline = "1";
  } catch {
    // A private window, or storage is full: the page works as long as it is open.
  }
}

showModel();
keepForOffline();
