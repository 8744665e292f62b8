// Scores images with a detector of bdd_tf; see README.md.

import { noteOf } from "./notes.js";
import { checkData, copyBitmap, decode } from "./pixels.js";
import { BddError, MAX_WALKED_BYTES, Runtime, bytesOf } from "./runtime.js";
import { copiesOf, settled } from "./stability.js";

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
    /** Scores between the two numbers are UNSURE; null if the file knows two verdicts. */
    this.unsure = this.metadata.unsure ?? null;
    /** Side of the network's input in pixels. */
    this.size = runtime.inputSize[0];
  }

  /** Loads a .tflite file from a URL, a path (Node) or bytes. */
  static async load(model, options = {}) {
    return new Detector(await Runtime.open(await bytesOf(model, "the model"), options));
  }

  /**
   * Scores one image: ImageData, ImageBitmap, Blob, or { width, height, data }. `options.check`: scores degraded copies of a
   * Blob or ImageBitmap too.
   */
  async predict(image, options = {}) {
    if (typeof Blob !== "undefined" && image instanceof Blob) {
      const bitmap = await decode(image);
      try {
        const found = await this.evidence(image);
        return { ...(await this.#predictBitmap(bitmap, options.check)), evidence: found };
      } finally {
        bitmap.close();
      }
    }
    if (typeof ImageBitmap !== "undefined" && image instanceof ImageBitmap) return this.#predictBitmap(image, options.check);
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

  async #predictBitmap(bitmap, check) {
    const found = this.#finish(this.#placed(bitmap));
    if (!check) return found;
    const scores = {};
    for await (const [name, copy] of copiesOf(bitmap)) {
      scores[name] = this.#runtime.score(this.#placed(copy)).probability;
      copy.close();
    }
    return settled(found, scores);
  }

  #placed(bitmap) {
    const place = this.#runtime.image(bitmap.width, bitmap.height);
    copyBitmap(bitmap, place);
    return place;
  }

  #finish({ width, height, ...place }) {
    const result = this.#runtime.score({ width, height, ...place });
    const { deviation, note } = noteOf(this.#runtime, result, this.metadata, width, height);
    return {
      probability: result.probability,
      verdict: result.verdict,
      threshold: this.threshold,
      unsure: this.unsure,
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
