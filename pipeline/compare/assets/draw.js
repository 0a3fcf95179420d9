// Elements, numbers as text, scales, colours, and the marks of a run that every plot shares.

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  return furnish(node, attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return furnish(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function furnish(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

// A run's name in a table; a long one is cut, and whole where the pointer rests.
const nameOf = (run) => element("span", { class: "name", title: run.name }, run.name);

const number = (digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const whole = number(0);
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const significant = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const MISSING = "–";

// A word is set off from its number, a sign is not: 3 ms, 98%, 4×.
const isWord = (unit) => /^[a-z]/i.test(unit);
const withUnit = (text, unit) => `${text}${isWord(unit) ? "\u00a0" : ""}${unit}`;
const bare = ({ factor, digits }, value) => (digits === null ? significant : number(digits)).format(factor * value);
const show = (key, value) => (value === null || value === undefined ? MISSING : withUnit(bare(figureOf[key], value), figureOf[key].unit));

// As many decimals as tell a tick from the next one, and no more; a word of a unit is the axis's to say.
const titleOf = ({ label, unit }) => (isWord(unit) ? `${label} in ${unit}` : label);
function tickText(figure, value, step) {
  const shown = figure.factor * value;
  const unit = isWord(figure.unit) ? "" : figure.unit;
  if (Math.abs(shown) >= 10000) return withUnit(compact.format(shown), unit);
  if (step === undefined) return withUnit(significant.format(shown), unit);
  const decimals = Math.min(15, Math.max(0, -Math.floor(Math.log10(figure.factor * step) + 1e-9)));
  return withUnit(number(decimals).format(shown), unit);
}
const pValue = (p) => (p < 0.0001 ? "<0.0001" : p.toFixed(4));

// What is compared by ratio has a logarithmic scale where it spans more than a factor of ten.
function scale(values, from, to, { figure, pad = 0.05 }) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (!values.length) [low, high] = [0, 1];
  const logarithmic = figure.scale === "ratio" && low > 0 && high / low > 10;
  const [f, inverse] = logarithmic ? [Math.log10, (v) => 10 ** v] : [(v) => v, (v) => v];
  let [a, b] = [f(low), f(high)];
  const margin = (b - a) * pad || Math.abs(a) * 0.01 || 0.5;
  [a, b] = [a - margin, b + margin];
  const map = (v) => from + ((f(v) - a) / (b - a)) * (to - from);
  const steps = logarithmic ? logTicks(inverse(a), inverse(b)) : linearTicks(a, b, Math.max(3, Math.abs(to - from) / 70));
  return Object.assign(map, { ticks: steps, step: steps.step, low: inverse(a) });
}

function linearTicks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= rough * 0.999);
  const first = Math.ceil(low / step);
  const ticks = Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
  return Object.assign(ticks, { step });
}

function logTicks(low, high) {
  const decades = Math.log10(high / low);
  const multiples = decades > 3 ? [1] : decades > 1.2 ? [1, 3] : [1, 2, 5];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const m of multiples) if (m * 10 ** power >= low && m * 10 ** power <= high) ticks.push(m * 10 ** power);
  }
  return ticks;
}

// Options differ in colour and in shape, so that neither alone has to tell them apart.
const SHAPES = [
  "M5 0A5 5 0 1 1 -5 0A5 5 0 1 1 5 0Z", "M-4.4 -4.4H4.4V4.4H-4.4Z", "M0 -5.6L5.4 4.2H-5.4Z", "M0 -6.2L5.6 0L0 6.2L-5.6 0Z",
  "M0 5.6L5.4 -4.2H-5.4Z", "M-2 -5.5H2V-2H5.5V2H2V5.5H-2V2H-5.5V-2H-2Z", "M-5.8 -2.6L0 -6L5.8 -2.6V3.4L0 6L-5.8 3.4Z",
];
const RAMP = ["#5b6fb0", "#6d83a6", "#84959a", "#9ea888", "#bbb96f", "#d6ca54", "#e8d945"]; // even in lightness

function look(option) {
  if (state.colour === null) return { colour: "var(--c0)", shape: SHAPES[0] };
  const options = data.factors[state.colour];
  const index = options.indexOf(option);
  if (options.length <= SHAPES.length) return { colour: `var(--c${index})`, shape: SHAPES[index] };
  return { colour: RAMP[Math.round((index / (options.length - 1)) * (RAMP.length - 1))], shape: SHAPES[0] };
}
const lookOf = (index) => look(state.colour === null ? null : runs[index].options[state.colour]);

function swatch(option) {
  const { colour, shape } = look(option);
  return svg("svg", { width: 12, height: 12, viewBox: "-7 -7 14 14", "aria-hidden": "true" }, svg("path", { d: shape, style: `fill:${colour}` }));
}

// Class names follow the state for all marks of a plot; a mark is the element of one run.
class Marks {
  constructor(box) {
    this.box = box;
    this.elements = new Map();
    this.focused = null;
    on("shown", () => this.restyle());
    on("selected", () => this.restyle());
    on("focus", () => this.refocus());
  }

  clear() { this.elements.clear(); this.focused = null; }

  add(index, ...nodes) {
    if (!this.elements.has(index)) this.elements.set(index, []);
    this.elements.get(index).push(...nodes);
    for (const node of nodes) {
      node.addEventListener("pointerenter", (event) => { setFocus(index); showTip(index, event.clientX, event.clientY); });
      node.addEventListener("pointerleave", () => { setFocus(null); hideTip(); });
      node.addEventListener("click", () => toggle(index));
    }
  }

  restyle() {
    this.box.classList.toggle("picking", state.selected.size > 0);
    for (const [index, nodes] of this.elements) {
      const [shown, selected] = [isShown(index), state.selected.has(index)];
      for (const node of nodes) {
        node.classList.toggle("filtered", !shown);
        node.classList.toggle("selected", shown && selected);
        if (selected && shown) node.parentNode.append(node); // on top of the others
      }
    }
    this.refocus();
  }

  refocus() {
    for (const node of this.elements.get(this.focused) || []) node.classList.remove("focus");
    this.focused = state.focus;
    for (const node of this.elements.get(this.focused) || []) node.classList.add("focus");
  }
}

const tip = document.getElementById("tip");

function showTip(index, x, y) {
  const run = runs[index];
  const rows = [...Object.entries(run.options), ...figures.map((f) => [f.label, show(f.key, run.values[f.key])])];
  tip.replaceChildren(element("strong", {}, run.name), element("dl", {},
    ...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])));
  placeTip(x, y);
}

function showText(text, x, y) { tip.replaceChildren(text); placeTip(x, y); }

function placeTip(x, y) {
  tip.hidden = false;
  const [width, height] = [tip.offsetWidth, tip.offsetHeight];
  tip.style.left = `${Math.max(4, x + 16 + width > innerWidth ? x - width - 12 : x + 16)}px`;
  tip.style.top = `${Math.max(4, Math.min(y + 12, innerHeight - height - 8))}px`;
}

function hideTip() { tip.hidden = true; }

// Draws now, and again whenever the box changes its width.
function responsive(box, draw) {
  let width = 0;
  const redraw = () => { if (box.clientWidth) { width = box.clientWidth; draw(width); } };
  new ResizeObserver(() => { if (box.clientWidth && box.clientWidth !== width) redraw(); }).observe(box);
  on("set", redraw);
  on("colour", redraw);
  redraw();
}
