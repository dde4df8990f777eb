// Charts, sorting, the cycle picker, and a reload of the page's content when the store has something new.
"use strict";

(() => {
  const POLL_MS = 4000;
  let per = "gpu";
  let sort = { column: 0, descending: false };

  function draw() {
    const chart = document.getElementById("chart");
    if (!chart || !window.Plotly) return;
    const figure = JSON.parse(document.getElementById("figures").textContent)[per];
    const page = document.getElementById("page");
    const options = {
      responsive: true,
      displaylogo: false,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
      toImageButtonOptions: { filename: page.querySelector(".notice") ? "SIMULATED-pareto" : "pareto", scale: 2 },
    };
    window.Plotly.react(chart, window.themed(figure.data), window.themed(figure.layout), options);
  }

  function sortTable() {
    const table = document.getElementById("trials-table");
    if (!table) return;
    const key = (row) => row.cells[sort.column].dataset.sort;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === ""); // what was not measured stays last
      const order = Number.isNaN(Number(x) + Number(y)) ? x.localeCompare(y) : Number(x) - Number(y);
      return sort.descending ? -order : order;
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
    [...table.tHead.rows[0].cells].forEach((cell, index) => {
      if (index === sort.column) cell.setAttribute("aria-sort", sort.descending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
  }

  function wire() {
    document.querySelectorAll("input[name=per]").forEach((input) => {
      input.checked = input.value === per;
      input.addEventListener("change", () => {
        per = input.value;
        draw();
      });
    });
    document.querySelectorAll(".sortable thead button").forEach((button) => {
      button.addEventListener("click", () => {
        const column = button.parentElement.cellIndex;
        sort = { column, descending: sort.column === column && !sort.descending };
        sortTable();
      });
    });
    if (sort.column !== 0 || sort.descending) sortTable();
    draw();
  }

  async function refresh() {
    const page = document.getElementById("page");
    const answer = await fetch(page.dataset.json, { cache: "no-store" });
    if (!answer.ok) return;
    const news = await answer.json();
    if (news.revision === page.dataset.revision) return;
    const html = await (await fetch(window.location.href, { cache: "no-store" })).text();
    const fresh = new DOMParser().parseFromString(html, "text/html").getElementById("page");
    if (!fresh) return;
    // The chart stays in the document and is updated in place: nothing flickers, the page does not jump.
    const chart = document.getElementById("chart");
    if (chart && fresh.querySelector("#chart")) fresh.querySelector("#chart").replaceWith(chart);
    page.replaceWith(fresh);
    wire();
  }

  async function poll() {
    const page = document.getElementById("page");
    if (!page || page.dataset.state !== "running") return;
    try {
      if (!document.hidden) await refresh();
    } catch {
      // Airflow restarts now and then; the next poll finds it again.
    }
    window.setTimeout(poll, POLL_MS);
  }

  const picker = document.getElementById("cycle-picker");
  if (picker) {
    picker.addEventListener("change", () => {
      window.location.href = `${picker.dataset.root}/cycles/${picker.value}`;
    });
  }
  document.addEventListener("themechange", draw);
  wire();
  window.setTimeout(poll, POLL_MS);
})();
