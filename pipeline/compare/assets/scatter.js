// Quality against each cost, with the Pareto front. Upwards is better, to the left cheaper, whichever way a figure counts.

const zoom = byId("zoom");

// Above 0 where quality `a` is worse than `b`.
const worse = (a, b) => (quality.better === "higher" ? b - a : a - b);

// A few collapsed runs would press all others together: they are left out at first where they do.
function collapsed() {
  const values = currentSet().runs.map(qualityOf).filter((v) => v !== null).sort((a, b) => worse(b, a));
  const at = (share) => values[Math.floor(share * (values.length - 1))];
  const fall = Math.abs(at(0.5) - at(0));
  return { least: at(0.25), needed: fall > 0.05 * Math.abs(at(0.5)) && fall > 4 * Math.abs(at(1) - at(0.5)) };
}

function scatter(box, role) {
  const figure = figures.find((each) => each.role === role);
  if (!figure || !quality) { box.hidden = true; return; }
  const { key } = figure;
  const marks = new Marks(box);
  let walk = [];

  function draw(width) {
    marks.clear();
    const [left, right, top, height] = [52, 12, 28, 340];
    const bottom = height - 44;
    const all = currentSet().runs.filter((i) => valueOf(i, key) !== null && qualityOf(i) !== null);
    const least = zoom.checked ? collapsed().least : null;
    const isLeftOut = (i) => least !== null && worse(qualityOf(i), least) > 0;
    const horizontal = figure.better === "lower" ? [left, width - right] : [width - right, left];
    const vertical = quality.better === "higher" ? [bottom, top] : [top, bottom];
    const x = scale(all.map((i) => valueOf(i, key)), ...horizontal, { figure });
    const y = scale(all.filter((i) => !isLeftOut(i)).map(qualityOf), ...vertical, { figure: quality });
    const across = (i) => x(valueOf(i, key));
    const inside = (i) => (isLeftOut(i) ? bottom - 2 : y(qualityOf(i)));
    const title = `${titleOf(quality)} against ${titleOf(figure)}`;
    const root = svg("svg", { width, height, tabindex: 0, role: "img", "aria-label": `${title}, ${all.length} runs` });
    root.append(svg("text", { x: 0, y: 12, class: "title" }, title));
    for (const tick of y.ticks) {
      root.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
        svg("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, tickText(quality, tick, y.step)));
    }
    for (const tick of x.ticks) {
      root.append(svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: top, y2: bottom }),
        svg("text", { x: x(tick), y: bottom + 18, "text-anchor": "middle" }, tickText(figure, tick, x.step)));
    }
    root.append(svg("line", { class: "axis", x1: left, x2: width - right, y1: bottom, y2: bottom }));

    // the front as stairs: between two of its runs, only the quality of the cheaper one can be had
    const front = currentSet().fronts[key];
    const stairs = front.map((i, n) => (n ? `H${across(i)}V${inside(i)}` : `M${across(i)} ${inside(i)}`));
    if (front.length) root.append(svg("path", { class: "front", d: `${stairs.join("")}H${width - right}` }));

    const layer = svg("g");
    for (const i of all) {
      const { colour, shape } = lookOf(i);
      const point = svg("path", {
        class: "point", d: shape, "data-run": runs[i].id, style: `fill:${colour}`,
        transform: `translate(${across(i).toFixed(1)} ${inside(i).toFixed(1)}) scale(${front.includes(i) ? 1.15 : 0.9})`,
        "fill-opacity": isLeftOut(i) ? 0.35 : null,
      });
      marks.add(i, point);
      layer.append(point);
    }
    root.append(layer);
    const leftOut = all.filter(isLeftOut).length;
    if (leftOut) root.append(svg("text", { x: width - right, y: bottom - 8, "text-anchor": "end" }, `${leftOut} worse, at the edge`));
    walk = [...all].sort((a, b) => across(a) - across(b) || worse(qualityOf(b), qualityOf(a)));
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
  const needed = quality !== null && collapsed().needed;
  byId("zoom-choice").hidden = !needed;
  zoom.checked = needed;
}
offerZoom();
listeners.set.unshift(offerZoom); // before the plots redraw
scatter(byId("front-size"), "size");
scatter(byId("front-speed"), "speed");
