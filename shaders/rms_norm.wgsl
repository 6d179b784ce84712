// rmsNorm: x / sqrt(mean(x²) + eps) · weight over groups of `size` features. One workgroup a group. It has no bias.
// Bytes: 3 · 4 a number (the second read comes out of cache); 4 flops a number. Workgroup memory: 1 KiB.
fn normalize(start: u32, local: u32) {
  var sum = 0.0;
  for (var i = local; i < p.size; i += THREADS) { sum += x[start + i] * x[start + i]; }
  let factor = 1.0 / sqrt(workgroupSum(sum, local, THREADS) / f32(p.size) + p.eps);
  for (var i = local; i < p.size; i += THREADS) { result[start + i] = x[start + i] * factor * weight[i]; }
}
