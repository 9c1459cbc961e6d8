// Small plots in SVG, drawn by attributes alone: inline styles are not allowed.

const SVG = "http://www.w3.org/2000/svg";

function shape(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function line(kind, ...texts) {
  const made = document.createElement("div");
  made.className = kind;
  made.setAttribute("aria-hidden", "true");
  for (const text of texts) {
    const part = document.createElement("span");
    part.textContent = text;
    made.append(part);
  }
  return made;
}

function frame(place, width, label, top, left, right, shapes) {
  const svg = shape("svg", {
    viewBox: `0 0 ${width} 100`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": label,
  });
  svg.append(...shapes);
  place.replaceChildren(line("top-line", top), svg, line("axis", left, right));
}

/** Rounds `value` up to a round whole number: a plot is then at least two thirds full. */
function round(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  const steps = [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power);
  return steps.find((step) => step >= value && Number.isInteger(step));
}

/** Draws bars, the newest at the right; each is {value, kind, title}, or null if not known. */
export function bars(place, all, { label, least, unit, left, right }) {
  const most = round(Math.max(least, ...all.map((bar) => bar?.value ?? 0)));
  const shapes = all.flatMap((bar, k) => {
    if (!bar) return [];
    const high = bar.kind === "missed" ? 100 : Math.max(2, (100 * bar.value) / most);
    const rect = shape("rect", {
      class: `bar ${bar.kind}`,
      x: k * 10 + 1.5,
      y: 100 - high,
      width: 7,
      height: high,
    });
    const title = shape("title", {});
    title.textContent = bar.title;
    rect.append(title);
    return [rect];
  });
  frame(place, all.length * 10, label, `${most.toLocaleString("en")}${unit}`, left, right, shapes);
}

/** Draws a curve through `values`, the newest at the right of `width` places. */
export function curve(place, values, width, { label, least, unit, left, right }) {
  const most = round(Math.max(least, ...values));
  const from = width - values.length;
  const points = values.map((value, k) => `${from + k} ${(100 - (97 * value) / most).toFixed(2)}`);
  const path = `M${points.join("L")}`;
  const shapes = values.length < 2 ? [] : [
    shape("path", { class: "under", d: `${path}L${width - 1} 100L${from} 100Z` }),
    shape("path", { class: "curve", d: path }),
  ];
  frame(place, width - 1, label, `${most.toLocaleString("en")}${unit}`, left, right, shapes);
}
