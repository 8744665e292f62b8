// Loads the model, tests the browser's numbers and pixels, and scores images, beside the page's own thread.

import { BddError, Detector, pixelsOf } from "./package/index.js";
import { fixedImage } from "./selftest.js";

/** Largest difference of the fixed image's score to the native library's. */
const TOLERANCE = 1e-5;
let detector = null;

/** What the browser does to numbers and pixels: "", "numbers" or "pixels". */
async function selfTest(expected) {
  const image = fixedImage(expected.width, expected.height);
  const { probability } = await detector.predict(image);
  if (!(Math.abs(probability - expected.probability) <= TOLERANCE)) return "numbers";
  const file = await fetch(new URL("./selftest.png", import.meta.url));
  const decoded = await pixelsOf(await file.blob());
  const same = decoded.width === image.width && decoded.height === image.height;
  return same && decoded.data.every((value, i) => value === image.data[i]) ? "" : "pixels";
}

const tasks = {
  async load() {
    const about = await (await fetch(new URL("./selftest.json", import.meta.url))).json();
    detector = await Detector.load(new URL(`./${about.model}`, import.meta.url));
    const { backbone, channels, resolution, dataset, version } = detector.metadata;
    const known = { name: about.model, version, sha256: about.sha256 };
    return { ...known, backbone, channels, resolution, dataset, fault: await selfTest(about) };
  },
  async predict({ file }) {
    if (detector === null) throw new BddError("the model is not loaded");
    const started = performance.now();
    const result = await detector.predict(file, { check: true });
    return { ...result, milliseconds: performance.now() - started };
  },
};

// One task at a time, in order.
let last = Promise.resolve();
self.addEventListener("message", ({ data }) => {
  last = last.then(async () => {
    try {
      self.postMessage({ id: data.id, result: await tasks[data.kind](data) });
    } catch (error) {
      const sentence = error instanceof BddError ? error.message : `this browser failed: ${error.message}`;
      self.postMessage({ id: data.id, error: sentence });
    }
  });
});
