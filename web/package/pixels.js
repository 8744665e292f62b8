// Pixels of what the caller gave: image data, a bitmap, or an image file for the browser's decoder.

import { BddError, MAX_PIXELS } from "./runtime.js";
import { sizeOf } from "./header.js";

/** Pixels that a canvas holds at a time: some browsers limit canvases to 16 million. */
const STRIP_PIXELS = 4 * 2 ** 20;
/** Bytes of an image file. */
const MAX_FILE_BYTES = 128 * 2 ** 20;
/** Bytes of a file that its size is read from. */
const HEADER_BYTES = 256 * 1024;
/** The decoder's pixels as they are stored: not converted to the screen's colours, not multiplied by alpha. */
const AS_STORED = { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image" };

/** Decodes an image file. */
export async function decode(blob) {
  if (typeof createImageBitmap !== "function") {
    throw new BddError("this engine has no image decoder; give the pixels, { width, height, data }");
  }
  if (blob.size === 0) throw new BddError("the file is empty");
  if (blob.size > MAX_FILE_BYTES) {
    throw new BddError(`the file has ${Math.ceil(blob.size / 2 ** 20)} MiB; the limit is ${MAX_FILE_BYTES / 2 ** 20} MiB`);
  }
  let head;
  try {
    head = new Uint8Array(await blob.slice(0, HEADER_BYTES).arrayBuffer());
  } catch {
    throw new BddError("this is a folder, or a file that cannot be read");
  }
  // A small file may hold billions of pixels; the decoder would allocate them all.
  const size = sizeOf(head);
  if (size !== null && size.width * size.height > MAX_PIXELS) throw tooLarge(size);
  try {
    return await createImageBitmap(blob, AS_STORED);
  } catch {
    throw new BddError("this is not an image in a format that this browser knows, or it is damaged");
  }
}

function tooLarge({ width, height }) {
  return new BddError(
    `the image is too large (${width}x${height} pixels); the limit is ${MAX_PIXELS / 1e6} million pixels`,
  );
}

function canvas(width, height) {
  if (typeof OffscreenCanvas === "function") return new OffscreenCanvas(width, height);
  return Object.assign(document.createElement("canvas"), { width, height });
}

/** Copies a bitmap into the module's memory, a strip of rows at a time. */
export function copyBitmap(bitmap, image) {
  const { width, height } = image;
  const rows = Math.max(1, Math.min(height, Math.floor(STRIP_PIXELS / width)));
  // Drawn by the processor: a graphics card may round, and is slow to read from.
  const context = canvas(width, rows).getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  if (context === null) throw new BddError("this browser has no canvas to read pixels from");
  context.imageSmoothingEnabled = false;
  context.globalCompositeOperation = "copy"; // replaces what the strip before left
  for (let first = 0; first < height; first += rows) {
    const count = Math.min(rows, height - first);
    context.drawImage(bitmap, 0, first, width, count, 0, 0, width, count);
    image.set(context.getImageData(0, 0, width, count).data, first);
  }
}

/** The pixels of an image file or a bitmap, as `predict` reads them: { width, height, data }, RGBA. */
export async function pixelsOf(image) {
  const isFile = typeof Blob !== "undefined" && image instanceof Blob;
  const bitmap = isFile ? await decode(image) : image;
  const { width, height } = bitmap;
  const data = new Uint8ClampedArray(4 * width * height);
  copyBitmap(bitmap, { width, height, set: (rows, first) => data.set(rows, 4 * width * first) });
  if (isFile) bitmap.close();
  return { width, height, data };
}

/** Checks image data: width, height, and RGBA bytes. */
export function checkData(given) {
  const { width, height, data } = given ?? {};
  if (!(data instanceof Uint8Array) && !(data instanceof Uint8ClampedArray)) {
    throw new BddError(
      "an image must be an ImageData, an ImageBitmap, a Blob, or { width, height, data } with data a Uint8Array of RGBA",
    );
  }
  if (!Number.isInteger(width) || !Number.isInteger(height) || data.length !== 4 * width * height) {
    throw new BddError(`data has ${data.length} bytes; an image of ${width}x${height} RGBA pixels has 4 each`);
  }
  return given;
}
