/**
 * Draws docs/pictures/architecture.svg from the imports: a box a folder, on the floor above all that it
 * imports.
 *
 * Run with `deno task picture`. An arrow that others imply is left out: where a → b → c is drawn, a → c is
 * not.
 *
 * @module
 */

/** What each folder is for. One that is not here is an error, so that a new one gets its words. */
const ROOMS: Readonly<Record<string, string>> = {
  "cli": "commands",
  "mod.ts": "the library",
  "serve": "HTTP server",
  "runtime": "models put together",
  "runtime/write": "sequences, sampling, sessions",
  "runtime/judge": "plan, verify, evaluate, bench",
  "runtime/text": "tokens, templates, grammars",
  "runtime/load": "files, hub, weights",
  "runtime/models": "one file a family",
  "runtime/device": "operations · wasm · webgpu",
  "models/storyteller": "the embedded model",
  "wasm": "kernels in Rust",
  "shaders": "kernels in WGSL",
};

const ROOT = new URL("../", import.meta.url);

/** Where the picture is. */
export const PICTURE = new URL("docs/pictures/architecture.svg", ROOT);

/** Folders, and for each those that it imports. */
export type Graph = ReadonlyMap<string, ReadonlySet<string>>;

/** The part of `deno info --json` that is read. */
interface Info {
  readonly modules: readonly {
    readonly specifier: string;
    readonly dependencies?: readonly {
      readonly code?: { readonly specifier?: string };
      readonly type?: { readonly specifier?: string };
    }[];
  }[];
}

/** The folder of a file of the project; undefined for packages and for what all layers share. */
function roomOf(specifier: string): string | undefined {
  if (!specifier.startsWith(ROOT.href)) return undefined;
  const path = specifier.slice(ROOT.href.length);
  if (/^(runtime\/(deps|progress)\.ts|deno\.json)$/.test(path)) return undefined;
  if (path === "mod.ts") return path;
  const [top, second, ...rest] = path.split("/");
  if (top === "cli.ts") return "cli";
  const nested = top === "runtime" && rest.length > 0 || top === "models";
  return nested ? `${top}/${second}` : top;
}

/** What imports what, from cli.ts and mod.ts on. */
export async function readGraph(): Promise<Graph> {
  const graph = new Map<string, Set<string>>();
  const add = (room: string) => graph.get(room) ?? graph.set(room, new Set()).get(room)!;
  for (const entry of ["cli.ts", "mod.ts"]) {
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["info", "--json", entry],
      cwd: ROOT,
    }).output();
    if (!success) {
      throw new Error(`Cannot read the imports of "${entry}": ${new TextDecoder().decode(stderr)}`);
    }
    const { modules }: Info = JSON.parse(new TextDecoder().decode(stdout));
    for (const { specifier, dependencies = [] } of modules) {
      const from = roomOf(specifier);
      if (!from) continue;
      for (const { code, type } of dependencies) {
        for (const to of [code?.specifier, type?.specifier].map((to) => to && roomOf(to))) {
          if (to && to !== from) add(from).add(add(to) && to);
        }
      }
    }
  }
  return graph;
}

/** Without what other paths imply. Throws an Error where folders import each other in a circle. */
export function reduced(graph: Graph): Graph {
  const below = new Map<string, Set<string>>();
  const all = (room: string, path: readonly string[]): Set<string> => {
    if (path.includes(room)) {
      throw new Error(`Cannot draw the imports: they go in a circle: ${[...path, room].join(" → ")}`);
    }
    const known = below.get(room);
    if (known) return known;
    const found = new Set<string>();
    for (const to of graph.get(room)!) for (const far of [to, ...all(to, [...path, room])]) found.add(far);
    below.set(room, found);
    return found;
  };
  return new Map(
    [...graph].map(([room, to]) => {
      all(room, []);
      return [room, new Set([...to].filter((one) => ![...to].some((other) => below.get(other)!.has(one))))];
    }),
  );
}

/** Rooms by floor, the highest first: each below all that import it. */
function floorsOf(graph: Graph): string[][] {
  const depths = new Map<string, number>();
  const depth = (room: string): number => {
    const importers = [...graph].filter(([, to]) => to.has(room)).map(([from]) => from);
    const found = depths.get(room) ?? Math.max(0, ...importers.map((from) => depth(from) + 1));
    depths.set(room, found);
    return found;
  };
  for (const room of graph.keys()) depth(room);
  const imported = new Set([...graph.values()].flatMap((to) => [...to]));
  const floors: string[][] = [];
  for (const [room, to] of [...graph].sort(([a], [b]) => a < b ? -1 : 1)) {
    // What is not imported stands as low as it can, so that no arrow passes a floor.
    const floor = imported.has(room) || to.size === 0
      ? depth(room)
      : Math.min(...[...to].map((one) => depth(one))) - 1;
    (floors[floor] ??= []).push(room);
  }
  return floors;
}

const BOX = { width: 208, height: 52 }, FLOOR = 84, WIDTH = 760;

/** The picture, in light and dark. */
export function draw(graph: Graph): string {
  const places = new Map<string, { x: number; y: number }>();
  const floors = floorsOf(graph);
  floors.forEach((rooms, floor) => {
    // Each room is near the middle of its importers, which stand above it.
    const wish = (room: string) => {
      const xs = [...graph].filter(([, to]) => to.has(room)).map(([from]) => places.get(from)!.x);
      return xs.length === 0 ? WIDTH / 2 : xs.reduce((sum, x) => sum + x, 0) / xs.length;
    };
    const row = floor === 0 ? rooms : rooms.toSorted((a, b) => wish(a) - wish(b));
    row.forEach((room, i) =>
      places.set(room, { x: WIDTH * (i + 0.5) / row.length, y: 24 + floor * FLOOR + BOX.height / 2 })
    );
  });
  const arrows = [...graph].flatMap(([from, to]) =>
    [...to].sort().map((room) => {
      const a = places.get(from)!, b = places.get(room)!;
      const [y0, y1] = [a.y + BOX.height / 2, b.y - BOX.height / 2 - 7], bend = (y1 - y0) / 2;
      return `<path d="M${r(a.x)} ${r(y0)}C${r(a.x)} ${r(y0 + bend)} ${r(b.x)} ${r(y1 - bend)} ${r(b.x)} ${
        r(y1)
      }"/>`;
    })
  );
  const boxes = [...places].map(([room, { x, y }]) => {
    const words = ROOMS[room];
    if (words === undefined) {
      throw new Error(`Cannot draw "${room}": tools/picture.ts has no words for it: add them to ROOMS`);
    }
    return `<rect x="${r(x - BOX.width / 2)}" y="${
      r(y - BOX.height / 2)
    }" width="${BOX.width}" height="${BOX.height}" rx="6"/>
<text class="name" x="${r(x)}" y="${r(y - 4)}">${room}</text>
<text x="${r(x)}" y="${r(y + 15)}">${words}</text>`;
  });
  const height = 48 + (floors.length - 1) * FLOOR + BOX.height;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="What imports what">
<style>
text { font: 13px system-ui, sans-serif; fill: #57606a; text-anchor: middle } .name { font-weight: 600; fill: #24292f }
rect { fill: #f6f8fa; stroke: #8c959f } path { fill: none; stroke: #8c959f; stroke-width: 1.5; marker-end: url(#head) }
marker path { fill: #8c959f; stroke: none }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1 } .name { fill: #e6edf3 } rect { fill: #161b22; stroke: #6e7681 } path { stroke: #6e7681 }
  marker path { fill: #6e7681 }
}
</style>
<defs><marker id="head" viewBox="0 0 8 8" refX="1" refY="4" markerWidth="6" markerHeight="6" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>
${arrows.join("\n")}
${boxes.join("\n")}
</svg>
`;
}

function r(x: number): number {
  return Math.round(x * 10) / 10;
}

if (import.meta.main) await Deno.writeTextFile(PICTURE, draw(reduced(await readGraph())));
