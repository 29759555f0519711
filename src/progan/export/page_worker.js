"use strict";

// Draws pictures from latents with onnxruntime-web, beside the page, so that the page never waits.

let engines; // those that are still to be tried, the best one first
let files; // by name: addresses, or their contents in base64, and their sizes when they are unpacked
let model;
let run; // latents and labels to pixels

/** Return the bytes of a file of the page as the server has it. */
async function loaded(name, url) {
  let answer;
  try {
    answer = await fetch(url);
    if (answer.ok) return new Uint8Array(await answer.arrayBuffer());
  } catch (error) {
    throw new Error(`${name} cannot be loaded: ${error.message}`);
  }
  throw new Error(`${name} cannot be loaded: ${answer.status} ${answer.statusText}`);
}

/** Return the contents of a file of the page, unpacked; one that is not whole is refused. */
async function contents(name) {
  const { base64, url, size } = files[name];
  let bytes = base64 ? Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)) : await loaded(name, url);
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) {
    // The stream is not a Blob's, which no worker can read in WebKit where the page is on a disk.
    const stream = new Response(bytes).body.pipeThrough(new DecompressionStream("gzip"));
    const unpacked = new Response(stream).arrayBuffer();
    bytes = new Uint8Array(await unpacked.catch(() => 0));
  }
  if (bytes.length === size) return bytes;
  throw new Error(`${name} is not the whole file of ${size} bytes; put the page's folder on the server again`);
}

/** Return the exports of a script of the page. */
async function imported(name) {
  const script = await contents(name);
  // Nor can a worker import a Blob there.
  if (files[name].base64) return import(`data:text/javascript,${encodeURIComponent(new TextDecoder().decode(script))}`);
  return import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
}

/** Return whether WebGPU has a real graphics card: one that is emulated is slower than WebAssembly. */
async function hasGraphicsCard() {
  const adapter = await navigator.gpu?.requestAdapter();
  return Boolean(adapter) && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
}

/** Start the next engine that works here, and return its name. */
async function start() {
  const engine = engines.shift();
  try {
    if (engine.name === "webgpu" && !(await hasGraphicsCard())) return start();
    const ort = await imported(engine.script);
    ort.env.logLevel = "fatal";
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = await contents(engine.wasm);
    model ??= await contents("model.onnx");
    const session = await ort.InferenceSession.create(model, {
      executionProviders: [engine.name],
      logSeverityLevel: 4,
    });
    run = async ({ z, shape, label }) => {
      const feeds = { z: new ort.Tensor("float32", z, [1, ...shape]) };
      if (label !== null) feeds.labels = new ort.Tensor("int64", [BigInt(label)], [1]);
      const { images } = await session.run(feeds);
      return images.getData();
    };
    return engine.name;
  } catch (error) {
    if (engines.length === 0) throw error;
    return start();
  }
}

/** Return RGBA pixels of an image (C, H, W) in [0, 1]. */
function pixels(image, channels) {
  const size = image.length / channels;
  const found = new Uint8ClampedArray(4 * size).fill(255);
  for (let i = 0; i < size; i++) {
    for (let c = 0; c < Math.max(3, channels); c++) found[4 * i + c] = 255 * image[(channels === 1 ? 0 : c) * size + i];
  }
  return found;
}

async function draw(order) {
  const begin = performance.now();
  const data = pixels(await run(order), order.channels);
  return { data, took: performance.now() - begin };
}

self.onmessage = async ({ data: order }) => {
  try {
    if (order.engines) {
      ({ engines, files } = order);
      self.postMessage({ engine: await start() });
      return;
    }
    let drawn;
    while (!drawn) {
      try {
        drawn = await draw(order);
      } catch (error) {
        if (engines.length === 0) throw error;
        self.postMessage({ engine: await start() }); // such as where a graphics card went away
      }
    }
    self.postMessage(drawn, [drawn.data.buffer]);
  } catch (error) {
    self.postMessage({ trouble: String(error.message ?? error) });
  }
};
