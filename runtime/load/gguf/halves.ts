/**
 * f16 scales of blocks as f32: a table of all 65,536, since blocks have one or two each.
 *
 * @module
 */
let table: Float32Array | undefined;

/** f16 bits → f32, made when first asked for. */
export function halfTable(): Float32Array {
  return table ??= Float32Array.from(
    new Float16Array(Uint16Array.from({ length: 65_536 }, (_, bits) => bits).buffer),
  );
}
