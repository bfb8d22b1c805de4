"""The one script of a report's page. It is the same for every report: what it shows it reads from the page's data."""

SCRIPT = """
const data = JSON.parse(document.getElementById("data").textContent);
const by = id => document.getElementById(id);
const steps = data.thresholds;
function cell(text, share, right) {
  const td = document.createElement("td");
  td.textContent = text;
  if (share !== undefined) td.style.background = `rgba(${right ? "47,111,208" : "194,87,26"},${(0.75 * share).toFixed(2)})`;
  return td;
}
function live() {
  const place = Number(by("at").value), tp = steps.tp[place], fp = steps.fp[place];
  const fn = steps.positives - tp, tn = steps.rows - steps.positives - fp;
  const cost = (Number(by("fp").value) * fp + Number(by("fn").value) * fn) / steps.rows;
  by("shown").textContent = steps.at[place].toFixed(2);
  const table = by("live");
  table.replaceChildren();
  for (const [name, yes, no, right] of [["", "said", "not said", null], ["is one", tp, fn, 0], ["is none", fp, tn, 1]]) {
    const row = table.insertRow(), total = right === null ? 0 : Math.max(1, yes + no);
    const head = document.createElement("th");
    head.textContent = name;
    row.append(head);
    for (const [at, value] of [yes, no].entries())
      row.append(right === null ? Object.assign(document.createElement("th"), {textContent: value})
                                : cell(value.toLocaleString("en"), value / total, at === right));
  }
  const share = (part, whole) => whole ? (part / whole).toFixed(3) : "none";
  by("told").textContent = `precision ${share(tp, tp + fp)}, recall ${share(tp, tp + fn)}, ` +
    `false alarms ${share(fp, fp + tn)} of the others, cost ${cost.toPrecision(4)} a row`;
}
if (steps) {
  for (const id of ["at", "fp", "fn"]) by(id).addEventListener("input", live);
  live();
}
for (const table of document.querySelectorAll("table.sorts")) {
  for (const [at, head] of [...table.tHead.rows[0].cells].entries()) {
    let up = false;
    head.addEventListener("click", () => {
      up = !up;
      const key = row => row.cells[at].dataset.v === undefined ? row.cells[at].textContent : Number(row.cells[at].dataset.v);
      const rows = [...table.tBodies[0].rows].sort((a, b) => (key(a) > key(b) ? 1 : key(a) < key(b) ? -1 : 0) * (up ? 1 : -1));
      table.tBodies[0].append(...rows);
    });
  }
}
"""
