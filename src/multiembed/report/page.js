"use strict";
// Puts the page together: the comparison first if there are several models, then one in full.

const several = DATA.models.length > 1;

function resultCell(key, value) {
  if (typeof value !== "number") return value === null ? "–" : String(value);
  if (/auc|loss/.test(key)) return fixed(5)(value);
  if (/normali[sz]ed/.test(key)) return percent(value);
  return Number.isInteger(value) ? count(value) : fixed(value >= 100 ? 0 : 2)(value);
}

function resultTable(rows) {
  const keys = Object.keys(rows[0]);
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      { class: "results" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          keys.map((key) =>
            h("th", { style: "padding:8px 10px" }, key.replaceAll("_", " ").replace("auc", "AUC")),
          ),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            {},
            keys.map((key) => h("td", {}, resultCell(key, row[key]))),
          ),
        ),
      ),
    ),
  );
}

function meanSpectrum(model) {
  const longest = Math.max(...model.fields.map((f) => f.singular_values.length));
  const full = model.fields.filter(
    (f) => f.singular_values.length === longest && f.singular_values[0] > 0,
  );
  return range(longest).map((k) =>
    Math.exp(
      full.reduce(
        (sum, f) => sum + Math.log(Math.max(f.singular_values[k] / f.singular_values[0], 1e-12)),
        0,
      ) / full.length,
    ),
  );
}

function comparisonPart(models) {
  const spectraChart = chart(400, () => [
    models.map((model, m) => ({
      type: "scatter",
      mode: "lines+markers",
      name: plain(model.name),
      x: meanSpectrum(model).map((_, k) => k + 1),
      y: meanSpectrum(model),
      line: { color: MODEL_COLORS[m] },
      marker: { symbol: MODEL_SYMBOLS[m], size: 6 },
      hovertemplate: `<b>${plain(model.name)}</b><br>direction %{x}: %{y:.3g}<extra></extra>`,
    })),
    layout({
      xaxis: axis("direction, from the strongest"),
      yaxis: axis("singular value, over the largest", {
        type: "log",
        exponentformat: "power",
        dtick: 1,
      }),
      legend: below,
    }),
  ]);
  const crossed = models.filter((m) => m.subembeddings);
  const names = (m) => m.fields.map((f) => f.name).join("\n");
  // Heatmaps of the same fields share an order, so that they can be compared by place.
  const shared = (m) => (names(m) === names(crossed[0]) ? crossed[0] : m);
  const largest = Math.max(...crossed.flatMap((m) => m.subembeddings.layers[0].abundance.flat()));
  return [
    section(
      "results",
      "Side by side",
      DATA.rows.length ? resultTable(DATA.rows) : null,
      h(
        "div",
        { class: "tiles", style: "margin-top:18px" },
        models.map((m) =>
          h(
            "div",
            {},
            h("h3", { style: "margin-top:0" }, m.name),
            shares(m.summary.verdict.counts),
            h("p", { class: "caption" }, m.summary.verdict.headline),
          ),
        ),
      ),
      h("p", { class: "caption" }, "Fields by verdict, in the order of the models above:"),
      verdictLegend(
        Object.fromEntries(
          Object.keys(VERDICTS)
            .map((label) => [
              label,
              models.map((m) => m.summary.verdict.counts[label] || 0).join(" / "),
            ])
            .filter(([, text]) => /[1-9]/.test(text)),
        ),
      ),
    ),
    section(
      "compared-abundance",
      "Abundance by field",
      h("p", {}, "Each mark is a field of one model; dotted, a random table of the same shape."),
      abundance(models),
    ),
    section(
      "compared-spectra",
      "Spectra",
      h(
        "p",
        {},
        "Singular values over the largest, geometric mean over the fields that have " +
          "as many rows as columns.",
      ),
      spectraChart.element,
    ),
    crossed.length
      ? section(
          "compared-interaction",
          "What fields leave to each other",
          h(
            "p",
            {},
            "Abundance of field i (vertical) carried into field j (horizontal), " +
              "first layer, on one scale of colours; fields by rising abundance (in " +
              "the first model, where fields are the same).",
          ),
          h(
            "div",
            { class: "tiles" },
            crossed.map((m) =>
              h(
                "div",
                {},
                h("h3", {}, m.name),
                heatmap(
                  m.subembeddings.fields,
                  [["", ascending(shared(m).fields.map((f) => f.information_abundance))]],
                  [{ name: "", values: m.subembeddings.layers[0].abundance, unit: "abundance" }],
                  { height: 360, marginals: false, bare: true, zmin: 1, zmax: largest },
                ),
                h(
                  "p",
                  { class: "caption" },
                  `r = ${fixed(2)(m.subembeddings.layers[0].co_influence.pearson)} ` +
                    "between a field's abundance and what others leave in it.",
                ),
              ),
            ),
          ),
          h("h3", {}, "Poor fields and those they meet"),
          influence(crossed),
        )
      : null,
  ].filter(Boolean);
}

function main() {
  const first = DATA.models[0];
  const describe = (m) =>
    `${m.layout} · ${count(m.summary.fields)} ` +
    `${m.summary.fields === 1 ? "table" : "fields"} · ${short(m.summary.rows)} rows ` +
    `· ${short(m.summary.parameters)} numbers · ` +
    (m.summary.sets > 1 ? `${m.summary.sets} sets of ` : "") +
    (m.summary.dim === null ? "different widths" : `${m.summary.dim} columns`);
  document
    .getElementById("header")
    .append(
      h("h1", {}, DATA.title),
      ...(several
        ? [h("p", { class: "source" }, DATA.models.map((m) => m.name).join(" · "))]
        : [
            h("div", { class: "source" }, first.source),
            h("div", { class: "source" }, describe(first)),
          ]),
    );
  const into = h("div", { id: "model" });
  const parts = [];
  if (several) {
    const choose = control(
      "model",
      DATA.models.map((m, k) => [k, m.name]),
      (k) => {
        about.textContent = describe(DATA.models[k]);
        into.replaceChildren(...modelPart(DATA.models[k]));
      },
    );
    const about = h("p", { class: "source" }, describe(first));
    parts.push(
      ...comparisonPart(DATA.models),
      section("one", "One model in full", h("div", { class: "controls" }, choose.label), about),
    );
  }
  const rules = section(
    "rules",
    "How to read this",
    h(
      "dl",
      {},
      DATA.rules.flatMap(([term, text]) => [h("dt", {}, term), h("dd", {}, text)]),
    ),
  );
  document
    .getElementById("main")
    .replaceChildren(
      ...parts,
      into,
      rules,
      h(
        "footer",
        {},
        "Written by multiembed. Everything on this page is in this file; nothing is fetched.",
      ),
    );
  into.replaceChildren(...modelPart(first));
  const links = [...document.querySelectorAll("section")]
    .filter((s) => s.id !== "one")
    .map((s) => h("a", { href: `#${s.id}` }, s.querySelector("h2").textContent));
  document
    .getElementById("header")
    .append(
      h("nav", {}, several ? links.filter((_, k) => k < 4 || k === links.length - 1) : links),
    );
  const fit = (printing) => {
    document.body.classList.toggle("printing", printing);
    if (printing) [...unseen.keys()].forEach(reveal);
    document.querySelectorAll(".js-plotly-plot").forEach((c) => Plotly.Plots.resize(c));
  };
  window.addEventListener("beforeprint", () => fit(true));
  window.addEventListener("afterprint", () => fit(false));
}

main();
