/**
 * Estimates how long the rest of an action takes from its course so far.
 *
 * Reading a prompt takes time αn + βn² for n tokens (each token looks at all before it), so a line through
 * the last seconds would be too optimistic. α and β are fitted by least squares to the course so far; a
 * download or a load gives β near 0.
 *
 * @module
 */

/** The average speed forgets values older than about this. */
const MEMORY_MS = 3000;

/**
 * Learns from pairs (done, time) and estimates the rest. Times are in milliseconds since the action began.
 */
export class TimeLeft {
  /** Units done. */
  done = 0;
  /** Recent speed in units per millisecond. */
  speed = 0;
  #time = 0;
  // Σ n², n³, n⁴, n·T, n²·T, with n in parts of the first count so that the powers stay tame.
  #unit = 0;
  #sums = [0, 0, 0, 0, 0] as [number, number, number, number, number];

  /** `done` units in all, after `time` milliseconds. */
  add(done: number, time: number): void {
    const span = time - this.#time;
    if (span < 1 || done <= this.done) return;
    const current = (done - this.done) / span;
    // At the beginning the average over everything is the better guess.
    const weight = 1 - Math.exp(-span / MEMORY_MS);
    this.speed = time < MEMORY_MS ? done / time : this.speed + weight * (current - this.speed);
    this.#unit ||= done;
    const n = done / this.#unit;
    const terms = [n ** 2, n ** 3, n ** 4, n * time, n ** 2 * time];
    terms.forEach((term, i) => this.#sums[i]! += term);
    this.done = done;
    this.#time = time;
  }

  /** Milliseconds from the last `add` until `total` is done; Infinity while nothing is known. */
  left(total: number): number {
    if (this.#unit === 0) return Infinity;
    const [n2, n3, n4, nT, n2T] = this.#sums;
    const determinant = n2 * n4 - n3 * n3;
    let beta = determinant > 1e-9 * n2 * n4 ? (n2T * n2 - nT * n3) / determinant : 0;
    let alpha = (nT - beta * n3) / n2;
    // Noise must not make α or β negative.
    if (beta < 0) [alpha, beta] = [nT / n2, 0];
    if (alpha < 0) [alpha, beta] = [0, n2T / n4];
    const from = this.done / this.#unit, to = total / this.#unit;
    return Math.max(0, alpha * (to - from) + beta * (to * to - from * from));
  }
}
