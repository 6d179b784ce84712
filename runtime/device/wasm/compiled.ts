/**
 * The compiled kernels: the two builds of wasm/ as they are committed, loaded when a device wants one.
 *
 * @module
 */

/** One build: the module for `WebAssembly.Memory`s of its address width, and the source its workers run. */
export interface Compiled {
  readonly module: WebAssembly.Module;
  /** JavaScript of wasm-bindgen's glue followed by the worker's. */
  readonly workerSource: string;
}

/** Loads the build for memories of up to 4 GiB (32) or beyond (64). */
export async function loadCompiled(bits: 32 | 64): Promise<Compiled> {
  const [code, glue, worker] = bits === 32
    ? await Promise.all([
      import("../../../wasm/pkg/lakh32.wasm.base64", { with: { type: "text" } }),
      import("../../../wasm/pkg/lakh32.js", { with: { type: "text" } }),
      import("./worker.js", { with: { type: "text" } }),
    ])
    : await Promise.all([
      import("../../../wasm/pkg/lakh64.wasm.base64", { with: { type: "text" } }),
      import("../../../wasm/pkg/lakh64.js", { with: { type: "text" } }),
      import("./worker.js", { with: { type: "text" } }),
    ]);
  return {
    module: await WebAssembly.compile(Uint8Array.fromBase64(code.default) as BufferSource),
    workerSource: `${glue.default}\n${worker.default}`,
  };
}
