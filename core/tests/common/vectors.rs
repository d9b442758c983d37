//! Where the shared test vectors are.

use std::path::PathBuf;

/// A file or folder of the shared vectors, or `None` with a word about it.
pub(crate) fn vectors(name: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors");
    let found = [beside, "/work/shared/vectors"]
        .iter()
        .map(|dir| PathBuf::from(dir).join(name))
        .find(|path| path.exists());
    if found.is_none() {
        std::println!("skipped: needs ../shared/vectors/{name}");
    }
    found
}
