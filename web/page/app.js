// The page: asks the worker, shows verdicts and heat maps. tools/web/build.py puts page.cards.js of `bdd serve` before
// it, which takes the images.

const FAULTS = {
  numbers: "This browser computes other numbers than it should: a fixed image did not get its known score. Do not rely on verdicts here.",
  pixels:
    "This browser changes the pixels that a page reads (protection against fingerprinting, or colour conversion): a fixed " +
    "image did not come back unchanged. Verdicts are unreliable here; allow canvas access for this page, or use another browser.",
};

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
    const { fault, ...model } = await ask("load");
    showDescription({ ...model, name: model.name.replace(/\.tflite$/, "") });
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

/** Makes the preview a button that enlarges the card. */
function dress(card, name) {
  const button = card.querySelector(".preview");
  button.setAttribute("aria-label", `Enlarge ${name}`);
  button.addEventListener("click", () => {
    const wide = card.classList.toggle("wide");
    button.setAttribute("aria-expanded", wide);
  });
}

function counted(total) {
  $("legend").hidden = total === 0 || results.classList.contains("cool");
}

function judge(file) {
  return ask("predict", { file });
}

function show({ file, name, card }, result) {
  const find = (selector) => card.querySelector(selector);
  const { probability, verdict, note } = result;
  showVerdict(card, result);
  find(".facts").textContent = `${result.width}×${result.height} px · ${size(file.size)} · ${milliseconds(result.milliseconds)}`;
  find(".facts").title = "Time for decoding and inference.";
  find(".note").textContent = note ? `${sentence(note)} This verdict is unreliable.` : "";
  find(".note").hidden = !note;
  showEvidence(card, result.evidence);
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

function fail(item, message) {
  const mark = document.createElement("div");
  mark.className = "preview";
  mark.ariaHidden = "true";
  mark.textContent = "✕";
  item.card.querySelector(".preview").replaceWith(mark);
  showError(item, sentence(message));
}

// Events -----------------------------------------------------------------------------------------------------------

takeFrom($("camera"));
$("take").addEventListener("click", () => $("camera").click());
$("heat").addEventListener("click", () => {
  const cool = results.classList.toggle("cool");
  $("heat").setAttribute("aria-pressed", !cool);
  count();
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
