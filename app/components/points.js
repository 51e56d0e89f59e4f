// A map of points that are looked at and chosen: drawn into one picture by hand, which a laptop without a graphics
// card does for 100,000 of them in a blink. What is chosen travels as one bit per point.
// Text that people wrote reaches the page through textContent only.

const plots = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  if (!plots.has(parentElement)) plots.set(parentElement, new Plot(parentElement));
  const plot = plots.get(parentElement);
  plot.show(data, (bits) => setTriggerValue("chosen", bits));
  return () => { plot.close(); plots.delete(parentElement); };
}

const element = (name, text, className) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
};
const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const textOf = (bytes) => {
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(text);
};
const pack = (mask) => {
  const bits = new Uint8Array(Math.ceil(mask.length / 8));
  mask.forEach((chosen, i) => { if (chosen) bits[i >> 3] |= 1 << (i & 7); });
  return textOf(bits);
};
const unpack = (text, count) => {
  const bits = bytesOf(text);
  return Uint8Array.from({ length: count }, (_, i) => (bits[i >> 3] >> (i & 7)) & 1);
};
// "#rrggbb" as a pixel of a canvas, without its opacity.
const pixelOf = (color) => {
  const value = parseInt(color.slice(1), 16);
  return ((value & 255) << 16) | (value & 0xff00) | (value >> 16);
};
// How much of each pixel a disc of that diameter covers: x, y and share, one after the other.
const stampOf = (diameter) => {
  const reach = Math.ceil(diameter / 2);
  const stamp = [];
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      const cover = Math.min(1, Math.max(0, diameter / 2 + 0.5 - Math.hypot(x, y)));
      if (cover > 0.05) stamp.push(x, y, cover);
    }
  }
  return Float32Array.from(stamp);
};
// One colour laid with some opacity on what is there.
const over = (color, alpha, below) => {
  if (!below) return color | (Math.round(alpha * 255) << 24);
  const under = ((below >>> 24) / 255) * (1 - alpha);
  const [mine, theirs] = [alpha / (alpha + under), under / (alpha + under)];
  const red = (color & 255) * mine + (below & 255) * theirs;
  const green = ((color >> 8) & 255) * mine + ((below >> 8) & 255) * theirs;
  const blue = ((color >> 16) & 255) * mine + ((below >> 16) & 255) * theirs;
  return (Math.round((alpha + under) * 255) << 24) | (blue << 16) | (green << 8) | red;
};

class Plot {
  constructor(root) {
    this.root = element("div", undefined, "points");
    this.stage = element("div", undefined, "stage");
    this.stage.tabIndex = 0;
    this.stage.setAttribute("role", "img");
    this.canvas = element("canvas");
    this.drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.note = element("div", "Loading…", "note");
    this.tip = element("div", undefined, "tip");
    this.tip.hidden = true;
    this.stage.append(this.canvas, this.drawing, this.note, this.tip);
    this.axes = element("div", undefined, "axes");
    this.legend = element("div", undefined, "legend");
    this.root.append(this.toolbar(), this.stage, this.axes, this.legend);
    root.append(this.root);
    this.listen();
    this.sized = new ResizeObserver(() => this.draw());
    this.sized.observe(this.stage);
  }

  close() {
    this.sized.disconnect();
    this.root.remove();
  }

  // -- what is shown ---------------------------------------------------------------------------------------------
  async show(data, send) {
    const before = this.data ?? { legend: {} };
    [this.data, this.send] = [data, send];
    this.stage.setAttribute("aria-label", data.title);
    this.axes.replaceChildren(element("span", `→ ${data.axes[0]}`), element("span", `↑ ${data.axes[1]}`));
    const recolored = before.codes !== data.codes || before.legend.title !== data.legend.title;
    if (recolored) {
      this.codes = bytesOf(data.codes);
      this.colors = data.palette.map(pixelOf);
      this.explain();
    }
    const marked = data.selected !== this.selected; // not so where they were chosen here
    if (marked) {
      this.selected = data.selected;
      this.mask = data.selected ? unpack(data.selected, data.count) : null;
    }
    if (before.points === data.points) {
      if (recolored || marked) this.draw();
      return;
    }
    this.at = null;
    this.note.textContent = "Loading…";
    this.note.hidden = false;
    try {
      const answer = await fetch(data.points);
      if (!answer.ok) throw new Error(answer.status);
      const bytes = await answer.arrayBuffer();
      if (this.data.points !== data.points) return; // another map was asked for meanwhile
      this.at = new Float32Array(bytes, 0, 2 * data.count);
      this.names = new TextDecoder().decode(new Uint8Array(bytes, 8 * data.count)).split("\n");
      this.note.hidden = true;
      this.fit();
    } catch (error) {
      console.warn(error);
      this.note.textContent = "The points could not be loaded: reload the page.";
    }
  }

  explain() {
    const { legend, palette } = this.data;
    const title = element("span", legend.title, "title");
    const swatch = (color) => Object.assign(element("i"), { style: `background:${color}` });
    const entry = (name, code) => {
      const button = element("button");
      button.append(swatch(palette[code]), element("span", name));
      button.title = "Select these; with Shift, too";
      button.onclick = (event) => this.choose((i) => this.codes[i] === code, event.shiftKey);
      return button;
    };
    const parts = [title];
    if (legend.names) parts.push(...legend.names.map((name, i) => entry(name, i + 1)));
    else {
      const ramp = element("span", undefined, "ramp");
      ramp.style.background = `linear-gradient(to right, ${palette.slice(1).filter((_, i) => i % 16 === 0).join(",")})`;
      parts.push(element("span", legend.limits[0]), ramp, element("span", legend.limits[1]));
    }
    if (this.codes.includes(0)) parts.push(entry("unknown", 0));
    this.legend.replaceChildren(...parts);
  }

  // -- drawing ---------------------------------------------------------------------------------------------------
  fit() {
    const { at, data: { count } } = this;
    const box = [Infinity, Infinity, -Infinity, -Infinity];
    for (let i = 0; i < count; i++) {
      box[0] = Math.min(box[0], at[i]);
      box[1] = Math.min(box[1], at[count + i]);
      box[2] = Math.max(box[2], at[i]);
      box[3] = Math.max(box[3], at[count + i]);
    }
    this.extent = [Math.max(box[2] - box[0], 1e-9), Math.max(box[3] - box[1], 1e-9)];
    this.middle = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
    this.zoom = 1;
    this.draw();
  }

  // One unit is as long on both axes: distances are all that such a map has.
  get scale() {
    const { clientWidth, clientHeight } = this.stage;
    return 0.95 * this.zoom * Math.min(clientWidth / this.extent[0], clientHeight / this.extent[1]);
  }

  // Pixels of every point on the stage.
  place() {
    const { at, scale, middle, data: { count }, stage } = this;
    const [left, top] = [stage.clientWidth / 2 - middle[0] * scale, stage.clientHeight / 2 + middle[1] * scale];
    const placed = new Float32Array(2 * count);
    for (let i = 0; i < count; i++) {
      placed[i] = left + at[i] * scale;
      placed[count + i] = top - at[count + i] * scale;
    }
    return placed;
  }

  draw() {
    const { clientWidth, clientHeight } = this.stage;
    if (!this.at || !clientWidth) return;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
    Object.assign(this.canvas, { width, height });
    const pen = this.canvas.getContext("2d");
    const picture = pen.createImageData(width, height);
    const [pixels, count] = [new Uint32Array(picture.data.buffer), this.data.count];
    const size = (count < 2000 ? 6 : count < 20000 ? 4 : 3) * Math.min(2, this.zoom ** 0.3);
    const stamp = stampOf(size * ratio);
    this.placed = this.place();
    const paint = (i, opacity) => {
      const [x, y] = [Math.round(this.placed[i] * ratio), Math.round(this.placed[count + i] * ratio)];
      if (!(x > -20 && y > -20 && x < width + 20 && y < height + 20)) return;
      const color = this.colors[this.codes[i]];
      for (let s = 0; s < stamp.length; s += 3) {
        const [column, row, alpha] = [x + stamp[s], y + stamp[s + 1], stamp[s + 2] * opacity];
        if (column < 0 || column >= width || row < 0 || row >= height) continue;
        const spot = row * width + column;
        pixels[spot] = alpha >= 1 ? color | 0xff000000 : over(color, alpha, pixels[spot]);
      }
    };
    if (this.mask) {
      for (let i = 0; i < count; i++) if (!this.mask[i]) paint(i, 0.12);
      for (let i = 0; i < count; i++) if (this.mask[i]) paint(i, 1);
    } else for (let i = 0; i < count; i++) paint(i, 1);
    pen.putImageData(picture, 0, 0);
    // For whoever waits for it.
    this.stage.dataset.drawn = this.data.points;
    this.stage.dataset.chosen = this.mask ? this.mask.reduce((sum, one) => sum + one, 0) : 0;
  }

  // -- choosing --------------------------------------------------------------------------------------------------
  choose(wanted, more) {
    const mask = new Uint8Array(this.data.count);
    let any = 0;
    for (let i = 0; i < mask.length; i++) any |= mask[i] = wanted(i) || (more && this.mask?.[i]) ? 1 : 0;
    this.mask = any ? mask : null;
    const bits = pack(mask);
    this.selected = any ? bits : "";
    this.send(bits);
    this.redraw();
  }

  nearest([x, y], reach = 8) {
    const [placed, count] = [this.placed, this.data.count];
    let [best, found] = [reach * reach, -1];
    for (let i = 0; i < count; i++) {
      const distance = (placed[i] - x) ** 2 + (placed[count + i] - y) ** 2;
      if (distance < best) [best, found] = [distance, i];
    }
    return found;
  }

  within(path) {
    const [xs, ys] = [path.map((p) => p[0]), path.map((p) => p[1])];
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const { placed, data: { count } } = this;
    return (i) => {
      const [x, y] = [placed[i], placed[count + i]];
      if (x < left || x > right || y < top || y > bottom) return false;
      let inside = false;
      for (let a = 0, b = path.length - 1; a < path.length; b = a++) {
        if (ys[a] > y !== ys[b] > y && x < ((xs[b] - xs[a]) * (y - ys[a])) / (ys[b] - ys[a]) + xs[a]) inside = !inside;
      }
      return inside;
    };
  }

  // -- hands -----------------------------------------------------------------------------------------------------
  toolbar() {
    const tools = element("div", undefined, "tools");
    const modes = { lasso: "Lasso", box: "Box", move: "Move" };
    const use = (tool) => {
      this.stage.dataset.tool = tool;
      for (const button of tools.querySelectorAll("[data-tool]")) {
        button.setAttribute("aria-pressed", button.dataset.tool === tool);
      }
    };
    const add = (label, title, act) => {
      const button = Object.assign(element("button", label), { title, onclick: act });
      tools.append(button);
      return button;
    };
    for (const [tool, label] of Object.entries(modes)) {
      add(label, { lasso: "Draw around points", box: "Draw a box around points", move: "Drag the map" }[tool],
        () => use(tool)).dataset.tool = tool;
    }
    tools.append(element("span", undefined, "gap"));
    add("+", "Closer", () => this.zoomBy(1.5)).setAttribute("aria-label", "Closer");
    add("−", "Further away", () => this.zoomBy(1 / 1.5)).setAttribute("aria-label", "Further away");
    add("Whole map", "Show every point", () => this.at && this.fit());
    add("Save", "Save as a picture", () => this.at && this.save());
    use("lasso");
    return tools;
  }

  zoomBy(factor, [x, y] = [this.stage.clientWidth / 2, this.stage.clientHeight / 2]) {
    if (!this.at) return;
    const [dx, dy] = [x - this.stage.clientWidth / 2, this.stage.clientHeight / 2 - y];
    const before = this.scale;
    this.zoom = Math.min(1e4, Math.max(0.2, this.zoom * factor));
    const shift = 1 / before - 1 / this.scale;
    this.middle = [this.middle[0] + dx * shift, this.middle[1] + dy * shift];
    this.redraw();
  }

  moveBy(dx, dy) {
    this.middle = [this.middle[0] - dx / this.scale, this.middle[1] + dy / this.scale];
    this.redraw();
  }

  redraw() {
    this.hide();
    this.frame ??= requestAnimationFrame(() => { this.frame = undefined; this.draw(); });
  }

  listen() {
    const { stage } = this;
    const spot = (event) => {
      const box = stage.getBoundingClientRect();
      return [event.clientX - box.left - stage.clientLeft, event.clientY - box.top - stage.clientTop];
    };
    let path = null;
    const stop = () => { path = null; this.drawing.replaceChildren(); };
    stage.onpointerdown = (event) => {
      if (event.button || !this.at) return;
      stage.setPointerCapture(event.pointerId);
      path = [spot(event)];
      this.hide();
    };
    stage.onpointermove = (event) => {
      if (!this.at) return;
      const here = spot(event);
      if (!path) { this.point(here); return; }
      const last = path.at(-1);
      if (Math.hypot(here[0] - last[0], here[1] - last[1]) < 3) return;
      if (stage.dataset.tool === "move") this.moveBy(here[0] - last[0], here[1] - last[1]);
      path.push(here);
      if (stage.dataset.tool !== "move") this.outline(this.loop(path));
    };
    stage.onpointerup = (event) => {
      if (!path) return;
      const [drawn, moved] = [this.loop(path), path.length > 1];
      stop();
      if (moved && stage.dataset.tool === "move") return;
      if (moved) { this.choose(this.within(drawn), event.shiftKey); return; }
      const found = this.nearest(drawn[0]);
      if (found >= 0) this.choose((i) => i === found, event.shiftKey);
    };
    stage.onpointercancel = stop;
    stage.onpointerleave = () => this.hide();
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY / 400), spot(event));
    }, { passive: false });
    stage.onkeydown = (event) => {
      const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
      if (event.key === "Escape") stop();
      else if (!this.at) return;
      else if (step) this.moveBy(...step);
      else if (event.key === "+" || event.key === "=") this.zoomBy(1.5);
      else if (event.key === "-") this.zoomBy(1 / 1.5);
      else if (event.key === "0") this.fit();
      else return;
      event.preventDefault();
      event.stopPropagation(); // Streamlit has keys of its own
    };
  }

  loop(path) {
    if (this.stage.dataset.tool !== "box" || path.length < 2) return path;
    const [[x0, y0], [x1, y1]] = [path[0], path.at(-1)];
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
  }

  outline(path) {
    const shape = document.createElementNS(this.drawing.namespaceURI, "polygon");
    shape.setAttribute("points", path.map((p) => p.join(",")).join(" "));
    this.drawing.replaceChildren(shape);
  }

  // -- what lies under the pointer -------------------------------------------------------------------------------
  point(here) {
    const found = this.nearest(here);
    if (found < 0) { this.hide(); return; }
    if (found === this.under) return;
    this.under = found;
    const [x, y] = [this.placed[found], this.placed[this.data.count + found]];
    const ring = document.createElementNS(this.drawing.namespaceURI, "circle");
    for (const [name, value] of Object.entries({ cx: x, cy: y, r: 6 })) ring.setAttribute(name, value);
    this.drawing.replaceChildren(ring);
    const [id, labels, sample] = this.names[found].split("\t");
    const image = Object.assign(element("img"), { alt: "" });
    clearTimeout(this.soon);
    this.soon = setTimeout(() => { image.src = this.data.thumbnail.replace("SAMPLE.png?", `${sample}.png?`); }, 80);
    this.tip.replaceChildren(image, element("b", labels || id), element("span", labels ? id : ""));
    this.tip.hidden = false;
    const { clientWidth, clientHeight } = this.stage;
    this.tip.style.left = `${Math.max(0, x + 12 + this.tip.offsetWidth > clientWidth ? x - 12 - this.tip.offsetWidth : x + 12)}px`;
    this.tip.style.top = `${Math.max(0, Math.min(y, clientHeight - this.tip.offsetHeight - 4))}px`;
  }

  hide() {
    clearTimeout(this.soon);
    this.under = undefined;
    this.tip.hidden = true;
    this.drawing.replaceChildren();
  }

  // -- to take away ----------------------------------------------------------------------------------------------
  save() {
    const look = getComputedStyle(this.root);
    const ratio = window.devicePixelRatio || 1;
    const { legend, palette, title } = this.data;
    const rows = [...(legend.names ?? legend.limits).map((name, i) => [name, palette[legend.names ? i + 1 : i ? palette.length - 1 : 1]])];
    if (this.codes.includes(0)) rows.push(["unknown", palette[0]]);
    const [line, side] = [20 * ratio, 240 * ratio];
    const picture = element("canvas");
    picture.width = this.canvas.width + side;
    picture.height = Math.max(this.canvas.height, line * (rows.length + 2)) + line * 2;
    const pen = picture.getContext("2d");
    pen.fillStyle = look.getPropertyValue("--st-background-color") || "#fff";
    pen.fillRect(0, 0, picture.width, picture.height);
    pen.drawImage(this.canvas, 0, line * 2);
    pen.font = `${13 * ratio}px ${look.fontFamily}`;
    const write = (text, x, y) => { pen.fillStyle = look.color; pen.fillText(text, x, y); };
    write(title, line / 2, line * 1.3);
    write(legend.title, this.canvas.width + line / 2, line * 3);
    rows.forEach(([name, color], i) => {
      pen.fillStyle = color;
      pen.fillRect(this.canvas.width + line / 2, line * (i + 3.5), line / 2, line / 2);
      write(name, this.canvas.width + line * 1.3, line * (i + 4));
    });
    const link = Object.assign(element("a"), { href: picture.toDataURL("image/png"), download: "map.png" });
    link.click();
  }
}
