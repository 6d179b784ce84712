#!/usr/bin/env bash
# Builds the kernels for wasm32 and wasm64 and writes wasm/pkg (committed, so that users need no Rust).
# Needs Debian's rustc-web, cargo-web, rust-web-src, lld-22 and wasm-bindgen 0.2.130. OUT=dir builds elsewhere.
set -euo pipefail
cd "$(dirname "$0")"
out=${OUT:-pkg}
mkdir -p "$out"

build() { # build BITS MAX_MEMORY_BYTES
  local target="wasm$1-unknown-unknown"
  RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
  RUSTFLAGS="-C target-feature=+simd128,+relaxed-simd,+atomics,+bulk-memory,+mutable-globals \
    -C linker=/usr/bin/wasm-ld-22 -C link-arg=--shared-memory -C link-arg=--import-memory -C link-arg=--max-memory=$2 \
    -C link-arg=--export=__wasm_init_tls -C link-arg=--export=__tls_size -C link-arg=--export=__tls_align \
    -C link-arg=--export=__tls_base -C link-arg=--export=__heap_base --remap-path-prefix=$PWD=lakh \
    --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo" \
    /usr/bin/cargo build -Z build-std=std,panic_abort --release --locked --target "$target"
  wasm-bindgen --target web --no-typescript --remove-producers-section --out-name "lakh$1" --out-dir "$out" \
    "target/$target/release/lakh.wasm"
  # One text module per build: base64 text is the form that every bundler and a module graph carry.
  base64 -w 0 "$out/lakh$1_bg.wasm" > "$out/lakh$1.wasm.base64"
  rm "$out/lakh$1_bg.wasm"
}
unset CARGO_ENCODED_RUSTFLAGS
build 32 4294967296
build 64 17179869184
ls -l "$out"
