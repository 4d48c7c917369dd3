const compareText = new Intl.Collator("en", { numeric: true }).compare;

for (const table of document.querySelectorAll("[data-sortable]")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => head.querySelector("button").addEventListener("click", () => {
    const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const compare = head.hasAttribute("data-numeric") ? (a, b) => a - b : compareText;
    const key = (row) => row.cells[index].dataset.value;
    const rows = [...body.rows].sort((one, other) => {
      const [a, b] = [key(one), key(other)];
      // Missing values come last in both sort directions.
      if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
      return sign * compare(a, b);
    });
    body.append(...rows);
  }));
}

const searches = [...document.querySelectorAll("[data-filter]")];
const markedOnly = document.querySelector("[data-marked-only]");
const groups = {
  tile: { all: [...document.querySelectorAll(".tile")], name: "picture" },
  row: { all: [...document.querySelectorAll("[data-sortable] tbody tr")], name: "row" },
};
const select = () => {
  const wanted = searches[0].value.trim().toLowerCase();
  for (const [kind, { all, name }] of Object.entries(groups)) {
    for (const element of all) {
      const named = element.dataset.label.toLowerCase().includes(wanted);
      const marked = kind === "tile" || !markedOnly?.checked || "marked" in element.dataset;
      element.hidden = !(named && marked);
    }
    const output = document.querySelector(`[data-count=${kind}]`);
    const shown = all.filter((element) => !element.hidden).length;
    const noun = all.length === 1 ? name : `${name}s`;
    if (output) output.textContent = shown === all.length ? `${shown} ${noun}` : `${shown} of ${all.length} ${noun}`;
  }
};
for (const search of searches) {
  search.addEventListener("input", () => {
    searches.forEach((other) => { other.value = search.value; });
    select();
  });
}
markedOnly?.addEventListener("change", select);
select();

for (const button of document.querySelectorAll("[data-toggle]")) {
  button.addEventListener("click", () => {
    const on = document.getElementById("tiles").classList.toggle(button.dataset.toggle);
    button.setAttribute("aria-pressed", String(on));
  });
}
for (const picture of document.querySelectorAll("button.picture[aria-pressed]")) {
  picture.addEventListener("click", () => {
    picture.setAttribute("aria-pressed", String(picture.getAttribute("aria-pressed") !== "true"));
  });
}
