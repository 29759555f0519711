// Latents: those that progan draws in Python for a seed, and ways between them. A latent is an array of numbers.
// Keys are BLAKE2b (RFC 7693), bits are Philox 4x64-10 (Salmon et al. 2011), normal numbers are a ziggurat of 256
// layers (Marsaglia and Tsang 2000), each as numpy uses it.

const WORD = (1n << 64n) - 1n;

/** Return the BLAKE2b hash of 16 bytes of a text of at most 128 bytes, as two words of 64 bits. */
function hash(text) {
  const order = [
    "0123456789abcdef", "ea489fd61c02b753", "b8c052fdae367194", "7931dcbe265a40f8", "905724afe1bc683d",
    "2c6a0b834d75fe19", "c51fed4a0763928b", "db7ec13950f4862a", "6fe9b308c2d714a5", "a2847615fb9e3cd0",
  ];
  const initial = [
    0x6a09e667f3bcc908n, 0xbb67ae8584caa73bn, 0x3c6ef372fe94f82bn, 0xa54ff53a5f1d36f1n,
    0x510e527fade682d1n, 0x9b05688c2b3e6c1fn, 0x1f83d9abfb41bd6bn, 0x5be0cd19137e2179n,
  ];
  const bytes = new TextEncoder().encode(text);
  const block = new Uint8Array(128);
  block.set(bytes);
  const message = new BigUint64Array(block.buffer);
  const state = [...initial];
  state[0] ^= 0x01010010n; // 16 bytes of hash, no key
  const v = [...state, ...initial];
  v[12] ^= BigInt(bytes.length);
  v[14] ^= WORD; // the last block
  const turn = (x, n) => ((x >> n) | (x << (64n - n))) & WORD;
  const mix = (a, b, c, d, x, y) => {
    for (const [word, first, second] of [[x, 32n, 24n], [y, 16n, 63n]]) {
      v[a] = (v[a] + v[b] + word) & WORD;
      v[d] = turn(v[d] ^ v[a], first);
      v[c] = (v[c] + v[d]) & WORD;
      v[b] = turn(v[b] ^ v[c], second);
    }
  };
  for (let round = 0; round < 12; round++) {
    const words = [...order[round % 10]].map((digit) => message[parseInt(digit, 16)]);
    for (let i = 0; i < 4; i++) mix(i, 4 + i, 8 + i, 12 + i, words[2 * i], words[2 * i + 1]);
    for (let i = 0; i < 4; i++) {
      mix(i, 4 + ((i + 1) % 4), 8 + ((i + 2) % 4), 12 + ((i + 3) % 4), words[8 + 2 * i], words[9 + 2 * i]);
    }
  }
  return [state[0] ^ v[0] ^ v[8], state[1] ^ v[1] ^ v[9]];
}

/** Return a function that returns the next 32 random bits of a key. */
function philox(key) {
  let count = 0n;
  let bits = [];
  return () => {
    if (bits.length === 0) {
      count += 1n;
      let [a, b, c, d] = [count, 0n, 0n, 0n];
      let [k, l] = key;
      for (let round = 0; round < 10; round++) {
        const first = 0xd2e7470ee14c6c93n * a;
        const second = 0xca5a826395121157n * c;
        [a, b, c, d] = [(second >> 64n) ^ b ^ k, second & WORD, (first >> 64n) ^ d ^ l, first & WORD];
        k = (k + 0x9e3779b97f4a7c15n) & WORD;
        l = (l + 0xbb67ae8584caa73bn) & WORD;
      }
      bits = [a, b, c, d].flatMap((word) => [Number(word & 0xffffffffn), Number(word >> 32n)]).reverse();
    }
    return bits.pop();
  };
}

/** Return the random bits of a draw: numpy's generator of `progan.randomness.keyed_generator`. */
const keyed = (seed, purpose, position) => philox(hash(JSON.stringify([seed, purpose, position])));

const unit = (next) => (next() >>> 8) / 2 ** 24; // in [0, 1)

const RIGHT = 3.6541528853610088; // where the tail begins
const AREA = 0.00492867323397466; // of a layer
const LAYERS = (() => {
  const layers = { width: new Float32Array(256), height: new Float64Array(256), inside: new Float64Array(256) };
  const density = (x) => Math.exp(-0.5 * x * x);
  const base = AREA / density(RIGHT);
  let edge = RIGHT;
  layers.inside[0] = Math.floor((RIGHT / base) * 2 ** 23);
  layers.width[0] = base / 2 ** 23;
  layers.height[0] = 1;
  for (let i = 255; i >= 1; i--) {
    const above = i > 1 ? Math.sqrt(-2 * Math.log(AREA / edge + density(edge))) : 0;
    layers.inside[i] = Math.floor((above / edge) * 2 ** 23);
    layers.width[i] = edge / 2 ** 23;
    layers.height[i] = density(edge);
    edge = above;
  }
  return layers;
})();

/** Return one number of N(0, 1). */
function normal(next) {
  for (;;) {
    const bits = next();
    const layer = bits & 255;
    const far = (bits >>> 9) & 0x7fffff;
    const x = Math.fround(far * LAYERS.width[layer]) * (bits & 256 ? -1 : 1);
    if (far < LAYERS.inside[layer]) return x;
    if (layer === 0) {
      for (;;) {
        const beyond = -Math.log1p(-unit(next)) / RIGHT;
        const chance = -Math.log1p(-unit(next));
        if (2 * chance > beyond * beyond) return far & 256 ? -(RIGHT + beyond) : RIGHT + beyond;
      }
    }
    const [low, high] = [LAYERS.height[layer], LAYERS.height[layer - 1]];
    if ((high - low) * unit(next) + low < Math.exp(-0.5 * x * x)) return x;
  }
}

/** Return latent number `index` of `generator.sample(seed=seed)`. */
function latent(seed, index, length) {
  const next = keyed(seed, "sample", index);
  return Float64Array.from({ length }, () => normal(next));
}

/** Return the label of picture number `index` of `generator.sample(seed=seed)`, from how often each occurs. */
function drawnLabel(seed, index, counts) {
  const place = Math.floor(unit(keyed(seed, "label", `sample ${index}`)) * counts.reduce((sum, n) => sum + n, 0));
  let bound = 0;
  return counts.findIndex((n) => place < (bound += n));
}

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const norm = (a) => Math.sqrt(dot(a, a));
const plus = (a, b, weight) => a.map((value, i) => value + weight * b[i]);

/** Go from z along a direction, on the sphere around 0: `length` is that of the way. */
function go(z, direction, length) {
  const radius = norm(z);
  const along = plus(direction, z, -dot(direction, z) / (radius * radius)); // perpendicular to z
  const angle = length / radius;
  return plus(z.map((value) => value * Math.cos(angle)), along, (radius * Math.sin(angle)) / norm(along));
}

/** Move z along several directions at once, by as much as the sliders say. */
function slid(z, directions, amounts) {
  let sum = new Float64Array(z.length);
  amounts.forEach((amount, i) => (sum = plus(sum, directions[i], amount)));
  const radius = norm(z);
  const along = plus(sum, z, -dot(sum, z) / (radius * radius));
  const length = norm(along);
  return length < 1e-9 ? z : go(z, along, length);
}

/** Return the point at a share of the way from a to b: `progan.slerp`. */
function between(a, b, share) {
  const [from, to] = [norm(a), norm(b)];
  const angle = Math.acos(Math.min(1, Math.max(-1, dot(a, b) / (from * to))));
  const point = go(a, b, share * angle * from);
  return point.map((value) => (value * ((1 - share) * from + share * to)) / from);
}
