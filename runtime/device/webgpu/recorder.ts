/**
 * Records dispatches and copies into one command buffer a submission. Pipelines are compiled once, bind
 * groups are kept as long as their buffers live, parameters go into one uniform arena.
 *
 * @module
 */
import type { Values } from "./declarations.ts";
import type { Kernel } from "./kernels.ts";
import { Arena, formatBytes, type Memory, type Region } from "./memory.ts";

const COMPUTE = 4; // GPUShaderStage.COMPUTE
/** Bytes bound as parameters; no kernel has more. */
const PARAMETER_BYTES = 256;
/** Bind groups are cheap to make again, so that the cache may be emptied when it is this full. */
const BIND_GROUPS = 8192;
/** Workgroups in one dimension of a dispatch that every WebGPU allows. */
export const MAX_GROUPS = 65535;
const NONE: Values = {};

/** Buffers by the names of a kernel's bindings. */
export type Buffers = Readonly<Record<string, Region>>;
/** Workgroups in x, y and z. */
export type Groups = readonly [number, number?, number?];

interface Pipeline {
  readonly id: number;
  readonly name: string;
  readonly constants: Values;
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

/** Flops and bytes of a dispatch, for profiles. */
export interface Work {
  readonly flops: number;
  readonly bytes: number;
}

/** How a kernel is run. */
export interface Dispatch {
  readonly parameters: Values;
  readonly groups: Groups;
  readonly constants?: Values;
  readonly work?: Partial<Work>;
}

/** A profile that is being made. */
export interface Timing {
  /** Says where the timestamps of a dispatch go, which gets a pass of its own. */
  begin(name: string, work: Work): GPUComputePassTimestampWrites;
  /** Copies timestamps at the end of a submission. */
  resolve(encoder: GPUCommandEncoder): void;
}

/** Folds `count` workgroups into two dimensions, see shaders/lib/flat.wgsl. */
export function inTwoDimensions(count: number): Groups {
  if (count <= MAX_GROUPS) return [count];
  const rows = Math.ceil(count / MAX_GROUPS);
  return [Math.ceil(count / rows), rows];
}

/** `buffers` in the order of the kernel's bindings. Throws unless the names are those of the bindings. */
function bound({ name, declarations: { bindings } }: Kernel, buffers: Buffers): Region[] {
  const regions: Region[] = new Array(bindings.length);
  let i = 0;
  // Callers name the buffers in the order of the bindings, mostly, so that nothing has to be looked up.
  for (const key in buffers) {
    const index = bindings[i]?.name === key ? i : bindings.findIndex((binding) => binding.name === key);
    if (index < 0) break;
    regions[index] = buffers[key]!;
    i++;
  }
  if (i === bindings.length && i === Object.keys(buffers).length) return regions;
  throw new TypeError(
    `Cannot run ${name} with the buffers ${Object.keys(buffers).join(", ")}: it binds ${
      bindings.map((binding) => binding.name).join(", ")
    }`,
  );
}

function same(a: readonly Region[], b: readonly Region[]): boolean {
  for (let i = 0; i < b.length; i++) {
    const x = a[i]!, y = b[i]!;
    if (x.id !== y.id || x.offset !== y.offset || x.size !== y.size) return false;
  }
  return a.length === b.length;
}

function sameValues(a: Values, b: Values): boolean {
  let count = 0;
  for (const name in a) {
    if (a[name] !== b[name]) return false;
    count++;
  }
  for (const _ in b) count--;
  return count === 0;
}

/** Command buffers of one GPU device. */
export class Recorder {
  readonly #device: GPUDevice;
  readonly #modules = new Map<Kernel, GPUShaderModule>();
  readonly #layouts = new Map<string, { group: GPUBindGroupLayout; pipeline: GPUPipelineLayout }>();
  /** One pipeline for each set of constants that a kernel was run with. */
  readonly #variants = new Map<Kernel, Pipeline[]>();
  readonly #bindGroups = new Map<string, GPUBindGroup>();
  /** By place in a submission, those of the last one that had so many. */
  #history: { pipeline: number; place: number; buffers: readonly Region[]; group: GPUBindGroup }[] = [];
  #recorded = 0;
  readonly #parameters: Arena;
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  /** Number of pipelines compiled so far. */
  pipelines = 0;
  /** Set while profiling. */
  timing: Timing | undefined;

  constructor(device: GPUDevice, readonly memory: Memory) {
    this.#device = device;
    this.#parameters = new Arena(device, memory, "uniform", 2 ** 16);
  }

  /** Whether something waits for submission. */
  get pending(): boolean {
    return this.#encoder !== undefined;
  }

  /**
   * Runs a kernel with what its shader declares: `buffers` by the names of its bindings, `parameters` by the
   * fields of its Params, `constants` by its overrides (those left out keep the shader's own value). `work`
   * defaults to the bytes that are bound. Throws a TypeError for a name that is unknown or missing.
   */
  dispatch(
    kernel: Kernel,
    buffers: Buffers,
    { parameters, groups, constants = NONE, work }: Dispatch,
  ): void {
    const [x, y = 1, z = 1] = groups;
    if (x === 0 || y === 0 || z === 0) return;
    const compiled = this.#pipeline(kernel, constants);
    const place = this.#parameters.putStruct(kernel.declarations.parameters, parameters, PARAMETER_BYTES);
    const regions = bound(kernel, buffers);
    const group = this.#bindGroup(compiled, place, regions);
    this.#encoder ??= this.#device.createCommandEncoder();
    const timestampWrites = this.timing?.begin(kernel.name, {
      flops: 0,
      bytes: work?.bytes ?? regions.reduce((bytes, { size }) => bytes + size, 0),
      ...work,
    });
    if (timestampWrites) this.#endPass();
    this.#pass ??= this.#encoder.beginComputePass(timestampWrites ? { timestampWrites } : {});
    this.#pass.setPipeline(compiled.pipeline);
    this.#pass.setBindGroup(0, group, [place.offset]);
    this.#pass.dispatchWorkgroups(x, y, z);
    if (timestampWrites) this.#endPass();
  }

  /** Copies `bytes` (a multiple of 4) between buffers. */
  copy(from: Region, to: Region, bytes: number): void {
    if (bytes === 0) return;
    this.#encoder ??= this.#device.createCommandEncoder();
    this.#endPass();
    this.#encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, bytes);
  }

  /**
   * Submits what is recorded, if anything is; `arenas` hold data that it uses. Returns whether something was.
   */
  submit(arenas: readonly Arena[]): boolean {
    const encoder = this.#encoder;
    if (encoder) {
      this.#endPass();
      this.timing?.resolve(encoder);
      this.#parameters.write();
      for (const arena of arenas) arena.write();
      this.#device.queue.submit([encoder.finish()]);
      this.#encoder = undefined;
      this.#parameters.reset();
      this.#recorded = 0;
    }
    this.memory.submitted();
    return encoder !== undefined;
  }

  /** Destroys at once what was given back, unless something recorded may use it. */
  giveBack(): void {
    if (!this.pending) this.memory.submitted();
  }

  /** Drops bind groups that name a destroyed buffer. */
  forget(id: number): void {
    this.#history = [];
    for (const key of this.#bindGroups.keys()) if (key.includes(` ${id}:`)) this.#bindGroups.delete(key);
  }

  close(): void {
    this.#endPass();
    this.#encoder = undefined;
    this.#bindGroups.clear();
    this.#history = [];
    this.#parameters.close();
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = undefined;
  }

  #pipeline(kernel: Kernel, constants: Values): Pipeline {
    let variants = this.#variants.get(kernel);
    if (!variants) this.#variants.set(kernel, variants = []);
    for (const variant of variants) if (sameValues(variant.constants, constants)) return variant;
    for (const name in constants) {
      if (!kernel.declarations.overrides.has(name)) {
        throw new TypeError(`Cannot run ${kernel.name}: its shader has no override ${name}`);
      }
    }
    let module = this.#modules.get(kernel);
    if (!module) {
      module = this.#device.createShaderModule({ code: kernel.code, label: kernel.name });
      this.#modules.set(kernel, module);
    }
    const values = Object.entries(constants).map(([name, value]) => [name, Number(value)] as const);
    const layout = this.#layout(kernel);
    const pipeline = this.#device.createComputePipeline({
      label: [kernel.name, ...values.map((pair) => pair.join("="))].join(" "),
      layout: layout.pipeline,
      compute: { module, entryPoint: "main", constants: Object.fromEntries(values) },
    });
    const made = { id: this.pipelines++, name: kernel.name, constants, pipeline, layout: layout.group };
    variants.push(made);
    return made;
  }

  /** Kernels whose bindings are used alike share a layout. */
  #layout(
    { declarations: { bindings } }: Kernel,
  ): { group: GPUBindGroupLayout; pipeline: GPUPipelineLayout } {
    const key = bindings.map(({ access }) => access).join();
    let found = this.#layouts.get(key);
    if (!found) {
      const group = this.#device.createBindGroupLayout({
        entries: [
          { binding: 0, visibility: COMPUTE, buffer: { type: "uniform", hasDynamicOffset: true } },
          ...bindings.map(({ access }, i): GPUBindGroupLayoutEntry => ({
            binding: i + 1,
            visibility: COMPUTE,
            buffer: { type: access === "read" ? "read-only-storage" : "storage" },
          })),
        ],
      });
      found = { group, pipeline: this.#device.createPipelineLayout({ bindGroupLayouts: [group] }) };
      this.#layouts.set(key, found);
    }
    return found;
  }

  /**
   * Decode steps repeat themselves: mostly it is the group that the same dispatch of the last submission had.
   */
  #bindGroup(pipeline: Pipeline, place: Region, buffers: readonly Region[]): GPUBindGroup {
    const index = this.#recorded++, before = this.#history[index];
    if (
      before && before.pipeline === pipeline.id && before.place === place.id && same(before.buffers, buffers)
    ) {
      return before.group;
    }
    const group = this.#findBindGroup(pipeline, place, buffers);
    this.#history[index] = { pipeline: pipeline.id, place: place.id, buffers, group };
    return group;
  }

  #findBindGroup({ layout, name, id }: Pipeline, place: Region, buffers: readonly Region[]): GPUBindGroup {
    const { bindingBytes } = this.memory.limits;
    let key = `${id} ${place.id}:`;
    for (const { id, offset, size } of buffers) {
      if (size > bindingBytes) {
        throw new RangeError(
          `Cannot run ${name}: a tensor of ${formatBytes(size)} is over the GPU's binding limit of ${
            formatBytes(bindingBytes)
          }: pass fewer tokens at once`,
        );
      }
      key += ` ${id}:${offset}+${size}`;
    }
    let group = this.#bindGroups.get(key);
    if (!group) {
      if (this.#bindGroups.size >= BIND_GROUPS) this.#bindGroups.clear();
      const uniform = { buffer: place.buffer, offset: 0, size: PARAMETER_BYTES };
      group = this.#device.createBindGroup({
        label: name,
        layout,
        entries: [uniform, ...buffers].map(({ buffer, offset, size }, binding) => ({
          binding,
          resource: { buffer, offset, size },
        })),
      });
      this.#bindGroups.set(key, group);
    }
    return group;
  }
}
