"use strict";
// Charts of pairs of fields and of sets, of pulls, and of calibration.

// One heatmap with its marginals. `views`: [{name, values, unit, total}] with values[i][j].
function heatmap(names, orders, views, changes) {
  const narrow = window.innerWidth < 640;
  const options = { height: narrow ? 430 : 640, marginals: !narrow, zmax: null, ...changes };
  const state = { view: 0, order: 0 };
  const small = names.length > 60;
  const made = chart(options.height, () => {
    const view = views[state.view],
      order = orders[state.order][1];
    const labels = order.map((i) => plain(names[i]));
    const values = order.map((i) => order.map((j) => view.values[i][j]));
    const mean = (list) => {
      const known = list.filter((x) => x !== null);
      return known.reduce((a, b) => a + b, 0) / Math.max(1, known.length);
    };
    const places = range(names.length);
    const ticks = {
      ...CALM,
      ticks: "",
      showgrid: false,
      tickvals: places,
      ticktext: labels,
      tickfont: { size: names.length > 120 ? 6 : small ? 8 : names.length > 30 ? 10 : 12 },
      range: [-0.5, names.length - 0.5],
      showticklabels: !options.bare && names.length <= 90,
    };
    const hover =
      `%{customdata[0]} ${view.arrow || "carried into"} %{customdata[1]}<br>` +
      `${view.unit}: <b>%{z:.3g}</b><extra></extra>`;
    const cells = {
      type: "heatmap",
      z: values,
      x: places,
      y: places,
      colorscale: "Cividis",
      zmin: options.zmin ?? undefined,
      zmax: options.zmax ?? undefined,
      zauto: options.zmax === null,
      customdata: order.map((i) => order.map((j) => [plain(names[i]), plain(names[j])])),
      hovertemplate: hover,
      colorbar: options.bare
        ? { thickness: 10, len: 0.8 }
        : narrow
          ? {
              title: { text: view.unit, side: "top" },
              orientation: "h",
              thickness: 12,
              y: -0.22,
              yanchor: "top",
            }
          : {
              title: { text: view.unit, side: "right" },
              thickness: 14,
              len: options.marginals ? 0.83 : 1,
              y: 0,
              yanchor: "bottom",
            },
      xgap: small ? 0 : 1,
      ygap: small ? 0 : 1,
    };
    const wide = options.marginals ? [0, 0.83] : [0, 1];
    const figure = {
      xaxis: { ...axis(view.to || "into field j", ticks), ...ticks, domain: wide },
      yaxis: { ...axis(view.from || "field i", ticks), ...ticks, autorange: false, domain: wide },
      margin: { l: 70, r: 10, t: 10, b: 70 },
      showlegend: false,
      bargap: small ? 0 : 0.15,
    };
    if (!options.marginals) return [[cells], layout(figure)];
    const side = {
      type: "bar",
      orientation: "h",
      x: values.map(mean),
      y: places,
      xaxis: "x2",
      marker: { color: "#9fb6c6" },
      hovertemplate: "%{customdata}<br>mean over j: <b>%{x:.3g}</b><extra></extra>",
      customdata: labels,
    };
    const top = {
      type: "bar",
      x: places,
      y: places.map((j) => mean(values.map((row) => row[j]))),
      yaxis: "y2",
      marker: { color: "#9fb6c6" },
      hovertemplate: "into %{customdata}<br>mean over i: <b>%{y:.3g}</b><extra></extra>",
      customdata: labels,
    };
    return [
      [cells, side, top],
      layout({
        ...figure,
        xaxis2: {
          ...CALM,
          domain: [0.85, 1],
          nticks: 3,
          title: { text: "mean over j", font: { size: 11 } },
          tickfont: { size: 10 },
        },
        yaxis2: {
          ...CALM,
          domain: [0.85, 1],
          nticks: 3,
          title: { text: "mean<br>over i", font: { size: 11 } },
          tickfont: { size: 10 },
        },
      }),
    ];
  });
  const controls = [];
  if (views.length > 1)
    controls.push(
      control(
        "show",
        views.map((v, k) => [k, v.name]),
        (value) => {
          state.view = Number(value);
          made.draw();
        },
      ).label,
    );
  if (orders.length > 1)
    controls.push(
      control(
        "order fields by",
        orders.map((o, k) => [k, o[0]]),
        (value) => {
          state.order = Number(value);
          made.draw();
        },
      ).label,
    );
  return h(
    "div",
    {},
    controls.length ? h("div", { class: "controls" }, controls) : null,
    made.element,
  );
}

// How others fare when they meet field j, against field j's own abundance.
function influence(models) {
  const traces = models.map((model, m) => {
    const layer = model.subembeddings.layers[0];
    return {
      type: "scatter",
      mode: "markers",
      name: plain(model.name),
      x: model.fields.map((f) => f.information_abundance),
      y: layer.by_target,
      text: model.fields.map((f) => plain(f.name)),
      marker: { color: MODEL_COLORS[m], symbol: MODEL_SYMBOLS[m], size: 8, opacity: 0.85 },
      hovertemplate:
        "<b>%{text}</b><br>own abundance %{x:.3g}<br>sum of the others' views " +
        "%{y:.4g}<extra></extra>",
    };
  });
  return chart(380, () => [
    traces,
    layout({
      xaxis: axis("abundance of field j itself"),
      yaxis: axis("abundance others keep in j, sum"),
      legend: below,
      showlegend: models.length > 1,
    }),
  ]).element;
}

const MOST_BARS = 30;

function bars(names, values, title, chance) {
  const order = ascending(values.map((v) => v ?? -Infinity)).slice(-MOST_BARS);
  const line = {
    type: "line",
    x0: chance,
    x1: chance,
    y0: 0,
    y1: 1,
    yref: "paper",
    line: { color: "#1a1d21", dash: "dot", width: 1.5 },
  };
  const note = {
    x: chance,
    y: 1,
    yref: "paper",
    yanchor: "bottom",
    text: "random projection",
    showarrow: false,
    font: { size: 11 },
  };
  return chart(Math.max(260, 90 + 16 * order.length), () => [
    [
      {
        type: "bar",
        orientation: "h",
        x: order.map((i) => values[i]),
        y: order.map((i) => plain(names[i])),
        marker: { color: "#0072b2" },
        hovertemplate: "%{y}: <b>%{x:.3g}</b><extra></extra>",
      },
    ],
    layout({
      shapes: [line],
      annotations: [note],
      xaxis: axis(title),
      yaxis: { ...CALM, type: "category", ticks: "", showgrid: false },
      margin: { l: 90, r: 16, t: 22, b: 52 },
    }),
  ]).element;
}

// What happened against what was predicted, in bins of equal mass. Click rates span powers of
// ten.
function calibration(bins) {
  const shown = bins.flatMap((b) => [b.predicted, b.observed]);
  const [low, high] = [Math.min(...shown), Math.max(...shown)];
  const log = low > 0 && high > 10 * low;
  const ends = log ? [low / 1.25, Math.min(1, high * 1.25)] : [0, Math.min(1, high * 1.08) || 1];
  const ticks = range(8).flatMap((k) =>
    (high > 1000 * low ? [1] : [1, 3]).map((digit) => Number(`${digit}e${k - 7}`)),
  );
  const scale = (title) =>
    axis(title, {
      range: log ? ends.map(Math.log10) : ends,
      tickformat: "~%",
      ...(log ? { type: "log", tickvals: ticks } : {}),
    });
  const traces = [
    {
      type: "scatter",
      mode: "lines",
      name: "calibrated",
      x: ends,
      y: ends,
      line: { color: RANDOM_COLOR, width: 1.5, dash: "dash" },
      hoverinfo: "skip",
    },
    {
      type: "scatter",
      mode: "lines+markers",
      name: "this model",
      x: bins.map((b) => b.predicted),
      y: bins.map((b) => b.observed),
      customdata: bins.map((b) => b.rows),
      line: { color: "#0072b2", width: 1.6 },
      marker: { symbol: "circle", size: 8 },
      cliponaxis: false,
      hovertemplate:
        "predicted <b>%{x:.3~%}</b><br>positive <b>%{y:.3~%}</b><br>of " +
        "%{customdata:,} rows<extra></extra>",
    },
  ];
  return chart(420, () => [
    traces,
    layout({
      xaxis: scale("predicted probability, mean"),
      yaxis: scale("share of rows that are positive"),
      legend: below,
    }),
  ]).element;
}
