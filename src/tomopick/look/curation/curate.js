/* The curation page: sections of one tomogram, a gallery, and decisions that the server writes down one by one. */
const TOKEN = new URLSearchParams(location.search).get("token") || "";
history.replaceState(null, "", location.pathname);
const PANELS = { xy: [0, 1, 2], yz: [2, 1, 0], xz: [1, 0, 2] }; // axis of the section, axis down, axis right
const S = { objects: [], cuts: {}, saved: {}, runs: [], truth: [], run: null, picks: null, at: [0, 0, 0], view: [0, 0, 0], zoom: 0.1, chosen: [], object: 0, adding: false, page: 0, order: [], undoable: 0, done: false };
const EACH = 200, COLUMNS = 20, CROP = 72;

async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  const answer = await fetch(path, { ...options, headers: { "X-Token": TOKEN } });
  if (!answer.ok) {
    const text = await answer.text();
    let why = text;
    try { why = JSON.parse(text).error; } catch { /* plain text */ }
    throw new Error(why);
  }
  return answer;
}
const json = async (path, body) => (await ask(path, body)).json();
function tell(text, bad = false) { const box = byId("saved"); box.textContent = text; box.classList.toggle("bad", bad); }
function note(text) { byId("stage-note").textContent = text; }

/* ---- picks: columns as the server gives them */
const place = i => [S.picks.z[i], S.picks.y[i], S.picks.x[i]];
/** What a pick counts as at the sliders: what a person said, else by its score. */
function stateOf(i) {
  const said = S.picks.state[i];
  if (said) return said;
  return (S.picks.score[i] ?? 0) >= S.cuts[S.objects[S.picks.object[i]].name] ? "accepted" : "below";
}
const distance = i => Math.abs((S.picks.score[i] ?? 1) - S.cuts[S.objects[S.picks.object[i]].name]);
function arrange() {
  const ids = [];
  for (let i = 0; i < S.picks.z.length; i++) if (S.picks.object[i] === S.object && S.picks.state[i] !== "removed") ids.push(i);
  const decided = i => S.picks.state[i] ? 1 : 0, score = i => S.picks.score[i] ?? 2;
  if (byId("order").value === "doubt") ids.sort((a, b) => decided(a) - decided(b) || distance(a) - distance(b) || a - b);
  else ids.sort((a, b) => score(b) - score(a) || a - b);
  S.order = ids;
}

/* ---- decisions: one after the other, each on disk before the next is sent */
let queue = Promise.resolve();
function act(event, back) {
  const run = S.run;
  tell("saving …");
  queue = queue.then(async () => {
    const answer = await json("/api/act", { run, event });
    if (run !== S.run) return answer;
    const keys = Object.keys(S.picks);
    for (const key of keys) S.picks[key].length = Math.min(S.picks[key].length, answer.total);
    for (const [i, row] of Object.entries(answer.changed)) keys.forEach((key, k) => { S.picks[key][i] = row[k]; });
    S.undoable = answer.undoable; S.done = answer.done;
    S.chosen = S.chosen.filter(i => i < answer.total && S.picks.state[i] !== "removed");
    tell("all saved");
    return answer;
  }).then(answer => { refresh(event.op !== "set"); return answer; }).catch(error => { if (back && run === S.run) back(); tell("NOT SAVED: " + error.message, true); });
  return queue;
}
function decide(op) {
  if (!S.chosen.length) return;
  const ids = [...S.chosen];
  if (op === "delete") act({ op, ids }); else act({ op: "set", ids, state: op === "clear" ? null : op });
  if (ids.length === 1 && op !== "clear") step(1);
}
function name(k) {
  if (k >= S.objects.length) return;
  if (S.chosen.length) act({ op: "object", ids: [...S.chosen], object: S.objects[k].name }); else { S.object = k; S.page = 0; refresh(true); }
}
async function add(panel, x, y) {
  const point = [...S.at], [axis, down, right] = PANELS[panel];
  [point[right], point[down]] = position(panel, x, y);
  const to = byId("snap").value, run = S.run, object = S.object;
  const at = to === "none" ? point : (await json("/api/snap", { run, at: point, object, to })).at;
  const answer = await act({ op: "add", object: S.objects[object].name, at });
  if (answer) { S.chosen = [answer.total - 1]; S.at = [...at]; show(); }
}

/* ---- sections */
const pictures = {}, wanted = {}, busy = {};
const number = (id, low, high) => Math.max(low, Math.min(high, Number(byId(id).value) || low));
function index(axis) { const v = S.volume; return Math.max(0, Math.min(v.shape[axis] - 1, Math.round((S.at[axis] - v.origin[axis]) / v.spacing))); }
function key(axis) { return [S.run, axis, index(axis), number("thickness", 1, 99), byId("low").value, byId("high").value].join("|"); }
/** Only the newest section of each axis is asked for while another is on its way. */
async function fetchPlane(axis) {
  const now = key(axis);
  if (pictures[axis]?.key === now && pictures[axis].whole) return;
  wanted[axis] = now;
  if (busy[axis]) return;
  busy[axis] = true;
  try {
    while (wanted[axis]) {
      const asked = wanted[axis], [run, a, i, thickness, low, high] = asked.split("|");
      wanted[axis] = null;
      const answer = await ask("/api/plane?" + new URLSearchParams({ run, axis: a, index: i, thickness, low, high }));
      const whole = answer.headers.get("X-Complete") === "1", image = await createImageBitmap(await answer.blob());
      if (run !== S.run) continue;
      pictures[axis] = { key: asked, image, whole, run };
      document.body.dataset.planes = Number(document.body.dataset.planes || 0) + 1;
      draw();
      if (!whole) { note("reading the tomogram …"); setTimeout(() => fetchPlane(axis), 400); } else if (Object.values(pictures).every(p => p.whole)) note("");
    }
  } catch (error) { note(error.message); } finally { busy[axis] = false; }
}
function boxes() {
  const canvas = byId("sections"), w = canvas.clientWidth, h = canvas.clientHeight, gap = 6, left = Math.round(w * .7), top = Math.round(h * .7);
  return { xy: [0, 0, left - gap, top - gap], yz: [left, 0, w - left, top - gap], xz: [0, top, left - gap, h - top] };
}
/** Pixel in a panel -> [right, down] position in Å. */
function position(panel, x, y) {
  const [left, top, w, h] = boxes()[panel], [, down, right] = PANELS[panel];
  return [S.view[right] + (x - left - w / 2) / S.zoom, S.view[down] + (y - top - h / 2) / S.zoom];
}
function panelAt(x, y) { return Object.entries(boxes()).find(([, [l, t, w, h]]) => x >= l && x < l + w && y >= t && y < t + h)?.[0]; }
const DASHES = { accepted: [], rejected: [5, 4], unsure: [10, 4], below: [1.5, 4] };
function visible(i) {
  const shown = byId("shown").value, state = stateOf(i);
  if (state === "removed" || shown === "none") return false;
  if (S.chosen.includes(i) || shown === "all") return true;
  return shown === "decided" ? Boolean(S.picks.state[i]) : state !== "below" && state !== "rejected";
}
function draw() {
  const canvas = byId("sections"), dense = Math.min(window.devicePixelRatio || 1, 2), pen = canvas.getContext("2d"), v = S.volume;
  canvas.width = Math.round(canvas.clientWidth * dense); canvas.height = Math.round(canvas.clientHeight * dense);
  pen.scale(dense, dense);
  if (!v) return;
  for (const [panel, [left, top, w, h]] of Object.entries(boxes())) {
    const [axis, down, right] = PANELS[panel], k = S.zoom, picture = pictures[axis];
    pen.save(); pen.beginPath(); pen.rect(left, top, w, h); pen.clip(); pen.translate(left + w / 2, top + h / 2);
    const px = (p, a) => (p - S.view[a]) * k, edge = a => px(v.origin[a] - v.spacing / 2, a);
    if (picture && picture.run === S.run) {
      const unit = a => v.spacing * (axis !== 0 && a !== 0 ? v.bin : 1) * k;
      pen.imageSmoothingEnabled = v.spacing * k < 3; pen.imageSmoothingQuality = "high";
      pen.drawImage(picture.image, edge(right), edge(down), picture.image.width * unit(right), picture.image.height * unit(down));
    }
    circles(pen, axis, down, right, px, k);
    pen.strokeStyle = "rgba(255,255,255,.35)"; pen.lineWidth = 1; pen.setLineDash([]);
    const cx = px(S.at[right], right), cy = px(S.at[down], down);
    pen.beginPath();
    for (const [a, b, c, d] of [[cx, -h / 2, cx, cy - 14], [cx, cy + 14, cx, h / 2], [-w / 2, cy, cx - 14, cy], [cx + 14, cy, w / 2, cy]]) { pen.moveTo(a, b); pen.lineTo(c, d); }
    pen.stroke();
    pen.translate(-w / 2, -h / 2);
    label(pen, panel, 8, 18);
    if (panel === "xy") scaleBar(pen, w, h, k);
    pen.restore();
  }
}
function circles(pen, axis, down, right, px, k) {
  const chosen = new Set(S.chosen);
  for (let i = 0; i < S.picks.z.length; i++) {
    const o = S.objects[S.picks.object[i]], p = place(i), away = Math.abs(p[axis] - S.at[axis]);
    if (away >= o.radius || !visible(i)) continue;
    const x = px(p[right], right), y = px(p[down], down), r = Math.sqrt(o.radius ** 2 - away ** 2) * k, state = stateOf(i);
    pen.setLineDash(DASHES[state] || []);
    if (chosen.has(i)) { pen.setLineDash([]); pen.strokeStyle = "#fff"; pen.lineWidth = 6; pen.beginPath(); pen.arc(x, y, r, 0, 7); pen.stroke(); pen.setLineDash(DASHES[state] || []); }
    for (const [color, width] of [["rgba(0,0,0,.5)", 3.6], [o.color, 2]]) { pen.strokeStyle = color; pen.lineWidth = width; pen.beginPath(); pen.arc(x, y, r, 0, 7); pen.stroke(); }
    if (state === "rejected" || state === "unsure") label(pen, state === "rejected" ? "✗" : "?", x - 5, y + 5);
  }
}
/** The pick under a pixel whose centre is nearest; null where there is none. */
function pickAt(panel, x, y) {
  const [axis, down, right] = PANELS[panel], [a, b] = position(panel, x, y);
  let best = null, least = Infinity;
  for (let i = 0; i < S.picks.z.length; i++) {
    const p = place(i), r = S.objects[S.picks.object[i]].radius, away = p[axis] - S.at[axis], d = Math.hypot(p[right] - a, p[down] - b);
    if (Math.abs(away) < r && d < Math.max(r, 8 / S.zoom) && d < least && visible(i)) { best = i; least = d; }
  }
  return best;
}
function show() { draw(); for (const axis of [0, 1, 2]) fetchPlane(axis); describe(); }
function goTo(i) { S.at = place(i); S.view = place(i); show(); }
function scroll(axis, n) { const v = S.volume, i = Math.max(0, Math.min(v.shape[axis] - 1, index(axis) + n)); S.at[axis] = v.origin[axis] + i * v.spacing; show(); }
function fit() {
  const v = S.volume, size = v.shape.map(n => n * v.spacing), [, , w, h] = boxes().xy;
  S.zoom = Math.min(w / size[2], h / size[1]);
  S.at = v.origin.map((o, a) => o + Math.floor(v.shape[a] / 2) * v.spacing); S.view = [...S.at];
}
function describe() {
  const box = byId("chosen"), n = S.chosen.length, xyz = p => [p[2], p[1], p[0]];
  if (n !== 1) { box.textContent = n ? `${n} picks chosen` : `x, y, z ${xyz(S.at).map(v => v.toFixed(1)).join(", ")} Å`; return; }
  const i = S.chosen[0], p = place(i), o = S.objects[S.picks.object[i]], v = S.volume, voxel = p.map((q, a) => (q - v.origin[a]) / v.spacing), score = S.picks.score[i];
  box.textContent = `pick ${i} · ${o.name} · ${stateOf(i)}${S.picks.state[i] ? "" : " (by its score)"} · score ${score === null ? "–" : score.toFixed(3)} · x, y, z ${xyz(p).map(q => q.toFixed(1)).join(", ")} Å · voxel ${xyz(voxel).map(q => q.toFixed(2)).join(", ")}${S.picks.origin[i] ? " · " + S.picks.origin[i] : ""}${S.picks.was[i] ? " · found as " + S.picks.was[i] : ""}`;
}

/* ---- gallery */
let sheet = 0;
async function drawGallery() {
  const box = byId("gallery"), pages = Math.max(1, Math.ceil(S.order.length / EACH));
  S.page = Math.max(0, Math.min(pages - 1, S.page));
  const ids = S.order.slice(S.page * EACH, (S.page + 1) * EACH), mine = ++sheet;
  byId("page").textContent = `${ids.length ? S.page * EACH + 1 : 0}–${S.page * EACH + ids.length} of ${S.order.length}`;
  box.replaceChildren(...ids.map(i => element("button", { class: "crop", type: "button", tabindex: "-1", "data-pick": i }, element("canvas", { width: CROP, height: CROP }), element("span"))));
  mark();
  if (!ids.length) { box.append(element("span", { class: "quiet" }, "none")); return; }
  const query = new URLSearchParams({ run: S.run, ids: ids.join(","), low: byId("low").value, high: byId("high").value });
  try {
    const image = await createImageBitmap(await (await ask("/api/crops?" + query)).blob());
    if (mine !== sheet) return;
    box.querySelectorAll("canvas").forEach((canvas, k) => {
      const pen = canvas.getContext("2d"), o = S.objects[S.picks.object[ids[k]]];
      pen.drawImage(image, k % COLUMNS * CROP, Math.floor(k / COLUMNS) * CROP, CROP, CROP, 0, 0, CROP, CROP);
      pen.strokeStyle = o.color; pen.lineWidth = 1.5; pen.beginPath(); pen.arc(CROP / 2, CROP / 2, CROP / 3.2, 0, 7); pen.stroke();
    });
    box.dataset.ready = `${S.run}/${S.object}/${S.page}`;
  } catch (error) { note(error.message); }
}
function mark() {
  const chosen = new Set(S.chosen);
  for (const crop of byId("gallery").querySelectorAll(".crop")) {
    const i = Number(crop.dataset.pick), score = S.picks.score[i];
    crop.className = `crop ${stateOf(i)}${S.picks.state[i] ? " decided" : ""}${chosen.has(i) ? " chosen" : ""}`;
    crop.lastChild.textContent = (S.picks.state[i] ? { accepted: "✓ ", rejected: "✗ ", unsure: "? " }[S.picks.state[i]] || "" : "") + (score === null ? "added" : score.toFixed(3));
    crop.setAttribute("aria-label", `pick ${i}, ${stateOf(i)}`);
  }
}
function choose(ids) { S.chosen = ids; mark(); draw(); describe(); }
function step(n) {
  const here = S.order.indexOf(S.chosen[0]), next = S.order[Math.max(0, Math.min(S.order.length - 1, here < 0 ? 0 : here + n))];
  if (next === undefined) return;
  S.chosen = [next];
  const page = Math.floor(S.order.indexOf(next) / EACH);
  if (page !== S.page) { S.page = page; drawGallery(); }
  goTo(next); mark();
}

/* ---- tables */
function drawRuns() {
  const done = S.runs.filter(r => r.done).length;
  byId("progress").textContent = `${done} of ${S.runs.length} done; the most doubtful first`;
  byId("progress-bar").value = S.runs.length ? done / S.runs.length : 0;
  byId("runs").replaceChildren(...S.runs.map(r => element("li", {}, element("button", { type: "button", "aria-current": r.run === S.run, "data-run": r.run, title: `${r.kept} kept of ${r.n}, ${r.decided} decided`, on: { click: () => open(r.run) } },
    element("span", { class: "tick" }, r.done ? "✓" : ""), element("span", {}, r.run), element("small", {}, `${r.doubt}?`)))));
}
function drawObjects() {
  const counts = S.objects.map(() => ({ kept: 0, decided: 0, n: 0 }));
  for (let i = 0; i < S.picks.z.length; i++) {
    const c = counts[S.picks.object[i]], state = stateOf(i);
    if (state === "removed") continue;
    c.n++; if (state === "accepted") c.kept++; if (S.picks.state[i]) c.decided++;
  }
  S.objects.forEach((o, k) => {
    const row = byId("objects").querySelector(`[data-object="${k}"]`), c = counts[k];
    row.classList.toggle("chosen", k === S.object);
    row.querySelector(".value").textContent = S.cuts[o.name].toFixed(2);
    row.querySelector(".kept").textContent = `${c.kept} kept of ${c.n}, ${c.decided} decided`;
    row.querySelector("input").value = S.cuts[o.name];
  });
  byId("keep").disabled = S.objects.every(o => S.cuts[o.name] === S.saved[o.name]);
}
let asking = 0;
function scored() {
  if (!S.truth.length) return;
  clearTimeout(asking);
  asking = setTimeout(async () => {
    try {
      const found = await json("/api/scores", { thresholds: S.cuts });
      S.objects.forEach((o, k) => {
        const f = found[o.name], cell = byId("objects").querySelector(`[data-object="${k}"] .scored`);
        cell.textContent = f ? `P ${three(f.precision)} · R ${three(f.recall)} · F1 ${three(f.f1)}` : "no truth";
      });
    } catch (error) { note(error.message); }
  }, 150);
}
function makeTables() {
  byId("objects").replaceChildren(element("tbody", {}, ...S.objects.map((o, k) => element("tr", { "data-object": k },
    element("td", {}, element("button", { class: "link", type: "button", on: { click: () => { S.object = k; S.page = 0; choose([]); refresh(true); } } }, element("span", { class: "ring", style: `border-color:${o.color}` }), `${k + 1} ${o.name}`)),
    element("td", { class: "slide" }, element("input", { type: "range", min: 0, max: 1, step: .01, "aria-label": "threshold of " + o.name, on: { input: e => { S.cuts[o.name] = Number(e.target.value); refresh(false); }, change: () => refresh(true) } })),
    element("td", { class: "value" }), element("td", { class: "count kept" }), element("td", { class: "quiet scored" })))));
  byId("tabs").replaceChildren(...S.objects.map((o, k) => element("button", { type: "button", role: "tab", on: { click: () => { S.object = k; S.page = 0; choose([]); refresh(true); } } }, o.name)));
  byId("legend").replaceChildren(...Object.entries({ accepted: "accepted", rejected: "rejected", unsure: "unsure", below: "below its threshold" }).map(([state, text]) => {
    const drawn = element("canvas", { width: 44, height: 36, style: "width:22px;height:18px;vertical-align:-4px" }), pen = drawn.getContext("2d");
    pen.scale(2, 2); pen.setLineDash(DASHES[state]); pen.lineWidth = 2; pen.strokeStyle = "#888"; pen.beginPath(); pen.arc(11, 9, 7, 0, 7); pen.stroke();
    return element("span", {}, drawn, text);
  }), element("span", { class: "quiet" }, "a circle is the particle's sphere where the section cuts it"));
}
/** All that follows from picks, sliders and choice; the gallery anew only where its order or pictures may differ. */
function refresh(gallery) {
  if (!S.picks) return;
  drawObjects(); scored();
  if (gallery) { arrange(); drawGallery(); } else mark();
  document.querySelectorAll("#tabs button").forEach((b, k) => b.setAttribute("aria-selected", k === S.object));
  byId("undo").disabled = !S.undoable; byId("done").checked = S.done;
  draw(); describe();
}
async function open(run) {
  note("opening " + run + " …");
  try {
    await queue;
    const data = await json("/api/run?" + new URLSearchParams({ run }));
    Object.assign(S, { run, volume: data, picks: data.picks, chosen: [], page: 0, undoable: data.undoable, done: data.done });
    byId("h-run").textContent = run;
    fit(); refresh(true); drawRuns(); show();
    document.body.dataset.run = run;
  } catch (error) { note(error.message); }
}
async function refreshRuns() { S.runs = await json("/api/runs"); drawRuns(); }

/* ---- pointer and keys */
let drag = null;
function wire() {
  const canvas = byId("sections"), at = e => { const b = canvas.getBoundingClientRect(); return [e.clientX - b.left, e.clientY - b.top]; };
  canvas.addEventListener("pointerdown", e => {
    const [x, y] = at(e), panel = panelAt(x, y);
    if (!panel || !S.picks || e.button) return;
    canvas.focus({ preventScroll: true }); canvas.setPointerCapture(e.pointerId);
    const under = S.adding ? null : pickAt(panel, x, y), [, down, right] = PANELS[panel];
    const near = under !== null && S.chosen.length === 1 && S.chosen[0] === under;
    drag = { panel, x, y, under, near, view: [...S.view], from: under === null ? null : place(under), down, right, moved: false };
  });
  canvas.addEventListener("pointermove", e => {
    if (!drag) return;
    const [x, y] = at(e);
    if (Math.hypot(x - drag.x, y - drag.y) > 3) drag.moved = true;
    if (!drag.moved) return;
    canvas.classList.add("moving");
    const dx = (x - drag.x) / S.zoom, dy = (y - drag.y) / S.zoom;
    if (drag.near) { const axes = "zyx"; S.picks[axes[drag.right]][drag.under] = drag.from[drag.right] + dx; S.picks[axes[drag.down]][drag.under] = drag.from[drag.down] + dy; }
    else { S.view[drag.right] = drag.view[drag.right] - dx; S.view[drag.down] = drag.view[drag.down] - dy; }
    draw();
  });
  canvas.addEventListener("pointerup", e => {
    if (!drag) return;
    const [x, y] = at(e), d = drag;
    drag = null; canvas.classList.remove("moving");
    if (d.moved && d.near) act({ op: "move", id: d.under, to: place(d.under) }, () => { [..."zyx"].forEach((axis, k) => { S.picks[axis][d.under] = d.from[k]; }); draw(); });
    else if (!d.moved && S.adding) add(d.panel, x, y).catch(error => tell("NOT SAVED: " + error.message, true));
    else if (!d.moved) {
      const [a, b] = position(d.panel, x, y);
      S.at[d.right] = a; S.at[d.down] = b;
      choose(d.under === null ? [] : [d.under]);
      show();
    }
  });
  canvas.addEventListener("wheel", e => {
    const [x, y] = at(e), panel = panelAt(x, y);
    if (!panel || !S.volume) return;
    e.preventDefault();
    const [axis, down, right] = PANELS[panel];
    if (!e.ctrlKey) { scroll(axis, e.deltaY > 0 ? 1 : -1); return; }
    const before = position(panel, x, y);
    S.zoom = Math.max(.005, Math.min(20, S.zoom * (e.deltaY > 0 ? 1 / 1.2 : 1.2)));
    const after = position(panel, x, y);
    S.view[right] += before[0] - after[0]; S.view[down] += before[1] - after[1];
    draw();
  }, { passive: false });
  wireGallery();
  for (const button of document.querySelectorAll("[data-op]")) button.addEventListener("click", () => decide(button.dataset.op));
  byId("undo").addEventListener("click", () => act({ op: "undo" }));
  byId("redo").addEventListener("click", () => act({ op: "redo" }));
  byId("adding").addEventListener("click", adding);
  byId("done").addEventListener("change", e => act({ op: "done", value: e.target.checked }).then(refreshRuns));
  byId("keep").addEventListener("click", async () => {
    try { tell("saving …"); S.saved = (await json("/api/thresholds", { thresholds: S.cuts })).thresholds; S.cuts = { ...S.saved }; tell("all saved"); refresh(true); refreshRuns(); } catch (error) { tell("NOT SAVED: " + error.message, true); }
  });
  for (const id of ["thickness", "low", "high"]) byId(id).addEventListener("input", show);
  for (const id of ["low", "high"]) byId(id).addEventListener("change", drawGallery);
  byId("shown").addEventListener("change", draw);
  byId("order").addEventListener("change", () => { S.page = 0; refresh(true); });
  byId("before").addEventListener("click", () => { S.page--; drawGallery(); });
  byId("after").addEventListener("click", () => { S.page++; drawGallery(); });
  byId("theme").addEventListener("click", theme);
  byId("help").addEventListener("click", () => byId("keys").showModal());
  addEventListener("resize", draw);
  addEventListener("keydown", onKey);
}
function wireGallery() {
  const box = byId("gallery"), pick = e => { const crop = e.target.closest?.(".crop"); return crop ? Number(crop.dataset.pick) : null; };
  let start = null;
  box.addEventListener("pointerdown", e => {
    const i = pick(e);
    if (i === null) return;
    e.preventDefault(); box.focus({ preventScroll: true });
    const last = S.order.indexOf(S.chosen[S.chosen.length - 1]), here = S.order.indexOf(i);
    if (e.shiftKey && last >= 0) choose(S.order.slice(Math.min(last, here), Math.max(last, here) + 1));
    else { start = here; choose([i]); goTo(i); }
  });
  box.addEventListener("pointerover", e => {
    const i = pick(e);
    if (start === null || i === null || !e.buttons) return;
    const here = S.order.indexOf(i);
    choose(S.order.slice(Math.min(start, here), Math.max(start, here) + 1));
  });
  addEventListener("pointerup", () => { start = null; });
}
function adding() { S.adding = !S.adding; byId("adding").setAttribute("aria-pressed", S.adding); byId("sections").classList.toggle("adding", S.adding); }
function theme() { document.documentElement.classList.toggle("dark"); draw(); }
const KEYS = {
  a: () => decide("accepted"), x: () => decide("rejected"), u: () => decide("unsure"), c: () => decide("clear"), Delete: () => decide("delete"), Backspace: () => decide("delete"),
  "+": adding, n: () => step(1), p: () => step(-1), ArrowUp: () => scroll(0, 1), ArrowDown: () => scroll(0, -1), PageUp: () => scroll(0, 10), PageDown: () => scroll(0, -10),
  z: () => act({ op: "undo" }), Z: () => act({ op: "redo" }), t: theme, "?": () => byId("keys").showModal(), d: () => byId("done").click(), Escape: () => { if (S.adding) adding(); choose([]); },
};
function onKey(e) {
  if (e.ctrlKey || e.metaKey || e.altKey || !S.picks || byId("keys").open || ["INPUT", "SELECT"].includes(e.target.tagName) && e.target.type !== "checkbox" && e.key.length === 1) return;
  if (/^[1-9]$/.test(e.key)) { name(Number(e.key) - 1); e.preventDefault(); return; }
  if (["INPUT", "SELECT"].includes(e.target.tagName) && e.key.startsWith("Arrow")) return;
  const f = KEYS[e.key];
  if (f) { f(); e.preventDefault(); }
}
async function begin() {
  if (matchMedia("(prefers-color-scheme: dark)").matches) document.documentElement.classList.add("dark");
  wire();
  try {
    const data = await json("/api/start");
    Object.assign(S, { objects: data.objects, cuts: { ...data.thresholds }, saved: data.thresholds, runs: data.runs, truth: data.truth });
    byId("about").textContent = `${data.project} · decisions of ${data.user}, session ${data.session}`;
    if (data.model) byId("snap").prepend(element("option", { value: "heatmap" }, "heatmap"));
    makeTables(); drawRuns();
    const first = S.runs.find(r => !r.done) || S.runs[0];
    if (first) await open(first.run); else note("no tomogram has picks");
  } catch (error) { note(error.message); tell(error.message, true); }
}
begin();
