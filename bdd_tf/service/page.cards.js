// The cards of the images, and the ways to add some: for the page of `bdd serve` (page.js behind it), and for the page
// without a service (web/page/app.js behind it). What differs are functions of theirs: dress(card, name) for a new
// card, judge(file) for a promise of the result, show(item, result), fail(item, message) and counted(total).
"use strict";
const MOST_CARDS = 50;
const $ = (id) => document.getElementById(id);
const results = $("results");
const queue = [];
let working = false;
let done = 0;

function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 2 ** 20 ? `${Math.round(bytes / 1024)} KiB` : `${+(bytes / 2 ** 20).toFixed(1)} MiB`;
}

function milliseconds(value) {
  return value < 10 ? `${value.toFixed(1)} ms` : value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

function showDescription({ name, backbone, channels, resolution, dataset }) {
  const bold = document.createElement("b");
  bold.textContent = name;
  const parts = [backbone, channels && channels.join(" + "), `${resolution}×${resolution} px`].filter(Boolean);
  const training = dataset ? ` Trained on ${dataset}; verdicts on other kinds of images are unreliable.` : "";
  $("model").replaceChildren("Model ", bold, ` (${parts.join(", ")}).${training}`);
}

function newCard(file) {
  const card = $("card").content.firstElementChild.cloneNode(true);
  const name = file.name || "pasted image";
  card.querySelector("h3").textContent = name;
  dress(card, name);
  const preview = card.querySelector(".preview img");
  preview.addEventListener("load", () => preview.classList.toggle("small", preview.naturalWidth < 150));
  preview.addEventListener("error", () => preview.remove()); // the browser cannot show the file
  preview.src = card.dataset.url = URL.createObjectURL(file);
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
  URL.revokeObjectURL(card.dataset.url);
  card.remove();
}

function count() {
  const total = results.children.length;
  $("bar-row").hidden = total === 0;
  const left = queue.length + (working ? 1 : 0);
  $("count").textContent = `${total} image${total === 1 ? "" : "s"}${left ? `, ${left} to go` : ""}`;
  counted(total);
}

async function work() {
  if (working) return;
  while (queue.length) {
    const item = queue.shift();
    working = true;
    count();
    try {
      show(item, await judge(item.file));
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

function showVerdict(card, { probability, verdict, threshold }) {
  const percent = (value) => `${(100 * value).toFixed(2)}%`;
  const find = (selector) => card.querySelector(selector);
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
}

/** Lists what the file's metadata says. */
function showEvidence(card, evidence = []) {
  const details = card.querySelector(".evidence");
  details.hidden = evidence.length === 0;
  details.querySelector("summary").textContent =
    `Metadata: ${evidence.length} statement${evidence.length === 1 ? "" : "s"} (not part of the score)`;
  details.querySelector("ul").replaceChildren(
    ...evidence.map(({ says, where, strength }) => {
      const item = document.createElement("li");
      const bold = document.createElement("b");
      bold.textContent = strength;
      item.append(bold, `: ${says} (${where})`);
      return item;
    }),
  );
}

function showError({ name, card }, sentence) {
  card.classList.add("failed");
  card.querySelector(".error").textContent = sentence;
  card.querySelector(".error").hidden = false;
  $("status").textContent = `${name}: ${sentence}`;
}

function takeFrom(input) {
  input.addEventListener("change", (event) => {
    add(event.target.files);
    event.target.value = "";
  });
}

$("form").addEventListener("submit", (event) => event.preventDefault());
takeFrom($("files"));
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
