// Width and height from the first bytes of an image file, without decoding it.

const u16be = (b, i) => (b[i] << 8) | b[i + 1];
const u16le = (b, i) => b[i] | (b[i + 1] << 8);
const u24le = (b, i) => u16le(b, i) | (b[i + 2] << 16);
const u32be = (b, i) => (u16be(b, i) * 65536) + u16be(b, i + 2);
const i32le = (b, i) => u16le(b, i) | (u16le(b, i + 2) << 16);
const text = (b, i, count) => String.fromCharCode(...b.subarray(i, i + count));

function jpeg(b) {
  for (let i = 2; i + 9 < b.length; ) {
    if (b[i] !== 0xff) return null;
    const marker = b[i + 1];
    if (marker === 0xff) {
      i += 1; // a fill byte
      continue;
    }
    // SOF0 to SOF15 without DHT, JPG and DAC.
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return { width: u16be(b, i + 7), height: u16be(b, i + 5) };
    }
    i += marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8) ? 2 : 2 + u16be(b, i + 2);
  }
  return null;
}

function webp(b) {
  const kind = text(b, 12, 4);
  if (kind === "VP8X") return { width: 1 + u24le(b, 24), height: 1 + u24le(b, 27) };
  if (kind === "VP8 ") return { width: u16le(b, 26) & 0x3fff, height: u16le(b, 28) & 0x3fff };
  if (kind !== "VP8L") return null;
  const bits = i32le(b, 21) >>> 0;
  return { width: 1 + (bits & 0x3fff), height: 1 + ((bits >>> 14) & 0x3fff) };
}

/**
 * The size that the header of a PNG, JPEG, GIF, BMP or WebP file states, in pixels; null for other files, and for headers
 * that are cut off.
 */
export function sizeOf(b) {
  if (b.length < 32) return null;
  if (text(b, 1, 3) === "PNG") return { width: u32be(b, 16), height: u32be(b, 20) };
  if (b[0] === 0xff && b[1] === 0xd8) return jpeg(b);
  if (text(b, 0, 4) === "GIF8") return { width: u16le(b, 6), height: u16le(b, 8) };
  if (text(b, 0, 2) === "BM") return { width: Math.abs(i32le(b, 18)), height: Math.abs(i32le(b, 22)) };
  if (text(b, 0, 4) === "RIFF" && text(b, 8, 4) === "WEBP") return webp(b);
  return null;
}
