"use strict";
// Draws the curves of the advice page over the cost that the reader chooses.
const charts = JSON.parse(document.getElementById("charts").textContent);
const cost = document.getElementById("cost");
function draw() {
  for (const { id, traces, layout } of charts) {
    const drawn = traces.map((trace) => ({ ...trace, x: trace.costs[cost.value] }));
    layout.xaxis.title.text = cost.selectedOptions[0].text;
    Plotly.react(id, drawn, layout, { displayModeBar: false, responsive: true });
  }
}
cost.addEventListener("change", draw);
draw();
