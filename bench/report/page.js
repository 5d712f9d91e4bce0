"use strict";
// Tables sort by their headings. The table of a task also filters, searches, chooses columns and
// compares rows. Its state is in the address after #, so that a link shows the same view.

const value = (cell) => {
  if ("sort" in cell.dataset) return Number(cell.dataset.sort);
  const text = cell.textContent.trim();
  if (text === "" || text === "–" || text === "n/a") return null;
  const number = Number(text.replaceAll(",", ""));
  return Number.isNaN(number) ? text : number;
};

// Numbers sort as numbers; what is n/a stays last in either direction.
const sort = (table, column, direction) => {
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => [value(row.cells[column]), row]);
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "number" && typeof b === "number") return direction * (a - b);
    return direction * String(a).localeCompare(String(b), "en", { numeric: true });
  });
  [...table.tHead.rows[0].cells].forEach((heading, place) => {
    if (place === column) heading.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    else heading.removeAttribute("aria-sort");
  });
  body.append(...keyed.map(([, row]) => row));
};

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    heading.querySelector("button")?.addEventListener("click", () => {
      const direction = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      sort(table, column, direction);
      table.dispatchEvent(new CustomEvent("sorted", { detail: { column, direction } }));
    });
  });
}

const setUp = (board) => {
  const name = board.dataset.table;
  const table = board.querySelector("table");
  const rows = [...table.tBodies[0].rows]; // in the order of the leaderboard
  const find = (selector) => [...board.querySelectorAll(selector)];
  const control = (what) => board.querySelector(`[data-control="${what}"]`);
  const selects = find("select[data-first]");
  const boxes = find("input[data-column]");
  const sorter = control("sort");
  const first = boxes.filter((box) => box.checked).map((box) => box.dataset.column).join(" ");
  const state = {};

  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const text = heading.querySelector("button")?.textContent;
    if (text) sorter.append(new Option(text, column));
  });

  const show = () => {
    const words = (state.search ?? "").toLowerCase();
    let visible = 0;
    for (const row of rows) {
      const fits = selects.every((s) => !s.value || row.dataset[s.dataset.control] === s.value);
      row.hidden = !(fits && row.cells[0].textContent.toLowerCase().includes(words));
      visible += !row.hidden;
    }
    for (const select of selects) { // a column with one value says nothing
      for (const cell of find(`[data-setting="${select.dataset.control}"]`)) cell.hidden = select.value !== "";
    }
    const chosen = new Set((state.columns ?? first).split(" "));
    for (const box of boxes) box.checked = chosen.has(box.dataset.column);
    for (const cell of find("th[data-column], td[data-column]")) cell.hidden = !chosen.has(cell.dataset.column);
    if (state.sort) {
      const [column, direction] = state.sort.split(" ").map(Number);
      if (table.tHead.rows[0].cells[column]) sort(table, column, direction < 0 ? -1 : 1);
      sorter.value = column;
    } else {
      table.tBodies[0].append(...rows);
      for (const heading of table.tHead.rows[0].cells) heading.removeAttribute("aria-sort");
      sorter.value = "";
    }
    const compared = compare();
    board.querySelector("[data-status]").textContent = `${visible} of ${rows.length} rows. ${compared}`;
    const text = new URLSearchParams(Object.entries(state).filter(([, v]) => v !== undefined)
      .map(([key, v]) => [`${name}.${key}`, v])).toString();
    board.querySelector(".permanent").href = `#${text || board.id}`;
  };

  // Marks follow the simultaneous comparisons of the leaderboard, which are made beforehand.
  const compare = () => {
    const own = rows.find((row) => row.dataset.name === state.compare);
    for (const row of rows) {
      row.classList.toggle("chosen", row === own);
      row.querySelector(".compare")?.setAttribute("aria-pressed", String(row === own));
      for (const cell of row.querySelectorAll("[data-ranking]")) {
        const key = `better${cell.dataset.ranking[0].toUpperCase()}${cell.dataset.ranking.slice(1)}`;
        const has = (a, b) => (a.dataset[key] ?? "").split(" ").includes(b.dataset.name);
        const sign = !own || row === own ? "" : has(row, own) ? "better" : has(own, row) ? "worse" : "";
        cell.classList.remove("better", "worse");
        cell.querySelector(".mark")?.remove();
        if (!sign) continue;
        cell.classList.add(sign);
        const mark = document.createElement("span");
        mark.className = "mark";
        mark.textContent = ` ${sign === "better" ? "▲" : "▼"} ${sign}`;
        cell.append(mark);
      }
    }
    if (!own) return "";
    return `Compared with ${own.cells[0].textContent.trim()}: ▲ significantly better, ▼ significantly worse, ` +
      "in columns of the two ranks and what they rank; no mark, no difference shown.";
  };

  const remember = () => {
    show();
    history.replaceState(null, "", board.querySelector(".permanent").href);
  };
  for (const select of selects) {
    select.addEventListener("change", () => { state[select.dataset.control] = select.value; remember(); });
  }
  control("search").addEventListener("input", (event) => { state.search = event.target.value || undefined; remember(); });
  sorter.addEventListener("change", () => { state.sort = sorter.value ? `${sorter.value} 1` : undefined; remember(); });
  table.addEventListener("sorted", ({ detail }) => { state.sort = `${detail.column} ${detail.direction}`; remember(); });
  for (const box of boxes) {
    box.addEventListener("change", () => {
      state.columns = boxes.filter((b) => b.checked).map((b) => b.dataset.column).join(" ");
      remember();
    });
  }
  for (const button of find(".compare")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const row = button.closest("tr").dataset.name;
      state.compare = state.compare === row ? undefined : row;
      remember();
    });
  }
  for (const link of find("a.what")) {
    link.addEventListener("click", () => { board.querySelector(".chooser").open = true; });
  }
  board.querySelector(".controls").hidden = false;

  const read = () => {
    const given = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
    for (const key of Object.keys(state)) delete state[key];
    for (const [key, text] of given) {
      if (key.startsWith(`${name}.`)) state[key.slice(name.length + 1)] = text;
    }
    for (const select of selects) {
      const wanted = state[select.dataset.control] ?? select.dataset.first;
      select.value = [...select.options].some((o) => o.value === wanted) ? wanted : "";
    }
    control("search").value = state.search ?? "";
    show();
  };
  window.addEventListener("hashchange", () => { if (location.hash.includes("=")) read(); });
  read();
};

for (const board of document.querySelectorAll("[data-table]")) setUp(board);
