#!/usr/bin/env bash
# Builds the module of tokenizers and chat templates and writes wasm/text/pkg (committed, so that users need no Rust).
# Needs Debian's rustc-web, cargo-web, rust-web-src and lld-22. OUT=dir builds elsewhere.
set -euo pipefail
cd "$(dirname "$0")"
out=${OUT:-pkg}
mkdir -p "$out"
target=wasm32-unknown-unknown
unset CARGO_ENCODED_RUSTFLAGS
export RUSTC=/usr/bin/rustc
# A panic is a trap without its words, which take a tenth of the module. The caller gives the memory, so that it also
# sets its maximum. 2 MiB of stack; an overflow traps, since the stack lies first.
RUSTC_BOOTSTRAP=1 \
RUSTFLAGS="-C target-feature=+simd128,+bulk-memory --cfg getrandom_backend=\"custom\" \
  -Z unstable-options -C panic=immediate-abort \
  -C linker=/usr/bin/wasm-ld-22 -C link-arg=--import-memory -C link-arg=--initial-memory=8388608 \
  -C link-arg=--max-memory=4294967296 -C link-arg=-zstack-size=2097152 \
  --remap-path-prefix=$PWD=lakh --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo" \
  /usr/bin/cargo build -Z build-std=std,panic_abort --release --locked --target "$target"
# A counter in every loop and function bounds the work of a call.
RUSTFLAGS= /usr/bin/cargo run --quiet --release --locked --manifest-path meter/Cargo.toml -- \
  "target/$target/release/lakh_text.wasm" "$out/text.wasm"
base64 -w 0 "$out/text.wasm" > "$out/text.wasm.base64"
rm "$out/text.wasm"
ls -l "$out"
