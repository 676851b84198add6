
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  button.hidden = false;
  button.addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
  };
  const compare = (a, b) => {
    // Cells without a figure ("–") stay last, whichever way it sorts.
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === "number") return -Infinity;
    if (typeof b === "number") return Infinity;
    return a.localeCompare(b);
  };
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const title = head.querySelector("span");
      const sort = document.createElement("button");
      sort.type = "button";
      sort.textContent = title.textContent;
      title.replaceWith(sort);
      head.setAttribute("aria-sort", "none");
      sort.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        [...body.rows]
          .sort((a, b) => {
            const order = compare(valueOf(a, column), valueOf(b, column));
            return down && Number.isFinite(order) ? -order : order;
          })
          .forEach((row) => body.append(row));
      });
    });
  }
})();
