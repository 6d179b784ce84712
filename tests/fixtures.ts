/**
 * Where the golden checkpoints are: ../shared/fixtures has all, tests/fixtures the few that come with a
 * clone.
 *
 * @module
 */
import { modelTypes } from "../runtime/models/registry.ts";

const root = new URL("../", import.meta.url);
const all = new URL("../shared/fixtures/", root);
const few = new URL("tests/fixtures/", root);

/** True where every fixture is there. */
export const hasAllFixtures = exists(all);

const folders = [...Deno.readDirSync(hasAllFixtures ? all : few)]
  .filter((entry) => entry.isDirectory).map((entry) => entry.name).sort();

/** Names of the fixtures whose family loads. */
export const fixtureNames: readonly string[] = folders.filter((name) => {
  const { model_type } = JSON.parse(
    Deno.readTextFileSync(new URL(`${name}/config.json`, hasAllFixtures ? all : few)),
  );
  return modelTypes.includes(model_type);
});
const waiting = folders.filter((name) => !fixtureNames.includes(name));
if (waiting.length > 0) {
  console.warn(`tests of ${waiting.join(", ")} are skipped: their model_type is not in the registry`);
}

/** Whether a fixture is there; tests that need one which is not are skipped. */
export function hasFixture(name: string): boolean {
  return fixtureNames.includes(name);
}
if (!hasAllFixtures) {
  console.warn(`tests of fixtures other than ${fixtureNames} are skipped: ../shared/fixtures is not there`);
}

/** The folder of a fixture, of which "llama" and "mpt" are always there. */
export function fixturePath(name: string): string {
  const url = new URL(`${name}/`, hasAllFixtures ? all : few);
  if (!exists(url)) throw new Error(`Cannot find the fixture "${name}": ../shared/fixtures is not there`);
  return decodeURIComponent(url.pathname).replace(/\/$/, "");
}

/** A file of ../shared, e.g. "texts/alice.txt"; undefined where that is not there. */
export function sharedPath(name: string): string | undefined {
  const url = new URL(`../shared/${name}`, root);
  return exists(url) ? decodeURIComponent(url.pathname) : undefined;
}

/** The part of a fixture's reference.json that is about text. */
export interface TextReference {
  readonly text?: string;
  readonly text_ids?: readonly number[];
  readonly decoded?: string;
  readonly chat?: {
    readonly messages: readonly { readonly role: string; readonly content: string }[];
    readonly rendered: string;
  };
}

export async function readTextReference(name: string): Promise<TextReference> {
  return JSON.parse(await Deno.readTextFile(`${fixturePath(name)}/reference.json`));
}

function exists(url: URL): boolean {
  try {
    Deno.statSync(url);
    return true;
  } catch {
    return false;
  }
}
