// What is known (data), what is chosen (state), and who is told when that changes.

const data = JSON.parse(document.getElementById("data").textContent);
const { runs, figures, sets } = data;
const factors = Object.keys(data.factors);
const figureOf = Object.fromEntries(figures.map((figure) => [figure.key, figure]));
const quality = figures.find(({ role }) => role === "quality") ?? null; // null where no run measured it
const inPart = (part) => figures.filter(({ parts }) => parts.includes(part));

const state = {
  set: 0,                // the test set shown: runs on different ones are not weighed against each other
  words: [],             // all of which a run's text must hold
  facets: {},            // factor -> Set of options let through; an empty set lets all through
  selected: new Set(),   // indices of runs
  focus: null,           // index of the run pointed at
  colour: null,          // the factor that colours
};
for (const factor of factors) state.facets[factor] = new Set();

const haystack = runs.map((run) =>
  [run.name, run.id, run.status, ...Object.entries(run.options).map(([k, v]) => `${k}=${v}`), run.command]
    .join(" ").toLowerCase());
const memberOf = sets.map((set) => new Set(set.runs));

function isShown(index) {
  return memberOf[state.set].has(index)
    && state.words.every((word) => haystack[index].includes(word))
    && factors.every((f) => !state.facets[f].size || state.facets[f].has(runs[index].options[f]));
}

// Listeners by what they follow: "set" redraws everything, "shown" and "selected" restyle, "colour" recolours.
const listeners = { set: [], shown: [], selected: [], focus: [], colour: [] };
const on = (event, listener) => listeners[event].push(listener);
const tell = (event) => listeners[event].forEach((listener) => listener());

function toggle(index) {
  if (!state.selected.delete(index)) state.selected.add(index);
  tell("selected");
}

function setFocus(index) {
  if (state.focus === index) return;
  state.focus = index;
  tell("focus");
}

const currentSet = () => sets[state.set];
const valueOf = (index, key) => runs[index].values[key];
const qualityOf = (index) => (quality ? valueOf(index, quality.key) : null);
