// Does a verdict survive what happens to images anyway? The copies of `bdd detect --check` (bdd_tf/edge/stability.py), made
// by the browser: its JPEG encoder and its resize are others than Pillow's, so that scores of copies differ a little.

import { decode } from "./pixels.js";

/** Images with more pixels are not checked: some browsers limit canvases to 16 million. */
const MAX_CHECKED_PIXELS = 16 * 2 ** 20;
const JPEG_QUALITY = 0.8, SCALE = 0.75, SHIFT = 3;

/** Part of a bitmap from (left, top) on, over white and reduced to `width` x `height`. */
function drawn(bitmap, left, top, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { alpha: false, colorSpace: "srgb" });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, left, top, bitmap.width - left, bitmap.height - top, 0, 0, width, height);
  return canvas;
}

/** Name and bitmap of each copy, one at a time; nothing where this engine or the image's size does not allow it. */
export async function* copiesOf(bitmap) {
  const { width, height } = bitmap;
  if (typeof OffscreenCanvas !== "function" || width * height > MAX_CHECKED_PIXELS) return;
  const saved = await drawn(bitmap, 0, 0, width, height).convertToBlob({ type: "image/jpeg", quality: JPEG_QUALITY });
  yield ["jpeg80", await decode(saved)];
  const [smallWidth, smallHeight] = [width, height].map((side) => Math.max(1, Math.round(SCALE * side)));
  yield ["scale075", drawn(bitmap, 0, 0, smallWidth, smallHeight).transferToImageBitmap()];
  if (Math.min(width, height) <= SHIFT) return;
  yield ["shift3", drawn(bitmap, SHIFT, SHIFT, width - SHIFT, height - SHIFT).transferToImageBitmap()];
}

/** labels.py, verdict(): for copies, which share the deviation of their image. */
function verdictOf(probability, { threshold, unsure, deviation }) {
  if (unsure === null) return probability >= threshold ? "FAKE" : "REAL";
  if (deviation !== null || (probability > unsure[0] && probability < unsure[1])) return "UNSURE";
  return probability >= unsure[1] ? "FAKE" : "REAL";
}

/** The prediction with `stability`, and the verdict and note that it leaves. `scores`: name -> score of each copy. */
export function settled(prediction, scores) {
  if (Object.keys(scores).length === 0) return { ...prediction, stability: null };
  const values = [prediction.probability, ...Object.values(scores)];
  const verdicts = Object.fromEntries(Object.entries(scores).map(([name, score]) => [name, verdictOf(score, prediction)]));
  const others = Object.entries(verdicts).filter(([, verdict]) => verdict !== prediction.verdict);
  const found = { ...prediction, stability: { spread: Math.max(...values) - Math.min(...values), scores, verdicts } };
  if (others.length === 0) return found;
  if (prediction.unsure !== null) found.verdict = "UNSURE";
  if (prediction.verdict !== "UNSURE") {
    const list = others.map(([name, verdict]) => `${verdict} for ${name} (${scores[name].toFixed(4)})`).join(", ");
    const text = `its verdict is not stable: ${prediction.verdict} as it is, ${list}`;
    found.note = prediction.note === null ? text : `${prediction.note}; ${text}`;
  }
  return found;
}
