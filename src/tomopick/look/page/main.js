/* The page: builds the tables once, then follows the sliders. */
const rows = [], runRows = [];
const ring = color => element("span", { class: "ring", style: `border-color:${color}` });
const labelled = LABELLED.length > 0;
const COLUMNS = labelled ? ["picks", "truths", "hits", "precision", "recall", "F1", "F4", "AP"] : ["picks"];

function cells(c, ap) {
  if (!labelled) return [c.n];
  if (!c.truths) return [c.n, 0, ...Array(COLUMNS.length - 2).fill("–")];
  return [c.n, c.truths, c.tp, three(ratio(c.tp, c.n)), three(ratio(c.tp, c.truths)), three(fbeta(c.tp, c.n, c.truths, 1)), three(nearF(c.near, c.n, c.truths)), three(ap)];
}
function objectRow(o, k) {
  const [low, high] = scoreRange(k), all = D.runs.flatMap(r => [...r.objects[k].scores]);
  const idle = o.unknown ? "not known to this model" : !all.length ? "no picks" : all.every(s => s === all[0]) ? "all scores are equal" : "";
  const slider = element("input", { type: "range", min: low, max: high, step: "any", "data-object": o.name, "aria-label": `threshold of ${o.name}`, on: { input: e => setCut(k, Number(e.target.value)) } });
  const number = element("input", { type: "number", step: "0.01", "aria-label": `threshold of ${o.name}, as a number`, on: { change: e => e.target.value !== "" && setCut(k, Number(e.target.value)) } });
  slider.addEventListener("keydown", e => { const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[e.key]; if (step) { e.preventDefault(); setCut(k, Math.max(low, Math.min(high, state.cuts[k] + step * (high - low) / 200))); } });
  const bins = histogram(all, low, high, 60), top = Math.sqrt(Math.max(1, ...bins)), spark = svg("svg", { viewBox: "0 0 240 26", preserveAspectRatio: "none", "aria-hidden": "true" });
  bins.forEach((n, i) => n && spark.append(svg("rect", { class: "plain", opacity: .45, x: 6 + i * 3.8, width: 3.2, y: 26 - 24 * Math.sqrt(n) / top, height: 24 * Math.sqrt(n) / top })));
  const name = element("button", { class: "link", type: "button", on: { click: () => choose(k) } }, ring(o.color), o.name);
  const numbers = COLUMNS.map(label => element("td", { "data-label": label }));
  const row = element("tr", { "data-object": o.name }, element("th", { scope: "row" }, name), element("td", { class: "slide" }, ...(idle ? [element("span", { class: "quiet" }, idle)] : [spark, slider])), element("td", { class: "cut" }, ...(idle ? [] : [number])), ...numbers);
  rows.push({ row, slider, number, numbers });
  return row;
}
function setCut(k, value) { state.cuts[k] = value; refresh(); }
function choose(k) { state.object = k; refresh(); }

let later = 0;
function refresh() {
  const counts = D.objects.map((_, k) => total(labelled ? LABELLED : D.runs, k));
  rows.forEach(({ row, slider, number, numbers }, k) => {
    slider.value = state.cuts[k];
    if (document.activeElement !== number) number.value = +state.cuts[k].toFixed(4);
    cells(counts[k], labelled ? pool(k).ap : null).forEach((text, i) => { numbers[i].textContent = text; });
    row.classList.toggle("chosen", k === state.object);
  });
  runRows.forEach(({ row, numbers, run }) => {
    const sum = { n: 0, tp: 0, truths: 0 }, each = [];
    D.objects.forEach((_, k) => {
      const c = countRun(run, k), scored = run.labelled && SCORED[k];
      if (scored || !run.labelled) for (const key in sum) sum[key] += c[key];
      if (c.truths > 0) each.push(fbeta(c.tp, c.n, c.truths, 1));
      numbers[k].textContent = scored ? `${c.tp} / ${c.truths}` + (c.n > c.tp ? ` +${c.n - c.tp}` : "") : c.n;
    });
    const f = run.labelled ? [sum.n, sum.truths, share(sum.tp, sum.n), share(sum.tp, sum.truths), share(each.reduce((a, b) => a + b, 0), each.length)] : [sum.n, "–", "–", "–", "–"];
    f.slice(0, labelled ? 5 : 1).forEach((text, i) => { numbers[D.objects.length + i].textContent = text; });
    row.classList.toggle("chosen", D.runs[state.run] === run);
  });
  summary(counts);
  [...byId("tabs").children].forEach((tab, k) => { tab.setAttribute("aria-selected", k === state.object); tab.tabIndex = k === state.object ? 0 : -1; });
  drawSections();
  cancelAnimationFrame(later);
  later = requestAnimationFrame(() => { drawCharts(); drawGalleries(); });
}
function summary(counts) {
  const figures = [], kept = D.objects.reduce((n, _, k) => n + total(D.runs, k).n, 0), add = (id, value, text, small) => figures.push(element("div", { class: "figure", id }, element("b", {}, value), element("span", {}, text), ...(small ? [element("small", {}, small)] : [])));
  if (labelled) {
    const s = scoresOf(counts), span = intervals(), words = v => v ? `95 % interval ${three(v[0])} to ${three(v[1])}` : span ? "no interval" : "one run: no interval";
    if (s.czii !== null) add("czii", s.czii.toFixed(4), "CZII score (F4, within half a radius)", words(span && span.czii));
    if (s.f1 !== null) add("f1", s.f1.toFixed(4), `mean F1, one to one, within ${D.radii[state.radius]} radii`, words(span && span.f1));
    add("truths", counts.reduce((n, c) => n + c.truths, 0), "true particles");
  }
  add("kept", kept, "picks kept", `of ${D.runs.reduce((n, r) => n + r.objects.reduce((m, o) => m + o.scores.length, 0), 0)} candidates`);
  byId("summary").replaceChildren(...figures);
}
/** The charts of the chosen object; those that would be empty are named in one line. */
function drawCharts() {
  const o = state.object, any = D.runs.some(r => r.objects[o].scores.length), charts = [["scores", any, scoreChart]];
  if (labelled) charts.push(["precision and recall", pool(o).rows.length && pool(o).truths, curveChart],
    ["distance of hits", LABELLED.some(r => r.objects[o].hits[state.radius].rank.length), errorChart], ["reliability", pool(o).rows.length, reliabilityChart]);
  if (EMBEDDED.length) charts.push(["nearest neighbours", EMBEDDED.some(r => r.objects[o].scores.length > 1), neighbourChart]);
  const idle = charts.filter(c => !c[1]).map(c => c[0]);
  byId("charts").replaceChildren(...charts.filter(c => c[1]).map(c => c[2](o)));
  byId("folded").textContent = idle.length ? `${D.objects[o].name}: nothing to draw for ${idle.join(", ")}, for there are no ${any ? "hits or true particles" : "picks"} of it here` : "";
}
function averages() {
  const box = byId("averages"), known = Object.entries(D.averages || {});
  byId("averages-part").hidden = !known.length;
  for (const [name, sides] of known) {
    const o = D.objects.find(x => x.name === name), part = element("div", {}, element("h3", {}, ring(o.color), name));
    for (const [side, { n, half, sections }] of Object.entries(sides)) {
      const line = element("div", { class: "average" }, element("div", {}, element("b", {}, side), element("br"), `n = ${n}`, element("br"), `${(2 * half / 10).toFixed(0)} nm wide`));
      for (const [plane, png] of Object.entries(sections)) line.append(element("figure", {}, element("img", { src: "data:image/png;base64," + png, alt: `average of ${name}, ${side}, ${plane}` }), plane));
      part.append(line);
    }
    box.append(part);
  }
}
function confusionTable() {
  const c = D.confusion;
  byId("confusion-part").hidden = !c;
  if (!c) return;
  const table = byId("confusion");
  table.append(element("thead", {}, element("tr", {}, ...["true ↓ · picked as →", ...c.names, "nobody"].map(t => element("th", { scope: "col" }, t)))));
  const body = element("tbody");
  c.counts.forEach((row, i) => body.append(element("tr", {}, element("th", { scope: "row" }, c.names[i] || "nothing there"), ...row.map((n, j) => element("td", { class: i === j && i < c.names.length ? "same" : "" }, i === c.names.length && j === i ? "" : String(n))))));
  table.append(body);
}
/** The little Markdown a model's card is written in: headings, lists, tables, code. */
function markdown(text) {
  const box = element("div"), lines = text.split("\n");
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i];
    if (line.startsWith("```")) { const code = []; while (++i < lines.length && !lines[i].startsWith("```")) code.push(lines[i]); box.append(element("pre", {}, code.join("\n"))); }
    else if (line.startsWith("|")) {
      const table = element("table"), split = t => t.split("|").slice(1, -1).map(c => c.trim());
      table.append(element("tr", {}, ...split(line).map(c => element("th", {}, c))));
      for (i++; i + 1 < lines.length && lines[i + 1].startsWith("|");) table.append(element("tr", {}, ...split(lines[++i]).map(c => element("td", {}, c))));
      box.append(element("div", { class: "scroll" }, table));
    } else if (/^#+ /.test(line)) box.append(element("h3", {}, line.replace(/^#+ /, "")));
    else if (line.startsWith("- ")) { const list = element("ul"); for (; i < lines.length && lines[i].startsWith("- "); i++) list.append(element("li", {}, lines[i].slice(2))); i--; box.append(list); }
    else if (line.trim()) box.append(element("p", {}, line));
  }
  return box;
}
function legend() {
  const box = byId("legend"), toggle = (checked, change, ...inside) => { const input = element("input", { type: "checkbox", on: { change: e => { change(e.target.checked); drawSections(); } } }); input.checked = checked; return element("label", {}, input, " ", ...inside); };
  D.objects.forEach((o, k) => box.append(toggle(true, v => { state.shown[k] = v; }, ring(o.color), o.name)));
  if (labelled) for (const [kind, key, text] of [["hit", "hits", "hits"], ["false", "falses", "false"], ["miss", "misses", "missed"]]) {
    const mark = svg("svg", { width: 20, height: 20 });
    mark.append(svg("circle", { cx: 10, cy: 10, r: 7.5, fill: "none", stroke: `var(--${kind})`, "stroke-width": 2.4, "stroke-dasharray": { hit: "none", false: "6 3.4", miss: "1 3.6" }[kind], "stroke-linecap": kind === "miss" ? "round" : "butt" }));
    box.append(toggle(true, v => { state[key] = v; }, mark, text));
  }
}
function theme(dark) { document.documentElement.classList.toggle("dark", dark); }
function setRun(k) { state.run = (k + D.runs.length) % D.runs.length; byId("run").value = state.run; delete document.body.dataset.ready; openRun(); refresh(); }
function step(by) {
  const run = D.runs[state.run], o = state.object, n = countRun(run, o).n;
  if (!cursor || !n) return;
  state.pick = ((state.pick ?? (by > 0 ? -1 : 0)) + by + n) % n;
  goTo(point(run.objects[o].at, state.pick));
}
function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || /INPUT|SELECT|TEXTAREA/.test(event.target.tagName) && event.target.type !== "checkbox") return;
  const stage = event.target.id === "sections", back = event.shiftKey ? -1 : 1;
  const actions = { n: () => step(1), p: () => step(-1), o: () => { state.pick = undefined; choose((state.object + back + D.objects.length) % D.objects.length); }, r: () => setRun(state.run + back), t: () => theme(!document.documentElement.classList.contains("dark")), "?": () => byId("keys").showModal(),
    c: () => { state.paint = state.paint === "object" ? "outcome" : "object"; byId("paint").value = state.paint; drawSections(); } };
  const moves = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10 };
  const action = actions[event.key.toLowerCase()];
  if (action) { event.preventDefault(); action(); } else if (stage && moves[event.key]) { event.preventDefault(); scroll(moves[event.key]); }
}
function build() {
  const many = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`, unlabelled = D.runs.length - LABELLED.length;
  byId("about").textContent = `${many(D.runs.length, "run")}, ${labelled ? `${LABELLED.length} with truth` : "without truth: nothing is scored"}; ` + (EMBEDDED.length ? `tomograms of ${EMBEDDED.map(r => r.name).join(", ")} are in this page` : "no tomograms in this page");
  const notes = [...D.notes];
  if (labelled && unlabelled) notes.push(`${many(unlabelled, "run")} without truth: shown, but not scored (${D.runs.filter(r => !r.labelled).slice(0, 6).map(r => r.name).join(", ")}${unlabelled > 6 ? " …" : ""}).`);
  byId("notes").append(...notes.map(t => element("p", { class: "note" }, t)));
  byId("objects").append(element("thead", {}, element("tr", {}, ...["object", "score", "threshold", ...COLUMNS].map(t => element("th", { scope: "col" }, t)))), element("tbody", {}, ...D.objects.map(objectRow)));
  D.objects.forEach((o, k) => byId("tabs").append(element("button", { type: "button", role: "tab", on: { click: () => choose(k) } }, ring(o.color), o.name)));
  byId("runs").append(element("thead", {}, element("tr", {}, ...["run", ...D.objects.map(o => o.name), "picks", ...(labelled ? ["truths", "precision", "recall", "mean F1"] : [])].map(t => element("th", { scope: "col" }, t)))));
  const body = element("tbody");
  D.runs.forEach((run, k) => {
    const numbers = Array.from({ length: D.objects.length + (labelled ? 5 : 1) }, () => element("td")), name = element("button", { class: "link", type: "button", on: { click: () => setRun(k) } }, run.name + (run.volume ? " ▣" : ""));
    const row = element("tr", {}, element("td", {}, name), ...numbers);
    runRows.push({ row, numbers, run }); body.append(row);
    byId("run").append(element("option", { value: k }, run.name + (run.volume ? "" : " (not embedded)")));
  });
  byId("runs").append(body);
  byId("runs").parentElement.after(element("p", { class: "quiet" }, (labelled ? "hits / truths + false picks of each object · " : "") + (labelled && unlabelled ? "– a run without truth · " : "") + "▣ the tomogram is in this page"));
  if (labelled) byId("objects").parentElement.after(element("p", { class: "quiet", id: "words" }, "AP: average precision, the area under precision against recall over all scores · F1, F4: precision and recall as one number, both alike or recall sixteen times as much · 95 % interval: of draws of as many runs, with replacement",
    ...(D.objects.some((_, k) => pool(k).ap === null) ? [element("span", { id: "dashes" }, " · – no true particle of this object in these runs")] : [])));
  D.radii.forEach((r, k) => byId("reach").append(element("option", { value: k }, `${r} radii`)));
  const reset = element("button", { type: "button", id: "reset", on: { click: () => { state.cuts = D.objects.map(o => o.threshold); refresh(); } } }, "as opened");
  byId("cut-buttons").append(reset);
  if (labelled) for (const [metric, text] of [["f1", "best F1"], ["f4", "best F4"]]) byId("cut-buttons").append(" ", element("button", { type: "button", id: "best-" + metric, on: { click: () => { D.objects.forEach((_, k) => { state.cuts[k] = bestCut(k, metric) ?? state.cuts[k]; }); refresh(); } } }, text));
  byId("reach-label").hidden = !labelled; byId("paint").parentElement.hidden = !labelled;
  byId("viewer-part").hidden = !EMBEDDED.length;
  const charts = trainingChart();
  byId("training").append(...charts);
  if (D.card) byId("card").append(markdown(D.card));
  byId("model-part").hidden = !D.card && !charts.length;
  legend(); averages(); confusionTable();
}
function listen() {
  const canvas = byId("sections");
  byId("reach").addEventListener("change", e => { state.radius = Number(e.target.value); refresh(); });
  byId("run").addEventListener("change", e => setRun(Number(e.target.value)));
  byId("paint").addEventListener("change", e => { state.paint = e.target.value; drawSections(); });
  byId("contrast").addEventListener("input", e => { state.contrast = Number(e.target.value); drawSections(); drawGalleries(); });
  byId("z").addEventListener("input", e => { const v = D.runs[state.run].volume; if (cursor) { cursor.at[0] = v.origin[0] + Number(e.target.value) * v.step[0]; drawSections(); } });
  byId("theme").addEventListener("click", () => theme(!document.documentElement.classList.contains("dark")));
  byId("help").addEventListener("click", () => byId("keys").showModal());
  canvas.addEventListener("pointerdown", e => { canvas.focus({ preventScroll: true }); if (e.pointerType !== "touch") canvas.setPointerCapture(e.pointerId); pointAt(e); });
  canvas.addEventListener("pointermove", e => { if (e.buttons & 1) pointAt(e); });
  canvas.addEventListener("wheel", e => { if (document.activeElement === canvas) { e.preventDefault(); scroll(e.deltaY > 0 ? -1 : 1); } }, { passive: false });
  document.addEventListener("keydown", keys);
  let waiting = 0;
  window.addEventListener("resize", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(drawSections); });
}
theme(matchMedia("(prefers-color-scheme: dark)").matches);
build(); listen(); refresh(); openRun();
