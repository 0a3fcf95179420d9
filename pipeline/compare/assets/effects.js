// Main effects: a small dot plot a factor, on one common axis, the largest effect first.

const effectFigure = byId("effect-figure");

function effectsPlot(box) {
  const marks = new Marks(box);

  function draw() {
    marks.clear();
    const key = effectFigure.value;
    const effects = currentSet().effects[key] || {};
    const reach = (options) => {
      const means = options.map((o) => o.mean).filter((m) => m !== null);
      return means.length ? Math.max(...means) - Math.min(...means) : -1;
    };
    const order = Object.keys(effects).sort((a, b) => reach(effects[b]) - reach(effects[a]));
    byId("effects-section").hidden = !order.length;
    const members = currentSet().runs.filter((i) => valueOf(i, key) !== null);
    const everything = [...members.map((i) => valueOf(i, key)), ...Object.values(effects).flat().map((o) => o.mean).filter((m) => m !== null)];
    box.replaceChildren(...order.map((factor) => panel(factor, effects[factor], key, members, everything)));
    marks.restyle();
  }

  function panel(factor, options, key, members, everything) {
    const figure = figureOf[key];
    const width = Math.max(280, Math.min(620, box.clientWidth > 900 ? (box.clientWidth - 32) / 2 : box.clientWidth));
    const [left, right, top, row] = [140, 136, 26, 26];
    const bottom = top + row * options.length;
    const x = scale(everything, left, width - right, { figure, pad: 0.03 });
    // an interval may reach beyond every run, and below 0, which a logarithmic scale does not have
    const clip = (v) => Math.min(width - right + 4, Math.max(left - 4, v > x.low ? x(v) : left - 4));
    const spoken = options.map((o) => `${o.option}: ${o.mean === null ? "not separable" : show(key, o.mean)}`).join(", ");
    const root = svg("svg", { width, height: bottom + 26, role: "img", "aria-label": `Effect of ${factor} on ${figure.label}. ${spoken}` });
    root.append(svg("text", { class: "title", x: 0, y: 12 }, factor));
    for (const tick of x.ticks) {
      root.append(svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: top, y2: bottom }),
        svg("text", { x: x(tick), y: bottom + 16, "text-anchor": "middle" }, tickText(figure, tick, x.step)));
    }
    options.forEach((effect, n) => {
      const y = top + row * (n + 0.5);
      const label = effect.option.length > 19 ? `${effect.option.slice(0, 18)}…` : effect.option;
      root.append(svg("text", { x: left - 12, y: y + 4, "text-anchor": "end" }, label, svg("title", {}, effect.option)));
      const layer = svg("g");
      for (const i of members.filter((m) => runs[m].options[factor] === effect.option)) {
        const tick = svg("line", { class: "tick", x1: x(valueOf(i, key)), x2: x(valueOf(i, key)), y1: y - 7, y2: y + 7, style: `stroke:${lookOf(i).colour}` });
        marks.add(i, tick);
        layer.append(tick);
      }
      root.append(layer);
      if (effect.mean === null) {
        root.append(svg("text", { x: width, y: y + 4, "text-anchor": "end" }, "confounded", svg("title", {}, "its runs do not tell this option from another choice's")));
        return;
      }
      const numbers = effect.low === null ? "" : `, 95% ${show(key, effect.low)} to ${show(key, effect.high)}`;
      const words = `${effect.option}: ${show(key, effect.mean)}${numbers}, ${effect.runs} runs`;
      const hint = (event) => showText(words, event.clientX, event.clientY);
      if (effect.low !== null) root.append(svg("line", { class: "interval", x1: clip(effect.low), x2: clip(effect.high), y1: y, y2: y, onpointerenter: hint, onpointerleave: hideTip }));
      root.append(svg("circle", { class: "mean", cx: x(effect.mean), cy: y, r: 5, onpointerenter: hint, onpointerleave: hideTip }),
        svg("text", { x: width - 52, y: y + 4, "text-anchor": "end" }, show(key, effect.mean)));
      if (effect.low !== null) {
        root.append(svg("text", { x: width - 46, y: y + 4 }, `±${bare(figure, (effect.high - effect.low) / 2)}`));
      }
    });
    return root;
  }

  effectFigure.addEventListener("change", draw);
  responsive(box, draw);
}

effectFigure.append(...figures.map((figure) => element("option", { value: figure.key, selected: figure === quality }, figure.label)));
effectsPlot(byId("effects"));
