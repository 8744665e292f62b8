// The page of `bdd serve`, behind page.cards.js, which takes the images.
const TRIES_WHEN_BUSY = 20;
const VIEWS = { input: "network input", fft: "FFT", lbp: "LBP" };
// Of each finished card, its entry as in an answer of /api/detect about several images.
const entries = new WeakMap();
const COLUMNS = ["path", "fake_probability", "verdict", "error", "note"];
let model = null;

async function showModel() {
  try {
    model = await (await fetch("/api/model")).json();
  } catch {
    $("model").textContent = "The service does not respond.";
    return;
  }
  showDescription({ ...model, dataset: model.trained_on || model.dataset });
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

function dress() {} // cards are as in the template

function counted() {
  $("csv").disabled = $("json").disabled = finished().length === 0;
}

async function judge(file) {
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
  const find = (selector) => card.querySelector(selector);
  showVerdict(card, { ...result, probability: result.fake_probability });
  find(".facts").textContent = `${result.width}×${result.height} px · ${size(file.size)} · ${milliseconds(result.latency_ms)}`;
  find(".note").textContent = result.note ? `${result.note[0].toUpperCase()}${result.note.slice(1)}. This verdict is unreliable.` : "";
  find(".note").hidden = !result.note;
  showEvidence(card, result.evidence);
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
  // The browser cannot show the file (TIFF), so the network input replaces the preview.
  if (!find(".preview img")) {
    const image = new Image();
    image.src = result.pictures.input;
    image.alt = "";
    image.className = "small";
    find(".preview").append(image);
  }
  $("status").textContent = `${name}: ${result.verdict}, fake probability ${result.fake_probability.toFixed(4)}.`;
}

function fail(item, sentence) {
  entries.set(item.card, { name: item.name, error: sentence });
  item.card.querySelector(".preview").textContent = "✕";
  showError(item, sentence);
}

// With a byte order mark, without which spreadsheets take UTF-8 for another encoding.
$("csv").addEventListener("click", () => download("bdd.csv", "text/csv", `\ufeff${asCsv(finished())}`));
$("json").addEventListener("click", () => download("bdd.json", "application/json", asJson(finished())));
showModel();
