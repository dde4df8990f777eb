// Charts of the experts' page: those of the role that is shown, again when the theme changes.
"use strict";

(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const options = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };

  function draw() {
    for (const block of document.querySelectorAll(".role:not([hidden])")) {
      const known = figures[block.dataset.role];
      for (const place of block.querySelectorAll(".figure")) {
        const name = place.dataset.figure;
        const figure = name === "over_time" ? known.over_time[block.querySelector("select.layer").value] : known[name];
        if (!figure) continue;
        const prefix = document.querySelector(".notice") ? "SIMULATED-" : "";
        const own = { ...options, toImageButtonOptions: { filename: `${prefix}experts-${name}`, scale: 2 } };
        window.Plotly.react(place, window.themed(figure.data), window.themed(figure.layout), own);
      }
    }
  }

  document.querySelectorAll("input[name=role]").forEach((input) => {
    input.addEventListener("change", () => {
      document.querySelectorAll(".role").forEach((block) => {
        block.hidden = block.dataset.role !== input.value;
      });
      draw();
    });
  });
  document.querySelectorAll("select.layer").forEach((select) => select.addEventListener("change", draw));
  document.addEventListener("themechange", draw);
  draw();
})();
