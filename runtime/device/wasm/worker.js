// One compute thread. Runs behind wasm-bindgen's glue in the same module, which has `initSync`, `operations`,
// `records` and `run`. Sleeps until the signal moves, runs the command list, and the last thread to finish
// tells the main thread. Signal words: see threads.ts.
self.onmessage = ({ data: { module, memory, control, words, at, threads } }) => {
  const signal = new Int32Array(memory.buffer, control, words.count);
  const parameters = new Float64Array(memory.buffer, control + words.parameters * 4, at.length);
  const scratch = new Float64Array(memory.buffer, control + words.scratch * 4, threads);
  initSync({ module, memory });
  self.postMessage({ operations: operations().split("\n"), records: records().split("\n") });
  const thread = Atomics.add(signal, words.started, 1);
  let turn = 0;
  while (true) {
    Atomics.wait(signal, words.go, turn);
    turn = Atomics.load(signal, words.go);
    if (turn === words.stop) break;
    try {
      const held = parameters[at.scratchBytes], barrier = control + words.barrier * 4;
      const [list, count, counters] = [parameters[at.list], parameters[at.count], parameters[at.counters]];
      const needed = run(list, count, counters, barrier, scratch[thread], held, threads);
      if (needed > 0) parameters[at.scratchNeeded] = needed;
    } catch (error) {
      // Whoever waits at the barrier leaves it and gives up this list.
      Atomics.store(signal, words.barrier + 3, 1);
      Atomics.add(signal, words.barrier + 1, 1);
      Atomics.notify(signal, words.barrier + 1);
      self.postMessage({ error: String(error?.stack ?? error) });
    }
    if (Atomics.add(signal, words.finished, 1) === threads - 1) {
      Atomics.store(signal, words.done, turn);
      Atomics.notify(signal, words.done);
    }
  }
  self.close();
};
