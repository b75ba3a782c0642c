"use strict";
// Charts. Each function returns an element that draws itself once a reader comes near it.

const FONT = { family: getComputedStyle(document.body).fontFamily, size: 13, color: "#1a1d21" };
const CONFIG = {
  responsive: true,
  displaylogo: false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
};
const CALM = {
  gridcolor: "#e8ecf0",
  zeroline: false,
  linecolor: "#c3cad2",
  ticks: "outside",
  tickcolor: "#c3cad2",
  automargin: true,
};

// Charts not seen yet, and how to draw them: a page of 200 fields opens at once this way.
const unseen = new Map();
const watcher = new IntersectionObserver(
  (entries) => entries.filter((e) => e.isIntersecting).forEach((e) => reveal(e.target)),
  { rootMargin: "500px" },
);

function reveal(element) {
  watcher.unobserve(element);
  const draw = unseen.get(element);
  unseen.delete(element);
  if (draw && element.isConnected) draw();
}

function layout(changes) {
  return {
    font: FONT,
    margin: { l: 64, r: 16, t: 16, b: 56 },
    paper_bgcolor: "#fff",
    plot_bgcolor: "#fff",
    hoverlabel: { font: { size: 13 }, align: "left" },
    hovermode: "closest",
    ...changes,
  };
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
      type: "scatter",
      mode: fields.length <= 25 || picked ? "lines+markers" : "lines",
      x: range(values.length).map((k) => k + 1),
      y: values.map((v) => (v > 0 && values[0] > 0 ? v / values[0] : null)),
      line: { color: verdict.color, width: picked ? 3.5 : fields.length > 60 ? 1 : 1.6 },
      marker: { symbol: verdict.symbol, size: 6 },
      opacity: faded ? 0.12 : fields.length > 60 && !picked ? 0.55 : 0.9,
      name: field.verdict.label,
      legendgroup: field.verdict.label,
      showlegend: false,
      hovertemplate:
        `<b>${plain(field.name)}</b><br>direction %{x}: %{y:.3g} of the largest<extra>` +
        `${field.verdict.label}</extra>`,
    };
  };
  const key = (label) => ({
    type: "scatter",
    mode: "lines+markers",
    x: [null],
    y: [null],
    name: label,
    legendgroup: label,
    line: { color: VERDICTS[label].color, width: 2.5 },
    marker: { symbol: VERDICTS[label].symbol, size: 8 },
  });
  const keys = Object.keys(VERDICTS)
    .filter((label) => fields.some((f) => f.verdict.label === label))
    .map(key);
  const floor = () => {
    const smallest = fields
      .flatMap((f) =>
        (state.centered ? f.centered_singular_values : f.singular_values).map(
          (v, _, all) => v / all[0],
        ),
      )
      .filter((v) => v > 1e-8);
    return Math.log10(Math.min(0.5, ...smallest)) - 0.1;
  };
  const made = chart(430, () => [
    [...fields.map(trace), ...keys],
    layout({
      xaxis: axis("direction, from the strongest"),
      yaxis: axis("singular value, over the largest", {
        type: "log",
        exponentformat: "power",
        dtick: 1,
        range: [floor(), 0.1],
      }),
      legend: below,
    }),
  ]);
  const which = control(
    "rows",
    [
      ["raw", "as they are"],
      ["centered", "less their mean"],
    ],
    (value) => {
      state.centered = value === "centered";
      made.draw();
    },
  );
  return {
    element: h("div", {}, h("div", { class: "controls" }, which.label), made.element),
    pick: (name) => {
      state.picked = name;
      made.draw();
    },
  };
}

// Abundance against cardinality (or fields in order), beside a random table: Figure 2 of the paper.
function abundance(models) {
  const several = models.length > 1;
  const state = { measure: "information_abundance", across: "cardinality" };
  const chosen = () => MEASURES.find((m) => m.key === state.measure);
  const order = () => [
    ...new Set(
      models.flatMap((m) =>
        ascending(m.fields.map((f) => f[state.measure])).map((i) => m.fields[i].name),
      ),
    ),
  ];
  const place = (fields) => {
    if (state.across === "cardinality") return fields.map((f) => f.cardinality);
    const names = order();
    return fields.map((f) => names.indexOf(f.name) + 1);
  };
  const learned = (model, fields, color, symbol, name) => ({
    type: "scatter",
    mode: model.fields.length <= 25 && !several ? "markers+text" : "markers",
    name,
    x: place(fields),
    y: fields.map((f) => f[state.measure]),
    text: fields.map((f) => plain(f.name)),
    textposition: "top center",
    textfont: { size: 11, color: "#5c6670" },
    marker: {
      color,
      symbol,
      size: model.fields.length > 80 ? 7 : 9,
      opacity: 0.85,
      line: { color: "#fff", width: 1 },
    },
    customdata: fields.map((f) => [f.null_information_abundance, f.cardinality]),
    hovertemplate:
      `<b>%{text}</b>${several ? " in " + plain(model.name) : ""}<br>%{y:.3g}; a ` +
      "random table of this shape: %{customdata[0]:.3g}<br>%{customdata[1]:,} " +
      "rows<extra></extra>",
  });
  const random = (model, color, name) => {
    const expected = chosen().random;
    const fields = model.fields,
      xs = place(fields);
    const sorted = ascending(xs);
    return {
      type: "scatter",
      mode: "lines+markers",
      name,
      x: sorted.map((i) => xs[i]),
      y: sorted.map((i) => (typeof expected === "string" ? fields[i][expected] : expected)),
      line: { color, width: 1, dash: "dot" },
      marker: { color, symbol: "line-ew-open", size: 8 },
      hoverinfo: "skip",
    };
  };
  const traces = () => {
    if (several) {
      const over = typeof chosen().random !== "string";
      const width = (model) => (over ? 0 : Math.max(...model.fields.map((f) => f.sets * f.dim)));
      const distinct = models.filter(
        (model, m) => models.findIndex((other) => width(other) === width(model)) === m,
      );
      return [
        ...distinct.map((model) =>
          random(
            model,
            RANDOM_COLOR,
            over ? "random tables" : `random tables of ${width(model)} columns`,
          ),
        ),
        ...models.map((model, m) =>
          learned(model, model.fields, MODEL_COLORS[m], MODEL_SYMBOLS[m], plain(model.name)),
        ),
      ];
    }
    const groups = Object.keys(VERDICTS).filter((label) =>
      models[0].fields.some((f) => f.verdict.label === label),
    );
    return [
      random(models[0], RANDOM_COLOR, "random table of the same shape"),
      ...groups.map((label) =>
        learned(
          models[0],
          models[0].fields.filter((f) => f.verdict.label === label),
          VERDICTS[label].color,
          VERDICTS[label].symbol,
          label,
        ),
      ),
    ];
  };
  const made = chart(450, () => [
    traces(),
    layout({
      xaxis:
        state.across === "cardinality"
          ? axis("cardinality: rows of the field's table", {
              type: "log",
              exponentformat: "SI",
              dtick: 1,
            })
          : axis(`fields, by rising abundance${several ? " in " + plain(models[0].name) : ""}`, {
              rangemode: "tozero",
            }),
      yaxis: axis(chosen().menu, { rangemode: "tozero" }),
      legend: below,
    }),
  ]);
  const measure = control(
    "measure",
    MEASURES.filter((m) => m.menu).map((m) => [m.key, m.menu]),
    (value) => {
      state.measure = value;
      made.draw();
    },
  );
  const across = control(
    "across",
    [
      ["cardinality", "cardinality"],
      ["order", "fields in order"],
    ],
    (value) => {
      state.across = value;
      made.draw();
    },
  );
  return h("div", {}, h("div", { class: "controls" }, measure.label, across.label), made.element);
}
