"use strict";
// The sections of one model: verdict, fields, spectra, interaction, sets, calibration.

function verdictLegend(counts) {
  return h(
    "ul",
    { class: "legend" },
    Object.entries(counts).map(([label, n]) =>
      h(
        "li",
        { "data-mark": VERDICTS[label].mark, style: `--c:${VERDICTS[label].color}` },
        h("b", {}, String(n)),
        ` ${label}: `,
        h("span", { class: "muted" }, VERDICTS[label].means),
      ),
    ),
  );
}

function shares(counts) {
  return h(
    "div",
    { class: "share", role: "img", "aria-label": "fields by verdict" },
    Object.entries(counts).map(([label, n]) =>
      h("i", { style: `flex:${n};background:${VERDICTS[label].color}`, title: `${n} ${label}` }),
    ),
  );
}

function numbers(pairs) {
  return h(
    "div",
    { class: "numbers" },
    pairs.map(([value, text]) =>
      h("div", { class: "number" }, h("b", {}, value), h("span", {}, text)),
    ),
  );
}

function verdictSection(model) {
  const s = model.summary;
  return section(
    "verdict",
    "Verdict",
    h("p", { class: "headline" }, s.verdict.headline),
    shares(s.verdict.counts),
    verdictLegend(s.verdict.counts),
    s.verdict.findings.map((finding) => h("p", {}, finding)),
    numbers(MEASURES.filter((m) => m.card).map((m) => [written(m)(s[m.key]), m.card])),
    s.verdict.advice.length
      ? [
          h("h3", {}, "What to try"),
          h(
            "ul",
            { class: "advice" },
            s.verdict.advice.map((text) => {
              const [head, ...rest] = text.split(": ");
              return h("li", {}, h("b", {}, `${head}: `), rest.join(": "));
            }),
          ),
        ]
      : [],
  );
}

function fieldOrders(fields) {
  return [
    ["abundance, rising", ascending(fields.map((f) => f.information_abundance))],
    ["centred abundance, rising", ascending(fields.map((f) => f.centered_information_abundance))],
    ["cardinality, rising", ascending(fields.map((f) => f.cardinality))],
    [
      "name",
      range(fields.length).sort((a, b) =>
        fields[a].name.localeCompare(fields[b].name, "en", { numeric: true }),
      ),
    ],
    ["place in the model", range(fields.length)],
  ];
}

// What of a pair's fall is the projection's doing: alone, and half of what takes both.
function projectionShare({ total, table_alone, projection_alone }) {
  return total.map((row, i) =>
    row.map((fall, j) =>
      fall === null ? null : (projection_alone[i][j] + fall - table_alone[i]) / 2,
    ),
  );
}

function heatmapViews(sub) {
  const views = sub.layers.map((layer) => ({
    name: `abundance, ${layer.name}`,
    values: layer.abundance,
    unit: "abundance",
  }));
  const first = sub.layers[0];
  first.per_set.forEach((values, m) =>
    views.push({ name: `abundance, ${first.name}, set ${m + 1} alone`, values, unit: "abundance" }),
  );
  if (sub.attribution)
    views.push({
      name: `fall due to the projection, ${first.name}`,
      values: projectionShare(sub.attribution),
      unit: "fall, nats",
    });
  if (sub.patterns)
    sub.patterns.forEach((by, m) =>
      views.push({
        name:
          "strength of the projection, " +
          `${first.name}${sub.patterns.length > 1 ? `, set ${m + 1}` : ""}`,
        values: by,
        unit: "Frobenius norm",
      }),
    );
  return views;
}

function correlation(layer) {
  const c = layer.co_influence;
  return (
    "Over fields j, the abundance of table j and the sum over i of what is carried " +
    `into j correlate with r = ${fixed(2)(c.pearson)} (rank correlation ` +
    `${fixed(2)(c.spearman)}; without i = j ${fixed(2)(c.pearson_off_diagonal)} and ` +
    `${fixed(2)(c.spearman_off_diagonal)}). The paper reports 0.68 for one set and ` +
    "0.52 for several."
  );
}

function interactionSection(model) {
  const sub = model.subembeddings;
  if (!sub) return null;
  const parts = [
    h(
      "p",
      {},
      "What is left of the abundance of field i (vertical) once it is carried into " +
        "field j (horizontal). A dark row is a field that is poor itself; a dark " +
        "column is a field that pulls others down. Bars are means.",
    ),
    heatmap(sub.fields, fieldOrders(model.fields), heatmapViews(sub)),
    h("p", { class: "caption" }, correlation(sub.layers[0])),
  ];
  const right = sub.pull
    ? h(
        "div",
        {},
        h("h3", {}, "Who pulls whom"),
        h(
          "p",
          { class: "caption" },
          "How far meeting field j flattens what the other fields show it, beyond " +
            "what their own tables do: 0.7 nats halve their " +
            `abundance.${sub.fields.length > MOST_BARS ? ` The ${MOST_BARS} strongest.` : ""}`,
        ),
        bars(sub.fields, sub.pull, "pull of field j, nats", sub.chance_pull),
      )
    : null;
  parts.push(
    h(
      "div",
      { class: "pair" },
      h(
        "div",
        {},
        h("h3", {}, "Poor fields and those they meet"),
        h(
          "p",
          { class: "caption" },
          "Interaction collapse shows as a rising line: fields of little abundance " +
            "leave little to those that meet them.",
        ),
        influence([model]),
      ),
      right,
    ),
  );
  return section("interaction", "Who collapses whom", ...parts);
}

function diversitySection(model) {
  const d = model.diversity;
  if (!d) return null;
  const rows = [
    ["diversity", "1 less the mean cosine of the principal angles, as in the paper"],
    ["rank_aware_diversity", "the same over the directions in use"],
    ["weighted_overlap", "cosines weighted by singular values; 1 if sets are equal"],
    ["cka", "linear similarity; 1 if sets are equal"],
  ];
  const sets = d.pairs.map((_, m) => `set ${m + 1}`);
  const points = (list, name, color, symbol) => ({
    type: "scatter",
    mode: "markers",
    name,
    x: d.fields.map((n) => model.fields.find((f) => f.name === n).cardinality),
    y: list.map((v) => v.diversity),
    text: d.fields.map(plain),
    marker: { color, symbol, size: 8, opacity: 0.85 },
    hovertemplate: "<b>%{text}</b><br>%{x:,} rows: diversity %{y:.3f}<extra></extra>",
  });
  return section(
    "diversity",
    "Do the sets differ?",
    h(
      "p",
      {},
      `${d.split ? "The columns of the one set, split in order for comparison. " : ""}Sets ` +
        "that point the same way add nothing to each other. Mean diversity is " +
        `${fixed(3)(d.mean.diversity)}; random tables of the same shapes have ` +
        `${fixed(3)(d.random_mean.diversity)}.`,
    ),
    h(
      "div",
      { class: "pair" },
      h(
        "div",
        {},
        h("h3", {}, "By field"),
        chart(380, () => [
          [
            points(d.random, "random tables", RANDOM_COLOR, "line-ew-open"),
            points(d.per_field, "this model", "#0072b2", "circle"),
          ],
          layout({
            xaxis: axis("cardinality: rows of the field's table", {
              type: "log",
              exponentformat: "SI",
              dtick: 1,
            }),
            yaxis: axis("diversity of sets", { range: [-0.02, 1.02] }),
            legend: below,
          }),
        ]).element,
      ),
      h(
        "div",
        {},
        h("h3", {}, "By pair of sets"),
        heatmap(
          sets,
          [["", range(sets.length)]],
          [
            {
              name: "",
              values: d.pairs,
              unit: "rank-aware diversity",
              arrow: "and",
              from: " ",
              to: " ",
            },
          ],
          { height: 380, marginals: false, zmin: 0, zmax: 1 },
        ),
      ),
    ),
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ["measure", "this model", "random tables", ""].map((t, k) =>
              h("th", { class: k === 3 ? "text" : "", style: "padding:8px 10px" }, t),
            ),
          ),
        ),
        h(
          "tbody",
          {},
          rows.map(([key, text]) =>
            h(
              "tr",
              {},
              h("td", {}, key.replaceAll("_", " ")),
              h("td", {}, fixed(3)(d.mean[key])),
              h("td", {}, fixed(3)(d.random_mean[key])),
              h("td", { class: "text muted" }, text),
            ),
          ),
        ),
      ),
    ),
  );
}

function calibrationSection(model) {
  const r = model.reliability;
  if (!r) return null;
  return section(
    "calibration",
    "Calibration",
    h("p", {}, r.finding),
    h(
      "div",
      { class: "pair" },
      calibration(r.bins),
      h(
        "p",
        { class: "caption" },
        `Each mark is a group of rows of the ${DATA.splits[r.split]} split that the ` +
          "model gives similar probabilities; a group has " +
          `${count(Math.round(r.bins.reduce((sum, b) => sum + b.rows, 0) / r.bins.length))} ` +
          "rows on average, and the same as the others but for ties. On the dashed " +
          "line, what was predicted is what happened; below it the model promises too " +
          "much, above it too little. The expected calibration error, " +
          `${general(r.expected_calibration_error)}, is the mean distance from that ` +
          "line. A calibration kept with the run is not applied here.",
      ),
    ),
  );
}

function skippedSection(model) {
  if (!model.skipped.length) return null;
  const groups = new Map();
  model.skipped.forEach((item) =>
    groups.set(item.reason, [...(groups.get(item.reason) || []), item]),
  );
  return section(
    "skipped",
    "Not measured",
    h(
      "p",
      { class: "muted" },
      `${count(model.skipped.length)} other tensors of the checkpoint, by reason.`,
    ),
    [...groups].map(([reason, items]) =>
      h(
        "details",
        {},
        h("summary", {}, `${count(items.length)}: ${reason}`),
        h(
          "p",
          { class: "caption" },
          items.map((item) => `${item.name} (${item.shape.join(" × ") || "scalar"})`).join(", "),
        ),
      ),
    ),
  );
}

function modelPart(model) {
  const curves = spectra(model.fields);
  const routes = model.fields.filter((f) => f.route === "qr").length;
  return [
    verdictSection(model),
    section("fields", "Fields", fieldTable(model.fields, curves.pick)),
    section(
      "spectra",
      "Spectra",
      h(
        "p",
        {},
        "Singular values of every table over its largest. A healthy table falls " +
          "slowly; a collapsed one drops within a few directions. A row opened in the " +
          "table above is drawn bold here.",
      ),
      curves.element,
    ),
    section(
      "abundance",
      "Abundance and cardinality",
      h(
        "p",
        {},
        "Each mark is a field; dotted, a random table of the same shape. A field " +
          "that lies far below its dotted mark wastes columns.",
      ),
      abundance([model]),
    ),
    interactionSection(model),
    diversitySection(model),
    calibrationSection(model),
    skippedSection(model),
    h(
      "p",
      { class: "caption" },
      `Spectra: ${count(model.fields.length - routes)} tables by their Gram matrix, ` +
        `${count(routes)} by QR, in float64; no singular value is off by more than ` +
        `${general(Math.max(...model.fields.map((f) => f.error_bound)))} of its ` +
        "table's largest.",
    ),
  ].filter(Boolean);
}
