//! [`fuzz_target!`] as libfuzzer-sys has it, without the fuzzer.
//!
//! libfuzzer-sys brings a C++ library and wants a program per target. A crate that depends on this
//! one under its name can take the files of fuzz targets in as modules: each gets a function
//! `fuzz_input`, which does to an input what the fuzzer does.

#[doc(hidden)]
pub use arbitrary;

/// Makes `fn fuzz_input(input: &[u8]) -> bool` out of a target's code.
///
/// `false`: the input is none of the target's type, and the code did not run. What the code asserts
/// panics, as ever. The forms are those of libfuzzer-sys that targets here use: `|x: &[u8]|`, and
/// `|x: T|` for any `T` of `arbitrary`, read from the input as libfuzzer-sys reads it.
#[macro_export]
macro_rules! fuzz_target {
    (|$bytes:ident: &[u8]| $body:expr) => {
        pub(crate) fn fuzz_input(bytes: &[u8]) -> bool {
            __fuzz_target(bytes);
            true
        }
        fn __fuzz_target($bytes: &[u8]) {
            $body
        }
    };

    (|$data:ident: $type:ty| $body:expr) => {
        pub(crate) fn fuzz_input(bytes: &[u8]) -> bool {
            use $crate::arbitrary::{Arbitrary, Unstructured};
            if bytes.len() < <$type as Arbitrary>::size_hint(0).0 {
                return false;
            }
            let data = <$type as Arbitrary>::arbitrary_take_rest(Unstructured::new(bytes));
            data.map(__fuzz_target).is_ok()
        }
        fn __fuzz_target($data: $type) {
            $body
        }
    };
}
