// Accuracy against size and against latency, with the Pareto front.

const zoom = byId("zoom");

// A few collapsed runs would press all others together: they are left out at first where they do.
function collapsed() {
  const values = currentSet().runs.map((i) => valueOf(i, "integer/top1")).filter((v) => v !== null).sort((a, b) => a - b);
  const at = (share) => values[Math.floor(share * (values.length - 1))];
  const fall = at(0.5) - at(0);
  return { low: at(0.25), needed: fall > 0.05 && fall > 4 * (at(1) - at(0.5)) };
}

function scatter(box, key) {
  const figure = figureOf[key];
  if (!figure || !figureOf["integer/top1"]) { box.hidden = true; return; }
  const marks = new Marks(box);
  let walk = [];

  function draw(width) {
    marks.clear();
    const [left, right, top, height] = [52, 12, 28, 340];
    const bottom = height - 44;
    const all = currentSet().runs.filter((i) => valueOf(i, key) !== null && valueOf(i, "integer/top1") !== null);
    const accuracy = (i) => valueOf(i, "integer/top1");
    const cut = zoom.checked ? collapsed().low : -Infinity;
    const x = scale(all.map((i) => valueOf(i, key)), left, width - right, { format: figure.format });
    const y = scale(all.map(accuracy).filter((v) => v >= cut), bottom, top);
    const inside = (v) => Math.min(y(v), bottom - 2);
    const title = `integer top-1 against ${key === "model/integer_bytes" ? "size in bytes" : "milliseconds an image"}`;
    const root = svg("svg", { width, height, tabindex: 0, role: "img", "aria-label": `${title}, ${all.length} runs` });
    root.append(svg("text", { x: 0, y: 12, class: "title" }, title));
    for (const tick of y.ticks) {
      root.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
        svg("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, TICKS.percent(tick, y.step)));
    }
    for (const tick of x.ticks) {
      root.append(svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: top, y2: bottom }),
        svg("text", { x: x(tick), y: bottom + 18, "text-anchor": "middle" }, TICKS[figure.format](tick, x.step)));
    }
    root.append(svg("line", { class: "axis", x1: left, x2: width - right, y1: bottom, y2: bottom }));

    // the front as stairs: between two of its runs, only the accuracy of the cheaper one can be had
    const front = currentSet().fronts[key];
    const stairs = front.map((i, n) => (n ? `H${x(valueOf(i, key))}V${inside(accuracy(i))}` : `M${x(valueOf(i, key))} ${inside(accuracy(i))}`));
    if (front.length) root.append(svg("path", { class: "front", d: `${stairs.join("")}H${width - right}` }));

    const layer = svg("g");
    for (const i of all) {
      const { colour, shape } = lookOf(i);
      const below = accuracy(i) < y.low;
      const point = svg("path", {
        class: "point", d: shape, "data-run": runs[i].id, style: `fill:${colour}`,
        transform: `translate(${x(valueOf(i, key)).toFixed(1)} ${inside(accuracy(i)).toFixed(1)}) scale(${front.includes(i) ? 1.15 : 0.9})`,
        "fill-opacity": below ? 0.35 : null,
      });
      marks.add(i, point);
      layer.append(point);
    }
    root.append(layer);
    const left_out = all.filter((i) => accuracy(i) < y.low).length;
    if (left_out) root.append(svg("text", { x: width - right, y: bottom - 8, "text-anchor": "end" }, `${left_out} less accurate, at the edge`));
    walk = [...all].sort((a, b) => valueOf(a, key) - valueOf(b, key) || accuracy(a) - accuracy(b));
    root.addEventListener("keydown", onKey);
    root.addEventListener("blur", () => { setFocus(null); hideTip(); });
    box.replaceChildren(root);
    marks.restyle();
  }

  function onKey(event) {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    const shown = walk.filter(isShown);
    if (step && shown.length) {
      const next = shown[(shown.indexOf(state.focus) + step + shown.length) % shown.length] ?? shown[0];
      setFocus(next);
      const place = marks.elements.get(next)[0].getBoundingClientRect();
      showTip(next, place.right, place.bottom);
    } else if ((event.key === "Enter" || event.key === " ") && state.focus !== null) {
      toggle(state.focus);
    } else return;
    event.preventDefault();
  }

  zoom.addEventListener("change", () => draw(box.clientWidth));
  responsive(box, draw);
}

function offerZoom() {
  const { needed } = collapsed();
  byId("zoom-choice").hidden = !needed;
  zoom.checked = needed;
}
offerZoom();
listeners.set.unshift(offerZoom); // before the plots redraw
scatter(byId("front-size"), "model/integer_bytes");
scatter(byId("front-latency"), "integer/milliseconds_per_image");
