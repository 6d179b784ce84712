/**
 * Numbers as people read them.
 *
 * @module
 */
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** `count` of something: "1,234 tokens". */
export const countText = (count: number, unit: string) =>
  `${whole.format(count)} ${unit}${count === 1 ? "" : "s"}`;

export const numberText = (count: number) => whole.format(count);

/** A part of 1 in percent; what is there is never 0 %. */
export function shareText(share: number): string {
  const percent = share * 100;
  return percent > 0 && percent < 1 ? "< 1 %" : `${whole.format(percent)} %`;
}

/** How long something takes: "12 s", "3 min". */
export function timeText(seconds: number): string {
  if (seconds < 1) return "1 s";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function bytesText(bytes: number): string {
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}

/** A speed: "41 tokens/s". */
export const speedText = (speed: number) => `${speed < 10 ? speed.toFixed(1) : whole.format(speed)} tokens/s`;
