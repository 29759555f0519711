
// What a picture of the page is: steps from a seed, which stand in the page's address.

const $ = (id) => document.getElementById(id);
const FACTS = JSON.parse($("facts").textContent);
const LENGTH = FACTS.latent_shape.reduce((product, side) => product * side, 1);
const NEAR = 0.35; // radians from a picture to one like it
const FIRST_STOP = 1000; // number of the sample that a walk goes to first, far from those of the grid
const MOST_STEPS = 100; // in an address

// A picture is what steps lead to: ["icon", k], sample k of the seed; ["like", k], neighbour k of what came before, or
// itself for 0; ["move", amounts], of the sliders; ["walk", t], t stops of a walk. The grid shows what all choices of
// the last "icon" or "like" lead to; `before` and `after` are the steps around it.
let state;
const steps = (cell = state.cell, after = state.after) => [...state.before, [state.kind, cell], ...after];

/** Return the latent that steps lead to. */
function follow(path) {
  const sample = (k) => latent(state.seed, k, LENGTH);
  let z;
  let depth = 0;
  for (const [kind, value] of path) {
    if (kind === "icon") z = sample(value);
    if (kind === "move") z = slid(z, FACTS.directions, value);
    if (kind === "like") {
      depth += 1;
      if (value > 0) z = go(z, sample(depth * FACTS.cells + value), NEAR * norm(z));
    }
    if (kind === "walk") {
      const here = z;
      const stop = (n) => (n === 0 ? here : sample(FIRST_STOP + n - 1));
      const last = Math.floor(value);
      z = value === last ? stop(last) : between(stop(last), stop(last + 1), value - last);
    }
  }
  return z;
}

/** Return the class of the picture that steps lead to, null where there are none. */
function labelOf(path) {
  if (!FACTS.classes) return null;
  return state.label ?? drawnLabel(state.seed, path[0][1], FACTS.classes.counts);
}

/** Return what a picture is, in words. */
function named(path) {
  const likes = path.filter(([kind]) => kind === "like").map(([, k]) => k);
  const label = labelOf(path);
  return [
    `Picture ${path[0][1]} of seed ${state.seed}`,
    likes.length > 0 ? `like it ${likes.join(", ")}` : "",
    path.length > 1 + likes.length ? "changed" : "",
    label === null ? "" : FACTS.classes.names[label],
  ].filter((part) => part).join(", ");
}

// In an address

const whole = (n, below = Infinity) => Number.isSafeInteger(n) && n >= 0 && n < below;
const FITS = {
  icon: (k) => whole(k, FACTS.cells),
  like: (k) => whole(k, FACTS.cells),
  walk: (t) => t >= 0 && t < 1e6,
  move: (amounts) => amounts.length === FACTS.directions.length && amounts.every((n) => Math.abs(n) <= FACTS.range),
};

/** Return the state that an address asks for; what does not fit is left out. */
function parsed(address) {
  const query = new URLSearchParams(address.slice(1));
  const seed = Number(query.get("seed") ?? 0);
  const label = Number(query.get("label") || NaN);
  let path = [["icon", 0]];
  for (const [name, text] of [...query].slice(0, MOST_STEPS)) {
    const value = name === "move" ? text.split(",").map(Number) : Number(text);
    if (!Object.hasOwn(FITS, name) || !FITS[name](value)) continue;
    if (name === "icon") path = [];
    path.push([name, value]);
  }
  const pick = path.length - 1 - [...path].reverse().findIndex(([kind]) => kind === "icon" || kind === "like");
  const [kind, cell] = path[pick];
  return {
    seed: whole(seed) ? seed : 0,
    label: FACTS.classes && whole(label, FACTS.classes.names.length) ? label : null,
    before: path.slice(0, pick),
    kind,
    cell,
    after: path.slice(pick + 1),
  };
}

/** Return the address of the state. */
function address() {
  const short = (n) => Number(n.toFixed(3));
  const parts = [["seed", state.seed], ...(state.label === null ? [] : [["label", state.label]]), ...steps()];
  return "#" + parts.map(([name, value]) => `${name}=${[value].flat().map(short).join(",")}`).join("&");
}
