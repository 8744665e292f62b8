// Scores images with a detector of bdd_tf; see README.md.

import { noteOf } from "./notes.js";
import { checkData, copyBitmap, decode } from "./pixels.js";
import { BddError, MAX_WALKED_BYTES, Runtime, bytesOf } from "./runtime.js";

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
        const found = await this.evidence(image);
        return { ...this.#predictBitmap(bitmap), evidence: found };
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

  /** What the metadata of an image file says, without its score: a Blob, bytes, a URL, or a path (Node). */
  async evidence(file) {
    const source = typeof Blob !== "undefined" && file instanceof Blob ? file.slice(0, MAX_WALKED_BYTES) : file;
    return this.#runtime.evidence(await bytesOf(source, "the image file"));
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
      evidence: [],
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
