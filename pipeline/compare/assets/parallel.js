// Parallel coordinates: the choices on the left, the figures on the right, a line a run.

function parallel(box) {
  const marks = new Marks(box);
  const shownFigures = inPart("parallel").filter(({ key }) => new Set(runs.map((_, index) => valueOf(index, key))).size > 1);

  function axes(top, bottom) {
    const members = currentSet().runs;
    const choices = factors.map((factor) => {
      const options = data.factors[factor].filter((option) => members.some((i) => runs[i].options[factor] === option));
      const room = (bottom - top) / options.length;
      const centre = (option) => bottom - room * (options.indexOf(option) + 0.5);
      // runs of one option lie side by side, so that one does not hide another
      const spread = new Map();
      for (const option of options) {
        const group = members.filter((i) => runs[i].options[factor] === option);
        group.forEach((i, n) => spread.set(i, (n - (group.length - 1) / 2) * Math.min(3, (0.55 * room) / group.length)));
      }
      const labels = options.length > 24 ? [options[0], options[options.length - 1]] : options;
      return { label: factor, at: (i) => centre(runs[i].options[factor]) + spread.get(i), ticks: labels.map((o) => [centre(o), o]), choice: true };
    });
    const measured = shownFigures.map((figure) => {
      const values = members.map((i) => valueOf(i, figure.key)).filter((v) => v !== null);
      const range = figure.better === "higher" ? [bottom, top] : [top, bottom];
      const y = scale(values, ...range, { figure, pad: 0.02 });
      return { label: titleOf(figure), at: (i) => (valueOf(i, figure.key) === null ? null : y(valueOf(i, figure.key))),
        ticks: y.ticks.map((tick) => [y(tick), tickText(figure, tick, y.step)]) };
    });
    return [...choices, ...measured];
  }

  function draw(room) {
    marks.clear();
    const [top, height, left, right] = [38, 390, 40, 60];
    const all = axes(top, height - 12);
    const width = Math.max(room, left + right + 76 * (all.length - 1)); // a narrow screen scrolls
    const step = (width - left - right) / Math.max(1, all.length - 1);
    const root = svg("svg", { width, height, role: "img", "aria-label": `Parallel coordinates of ${currentSet().runs.length} runs over ${all.map((a) => a.label).join(", ")}` });
    // the more runs, the thinner each one's colour
    const layer = svg("g", { style: `--thread: ${Math.min(0.5, Math.max(0.1, 2.5 / Math.sqrt(currentSet().runs.length)))}` });
    for (const i of currentSet().runs) {
      const points = all.map((axis, n) => [left + n * step, axis.at(i)]).filter(([, y]) => y !== null);
      const d = points.map(([x, y], n) => {
        if (!n) return `M${x.toFixed(1)} ${y.toFixed(1)}`;
        const [x0, y0] = points[n - 1];
        const half = (x - x0) / 2.4;
        return `C${(x0 + half).toFixed(1)} ${y0.toFixed(1)} ${(x - half).toFixed(1)} ${y.toFixed(1)} ${x.toFixed(1)} ${y.toFixed(1)}`;
      });
      const thread = svg("path", { class: "thread", d: d.join(""), "data-run": runs[i].id, style: `stroke:${lookOf(i).colour}` });
      marks.add(i, thread);
      layer.append(thread);
    }
    root.append(layer);
    all.forEach((axis, n) => {
      const x = left + n * step;
      root.append(svg("line", { class: "axis", x1: x, x2: x, y1: top, y2: height - 12 }),
        svg("text", { class: "title", "text-anchor": "middle" }, svg("title", {}, axis.label),
          ...twoLines(axis.label).map((words, line, { length }) => svg("tspan", { x, y: 26 - 14 * (length - 1 - line) }, words))));
      for (const [y, label] of axis.ticks) {
        root.append(svg("text", { x: x + 5, y: y + 4, class: "halo" }, label.length > 16 ? `${label.slice(0, 15)}…` : label));
      }
    });
    box.replaceChildren(root);
    marks.restyle();
  }

  responsive(box, draw);
}
// A label over two lines: the last word, or the last part of a config path, comes below.
function twoLines(label) {
  const parts = label.split(/(?<=\.)(?=[^.]*$)| (?=[^ ]*$)/);
  return label.length > 9 ? parts : [label];
}

parallel(byId("parallel"));
