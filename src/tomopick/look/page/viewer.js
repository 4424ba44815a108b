/* The tomogram: slabs decoded once into one array of bytes, from which all three sections are cut. */
const PANELS = { xy: [0, 1, 2], xz: [1, 0, 2], yz: [2, 1, 0], zy: [2, 0, 1] }; // axis of the section, axis down, axis right
const volumes = new Map();
let cursor = null, panels = {}, scale = 1;

async function decode(run) {
  const v = run.volume, [depth, height, width] = v.shape, out = new Uint8Array(depth * height * width);
  const canvas = document.createElement("canvas"), pen = canvas.getContext("2d", { willReadFrequently: true });
  canvas.width = width; canvas.height = height;
  for (let z = 0; z < depth; z++) {
    const image = new Image();
    image.src = "data:image/jpeg;base64," + v.slabs[z];
    await image.decode();
    pen.drawImage(image, 0, 0);
    const pixels = pen.getImageData(0, 0, width, height).data, base = z * height * width;
    for (let i = 0; i < height * width; i++) out[base + i] = pixels[4 * i];
    if (z % 8 === 0) byId("stage-note").textContent = `unpacking ${run.name}: ${Math.round(100 * z / depth)} %`;
  }
  v.slabs = null;
  return out;
}
async function openRun() {
  const run = D.runs[state.run], note = byId("stage-note");
  byId("depth").style.display = run.volume ? "" : "none";
  if (!run.volume) {
    cursor = null; drawSections();
    note.textContent = EMBEDDED.length ? `The tomogram of ${run.name} is not in this page; there are ${EMBEDDED.map(r => r.name).join(", ")}.` : "No tomograms are in this page.";
    return;
  }
  if (!volumes.has(run)) volumes.set(run, decode(run));
  const values = await volumes.get(run);
  if (run !== D.runs[state.run]) return;
  note.textContent = "";
  const v = run.volume;
  v.values = values;
  cursor = cursor && cursor.run === run ? cursor : { run, at: v.shape.map((n, k) => v.origin[k] + Math.floor(n / 2) * v.step[k]) };
  Object.assign(byId("z"), { max: v.shape[0] - 1 });
  document.body.dataset.ready = run.name;
  drawSections(); drawGalleries();
}
function index(v, axis, position) { return Math.max(0, Math.min(v.shape[axis] - 1, Math.round((position - v.origin[axis]) / v.step[axis]))); }
function tone(value) { return Math.max(0, Math.min(255, 18 + 224 * (.5 + (value / 255 - .5) * state.contrast))); }

function slice(v, axis, down, right, at) {
  const stride = [v.shape[1] * v.shape[2], v.shape[2], 1], h = v.shape[down], w = v.shape[right], image = new ImageData(w, h), lut = Uint8ClampedArray.from({ length: 256 }, (_, i) => tone(i));
  let out = 0;
  for (let i = 0; i < h; i++) for (let j = 0, p = at * stride[axis] + i * stride[down]; j < w; j++, p += stride[right]) {
    const g = lut[v.values[p]];
    image.data[out++] = g; image.data[out++] = g; image.data[out++] = g; image.data[out++] = 255;
  }
  const canvas = document.createElement("canvas");
  canvas.width = w; canvas.height = h;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
function layout(v, room) {
  const size = v.shape.map((n, k) => n * v.step[k]), gap = 6;
  if (room < 560) {
    scale = room / size[2];
    const k = room / size[1];
    panels = { xy: [0, 0, scale], xz: [0, size[1] * scale + gap, scale], zy: [0, (size[1] + size[0]) * scale + 2 * gap, k] };
    return [room, (size[1] + size[0]) * scale + 2 * gap + size[0] * k];
  }
  scale = Math.min((room - gap) / (size[2] + size[0]), 900 / (size[1] + size[0]));
  panels = { xy: [0, 0, scale], xz: [0, size[1] * scale + gap, scale], yz: [size[2] * scale + gap, 0, scale] };
  return [(size[2] + size[0]) * scale + gap, (size[1] + size[0]) * scale + gap];
}
function drawSections() {
  const canvas = byId("sections"), run = D.runs[state.run], v = run.volume;
  if (!v || !v.values || !cursor) { canvas.style.height = "60px"; canvas.width = canvas.width; return; }
  const dense = Math.min(window.devicePixelRatio || 1, 2), [w, h] = layout(v, byId("stage").clientWidth);
  canvas.style.width = w + "px"; canvas.style.height = h + "px"; canvas.style.margin = "0 auto";
  canvas.width = Math.round(w * dense); canvas.height = Math.round(h * dense);
  const pen = canvas.getContext("2d");
  pen.scale(dense, dense);
  for (const [name, [left, top, k]] of Object.entries(panels)) {
    const [axis, down, right] = PANELS[name], wide = v.shape[right] * v.step[right] * k, tall = v.shape[down] * v.step[down] * k;
    pen.save();
    pen.beginPath(); pen.rect(left, top, wide, tall); pen.clip();
    pen.imageSmoothingQuality = "high";
    pen.drawImage(slice(v, axis, down, right, index(v, axis, cursor.at[axis])), left, top, wide, tall);
    pen.translate(left, top);
    const place = (position, a) => (position - v.origin[a] + v.step[a] / 2) * k;
    drawCircles(pen, run, axis, p => [place(p[right], right), place(p[down], down)], k);
    pen.strokeStyle = "rgba(255,255,255,.4)"; pen.lineWidth = 1; pen.setLineDash([]);
    pen.beginPath();
    const cx = place(cursor.at[right], right), cy = place(cursor.at[down], down);
    for (const [a, b, c, d] of [[cx, 0, cx, 9], [cx, tall - 9, cx, tall], [0, cy, 9, cy], [wide - 9, cy, wide, cy]]) { pen.moveTo(a, b); pen.lineTo(c, d); }
    pen.stroke();
    label(pen, name === "zy" ? "zy" : name, 8, 18);
    if (name === "xy") scaleBar(pen, wide, tall, k);
    pen.restore();
  }
  const z = index(v, 0, cursor.at[0]);
  byId("z").value = z;
  byId("z-text").textContent = `${(cursor.at[0] / 10).toFixed(1)} nm · slab ${z + 1} of ${v.shape[0]}`;
}
const OUTCOME = { hit: "#00c896", false: "#ff7a1a", miss: "#7cc8f5" }, DASH = { hit: [], false: [7, 4], miss: [1.5, 4] };

/** Where a sphere of true radius meets the section; solid: hit (or no truth), dashed: false, dotted: missed. */
function drawCircles(pen, run, axis, place, k) {
  D.objects.forEach((o, i) => {
    if (!state.shown[i]) return;
    for (const [kind, at] of outcomes(run, i)) {
      if (!state[{ hit: "hits", false: "falses", miss: "misses", plain: "hits" }[kind]]) continue;
      for (const p of at) {
        const away = Math.abs(p[axis] - cursor.at[axis]);
        if (away >= o.radius) continue;
        const [x, y] = place(p), r = Math.sqrt(o.radius ** 2 - away ** 2) * k;
        pen.lineCap = kind === "miss" ? "round" : "butt"; pen.setLineDash(DASH[kind] || []);
        for (const [color, width] of [["rgba(0,0,0,.5)", 3.6], [state.paint === "outcome" && kind !== "plain" ? OUTCOME[kind] : o.color, 2]]) {
          pen.strokeStyle = color; pen.lineWidth = width; pen.beginPath(); pen.arc(x, y, r, 0, 7); pen.stroke();
        }
      }
    }
  });
}
const point = (at, i) => [at[3 * i], at[3 * i + 1], at[3 * i + 2]];
/** [kind, positions] of the kept picks and the missed particles of an object. */
function outcomes(run, o) {
  const data = run.objects[o], n = countRun(run, o).n, all = Array.from({ length: n }, (_, i) => point(data.at, i));
  if (!run.labelled) return [["plain", all]];
  const h = data.hits[state.radius], tp = below(h.rank, n), right = new Set(h.rank.subarray(0, tp)), taken = new Set(h.truth.subarray(0, tp)), missed = [];
  for (let j = 0; j < data.truths; j++) if (!taken.has(j)) missed.push(point(data.truth_at, j));
  return [["miss", missed], ["false", all.filter((_, i) => !right.has(i))], ["hit", all.filter((_, i) => right.has(i))]];
}
function goTo(position) { cursor.at = [...position]; drawSections(); }
function scroll(slabs) {
  if (!cursor) return;
  const v = D.runs[state.run].volume, z = Math.max(0, Math.min(v.shape[0] - 1, index(v, 0, cursor.at[0]) + slabs));
  cursor.at[0] = v.origin[0] + z * v.step[0];
  drawSections();
}
function pointAt(event) {
  const v = D.runs[state.run].volume, box = byId("sections").getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  if (!cursor) return;
  for (const [name, [left, top, k]] of Object.entries(panels)) {
    const [, down, right] = PANELS[name], a = (x - left) / k, b = (y - top) / k;
    if (a < 0 || b < 0 || a > v.shape[right] * v.step[right] || b > v.shape[down] * v.step[down]) continue;
    cursor.at[right] = a + v.origin[right] - v.step[right] / 2;
    cursor.at[down] = b + v.origin[down] - v.step[down] / 2;
    drawSections();
    return;
  }
}
/* ---- galleries: boxes cut from the same array */
function thumb(run, o, i, right) {
  const v = run.volume, r = D.objects[o].radius, half = 1.6 * r, p = point(run.objects[o].at, i), z = index(v, 0, p[0]), size = 184;
  const canvas = document.createElement("canvas"), pen = canvas.getContext("2d"), n = Math.max(4, Math.round(2 * half / v.step[2])), image = new ImageData(n, n);
  const [y0, x0] = [1, 2].map(k => Math.round((p[k] - half - v.origin[k]) / v.step[k]));
  const planes = [z - 1, z, z + 1].filter(k => k >= 0 && k < v.shape[0]);
  for (let a = 0; a < n; a++) for (let b = 0; b < n; b++) {
    const y = y0 + a, x = x0 + b, q = 4 * (a * n + b);
    let g = 21;
    if (y >= 0 && x >= 0 && y < v.shape[1] && x < v.shape[2]) { g = 0; for (const k of planes) g += v.values[(k * v.shape[1] + y) * v.shape[2] + x]; g = tone(g / planes.length); }
    image.data[q] = image.data[q + 1] = image.data[q + 2] = g; image.data[q + 3] = 255;
  }
  const small = document.createElement("canvas");
  small.width = small.height = n; small.getContext("2d").putImageData(image, 0, 0);
  canvas.width = canvas.height = size;
  pen.imageSmoothingQuality = "high"; pen.drawImage(small, 0, 0, size, size);
  const px = k => ((p[k] - v.origin[k]) / v.step[k] - (k === 1 ? y0 : x0) + .5) * size / n;
  for (const [color, width] of [["rgba(0,0,0,.45)", 5], [D.objects[o].color, 2.5]]) { pen.strokeStyle = color; pen.lineWidth = width; pen.beginPath(); pen.arc(px(2), px(1), r / v.step[2] * size / n, 0, 7); pen.stroke(); }
  const caption = element("span", {}, run.objects[o].scores[i].toFixed(3));
  if (right !== null) caption.prepend(element("i", { class: right ? "hit" : "false" }, right ? "✓ " : "✗ "));
  return element("button", { class: "thumb", type: "button", title: "show in the tomogram", on: { click: () => { goTo(p); byId("viewer-part").scrollIntoView({ behavior: "smooth" }); } } }, canvas, caption);
}
function drawGalleries() {
  const box = byId("galleries"), run = D.runs[state.run], o = state.object;
  box.replaceChildren();
  if (!run.volume || !run.volume.values) return;
  const data = run.objects[o], all = data.scores.length, n = countRun(run, o).n, right = run.labelled ? new Set(data.hits[state.radius].rank) : null, each = 12;
  const range = (a, b) => Array.from({ length: Math.max(0, b - a) }, (_, i) => a + i), spread = (a, b) => { const k = Math.min(each, b - a); return Array.from({ length: Math.max(k, 0) }, (_, i) => a + Math.floor((i + .5) * (b - a) / k)); };
  const parts = [["Best", range(0, Math.min(each, n))], ["Borderline: kept", range(Math.max(Math.min(each, n), n - each), n)], ["Borderline: just rejected", range(n, Math.min(all, n + each))], ["Rejected, down to the lowest score", spread(Math.min(all, n + each), all)]];
  for (const [title, ranks] of parts) {
    if (!ranks.length) continue;
    const row = element("div", { class: "gallery" }, ...ranks.map(i => thumb(run, o, i, right && right.has(i))));
    box.append(element("h3", {}, `${title} · ${D.objects[o].name} in ${run.name}`), row);
  }
}
