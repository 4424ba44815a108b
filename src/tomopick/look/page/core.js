"use strict";
/* Data, state, and counting: hits above a threshold are a prefix of all hits, found by bisection. */
const D = JSON.parse(document.getElementById("data").textContent);

function bytes(text) {
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out.buffer;
}
for (const run of D.runs) for (const o of run.objects) {
  o.scores = new Float64Array(bytes(o.scores));
  if (o.at) o.at = new Float32Array(bytes(o.at));
  if (o.truth_at) o.truth_at = new Float32Array(bytes(o.truth_at));
  if (!o.hits) continue;
  o.best = new Float64Array(bytes(o.best));
  for (const h of o.hits) { h.rank = new Int32Array(bytes(h.rank)); h.truth = new Int32Array(bytes(h.truth)); h.moved = new Float32Array(bytes(h.moved)); }
}
const LABELLED = D.runs.filter(r => r.labelled);
/** Which objects have truth in any run; the others are shown and not scored. */
const SCORED = D.objects.map((_, k) => LABELLED.some(r => r.objects[k].truths > 0));
const EMBEDDED = D.runs.filter(r => r.volume);
const state = { cuts: D.objects.map(o => o.threshold), radius: 0, run: Math.max(0, D.runs.indexOf(EMBEDDED[0])), object: Math.max(0, D.objects.findIndex((_, k) => D.runs.some(r => r.objects[k].scores.length))), paint: "object", contrast: 1,
  shown: D.objects.map(() => true), hits: true, falses: true, misses: true };

/** How many entries of a descending array are >= t. */
function atLeast(values, t) {
  let low = 0, high = values.length;
  while (low < high) { const mid = (low + high) >> 1; if (values[mid] >= t) low = mid + 1; else high = mid; }
  return low;
}
/** How many entries of an ascending array are < n. */
function below(values, n) {
  let low = 0, high = values.length;
  while (low < high) { const mid = (low + high) >> 1; if (values[mid] < n) low = mid + 1; else high = mid; }
  return low;
}
function countRun(run, o, cut = state.cuts[o]) {
  const data = run.objects[o], n = atLeast(data.scores, cut);
  if (!run.labelled) return { n, tp: 0, truths: 0, near: 0 };
  return { n, tp: below(data.hits[state.radius].rank, n), truths: data.truths, near: atLeast(data.best, cut) };
}
function total(runs, o, cut) {
  const sum = { n: 0, tp: 0, truths: 0, near: 0 };
  for (const run of runs) { const c = countRun(run, o, cut); for (const k in sum) sum[k] += c[k]; }
  return sum;
}
const ratio = (a, b) => b > 0 ? a / b : 0;
const share = (a, b) => b > 0 ? three(a / b) : "–";
/** As Counts.fbeta: the same order of operations. */
function fbeta(tp, n, truths, beta) {
  const p = ratio(tp, n), r = ratio(tp, truths), square = beta * beta;
  return p + r === 0 ? 0 : (1 + square) * p * r / (square * p + r);
}
/** F4 of the challenge's hits; a pick may hit several true particles, and precision ends at 1 (Counts.bounded). */
const nearF = (near, n, truths) => fbeta(near, Math.max(n, near), truths, 4);
/** CZII score and mean F1 of [object] -> {n, tp, truths, near}; null where nothing tells. */
function scoresOf(counts) {
  let czii = 0, weights = 0, f1 = 0, objects = 0;
  D.objects.forEach((o, k) => {
    const c = counts[k];
    // A draw tells nothing of an object that its runs happen to lack.
    if (c.truths > 0 || !SCORED[k]) { czii += o.weight * nearF(c.near, c.n, c.truths); weights += o.weight; }
    if (c.truths > 0) { f1 += fbeta(c.tp, c.n, c.truths, 1); objects++; }
  });
  return { czii: weights > 0 ? czii / weights : null, f1: objects ? f1 / objects : null };
}
/** 95 % intervals of both over runs drawn with replacement; the draws are always the same. */
function intervals() {
  const n = LABELLED.length;
  if (n < 2) return null;
  const table = LABELLED.map(run => D.objects.map((_, k) => countRun(run, k)));
  let seed = 1;
  const random = () => { seed = seed + 0x6D2B79F5 | 0; let t = Math.imul(seed ^ seed >>> 15, 1 | seed); t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t; return ((t ^ t >>> 14) >>> 0) / 4294967296; };
  const czii = [], f1 = [], draws = Math.max(100, Math.min(1000, Math.floor(3e5 / n)));
  for (let s = 0; s < draws; s++) {
    const sums = D.objects.map(() => ({ n: 0, tp: 0, truths: 0, near: 0 }));
    for (let i = 0; i < n; i++) table[Math.floor(random() * n)].forEach((c, k) => { const t = sums[k]; t.n += c.n; t.tp += c.tp; t.truths += c.truths; t.near += c.near; });
    const score = scoresOf(sums); czii.push(score.czii); f1.push(score.f1);
  }
  const ends = all => { const v = all.filter(x => x !== null).sort((a, b) => a - b); return v.length ? [v[Math.floor(.025 * (v.length - 1))], v[Math.ceil(.975 * (v.length - 1))]] : null; };
  return { czii: ends(czii), f1: ends(f1) };
}
/** All scores of an object in the labelled runs, descending, with whether each is right; kept until the radius changes. */
const pools = new Map();
function pool(o) {
  const key = o + "/" + state.radius;
  if (pools.has(key)) return pools.get(key);
  const rows = [], best = [];
  let truths = 0;
  for (const run of LABELLED) {
    const data = run.objects[o], right = new Uint8Array(data.scores.length);
    truths += data.truths;
    for (const rank of data.hits[state.radius].rank) right[rank] = 1;
    data.scores.forEach((s, i) => rows.push([s, right[i]]));
    for (const s of data.best) best.push(s);
  }
  rows.sort((a, b) => b[0] - a[0]);
  best.sort((a, b) => b - a);
  const points = [];
  let tp = 0, ap = 0, before = 0;
  rows.forEach(([s, right], i) => {
    tp += right;
    if (i + 1 === rows.length || rows[i + 1][0] !== s) {
      points.push({ cut: s, tp, n: i + 1, p: tp / (i + 1), r: ratio(tp, truths) });
      ap += ratio(tp - before, truths) * tp / (i + 1); before = tp;
    }
  });
  const found = { rows, points, best, truths, ap: truths ? ap : null };
  pools.set(key, found);
  return found;
}
/** The cut with the highest F1 (one-to-one) or F4 (the challenge's hits); null where nothing can be measured. */
function bestCut(o, metric) {
  const { points, best, truths } = pool(o);
  let top = -1, at = -1;
  points.forEach((point, i) => {
    const f = metric === "f1" ? fbeta(point.tp, point.n, truths, 1) : nearF(atLeast(best, point.cut), point.n, truths);
    if (f > top) { top = f; at = i; }
  });
  if (at < 0 || top <= 0) return null;
  const here = points[at].cut, next = at + 1 < points.length ? points[at + 1].cut : here, middle = (here + next) / 2;
  return middle > next ? middle : here;
}
