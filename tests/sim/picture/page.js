
const drawing = document.getElementById("drawing");
const picture = document.getElementById("run");
const width = picture.width.baseVal.value;
const items = [...picture.querySelectorAll(".item")].map((item) => ({
  item,
  words: (item.textContent + " " + item.dataset.nodes + " " +
    (item.querySelector("rect") || item).getAttribute("class")).toLowerCase(),
}));

// All words of the filter must be there; a word that names a node is the whole of a name.
function filter(text) {
  const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const { item, words } of items) {
    const has = (word) => /^n\d+$/.test(word)
      ? words.split(/[\s,;:()]+/).includes(word)
      : words.includes(word);
    item.classList.toggle("dim", !wanted.every(has));
  }
}

function place_labels() {
  for (const label of picture.querySelectorAll(".label")) {
    label.setAttribute("x", drawing.scrollLeft + 4);
  }
}

function zoom(times) {
  const middle = (drawing.scrollLeft + drawing.clientWidth / 2) / picture.clientWidth;
  picture.setAttribute("width", width * times);
  drawing.scrollLeft = middle * width * times - drawing.clientWidth / 2;
  place_labels();
}

function seen(by, about, at) {
  const spans = run.views[by + " " + about] || [];
  const span = spans.find(([from, until]) => from <= at && at <= until);
  return span ? span[2] : "unknown";
}

function show_matrix(at) {
  const ids = [...Array(run.nodes).keys()];
  const cell = (by, about) => by === about
    ? "<td></td>"
    : `<td class="${seen(by, about, at)}" title="n${by} sees n${about}: ${seen(by, about, at)}"></td>`;
  const head = "<tr><th></th>" + ids.map((id) => `<th>n${id}</th>`).join("") + "</tr>";
  const rows = ids.map((by) => `<tr><th>n${by}</th>${ids.map((about) => cell(by, about)).join("")}</tr>`);
  document.getElementById("matrix").innerHTML =
    `<caption>rows see columns at ${at.toFixed(2)} s</caption>${head}${rows.join("")}`;
}

const cursor = document.createElement("div");
cursor.id = "cursor";
drawing.append(cursor);
drawing.addEventListener("mousemove", (event) => {
  const x = event.clientX - picture.getBoundingClientRect().left;
  const share = (x / picture.clientWidth - run.left) / (1 - run.left);
  cursor.style.left = x + "px";
  show_matrix(Math.min(Math.max(share, 0), 1) * run.end);
});
drawing.addEventListener("scroll", place_labels);
document.getElementById("filter").addEventListener("input", (event) => filter(event.target.value));
document.getElementById("zoom").addEventListener("input", (event) => zoom(Number(event.target.value)));
for (const box of document.querySelectorAll("[data-layer]")) {
  box.addEventListener("change", () => {
    if (box.dataset.layer === "matrix") {
      document.getElementById("side").hidden = !box.checked;
    } else {
      document.body.classList.toggle("hide-" + box.dataset.layer, !box.checked);
    }
  });
}
show_matrix(run.heal);
