/** Whatever the package refuses; the message is a sentence for people. */
export class BddError extends Error {}

/** Part of an image, in pixels from its upper left corner. */
export interface Box {
  left: number;
  top: number;
  width: number;
  height: number;
}

export interface Crop {
  box: Box;
  /** Probability in [0, 1] that the image is FAKE, judged by this part alone. */
  probability: number;
}

/** A property of an image that lies outside the training range. */
export type Deviation = "featureless" | "smaller" | "larger" | "contrast" | "detail" | "padded";

/** A statement about an image file; docs/evidence.md of bdd_tf lists the kinds. Signatures are not checked here. */
export interface Evidence {
  kind: string;
  /** The statement in words, on one line. */
  says: string;
  /** The container and the block or field that holds it. */
  where: string;
  /** "unverified": anybody can write it; "hint": suggests editing; "neutral": suggests nothing by itself. */
  strength: "unverified" | "hint" | "neutral";
}

export interface Prediction {
  /** Probability in [0, 1] that the image is AI-made. */
  probability: number;
  /** "FAKE" if the probability is at least the threshold. */
  verdict: "REAL" | "FAKE";
  /** The file's threshold, in [0, 1]. */
  threshold: number;
  /** Why the verdict is unreliable; null if the image is like the training images as far as the check can tell. */
  deviation: Deviation | null;
  /** The deviation in words, without a capital letter and a full stop. */
  note: string | null;
  /** Size of the image in pixels, after the file's rotation was applied. */
  width: number;
  height: number;
  /** The parts that were scored: native crops, or one part for files that resize. */
  crops: Crop[];
  /** What the file's metadata says, for files (Blob); empty for others. The probability does not depend on it. */
  evidence: Evidence[];
}

/** Pixels: `data` holds width * height * 4 bytes, RGBA, alpha not premultiplied. ImageData is one. */
export interface Pixels {
  width: number;
  height: number;
  data: Uint8Array | Uint8ClampedArray;
}

export interface LoadOptions {
  /** The module, if it does not lie beside this file as bdd.wasm: compiled, as bytes, or its URL. */
  wasm?: WebAssembly.Module | ArrayBuffer | ArrayBufferView | string | URL;
  /** "simd128" (default) or "scalar", which is for comparisons. */
  kernels?: "simd128" | "scalar";
}

/** Metadata of a detector; docs/architecture.md of bdd_tf describes the keys. */
export interface Metadata {
  format: number;
  threshold: number;
  thresholds?: Record<string, number>;
  labels: [string, string];
  backbone?: string;
  channels?: string[];
  resolution?: number;
  dataset?: string;
  [key: string]: unknown;
}

/** The pixels of an image file or a bitmap, as `predict` reads them. Browsers only. */
export function pixelsOf(image: Blob | ImageBitmap): Promise<Pixels>;

/** Scores images with a .tflite file written by `bdd convert`. */
export class Detector {
  private constructor();
  /**
   * Loads a detector.
   * @param model URL, path (Node), or content of the file.
   * @throws BddError if the file cannot be read, is damaged, or is no detector.
   */
  static load(model: string | URL | ArrayBuffer | ArrayBufferView | Blob, options?: LoadOptions): Promise<Detector>;
  /**
   * Scores one image. Files (Blob) are decoded by the browser, without colour conversion; Node has no decoder.
   * @throws BddError if it is no image, is damaged, or has more than 100 million pixels.
   */
  predict(image: Pixels | ImageData | ImageBitmap | Blob): Promise<Prediction>;
  /**
   * What the metadata of an image file says, without a score; works in Node, too.
   * @param file The file, its bytes, its URL, or a path (Node).
   */
  evidence(file: Blob | ArrayBuffer | ArrayBufferView | string | URL): Promise<Evidence[]>;
  /** Scores `count` images of the network's own size: RGB, count * size * size * 3 bytes. */
  predictInputs(rgb: Uint8Array, count: number): Float32Array;
  readonly metadata: Metadata;
  readonly threshold: number;
  /** Side of the network's input in pixels. */
  readonly size: number;
  /** Frees the memory; calling it twice is allowed. */
  close(): void;
}
