// node wasm_harness.mjs PACKAGE WASM TASKS.json: runs detectors in Node and prints what they answer as JSON.
//
// A task has `model` (a path), `kernels`, and `inputs` (a file of RGB bytes) with `count`, or `images`, a list of
// { width, height, file } with RGBA bytes, or `files`, a list of image files to walk for evidence. A task that fails gives { error }.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, wasm, tasks] = process.argv.slice(2);
const { Detector } = await import(pathToFileURL(`${folder}/index.js`));
const module = await WebAssembly.compile(readFileSync(wasm));

async function answer({ model, kernels, inputs, count, images, files }) {
  const detector = await Detector.load(model, { wasm: module, kernels });
  const started = performance.now();
  const result = { size: detector.size, threshold: detector.threshold };
  if (inputs) {
    result.scores = [];
    const bytes = new Uint8Array(readFileSync(inputs)), one = 3 * detector.size ** 2;
    for (let first = 0; first < bytes.length / one; first += count) {
      const part = bytes.subarray(first * one, (first + count) * one);
      result.scores.push(...detector.predictInputs(part, part.length / one));
    }
  }
  if (images) {
    result.predictions = [];
    for (const { width, height, file } of images) {
      const data = new Uint8Array(readFileSync(file));
      result.predictions.push(await detector.predict({ width, height, data }));
    }
  }
  if (files) result.evidence = await Promise.all(files.map((file) => detector.evidence(file)));
  result.ms = performance.now() - started;
  detector.close();
  return result;
}

const answers = [];
for (const task of JSON.parse(readFileSync(tasks, "utf8"))) {
  try {
    answers.push(await answer(task));
  } catch (error) {
    answers.push({ error: error.message, kind: error.name });
  }
}
console.log(JSON.stringify(answers));
