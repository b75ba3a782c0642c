"use strict";
// Small pieces of the page: elements, numbers, colours. Text only ever enters as text, not as HTML.

const DATA = JSON.parse(document.getElementById("data").textContent);

// Verdicts and measures as Python has them: words, colours, marks, ways to write a number.
const VERDICTS = DATA.verdicts;
const MEASURES = DATA.measures;
const MODEL_COLORS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#5c6670"];
const MODEL_SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star"];
const RANDOM_COLOR = "#8a949e";

function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const fixed = (digits) => (x) =>
  x === null || x === undefined
    ? "–"
    : x.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const count = (x) => (x === null || x === undefined ? "–" : x.toLocaleString("en"));
const percent = (x) => (x === null || x === undefined ? "–" : `${Math.round(100 * x)}%`);
const short = (x) => {
  if (x === null || x === undefined) return "–";
  for (const [size, letter] of [
    [1e9, "G"],
    [1e6, "M"],
    [1e4, "k"],
  ]) {
    if (x >= size) return `${(x / (letter === "k" ? 1e3 : size)).toPrecision(3)}${letter}`;
  }
  return count(x);
};
const general = (x) => {
  if (x === null || x === undefined) return "∞";
  return x >= 1000 || x < 1e-3 ? x.toExponential(1).replace("e+", "e") : x.toPrecision(3);
};

// How a measure is written where it stands alone.
const written = (measure) =>
  ({ fixed: fixed(measure.digits), percent, count, general })[measure.written];

// Phrases of measures, "abundance 2.31, centred 2.05", of those that have one for this place.
function phrases(place, values) {
  return MEASURES.filter((m) => m[place])
    .map((m) =>
      m[place].replace("{}", written(m)(values[m.key])).replace("{columns}", values.columns),
    )
    .join(", ");
}

// Plotly reads a few HTML tags in labels; a field's name must not be one.
const plain = (text) =>
  String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

function chip(label) {
  const verdict = VERDICTS[label];
  return h(
    "span",
    { class: "chip", "data-mark": verdict.mark, style: `--c:${verdict.color}` },
    label,
  );
}

function control(text, options, onchange) {
  const select = h(
    "select",
    {},
    options.map(([value, label]) => h("option", { value }, label)),
  );
  select.addEventListener("change", () => onchange(select.value));
  return { label: h("label", {}, text, select), select };
}

function section(id, title, ...children) {
  return h("section", { id }, h("h2", {}, title), ...children);
}

function range(n) {
  return Array.from({ length: n }, (_, index) => index);
}

// Indices of `values` from small to large; what is missing goes last.
function ascending(values) {
  return range(values.length).sort(
    (a, b) => (values[a] ?? Infinity) - (values[b] ?? Infinity) || a - b,
  );
}
