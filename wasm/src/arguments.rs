//! What a kernel is told, by name.
//!
//! `arguments!` declares the arguments of one kernel: it makes the struct, reads it from the command's f64 words, which
//! stand in the order of the declaration, and gives the names to TypeScript, whose `record` writes words by them. So
//! nothing on either side counts positions.
use crate::command::Command;

/// One operation of the device. Every thread calls `run` for every command.
pub trait Kernel: Arguments {
    /// Bytes of scratch that each thread needs. Asked before the command runs.
    fn scratch(&self) -> usize {
        0
    }
    /// Computes the items that this thread takes from `command`.
    ///
    /// # Safety
    /// Every pointer among the arguments must point to as many numbers as the kernel's head says, rounded up to whole
    /// vectors of four; results must be writable, all else readable, and nothing else may write to them meanwhile. The
    /// counter of `command` and `self` must be the same for all threads that run it together.
    unsafe fn run(&self, command: &Command);
}

/// Arguments that travel as f64 words.
pub trait Arguments: Sized {
    /// In the order of the words.
    const FIELDS: &'static [Field];
    /// # Safety
    /// As many words as there are fields must be readable at `words`.
    unsafe fn read(words: *const f64) -> Self;
}

/// One argument, as TypeScript is told of it.
pub struct Field {
    pub name: &'static str,
    /// Names of the values, in the order of their codes, of one that is chosen from a list.
    pub codes: &'static [&'static str],
}

impl Field {
    /// "name" or "name:first|second|third".
    pub fn text(&self) -> String {
        let before = if self.codes.is_empty() { "" } else { ":" };
        [self.name, before, &self.codes.join("|")].concat()
    }
}

/// A type that an argument can have. f64 holds every number and address that the device knows exactly.
pub trait Word {
    const CODES: &'static [&'static str] = &[];
    fn of(word: f64) -> Self;
}
impl Word for usize {
    fn of(word: f64) -> usize {
        word as usize
    }
}
impl Word for i32 {
    fn of(word: f64) -> i32 {
        word as i32
    }
}
impl Word for f32 {
    fn of(word: f64) -> f32 {
        word as f32
    }
}
impl Word for bool {
    fn of(word: f64) -> bool {
        word != 0.0
    }
}
impl<T> Word for *const T {
    fn of(word: f64) -> *const T {
        word as usize as *const T
    }
}
impl<T> Word for *mut T {
    fn of(word: f64) -> *mut T {
        word as usize as *mut T
    }
}

/// `codes! { Layout { Half = "half", Interleaved = "interleaved" } }`: a choice that TypeScript writes by name.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }
        impl $crate::arguments::Word for $name {
            const CODES: &'static [&'static str] = &[$($text),+];
            #[inline(always)]
            fn of(word: f64) -> $name {
                [$($name::$variant),+][word as usize]
            }
        }
    };
}
pub(crate) use codes;

/// `arguments! { /// what it is told
/// Scale { x: *const f32, count: usize, factor: f32, y: *mut f32 } }`
macro_rules! arguments {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),+ $(,)? }) => {
        $(#[$doc])*
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type),+
        }
        impl $crate::arguments::Arguments for $name {
            const FIELDS: &'static [$crate::arguments::Field] = &[$($crate::arguments::Field {
                name: stringify!($field),
                codes: <$type as $crate::arguments::Word>::CODES,
            }),+];
            #[inline(always)]
            unsafe fn read(words: *const f64) -> Self {
                let mut at = 0;
                let mut next = || {
                    at += 1;
                    *words.add(at - 1)
                };
                $name { $($field: $crate::arguments::Word::of(next())),+ }
            }
        }
    };
    // The arguments of one kernel are those of another.
    ($(#[$doc:meta])* $name:ident = $shared:ty) => {
        $(#[$doc])*
        pub struct $name(pub $shared);
        impl $crate::arguments::Arguments for $name {
            const FIELDS: &'static [$crate::arguments::Field] = <$shared as $crate::arguments::Arguments>::FIELDS;
            #[inline(always)]
            unsafe fn read(words: *const f64) -> Self {
                $name(<$shared as $crate::arguments::Arguments>::read(words))
            }
        }
    };
}
pub(crate) use arguments;

/// Rows of a table that the host writes, u32 each: makes the struct and gives the names to TypeScript.
pub trait Record {
    const NAMES: &'static [&'static str];
}
/// `record! { Item { row, tokens } }`
macro_rules! record {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        #[repr(C)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: u32),+
        }
        impl $crate::arguments::Record for $name {
            const NAMES: &'static [&'static str] = &[$(stringify!($field)),+];
        }
    };
}
pub(crate) use record;
