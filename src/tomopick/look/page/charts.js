/* Small charts in SVG. A chart is a frame with scales and a list of marks. */
function svg(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
function ticks(low, high, most = 5) {
  const span = high - low || 1, power = 10 ** Math.floor(Math.log10(span / most));
  const step = power * [1, 2, 5, 10].find(k => span / (power * k) <= most);
  const out = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-6; v += step) out.push(Math.abs(v) < step / 1e6 ? 0 : v);
  return out;
}
const short = v => Math.abs(v) >= 1e4 || (v !== 0 && Math.abs(v) < 1e-3) ? v.toExponential(0) : String(+v.toPrecision(4));

/** marks: {bars: [[x0, x1, y0, y1, class]]}, {line: [[x, y]], class}, {dots: [[x, y, r]], class}, {rule: x}. */
function chart(title, x, y, marks, note) {
  const W = 360, H = 220, L = 46, R = 16, T = 8, B = 38;
  const px = v => L + (v - x.low) / (x.high - x.low || 1) * (W - L - R), py = v => H - B - (v - y.low) / (y.high - y.low || 1) * (H - T - B);
  const root = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title });
  for (const v of ticks(y.low, y.high, 4)) { root.append(svg("path", { class: "axis", d: `M${L} ${py(v)}H${W - R}` }), svg("text", { x: L - 6, y: py(v) + 4, "text-anchor": "end" }, short(v))); }
  for (const v of ticks(x.low, x.high, 6)) root.append(svg("text", { x: px(v), y: H - B + 16, "text-anchor": "middle" }, short(v)));
  root.append(svg("text", { x: (L + W - R) / 2, y: H - 5, "text-anchor": "middle" }, x.label), svg("text", { x: 11, y: (T + H - B) / 2, "text-anchor": "middle", transform: `rotate(-90 11 ${(T + H - B) / 2})` }, y.label));
  for (const mark of marks) {
    for (const [x0, x1, y0, y1, kind] of mark.bars || []) if (y1 > y0) root.append(svg("rect", { class: kind, x: px(x0) + .5, width: Math.max(px(x1) - px(x0) - 1, .6), y: py(y1), height: Math.max(py(y0) - py(y1), 0) }));
    if (mark.line && mark.line.length) root.append(svg("path", { class: mark.class || "line", d: "M" + mark.line.map(([a, b]) => `${px(a).toFixed(1)} ${py(b).toFixed(1)}`).join("L") }));
    for (const [a, b, r] of mark.dots || []) root.append(svg("circle", { class: mark.class || "dot", cx: px(a), cy: py(b), r: r || 5 }));
    if (mark.rule !== undefined && mark.rule >= x.low && mark.rule <= x.high) root.append(svg("path", { class: "rule", d: `M${px(mark.rule)} ${T}V${H - B}` }));
  }
  const figure = element("figure", { class: "chart" }, element("h3", {}, title), root);
  if (note) figure.append(typeof note === "string" ? element("p", { class: "quiet" }, note) : note);
  return figure;
}
function histogram(values, low, high, bins) {
  const counts = new Array(bins).fill(0);
  for (const v of values) if (v >= low && v <= high) counts[Math.min(bins - 1, Math.floor((v - low) / (high - low || 1) * bins))]++;
  return counts;
}
function scoreRange(o) {
  let low = 0, high = 1;
  for (const run of D.runs) { const s = run.objects[o].scores; if (s.length) { low = Math.min(low, s[s.length - 1]); high = Math.max(high, s[0]); } }
  return [low, high];
}
function scoreChart(o) {
  const [low, high] = scoreRange(o), bins = 40, width = (high - low) / bins;
  let right, wrong;
  if (LABELLED.length) {
    const { rows } = pool(o);
    right = histogram(rows.filter(r => r[1]).map(r => r[0]), low, high, bins);
    wrong = histogram(rows.filter(r => !r[1]).map(r => r[0]), low, high, bins);
  } else { right = new Array(bins).fill(0); wrong = histogram(D.runs.flatMap(r => [...r.objects[o].scores]), low, high, bins); }
  // Square roots, so that a tail of a few hits shows beside thousands of false candidates.
  const top = Math.sqrt(Math.max(1, ...right.map((n, i) => n + wrong[i])));
  const bars = [];
  for (let i = 0; i < bins; i++) {
    const a = low + i * width, cutoff = Math.sqrt(right[i]);
    bars.push([a, a + width, 0, cutoff, "hit"], [a, a + width, cutoff, Math.sqrt(right[i] + wrong[i]), LABELLED.length ? "false" : "plain"]);
  }
  const note = element("p", { class: "quiet" });
  if (LABELLED.length) note.append(element("span", { class: "key", style: "background:var(--hit)" }), "hits", element("span", { class: "key", style: "background:var(--false)" }), "false · ");
  note.append("heights go with the square root");
  return chart("Scores", { low, high, label: "score" }, { low: 0, high: top, label: "√ picks" }, [{ bars }, { rule: state.cuts[o] }], note);
}
function curveChart(o) {
  const { points, truths, ap } = pool(o), c = total(LABELLED, o);
  const line = thin(points.map(p => [p.r, p.p])), note = truths ? `average precision ${three(ap)} · here precision ${three(ratio(c.tp, c.n))}, recall ${three(ratio(c.tp, c.truths))}` : "no true particles of this object";
  const f = [.2, .4, .6, .8].map(v => ({ class: "faint", line: Array.from({ length: 40 }, (_, i) => { const r = v / 2 + .001 + i / 39 * (1 - v / 2 - .001); return [r, v * r / (2 * r - v)]; }).filter(p => p[1] <= 1 && p[1] > 0) }));
  return chart("Precision and recall", { low: 0, high: 1, label: "recall" }, { low: 0, high: 1, label: "precision" }, [...f, { line }, { dots: c.n ? [[ratio(c.tp, c.truths), ratio(c.tp, c.n), 6]] : [] }], note + " · dotted: F1 of 0.2 … 0.8");
}
function thin(points, most = 600) {
  const step = Math.max(1, Math.ceil(points.length / most));
  return points.filter((_, i) => i % step === 0 || i === points.length - 1);
}
function reliabilityChart(o) {
  const bins = Array.from({ length: 10 }, () => [0, 0, 0]), { rows } = pool(o);
  for (const [s, right] of rows) { const b = bins[Math.max(0, Math.min(9, Math.floor(s * 10)))]; b[0]++; b[1] += s; b[2] += right; }
  const used = bins.filter(b => b[0]), most = Math.max(1, ...used.map(b => b[0]));
  const error = used.reduce((sum, b) => sum + Math.abs(b[2] - b[1]), 0) / rows.length;
  const dots = used.map(b => [Math.min(1, b[1] / b[0]), b[2] / b[0], 3 + 6 * Math.sqrt(b[0] / most)]);
  return chart("Can the scores be believed?", { low: 0, high: 1, label: "score" }, { low: 0, high: 1, label: "fraction right" }, [{ class: "faint", line: [[0, 0], [1, 1]] }, { line: dots.map(d => d.slice(0, 2)) }, { dots, class: "spot" }], rows.length ? `expected calibration error (ECE) ${three(error)} over all candidates · on the diagonal a score of 0.8 is right four times in five` : "no picks of this object where there is truth, so there is no error to measure");
}
function quantile(sorted, q) { const at = q * (sorted.length - 1), k = Math.floor(at); return sorted.length ? sorted[k] + (at - k) * ((sorted[k + 1] ?? sorted[k]) - sorted[k]) : NaN; }
function errorChart(o) {
  const lengths = [], mean = [0, 0, 0];
  for (const run of LABELLED) {
    const h = run.objects[o].hits[state.radius], n = countRun(run, o).tp;
    for (let i = 0; i < n; i++) { const [z, y, x] = h.moved.subarray(3 * i, 3 * i + 3); lengths.push(Math.hypot(z, y, x)); mean[0] += z; mean[1] += y; mean[2] += x; }
  }
  lengths.sort((a, b) => a - b);
  const high = D.objects[o].radius * D.radii[state.radius], counts = histogram(lengths, 0, high, 24), width = high / 24;
  const note = lengths.length ? `median ${quantile(lengths, .5).toFixed(1)} Å, 95 % within ${quantile(lengths, .95).toFixed(1)} Å · mean shift z ${(mean[0] / lengths.length).toFixed(1)}, y ${(mean[1] / lengths.length).toFixed(1)}, x ${(mean[2] / lengths.length).toFixed(1)} Å` : "no hits";
  return chart("Distance of hits from the truth", { low: 0, high, label: "distance [Å]" }, { low: 0, high: Math.max(1, ...counts), label: "hits" }, [{ bars: counts.map((n, i) => [i * width, (i + 1) * width, 0, n, "plain"]) }], note);
}
/** Distance of each kept pick to the nearest other one, by a window that slides along x. */
function nearest(at, n) {
  const order = Array.from({ length: n }, (_, i) => i).sort((a, b) => at[3 * a + 2] - at[3 * b + 2]), out = new Float64Array(n).fill(Infinity);
  for (let i = 0; i < n; i++) for (let j = i + 1; j < n; j++) {
    const a = 3 * order[i], b = 3 * order[j], x = at[b + 2] - at[a + 2];
    if (x > out[order[i]] && x > 4000) break;
    const d = Math.hypot(x, at[b + 1] - at[a + 1], at[b] - at[a]);
    if (d < out[order[i]]) out[order[i]] = d;
    if (d < out[order[j]]) out[order[j]] = d;
  }
  return out;
}
function neighbourChart(o) {
  const r = D.objects[o].radius, high = 8 * r, all = [];
  for (const run of EMBEDDED) { const n = countRun(run, o).n; if (n > 1 && n <= 4000) all.push(...nearest(run.objects[o].at, n)); }
  const counts = histogram(all.map(d => Math.min(d, high)), 0, high, 32), width = high / 32, close = all.filter(d => d < r).length;
  return chart("Nearest neighbours", { low: 0, high, label: "distance to the next of its kind [Å]" }, { low: 0, high: Math.max(1, ...counts), label: "kept picks" }, [{ bars: counts.map((n, i) => [i * width, (i + 1) * width, 0, n, "plain"]) }, { rule: 2 * r }], `${close} closer than one radius (duplicates?) · dashed: two radii, where spheres touch · the last bar holds all beyond`);
}
function trainingChart() {
  const loss = D.log.filter(r => r.loss !== null).map(r => [r.step, r.loss]), val = D.log.filter(r => r.val_score !== null && r.val_score !== undefined).map(r => [r.step, r.val_score]);
  const charts = [];
  if (loss.length) { const v = thin(loss, 400).map(([s, l]) => [s, Math.log10(Math.max(l, 1e-12))]), ys = v.map(p => p[1]); charts.push(chart("Training loss", { low: 0, high: loss[loss.length - 1][0], label: "step" }, { low: Math.min(...ys), high: Math.max(...ys), label: "log₁₀ loss" }, [{ line: v }])); }
  if (val.length) charts.push(chart("Validation, mean of the best F1", { low: 0, high: val[val.length - 1][0], label: "step" }, { low: 0, high: 1, label: "F1" }, [{ line: val }, { dots: val.map(p => [...p, 3]), class: "spot" }]));
  return charts;
}
