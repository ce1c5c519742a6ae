
(() => {
  "use strict";
  const tree = document.getElementById("tree");
  const nodes = [...tree.querySelectorAll("details.node")];
  const filter = document.getElementById("filter");
  const trouble = document.getElementById("trouble");
  const found = document.getElementById("found");
  const theme = document.getElementById("theme");
  for (const id of nodes.length ? ["tools", "keys", "theme"] : ["theme"]) document.getElementById(id).hidden = false;

  theme.addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  const text = new Map();
  const textOf = (node) => {
    if (!text.has(node)) {
      const inside = node.querySelector(":scope > .inside");
      text.set(node, (node.querySelector(":scope > summary").textContent + " " + node.dataset.path + " " +
        node.dataset.state + " " + (inside ? inside.textContent : "")).toLowerCase());
    }
    return text.get(node);
  };
  const apply = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const only = trouble.checked;
    const asked = words.length > 0 || only;
    let count = 0;
    // Children come after their parents: from the end on, each match shows the nodes above it.
    const shown = new Set();
    for (let index = nodes.length - 1; index >= 0; index -= 1) {
      const node = nodes[index];
      const leaf = !node.classList.contains("branch");
      const fits = leaf && (!only || node.dataset.trouble === "1") && words.every((word) => textOf(node).includes(word));
      if (fits) count += 1;
      if (fits || shown.has(node)) {
        const above = node.parentElement.closest("details.node");
        if (above) shown.add(above);
      }
      node.hidden = asked && !fits && !shown.has(node);
      if (asked && shown.has(node)) node.open = true;
    }
    found.textContent = asked ? `${count} of ${nodes.filter((node) => !node.classList.contains("branch")).length}` : "";
  };
  let timer = 0;
  filter.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(apply, 80); });
  trouble.addEventListener("change", apply);

  const setAll = (open) => { for (const node of nodes) if (!node.hidden) node.open = open; };
  document.getElementById("expand").addEventListener("click", () => setAll(true));
  document.getElementById("collapse").addEventListener("click", () => setAll(false));

  const visible = () => nodes.filter((node) => {
    if (node.hidden) return false;
    for (let above = node.parentElement.closest("details.node"); above; above = above.parentElement.closest("details.node")) {
      if (!above.open) return false;
    }
    return true;
  });
  const focus = (node) => { if (node) node.querySelector(":scope > summary").focus(); };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === filter) {
      if (event.key === "Escape") { filter.value = ""; apply(); filter.blur(); }
      if (event.key === "ArrowDown") { event.preventDefault(); focus(visible()[0]); }
      return;
    }
    if (event.key === "/") { event.preventDefault(); filter.focus(); filter.select(); return; }
    const summary = event.target.closest ? event.target.closest("#tree summary") : null;
    if (!summary) return;
    const node = summary.parentElement;
    const list = visible();
    const at = list.indexOf(node);
    const moves = { ArrowDown: list[at + 1], ArrowUp: list[at - 1], Home: list[0], End: list[list.length - 1] };
    if (event.key in moves) { event.preventDefault(); focus(moves[event.key]); }
    else if (event.key === "ArrowRight") { event.preventDefault(); if (node.open) focus(list[at + 1]); else node.open = true; }
    else if (event.key === "ArrowLeft") {
      event.preventDefault();
      if (node.open) node.open = false; else focus(node.parentElement.closest("details.node"));
    }
  });
})();
