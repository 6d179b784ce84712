/**
 * Numbers as people read them.
 *
 * @module
 */

/** 6.9 MB, 1.21 GB; powers of 1000 as in disks' and networks' sizes. */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 999.5 && unit < units.length - 1) {
    bytes /= 1000;
    unit++;
  }
  return `${unit === 0 || bytes >= 99.5 ? Math.round(bytes) : bytes.toPrecision(3)} ${units[unit]}`;
}

/** 79,059 */
export function formatCount(count: number): string {
  return count.toLocaleString("en-US");
}

/** 3.4 M, 1.24 B (thousand millions, as models are called), 812. */
export function formatParameters(count: number): string {
  for (const [size, letter] of [[1e9, "B"], [1e6, "M"], [1e3, "K"]] as const) {
    if (count >= size) return `${(count / size).toPrecision(3)} ${letter}`;
  }
  return String(count);
}

/** Milliseconds as 850 ms, 12 s, 3 min 20 s, 2 h 5 min. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Tokens a second with three digits: 512, 48.3, 4.21. */
export function formatSpeed(tokens: number, ms: number): string {
  if (tokens === 0 || ms <= 0) return "–";
  const speed = tokens / (ms / 1000);
  return speed >= 99.5 ? formatCount(Math.round(speed)) : speed.toPrecision(3);
}
