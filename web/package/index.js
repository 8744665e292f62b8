// Scores images with a detector of bdd_tf; see README.md.

import { noteOf } from "./notes.js";
import { checkData, copyBitmap, decode } from "./pixels.js";
import { BddError, Runtime, bytesOf } from "./runtime.js";

export { pixelsOf } from "./pixels.js";
export { BddError } from "./runtime.js";

export class Detector {
  #runtime;

  /** Use `Detector.load`. */
  constructor(runtime) {
    this.#runtime = runtime;
    /** Metadata of the file. */
    this.metadata = runtime.metadata();
    /** Scores from it upwards are FAKE. */
    this.threshold = this.metadata.threshold;
    /** Side of the network's input in pixels. */
    this.size = runtime.inputSize[0];
  }

  /** Loads a .tflite file from a URL, a path (Node) or bytes. */
  static async load(model, options = {}) {
    return new Detector(await Runtime.open(await bytesOf(model, "the model"), options));
  }

  /** Scores one image: ImageData, ImageBitmap, Blob, or { width, height, data }. */
  async predict(image) {
    if (typeof Blob !== "undefined" && image instanceof Blob) {
      const bitmap = await decode(image);
      try {
        return this.#predictBitmap(bitmap);
      } finally {
        bitmap.close();
      }
    }
    if (typeof ImageBitmap !== "undefined" && image instanceof ImageBitmap) return this.#predictBitmap(image);
    const { width, height, data } = checkData(image);
    const place = this.#runtime.image(width, height);
    place.set(data, 0);
    return this.#finish(place);
  }

  #predictBitmap(bitmap) {
    const place = this.#runtime.image(bitmap.width, bitmap.height);
    copyBitmap(bitmap, place);
    return this.#finish(place);
  }

  #finish({ width, height, ...place }) {
    const result = this.#runtime.score({ width, height, ...place });
    const { deviation, note } = noteOf(this.#runtime, result, this.metadata, width, height);
    return {
      probability: result.probability,
      verdict: result.fake ? "FAKE" : "REAL",
      threshold: this.threshold,
      deviation,
      note,
      width,
      height,
      crops: result.crops,
    };
  }

  /** Scores images that have the network's own size: RGB bytes, `count` * size * size * 3 of them. */
  predictInputs(rgb, count) {
    return this.#runtime.scoreInputs(rgb, count);
  }

  /** Frees the memory; calling it twice is allowed. */
  close() {
    this.#runtime.close();
  }
}
