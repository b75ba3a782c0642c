"use strict";
// What scripts add to a page that is complete without them: sorting, searching, opening rows,
// menus, values under the pointer, other views of heatmaps. Text only ever enters as text.

document.documentElement.classList.add("js");
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// The table of fields: every row is followed by its details.
function sortable(table) {
  const heads = all("thead th", table);
  const body = table.tBodies[0];
  const pairs = all("tr.field", body).map((row) => [row, row.nextElementSibling]);
  const value = (row, column) => {
    const text = row.cells[column].dataset.sort;
    return text === "" || Number.isNaN(Number(text)) ? text : Number(text);
  };
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  };
  let sorted = null;
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = sorted === column ? head.getAttribute("aria-sort") !== "ascending" : true;
      sorted = column;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      pairs.sort(([a], [b]) => (up ? 1 : -1) * compare(value(a, column), value(b, column)));
      body.append(...pairs.flat());
    });
  });
  return pairs;
}

function openable(pairs, model) {
  const open = (row, details) => {
    const opened = !row.classList.contains("open");
    pairs.flat().forEach((other) => other.classList.remove("open"));
    row.classList.toggle("open", opened);
    details.classList.toggle("open", opened);
    pick(model, opened ? row.dataset.key : null);
  };
  pairs.forEach(([row, details]) => {
    row.tabIndex = 0;
    row.addEventListener("click", () => open(row, details));
    row.addEventListener("keydown", (event) => event.key === "Enter" && open(row, details));
  });
}

// Draws one field bold in the charts, with the random table of its own shape, and the rest faintly.
function pick(model, key) {
  all(".chart [data-key]", model).forEach((mark) => {
    mark.classList.toggle("picked", mark.dataset.key === key);
    mark.classList.toggle("faded", key !== null && mark.dataset.key !== key);
  });
}

function searchable(input, pairs) {
  input.addEventListener("input", () => {
    const sought = input.value.trim().toLowerCase();
    pairs.forEach(([row, details]) => {
      const text = `${row.dataset.key} ${row.cells[1].textContent}`;
      row.hidden = details.hidden = !text.toLowerCase().includes(sought);
    });
  });
}

all("table.fields").forEach((table) => {
  const pairs = sortable(table);
  openable(pairs, table.closest(".model"));
  searchable(table.closest("section").querySelector("input[type=search]"), pairs);
});

// A box that scrolls sideways shows a shadow at the end that hides something.
all(".scroll").forEach((box) => {
  const mark = () => {
    const left = box.scrollWidth - box.clientWidth - box.scrollLeft;
    box.classList.toggle("more-right", left > 1);
    box.classList.toggle("more-left", box.scrollLeft > 1);
  };
  box.addEventListener("scroll", mark, { passive: true });
  new ResizeObserver(mark).observe(box);
});

// Menus that show one of several pieces.
all(".variants").forEach((box) => {
  const menus = all(":scope > .controls select", box);
  const show = () => {
    const chosen = menus.map((menu) => menu.value).join("|");
    all(":scope > [data-choice]", box).forEach((piece) => {
      piece.hidden = piece.dataset.choice !== chosen;
    });
  };
  menus.forEach((menu) => menu.addEventListener("change", show));
});

const choose = document.getElementById("choose");
if (choose) {
  const show = () =>
    all(".model").forEach((model) => {
      model.hidden = model.dataset.name !== choose.value;
    });
  choose.addEventListener("change", show);
  show();
}

// What lies under the pointer, in words.
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);

function say(text, event) {
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  const left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
  const below = event.clientY + 18 + tip.offsetHeight < window.innerHeight;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${event.clientY + (below ? 18 : -12 - tip.offsetHeight)}px`;
}

const NEAR = 14;

// The value at a share of an axis, which says how it runs: "log 0.001 1".
function read(axis, share) {
  const [kind, low, high] = axis.split(" ");
  if (kind === "linear") return Number(low) + share * (high - low);
  return 10 ** (Math.log10(low) + share * (Math.log10(high) - Math.log10(low)));
}

// Browsers would show titles too, beside ours and later.
function untitled(mark) {
  const title = mark.querySelector(":scope > title");
  if (title) {
    mark.dataset.tip = title.textContent;
    title.remove();
  }
  return mark.dataset.tip;
}

function nearest(plot, event) {
  const box = plot.getBoundingClientRect();
  const height = plot.height.baseVal.value;
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  let found = { far: NEAR, text: "" };
  const offer = (far, text) => {
    if (far < found.far) found = { far, text: text() };
  };
  all("use", plot).forEach((mark) => {
    const at = [(parseFloat(mark.getAttribute("x")) / 100) * box.width, mark.getAttribute("y")];
    // A mark is meant before the line that it lies on.
    offer(Math.hypot(x - at[0], y - at[1]) - 1, () => untitled(mark));
  });
  all("polyline:not(.faint:not(.picked))", plot).forEach((line) => {
    if (untitled(line) === undefined) return;
    [...line.points].forEach((point) => {
      const far = Math.hypot(x - (point.x / 1000) * box.width, y - point.y);
      offer(far, () => {
        const value = read(plot.dataset.y, 1 - point.y / height).toPrecision(3);
        const at = Math.round(read(plot.dataset.x, point.x / 1000));
        return `${line.dataset.tip}: ${Number(value)} at ${at} (${plot.dataset.xt})`;
      });
    });
  });
  return found.text;
}

all("svg.plot[data-x]").forEach((plot) => {
  const near = (event) => say(nearest(plot, event), event);
  plot.addEventListener("pointermove", near);
  plot.addEventListener("pointerdown", near);
  plot.addEventListener("pointerleave", () => say("", null));
});

// Heatmaps: their numbers lie beside them; many of them as codes of two bytes, 0 for nothing.
function unpacked({ low, high, codes }, side) {
  const bytes = Uint8Array.from(atob(codes), (letter) => letter.charCodeAt(0));
  const places = new DataView(bytes.buffer);
  const number = (at) => {
    const code = places.getUint16(2 * at, true);
    return code ? Number((low + ((code - 1) / 65533) * (high - low)).toPrecision(4)) : null;
  };
  return [...Array(side).keys()].map((i) =>
    [...Array(side).keys()].map((j) => number(i * side + j)),
  );
}

function heatmap(figure) {
  const data = JSON.parse(figure.querySelector("script").textContent);
  data.views.forEach((view) => (view.values ??= unpacked(view, data.names.length)));
  const plot = figure.querySelector("svg.plot");
  const image = plot.querySelector("image");
  const menu = (name) => figure.querySelector(`select[name="${name}"]`)?.selectedIndex ?? 0;
  const shown = () => [data.views[menu("show")], data.orders[menu("order fields by")]];
  const parts = (color) => [1, 3, 5].map((k) => parseInt(color.slice(k, k + 2), 16));
  const colors = data.colors.map(parts);

  function draw() {
    const [view, order] = shown();
    const known = view.values.flat().filter((value) => value !== null);
    const low = data.ends[0] ?? Math.min(...known);
    const high = data.ends[1] ?? Math.max(...known);
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = order.length;
    const pixels = new ImageData(order.length, order.length);
    order.forEach((i, up) =>
      order.forEach((j, across) => {
        const at = 4 * ((order.length - 1 - up) * order.length + across);
        pixels.data.set([...color(view.values[i][j], low, high), 255], at);
      }),
    );
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    image.setAttribute("href", canvas.toDataURL());
    all("text.row", plot).forEach((text, at) => (text.textContent = data.short[order[at]]));
    all("text.column", plot).forEach((text, at) => (text.textContent = data.short[order[at]]));
    figure.querySelector(".low").textContent = Number(low.toPrecision(3));
    figure.querySelector(".high").textContent = Number(high.toPrecision(3));
    figure.querySelector(".unit").textContent = view.unit;
  }

  function color(value, low, high) {
    if (value === null) return [255, 255, 255];
    const share = Math.min(1, Math.max(0, (value - low) / (high - low || 1)));
    const place = share * (colors.length - 1);
    const under = Math.min(colors.length - 2, Math.floor(place));
    return [0, 1, 2].map((k) =>
      Math.round(colors[under][k] + (place - under) * (colors[under + 1][k] - colors[under][k])),
    );
  }

  function under(event) {
    const box = image.getBoundingClientRect();
    const [view, order] = shown();
    const count = order.length;
    const across = Math.floor(((event.clientX - box.left) / box.width) * count);
    const up = count - 1 - Math.floor(((event.clientY - box.top) / box.height) * count);
    const inside = [across, up].every((place) => place >= 0 && place < count);
    if (!inside) return say("", null);
    const value = view.values[order[up]][order[across]];
    const names = `${data.names[order[up]]} ${data.joined} ${data.names[order[across]]}`;
    say(value === null ? names : `${names}, ${view.unit}: ${value}`, event);
  }

  all("select", figure).forEach((select) => select.addEventListener("change", draw));
  image.addEventListener("pointermove", under);
  image.addEventListener("pointerdown", under);
  image.addEventListener("pointerleave", () => say("", null));
}

all("figure.heatmap").forEach(heatmap);
