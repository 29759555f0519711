"use strict";

// Draws pictures from latents with onnxruntime-web, beside the page, so that the page never waits.

let engines; // those that are still to be tried, the best one first
let files; // by name: addresses, or their contents in base64
let model;
let run; // latents and labels to pixels

/** Return the contents of a file of the page; what is compressed is unpacked. */
async function contents(name) {
  let bytes;
  if (files[name].base64) {
    bytes = Uint8Array.from(atob(files[name].base64), (letter) => letter.charCodeAt(0));
  } else {
    const answer = await fetch(files[name].url);
    if (!answer.ok) throw new Error(`${name} cannot be loaded: ${answer.status} ${answer.statusText}`);
    bytes = new Uint8Array(await answer.arrayBuffer());
  }
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
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
    const script = new Blob([await contents(engine.script)], { type: "text/javascript" });
    const ort = await import(URL.createObjectURL(script));
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
