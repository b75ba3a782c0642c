"use strict";
// Puts the page together: the comparison first if there are several models, then one in full.

const several = DATA.models.length > 1;

function verdictLegend(counts) {
  return h("ul", { class: "legend" }, Object.entries(counts).map(([label, n]) =>
    h("li", { "data-mark": VERDICTS[label].mark, style: `--c:${VERDICTS[label].color}` }, h("b", {}, String(n)), ` ${label}: `, h("span", { class: "muted" }, VERDICTS[label].means))));
}

function shares(counts) {
  return h("div", { class: "share", role: "img", "aria-label": "fields by verdict" }, Object.entries(counts).map(([label, n]) =>
    h("i", { style: `flex:${n};background:${VERDICTS[label].color}`, title: `${n} ${label}` })));
}

function numbers(pairs) {
  return h("div", { class: "numbers" }, pairs.map(([value, text]) => h("div", { class: "number" }, h("b", {}, value), h("span", {}, text))));
}

function verdictSection(model) {
  const s = model.summary;
  return section("verdict", "Verdict",
    h("p", { class: "headline" }, s.verdict.headline),
    shares(s.verdict.counts),
    verdictLegend(s.verdict.counts),
    s.verdict.findings.map((finding) => h("p", {}, finding)),
    numbers([
      [fixed(2)(s.information_abundance), "information abundance, mean over fields"],
      [fixed(2)(s.centered_information_abundance), "less the common mean of the rows"],
      [percent(s.normalized_information_abundance), "of a random table of the same shape"],
      [percent(s.centered_normalized_information_abundance), "of a random table, less the common mean"],
    ]),
    s.verdict.advice.length ? [h("h3", {}, "What to try"), h("ul", { class: "advice" }, s.verdict.advice.map((text) => {
      const [head, ...rest] = text.split(": ");
      return h("li", {}, h("b", {}, `${head}: `), rest.join(": "));
    }))] : []);
}

function fieldOrders(fields) {
  return [
    ["abundance, rising", ascending(fields.map((f) => f.information_abundance))],
    ["centred abundance, rising", ascending(fields.map((f) => f.centered_information_abundance))],
    ["cardinality, rising", ascending(fields.map((f) => f.cardinality))],
    ["name", range(fields.length).sort((a, b) => fields[a].name.localeCompare(fields[b].name, "en", { numeric: true }))],
    ["place in the model", range(fields.length)],
  ];
}

// What of a pair's fall is the projection's doing: alone, and half of what takes both.
function projectionShare({ total, table_alone, projection_alone }) {
  return total.map((row, i) => row.map((fall, j) => (fall === null ? null : (projection_alone[i][j] + fall - table_alone[i]) / 2)));
}

function heatmapViews(sub) {
  const views = sub.layers.map((layer) => ({ name: `abundance, ${layer.name}`, values: layer.abundance, unit: "abundance" }));
  const first = sub.layers[0];
  first.per_set.forEach((values, m) => views.push({ name: `abundance, ${first.name}, set ${m + 1} alone`, values, unit: "abundance" }));
  if (sub.attribution) views.push({ name: `fall due to the projection, ${first.name}`, values: projectionShare(sub.attribution), unit: "fall, nats" });
  if (sub.patterns) sub.patterns.forEach((by, m) => views.push({ name: `strength of the projection, ${first.name}${sub.patterns.length > 1 ? `, set ${m + 1}` : ""}`, values: by, unit: "Frobenius norm" }));
  return views;
}

function correlation(layer) {
  const c = layer.co_influence;
  return `Over fields j, the abundance of table j and the sum over i of what is carried into j correlate with r = ${fixed(2)(c.pearson)} (rank correlation ${fixed(2)(c.spearman)}; without i = j ${fixed(2)(c.pearson_off_diagonal)} and ${fixed(2)(c.spearman_off_diagonal)}). The paper reports 0.68 for one set and 0.52 for several.`;
}

function interactionSection(model) {
  const sub = model.subembeddings;
  if (!sub) return null;
  const parts = [
    h("p", {}, "What is left of the abundance of field i (vertical) once it is carried into field j (horizontal). A dark row is a field that is poor itself; a dark column is a field that pulls others down. Bars are means."),
    heatmap(sub.fields, fieldOrders(model.fields), heatmapViews(sub)),
    h("p", { class: "caption" }, correlation(sub.layers[0])),
  ];
  const right = sub.pull ? h("div", {}, h("h3", {}, "Who pulls whom"), h("p", { class: "caption" }, `How far meeting field j flattens what the other fields show it, beyond what their own tables do: 0.7 nats halve their abundance.${sub.fields.length > MOST_BARS ? ` The ${MOST_BARS} strongest.` : ""}`), bars(sub.fields, sub.pull, "pull of field j, nats", sub.chance_pull)) : null;
  parts.push(h("div", { class: "pair" }, h("div", {}, h("h3", {}, "Poor fields and those they meet"), h("p", { class: "caption" }, "Interaction collapse shows as a rising line: fields of little abundance leave little to those that meet them."), influence([model])), right));
  return section("interaction", "Who collapses whom", ...parts);
}

function diversitySection(model) {
  const d = model.diversity;
  if (!d) return null;
  const rows = [["diversity", "1 less the mean cosine of the principal angles, as in the paper"], ["rank_aware_diversity", "the same over the directions in use"], ["weighted_overlap", "cosines weighted by singular values; 1 if sets are equal"], ["cka", "linear similarity; 1 if sets are equal"]];
  const sets = d.pairs.map((_, m) => `set ${m + 1}`);
  const points = (list, name, color, symbol) => ({ type: "scatter", mode: "markers", name, x: d.fields.map((n) => model.fields.find((f) => f.name === n).cardinality), y: list.map((v) => v.diversity), text: d.fields.map(plain), marker: { color, symbol, size: 8, opacity: 0.85 }, hovertemplate: "<b>%{text}</b><br>%{x:,} rows: diversity %{y:.3f}<extra></extra>" });
  return section("diversity", "Do the sets differ?",
    h("p", {}, `${d.split ? "The columns of the one set, split in order for comparison. " : ""}Sets that point the same way add nothing to each other. Mean diversity is ${fixed(3)(d.mean.diversity)}; random tables of the same shapes have ${fixed(3)(d.random_mean.diversity)}.`),
    h("div", { class: "pair" },
      h("div", {}, h("h3", {}, "By field"), chart(380, () => [[points(d.random, "random tables", RANDOM_COLOR, "line-ew-open"), points(d.per_field, "this model", "#0072b2", "circle")], layout({ xaxis: axis("cardinality: rows of the field's table", { type: "log", exponentformat: "SI", dtick: 1 }), yaxis: axis("diversity of sets", { range: [-0.02, 1.02] }), legend: below })]).element),
      h("div", {}, h("h3", {}, "By pair of sets"), heatmap(sets, [["", range(sets.length)]], [{ name: "", values: d.pairs, unit: "rank-aware diversity", arrow: "and", from: " ", to: " " }], { height: 380, marginals: false, zmin: 0, zmax: 1 }))),
    h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["measure", "this model", "random tables", ""].map((t, k) => h("th", { class: k === 3 ? "text" : "", style: "padding:8px 10px" }, t)))),
      h("tbody", {}, rows.map(([key, text]) => h("tr", {}, h("td", {}, key.replaceAll("_", " ")), h("td", {}, fixed(3)(d.mean[key])), h("td", {}, fixed(3)(d.random_mean[key])), h("td", { class: "text muted" }, text)))))));
}

const SPLITS = { train: "training", valid: "validation", test: "test" };

function calibrationSection(model) {
  const r = model.reliability;
  if (!r) return null;
  return section("calibration", "Calibration",
    h("p", {}, r.finding),
    h("div", { class: "pair" }, calibration(r.bins), h("p", { class: "caption" },
      `Each mark is a group of rows of the ${SPLITS[r.split]} split that the model gives similar probabilities; a group has ${count(Math.round(r.bins.reduce((sum, b) => sum + b.rows, 0) / r.bins.length))} rows on average, and the same as the others but for ties. On the dashed line, what was predicted is what happened; below it the model promises too much, above it too little. The expected calibration error, ${general(r.expected_calibration_error)}, is the mean distance from that line. A calibration kept with the run is not applied here.`)));
}

function skippedSection(model) {
  if (!model.skipped.length) return null;
  const groups = new Map();
  model.skipped.forEach((item) => groups.set(item.reason, [...(groups.get(item.reason) || []), item]));
  return section("skipped", "Not measured",
    h("p", { class: "muted" }, `${count(model.skipped.length)} other tensors of the checkpoint, by reason.`),
    [...groups].map(([reason, items]) => h("details", {}, h("summary", {}, `${count(items.length)}: ${reason}`),
      h("p", { class: "caption" }, items.map((item) => `${item.name} (${item.shape.join(" × ") || "scalar"})`).join(", ")))));
}

function modelPart(model) {
  const curves = spectra(model.fields);
  const routes = model.fields.filter((f) => f.route === "qr").length;
  return [
    verdictSection(model),
    section("fields", "Fields", fieldTable(model.fields, curves.pick)),
    section("spectra", "Spectra", h("p", {}, "Singular values of every table over its largest. A healthy table falls slowly; a collapsed one drops within a few directions. A row opened in the table above is drawn bold here."), curves.element),
    section("abundance", "Abundance and cardinality", h("p", {}, "Each mark is a field; dotted, a random table of the same shape. A field that lies far below its dotted mark wastes columns."), abundance([model])),
    interactionSection(model), diversitySection(model), calibrationSection(model), skippedSection(model),
    h("p", { class: "caption" }, `Spectra: ${count(model.fields.length - routes)} tables by their Gram matrix, ${count(routes)} by QR, in float64; no singular value is off by more than ${general(Math.max(...model.fields.map((f) => f.error_bound)))} of its table's largest.`),
  ].filter(Boolean);
}

function resultCell(key, value) {
  if (typeof value !== "number") return value === null ? "–" : String(value);
  if (/auc|loss/.test(key)) return fixed(5)(value);
  if (/normali[sz]ed/.test(key)) return percent(value);
  return Number.isInteger(value) ? count(value) : fixed(value >= 100 ? 0 : 2)(value);
}

function resultTable(rows) {
  const keys = Object.keys(rows[0]);
  return h("div", { class: "scroll" }, h("table", { class: "results" },
    h("thead", {}, h("tr", {}, keys.map((key) => h("th", { style: "padding:8px 10px" }, key.replaceAll("_", " ").replace("auc", "AUC"))))),
    h("tbody", {}, rows.map((row) => h("tr", {}, keys.map((key) => h("td", {}, resultCell(key, row[key]))))))));
}

function meanSpectrum(model) {
  const longest = Math.max(...model.fields.map((f) => f.singular_values.length));
  const full = model.fields.filter((f) => f.singular_values.length === longest && f.singular_values[0] > 0);
  return range(longest).map((k) => Math.exp(full.reduce((sum, f) => sum + Math.log(Math.max(f.singular_values[k] / f.singular_values[0], 1e-12)), 0) / full.length));
}

function comparisonPart(models) {
  const spectraChart = chart(400, () => [models.map((model, m) => ({
    type: "scatter", mode: "lines+markers", name: plain(model.name), x: meanSpectrum(model).map((_, k) => k + 1), y: meanSpectrum(model),
    line: { color: MODEL_COLORS[m] }, marker: { symbol: MODEL_SYMBOLS[m], size: 6 }, hovertemplate: `<b>${plain(model.name)}</b><br>direction %{x}: %{y:.3g}<extra></extra>`,
  })), layout({ xaxis: axis("direction, from the strongest"), yaxis: axis("singular value, over the largest", { type: "log", exponentformat: "power", dtick: 1 }), legend: below })]);
  const crossed = models.filter((m) => m.subembeddings);
  const names = (m) => m.fields.map((f) => f.name).join("\n");
  // Heatmaps of the same fields share an order, so that they can be compared by place.
  const shared = (m) => (names(m) === names(crossed[0]) ? crossed[0] : m);
  const largest = Math.max(...crossed.flatMap((m) => m.subembeddings.layers[0].abundance.flat()));
  return [
    section("results", "Side by side",
      DATA.rows.length ? resultTable(DATA.rows) : null,
      h("div", { class: "tiles", style: "margin-top:18px" }, models.map((m) => h("div", {}, h("h3", { style: "margin-top:0" }, m.name), shares(m.summary.verdict.counts), h("p", { class: "caption" }, m.summary.verdict.headline)))),
      h("p", { class: "caption" }, "Fields by verdict, in the order of the models above:"),
      verdictLegend(Object.fromEntries(Object.keys(VERDICTS).map((label) => [label, models.map((m) => m.summary.verdict.counts[label] || 0).join(" / ")]).filter(([, text]) => /[1-9]/.test(text))))),
    section("compared-abundance", "Abundance by field", h("p", {}, "Each mark is a field of one model; dotted, a random table of the same shape."), abundance(models)),
    section("compared-spectra", "Spectra", h("p", {}, "Singular values over the largest, geometric mean over the fields that have as many rows as columns."), spectraChart.element),
    crossed.length ? section("compared-interaction", "What fields leave to each other",
      h("p", {}, "Abundance of field i (vertical) carried into field j (horizontal), first layer, on one scale of colours; fields by rising abundance (in the first model, where fields are the same)."),
      h("div", { class: "tiles" }, crossed.map((m) => h("div", {}, h("h3", {}, m.name), heatmap(m.subembeddings.fields, [["", ascending(shared(m).fields.map((f) => f.information_abundance))]], [{ name: "", values: m.subembeddings.layers[0].abundance, unit: "abundance" }], { height: 360, marginals: false, bare: true, zmin: 1, zmax: largest }), h("p", { class: "caption" }, `r = ${fixed(2)(m.subembeddings.layers[0].co_influence.pearson)} between a field's abundance and what others leave in it.`)))),
      h("h3", {}, "Poor fields and those they meet"), influence(crossed)) : null,
  ].filter(Boolean);
}

const RULES = [
  ["information abundance", "Sum of the singular values over the largest (Guo et al., ICML 2024): 1 where a table is a single direction, the number of columns where all count alike. It also falls when all rows share an offset, and in small tables, which is why it is shown less the mean and beside a random table."],
  ["random table", "The mean abundance of a table of independent normal numbers of the same shape. A percentage is a field's abundance over that."],
  ["which rows", "Verdicts rest on the rows met in training where their counts are known, on all rows elsewhere."],
  ["too wide", "Fewer rows than the columns of one set: some columns cannot be used, whatever is trained."],
  ["low rank", "Less the mean, below 50% of a random table, and the energy lies in fewer than half of the directions. One strong direction over many even ones is not low rank, though its abundance is small."],
  ["common mean", "Below 50% as it is, and at least half as much again less its mean: the offset hides a table that is not of low rank."],
  ["untrained rows", "Healthy where it was trained, but that is fewer than half of its rows."],
];

function main() {
  const first = DATA.models[0];
  const describe = (m) => `${m.layout} · ${count(m.summary.fields)} ${m.summary.fields === 1 ? "table" : "fields"} · ${short(m.summary.rows)} rows · ${short(m.summary.parameters)} numbers · ${m.summary.sets > 1 ? `${m.summary.sets} sets of ` : ""}${m.summary.dim === null ? "different widths" : `${m.summary.dim} columns`}`;
  document.getElementById("header").append(h("h1", {}, DATA.title), ...(several ? [h("p", { class: "source" }, DATA.models.map((m) => m.name).join(" · "))] : [h("div", { class: "source" }, first.source), h("div", { class: "source" }, describe(first))]));
  const into = h("div", { id: "model" });
  const parts = [];
  if (several) {
    const choose = control("model", DATA.models.map((m, k) => [k, m.name]), (k) => { about.textContent = describe(DATA.models[k]); into.replaceChildren(...modelPart(DATA.models[k])); });
    const about = h("p", { class: "source" }, describe(first));
    parts.push(...comparisonPart(DATA.models), section("one", "One model in full", h("div", { class: "controls" }, choose.label), about));
  }
  const rules = section("rules", "How to read this", h("dl", {}, RULES.flatMap(([term, text]) => [h("dt", {}, term), h("dd", {}, text)])));
  document.getElementById("main").replaceChildren(...parts, into, rules, h("footer", {}, "Written by multiembed. Everything on this page is in this file; nothing is fetched."));
  into.replaceChildren(...modelPart(first));
  const links = [...document.querySelectorAll("section")].filter((s) => s.id !== "one").map((s) => h("a", { href: `#${s.id}` }, s.querySelector("h2").textContent));
  document.getElementById("header").append(h("nav", {}, several ? links.filter((_, k) => k < 4 || k === links.length - 1) : links));
  const fit = (printing) => {
    document.body.classList.toggle("printing", printing);
    if (printing) [...unseen.keys()].forEach(reveal);
    document.querySelectorAll(".js-plotly-plot").forEach((c) => Plotly.Plots.resize(c));
  };
  window.addEventListener("beforeprint", () => fit(true));
  window.addEventListener("afterprint", () => fit(false));
}

main();
