// A dimension of a dispatch holds 65,535 workgroups at most, so long grids are folded into two dimensions.
fn flatIndex(group: vec3<u32>, groups: vec3<u32>, local: u32, size: u32) -> u32 {
  return (group.y * groups.x + group.x) * size + local;
}
