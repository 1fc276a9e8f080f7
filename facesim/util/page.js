(() => {
  const text = (cell) => cell.textContent.trim();
  const value = (cell) => (cell.dataset.value === undefined ? text(cell) : Number(cell.dataset.value));
  const order = (a, b) =>
    typeof a === typeof b ? (typeof a === "number" ? a - b : a.localeCompare(b)) : typeof a === "number" ? -1 : 1;

  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    table.querySelectorAll("thead th").forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text(heading);
      heading.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        table.querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows].sort((a, b) => order(value(a.cells[column]), value(b.cells[column])));
        body.append(...(down ? rows.reverse() : rows));
      });
    });
    if (body.rows.length > 8) {
      const input = document.createElement("input");
      input.type = "search";
      input.className = "filter";
      input.placeholder = "only rows with …";
      input.setAttribute("aria-label", "show only rows with this text");
      input.addEventListener("input", () => {
        for (const row of body.rows) row.hidden = !text(row).toLowerCase().includes(input.value.toLowerCase());
      });
      table.parentElement.before(input);
    }
  }

  // What is too wide for the window is scrolled by keyboard, too.
  const boxes = document.querySelectorAll(".scroll, .plot.wide, pre");
  const seen = new ResizeObserver(() => {
    for (const box of boxes)
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
  });
  for (const box of boxes) seen.observe(box);

  const copy = document.querySelector("button.copy");
  if (copy === null) return;
  const select = (element) => getSelection().selectAllChildren(element);
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    const markdown = document.querySelector("pre.markdown");
    try {
      await navigator.clipboard.writeText(markdown.textContent);
      copy.textContent = "copied";
    } catch {
      markdown.hidden = false;
      select(markdown);
      copy.textContent = "selected below: copy it";
    }
  });
})();
