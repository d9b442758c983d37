//! Any line is a command or an error, and a command is read as it is written.
#![no_main]

use courser_core::smtp::command::Command;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    match Command::parse(line) {
        Ok(command) => {
            let mut out = [0; 8192];
            let n = command.emit(&mut out).unwrap();
            let written = out[..n].strip_suffix(b"\r\n").unwrap();
            assert!(!written.iter().any(|b| b.is_ascii_control()));
            assert_eq!(Command::parse(written), Ok(command));
        }
        Err(error) => assert!(error.reply().0.is_permanent()),
    }
});
