#!/usr/bin/env bash
# Builds the grammar module and writes wasm/grammar/pkg (committed, so that users need no Rust).
# Needs Debian's rustc-web, cargo-web, rust-web-src and lld-22. OUT=dir builds elsewhere.
set -euo pipefail
cd "$(dirname "$0")"
out=${OUT:-pkg}
mkdir -p "$out"
unset CARGO_ENCODED_RUSTFLAGS
# --import-undefined: the clock of crate `instant` is a function that the caller brings (env.now), also where llguidance's
# own library is linked beside ours.
RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
RUSTFLAGS="-C target-feature=+simd128,+bulk-memory -C linker=/usr/bin/wasm-ld-22 -C link-arg=--import-undefined \
  --remap-path-prefix=$PWD=lakh --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo" \
  /usr/bin/cargo build -Z build-std=std,panic_abort --release ${LOCKED---locked} --target wasm32-unknown-unknown
# Base64 text is the form that every bundler and a module graph carry.
base64 -w 0 target/wasm32-unknown-unknown/release/grammar.wasm > "$out/grammar.wasm.base64"
ls -l "$out"
