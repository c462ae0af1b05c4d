"use strict";
// The map of the items: points on a canvas, with search, a tip for the nearest point, and a choice of axes and colours.
(() => {
  const holder = document.getElementById("map-data");
  if (!holder) return;
  const data = JSON.parse(holder.textContent);
  const at = (id) => document.getElementById("map-" + id);
  const canvas = at("canvas"), pen = canvas.getContext("2d"), n = data.titles.length;
  const MOST_FOUND = 30, NEAR = 14, MARGIN = 36;
  let found = [], chosen = -1, places = [];

  const option = (select, value, text) => {
    const made = document.createElement("option");
    made.value = value;
    made.textContent = text;
    select.append(made);
  };
  data.axes.forEach((name, axis) => { option(at("x"), axis, name); option(at("y"), axis, name); });
  at("x").value = Math.min(data.first, data.axes.length - 1);
  at("y").value = Math.min(data.first + 1, data.axes.length - 1);
  option(at("colour"), -1, "popularity");
  data.categories.forEach((name, group) => option(at("colour"), group, name));
  document.documentElement.classList.add("scripted");
  document.getElementById("map").hidden = false;

  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const described = (item) => {
    const axes = [+at("x").value, +at("y").value].map((axis) => data.axes[axis].split(" (")[0] + ": "
      + data.coordinates[axis][item].toFixed(2));
    const groups = data.groups[item].map((group) => data.categories[group]).join(", ");
    return data.titles[item] + " · " + data.counts[item].toLocaleString("en") + " ratings · " + axes.join(", ")
      + (groups ? " · " + groups : "");
  };

  function place() {
    const box = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    canvas.width = box.width * ratio;
    canvas.height = box.height * ratio;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const scaled = [["x", box.width, 1], ["y", box.height, -1]].map(([name, size, sign]) => {
      const values = data.coordinates[+at(name).value], low = Math.min(...values), high = Math.max(...values);
      const span = high - low || 1, room = size - 2 * MARGIN;
      return values.map((value) => sign > 0 ? MARGIN + (value - low) / span * room : MARGIN + (high - value) / span * room);
    });
    places = Array.from({ length: n }, (_, item) => [scaled[0][item], scaled[1][item]]);
    return box;
  }

  function dot(item, colour, size, alpha) {
    pen.globalAlpha = alpha;
    pen.fillStyle = colour;
    pen.beginPath();
    pen.arc(places[item][0], places[item][1], size, 0, 2 * Math.PI);
    pen.fill();
  }

  function draw() {
    const box = place(), group = +at("colour").value, most = Math.log1p(Math.max(...data.counts));
    const [ink, soft, paper, a, b] = ["--ink", "--soft", "--paper", "--a", "--b"].map(variable);
    pen.clearRect(0, 0, box.width, box.height);
    for (let item = n - 1; item >= 0; item--) {  // the most rated come last, on top
      const share = Math.log1p(data.counts[item]) / most, member = group < 0 || data.groups[item].includes(group);
      dot(item, member ? (group < 0 ? a : b) : soft, 1.5 + 3 * share, member ? 0.25 + 0.6 * share : 0.2);
    }
    found.forEach((item) => dot(item, b, 5, 1));
    pen.globalAlpha = 1;
    pen.font = "12px system-ui, sans-serif";
    const taken = [], label = (item, force) => {
      const text = data.titles[item].slice(0, 40), width = pen.measureText(text).width;
      const left = Math.min(places[item][0] + 6, box.width - width - 2), top = places[item][1] - 5;
      const free = taken.every(([l, t, w]) => left > l + w || l > left + width || Math.abs(t - top) > 14);
      if (!force && !free) return;
      taken.push([left, top, width + 4]);
      pen.lineWidth = 3;
      pen.strokeStyle = paper;
      pen.strokeText(text, left, top);
      pen.fillStyle = ink;
      pen.fillText(text, left, top);
    };
    if (chosen >= 0) { dot(chosen, b, 7, 1); pen.globalAlpha = 1; label(chosen, true); }
    found.slice(0, MOST_FOUND).forEach((item) => label(item));
    const outer = places.map(([x, y], item) => [Math.hypot(x / box.width - 0.5, y / box.height - 0.5), item]);
    outer.sort((one, two) => two[0] - one[0]).slice(0, 60).forEach(([, item]) => label(item));
    pen.fillStyle = soft;
    pen.fillText("← low   " + at("x").selectedOptions[0].textContent + "   high →", 8, box.height - 8);
    pen.save();
    pen.translate(14, box.height - 24);
    pen.rotate(-Math.PI / 2);
    pen.fillText("← low   " + at("y").selectedOptions[0].textContent + "   high →", 0, 0);
    pen.restore();
  }

  function choose(item) {
    chosen = item;
    at("tip").textContent = item < 0 ? "" : described(item);
    draw();
  }

  function search() {
    const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
    const words = plain(at("search").value).split(/\s+/).filter(Boolean);
    found = words.length ? data.titles.flatMap((title, item) => words.every((word) => plain(title).includes(word)) ? [item] : []) : [];
    at("count").textContent = words.length ? found.length.toLocaleString("en") + " of " + n.toLocaleString("en") + " items"
      + (found.length > MOST_FOUND ? "; the " + MOST_FOUND + " most rated are listed" : "") : "";
    at("found").replaceChildren(...found.slice(0, MOST_FOUND).map((item) => {
      const line = document.createElement("li"), button = document.createElement("button");
      button.type = "button";
      button.textContent = data.titles[item];
      button.addEventListener("click", () => choose(item));
      button.addEventListener("focus", () => choose(item));
      line.append(button);
      return line;
    }));
    choose(found.length === 1 ? found[0] : -1);
  }

  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let nearest = -1, least = NEAR;
    places.forEach(([left, top], item) => {
      const away = Math.hypot(left - x, top - y);
      if (away < least) { least = away; nearest = item; }
    });
    if (nearest !== chosen && nearest >= 0) choose(nearest);
  });
  at("search").addEventListener("input", search);
  document.querySelector("#map form").addEventListener("submit", (event) => event.preventDefault());
  ["x", "y", "colour"].forEach((name) => at(name).addEventListener("change", () => choose(chosen)));
  window.addEventListener("resize", draw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
})();
