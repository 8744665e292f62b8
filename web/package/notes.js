// Why a verdict is unreliable, in the words of `bdd detect` (bdd_tf/edge/images/out_of_distribution.py).

/** Names of enum bdd_deviation. */
const KINDS = [null, "featureless", "smaller", "larger", "contrast", "detail", "padded"];

/** Contrast and detail of RGB pixels, in grey levels, from the green channel. */
export function measure(rgb, height, width) {
  const at = (y, x) => rgb[3 * (y * width + x) + 1];
  let sum = 0, squares = 0, across = 0, down = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const value = at(y, x);
      sum += value;
      squares += value * value;
      if (x + 1 < width) across += Math.abs(at(y, x + 1) - value);
      if (y + 1 < height) down += Math.abs(at(y + 1, x) - value);
    }
  }
  const count = height * width;
  return {
    contrast: Math.sqrt(Math.max(0, squares * count - sum * sum)) / count,
    detail: (across / (height * (width - 1)) + down / ((height - 1) * width)) / 2,
  };
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The kind of a deviation and its sentence; both null if there is none. */
export function noteOf(runtime, result, metadata, width, height) {
  const kind = KINDS[result.deviation] ?? null;
  if (kind === null) return { deviation: null, note: null };
  const [inputHeight, inputWidth] = runtime.inputSize;
  const sentences = {
    featureless: () => "it has no texture: every part is flat, black or white",
    padded: () =>
      `smaller than the network's crops of ${inputHeight}x${inputWidth} px: padded by reflection`,
    smaller: () => `much smaller than the training images: ${width}x${height} px`,
    larger: () => `much larger than the training images: ${width}x${height} px`,
    contrast: () => outside("contrast"),
    detail: () => outside("detail"),
  };
  const outside = (name) => {
    const values = result.crops.map((_, i) => measure(runtime.cropPixels(i), inputHeight, inputWidth)[name]);
    const subject = metadata.views ? `the ${name} of its crops` : `its ${name}`;
    const [least, most] = metadata.trained_on[name];
    return (
      `${subject} is ${median(values).toFixed(1)}, ` +
      `outside the training range of ${least.toFixed(1)} to ${most.toFixed(1)}`
    );
  };
  return { deviation: kind, note: sentences[kind]() };
}
