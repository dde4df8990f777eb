// Runs before the page is drawn. Airflow keeps its theme as a class on <html>; outside of Airflow the system decides.
"use strict";

(() => {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  let host = null;
  try {
    host = window.parent === window ? null : window.parent.document.documentElement;
  } catch {
    host = null; // framed by another origin
  }

  function apply() {
    const hosted = host && (host.classList.contains("dark") || host.classList.contains("light"));
    const dark = hosted ? host.classList.contains("dark") : system.matches;
    const theme = dark ? "dark" : "light";
    if (document.documentElement.dataset.theme !== theme) {
      document.documentElement.dataset.theme = theme;
      document.dispatchEvent(new Event("themechange"));
    }
  }

  apply();
  system.addEventListener("change", apply);
  if (host) {
    new MutationObserver(apply).observe(host, { attributes: true, attributeFilter: ["class"] });
  }
})();
