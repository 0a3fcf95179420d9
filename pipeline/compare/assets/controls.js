// The head of the page, the best run, the filters, the legends.

const byId = (id) => document.getElementById(id);

byId("source").textContent = `${runs.length} runs · ${data.source} · ${data.date.replace("T", " ")}`;
byId("constant").textContent = Object.keys(data.constant).length
  ? `The same in all: ${Object.entries(data.constant).map(([k, v]) => `${k}=${v}`).join("  ")}` : "";

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // no permission, or not a secure page
    const field = element("textarea", { style: "position:fixed;opacity:0" });
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  const label = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = label; }, 1500);
}

// The quality comes first, whatever its place among the figures.
const headlines = inPart("best").sort((a, b) => (b === quality) - (a === quality));

function drawBest() {
  const box = byId("best");
  const best = currentSet().best;
  box.hidden = best === null;
  if (best === null) return;
  const run = runs[best];
  const button = element("button", { type: "button", id: "copy-best" }, "Copy");
  button.addEventListener("click", () => copy(run.command, button));
  box.replaceChildren(
    element("h2", { id: "best-title" }, `★ Best run: ${run.name}`),
    element("dl", {}, ...headlines.map(({ key, label }) =>
      element("div", {}, element("dt", {}, label), element("dd", {}, show(key, run.values[key]))))),
    run.command ? element("div", { class: "command" }, element("code", {}, run.command), button) : "");
}

const facets = byId("facets");

function drawFacets() {
  const members = currentSet().runs;
  // a search tries too many values to choose from; words find them
  facets.replaceChildren(...factors.filter((factor) => data.factors[factor].length <= 24).flatMap((factor) => {
    const chips = data.factors[factor].map((option) => {
      const count = members.filter((index) => runs[index].options[factor] === option).length;
      const chip = element("button", {
        type: "button", class: "chip", "data-factor": factor, "data-option": option,
        "aria-pressed": String(state.facets[factor].has(option)), "aria-label": `${factor} ${option}, ${count} runs`,
      }, option, element("small", {}, String(count)));
      chip.addEventListener("click", () => {
        const chosen = state.facets[factor];
        if (!chosen.delete(option)) chosen.add(option);
        chip.setAttribute("aria-pressed", String(chosen.has(option)));
        tell("shown");
      });
      return chip;
    });
    return [element("span", { class: "name", id: `facet-${factor}` }, factor),
      element("div", { class: "chips", role: "group", "aria-labelledby": `facet-${factor}` }, ...chips)];
  }));
}

byId("text").addEventListener("input", (event) => {
  state.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  tell("shown");
});

byId("clear-filters").addEventListener("click", () => {
  byId("text").value = "";
  state.words = [];
  for (const factor of factors) state.facets[factor].clear();
  drawFacets();
  tell("shown");
});

byId("select-shown").addEventListener("click", () => {
  runs.forEach((_, index) => { if (isShown(index)) state.selected.add(index); });
  tell("selected");
});

byId("clear-selection").addEventListener("click", () => {
  state.selected.clear();
  tell("selected");
});

function count() {
  const shown = runs.filter((_, index) => isShown(index)).length;
  const filtered = state.words.length || factors.some((factor) => state.facets[factor].size);
  byId("count").textContent = `${shown} of ${currentSet().runs.length} shown, ${state.selected.size} selected`;
  byId("clear-selection").disabled = !state.selected.size;
  byId("clear-filters").disabled = !filtered;
}
on("shown", count);
on("selected", count);

// Colour by the first factor of few options.
state.colour = factors.find((factor) => data.factors[factor].length <= SHAPES.length) ?? factors[0] ?? null;
byId("colour-choice").hidden = !factors.length;
byId("colour").append(...factors.map((factor) => element("option", { selected: factor === state.colour }, factor)));
byId("colour").addEventListener("change", (event) => {
  state.colour = event.target.value;
  tell("colour");
});

function drawLegends() {
  const options = state.colour === null ? [] : data.factors[state.colour];
  for (const legend of document.querySelectorAll(".legend")) {
    legend.replaceChildren(...options.map((option) => element("span", {}, swatch(option), option)));
  }
}
on("colour", drawLegends);

byId("set-choice").hidden = sets.length < 2;
byId("set").append(...sets.map((set, index) => element("option", { value: index }, `${set.name || "(unnamed)"}, ${set.runs.length} runs`)));
byId("set").addEventListener("change", (event) => {
  state.set = Number(event.target.value);
  for (const index of state.selected) if (!memberOf[state.set].has(index)) state.selected.delete(index);
  tell("set");
  tell("shown");
});
on("set", () => { drawBest(); drawFacets(); });

drawBest();
drawFacets();
drawLegends();
count();
