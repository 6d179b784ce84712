// Sum over the workgroup. 4 bytes of workgroup memory a thread; THREADS is a power of two.
var<workgroup> partialSums: array<f32, 256>;

fn workgroupSum(value: f32, local: u32, threads: u32) -> f32 {
  partialSums[local] = value;
  workgroupBarrier();
  for (var half = threads / 2u; half > 0u; half /= 2u) {
    if (local < half) { partialSums[local] += partialSums[local + half]; }
    workgroupBarrier();
  }
  let sum = partialSums[0];
  workgroupBarrier();
  return sum;
}
