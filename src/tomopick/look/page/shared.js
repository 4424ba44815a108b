"use strict";
/* What the report and the curation page both need: elements, and what is written into sections. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value; else if (key === "on") for (const [name, f] of Object.entries(value)) made.addEventListener(name, f);
    else if (key === "style") made.style.cssText = value; else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}
const byId = id => document.getElementById(id);
const three = v => v === null || Number.isNaN(v) ? "–" : v.toFixed(3);
function label(pen, text, x, y) {
  pen.font = "600 13px system-ui, sans-serif"; pen.lineWidth = 3; pen.strokeStyle = "rgba(0,0,0,.7)"; pen.setLineDash([]);
  pen.strokeText(text, x, y); pen.fillStyle = "#fff"; pen.fillText(text, x, y);
}
function scaleBar(pen, wide, tall, k) {
  const most = wide / k / 60, power = 10 ** Math.floor(Math.log10(most)), nm = power * [5, 2, 1].find(f => f * power <= most), size = nm * 10 * k;
  pen.fillStyle = "rgba(0,0,0,.6)"; pen.fillRect(14, tall - 20, size + 4, 8); pen.fillStyle = "#fff"; pen.fillRect(16, tall - 18, size, 4);
  label(pen, `${nm} nm`, 16, tall - 26);
}
