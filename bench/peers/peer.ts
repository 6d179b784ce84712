/**
 * What the driver asks of every peer, and what they share: the work folder, and child processes that answer
 * with text.
 *
 * @module
 */

/** Where `setup.ts` puts everything; git ignores it. */
export const WORK = decodeURIComponent(new URL("work", import.meta.url).pathname);

/** One column of the table: prefill of so many tokens, decode behind so many, or both. */
export interface Point {
  readonly tokens: number;
  readonly prefill: boolean;
  readonly decode: boolean;
}

export interface Conditions {
  readonly threads: number;
  /** How often each is measured. */
  readonly runs: number;
  /** Decode steps of one run. */
  readonly steps: number;
  /** Ends a measurement that hangs. */
  readonly signal: AbortSignal;
}

/** Tokens per second of each run; empty where the point does not ask for it. */
export interface Rates {
  readonly prefill: readonly number[];
  readonly decode: readonly number[];
}

/** One way to run a peer. */
export interface Setting {
  /** Weights and whatever else differs: "q8_0, f16 cache". */
  readonly label: string;
  /** Bits of a weight: a setting is compared with lakh's weights of at most as many. */
  readonly bits: number;
  measure(point: Point, conditions: Conditions): Promise<Rates>;
}

export interface Peer {
  readonly name: string;
  /** Whether it is WebAssembly, as lakh is here. */
  readonly wasm: boolean;
  readonly settings: readonly Setting[];
}

/** Runs a program to its end and returns what it wrote. Throws an Error with its last words when it fails. */
export async function outputOf(
  program: string,
  args: readonly string[],
  { signal, env = {} }: { signal: AbortSignal; env?: Record<string, string> },
): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, { args: [...args], env, signal })
    .output();
  signal.throwIfAborted();
  const text = new TextDecoder();
  if (!success) {
    const last = text.decode(stderr).trim().split("\n").slice(-3).join(" | ");
    throw new Error(`Cannot run "${program.split("/").pop()}": ${last}`);
  }
  return text.decode(stdout);
}
