// Features of x that 32 neighbouring vectors of a weight row meet, in workgroup memory: read once by 64 threads in one go,
// where each thread by itself would read 16 bytes of every 128 (q4). Laid out [quad of a vector][vector], a row being one
// longer than the vectors, so that neither writing nor reading meets a bank twice.
const LANES = 32u;
var<workgroup> staged: array<vec4<f32>, QUADS * 33u>;

// Of `row`, from vector `first` on. All threads call it; a barrier must come before and after.
fn stageX(row: u32, first: u32, local: u32, features: u32) {
  for (var i = local; i < QUADS * LANES; i += 64u) {
    staged[(i % QUADS) * (LANES + 1u) + i / QUADS] = xQuad(row, first * QUADS + i, features);
  }
}

// The products of the staged features of this lane's vector with two weight vectors.
fn stagedProducts(lane: u32, w0: vec4<u32>, w1: vec4<u32>) -> vec2<f32> {
  var sum = vec2<f32>();
  for (var quad = 0u; quad < QUADS; quad++) {
    let numbers = staged[quad * (LANES + 1u) + lane];
    sum += vec2<f32>(dot(quadOf(w0, quad), numbers), dot(quadOf(w1, quad), numbers));
  }
  return sum;
}
