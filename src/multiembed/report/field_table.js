"use strict";
// The table of fields: sortable by every column, searchable, every row opens.

const verdictOrder = Object.keys(VERDICTS);

// Columns of the measures that have a heading: those of abundance, then those of rank.
function measureColumns(besideAbundance) {
  const bar = (share) =>
    h("span", { class: "bar", style: `width:${Math.round(46 * Math.min(1, share))}px` });
  return MEASURES.filter((m) => m.heading && m.beside_abundance === besideAbundance).map((m) => ({
    key: m.key,
    title: m.heading,
    tip: m.words,
    cell: (f) => [...(m.bar ? [bar(f[m.key])] : []), written(m)(f[m.key])],
  }));
}

const COLUMNS = [
  {
    key: "name",
    title: "field",
    tip: "Field, or name of the table",
    text: true,
    cell: (f) => f.name,
  },
  {
    key: "verdict",
    title: "verdict",
    tip: "See the rules at the end of the page",
    text: true,
    sort: (f) => verdictOrder.indexOf(f.verdict.label),
    cell: (f) => chip(f.verdict.label),
  },
  {
    key: "spectrum",
    title: "spectrum",
    tip:
      "Singular values over the largest, logarithmic from 1 to 0.001; sorted by the " +
      "last of them",
    sort: (f) => f.singular_values[f.singular_values.length - 1] / f.singular_values[0],
    cell: sparkline,
  },
  {
    key: "cardinality",
    title: "rows",
    tip: "Rows of the table: the field's cardinality",
    cell: (f) => count(f.cardinality),
  },
  {
    key: "trained",
    title: "trained",
    tip: "Share of rows met in training",
    sort: (f) => (f.rows_trained === null ? null : f.rows_trained / f.cardinality),
    cell: (f) => (f.rows_trained === null ? "–" : percent(f.rows_trained / f.cardinality)),
  },
  {
    key: "width",
    title: "dim",
    tip: "Columns; sets × columns of one set",
    sort: (f) => f.dim * f.sets,
    cell: (f) => (f.sets > 1 ? `${f.sets} × ${f.dim}` : String(f.dim)),
  },
  ...measureColumns(true),
  ...measureColumns(false),
];

function sparkline(field) {
  const values = field.singular_values;
  const width = 84,
    height = 20;
  const place = (value, k) => {
    const x = values.length > 1 ? (k / (values.length - 1)) * width : 0;
    const level = value > 0 ? Math.max(-3, Math.log10(value / values[0])) : -3;
    return `${x.toFixed(1)},${(1 + (-level / 3) * (height - 2)).toFixed(1)}`;
  };
  const color = VERDICTS[field.verdict.label].color;
  const line = svg("polyline", {
    points: values.map(place).join(" "),
    fill: "none",
    stroke: color,
    "stroke-width": 1.6,
  });
  return svg(
    "svg",
    { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "spectrum" },
    line,
  );
}

function details(field) {
  const view = (title, v) =>
    v && h("p", { class: "muted" }, `${title} (${count(v.rows)} rows): ${phrases("of_view", v)}.`);
  const ofSets = MEASURES.filter((m) => m.of_set).map(
    (m) => `${m.of_set}: ${field.per_set.map((v) => written(m)(v[m.key])).join(", ")}`,
  );
  const method = field.route === "qr" ? "QR" : "the Gram matrix";
  return [
    h("p", {}, field.verdict.finding),
    h("p", {}, h("b", {}, "What to try. "), field.verdict.advice),
    view("Trained rows", field.trained),
    view("Rows by their counts", field.weighted),
    field.per_set.length
      ? h("p", { class: "muted" }, `Each set by itself, ${ofSets.join("; ")}.`)
      : null,
    h(
      "p",
      { class: "muted" },
      `A random table of this shape has abundance ${fixed(2)(field.null_information_abundance)}. ` +
        `${phrases("of_field", field)}. Singular values by ${method}, ` +
        `each within ${general(field.error_bound)} of the largest.`,
    ),
  ];
}

// Returns the table with its search box; `onpick` hears which field was opened (or null).
function fieldTable(fields, onpick) {
  const columns = COLUMNS.filter(
    (c) => c.key !== "trained" || fields.some((f) => f.rows_trained !== null),
  );
  const state = { by: "verdict", up: true, search: "" };
  const body = h("tbody", {});
  const heads = columns.map((column) => {
    const button = h("button", { type: "button", title: column.tip }, column.title);
    const head = h(
      "th",
      { class: column.text ? "text" : "", "data-key": column.key, scope: "col" },
      button,
    );
    button.addEventListener("click", () => {
      state.up = state.by === column.key ? !state.up : true;
      state.by = column.key;
      draw();
    });
    return head;
  });

  function sorted() {
    const column = columns.find((c) => c.key === state.by);
    const value = column.sort || ((f) => f[column.key]);
    const compare = (a, b) =>
      typeof a === "string"
        ? a.localeCompare(b, "en", { numeric: true })
        : (a ?? Infinity) - (b ?? Infinity);
    const tie = (a, b) =>
      a.centered_normalized_information_abundance - b.centered_normalized_information_abundance;
    const found = fields.filter(
      (f) => f.name.toLowerCase().includes(state.search) || f.verdict.label.includes(state.search),
    );
    return found.sort((a, b) => (state.up ? 1 : -1) * compare(value(a), value(b)) || tie(a, b));
  }

  function open(row, field) {
    const wasOpen = row.classList.contains("open");
    body.querySelectorAll("tr.detail").forEach((old) => old.remove());
    body.querySelectorAll("tr.open").forEach((old) => old.classList.remove("open"));
    if (!wasOpen) {
      row.classList.add("open");
      row.after(h("tr", { class: "detail" }, h("td", { colspan: columns.length }, details(field))));
    }
    onpick(wasOpen ? null : field.name);
  }

  function draw() {
    heads.forEach((head) => {
      const active = head.dataset.key === state.by;
      head.setAttribute("aria-sort", active ? (state.up ? "ascending" : "descending") : "none");
    });
    body.replaceChildren(
      ...sorted().map((field) => {
        const row = h(
          "tr",
          { class: "field", tabindex: 0, title: "Open for the finding and what to try" },
          columns.map((c) => h("td", { class: c.text ? "text" : "" }, c.cell(field))),
        );
        row.addEventListener("click", () => open(row, field));
        row.addEventListener("keydown", (event) => {
          if (event.key === "Enter") open(row, field);
        });
        return row;
      }),
    );
  }

  const search = h("input", {
    type: "search",
    placeholder: "Find a field or a verdict",
    "aria-label": "Find a field or a verdict",
  });
  search.addEventListener("input", () => {
    state.search = search.value.trim().toLowerCase();
    draw();
  });
  draw();
  return [
    h(
      "div",
      { class: "controls" },
      search,
      h("span", { class: "caption" }, "Click a heading to sort, a row to read its finding."),
    ),
    h(
      "div",
      { class: "scroll tall" },
      h("table", { class: "fields" }, h("thead", {}, h("tr", {}, heads)), body),
    ),
  ];
}
