// node wasm.mjs PACKAGE WASM MODEL KERNELS BATCH ROUNDS: times of whole batches in ms, as a JSON list. See wasm.py.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, wasm, model, kernels, batch, rounds] = process.argv.slice(2);
const { Detector } = await import(pathToFileURL(`${folder}/index.js`));
const detector = await Detector.load(model, { wasm: readFileSync(wasm), kernels });
const rgb = new Uint8Array(Number(batch) * detector.size ** 2 * 3).map((_, i) => (Math.imul(i, 2654435761) >>> 24) & 255);
const times = [];
for (let i = 0; i < Number(rounds) + 3; i++) {
  const started = performance.now();
  detector.predictInputs(rgb, Number(batch));
  times.push(performance.now() - started);
}
console.log(JSON.stringify(times.slice(3))); // the first ones compile
