/**
 * Timing: medians, because machines are shared.
 *
 * @module
 */

export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Median seconds of `runs` calls after one that is not counted. */
export async function secondsOf(body: () => Promise<unknown>, runs: number): Promise<number> {
  await body();
  const seconds: number[] = [];
  for (let i = 0; i < runs; i++) {
    const start = performance.now();
    await body();
    seconds.push((performance.now() - start) / 1000);
  }
  return median(seconds);
}

/**
 * The largest resident memory of this process so far, in MB; where the system does not tell, the present one.
 */
export function peakResidentMegabytes(): number {
  try {
    const status = Deno.readTextFileSync("/proc/self/status");
    return Number(/VmHWM:\s+(\d+)/.exec(status)![1]) / 1024;
  } catch {
    return Deno.memoryUsage().rss / 2 ** 20;
  }
}
