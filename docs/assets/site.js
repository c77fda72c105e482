// The theme's search is a dialog without a name, and tables and code that scroll cannot be reached by keyboard.
addEventListener("load", () => {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
});

// Cells of wide tables know their column: a narrow screen shows a row as a list (site.css).
for (const table of document.querySelectorAll(".md-typeset table:not([class])")) {
  const labels = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent);
  if (labels.length < 4) continue;
  table.dataset.wide = "";
  for (const row of table.querySelectorAll("tbody tr")) {
    for (const [column, cell] of [...row.cells].entries()) {
      if (column > 0 && labels[column] && cell.textContent) cell.dataset.column = `${labels[column]}: `;
    }
  }
}
