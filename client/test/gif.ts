/** Pictures as an animated GIF, which every page of a README shows: one palette, and only what has changed. */

export interface Frame {
  /** Red, green, blue and alpha of each pixel. */
  pixels: Uint8Array;
  /** How long it is shown, in milliseconds. */
  shown: number;
}

const COLOURS = 255;
const UNCHANGED = 255; // the transparent one

/** The file. The colours that are seen most are kept; each other one becomes the nearest of them. */
export function gif(width: number, height: number, frames: Frame[]): Buffer {
  const colours = palette(frames);
  const nearest = new Map<number, number>();
  const out: number[] = [...Buffer.from("GIF89a"), ...word(width), ...word(height), 0xf7, 0, 0];
  for (let index = 0; index < 256; index++) out.push(...rgb(colours[index] ?? 0));
  out.push(0x21, 0xff, 11, ...Buffer.from("NETSCAPE2.0"), 3, 1, ...word(0), 0); // for ever
  const parts: Uint8Array[] = [];
  let before: Uint8Array | undefined;
  for (const { pixels, shown } of frames) {
    const now = new Uint8Array(width * height);
    for (let at = 0; at < now.length; at++) {
      const colour = (pixels[4 * at]! << 16) | (pixels[4 * at + 1]! << 8) | pixels[4 * at + 2]!;
      let index = nearest.get(colour);
      if (index === undefined) nearest.set(colour, (index = nearestOf(colours, colour)));
      now[at] = index;
    }
    const [left, top, right, bottom] = before ? changed(before, now, width) : [0, 0, width, height];
    const cut = new Uint8Array((right - left) * (bottom - top));
    for (let y = top, to = 0; y < bottom; y++)
      for (let x = left; x < right; x++, to++) {
        const at = y * width + x;
        cut[to] = before && before[at] === now[at] ? UNCHANGED : now[at]!;
      }
    parts.push(
      Uint8Array.from([
        ...[0x21, 0xf9, 4, 0b101, ...word(Math.round(shown / 10)), UNCHANGED, 0],
        ...[0x2c, ...word(left), ...word(top), ...word(right - left), ...word(bottom - top), 0],
      ]),
      compressed(cut),
    );
    before = now;
  }
  return Buffer.concat([Uint8Array.from(out), ...parts, Uint8Array.of(0x3b)]);
}

const word = (value: number) => [value & 255, value >> 8];
const rgb = (colour: number) => [colour >> 16, (colour >> 8) & 255, colour & 255];

function palette(frames: Frame[]): number[] {
  const seen = new Map<number, number>();
  for (const { pixels } of frames)
    for (let at = 0; at < pixels.length; at += 4) {
      const colour = (pixels[at]! << 16) | (pixels[at + 1]! << 8) | pixels[at + 2]!;
      seen.set(colour, (seen.get(colour) ?? 0) + 1);
    }
  return [...seen]
    .sort(([, a], [, b]) => b - a)
    .slice(0, COLOURS)
    .map(([colour]) => colour);
}

function nearestOf(colours: number[], wanted: number): number {
  const [red, green, blue] = rgb(wanted) as [number, number, number];
  let best = 0;
  let least = Infinity;
  colours.forEach((colour, index) => {
    const [r, g, b] = rgb(colour) as [number, number, number];
    const distance = 2 * (r - red) ** 2 + 4 * (g - green) ** 2 + 3 * (b - blue) ** 2;
    if (distance < least) [best, least] = [index, distance];
  });
  return best;
}

/** The smallest rectangle that holds every change; one pixel if there is none. */
function changed(before: Uint8Array, now: Uint8Array, width: number): [number, number, number, number] {
  let [left, top, right, bottom] = [width, Infinity, 0, 0];
  for (let at = 0; at < now.length; at++) {
    if (before[at] === now[at]) continue;
    const x = at % width;
    const y = (at - x) / width;
    [left, right] = [Math.min(left, x), Math.max(right, x + 1)];
    [top, bottom] = [Math.min(top, y), Math.max(bottom, y + 1)];
  }
  return right ? [left, top, right, bottom] : [0, 0, 1, 1];
}

/** LZW with codes of 9 to 12 bits, in blocks of at most 255 bytes. */
function compressed(pixels: Uint8Array): Uint8Array {
  const CLEAR = 256;
  const END = 257;
  const bytes: number[] = [];
  let [bits, held, size] = [0, 0, 9];
  let codes = new Map<number, number>();
  const put = (code: number) => {
    bits |= code << held;
    for (held += size; held >= 8; held -= 8, bits >>>= 8) bytes.push(bits & 255);
  };
  put(CLEAR);
  let run = pixels[0]!;
  for (let at = 1; at < pixels.length; at++) {
    const key = (run << 8) | pixels[at]!;
    const known = codes.get(key);
    if (known !== undefined) {
      run = known;
      continue;
    }
    put(run);
    const next = END + 1 + codes.size;
    if (next < 4096) {
      codes.set(key, next);
      if (next === 1 << size) size++;
    } else {
      put(CLEAR);
      codes = new Map();
      size = 9;
    }
    run = pixels[at]!;
  }
  put(run);
  put(END);
  if (held) bytes.push(bits & 255);
  const out = [8];
  for (let at = 0; at < bytes.length; at += 255) {
    const block = bytes.slice(at, at + 255);
    out.push(block.length, ...block);
  }
  return Uint8Array.from([...out, 0]);
}
