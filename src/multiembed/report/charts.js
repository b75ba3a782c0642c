"use strict";
// Charts. Each function returns an element that draws itself once a reader comes near it.

const FONT = { family: getComputedStyle(document.body).fontFamily, size: 13, color: "#1a1d21" };
const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
const CALM = { gridcolor: "#e8ecf0", zeroline: false, linecolor: "#c3cad2", ticks: "outside", tickcolor: "#c3cad2", automargin: true };

// Charts not seen yet, and how to draw them: a page of 200 fields opens at once this way.
const unseen = new Map();
const watcher = new IntersectionObserver((entries) => entries.filter((e) => e.isIntersecting).forEach((e) => reveal(e.target)), { rootMargin: "500px" });

function reveal(element) {
  watcher.unobserve(element);
  const draw = unseen.get(element);
  unseen.delete(element);
  if (draw && element.isConnected) draw();
}

function layout(changes) {
  return { font: FONT, margin: { l: 64, r: 16, t: 16, b: 56 }, paper_bgcolor: "#fff", plot_bgcolor: "#fff", hoverlabel: { font: { size: 13 }, align: "left" }, hovermode: "closest", ...changes };
}
const axis = (title, changes) => ({ ...CALM, title: { text: title, standoff: 10 }, ...changes });
const below = { orientation: "h", x: 0, y: -0.2, yanchor: "top", itemwidth: 30 };

function chart(height, figure) {
  const element = h("div", { class: "chart", style: `height:${height}px` });
  const draw = () => Plotly.react(element, ...figure(), CONFIG);
  unseen.set(element, draw);
  watcher.observe(element);
  return { element, draw };
}

function spectra(fields) {
  const state = { centered: false, picked: null };
  const trace = (field) => {
    const values = state.centered ? field.centered_singular_values : field.singular_values;
    const verdict = VERDICTS[field.verdict.label];
    const picked = state.picked === field.name;
    const faded = state.picked !== null && !picked;
    return {
      type: "scatter", mode: fields.length <= 25 || picked ? "lines+markers" : "lines",
      x: range(values.length).map((k) => k + 1), y: values.map((v) => (v > 0 && values[0] > 0 ? v / values[0] : null)),
      line: { color: verdict.color, width: picked ? 3.5 : fields.length > 60 ? 1 : 1.6 }, marker: { symbol: verdict.symbol, size: 6 },
      opacity: faded ? 0.12 : fields.length > 60 && !picked ? 0.55 : 0.9,
      name: field.verdict.label, legendgroup: field.verdict.label, showlegend: false,
      hovertemplate: `<b>${plain(field.name)}</b><br>direction %{x}: %{y:.3g} of the largest<extra>${field.verdict.label}</extra>`,
    };
  };
  const key = (label) => ({ type: "scatter", mode: "lines+markers", x: [null], y: [null], name: label, legendgroup: label, line: { color: VERDICTS[label].color, width: 2.5 }, marker: { symbol: VERDICTS[label].symbol, size: 8 } });
  const keys = Object.keys(VERDICTS).filter((label) => fields.some((f) => f.verdict.label === label)).map(key);
  const floor = () => {
    const smallest = fields.flatMap((f) => (state.centered ? f.centered_singular_values : f.singular_values).map((v, _, all) => v / all[0])).filter((v) => v > 1e-8);
    return Math.log10(Math.min(0.5, ...smallest)) - 0.1;
  };
  const made = chart(430, () => [[...fields.map(trace), ...keys], layout({
    xaxis: axis("direction, from the strongest"),
    yaxis: axis("singular value, over the largest", { type: "log", exponentformat: "power", dtick: 1, range: [floor(), 0.1] }),
    legend: below,
  })]);
  const which = control("rows", [["raw", "as they are"], ["centered", "less their mean"]], (value) => { state.centered = value === "centered"; made.draw(); });
  return { element: h("div", {}, h("div", { class: "controls" }, which.label), made.element), pick: (name) => { state.picked = name; made.draw(); } };
}

const MEASURES = [
  ["information_abundance", "information abundance"],
  ["centered_information_abundance", "centred information abundance"],
  ["normalized_information_abundance", "abundance over a random table's"],
  ["centered_normalized_information_abundance", "centred abundance over a random table's"],
];

// Abundance against cardinality (or fields in order), beside a random table: Figure 2 of the paper.
function abundance(models) {
  const several = models.length > 1;
  const state = { measure: "information_abundance", across: "cardinality" };
  const order = () => [...new Set(models.flatMap((m) => ascending(m.fields.map((f) => f[state.measure])).map((i) => m.fields[i].name)))];
  const place = (fields) => {
    if (state.across === "cardinality") return fields.map((f) => f.cardinality);
    const names = order();
    return fields.map((f) => names.indexOf(f.name) + 1);
  };
  const learned = (model, fields, color, symbol, name) => ({
    type: "scatter", mode: model.fields.length <= 25 && !several ? "markers+text" : "markers", name,
    x: place(fields), y: fields.map((f) => f[state.measure]),
    text: fields.map((f) => plain(f.name)), textposition: "top center", textfont: { size: 11, color: "#5c6670" },
    marker: { color, symbol, size: model.fields.length > 80 ? 7 : 9, opacity: 0.85, line: { color: "#fff", width: 1 } },
    customdata: fields.map((f) => [f.null_information_abundance, f.cardinality]),
    hovertemplate: `<b>%{text}</b>${several ? " in " + plain(model.name) : ""}<br>%{y:.3g}; a random table of this shape: %{customdata[0]:.3g}<br>%{customdata[1]:,} rows<extra></extra>`,
  });
  const random = (model, color, name) => {
    const over = state.measure.includes("normalized");
    const fields = model.fields, xs = place(fields);
    const sorted = ascending(xs);
    return {
      type: "scatter", mode: "lines+markers", name, x: sorted.map((i) => xs[i]), y: sorted.map((i) => (over ? 1 : fields[i].null_information_abundance)),
      line: { color, width: 1, dash: "dot" }, marker: { color, symbol: "line-ew-open", size: 8 }, hoverinfo: "skip",
    };
  };
  const traces = () => {
    if (several) {
      const over = state.measure.includes("normalized");
      const width = (model) => (over ? 0 : Math.max(...model.fields.map((f) => f.sets * f.dim)));
      const distinct = models.filter((model, m) => models.findIndex((other) => width(other) === width(model)) === m);
      return [
        ...distinct.map((model) => random(model, RANDOM_COLOR, over ? "random tables" : `random tables of ${width(model)} columns`)),
        ...models.map((model, m) => learned(model, model.fields, MODEL_COLORS[m], MODEL_SYMBOLS[m], plain(model.name))),
      ];
    }
    const groups = Object.keys(VERDICTS).filter((label) => models[0].fields.some((f) => f.verdict.label === label));
    return [
      random(models[0], RANDOM_COLOR, "random table of the same shape"),
      ...groups.map((label) => learned(models[0], models[0].fields.filter((f) => f.verdict.label === label), VERDICTS[label].color, VERDICTS[label].symbol, label)),
    ];
  };
  const made = chart(450, () => [traces(), layout({
    xaxis: state.across === "cardinality" ? axis("cardinality: rows of the field's table", { type: "log", exponentformat: "SI", dtick: 1 }) : axis(`fields, by rising abundance${several ? " in " + plain(models[0].name) : ""}`, { rangemode: "tozero" }),
    yaxis: axis(MEASURES.find(([key]) => key === state.measure)[1], { rangemode: "tozero" }),
    legend: below,
  })]);
  const measure = control("measure", MEASURES, (value) => { state.measure = value; made.draw(); });
  const across = control("across", [["cardinality", "cardinality"], ["order", "fields in order"]], (value) => { state.across = value; made.draw(); });
  return h("div", {}, h("div", { class: "controls" }, measure.label, across.label), made.element);
}

// One heatmap with its marginals. `views`: [{name, values, unit, total}] with values[i][j].
function heatmap(names, orders, views, changes) {
  const narrow = window.innerWidth < 640;
  const options = { height: narrow ? 430 : 640, marginals: !narrow, zmax: null, ...changes };
  const state = { view: 0, order: 0 };
  const small = names.length > 60;
  const made = chart(options.height, () => {
    const view = views[state.view], order = orders[state.order][1];
    const labels = order.map((i) => plain(names[i]));
    const values = order.map((i) => order.map((j) => view.values[i][j]));
    const mean = (list) => { const known = list.filter((x) => x !== null); return known.reduce((a, b) => a + b, 0) / Math.max(1, known.length); };
    const places = range(names.length);
    const ticks = { ...CALM, ticks: "", showgrid: false, tickvals: places, ticktext: labels, tickfont: { size: names.length > 120 ? 6 : small ? 8 : names.length > 30 ? 10 : 12 }, range: [-0.5, names.length - 0.5], showticklabels: !options.bare && names.length <= 90 };
    const hover = `%{customdata[0]} ${view.arrow || "carried into"} %{customdata[1]}<br>${view.unit}: <b>%{z:.3g}</b><extra></extra>`;
    const cells = { type: "heatmap", z: values, x: places, y: places, colorscale: "Cividis", zmin: options.zmin ?? undefined, zmax: options.zmax ?? undefined, zauto: options.zmax === null, customdata: order.map((i) => order.map((j) => [plain(names[i]), plain(names[j])])), hovertemplate: hover, colorbar: options.bare ? { thickness: 10, len: 0.8 } : narrow ? { title: { text: view.unit, side: "top" }, orientation: "h", thickness: 12, y: -0.22, yanchor: "top" } : { title: { text: view.unit, side: "right" }, thickness: 14, len: options.marginals ? 0.83 : 1, y: 0, yanchor: "bottom" }, xgap: small ? 0 : 1, ygap: small ? 0 : 1 };
    const wide = options.marginals ? [0, 0.83] : [0, 1];
    const figure = { xaxis: { ...axis(view.to || "into field j", ticks), ...ticks, domain: wide }, yaxis: { ...axis(view.from || "field i", ticks), ...ticks, autorange: false, domain: wide }, margin: { l: 70, r: 10, t: 10, b: 70 }, showlegend: false, bargap: small ? 0 : 0.15 };
    if (!options.marginals) return [[cells], layout(figure)];
    const side = { type: "bar", orientation: "h", x: values.map(mean), y: places, xaxis: "x2", marker: { color: "#9fb6c6" }, hovertemplate: "%{customdata}<br>mean over j: <b>%{x:.3g}</b><extra></extra>", customdata: labels };
    const top = { type: "bar", x: places, y: places.map((j) => mean(values.map((row) => row[j]))), yaxis: "y2", marker: { color: "#9fb6c6" }, hovertemplate: "into %{customdata}<br>mean over i: <b>%{y:.3g}</b><extra></extra>", customdata: labels };
    return [[cells, side, top], layout({ ...figure,
      xaxis2: { ...CALM, domain: [0.85, 1], nticks: 3, title: { text: "mean over j", font: { size: 11 } }, tickfont: { size: 10 } },
      yaxis2: { ...CALM, domain: [0.85, 1], nticks: 3, title: { text: "mean<br>over i", font: { size: 11 } }, tickfont: { size: 10 } },
    })];
  });
  const controls = [];
  if (views.length > 1) controls.push(control("show", views.map((v, k) => [k, v.name]), (value) => { state.view = Number(value); made.draw(); }).label);
  if (orders.length > 1) controls.push(control("order fields by", orders.map((o, k) => [k, o[0]]), (value) => { state.order = Number(value); made.draw(); }).label);
  return h("div", {}, controls.length ? h("div", { class: "controls" }, controls) : null, made.element);
}

// How others fare when they meet field j, against field j's own abundance.
function influence(models) {
  const traces = models.map((model, m) => {
    const layer = model.subembeddings.layers[0];
    return {
      type: "scatter", mode: "markers", name: plain(model.name), x: model.fields.map((f) => f.information_abundance), y: layer.by_target, text: model.fields.map((f) => plain(f.name)),
      marker: { color: MODEL_COLORS[m], symbol: MODEL_SYMBOLS[m], size: 8, opacity: 0.85 },
      hovertemplate: "<b>%{text}</b><br>own abundance %{x:.3g}<br>sum of the others' views %{y:.4g}<extra></extra>",
    };
  });
  return chart(380, () => [traces, layout({ xaxis: axis("abundance of field j itself"), yaxis: axis("abundance others keep in j, sum"), legend: below, showlegend: models.length > 1 })]).element;
}

const MOST_BARS = 30;

function bars(names, values, title, chance) {
  const order = ascending(values.map((v) => v ?? -Infinity)).slice(-MOST_BARS);
  const line = { type: "line", x0: chance, x1: chance, y0: 0, y1: 1, yref: "paper", line: { color: "#1a1d21", dash: "dot", width: 1.5 } };
  const note = { x: chance, y: 1, yref: "paper", yanchor: "bottom", text: "random projection", showarrow: false, font: { size: 11 } };
  return chart(Math.max(260, 90 + 16 * order.length), () => [[{ type: "bar", orientation: "h", x: order.map((i) => values[i]), y: order.map((i) => plain(names[i])), marker: { color: "#0072b2" }, hovertemplate: "%{y}: <b>%{x:.3g}</b><extra></extra>" }], layout({ shapes: [line], annotations: [note], xaxis: axis(title), yaxis: { ...CALM, type: "category", ticks: "", showgrid: false }, margin: { l: 90, r: 16, t: 22, b: 52 } })]).element;
}

// What happened against what was predicted, in bins of equal mass. Rates of clicks span powers of ten.
function calibration(bins) {
  const shown = bins.flatMap((b) => [b.predicted, b.observed]);
  const [low, high] = [Math.min(...shown), Math.max(...shown)];
  const log = low > 0 && high > 10 * low;
  const ends = log ? [low / 1.25, Math.min(1, high * 1.25)] : [0, Math.min(1, high * 1.08) || 1];
  const ticks = range(8).flatMap((k) => (high > 1000 * low ? [1] : [1, 3]).map((digit) => Number(`${digit}e${k - 7}`)));
  const scale = (title) => axis(title, { range: log ? ends.map(Math.log10) : ends, tickformat: "~%", ...(log ? { type: "log", tickvals: ticks } : {}) });
  const traces = [
    { type: "scatter", mode: "lines", name: "calibrated", x: ends, y: ends, line: { color: RANDOM_COLOR, width: 1.5, dash: "dash" }, hoverinfo: "skip" },
    { type: "scatter", mode: "lines+markers", name: "this model", x: bins.map((b) => b.predicted), y: bins.map((b) => b.observed), customdata: bins.map((b) => b.rows), line: { color: "#0072b2", width: 1.6 }, marker: { symbol: "circle", size: 8 }, cliponaxis: false, hovertemplate: "predicted <b>%{x:.3~%}</b><br>positive <b>%{y:.3~%}</b><br>of %{customdata:,} rows<extra></extra>" },
  ];
  return chart(420, () => [traces, layout({ xaxis: scale("predicted probability, mean"), yaxis: scale("share of rows that are positive"), legend: below })]).element;
}
