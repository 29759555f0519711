
// The page: what it shows, its buttons, and the worker that draws.

const [HEIGHT, WIDTH] = FACTS.size;
const STOP_MS = 4000; // from one stop of a walk to the next
const STEP = 0.25; // of that way, where nothing should move by itself

// The address, and drawing

let noting = null; // a timer
let noted = null; // the address that it will set

/** Put the state into the address, a moment later where it changes all the time: browsers allow a few changes only. */
function note(isNew) {
  if (isNew) settle();
  clearTimeout(noting);
  if (isNew) history.pushState(null, "", address());
  else [noted, noting] = [address(), setTimeout(settle, 250)];
}

/** Set the address that is still to be set, if there is one. */
function settle() {
  clearTimeout(noting);
  if (noted !== null) history.replaceState(null, "", noted);
  noted = null;
}

const ENGINES = { webgpu: "WebGPU", wasm: "WebAssembly" };
const worker = new Worker(URL.createObjectURL(new Blob([$("worker").textContent], { type: "text/javascript" })));
const wanted = new Map(); // canvases that are to be drawn, and their pictures
let engine = null;
let drawing = null;
let waiting = []; // for the chosen picture

/** Draw a picture as soon as the worker can; a newer wish for the same canvas replaces an older one. */
function want(canvas, path) {
  wanted.set(canvas, path);
  drawNext();
}

function drawNext() {
  document.body.classList.toggle("idle", engine !== null && drawing === null && wanted.size === 0);
  if (engine === null || drawing !== null || wanted.size === 0) return;
  drawing = wanted.has($("chosen")) ? $("chosen") : wanted.keys().next().value;
  const path = wanted.get(drawing);
  wanted.delete(drawing);
  const z = Float32Array.from(follow(path));
  worker.postMessage({ z, label: labelOf(path), shape: FACTS.latent_shape, channels: FACTS.channels });
}

worker.onmessage = ({ data: { engine: started, data, took, trouble } }) => {
  if (trouble) return say(`The pictures cannot be drawn: ${trouble}`, true);
  if (started) {
    engine = started;
    document.body.dataset.engine = engine;
    say("");
  } else {
    drawing.getContext("2d").putImageData(new ImageData(data, WIDTH, HEIGHT), 0, 0);
    drawing.classList.remove("empty");
    if (drawing === $("chosen")) {
      document.body.dataset.took = took;
      $("drawn").textContent = `drawn here in ${Math.max(0.01, took / 1000).toFixed(2)} s by ${ENGINES[engine]}`;
    }
    drawing = null;
  }
  drawNext();
  if (isDrawn()) waiting.splice(0).forEach((go) => go());
};
worker.onerror = () => say("The pictures cannot be drawn: the browser, or a rule of the server, does not let the page start its worker.", true);

/** Return whether the canvas of the chosen picture shows it. */
const isDrawn = () => engine !== null && drawing !== $("chosen") && !wanted.has($("chosen"));

/** Show a message, which screen readers read out. */
function say(text, isTrouble = false) {
  $("status").textContent = text;
  $("status").classList.toggle("trouble", isTrouble);
}

// What is shown

const canvasOf = (input) => input.parentElement.querySelector("canvas");

/** Show the chosen picture. */
function showChosen() {
  const last = state.after.at(-1);
  sliders.forEach((slider, i) => (slider.value = last?.[0] === "move" ? last[1][i] : 0));
  $("caption").textContent = named(steps());
  $("chosen").setAttribute("aria-label", named(steps()));
  if (engine === null) {
    $("chosen").getContext("2d").clearRect(0, 0, WIDTH, HEIGHT);
    $("chosen").getContext("2d").drawImage(canvasOf(cells[state.cell]), 0, 0);
  }
  want($("chosen"), steps());
}

/** Show the grid and the chosen picture. */
function showAll() {
  $("seed").value = state.seed;
  $("label").value = state.label ?? "";
  $("back").hidden = state.kind === "icon";
  $("heading").textContent = (state.kind === "icon" ? "Pictures" : `Like picture ${state.before[0][1]}`) + ` of seed ${state.seed}`;
  cells.forEach((input, k) => {
    input.checked = k === state.cell;
    input.setAttribute("aria-label", named(steps(k, [])));
    want(canvasOf(input), steps(k, []));
  });
  showChosen();
}

/** Start anew from a seed, a class, or a picture. */
function begin(changes) {
  rest();
  state = { ...state, before: [], kind: "icon", cell: 0, after: [], ...changes };
  note(true);
  showAll();
}

/** Change the chosen picture by the steps after the choice. */
function adjust(after) {
  state.after = after;
  note(false);
  showChosen();
}

/** Return the steps after the choice without a last one of a kind. */
const without = (kind) => (state.after.at(-1)?.[0] === kind ? state.after.slice(0, -1) : state.after);

const cells = Array.from({ length: FACTS.cells }, (_, k) => {
  const box = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "cell", value: k });
  const canvas = Object.assign(document.createElement("canvas"), { width: WIDTH, height: HEIGHT, className: "empty" });
  box.append(input, canvas);
  $("grid").append(box);
  input.addEventListener("change", () => {
    rest();
    state = { ...state, cell: k, after: [] };
    note(true);
    showChosen();
  });
  return input;
});

const sliders = FACTS.directions.map((_, i) => {
  const box = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "range", min: -FACTS.range, max: FACTS.range, step: 0.05 });
  box.append(`Direction ${i + 1}`, input);
  $("sliders").append(box);
  input.addEventListener("input", () => {
    rest();
    const amounts = sliders.map((slider) => Number(slider.value));
    adjust([...without("move"), ...(amounts.some((amount) => amount !== 0) ? [["move", amounts]] : [])]);
  });
  return input;
});

// A walk

let walking = null;
const still = matchMedia("(prefers-reduced-motion: reduce)");

function rest() {
  cancelAnimationFrame(walking);
  walking = null;
  $("walk").textContent = still.matches ? "Walk a step" : "Walk";
}

/** Go on a walk from the chosen picture; where nothing should move by itself, one step of it. */
function walk() {
  if (walking !== null) return rest();
  const last = state.after.at(-1);
  let t = last?.[0] === "walk" ? last[1] : 0;
  const base = without("walk");
  if (still.matches) return adjust([...base, ["walk", t + STEP]]);
  $("walk").textContent = "Pause";
  let before = null;
  const frame = (now) => {
    if (drawing !== $("chosen") && !wanted.has($("chosen"))) {
      t += Math.min(1000, now - (before ?? now)) / STOP_MS;
      before = now;
      adjust([...base, ["walk", t]]);
    }
    walking = requestAnimationFrame(frame);
  };
  walking = requestAnimationFrame(frame);
}

// What the buttons do

/** Return the chosen picture as a PNG file with its name, as soon as it is drawn. */
async function png() {
  if (!isDrawn()) await new Promise((resolve) => waiting.push(resolve));
  const name = `${FACTS.name}_${address().slice(1).replaceAll(/[^\w.,-]+/g, "_")}`.slice(0, 120) + ".png";
  return { name, file: await new Promise((resolve) => $("chosen").toBlob(resolve, "image/png")) };
}

async function save() {
  const link = document.createElement("a");
  const { name, file } = await png();
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** Copy something, or say that the browser does not. */
async function copy(what, write) {
  try {
    await write();
    say(`${what} copied.`);
    setTimeout(() => $("status").textContent === `${what} copied.` && say(""), 4000);
  } catch {
    say(`This browser does not let the page copy; ${what === "Link" ? "copy the address" : "save the picture"} instead.`);
  }
}

$("dice").addEventListener("click", () => begin({ seed: Math.floor(Math.random() * 1e6) }));
$("seed").addEventListener("change", ({ target }) => target.checkValidity() && begin({ seed: target.valueAsNumber }));
$("label").addEventListener("change", ({ target }) => begin({ ...state, after: [], label: target.value === "" ? null : Number(target.value) }));
$("like").addEventListener("click", () => begin({ before: steps(), kind: "like" }));
$("back").addEventListener("click", () => begin({ cell: state.before[0][1] }));
$("walk").addEventListener("click", walk);
$("reset").addEventListener("click", () => (rest(), adjust(without("move"))));
$("save").addEventListener("click", save);
$("copy").addEventListener("click", () => copy("Picture", () => navigator.clipboard.write([new ClipboardItem({ "image/png": png().then(({ file }) => file) })])));
$("link").addEventListener("click", () => (settle(), copy("Link", () => navigator.clipboard.writeText(location.href))));
addEventListener("popstate", () => (rest(), clearTimeout(noting), (noted = null), (state = parsed(location.hash)), showAll()));
still.addEventListener("change", rest);

// The beginning: stored small pictures of seed 0 at once, and those of the address as soon as the model is there

$("chosen").width = WIDTH;
$("chosen").height = HEIGHT;
document.body.style.setProperty("--ratio", `${WIDTH} / ${HEIGHT}`);
document.body.style.setProperty("--shape", WIDTH / HEIGHT);
document.body.style.setProperty("--largest", `${Math.max(256, Math.min(5 * WIDTH, 440))}px`);
document.body.classList.toggle("sharp", Math.max(WIDTH, HEIGHT) <= 64);
document.body.classList.toggle("clear", FACTS.channels === 4);
if (FACTS.classes) {
  $("label").append(new Option("any", ""), ...FACTS.classes.names.map((name, k) => new Option(name, k)));
  $("classes").hidden = false;
}
state = parsed(location.hash);
document.querySelector("main").hidden = false;
rest();
showAll();
const canLoad = location.protocol !== "file:" || FACTS.alone;
if (canLoad) say("Loading the model ...");
else say("Browsers do not let a page of several files draw from a disk. In its folder, run: python -m http.server", true);
if (state.seed === 0 && state.label === null && state.before.length === 0) {
  const sheet = Object.assign(new Image(), { src: FACTS.sheet.uri });
  await sheet.decode();
  const [width, height] = [sheet.width / FACTS.sheet.columns, (sheet.height * FACTS.sheet.columns) / FACTS.cells];
  for (const [k, input] of cells.entries()) {
    const [left, top] = [(k % FACTS.sheet.columns) * width, Math.floor(k / FACTS.sheet.columns) * height];
    const part = await createImageBitmap(sheet, left, top, width, height); // enlarged from the sheet, it takes of others
    canvasOf(input).getContext("2d").drawImage(part, 0, 0, WIDTH, HEIGHT);
    canvasOf(input).classList.remove("empty");
  }
  showChosen();
}
if (canLoad) {
  const files = Object.entries(FACTS.files).map(([name, place]) => [
    name,
    { size: FACTS.sizes[name], ...(FACTS.alone ? { base64: $(place).textContent } : { url: new URL(place, document.baseURI).href }) },
  ]);
  worker.postMessage({ engines: FACTS.engines, files: Object.fromEntries(files) });
}
