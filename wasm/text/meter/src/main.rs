//! meter IN OUT: puts a counter of work into a WASM module.
//!
//! Each function and each round of a loop takes one from the exported global `work`, each copy or fill of memory one
//! for 64 bytes; below zero the module traps. Since code without loops and calls is short, this bounds every call, also
//! inside of libraries, at a few per cent of the speed and without a clock, so that the same input always ends the same.

use anyhow::{Context, Result};
use walrus::ir::*;
use walrus::{ConstExpr, FunctionBuilder, GlobalId, LocalFunction, LocalId, ModuleConfig, ValType};

/// Work of what runs when the module is made ready: it sets up its memory.
const WORK_AT_START: i64 = 1 << 20;
/// Bytes of memory that a unit of work moves, as a power of two.
const BYTES_PER_UNIT: i32 = 6;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (input, output) = (args.next().context("IN")?, args.next().context("OUT")?);
    let mut config = ModuleConfig::new();
    config.generate_name_section(false).generate_producers_section(false);
    let mut module = config.parse_file(input)?;
    let at_start = ConstExpr::Value(Value::I64(WORK_AT_START));
    let work = module.globals.add_local(ValType::I64, true, false, at_start);
    module.exports.add("work", work);
    let count = module.locals.add(ValType::I32);
    for (_, function) in module.funcs.iter_local_mut() {
        meter(function, work, count);
    }
    module.emit_wasm_file(output)
}

fn meter(function: &mut LocalFunction, work: GlobalId, count: LocalId) {
    let entry = function.entry_block();
    let mut open = vec![entry];
    while let Some(id) = open.pop() {
        let old = std::mem::take(&mut function.block_mut(id).instrs);
        let mut new = Vec::with_capacity(old.len() + 8);
        if id == entry {
            new.extend(round(function.builder_mut(), work));
        }
        for (instr, place) in old {
            match &instr {
                Instr::Block(Block { seq }) => open.push(*seq),
                Instr::Loop(Loop { seq }) => {
                    open.push(*seq);
                    // The loop's own instructions are still whole, so its first ones can be put in here.
                    let first = round(function.builder_mut(), work);
                    function.block_mut(*seq).instrs.splice(0..0, first);
                }
                Instr::IfElse(IfElse { consequent, alternative }) => open.extend([*consequent, *alternative]),
                Instr::MemoryCopy(_) | Instr::MemoryFill(_) => new.extend(bytes(work, count)),
                _ => {}
            }
            new.push((instr, place));
        }
        function.block_mut(id).instrs = new;
    }
}

type Placed = (Instr, InstrLocId);

fn placed(instrs: Vec<Instr>) -> Vec<Placed> {
    instrs.into_iter().map(|instr| (instr, InstrLocId::default())).collect()
}

fn constant(value: Value) -> Instr {
    Instr::Const(Const { value })
}

/// work -= 1; if (work < 0) trap
fn round(builder: &mut FunctionBuilder, work: GlobalId) -> Vec<Placed> {
    let consequent = builder.dangling_instr_seq(None).unreachable().id();
    let alternative = builder.dangling_instr_seq(None).id();
    placed(vec![
        Instr::GlobalGet(GlobalGet { global: work }),
        constant(Value::I64(1)),
        Instr::Binop(Binop { op: BinaryOp::I64Sub }),
        Instr::GlobalSet(GlobalSet { global: work }),
        Instr::GlobalGet(GlobalGet { global: work }),
        constant(Value::I64(0)),
        Instr::Binop(Binop { op: BinaryOp::I64LtS }),
        Instr::IfElse(IfElse { consequent, alternative }),
    ])
}

/// work -= the number of bytes, which lies on the stack and stays there, in units
fn bytes(work: GlobalId, count: LocalId) -> Vec<Placed> {
    placed(vec![
        Instr::LocalSet(LocalSet { local: count }),
        Instr::GlobalGet(GlobalGet { global: work }),
        Instr::LocalGet(LocalGet { local: count }),
        constant(Value::I32(BYTES_PER_UNIT)),
        Instr::Binop(Binop { op: BinaryOp::I32ShrU }),
        Instr::Unop(Unop { op: UnaryOp::I64ExtendUI32 }),
        Instr::Binop(Binop { op: BinaryOp::I64Sub }),
        Instr::GlobalSet(GlobalSet { global: work }),
        Instr::LocalGet(LocalGet { local: count }),
    ])
}
