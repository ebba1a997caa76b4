/* Builds the report of a run, or of several, from the JSON in the page.

The charts are SVG written here and not a library's: the page needs lines, bands, marks, a cursor, a
zoom, a logarithm and a moving average, which are some 600 lines. A library would add 50 kB to 1 MB
and its license text to every report, often draws on a canvas, which neither prints sharply nor
follows the color scheme, and still leaves the marks and a cursor shared by all panels to write.

Names and values of a run are data: they enter the page as text nodes and attributes only. */
"use strict";

(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const runs = data.runs;
  const comparison = data.kind === "comparison";
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const SVG = "http://www.w3.org/2000/svg";
  const COLORS = 8;
  const DASHES = ["", "6 3", "2 3", "8 3 2 3"];
  const OPEN_CLASSES = 40;
  const TABLE_CLASSES = 100;
  const RELOAD_SECONDS = 15;

  // ---------------------------------------------------------------- elements

  /** Returns an element: functions are listeners, "style" an object, children texts or nodes. */
  function element(tag, attributes = {}, ...children) {
    return fill(document.createElement(tag), attributes, children);
  }

  function svgElement(tag, attributes = {}, ...children) {
    return fill(document.createElementNS(SVG, tag), attributes, children);
  }

  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (typeof value === "function") node.addEventListener(name.slice(2), value);
      else if (name === "style") {
        for (const [key, text] of Object.entries(value)) node.style.setProperty(key, text);
      } else node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return node;
  }

  let count = 0;
  const newId = (prefix) => `${prefix}-${(count += 1)}`;
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
  const some = (list) => Array.isArray(list) && list.length > 0;

  // Switches survive a reload of the page, which a run in training asks for every few seconds.
  const place = `gaxn:${location.pathname}`;
  const memory = read("sessionStorage");

  function read(storage) {
    try {
      return JSON.parse(window[storage].getItem(place)) || {};
    } catch {
      return {};
    }
  }

  function write(storage, value) {
    try {
      window[storage].setItem(place, JSON.stringify(value));
      return true;
    } catch {
      return false;
    }
  }

  const recall = (name, initial) => (Object.hasOwn(memory, name) ? memory[name] : initial);

  function remember(name, value) {
    memory[name] = value;
    write("sessionStorage", memory);
  }

  // ---------------------------------------------------------------- numbers

  function number(value) {
    if (!isNumber(value)) return "–";
    const size = Math.abs(value);
    if (Number.isInteger(value) && size < 1e12) return value.toLocaleString("en-US");
    if (size >= 1e6 || size < 1e-4) return value.toExponential(2);
    if (size >= 1e4) return Math.round(value).toLocaleString("en-US");
    return String(Number(value.toPrecision(4)));
  }

  /** Returns the value to the second digit of its error. */
  function withError(value, error) {
    if (!isNumber(value) || !isNumber(error) || error <= 0) return number(value);
    const digits = 1 - Math.floor(Math.log10(error));
    if (digits > 7 || Math.abs(value) >= 1e6) return `${number(value)} ± ${number(error)}`;
    const places = Math.max(digits, 0);
    const text = (part) =>
      part.toLocaleString("en-US", {
        minimumFractionDigits: places, maximumFractionDigits: places });
    return `${text(value)} ± ${text(error)}`;
  }

  function duration(seconds) {
    if (seconds < 60) return `${Math.round(seconds)} s`;
    const minutes = Math.round(seconds / 60);
    if (minutes < 60) return `${minutes} min`;
    const hours = Math.floor(minutes / 60);
    if (hours < 48) return `${hours} h ${minutes % 60} min`;
    return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  }

  const short = (value) =>
    Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 3 })
      .format(value).replace("K", "k");

  // ---------------------------------------------------------------- tables and controls

  /** Returns a table; a cell is a text, a node, or {text, class}. Row heads come first in a row. */
  function table(caption, columns, rows, kind = "") {
    const body = rows.map((row) =>
      row.group !== undefined
        ? element("tr", { class: "group" },
            element("th", { scope: "colgroup", colspan: columns.length }, row.group))
        : element("tr", {}, row.map((cell, index) => tableCell(cell, index === 0))),
    );
    return element("div", { class: "scroll" },
      element("table", { class: kind },
        element("caption", {}, caption),
        element("thead", {}, element("tr", {}, columns.map((column) => {
          const label = typeof column === "string" ? { text: column } : column;
          return element("th", { scope: "col", class: label.class }, label.text);
        }))),
        element("tbody", {}, body)));
  }

  function tableCell(cell, head) {
    const content = cell instanceof Node || typeof cell !== "object" ? { text: cell } : cell;
    const parts = Array.isArray(content.text) ? content.text : [content.text];
    return element(head ? "th" : "td", { scope: head ? "row" : null, class: content.class }, parts);
  }

  const right = (text) => ({ text, class: "number" });

  function checkbox(label, checked, change, attributes = {}) {
    const box = element("input", { type: "checkbox", ...attributes });
    box.checked = checked;
    box.addEventListener("change", () => change(box.checked));
    return element("label", {}, box, label);
  }

  function radios(label, options, value, change) {
    const name = newId("choice");
    return element("fieldset", {}, element("legend", {}, label),
      options.map(([option, text]) => {
        const input = element("input", { type: "radio", name, value: option });
        input.checked = option === value;
        input.addEventListener("change", () => change(option));
        return element("label", {}, input, text);
      }));
  }

  /** Returns a slider with its value as text; `change` gets the position and returns the text. */
  function slider(label, positions, value, change, attributes = {}) {
    const id = newId("slider");
    const output = element("output", { for: id });
    const input = element("input", {
      type: "range", id, min: 0, max: Math.max(positions - 1, 0), step: 1, ...attributes,
    });
    const update = () => {
      const text = change(Number(input.value));
      output.textContent = text;
      input.setAttribute("aria-valuetext", text);
    };
    input.value = value;
    input.addEventListener("input", update);
    const row = element("div", { class: "wide" }, element("span", {},
      element("label", { for: id }, label)), input, output);
    row.update = update;
    row.input = input;
    return row;
  }

  // ---------------------------------------------------------------- pictures

  /** Returns the data of a picture; "" of anything that would need the network. */
  function source(image) {
    const text = String(image.src);
    const key = text.slice(1);
    const images = data.images || {};
    const shared = Object.hasOwn(images, key) ? images[key] : "";
    const url = text.startsWith("@") ? shared : text;
    return /^data:image\/(webp|png|gif|jpeg);base64,/.test(url) ? url : "";
  }

  /** Returns whether pixels stay squares: where the data says so, and in very small pictures. */
  const isPixelated = (image) => Boolean(image.pixelated) || image.width <= 64;

  function plain(image, size = 0) {
    return element("img", {
      src: source(image), alt: image.alt || "", width: image.width, height: image.height,
      class: isPixelated(image) ? "pixelated" : null, style: { width: widthOf(image, size) },
    });
  }

  /** Returns the width of a picture as CSS: at most the room that there is. */
  function widthOf(image, size) {
    if (typeof size === "string") return size;
    return `min(100%, ${size || image.width * (isPixelated(image) ? 2 : 1)}px)`;
  }

  /** Returns a picture that a click, or the enter key, enlarges. */
  function picture(image, size = 0) {
    const node = plain(image, "100%");
    const button = element("button", {
      class: "picture", type: "button", title: "Enlarge", onclick: () => enlarge(button.image),
      style: { width: widthOf(image, size) },
    }, node);
    button.image = image;
    button.show = (next) => {
      button.image = next;
      node.src = source(next);
      node.alt = next.alt || "";
      node.width = next.width;
      node.height = next.height;
    };
    return button;
  }

  const dialog = element("dialog", { "aria-label": "Enlarged picture" });

  function enlarge(image) {
    const room = Math.min((innerWidth * 0.94) / image.width, (innerHeight * 0.82) / image.height);
    const factor = room >= 1 ? (isPixelated(image) ? Math.floor(room) : Math.min(room, 3)) : room;
    const close = element("button", { type: "button", onclick: () => dialog.close() }, "Close");
    dialog.replaceChildren(
      element("div", { class: "bar" }, element("span", {}, image.alt || ""), close),
      plain(image, `${image.width * factor}px`));
    dialog.showModal();
  }

  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });

  /** Returns a moving picture with a button that stops it: a canvas draws its first frame only. */
  function moving(image, title, size = 0) {
    const node = plain(image, size);
    const first = element("canvas", {
      width: image.width, height: image.height, role: "img", "aria-label": `${image.alt}, stopped`,
      class: node.className, style: { width: node.style.width },
    });
    const button = element("button", { type: "button" });
    const play = (on) => {
      button.textContent = on ? "Stop" : "Play";
      button.setAttribute("aria-label", `${button.textContent}: ${title}`);
      node.hidden = !on;
      first.hidden = on;
    };
    const draw = () => first.getContext("2d").drawImage(node, 0, 0, image.width, image.height);
    node.decode().then(draw, () => {});
    button.addEventListener("click", () => play(node.hidden));
    still.addEventListener("change", () => play(!still.matches));
    play(!still.matches);
    return element("figure", { class: "animation" },
      element("div", { class: "title inline" }, title, button), element("div", {}, node, first));
  }

  function titled(title, image, size = 0, caption = "") {
    return element("figure", {}, element("div", { class: "title" }, title), picture(image, size),
      caption ? element("figcaption", {}, caption) : null);
  }

  // ---------------------------------------------------------------- charts

  /** All charts of the page: they share zoom, cursor, switches and runs. */
  const group = {
    charts: [],
    zoom: null,
    smooth: recall("smooth", false),
    weight: recall("weight", 0.9),
    axis: recall("axis", "steps"),
    hidden: new Set(recall("hidden", [])),
    redraw() {
      for (const chart of this.charts) chart.draw();
      this.changed();
    },
    changed() {},
  };

  const scaleOf = (run) => (group.axis === "images" ? run.images_per_step || 1 : 1);

  /** Returns the exponential moving average, without the bias towards its start. */
  function smoothed(values, weight) {
    let mean = 0;
    let total = 0;
    return values.map((value) => {
      if (!isNumber(value)) return value;
      mean = weight * mean + (1 - weight) * value;
      total = weight * total + 1 - weight;
      return mean / total;
    });
  }

  /** Returns the index of the nearest of sorted steps. */
  function nearest(steps, step) {
    let low = 0;
    let high = steps.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (steps[middle] < step) low = middle;
      else high = middle;
    }
    return Math.abs(steps[high] - step) < Math.abs(steps[low] - step) ? high : low;
  }

  function linearTicks(low, high, wanted) {
    const raw = (high - low) / wanted;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((part) => part * power).find((part) => part >= raw);
    const ticks = [];
    for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index += 1) {
      // Without the sign of a negative zero.
      ticks.push(index * step || 0);
    }
    const places = clamp(-Math.floor(Math.log10(step) + 1e-9), 0, 12);
    const large = Math.max(Math.abs(low), Math.abs(high));
    const text = (tick) => {
      if (large >= 1e4) return short(tick);
      return large < 1e-3 ? Number(tick.toPrecision(6)).toExponential() : tick.toFixed(places);
    };
    return ticks.map((tick) => [tick, text(Math.abs(tick) < step / 1e6 ? 0 : tick)]);
  }

  function logTicks(low, high) {
    const first = Math.floor(Math.log10(low));
    const last = Math.ceil(Math.log10(high));
    const every = Math.ceil((last - first) / 6);
    const parts = last - first > 2 ? [1] : [1, 2, 5];
    const ticks = [];
    for (let power = first; power <= last; power += every) {
      for (const part of parts) {
        const tick = part * 10 ** power;
        if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(Number(tick.toPrecision(1)));
      }
    }
    if (ticks.length < 2) return linearTicks(low, high, 6);
    return ticks.map((tick) => [
      tick, tick >= 1e4 || tick < 1e-3 ? tick.toExponential().replace("e+", "e") : String(tick)]);
  }

  /** Returns the path of a line with at most four points a pixel: first, lowest, highest, last. */
  function path(xs, ys, x, y) {
    let text = "";
    let pen = false;
    let column = null;
    const flush = () => {
      if (!column) return;
      const { first, low, high, last } = column;
      const points = [...new Set([first, low, high, last])].sort((a, b) => a - b);
      for (const index of points) {
        text += `${pen ? "L" : "M"}${x(xs[index]).toFixed(1)} ${y(ys[index]).toFixed(1)}`;
        // A point alone is drawn as a dot, by the round cap of a line without length.
        if (!pen) text += "h0";
        pen = true;
      }
      column = null;
    };
    xs.forEach((step, index) => {
      if (!isNumber(ys[index]) || !Number.isFinite(y(ys[index]))) {
        flush();
        pen = false;
        return;
      }
      const pixel = Math.round(x(step));
      if (column && column.pixel !== pixel) flush();
      if (!column) column = { pixel, first: index, low: index, high: index, last: index };
      if (ys[index] < ys[column.low]) column.low = index;
      if (ys[index] > ys[column.high]) column.high = index;
      column.last = index;
    });
    flush();
    return text;
  }

  function bandPath(line, x, y) {
    const points = line.xs.map((step, index) => [step, line.low[index], line.high[index]]);
    const drawn = points.filter(([, low, high]) =>
      isNumber(low) && isNumber(high) && Number.isFinite(y(low)) && Number.isFinite(y(high)));
    if (!drawn.length) return "";
    const there = drawn.map(([step, , high]) => `${x(step).toFixed(1)} ${y(high).toFixed(1)}`);
    const back = drawn.map(([step, low]) => `${x(step).toFixed(1)} ${y(low).toFixed(1)}`).reverse();
    return `M${there.join("L")}L${back.join("L")}Z`;
  }

  function sample(line) {
    return svgElement("svg", { viewBox: "0 0 20 10", "aria-hidden": "true" }, svgElement("path", {
      class: "sample", d: "M1 5H19", "stroke-dasharray": line.dash || null,
      style: { "--color": line.color } }));
  }

  class Chart {
    /** A panel: {title, unit, log, lines}; a line: a series with label, run, color and dash. */
    constructor(panel, first) {
      Object.assign(this, panel);
      this.first = first;
      this.log = recall(`log:${panel.title}`, Boolean(panel.log));
      this.off = new Set();
      this.svg = svgElement("svg", {
        tabindex: 0, role: "group", height: 190,
        "aria-label": `Chart of ${panel.title}. Arrow keys move along the steps.`,
      });
      this.tip = element("div", { class: "tip", hidden: true, role: "status" });
      this.note = element("figcaption", { hidden: true });
      this.button = element("button", {
        type: "button", onclick: () => this.setLog(!this.log),
      });
      this.button.setAttribute("aria-label", `Logarithmic: ${panel.title}`);
      this.legend = element("div", { class: "legend" });
      this.node = element("figure", { class: "chart" },
        element("div", { class: "top" },
          element("h3", {}, panel.title,
            panel.unit ? element("span", { class: "muted" }, ` (${panel.unit})`) : null),
          this.button),
        this.svg, this.tip, this.legend, this.note);
      this.listen();
      this.makeLegend();
    }

    setLog(on) {
      this.log = on;
      remember(`log:${this.title}`, on);
      this.draw();
      group.changed();
    }

    makeLegend() {
      const names = new Map();
      for (const line of this.lines) {
        if (!names.has(line.name)) names.set(line.name, line);
      }
      this.legend.replaceChildren(...[...names].map(([name, line]) => {
        const shown = comparison ? { ...line, color: "var(--muted)" } : line;
        const last = comparison ? null : line.values.filter(isNumber).at(-1);
        const button = element("button", {
          type: "button", "aria-pressed": "true", title: line.label === name ? null : name,
        }, sample(shown), line.label,
        isNumber(last) ? element("span", { class: "last" }, number(last)) : null);
        button.addEventListener("click", () => {
          const on = this.off.delete(name);
          if (!on) this.off.add(name);
          button.setAttribute("aria-pressed", String(on));
          this.draw();
        });
        return button;
      }));
      this.legend.hidden = comparison && names.size < 2;
    }

    visible() {
      return this.lines.filter((line) => !this.off.has(line.name) && !group.hidden.has(line.run));
    }

    /** Returns the smallest and largest of the values of all lines within the zoom. */
    range(lines, [left, right]) {
      let low = Infinity;
      let high = -Infinity;
      for (const line of lines) {
        line.xs.forEach((step, index) => {
          if (step < left || step > right) return;
          for (const values of [line.values, line.low, line.high]) {
            const value = values ? values[index] : null;
            if (!isNumber(value) || (this.logged && value <= 0)) continue;
            if (value < low) low = value;
            if (value > high) high = value;
          }
        });
      }
      return [low, high];
    }

    draw() {
      const lines = this.visible();
      for (const line of this.lines) {
        const scale = scaleOf(runs[line.run]);
        if (line.scale !== scale) {
          line.scale = scale;
          line.xs = line.steps.map((step) => step * scale);
        }
      }
      const width = Math.max(Math.round(this.svg.getBoundingClientRect().width), 240);
      const height = 190;
      const domain = group.zoom || group.domain;
      this.logged = this.log;
      let [low, high] = this.range(lines, domain);
      let without = 0;
      if (this.log && low > high) {
        // Nothing is above zero: a logarithm would leave the panel empty.
        this.logged = false;
        [low, high] = this.range(lines, domain);
      } else if (this.log) {
        const negative = (value) => isNumber(value) && value <= 0;
        for (const line of lines) without += line.values.filter(negative).length;
      }
      const nothing = low > high;
      if (nothing) [low, high] = this.logged ? [1, 10] : [0, 1];
      const least = Math.max(Math.abs(low), Math.abs(high)) * 1e-4 || 1e-6;
      if (high - low < least) [low, high] = [low - least, high + least];
      const pad = this.logged ? (high / low) ** 0.05 : (high - low) * 0.05;
      [low, high] = this.logged ? [low / pad, high * pad] : [low - pad, high + pad];
      const ticks = this.logged ? logTicks(low, high) : linearTicks(low, high, 6);
      const longest = Math.max(...ticks.map(([, text]) => text.length));
      const box = { left: Math.max(longest * 6.3 + 10, 36), right: width - 10, top: 12,
        bottom: height - 22 };
      const x = (value) =>
        box.left + ((value - domain[0]) / (domain[1] - domain[0])) * (box.right - box.left);
      const part = this.logged
        ? (value) => (value > 0 ? Math.log(value / low) / Math.log(high / low) : NaN)
        : (value) => (value - low) / (high - low);
      const y = (value) => box.bottom - part(value) * (box.bottom - box.top);
      this.view = { x, y, box, domain, lines };
      const clip = newId("clip");
      const drawing = svgElement("g", { "clip-path": `url(#${clip})` });
      for (const line of lines) {
        const style = { "--color": line.color };
        const dash = line.dash || null;
        if (line.low && line.high) {
          drawing.append(svgElement("path", { class: "band", style, d: bandPath(line, x, y) }));
        }
        drawing.append(svgElement("path", {
          class: group.smooth ? "line faint" : "line", style, "stroke-dasharray": dash,
          d: path(line.xs, line.values, x, y) }));
        line.smooth = group.smooth ? smoothed(line.values, group.weight) : null;
        if (line.smooth) {
          drawing.append(svgElement("path", { class: "line smooth", style,
            "stroke-dasharray": dash, d: path(line.xs, line.smooth, x, y) }));
        }
      }
      this.cursor = svgElement("g");
      this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      this.svg.replaceChildren(
        svgElement("clipPath", { id: clip }, svgElement("rect", {
          x: box.left, y: box.top - 2, width: box.right - box.left,
          height: box.bottom - box.top + 4 })),
        ...ticks.flatMap(([tick, text]) => [
          svgElement("path", { class: "rule", d: `M${box.left} ${y(tick)}H${box.right}` }),
          svgElement("text", { x: box.left - 6, y: y(tick) + 4, "text-anchor": "end" }, text)]),
        ...linearTicks(domain[0], domain[1], width / 90).map(([tick]) => svgElement("text", {
          x: x(tick), y: height - 6, "text-anchor": x(tick) > width - 24 ? "end" : "middle",
        }, short(tick))),
        svgElement("path", {
          class: "axis", d: `M${box.left} ${box.top}V${box.bottom}H${box.right}` }),
        drawing, ...this.drawMarks(), this.cursor);
      if (nothing) {
        this.svg.append(svgElement("text", {
          x: (box.left + box.right) / 2, y: (box.top + box.bottom) / 2, "text-anchor": "middle",
        }, "no values here"));
      }
      this.button.setAttribute("aria-pressed", String(this.log));
      this.button.textContent = this.logged ? "log" : "linear";
      this.note.hidden = !without && this.log === this.logged;
      this.note.textContent = without
        ? `${number(without)} values of zero or less have no logarithm.`
        : "No value is above zero: the scale stays linear.";
    }

    /** Draws the warnings; those within a few pixels of each other share a mark. */
    drawMarks() {
      const { x, box, domain } = this.view;
      const marks = [];
      for (const warning of group.warnings) {
        if (group.hidden.has(warning.run)) continue;
        const step = warning.step * scaleOf(runs[warning.run]);
        if (step < domain[0] || step > domain[1]) continue;
        const previous = marks.at(-1);
        if (previous && x(step) - x(previous.step) < 6) previous.texts.push(warning.label);
        else marks.push({ step, texts: [warning.label] });
      }
      this.marks = marks;
      return marks.map((mark) => {
        const at = x(mark.step);
        const show = () => this.point(mark.step);
        return svgElement("g", {
          // One panel is enough for the keyboard: the others have the same marks.
          class: "mark", tabindex: this.first ? 0 : null, role: "img",
          "aria-label": `Warning: ${mark.texts.join("; ")}`, onfocus: show, onblur: () => leave(),
        },
        svgElement("line", { x1: at, x2: at, y1: box.top, y2: box.bottom }),
        svgElement("path", { d: `M${at - 4} ${box.top - 9}h8l-4 8z` }),
        svgElement("rect", { x: at - 6, y: box.top - 11, width: 12, height: 12 }));
      });
    }

    /** Shows the values at a place of the x axis, in words here and as dots in every panel. */
    point(place) {
      group.place = place;
      for (const chart of group.charts) chart.showCursor(place);
      for (const chart of group.charts) chart.tip.hidden = chart !== this;
      const { x, box, lines } = this.view;
      const steps = lines.filter((line) => line.xs.length)
        .map((line) => line.xs[nearest(line.xs, place)]);
      const step = steps.length ? steps[nearestOf(steps, place)] : place;
      const rows = lines.filter((line) => line.xs.length).map((line) => {
        const index = nearest(line.xs, step);
        const value = line.values[index];
        const name = comparison ? `${runs[line.run].label}: ${line.label}` : line.label;
        const notes = [];
        if (line.low && isNumber(line.low[index])) {
          notes.push(`${number(line.low[index])} to ${number(line.high[index])}`);
        }
        if (line.smooth) notes.push(`smoothed ${number(line.smooth[index])}`);
        if (line.xs[index] !== step) notes.push(`at ${number(line.xs[index])}`);
        const note = notes.length ? ` (${notes.join(", ")})` : "";
        return { name, value, color: line.color, text: number(value) + note };
      });
      if (rows.length > 14) rows.sort((a, b) => (b.value ?? -Infinity) - (a.value ?? -Infinity));
      const texts = this.marks.filter((mark) => Math.abs(x(mark.step) - x(place)) < 7)
        .flatMap((mark) => mark.texts);
      this.tip.replaceChildren(
        element("div", {}, `${group.axis === "images" ? "images seen" : "step"} ${number(step)}`),
        element("table", {}, rows.slice(0, 14).map((row) => element("tr", {},
          element("td", {},
            element("span", { class: "swatch", style: { "--color": row.color } }), row.name),
          element("td", {}, row.text)))),
        rows.length > 14 ? element("div", { class: "muted" }, `and ${rows.length - 14} more`) : "",
        ...texts.map((text) => element("div", { class: "warning" }, text)));
      const middle = (box.left + box.right) / 2;
      this.tip.style.left = x(place) > middle ? `${box.left + 4}px` : "auto";
      this.tip.style.right = x(place) > middle ? "auto" : "10px";
    }

    showCursor(place) {
      const { x, y, box, lines } = this.view;
      const at = x(place);
      this.cursor.replaceChildren();
      if (at < box.left || at > box.right) return;
      this.cursor.append(svgElement("line", {
        class: "cursor", x1: at, x2: at, y1: box.top, y2: box.bottom }));
      for (const line of lines) {
        if (!line.xs.length) continue;
        const index = nearest(line.xs, place);
        const value = (line.smooth || line.values)[index];
        const [cx, cy] = [x(line.xs[index]), y(value)];
        if (!isNumber(value) || !Number.isFinite(cy) || cx < box.left || cx > box.right) continue;
        this.cursor.append(svgElement("circle", {
          class: "dot", cx, cy, r: 3, style: { "--color": line.color } }));
      }
    }

    listen() {
      const { svg } = this;
      let start = null;
      let shade = null;
      const at = (event) => {
        const { box, domain } = this.view;
        const bounds = svg.getBoundingClientRect();
        const pixel = ((event.clientX - bounds.left) / bounds.width) * svg.viewBox.baseVal.width;
        const share = clamp((pixel - box.left) / (box.right - box.left), 0, 1);
        return domain[0] + share * (domain[1] - domain[0]);
      };
      svg.addEventListener("pointermove", (event) => {
        const place = at(event);
        this.point(place);
        if (start === null) return;
        const { x, box } = this.view;
        shade = shade || this.svg.appendChild(svgElement("rect", { class: "drag", y: box.top,
          height: box.bottom - box.top }));
        shade.setAttribute("x", Math.min(x(start), x(place)));
        shade.setAttribute("width", Math.abs(x(place) - x(start)));
      });
      svg.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        start = at(event);
        svg.setPointerCapture(event.pointerId);
      });
      const end = (event) => {
        const from = start;
        start = null;
        if (shade) shade.remove();
        shade = null;
        if (from === null || event.type === "pointercancel") return;
        const to = at(event);
        if (Math.abs(this.view.x(to) - this.view.x(from)) > 5) zoomTo(from, to);
      };
      svg.addEventListener("pointerup", end);
      svg.addEventListener("pointercancel", end);
      svg.addEventListener("pointerleave", () => leave());
      svg.addEventListener("dblclick", () => zoomTo(null));
      svg.addEventListener("blur", () => leave());
      svg.addEventListener("keydown", (event) => this.key(event));
    }

    key(event) {
      const { lines, domain } = this.view;
      if (event.key === "Escape") {
        zoomTo(null);
        return;
      }
      if (!["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) return;
      event.preventDefault();
      const steps = [...new Set(lines.flatMap((line) => line.xs))]
        .filter((step) => step >= domain[0] && step <= domain[1]).sort((a, b) => a - b);
      if (!steps.length) return;
      let index = nearest(steps, group.place ?? steps.at(-1));
      if (event.key === "Home") index = 0;
      else if (event.key === "End") index = steps.length - 1;
      else index += (event.key === "ArrowLeft" ? -1 : 1) * (event.shiftKey ? 10 : 1);
      this.point(steps[clamp(index, 0, steps.length - 1)]);
    }
  }

  const nearestOf = (values, place) => values.reduce((best, value, index) =>
    Math.abs(value - place) < Math.abs(values[best] - place) ? index : best, 0);

  function leave() {
    for (const chart of group.charts) {
      chart.tip.hidden = true;
      chart.cursor.replaceChildren();
    }
  }

  function zoomTo(from, to) {
    const [low, high] = group.domain;
    if (from === null) group.zoom = null;
    else {
      const left = clamp(Math.min(from, to), low, high);
      const right = clamp(Math.max(from, to), low, high);
      group.zoom = right > left && (left > low || right < high) ? [left, right] : null;
    }
    remember("zoom", group.zoom);
    group.redraw();
  }

  /** Sets the x axis of all panels: from the first to the last step of any line. */
  function setDomain() {
    let low = Infinity;
    let high = -Infinity;
    for (const chart of group.charts) {
      for (const line of chart.lines) {
        const scale = scaleOf(runs[line.run]);
        if (!line.steps.length) continue;
        low = Math.min(low, line.steps[0] * scale);
        high = Math.max(high, line.steps.at(-1) * scale);
      }
    }
    if (low > high) [low, high] = [0, 1];
    group.domain = low < high ? [low, high] : [low, low + 1];
  }

  /** Returns names by full name, without the parts before a slash that all have in common. */
  function shortNames(names) {
    const parts = names.map((name) => name.split("/"));
    let common = 0;
    while (names.length > 1 && parts.every((each) =>
      each.length > common + 1 && each[common] === parts[0][common])) common += 1;
    return new Map(names.map((name, index) => [name, parts[index].slice(common).join("/")]));
  }

  const colorOf = (index) => `var(--c${index % COLORS})`;

  /** Returns the panels of all runs, those of one title as one. */
  function panels() {
    const byTitle = new Map();
    runs.forEach((run, index) => {
      for (const panel of run.curves || []) {
        if (!byTitle.has(panel.title)) byTitle.set(panel.title, { ...panel, lines: [], names: [] });
        const merged = byTitle.get(panel.title);
        for (const series of panel.series) {
          if (!merged.names.includes(series.name)) merged.names.push(series.name);
          const order = merged.names.indexOf(series.name);
          merged.lines.push({
            ...series, run: index, color: colorOf(comparison ? index : order),
            dash: DASHES[(comparison ? order : Math.floor(order / COLORS)) % DASHES.length],
          });
        }
      }
    });
    for (const panel of byTitle.values()) {
      const labels = shortNames(panel.names);
      for (const line of panel.lines) line.label = labels.get(line.name);
    }
    return [...byTitle.values()].filter((panel) => some(panel.lines));
  }

  function curves() {
    const all = panels();
    if (!all.length) return null;
    group.warnings = runs.flatMap((run, index) => (run.warnings || []).map((warning) => ({
      ...warning, run: index,
      label: `${comparison ? `${run.label}, ` : ""}step ${number(warning.step)}: ${warning.text}`,
    }))).sort((a, b) => a.step - b.step);
    group.charts = all.map((panel, index) => new Chart(panel, index === 0));
    setDomain();
    group.zoom = recall("zoom", null);

    const logBox = element("input", { type: "checkbox", id: "log" });
    logBox.addEventListener("change", () => {
      // The box follows the charts while they change one by one.
      const on = logBox.checked;
      for (const chart of group.charts) chart.setLog(on);
    });
    const weight = element("input", {
      type: "range", min: 0, max: 0.99, step: 0.01, "aria-label": "Weight of the moving average",
      id: "weight" });
    const weightText = element("output", { for: "weight" });
    weight.value = group.weight;
    const setWeight = () => {
      group.weight = Number(weight.value);
      weightText.textContent = group.weight.toFixed(2);
      weight.disabled = !group.smooth;
    };
    weight.addEventListener("input", () => {
      setWeight();
      remember("weight", group.weight);
      group.redraw();
    });
    const edges = ["from", "to"].map((name) => element("input", {
      type: "number", id: `zoom-${name}`, "aria-label": `x axis ${name}`, step: "any" }));
    for (const edge of edges) {
      edge.addEventListener("change", () => zoomTo(Number(edges[0].value), Number(edges[1].value)));
    }
    const reset = element("button", {
      type: "button", id: "zoom-reset", onclick: () => zoomTo(null) }, "Whole range");
    group.changed = () => {
      const logs = group.charts.filter((chart) => chart.log).length;
      logBox.checked = logs === group.charts.length;
      logBox.indeterminate = logs > 0 && !logBox.checked;
      reset.disabled = !group.zoom;
      (group.zoom || group.domain).forEach((value, index) => {
        edges[index].value = Math.round(value);
      });
    };
    setWeight();
    const controls = element("div", { class: "controls" },
      element("label", {}, logBox, "Logarithmic"),
      checkbox("Smoothed", group.smooth, (on) => {
        group.smooth = on;
        remember("smooth", on);
        setWeight();
        group.redraw();
      }, { id: "smooth" }),
      element("span", { class: "inline" }, weight, weightText),
      runs.some((run) => run.images_per_step > 0)
        ? radios("x axis:", [["steps", "steps"], ["images", "images seen"]], group.axis, (axis) => {
          group.axis = axis;
          remember("axis", axis);
          leave();
          for (const chart of group.charts) chart.draw();
          setDomain();
          zoomTo(null);
        })
        : null,
      element("span", { class: "inline" }, "from", edges[0], "to", edges[1]), reset);

    const switchOf = (run, index) => {
      const shown = () => String(!group.hidden.has(index));
      const button = element("button", { type: "button", "aria-pressed": shown() },
        sample({ color: colorOf(index), dash: "" }), run.label);
      button.addEventListener("click", () => {
        if (!group.hidden.delete(index)) group.hidden.add(index);
        button.setAttribute("aria-pressed", shown());
        remember("hidden", [...group.hidden]);
        leave();
        group.redraw();
      });
      return button;
    };
    const switches = comparison
      ? element("div", { class: "runs legend" }, runs.map(switchOf)) : null;

    const warnings = group.warnings.length ? element("details", { open: group.warnings.length < 6 },
      element("summary", { class: "warning" }, group.warnings.length === 1
        ? "1 warning" : `${group.warnings.length} warnings`),
      element("ul", { class: "small warnings" }, group.warnings.map((warning) =>
        element("li", {}, warning.label)))) : null;

    return section("curves", "Curves", [
      controls, switches, warnings,
      element("div", { class: "charts" }, group.charts.map((chart) => chart.node)),
      element("p", { class: "small muted controls" },
        "Point at a chart for its values. Drag to zoom all charts; a double click shows all."),
    ]);
  }

  // ---------------------------------------------------------------- sections

  const sections = [];

  function section(id, title, children) {
    const heading = newId("heading");
    return element("section", { id, "aria-labelledby": heading },
      element("h2", { id: heading }, title), children);
  }

  const STATES = {
    training: "Training", done: "Done", stopped: "Stopped", failed: "Failed",
  };

  function stateLine(run) {
    const { state } = run;
    const parts = [element("strong", {}, STATES[state.kind] || state.kind)];
    const text = [`step ${number(state.step)} of ${number(state.steps)}`];
    if (state.kind === "training") {
      parts.push(element("progress", {
        value: state.step, max: Math.max(state.steps, 1), "aria-label": "Steps trained" }));
    }
    if (isNumber(state.images_per_second)) text.push(`${number(state.images_per_second)} images/s`);
    if (state.kind === "training" && isNumber(state.seconds_left)) {
      text.push(`${duration(state.seconds_left)} left`);
    }
    return element("div", { class: `state ${state.kind}` }, parts,
      element("span", {}, text.join(" · ")));
  }

  function commandLine(command) {
    const code = element("code", {}, command);
    const button = element("button", { type: "button", onclick: async () => {
      let done = true;
      try {
        await navigator.clipboard.writeText(command);
      } catch {
        getSelection().selectAllChildren(code);
        done = document.execCommand("copy");
      }
      button.textContent = done ? "Copied" : "Selected";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    } }, "Copy");
    return element("div", { class: "command" }, element("pre", {}, code), button);
  }

  const ARROWS = { lower: " ↓", higher: " ↑" };

  /** Returns a table of figures with their errors and the same figures of real images. */
  function figuresTable(caption, figures) {
    const real = figures.some((figure) => isNumber(figure.real));
    const columns = ["Figure", { text: "Value ± error", class: "number" }];
    if (real) columns.push({ text: "Real vs real", class: "number" });
    return table(caption, columns, figures.map((figure) => {
      const name = [figure.name];
      if (Object.hasOwn(ARROWS, figure.better)) {
        name.push(element("span", { role: "img", "aria-label": `, ${figure.better} is better`,
          title: `${figure.better} is better` }, ARROWS[figure.better]));
      }
      const row = [{ text: name }, right(withError(figure.value, figure.error))];
      if (real) row.push(right(number(figure.real)));
      return row;
    }));
  }

  function byPart(headlines) {
    const parts = [...new Set(headlines.map((figure) => figure.part))];
    if (parts.length < 2) return headlines;
    return headlines.map((figure) => ({ ...figure, name: `${figure.part}: ${figure.name}` }));
  }

  function definitions(list) {
    return element("dl", {}, list.map((fact) =>
      element("div", {}, element("dt", {}, fact.name), element("dd", {}, fact.value))));
  }

  function head() {
    const run = runs[0];
    const left = element("div");
    const node = element("header", {},
      element("div", { class: "name" }, element("h1", {},
        comparison ? `Comparison of ${runs.length} runs` : run.name), reloadSwitch()),
      data.generated_at ? element("p", { class: "small muted" }, `Written ${written()}`) : null);
    if (comparison) {
      node.append(table("The runs", ["Run", "Trained", "State"], runs.map((each) => [
        { text: each.label }, { text: each.sentence, class: "text" }, stateLine(each)])));
      return node;
    }
    left.append(element("p", {}, run.sentence), stateLine(run));
    if (run.state.message) left.append(element("p", { class: "message" }, run.state.message));
    if (some(run.headlines)) {
      left.append(figuresTable(
        "Figures that matter. Real vs real: the same measurement of real images.",
        byPart(run.headlines)));
    }
    const grids = (run.samples && run.samples.grids) || [];
    const best = grids[run.samples ? run.samples.best : -1] || grids.at(-1);
    const which = best === grids.at(-1) ? "" : ", the best of the run";
    node.append(element("div", { class: "head" }, left, best ? element("figure", { class: "best" },
      picture(best.image, wideSize(best.image)),
      element("figcaption", {},
        `Samples at step ${number(best.step)}${which}. ${run.samples.caption || ""}`)) : null));
    if (run.command) node.append(commandLine(run.command));
    if (some(run.facts)) node.append(definitions(run.facts));
    return node;
  }

  /** Returns the width for a grid of samples: the room that there is, up to four times its size. */
  const wideSize = (image) => image.width * (isPixelated(image) ? 4 : 1.5);

  function written() {
    const date = new Date(data.generated_at);
    return Number.isNaN(date.getTime()) ? String(data.generated_at)
      : `${date.toISOString().slice(0, 16).replace("T", " ")} UTC`;
  }

  /** Returns the switch that reloads the page while a run trains; null if all runs are done. */
  function reloadSwitch() {
    if (runs.every((run) => run.state.kind === "done")) return null;
    let on = read("localStorage").reload === true || location.hash === "#reload";
    const timer = setInterval(() => {
      // Not while a picture is enlarged, or text selected.
      if (!on || dialog.open || String(getSelection())) return;
      clearInterval(timer);
      remember("scroll", scrollY);
      location.reload();
    }, RELOAD_SECONDS * 1000);
    return element("span", { class: "controls small" },
      checkbox(`Reload every ${RELOAD_SECONDS} s`, on, (checked) => {
        on = checked;
        if (!write("localStorage", { reload: on })) location.hash = on ? "#reload" : "";
      }, { id: "reload" }));
  }

  function samples() {
    const content = runs[0].samples;
    if (!content) return null;
    const grids = content.grids || [];
    const children = [];
    const animation = content.animation
      ? moving(content.animation, "Through training", wideSize(content.animation)) : null;
    if (grids.length) children.push(...gridView(content, grids, animation));
    else if (content.real) children.push(titled("Real images", content.real));
    return children.length ? section("samples", "Samples", children) : null;
  }

  function gridView(content, grids, animation) {
    const perStep = runs[0].images_per_step || 0;
    const last = grids.length - 1;
    const label = (grid) => `step ${number(grid.step)}`;
    const text = (grid) => (perStep
      ? `${label(grid)} (${short(grid.step * perStep)} images)` : label(grid));
    // The newest grid stays chosen when a reload brings a newer one.
    const chosen = recall("grid", null);
    const start = chosen === null ? last : clamp(chosen, 0, last);
    const size = wideSize(grids[last].image);
    const pictures = { a: picture(grids[start].image, size), b: picture(grids[0].image, size) };
    const titles = { a: element("div", { class: "title" }), b: element("div", { class: "title" }) };
    const over = plain(grids[0].image, "100%");
    const under = plain(grids[start].image, "100%");
    const width = widthOf(grids[last].image, size);
    const split = element("div", { class: "divider", style: { width } }, under,
      element("div", { class: "over" }, over));
    const update = (side) => (index) => {
      const grid = grids[index];
      pictures[side].show(grid.image);
      const layer = side === "a" ? under : over;
      layer.src = source(grid.image);
      layer.alt = grid.image.alt || "";
      titles[side].textContent = `${side === "a" ? "Generated" : "B: generated"}, ${label(grid)}`;
      if (side === "a") remember("grid", index === last ? null : index);
      return text(grid);
    };
    const sliders = {
      a: slider("Step", grids.length, start, update("a"), { "data-slider": "a" }),
      b: slider("Step B", grids.length, 0, update("b"), { "data-slider": "b" }),
    };
    const cut = slider("Divider", 101, 50, (percent) => {
      split.style.setProperty("--cut", `${percent}%`);
      return `${percent}%`;
    }, { "data-slider": "cut" });
    const move = (event) => {
      const bounds = split.getBoundingClientRect();
      cut.input.value = clamp(((event.clientX - bounds.left) / bounds.width) * 100, 0, 100);
      cut.update();
    };
    split.addEventListener("dragstart", (event) => event.preventDefault());
    split.addEventListener("pointerdown", (event) => {
      split.setPointerCapture(event.pointerId);
      move(event);
    });
    split.addEventListener("pointermove", (event) => {
      if (split.hasPointerCapture(event.pointerId)) move(event);
    });
    const figures = {
      a: element("figure", { "data-side": "a" }, titles.a, pictures.a),
      b: element("figure", { "data-side": "b" }, titles.b, pictures.b),
      split: element("figure", { class: "ab" }, element("div", { class: "title" },
        "Left of the divider A, right of it B"), split),
      real: content.real ? titled("Real images", content.real, size) : null,
    };
    const view = (mode) => {
      figures.b.hidden = mode !== "two";
      figures.a.hidden = mode === "divider";
      figures.split.hidden = mode !== "divider";
      sliders.b.hidden = mode === "one";
      cut.hidden = mode !== "divider";
      sliders.a.querySelector("label").textContent = mode === "one" ? "Step" : "Step A";
      remember("view", mode);
    };
    const mode = recall("view", "one");
    const choice = grids.length > 1 ? element("div", { class: "controls" }, radios("Show:",
      [["one", "one step"], ["two", "two steps"], ["divider", "two steps, divided"]], mode, view))
      : null;
    view(mode);
    for (const row of [sliders.a, sliders.b, cut]) row.update();
    return [
      choice, grids.length > 1 ? sliders.a : null, sliders.b, cut,
      element("div", { class: "pictures two" }, figures.a, figures.split, figures.b, figures.real,
        animation),
      content.caption ? element("p", { class: "small muted" }, content.caption) : null,
    ];
  }

  function classes() {
    const run = runs[0];
    const children = [];
    if (run.confusion && some(run.confusion.classes)) children.push(...confusion(run.confusion));
    const cards = (run.samples && run.samples.per_class) || [];
    if (cards.length) {
      const noun = run.has_captions ? "caption" : "class";
      children.push(element("h3", {}, `Samples of each ${noun}`),
        folded(cards.length, () => element("div", { class: "cards" }, cards.map((card) => {
          const figures = Object.entries(card.figures || {})
            .map(([name, value]) => `${name} ${number(value)}`).join(", ");
          return titled(card.name, card.image, 0, figures);
        }))));
    }
    const title = run.has_captions ? "Captions" : "Classes";
    return children.length ? section("classes", title, children) : null;
  }

  /** Returns what `make` gives; of many classes inside a fold that is filled when it is opened. */
  function folded(classCount, make) {
    if (classCount <= OPEN_CLASSES) return make();
    const node = element("details", { class: "large" },
      element("summary", {}, `Show all ${number(classCount)} classes`));
    node.addEventListener("toggle", () => {
      if (node.open && node.childElementCount === 1) node.append(make());
    });
    return node;
  }

  function confusion({ classes: names, matrix, per_class: perClass }) {
    const totals = matrix.map((row) => row.reduce((sum, value) => sum + value, 0));
    const size = names.length;
    const children = [element("h3", {}, "Confusion matrix")];
    if (size > TABLE_CLASSES) children.push(largestConfusions(names, matrix, totals));
    children.push(folded(size, () => (size > TABLE_CLASSES
      ? confusionPicture(names, matrix, totals) : confusionTable(names, matrix, totals))));
    if (some(perClass)) {
      const intra = perClass.some((row) => isNumber(row.intra_frechet_distance));
      const heads = ["Class", ...["Precision", "Recall", "F1", ...(intra
        ? ["Intra Fréchet distance"] : [])].map(right)];
      children.push(element("h3", {}, "Figures of each class"), folded(size, () => table(
        "What a classifier of real images sees, compared with the label asked for", heads,
        perClass.map((row) => [{ text: row.name }, right(number(row.precision)),
          right(number(row.recall)), right(number(row.f1)),
          ...(intra ? [right(number(row.intra_frechet_distance))] : [])]))));
    }
    return children;
  }

  function confusionTable(names, matrix, totals) {
    const label = (name) => element("span", { title: name }, name);
    const rows = matrix.map((row, index) => element("tr", {},
      element("th", { scope: "row" }, label(names[index])),
      row.map((value, column) => {
        const share = value / (totals[index] || 1);
        return element("td", {
          class: index === column ? "diagonal" : null,
          // The square root shows confusions of a few per cent.
          style: { "--share": Math.sqrt(share).toFixed(3) },
          title: `${names[index]} asked for, ${names[column]} seen: ${(100 * share).toFixed(1)}%`,
        }, number(value));
      })));
    return element("div", { class: "scroll" }, element("table", {
      class: names.length > 6 ? "matrix tall" : "matrix" },
    element("caption", {},
      "Rows: the label asked for. Columns: what the classifier sees. Darker: more of the row."),
    element("thead", {}, element("tr", {}, element("td"),
      names.map((name) => element("th", { scope: "col" }, label(name))))),
    element("tbody", {}, rows)));
  }

  function largestConfusions(names, matrix, totals) {
    const pairs = [];
    matrix.forEach((row, index) => row.forEach((value, column) => {
      if (value > 0 && index !== column) pairs.push([value / totals[index], index, column]);
    }));
    pairs.sort((a, b) => b[0] - a[0]);
    return table("The largest confusions", ["Asked for", "Seen", right("Count"), right("Share")],
      pairs.slice(0, 50).map(([share, row, column]) => [{ text: names[row] }, names[column],
        right(number(matrix[row][column])), right(`${(100 * share).toFixed(1)}%`)]));
  }

  /** Draws the matrix of very many classes: a million cells would be too much for a table. */
  function confusionPicture(names, matrix, totals) {
    const size = names.length;
    const canvas = element("canvas", { width: size, height: size, class: "pixelated", role: "img",
      "aria-label": "Confusion matrix; its largest confusions are in the table before it",
      style: { width: `${Math.max(size, 600)}px` } });
    const pixels = new ImageData(size, size);
    matrix.forEach((row, index) => row.forEach((value, column) => {
      const [r, g, b] = heat(Math.sqrt(value / (totals[index] || 1)));
      pixels.data.set([r, g, b, 255], (index * size + column) * 4);
    }));
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    const output = element("figcaption", {}, "Rows: the label asked for. Columns: what is seen.");
    canvas.addEventListener("pointermove", (event) => {
      const bounds = canvas.getBoundingClientRect();
      const [column, row] = [(event.clientX - bounds.left) / bounds.width,
        (event.clientY - bounds.top) / bounds.height]
        .map((share) => clamp(Math.floor(share * size), 0, size - 1));
      output.textContent =
        `${names[row]} asked for, ${names[column]} seen: ${number(matrix[row][column])}`;
    });
    return element("figure", {}, element("div", { class: "scroll" }, canvas), output);
  }

  const DIRECTIONS = { a2b: "A to B", b2a: "B to A" };

  function translation() {
    const directions = runs[0].translation;
    if (!some(directions)) return null;
    const size = "clamp(3.4rem, 17vw, 8rem)";
    const blocks = directions.map((direction) => {
      const name = DIRECTIONS[direction.direction] || direction.direction;
      const examples = direction.examples || [];
      const columns = [["source", "Source"], ["translation", "Translation"],
        ["reconstruction", "Reconstruction"], ["truth", "Truth"]]
        .filter(([key]) => examples.some((example) => example[key]));
      const figures = Object.entries(direction.figures || {});
      const rows = examples.map((example, index) => [{ text: String(index + 1) },
        ...columns.map(([key]) => (example[key] ? picture(example[key], size) : "–"))]);
      return element("div", {}, element("h3", {}, name),
        examples.length ? table(`Examples, ${name}`,
          ["", ...columns.map(([, label]) => label)], rows, "examples") : null,
        figures.length ? table(`Figures, ${name}`, ["Figure", right("Value")],
          figures.map(([key, value]) => [{ text: key }, right(number(value))])) : null);
    });
    return section("translation", "Translation",
      [element("div", { class: "pictures two" }, blocks)]);
  }

  // ---------------------------------------------------------------- attention

  const RAMP = [[6, 4, 24], [66, 16, 104], [150, 38, 104], [220, 80, 60], [250, 160, 30],
    [250, 250, 190]];

  /** Returns the color of a share in [0, 1], from black over red to light yellow. */
  function heat(share) {
    const place = clamp(share, 0, 1) * (RAMP.length - 1);
    const index = Math.min(Math.floor(place), RAMP.length - 2);
    const part = place - index;
    return RAMP[index].map((value, channel) =>
      Math.round(value + part * (RAMP[index + 1][channel] - value)));
  }

  function bytes(text) {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  }

  /** Returns the weights of one query, which sum to 1; head -1 is the mean over heads. */
  function attentionRow(layer, maps, headIndex, query) {
    const queries = layer.side ** 2;
    const keys = layer.keys_side ** 2;
    const chosen = headIndex < 0 ? [...Array(layer.heads).keys()] : [headIndex];
    const row = new Float64Array(keys);
    for (const index of chosen) {
      const start = (index * queries + query) * keys;
      const weights = maps.subarray(start, start + keys);
      const sum = weights.reduce((total, value) => total + value, 0) || 1;
      weights.forEach((value, key) => { row[key] += value / sum / chosen.length; });
    }
    return row;
  }

  function entropyOf(row) {
    if (row.length < 2) return 0;
    return -row.reduce((sum, weight) => sum + (weight > 0 ? weight * Math.log(weight) : 0), 0)
      / Math.log(row.length);
  }

  function distanceOf(row, layer, query) {
    const [qy, qx] = [Math.floor(query / layer.side), query % layer.side]
      .map((cell) => (cell + 0.5) / layer.side);
    return row.reduce((sum, weight, key) => sum + weight * Math.hypot(
      (Math.floor(key / layer.keys_side) + 0.5) / layer.keys_side - qy,
      ((key % layer.keys_side) + 0.5) / layer.keys_side - qx), 0);
  }

  function attention() {
    const views = ((runs[0].attention || {}).views || [])
      .filter((view) => some(view.images) && some(view.layers));
    if (!views.length) return null;
    const state = {
      view: 0, image: 0, layer: 0, head: -1, alpha: 0.65, side: 1, row: 0, column: 0 };
    const cache = new Map();
    const canvas = element("canvas", { class: "query", tabindex: 0, role: "application",
      "aria-label": "Picture with the attention of one query. A click or arrow keys move it.",
      width: 512, height: 512 });
    const map = element("canvas", { class: "map pixelated", role: "img" });
    const output = element("p", { role: "status" });
    const gamma = element("p", { class: "small muted" });
    const thumbnails = element("div", {
      class: "thumbnails", role: "radiogroup", "aria-label": "Image" });
    const layerChoice = element("select", { id: "attention-layer" });
    const headChoice = element("select", { id: "attention-head" });
    const viewChoice = element("select", { id: "attention-view" }, views.map((view, index) =>
      element("option", { value: index }, `${view.player}, ${view.kind} images`)));
    const photo = new Image();
    photo.addEventListener("load", () => draw());

    const layer = () => views[state.view].layers[state.layer];
    const setOptions = (select, options, value) => {
      select.replaceChildren(...options.map(([key, text]) =>
        element("option", { value: key }, text)));
      select.value = value;
    };

    function setView(index) {
      state.view = index;
      state.image = Math.min(state.image, views[index].images.length - 1);
      const name = newId("image");
      thumbnails.replaceChildren(...views[index].images.map((image, position) => {
        const input = element("input", { type: "radio", name, value: position,
          "aria-label": `Image ${position + 1}` });
        input.checked = position === state.image;
        input.addEventListener("change", () => setImage(position));
        return element("label", {}, input, plain(image, "3.5rem"));
      }));
      const names = views[index].layers.map((each, position) => [position, each.name]);
      setOptions(layerChoice, names, 0);
      setLayer(0);
      setImage(state.image);
    }

    function setLayer(index) {
      state.layer = index;
      // The query stays at its place in the picture.
      const { side } = layer();
      const cell = (value) => clamp(Math.floor(((value + 0.5) / state.side) * side), 0, side - 1);
      [state.row, state.column] = [cell(state.row), cell(state.column)];
      state.side = side;
      const heads = [...Array(layer().heads).keys()].map((head) => [head, `head ${head + 1}`]);
      setOptions(headChoice, heads.length > 1 ? [[-1, "mean over heads"], ...heads] : heads,
        heads.length > 1 ? -1 : 0);
      state.head = Number(headChoice.value);
      headChoice.disabled = heads.length < 2;
      draw();
    }

    function setImage(index) {
      state.image = index;
      photo.src = source(views[state.view].images[index]);
      draw();
    }

    function mapsOf() {
      const key = `${state.view}/${state.layer}/${state.image}`;
      if (!cache.has(key)) cache.set(key, bytes(layer().maps[state.image]));
      return cache.get(key);
    }

    function draw() {
      const current = layer();
      const image = views[state.view].images[state.image];
      const query = state.row * current.side + state.column;
      const row = attentionRow(current, mapsOf(), state.head, query);
      const largest = row.reduce((most, weight) => Math.max(most, weight), 0) || 1;
      const pixels = new ImageData(current.keys_side, current.keys_side);
      row.forEach((weight, key) => pixels.data.set([...heat(weight / largest), 255], key * 4));
      map.width = current.keys_side;
      map.height = current.keys_side;
      map.getContext("2d").putImageData(pixels, 0, 0);

      const [width, height] = [512, Math.round((512 * image.height) / image.width)];
      if (canvas.height !== height) canvas.height = height;
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = !isPixelated(image);
      context.globalAlpha = 1;
      context.clearRect(0, 0, width, height);
      if (photo.complete && photo.naturalWidth) context.drawImage(photo, 0, 0, width, height);
      context.imageSmoothingEnabled = false;
      context.globalAlpha = state.alpha;
      context.drawImage(map, 0, 0, width, height);
      context.globalAlpha = 1;
      const [cellWidth, cellHeight] = [width / current.side, height / current.side];
      for (const [color, line] of [["#000000", 5], ["#ffffff", 2]]) {
        context.strokeStyle = color;
        context.lineWidth = line;
        context.strokeRect(state.column * cellWidth, state.row * cellHeight, cellWidth, cellHeight);
      }
      map.setAttribute("aria-label", `Attention of the query, ${current.keys_side} by `
        + `${current.keys_side} keys`);
      output.textContent = `Query at row ${state.row + 1}, column ${state.column + 1} of `
        + `${current.side} × ${current.side}: entropy ${entropyOf(row).toFixed(3)}, `
        + `mean distance ${distanceOf(row, current, query).toFixed(3)}.`;
      const weight = isNumber(current.gamma)
        ? `Gamma of the layer: ${number(current.gamma)}. ` : "";
      gamma.textContent = `${weight}Entropy: 1 is uniform attention, 0 attention to one key. `
        + "Distance: in sides of the image. Weights have 8 bits, relative to the query's largest.";
    }

    canvas.addEventListener("click", (event) => {
      const bounds = canvas.getBoundingClientRect();
      const cell = (share) => clamp(Math.floor(share * layer().side), 0, layer().side - 1);
      state.column = cell((event.clientX - bounds.left) / bounds.width);
      state.row = cell((event.clientY - bounds.top) / bounds.height);
      draw();
    });
    canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
      if (!Object.hasOwn(moves, event.key)) return;
      event.preventDefault();
      const [down, along] = moves[event.key];
      state.row = clamp(state.row + down, 0, layer().side - 1);
      state.column = clamp(state.column + along, 0, layer().side - 1);
      draw();
    });
    viewChoice.addEventListener("change", () => setView(Number(viewChoice.value)));
    layerChoice.addEventListener("change", () => setLayer(Number(layerChoice.value)));
    headChoice.addEventListener("change", () => {
      state.head = Number(headChoice.value);
      draw();
    });
    const alpha = element("input", {
      type: "range", min: 0, max: 1, step: 0.05, id: "attention-alpha" });
    alpha.value = state.alpha;
    alpha.addEventListener("input", () => {
      state.alpha = Number(alpha.value);
      draw();
    });

    const scale = element("canvas", { class: "scale", width: 64, height: 1, role: "img",
      "aria-label": "Color scale, from no weight to the largest weight of the query" });
    const strip = new ImageData(64, 1);
    for (let index = 0; index < 64; index += 1) {
      strip.data.set([...heat(index / 63), 255], index * 4);
    }
    scale.getContext("2d").putImageData(strip, 0, 0);

    setView(0);
    return section("attention", "Attention", [
      element("div", { class: "controls" },
        views.length > 1 ? element("label", {}, "Network and images", viewChoice) : null,
        element("label", {}, "Layer", layerChoice), element("label", {}, "Head", headChoice),
        element("label", {}, "Opacity of the map", alpha)),
      element("div", { class: "attention" },
        element("div", {}, canvas),
        element("div", {}, thumbnails, output,
          element("figure", {}, map, element("div", {}, scale),
            element("figcaption", {}, "The map alone: from no weight to the largest of the query")),
          gamma)),
    ]);
  }

  // ---------------------------------------------------------------- further sections

  function interpolations() {
    const list = runs[0].interpolations;
    if (!some(list)) return null;
    return section("interpolations", "Interpolations", list.map((each) => element("div", {},
      titled(each.name, each.image, wideSize(each.image)),
      each.animation ? moving(each.animation, `${each.name}, animation`) : null)));
  }

  function nearestImages() {
    const content = runs[0].nearest;
    if (!content) return null;
    const percent = (value) => `${Number((100 * value).toPrecision(3))}%`;
    const shares = [["generated", content.copied_share], ["unseen real", content.copied_share_real]]
      .filter(([, value]) => isNumber(value));
    return section("nearest", "Nearest training images", [
      shares.length ? table("Images nearer to a training image than nearly all unseen ones",
        ["Images", right("Share of copies")],
        shares.map(([name, value]) => [{ text: name }, right(percent(value))])) : null,
      element("figure", {}, picture(content.image),
        element("figcaption", {}, content.caption || "")),
    ]);
  }

  function singularValues() {
    const list = runs[0].singular_values;
    if (!some(list)) return null;
    return section("singular-values", "Singular values", [table(
      "Largest singular values: the estimate of the power iteration, and exact",
      ["Layer", right("Estimate"), right("Exact"), right("Ratio")],
      list.map((row) => {
        const ratio = row.estimate / row.exact;
        return [{ text: row.layer }, right(number(row.estimate)), right(number(row.exact)),
          right(isNumber(ratio) ? ratio.toFixed(4) : "–")];
      }))]);
  }

  function population() {
    const content = runs[0].population;
    if (!content || !some(content.figures)) return null;
    return section("population", "Members of the population", [table(
      "Each member's figures by its seed; the error is that of the mean over seeds",
      ["Figure", right("Mean ± error"), ...content.seeds.map((seed) => right(`seed ${seed}`))],
      content.figures.map((figure) => [{ text: figure.name },
        right(withError(figure.mean, figure.error)),
        ...figure.values.map((value) => right(number(value)))]))]);
  }

  function config() {
    const fields = runs[0].config;
    if (!some(fields)) return null;
    const root = { children: new Map() };
    for (const field of fields) {
      let node = root;
      for (const part of String(field.field).split(".")) {
        if (!node.children.has(part)) node.children.set(part, { children: new Map() });
        node = node.children.get(part);
      }
      node.field = field;
    }
    const differs = (node) => Boolean(node.field && node.field.differs)
      || [...node.children.values()].some(differs);
    const item = ([name, node]) => {
      const { field } = node;
      const value = field ? [": ", element("code", {}, field.value)] : [];
      const mark = field && field.differs ? [" ", element("span", { class: "mark" },
        field.default === null || field.default === undefined
          ? "(not in the config file)" : `(config file: ${field.default})`)] : [];
      const line = [element("code", {}, name), ...value, ...mark];
      const kind = { class: field && field.differs ? "differs" : null };
      if (!node.children.size) return element("li", kind, line);
      const open = node.children.size < 9 || differs(node);
      return element("li", kind, element("details", { open },
        element("summary", {}, line), element("ul", {}, [...node.children].map(item))));
    };
    const tree = element("div", { class: "tree" },
      element("ul", {}, [...root.children].map(item)));
    const openAll = (open) => () => {
      for (const node of tree.querySelectorAll("details")) node.open = open;
    };
    return section("config", "Config", [
      element("div", { class: "controls" },
        differs(root) ? checkbox("Only what differs from the config file", false, (on) => {
          tree.classList.toggle("only", on);
          if (on) openAll(true)();
        }) : element("span", { class: "muted" }, "Nothing differs from the config file."),
        element("button", { type: "button", onclick: openAll(true) }, "Open all"),
        element("button", { type: "button", onclick: openAll(false) }, "Fold all")),
      tree]);
  }

  function protocols() {
    const list = runs[0].protocols;
    if (!some(list)) return null;
    return section("protocols", "Protocols", [
      element("p", {}, "How each figure was measured, and all figures of each part."),
      ...list.map((part) => element("details", {}, element("summary", {}, part.part),
        some(part.figures) ? figuresTable(`Figures of ${part.part}`, part.figures) : null,
        some(part.fields) ? table(`Protocol of ${part.part}`, ["Field", "Value"],
          part.fields.map((field) => [{ text: field.name }, { text: field.value, class: "text" }]))
          : null))]);
  }

  // ---------------------------------------------------------------- comparison

  function comparisonTable() {
    const content = data.table;
    if (!content || !some(content.rows)) return null;
    const rows = [];
    let previous = null;
    for (const row of content.rows) {
      if (row.group && row.group !== previous) rows.push({ group: row.group });
      previous = row.group;
      rows.push([{ text: row.name }, ...row.values.map(right)]);
    }
    return section("table", "Figures", [
      table("All runs", ["", ...content.columns.map(right)], rows),
      some(content.notes) ? element("ul", { class: "small muted" },
        content.notes.map((note) => element("li", {}, note))) : null]);
  }

  function comparedSamples() {
    const lists = runs.map((run) => ((run.samples && run.samples.grids) || []).map((grid) => ({
      image: grid.image, step: grid.step, seen: grid.step * (run.images_per_step || 1) })));
    const seen = [...new Set(lists.flat().map((grid) => grid.seen))].sort((a, b) => a - b);
    if (!seen.length) return null;
    const figures = runs.map((run, index) => {
      const [first] = lists[index];
      const title = element("div", { class: "title" }, run.label);
      if (!first) return { node: element("figure", {}, title, "No samples"), show() {} };
      const button = picture(first.image, wideSize(first.image));
      const caption = element("figcaption");
      return {
        node: element("figure", { "data-run": index }, title, button, caption),
        show(images) {
          const grid = lists[index].filter((each) => each.seen <= images).at(-1);
          button.hidden = !grid;
          if (grid) button.show(grid.image);
          caption.textContent = grid
            ? `step ${number(grid.step)}, ${number(grid.seen)} images seen` : "no samples so early";
        },
      };
    });
    const row = slider("Images seen", seen.length, seen.length - 1, (index) => {
      for (const figure of figures) figure.show(seen[index]);
      return `${number(seen[index])} images`;
    }, { "data-slider": "seen" });
    row.update();
    return section("samples", "Samples at equal images seen", [
      row, element("div", { class: "pictures" }, figures.map((figure) => figure.node))]);
  }

  function differences() {
    const list = data.config_differences;
    if (!Array.isArray(list)) return null;
    return section("differences", "Differences of the configs", [list.length
      ? table("Fields that are not the same in all runs",
        ["Field", ...runs.map((run) => run.label)],
        list.map((row) => [{ text: element("code", {}, row.field) }, ...row.values.map(
          (value) => ({ text: element("code", {}, value), class: "text" }))]))
      : element("p", {}, "The configs are the same.")]);
  }

  // ---------------------------------------------------------------- the page

  function build(parts) {
    for (const part of parts) {
      try {
        const node = part();
        if (node) sections.push(node);
      } catch (error) {
        // A fault in one section must not take the others with it.
        console.error(error);
        sections.push(section(newId("fault"), "A section is missing",
          [element("p", { class: "bad" }, `${part.name} could not be drawn: ${error.message}`)]));
      }
    }
  }

  build(comparison
    ? [comparisonTable, curves, comparedSamples, differences]
    : [curves, samples, classes, translation, attention, interpolations, nearestImages,
      singularValues, population, config, protocols]);

  document.body.append(head());
  if (sections.length > 1) {
    document.body.append(element("nav", { "aria-label": "Sections" }, element("ul", {},
      sections.map((node) => element("li", {},
        element("a", { href: `#${node.id}` }, node.querySelector("h2").textContent))))));
  }
  document.body.append(element("main", {}, sections), dialog);

  if (group.charts.length) {
    group.redraw();
    let width = 0;
    new ResizeObserver(([entry]) => {
      if (entry.contentRect.width !== width) group.redraw();
      width = entry.contentRect.width;
    }).observe(document.querySelector(".charts"));
  }

  if (Object.hasOwn(memory, "scroll")) {
    const top = memory.scroll;
    delete memory.scroll;
    write("sessionStorage", memory);
    const restore = () => scrollTo({ top, behavior: "instant" });
    restore();
    addEventListener("load", restore);
  }

  // Folded parts are printed, but for those of very many classes.
  const opened = [];
  addEventListener("beforeprint", () => {
    for (const node of document.querySelectorAll("details:not(.large):not([open])")) {
      node.open = true;
      opened.push(node);
    }
  });
  addEventListener("afterprint", () => {
    while (opened.length) opened.pop().open = false;
  });
})();
