/**
 * Rates of all peers as a table, and how many times as fast lakh is.
 *
 * @module
 */
import type { Peer, Setting } from "./peer.ts";

/** Tokens per second and how many runs it is the median of, or why there is none. */
export type Cell = { readonly rate: number; readonly runs: number } | { readonly missing: string };
export interface Row {
  readonly peer: Peer;
  readonly setting: Setting;
  /** By column. */
  readonly cells: Map<string, Cell>;
}
/** Ratios by weights of lakh, then by peer, then by column. */
export type Ratios = Record<string, Record<string, Record<string, number>>>;

const LAKH_WEIGHTS = { q8: 8, q4: 4 } as const;
const LABEL_WIDTH = 52, CELL_WIDTH = 15;

/** The rate of a cell; 0 where there is none. */
export function rateOf({ cells }: Row, column: string): number {
  const cell = cells.get(column);
  return cell && "rate" in cell ? cell.rate : 0;
}

/**
 * Whether a setting is compared as one of so many bits: lakh's if it has them, a peer's also if it has more.
 */
export function standsFor({ peer, setting }: Row, bits: number): boolean {
  return peer.name === "lakh" ? setting.bits === bits : setting.bits >= bits;
}

/**
 * lakh ÷ peer, both at what is fastest for them in that column: lakh with these weights, a peer with weights
 * of at least as many bits. "WASM" is the fastest of all WebAssembly peers.
 */
export function ratios(rows: readonly Row[], columns: readonly string[]): Ratios {
  const others = rows.filter(({ peer }) => peer.name !== "lakh");
  const groups = new Map<string, readonly Row[]>();
  for (const { peer } of others) groups.set(peer.name, others.filter((row) => row.peer === peer));
  groups.set("WASM", others.filter(({ peer }) => peer.wasm));

  const fastest = (rows: readonly Row[], column: string) =>
    Math.max(0, ...rows.map((row) => rateOf(row, column)));
  const result: Ratios = {};
  for (const [weights, bits] of Object.entries(LAKH_WEIGHTS)) {
    const own = rows.filter((row) => row.peer.name === "lakh" && standsFor(row, bits));
    for (const [name, group] of groups) {
      const fair = group.filter((row) => standsFor(row, bits));
      for (const column of columns) {
        const lakh = fastest(own, column), peer = fastest(fair, column);
        if (lakh > 0 && peer > 0) ((result[weights] ??= {})[name] ??= {})[column] = round(lakh / peer, 2);
      }
    }
  }
  return result;
}

/** Both tables as text. */
export function tableOf(rows: readonly Row[], columns: readonly string[]): string {
  const line = (label: string, cells: readonly string[]) =>
    label.padEnd(LABEL_WIDTH) + cells.map((cell) => cell.padStart(CELL_WIDTH)).join("");
  const lines = [line("tokens per second", columns)];
  const notes = new Set<string>();
  for (const { peer, setting, cells } of rows) {
    lines.push(line(
      `${peer.name}, ${setting.label}`,
      columns.map((column) => {
        const cell = cells.get(column);
        if (!cell) return "";
        if ("rate" in cell) return cell.rate.toFixed(1);
        notes.add(`${peer.name}, ${setting.label}, ${column}: ${cell.missing}`);
        return "–";
      }),
    ));
  }
  const all = ratios(rows, columns);
  if (Object.keys(all).length > 0) lines.push("", line("lakh ÷ the fastest fair setting of", columns));
  for (const [weights, peers] of Object.entries(all)) {
    for (const [name, values] of Object.entries(peers)) {
      lines.push(line(
        `lakh ${weights} ÷ ${name}`,
        columns.map((column) => values[column] === undefined ? "" : `${values[column].toFixed(2)} ×`),
      ));
    }
  }
  return [...lines, "", ...notes].join("\n");
}

export function round(x: number, digits = 1): number {
  return Number(x.toFixed(digits));
}
