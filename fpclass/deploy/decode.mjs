// From a picture to the uint8 pixels that a network takes: resized by the arithmetic of Pillow, rows first, then to grey.
// Pillow from version 13 starts with the columns of some sizes, which rounds once differently.
// Source: Pillow, src/libImaging/Resample.c and Convert.c.

const FILTERS = {  // [support, weight at a distance from the centre], pixels of the smaller of both images
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, (x) => {
    const a = -0.5;
    x = Math.abs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
  }],
  lanczos: [3, (x) => {
    const sinc = (t) => t === 0 ? 1 : Math.sin(t * Math.PI) / (t * Math.PI);
    return Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0;
  }],
};
const CENTRE = 0.65;  // of each side, where decoding.crop is centre
const ONE = 2 ** 22;  // weights are whole numbers of this part

// First pixel and weights of each pixel of the result, which is of what lies from `start` to `end`, pixels.
function weightsOf(size, [start, end], wanted, [support, filter]) {
  const scale = Math.fround(end - start) / wanted, stretch = Math.max(scale, 1), reach = support * stretch;
  return Array.from({ length: wanted }, (_, i) => {
    const centre = start + (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const last = Math.min(size, Math.trunc(centre + reach + 0.5));
    const raw = Array.from({ length: last - first }, (_, j) => filter((j + first - centre + 0.5) / stretch));
    const total = raw.reduce((sum, w) => sum + w, 0);
    const weights = raw.map((w) => Math.trunc(w / total * ONE + (w / total < 0 ? -0.5 : 0.5)));
    return { first, weights };
  });
}

// Resizes along one axis of an array [outer, size, inner] of uint8.
function resizeAxis(pixels, outer, size, inner, part, wanted, filter) {
  const result = new Uint8ClampedArray(outer * wanted * inner);
  weightsOf(size, part, wanted, filter).forEach(({ first, weights }, i) => {
    for (let o = 0; o < outer; o++) {
      for (let c = 0; c < inner; c++) {
        let sum = ONE / 2;
        for (let j = 0; j < weights.length; j++) sum += weights[j] * pixels[(o * size + first + j) * inner + c];
        result[(o * wanted + i) * inner + c] = Math.floor(sum / ONE);
      }
    }
  });
  return result;
}

function nearest(pixels, width, [top, left, bottom, right], [tall, wide]) {
  const result = new Uint8ClampedArray(tall * wide * 3);
  for (let y = 0; y < tall; y++) for (let x = 0; x < wide; x++) {
    const row = Math.trunc(top + (y + 0.5) * Math.fround(bottom - top) / tall);
    const from = row * width + Math.trunc(left + (x + 0.5) * Math.fround(right - left) / wide);
    for (let c = 0; c < 3; c++) result[(y * wide + x) * 3 + c] = pixels[from * 3 + c];
  }
  return result;
}

// Resizes the part [top, left, bottom, right] of RGB pixels [height, width, 3]: rows first, then columns.
export function resized(pixels, [height, width], [tall, wide], interpolation, part = [0, 0, height, width]) {
  const [top, left, bottom, right] = part.map(Math.fround), filter = FILTERS[interpolation];
  if (interpolation === "nearest") return nearest(pixels, width, [top, left, bottom, right], [tall, wide]);
  const isWhole = (start, end, size, wanted) => start === 0 && end === size && size === wanted;
  if (!isWhole(left, right, width, wide)) pixels = resizeAxis(pixels, height, width, 3, [left, right], wide, filter);
  return isWhole(top, bottom, height, tall) ? pixels : resizeAxis(pixels, 1, height, wide * 3, [top, bottom], tall, filter);
}

// The middle of a picture: `share` of its sides, but a pixel at least.
function middle(height, width, share) {
  const [cutY, cutX] = [height, width].map((side) => Math.max(0, (side - Math.max(share * side, 1)) / 2));
  return [cutY, cutX, height - cutY, width - cutX];
}

// Python's round: of two whole numbers as near, the even one.
function rounded(x) {
  const below = Math.floor(x);
  if (x - below !== 0.5) return Math.round(x);
  return below % 2 ? below + 1 : below;
}

// The pixels [H, W, C] that a decoding of preprocessing.json makes of an ImageBitmap; what is transparent gets white.
export function decoded(picture, { image_size: [tall, wide], channels, interpolation, resize, pad_value, crop }) {
  const { width, height } = picture;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(picture, 0, 0);
  const rgba = context.getImageData(0, 0, width, height).data;
  const rgb = new Uint8ClampedArray(width * height * 3);
  for (let i = 0; i < width * height; i++) for (let c = 0; c < 3; c++) rgb[3 * i + c] = rgba[4 * i + c];

  const part = crop === "centre" ? middle(height, width, CENTRE) : [0, 0, height, width];
  const sides = [part[2] - part[0], part[3] - part[1]];
  let size = [tall, wide];
  if (resize === "pad") {
    const factor = Math.min(wide / sides[1], tall / sides[0]);
    size = sides.map((side) => Math.max(1, rounded(side * factor)));
  }
  const content = resized(rgb, [height, width], size, interpolation, part);
  const [top, left] = [Math.floor((tall - size[0]) / 2), Math.floor((wide - size[1]) / 2)];
  const result = new Uint8Array(tall * wide * channels).fill(pad_value);
  for (let y = 0; y < size[0]; y++) for (let x = 0; x < size[1]; x++) {
    const from = 3 * (y * size[1] + x), to = channels * ((y + top) * wide + x + left);
    const [red, green, blue] = content.subarray(from, from + 3);
    if (channels === 1) result[to] = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16;
    else result.set([red, green, blue], to);
  }
  return result;
}
