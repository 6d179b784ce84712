/**
 * What a release is made of, as CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/): the npm packages that
 * runtime/deps.ts, serve/deps.ts and serve/page/deps.ts name and what these need, with the hashes of
 * deno.lock; and the crates of the committed WASM modules, with those of Cargo.lock. Tests' packages are not
 * shipped and not listed.
 *
 *   deno run --allow-read tools/sbom.ts > lakh.cdx.json
 *
 * @module
 */
import configuration from "../deno.json" with { type: "json" };

const ROOT = new URL("../", import.meta.url);
const DEPENDENCIES = ["runtime/deps.ts", "serve/deps.ts", "serve/page/deps.ts"];
const CRATES = ["wasm/Cargo.lock", "wasm/grammar/Cargo.lock", "wasm/text/Cargo.lock"];

/** One package or crate. */
export interface Component {
  readonly type: "library";
  readonly name: string;
  readonly version: string;
  /** https://github.com/package-url/purl-spec */
  readonly purl: string;
  readonly "bom-ref": string;
  readonly hashes: readonly { readonly alg: string; readonly content: string }[];
}

interface Lock {
  readonly specifiers: Readonly<Record<string, string>>;
  readonly npm: Readonly<
    Record<string, { readonly integrity: string; readonly dependencies?: readonly string[] }>
  >;
}

/**
 * The npm packages that `sources` name, and all that they need. Throws an Error for one that the lock does
 * not have.
 */
export function npmComponents(sources: readonly string[], lock: Lock): Component[] {
  const found = new Map<string, Component>();
  const add = (key: string) => {
    const entry = lock.npm[key];
    if (!entry) throw new Error(`Cannot list "${key}": deno.lock does not have it: run deno task lock`);
    const [, name, version] = /^(@?[^@]+)@([^_]+)/.exec(key)!;
    const purl = `pkg:npm/${name!.replace("@", "%40")}@${version}`;
    if (found.has(purl)) return;
    const [algorithm, digest] = entry.integrity.split("-") as [string, string];
    found.set(purl, {
      ...{ type: "library", name: name!, version: version!, purl, "bom-ref": purl },
      hashes: [{ alg: algorithm.replace("sha", "SHA-"), content: Uint8Array.fromBase64(digest).toHex() }],
    });
    for (const dependency of entry.dependencies ?? []) add(resolve(dependency, lock));
  };
  for (
    const [, specifier] of sources.flatMap((
      source,
    ) => [...source.matchAll(/"npm:((?:@[^/"]+\/)?[^@/"]+@[^/"]+)/g)])
  ) {
    const resolved = lock.specifiers[`npm:${specifier}`];
    if (resolved === undefined) {
      throw new Error(`Cannot list "${specifier}": deno.lock does not have it: run deno task lock`);
    }
    add(`${specifier!.slice(0, specifier!.lastIndexOf("@"))}@${resolved}`);
  }
  return [...found.values()].sort((a, b) => a.purl < b.purl ? -1 : 1);
}

/** A dependency's key: the lock gives its name alone where there is one version only. */
function resolve(dependency: string, { npm }: Lock): string {
  if (npm[dependency]) return dependency;
  const key = Object.keys(npm).find((key) =>
    key.startsWith(`${dependency}@`) || key.startsWith(`${dependency}_`)
  );
  if (key === undefined) throw new Error(`Cannot list "${dependency}": deno.lock does not have it`);
  return key;
}

/** The crates of a Cargo.lock that come from a registry. */
export function crateComponents(lock: string): Component[] {
  return lock.split("[[package]]").flatMap((block): Component[] => {
    const field = (name: string) => new RegExp(`^${name} = "(.*)"$`, "m").exec(block)?.[1];
    const [name, version, checksum] = [field("name"), field("version"), field("checksum")];
    if (name === undefined || version === undefined || checksum === undefined) return [];
    const purl = `pkg:cargo/${name}@${version}`;
    const hashes = [{ alg: "SHA-256", content: checksum }];
    return [{ type: "library", name, version, purl, "bom-ref": purl, hashes }];
  });
}

/** The whole list. */
export async function billOfMaterials(): Promise<Record<string, unknown>> {
  const read = async (name: string) => await Deno.readTextFile(new URL(name, ROOT)).catch(() => undefined);
  const sources = (await Promise.all(DEPENDENCIES.map(read))).filter((text) => text !== undefined);
  const locks = (await Promise.all(CRATES.map(read))).filter((text) => text !== undefined);
  const lock = JSON.parse(await Deno.readTextFile(new URL("deno.lock", ROOT))) as Lock;
  const crates = new Map(locks.flatMap(crateComponents).map((component) => [component.purl, component]));
  return {
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: {
      component: {
        ...{ type: "application", name: "lakh", version: configuration.version, "bom-ref": "lakh" },
        licenses: [{ license: { id: configuration.license } }],
      },
    },
    components: [...npmComponents(sources, lock), ...crates.values()],
  };
}

if (import.meta.main) console.log(JSON.stringify(await billOfMaterials(), null, 2));
