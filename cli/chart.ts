/**
 * Line charts over a logarithmic axis of lengths: as text for a terminal, and as SVG for a page.
 *
 * @module
 */

/** One line of a chart. */
export interface Series {
  readonly name: string;
  /** x above 0, in ascending order. */
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** Title, axes and marks. */
export interface ChartOptions {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  /** Vertical lines, for example at the trained length. */
  readonly marks?: readonly { readonly x: number; readonly label: string }[];
}

/** Columns and rows of the plot on a terminal. */
const COLUMNS = 72, ROWS = 14;
const TERMINAL_COLOURS = [
  "ansiCyan",
  "ansiRed",
  "ansiGreen",
  "ansiYellow",
  "ansiMagenta",
  "ansiBlue",
  "ansiWhite",
] as const;

/** The chart as text, with colours only when `colours` is set. */
export async function chartText(
  series: readonly Series[],
  { title, x, y, colours }: ChartOptions & { readonly colours: boolean },
): Promise<string> {
  const { loadTerminalCharts } = await import("../runtime/deps.ts");
  const { default: plot } = await loadTerminalCharts();
  const lines = series.map(({ points }) => points.map(([x, y]): [number, number] => [Math.log2(x), y]));
  const drawn = plot(lines, {
    width: COLUMNS,
    height: ROWS,
    yRange: [...rangeOf(series)],
    formatter: (value, { axis }) => axis === "x" ? short(Math.round(2 ** value)) : Number(value.toFixed(2)),
    ...(colours ? { color: series.map((_, i) => TERMINAL_COLOURS[i % TERMINAL_COLOURS.length]!) } : {}),
    ...(colours && series.length > 1
      ? { legend: { position: "bottom", series: series.map(({ name }) => name) } }
      : {}),
  });
  // The library pads with blanks and begins and ends with an empty line.
  const text = drawn.split("\n").map((line) => line.trimEnd()).filter((line) => line !== "").join("\n");
  const names = colours || series.length === 1 ? "" : `\n${series.map(({ name }) => name).join(", ")}`;
  return `${title}: ${y} by ${x}\n${text}${names}\n`;
}

const WIDTH = 760, HEIGHT = 420;
const FRAME = { left: 64, right: 24, top: 52, bottom: 56 };
/** Colour-blind readers can tell these apart, on both backgrounds (Okabe and Ito's palette). */
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c6d1f"];

/** The chart as an SVG file that follows the page's light or dark scheme. */
export function chartSvg(series: readonly Series[], { title, x, y, marks = [] }: ChartOptions): string {
  const [low, high] = rangeOf(series);
  const xs = series.flatMap(({ points }) => points.map(([x]) => x));
  const first = Math.log2(Math.min(...xs)), last = Math.max(Math.log2(Math.max(...xs)), first + 1);
  const { left, right, top, bottom } = FRAME;
  const atX = (value: number) => left + (Math.log2(value) - first) / (last - first) * (WIDTH - left - right);
  const atY = (value: number) => HEIGHT - bottom - (value - low) / (high - low) * (HEIGHT - top - bottom);
  const line = (x1: number, y1: number, x2: number, y2: number, kind: string) =>
    `<line class="${kind}" x1="${fixed(x1)}" y1="${fixed(y1)}" x2="${fixed(x2)}" y2="${fixed(y2)}"/>`;
  const text = (x: number, y: number, words: string, kind = "", anchor = "middle") =>
    `<text${kind && ` class="${kind}"`} x="${fixed(x)}" y="${fixed(y)}" text-anchor="${anchor}">${
      escaped(words)
    }</text>`;
  const floor = HEIGHT - bottom;

  const parts = [
    text(left, 26, title, "title", "start"),
    text(left - 48, 44, y, "", "start"),
    text((left + WIDTH - right) / 2, HEIGHT - 12, x),
    ...ticksOf(low, high).flatMap((value) => [
      line(left, atY(value), WIDTH - right, atY(value), "grid"),
      text(left - 8, atY(value) + 4, String(Number(value.toFixed(6))), "", "end"),
    ]),
    ...powersOf(first, last).flatMap((value) => [
      line(atX(value), floor, atX(value), floor + 5, "axis"),
      text(atX(value), floor + 20, short(value)),
    ]),
    line(left, floor, WIDTH - right, floor, "axis"),
    ...marks.filter((mark) => Math.log2(mark.x) >= first && Math.log2(mark.x) <= last).flatMap((mark) => [
      line(atX(mark.x), top, atX(mark.x), floor, "mark"),
      text(atX(mark.x) + 6, floor - 8, mark.label, "", "start"),
    ]),
    ...series.flatMap(({ name, points }, i) => {
      const colour = COLOURS[i % COLOURS.length]!;
      const path = points.map(([x, y]) => `${fixed(atX(x))},${fixed(atY(y))}`).join(" ");
      return [
        `<polyline points="${path}" stroke="${colour}"/>`,
        ...points.map(([x, y]) =>
          `<circle cx="${fixed(atX(x))}" cy="${fixed(atY(y))}" r="3" fill="${colour}"/>`
        ),
        `<rect x="${WIDTH - right - 170}" y="${top + 4 + i * 20}" width="14" height="4" fill="${colour}"/>`,
        text(WIDTH - right - 150, top + 10 + i * 20, name, "", "start"),
      ];
    }),
  ];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${
      escaped(title)
    }">`,
    "<style>",
    "text { font: 13px system-ui, sans-serif; fill: #24292f } .title { font-size: 16px; font-weight: 600 }",
    "line { stroke: #57606a } .grid { stroke: #d0d7de } .mark { stroke-dasharray: 4 4 }",
    "polyline { fill: none; stroke-width: 2; stroke-linejoin: round }",
    "@media (prefers-color-scheme: dark) {",
    "  text { fill: #e6edf3 } line { stroke: #8b949e } .grid { stroke: #30363d }",
    "}",
    "</style>",
    ...parts,
    "</svg>",
    "",
  ].join("\n");
}

/**
 * The range of the y axis: from 0 where that does not flatten the lines, else a little more than they need.
 */
function rangeOf(series: readonly Series[]): readonly [low: number, high: number] {
  const ys = series.flatMap(({ points }) => points.map(([, y]) => y));
  const least = Math.min(...ys), most = Math.max(...ys);
  const step = stepOf(Math.max(most - least, Math.abs(most) * 0.1, 1e-9));
  const low = least >= 0 && least < most / 4 ? 0 : Math.floor(least / step) * step;
  return [low, Math.max(Math.ceil(most / step) * step, low + step)];
}

/** A round step that divides a range into four to eight parts. */
function stepOf(range: number): number {
  const power = 10 ** Math.floor(Math.log10(range / 4));
  return [5, 2, 1].map((n) => n * power).find((step) => range / step >= 4) ?? power;
}

function ticksOf(low: number, high: number): number[] {
  const step = stepOf(high - low);
  return Array.from({ length: Math.floor((high - low) / step + 1e-6) + 1 }, (_, i) => low + i * step);
}

/** Powers of two between two exponents, at most about ten. */
function powersOf(first: number, last: number): number[] {
  const from = Math.ceil(first), every = Math.ceil((last - first) / 10);
  return Array.from({ length: Math.floor((last - from) / every) + 1 }, (_, i) => 2 ** (from + i * every));
}

/** Powers of two as people write them: 512, 1K, 64K. */
function short(n: number): string {
  return n >= 1024 && n % 1024 === 0 ? `${n / 1024}K` : String(n);
}

function fixed(n: number): string {
  return String(Number(n.toFixed(1)));
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}
