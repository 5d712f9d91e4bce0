// Reads what a browser shows of a page of a report, uses its table, and sends what it found to the
// page around it.
const rgb = (text) => (text.match(/[\d.]+/g) ?? []).map(Number);
const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255)
  .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const background = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = rgb(getComputedStyle(at).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);

const look = () => {
  let [lowest, smallest, marks] = [[99, ""], [99, ""], [99, ""]];
  for (const element of document.querySelectorAll("body *")) {
    if (!element.checkVisibility() || element.closest("script, noscript")) continue;
    const style = getComputedStyle(element);
    const behind = luminance(background(element));
    if (element.matches(".swatch")) {
      const ratio = contrast(luminance(rgb(style.color)), behind);
      if (ratio < marks[0]) marks = [ratio, element.outerHTML.slice(0, 200)];
    }
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own) continue;
    const ratio = contrast(luminance(rgb(style.color)), behind);
    if (ratio < lowest[0]) lowest = [ratio, element.outerHTML.slice(0, 200)];
    const size = parseFloat(style.fontSize);
    if (size < smallest[0]) smallest = [size, element.outerHTML.slice(0, 200)];
  }
  return { contrast: lowest, marks, smallest };
};

const use = (board) => {
  const table = board.querySelector("table");
  const shown = () => [...table.tBodies[0].rows].filter((row) => !row.hidden);
  const names = () => shown().map((row) => row.cells[0].textContent.trim());
  const heading = (text) => [...table.tHead.rows[0].cells].find((c) => !c.hidden && c.textContent.includes(text));
  const done = { first: names() };
  const sorted = heading("rank") ?? heading("score");
  const column = sorted.cellIndex;
  const order = () => shown().map((row) => row.cells[column].dataset.sort ?? null);
  sorted.querySelector("button").click();
  done.rising = order();
  done.arrow = sorted.getAttribute("aria-sort");
  sorted.querySelector("button").click();
  done.falling = order();

  const set = (control, value, event) => {
    const input = board.querySelector(`[data-control="${control}"]`);
    input.value = value;
    input.dispatchEvent(new Event(event));
  };
  set("calls", "", "change");
  done.all = names().length;
  set("search", "lre", "input");
  done.searched = [...new Set(names())];
  set("search", "", "input");

  const hidden = board.querySelector("input[data-column]:not(:checked)");
  hidden.click();
  done.column = table.querySelector(`th[data-column="${hidden.dataset.column}"]`).checkVisibility();
  shown().find((row) => row.cells[0].textContent.includes("lre:tuned")).querySelector(".compare").click();
  done.marks = [...table.querySelectorAll(".mark")].map((mark) => mark.textContent.trim());
  done.status = board.querySelector("[role=status]").textContent;
  done.link = board.querySelector(".permanent").getAttribute("href");
  return done;
};

const found = {
  width: innerWidth,
  dark: matchMedia("(prefers-color-scheme: dark)").matches,
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  pictures: [...document.images].map((image) => [image.alt.length, image.currentSrc.split("/").pop()]),
  links: [...document.links].map((link) => link.href),
  clipped: [...document.querySelectorAll(".scroll")].filter((s) => s.scrollWidth > s.clientWidth + 1).length,
  resources: performance.getEntriesByType("resource").map((entry) => entry.name),
};
for (const details of document.querySelectorAll("details")) details.open = true;
Object.assign(found, look());
const board = document.querySelector("[data-table]");
if (board) {
  found.status = board.querySelector("[role=status]").textContent;
  found.restored = board.querySelector(".permanent").getAttribute("href");
  found.used = use(board);
}
parent.postMessage(JSON.stringify(found), "*");
