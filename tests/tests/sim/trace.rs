//! What happened, as a number always and as lines where somebody reads them.

use crate::random::mix;

/// Two runs of one seed have the same [`hash`](Trace::hash).
#[derive(Default)]
pub(crate) struct Trace {
    pub(crate) hash: u64,
    pub(crate) lines: Option<Vec<String>>,
    /// Lines are printed as they come.
    pub(crate) loud: bool,
}

impl Trace {
    pub(crate) fn mark(&mut self, at: u64, what: u64) {
        self.hash = mix(self.hash ^ at.rotate_left(17) ^ what.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }

    pub(crate) fn line(&mut self, now: u64, text: impl FnOnce() -> String) {
        if self.loud || self.lines.is_some() {
            let line = format!("{:>14.6}  {}", now as f64 / 1e9, text());
            if self.loud {
                println!("{line}");
            }
            if let Some(lines) = &mut self.lines {
                lines.push(line);
            }
        }
    }
}
