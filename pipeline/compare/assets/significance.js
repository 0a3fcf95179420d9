// McNemar's test: the best run against each other one, and a matrix of the best ones.

const LEVEL = 0.05;
const shade = (p) => `var(--h${p < 0.001 ? 3 : p < 0.01 ? 2 : p < LEVEL ? 1 : 0})`;

function againstBest(tests) {
  const most = Math.max(1, ...tests.against.map((t) => Math.max(t.best_only, t.other_only)));
  const bar = (count, side) => svg("rect", {
    x: side < 0 ? 40 - (38 * count) / most : 40, y: 3, width: (38 * count) / most, height: 8,
    style: `fill:var(--c${side < 0 ? 0 : 1})`,
  });
  const heads = ["run", quality.label.replaceAll("-", "\u2011"), "best right, it wrong", "", "it right, best wrong", "p", "p, adjusted"];
  const rows = tests.against.map((test) => {
    const distinct = test.adjusted < LEVEL;
    const row = element("tr", { class: distinct ? "distinct" : "indistinct", "data-run": runs[test.run].id },
      element("td", { class: "left mono" }, nameOf(runs[test.run])),
      element("td", {}, show(quality.key, qualityOf(test.run))),
      element("td", {}, String(test.best_only)),
      element("td", {}, svg("svg", { width: 80, height: 14, "aria-hidden": "true" }, bar(test.best_only, -1), bar(test.other_only, 1))),
      element("td", {}, String(test.other_only)),
      element("td", {}, pValue(test.p)), element("td", {}, pValue(test.adjusted)));
    row.addEventListener("click", () => toggle(test.run));
    row.addEventListener("pointerenter", () => setFocus(test.run));
    row.addEventListener("pointerleave", () => setFocus(null));
    return [test.run, row];
  });
  byId("against").replaceChildren(
    element("thead", {}, element("tr", {}, ...heads.map((head, i) => element("th", { scope: "col", class: i ? null : "left" }, head)))),
    element("tbody", {}, ...rows.map(([, row]) => row)));
  return new Map(rows);
}

function matrix(box, { runs: ranked, p }) {
  const width = box.clientWidth || 420;
  const [left, top] = [150, 40];
  const size = Math.max(10, Math.min(24, (width - left - 8) / ranked.length));
  const key = [["< 0.001", 3], ["< 0.01", 2], ["< 0.05", 1], ["not significant", 0]];
  const height = top + size * ranked.length + 36;
  const root = svg("svg", { width, height, role: "img", "aria-label": `P-values between the ${ranked.length} best runs` });
  root.append(svg("text", { class: "title", x: 0, y: 12 }, `p between the ${ranked.length} best runs`));
  const names = new Map();
  ranked.forEach((i, row) => {
    const y = top + size * row;
    const name = runs[i].name;
    const line = svg("g", { class: "cell-row" },
      svg("text", { x: left - 26, y: y + size / 2 + 4, "text-anchor": "end" }, name.length > 17 ? `${name.slice(0, 16)}…` : name),
      svg("text", { x: left - 8, y: y + size / 2 + 4, "text-anchor": "end" }, String(row + 1)));
    ranked.forEach((j, column) => {
      if (i === j) return;
      const words = `${name} and ${runs[j].name}: p ${pValue(p[row][column])}`;
      line.append(svg("rect", {
        class: "cell", x: left + size * column, y, width: size, height: size, rx: 2, style: `fill:${shade(p[row][column])}`,
        onpointerenter: (event) => showText(words, event.clientX, event.clientY), onpointerleave: hideTip,
      }));
    });
    root.append(line, svg("text", { x: left + size * (row + 0.5), y: top - 6, "text-anchor": "middle", style: "font-size:10px" }, String(row + 1)));
    names.set(i, line);
  });
  let x = 0;
  for (const [label, step] of key) {
    root.append(svg("rect", { x, y: height - 14, width: 12, height: 12, rx: 2, style: `fill:var(--h${step});stroke:var(--line)` }),
      svg("text", { x: x + 18, y: height - 4 }, label));
    x += label.length * 6.6 + 38;
  }
  box.replaceChildren(root);
  return names;
}

function significance() {
  const tests = currentSet().tests;
  byId("tests-section").hidden = !tests;
  if (!tests) return;
  const alike = tests.against.filter((test) => test.adjusted >= LEVEL).length;
  byId("tests-summary").textContent = `${alike} of ${tests.against.length} other runs cannot be told from ★ `
    + `${runs[tests.best].name} on these ${whole.format(tests.samples)} test samples (McNemar’s exact test on the ${data.predictions} `
    + "predictions, two-sided; Holm’s adjustment for the number of comparisons, at 0.05). Those that can are grey. "
    + "The best run was picked on these samples, which flatters it.";
  marked = [againstBest(tests), matrix(byId("matrix"), tests.matrix)];
  mark();
}

let marked = [];
function mark() {
  for (const elements of marked) {
    for (const [index, node] of elements) {
      node.classList.toggle("selected", state.selected.has(index));
      if (node.tagName === "TR") node.hidden = !isShown(index);
    }
  }
}
on("selected", mark);
on("shown", mark);
on("set", significance);
significance();
