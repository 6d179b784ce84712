// layerNorm: (x − mean) / sqrt(var + eps) · weight + bias over groups of `size` features. One workgroup a group.
// The variance is of x − mean, in a second pass: E[x²] − mean² loses digits. Bytes: 4 · 4 a number (reads after the
// first come out of cache); 7 flops a number. Workgroup memory: 1 KiB.
fn normalize(start: u32, local: u32) {
  var sum = 0.0;
  for (var i = local; i < p.size; i += THREADS) { sum += x[start + i]; }
  let mean = workgroupSum(sum, local, THREADS) / f32(p.size);
  var squares = 0.0;
  for (var i = local; i < p.size; i += THREADS) {
    let difference = x[start + i] - mean;
    squares += difference * difference;
  }
  let factor = 1.0 / sqrt(workgroupSum(squares, local, THREADS) / f32(p.size) + p.eps);
  for (var i = local; i < p.size; i += THREADS) {
    var number = (x[start + i] - mean) * factor * weight[i];
    if (p.hasBias == 1u) { number += bias[i]; }
    result[start + i] = number;
  }
}
