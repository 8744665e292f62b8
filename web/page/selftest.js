// The image of the self-test. tools/web/build.py makes the same pixels and writes their score into selftest.json.

/** Opaque RGBA pixels: slopes with noise from a linear congruential generator. */
export function fixedImage(width, height) {
  const data = new Uint8ClampedArray(4 * width * height);
  let state = 1;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i += 4) {
      for (let c = 0; c < 3; c++) {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        data[i + c] = (x * (c + 1) + y * (3 - c) + (state >>> 27)) & 255;
      }
      data[i + 3] = 255;
    }
  }
  return { width, height, data };
}
