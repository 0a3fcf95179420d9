// The table of runs: sorted by a click on a column's head, filtered, selected by a click on a row.

const columns = [
  { key: "name", label: "run", left: true, of: (index) => runs[index].name },
  ...factors.map((factor) => ({
    key: factor, label: factor, left: true,
    of: (index) => data.factors[factor].indexOf(runs[index].options[factor]),
    text: (index) => runs[index].options[factor],
  })),
  ...inPart("table").map((figure) => ({
    key: figure.key, label: figure.label, figure, of: (index) => valueOf(index, figure.key),
    text: (index) => show(figure.key, valueOf(index, figure.key)),
  })),
];
const sorting = { key: quality?.key ?? "name", ascending: quality?.better !== "higher" };
const body = element("tbody");
const rowOf = runs.map((run, index) => makeRow(run, index));

function makeRow(run, index) {
  const box = element("input", { type: "checkbox", "aria-label": `Select ${run.name}` });
  const cells = columns.slice(1).map((column) => element("td", { class: column.left ? "left" : null }, column.text(index)));
  const again = element("button", { type: "button", title: run.command, "aria-label": `Copy the command of ${run.name}` }, "copy");
  again.addEventListener("click", (event) => { event.stopPropagation(); copy(run.command, again); });
  const failed = run.status === "FINISHED" ? null : element("span", { class: "failed" }, ` ${run.status.toLowerCase()}`);
  const row = element("tr", { "data-run": run.id },
    element("td", { class: "left" }, box),
    element("td", { class: "left mono" }, element("span", { class: "sign" }), nameOf(run), failed),
    ...cells, element("td", {}, run.command ? again : ""));
  row.addEventListener("click", () => toggle(index));
  row.addEventListener("pointerenter", () => setFocus(index));
  row.addEventListener("pointerleave", () => setFocus(null));
  box.addEventListener("focus", () => setFocus(index));
  box.addEventListener("blur", () => setFocus(null));
  return row;
}

// A config path may break after its dots, and nothing at a hyphen.
const breakable = (label) => label.replaceAll("-", "\u2011").split(/(?<=\.)/).flatMap((part, n) => (n ? [element("wbr"), part] : [part]));

function drawHead() {
  const heads = columns.map((column) => {
    const button = element("button", { type: "button" }, ...breakable(column.label));
    button.addEventListener("click", () => sortBy(column));
    return element("th", { scope: "col", class: column.left ? "left" : null, "data-key": column.key }, button);
  });
  const blank = () => element("th", { scope: "col", "aria-label": "command" });
  byId("runs").replaceChildren(
    element("thead", {}, element("tr", {}, element("th", { scope: "col", "aria-label": "selected" }), ...heads, blank())), body);
}

// A figure is sorted with the better end first, words from a to z; the same column again turns it round.
function sortBy(column) {
  const first = column.figure ? column.figure.better === "lower" : true;
  sorting.ascending = sorting.key === column.key ? !sorting.ascending : first;
  sorting.key = column.key;
  sort();
}

function sort() {
  const column = columns.find(({ key }) => key === sorting.key) || columns[0];
  const sign = sorting.ascending ? 1 : -1;
  const values = runs.map((_, index) => column.of(index));
  const order = [...currentSet().runs].sort((a, b) => {
    const [x, y] = [values[a], values[b]];
    if (x === null || y === null) return (x === null) - (y === null) || a - b; // what is missing comes last
    return sign * (typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y) || a - b;
  });
  body.replaceChildren(...order.map((index) => rowOf[index]));
  for (const th of byId("runs").querySelectorAll("th[data-key]")) {
    const active = th.dataset.key === column.key;
    th.setAttribute("aria-sort", active ? (sorting.ascending ? "ascending" : "descending") : "none");
  }
}

function drawSigns() {
  const onFront = new Set(Object.values(currentSet().fronts).flat());
  for (const index of currentSet().runs) {
    rowOf[index].querySelector(".sign").textContent = index === currentSet().best ? "★" : onFront.has(index) ? "◆" : "";
  }
  columns.forEach(({ figure }, n) => {
    if (!figure) return;
    const values = currentSet().runs.map((index) => valueOf(index, figure.key)).filter((v) => v !== null);
    const best = figure.better === "higher" ? Math.max(...values) : Math.min(...values);
    const differ = values.some((v) => v !== best);
    for (const index of currentSet().runs) {
      rowOf[index].cells[n + 1].classList.toggle("best-value", differ && valueOf(index, figure.key) === best);
    }
  });
}

on("shown", () => runs.forEach((_, index) => { rowOf[index].hidden = !isShown(index); }));
on("selected", () => runs.forEach((_, index) => {
  const selected = state.selected.has(index);
  rowOf[index].classList.toggle("selected", selected);
  rowOf[index].querySelector("input").checked = selected;
}));

let focusedRow = null;
on("focus", () => {
  focusedRow?.classList.remove("focus");
  focusedRow = state.focus === null ? null : rowOf[state.focus];
  focusedRow?.classList.add("focus");
});
on("set", () => { drawSigns(); sort(); });

drawHead();
drawSigns();
sort();
