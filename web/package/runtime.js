// The WebAssembly module and its memory: bdd.h's functions with JavaScript's types. One instance holds one model.

/** Messages of the C interface have at most this many bytes. */
const MESSAGE_BYTES = 256;
/** A model's file may have this many bytes; the bundled ones have 1.5 million. */
const MAX_MODEL_BYTES = 256 * 2 ** 20;
/** Layouts of bdd.h's structures on wasm32: sizes, and offsets of members, in bytes. */
const IMAGE = { size: 40, width: 4, height: 8, plane: 12, stride: 24 };
const VERDICT = { size: 32, threshold: 8, fake: 16, crops: 20, highest: 24, deviation: 28 };
const BOX_SIZE = 16;
/** BDD_EVIDENCE_BYTES: enough for the evidence of every file. */
const EVIDENCE_BYTES = 65536;
/** Of a larger file, this much of its beginning is walked for evidence. */
export const MAX_WALKED_BYTES = 32 * 2 ** 20;
/** enum bdd_format */
const RGBA = 1;

export const MAX_SIDE = 65535;
export const MAX_PIXELS = 100_000_000;

/** Whatever the package refuses; the message is a sentence for people. */
export class BddError extends Error {
  name = "BddError";
}

const isNode = () => typeof process === "object" && Boolean(process.versions?.node);

/** The bytes at a URL or, in Node, a path. `what` names them in messages. */
async function fetched(source, what) {
  const url = String(source);
  const isFile = url.startsWith("file:");
  if (isNode() && (isFile || !/^[a-z][a-z0-9+.-]+:/i.test(url))) {
    const { readFile } = await import("node:fs/promises");
    try {
      return new Uint8Array(await readFile(isFile ? new URL(url) : url));
    } catch (error) {
      throw new BddError(`${what} cannot be read: ${url} (${error.code ?? error.message})`);
    }
  }
  let answer;
  try {
    answer = await fetch(url);
  } catch {
    throw new BddError(`${what} cannot be fetched: ${url}`);
  }
  if (!answer.ok) throw new BddError(`${what} cannot be fetched: ${url} (status ${answer.status})`);
  return new Uint8Array(await answer.arrayBuffer());
}

/** The bytes of what the caller gave: a URL, a path in Node, or bytes. */
export async function bytesOf(source, what) {
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  if (typeof Blob !== "undefined" && source instanceof Blob) return new Uint8Array(await source.arrayBuffer());
  if (typeof source === "string" || source instanceof URL) return fetched(source, what);
  throw new BddError(`${what} must be a URL, an ArrayBuffer, a typed array or a Blob`);
}

let compiled = null;

/** The compiled module; once for all detectors unless the caller gives one. */
async function moduleOf(given) {
  if (given instanceof WebAssembly.Module) return given;
  if (given !== undefined) return WebAssembly.compile(await bytesOf(given, "the WebAssembly module"));
  compiled ??= fetched(new URL("./bdd.wasm", import.meta.url), "the WebAssembly module").then((bytes) =>
    WebAssembly.compile(bytes),
  );
  try {
    return await compiled;
  } catch (error) {
    compiled = null; // the next call tries again
    throw error instanceof BddError ? error : new BddError(`this engine cannot compile the module: ${error.message}`);
  }
}

export class Runtime {
  #exports;
  #model = 0;
  #image = { at: 0, size: 0 };
  #why;
  #scratch;

  /** Opens a model. `options`: `wasm`, the module or where it is; `kernels`, "simd128" or "scalar". */
  static async open(content, options = {}) {
    if (content.length > MAX_MODEL_BYTES) {
      throw new BddError(`the model has ${content.length} bytes; at most ${MAX_MODEL_BYTES} are possible`);
    }
    const runtime = new Runtime(await WebAssembly.instantiate(await moduleOf(options.wasm), {}));
    runtime.#open(content, options.kernels);
    return runtime;
  }

  constructor(instance) {
    this.#exports = instance.exports;
    this.#exports._initialize();
    this.#why = this.#allocate(MESSAGE_BYTES);
    this.#scratch = this.#allocate(64);
  }

  #bytes(at, count) {
    return new Uint8Array(this.#exports.memory.buffer, at, count);
  }

  #view(at, count) {
    return new DataView(this.#exports.memory.buffer, at, count);
  }

  #allocate(count) {
    const at = this.#exports.malloc(count) >>> 0;
    if (at === 0) throw new BddError("there is not enough memory");
    return at;
  }

  #text(at, count) {
    return new TextDecoder().decode(this.#bytes(at, count).slice());
  }

  /** Calls a function of bdd.h that takes a buffer for a message; throws the message if it fails. */
  #call(name, ...parameters) {
    let status;
    try {
      status = this.#exports[name](...parameters, this.#why, MESSAGE_BYTES);
    } catch {
      // The module has no exceptions: short memory and a stack overflow are traps, after which its state is unknown.
      this.#model = 0;
      throw new BddError("the module stopped: there is not enough memory for this model and image; load it again");
    }
    if (status === 0) return;
    const message = this.#text(this.#why, MESSAGE_BYTES);
    throw new BddError(message.slice(0, message.indexOf("\0")));
  }

  #open(content, kernels) {
    const file = this.#allocate(Math.max(1, content.length));
    this.#bytes(file, content.length).set(content);
    let name = 0;
    if (kernels !== undefined) {
      const text = new TextEncoder().encode(`${kernels}\0`);
      name = this.#allocate(text.length);
      this.#bytes(name, text.length).set(text);
    }
    const options = this.#scratch, handle = this.#scratch + 16;
    this.#bytes(options, 12).fill(0);
    this.#view(options, 12).setUint32(8, name, true);
    this.#call("bdd_open_memory", file, content.length, options, handle);
    this.#model = this.#view(handle, 4).getUint32(0, true);
    this.#exports.free(file);
    this.#exports.free(name);
  }

  #alive() {
    if (this.#model === 0) throw new BddError("this detector is closed; load the model again");
    return this.#model;
  }

  /** The side of the network's input in pixels: [height, width]. */
  get inputSize() {
    const at = this.#scratch;
    this.#exports.bdd_input_size(this.#alive(), 0, at, at + 4);
    const view = this.#view(at, 8);
    return [view.getInt32(0, true), view.getInt32(4, true)];
  }

  /** The file's metadata, an object. */
  metadata() {
    const at = this.#exports.bdd_metadata(this.#alive(), this.#scratch) >>> 0;
    if (at === 0) throw new BddError("the file has no metadata of a detector; convert it with bdd convert");
    try {
      return JSON.parse(this.#text(at, this.#view(this.#scratch, 4).getUint32(0, true)));
    } catch {
      throw new BddError("the file's metadata is damaged");
    }
  }

  /** Scores images of the network's own size: RGB, `count` of them; returns probabilities, Float32Array [count]. */
  scoreInputs(rgb, count) {
    const [height, width] = this.inputSize;
    if (rgb.length !== count * height * width * 3) {
      throw new BddError(`${count} inputs of ${width}x${height} pixels have ${count * height * width * 3} bytes`);
    }
    this.#call("bdd_set_batch", this.#alive(), count);
    const from = this.#allocate(rgb.length), to = this.#allocate(4 * count);
    this.#bytes(from, rgb.length).set(rgb);
    this.#call("bdd_score", this.#model, from, to);
    const found = new Float32Array(this.#exports.memory.buffer, to, count).slice();
    this.#exports.free(from);
    this.#exports.free(to);
    return found;
  }

  /**
   * Memory for the pixels of an image of this size, RGBA. `set(pixels, firstRow)` copies rows into it. It belongs to
   * the next call of `score`; images that follow use it again.
   */
  image(width, height) {
    this.#alive();
    if (!Number.isInteger(width) || !Number.isInteger(height) || width < 1 || height < 1) {
      throw new BddError("the image has no pixels");
    }
    if (width > MAX_SIDE || height > MAX_SIDE || width * height > MAX_PIXELS) {
      throw new BddError(
        `the image is too large (${width}x${height} pixels); the limit is ${MAX_PIXELS / 1e6} million pixels`,
      );
    }
    const size = 4 * width * height;
    if (size > this.#image.size) {
      this.#exports.free(this.#image.at);
      this.#image = { at: 0, size: 0 };
      this.#image = { at: this.#allocate(size), size };
    }
    const { at } = this.#image;
    return { width, height, at, set: (rows, first) => this.#bytes(at, size).set(rows, 4 * width * first) };
  }

  /** Scores the image that `image` made room for. */
  score(image) {
    const at = this.#allocate(IMAGE.size + VERDICT.size + BOX_SIZE + 8); // malloc aligns to 16 bytes
    const verdict = at + IMAGE.size, box = verdict + VERDICT.size, probability = box + BOX_SIZE;
    this.#bytes(at, IMAGE.size).fill(0);
    const given = this.#view(at, IMAGE.size);
    given.setInt32(0, RGBA, true);
    given.setInt32(IMAGE.width, image.width, true);
    given.setInt32(IMAGE.height, image.height, true);
    given.setUint32(IMAGE.plane, image.at, true);
    this.#call("bdd_score_image", this.#alive(), at, verdict);
    const found = this.#view(verdict, VERDICT.size);
    const result = {
      probability: found.getFloat64(0, true),
      threshold: found.getFloat64(VERDICT.threshold, true),
      fake: found.getInt32(VERDICT.fake, true) === 1,
      highest: found.getInt32(VERDICT.highest, true),
      deviation: found.getInt32(VERDICT.deviation, true),
      crops: [],
    };
    for (let i = 0; i < found.getInt32(VERDICT.crops, true); i++) {
      this.#exports.bdd_crop(this.#model, i, box, probability);
      const part = this.#view(box, BOX_SIZE + 4);
      const [left, top, width, height, score] = [0, 4, 8, 12, 16].map((offset) =>
        offset < BOX_SIZE ? part.getInt32(offset, true) : part.getFloat32(offset, true),
      );
      result.crops.push({ box: { left, top, width, height }, probability: score });
    }
    this.#exports.free(at);
    return result;
  }

  /** The pixels of a part of the image scored last, as the network saw them: a copy, RGB. */
  cropPixels(index) {
    const [height, width] = this.inputSize;
    const at = this.#exports.bdd_crop_pixels(this.#alive(), index) >>> 0;
    return at === 0 ? null : this.#bytes(at, height * width * 3).slice();
  }

  /** What the metadata of an image file says: a list of { kind, says, where, strength }. */
  evidence(content) {
    this.#alive();
    const file = content.subarray(0, MAX_WALKED_BYTES);
    const from = this.#allocate(Math.max(1, file.length)), to = this.#allocate(EVIDENCE_BYTES);
    this.#bytes(from, file.length).set(file);
    let status;
    try {
      status = this.#exports.bdd_evidence(from, file.length, to, EVIDENCE_BYTES, this.#scratch);
    } catch {
      this.#model = 0; // a trap, as in #call
      throw new BddError("the module stopped while it read this file's metadata; load the model again");
    }
    const size = this.#view(this.#scratch, 4).getUint32(0, true);
    const found = status === 0 ? JSON.parse(this.#text(to, size - 1)) : [];
    this.#exports.free(from);
    this.#exports.free(to);
    return found.map(({ kind, says, where, strength }) => ({ kind, says, where, strength }));
  }

  close() {
    if (this.#model !== 0) this.#exports.bdd_close(this.#model);
    this.#model = 0;
    this.#exports.free(this.#image.at);
    this.#image = { at: 0, size: 0 };
  }
}
