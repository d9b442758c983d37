//! Names as numbers: the scheduler compares integers, so each domain, tenant and campaign gets
//! one while something in the queue has it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Names that nothing in the queue has any more, kept because they often come again. The oldest
/// go first.
pub const UNUSED_NAMES_MAX: usize = 65_536;

/// Names and their numbers.
#[derive(Default)]
pub struct Names {
    numbers: HashMap<Arc<str>, u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    unused: VecDeque<u32>,
}

struct Entry {
    name: Arc<str>,
    uses: u32,
    /// It stands in `unused`, perhaps from an earlier time.
    listed: bool,
}

impl Names {
    /// The number of `name`, with one more use. A name that had to make room is given to
    /// `forgotten` first.
    pub fn take(&mut self, name: &str, mut forgotten: impl FnMut(u32)) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            self.entries[number as usize].uses += 1;
            return number;
        }
        while self.unused.len() > UNUSED_NAMES_MAX {
            let Some(old) = self.unused.pop_front() else {
                break;
            };
            let entry = &mut self.entries[old as usize];
            entry.listed = false;
            if entry.uses == 0 {
                let name = std::mem::replace(&mut entry.name, Arc::from(""));
                self.numbers.remove(&name);
                forgotten(old);
                self.free.push(old);
            }
        }
        let name: Arc<str> = name.into();
        let entry = Entry {
            name: name.clone(),
            uses: 1,
            listed: false,
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.entries[number as usize] = entry;
                number
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        self.numbers.insert(name, number);
        number
    }

    /// One use less.
    pub fn give(&mut self, number: u32) {
        let Some(entry) = self.entries.get_mut(number as usize) else {
            return;
        };
        entry.uses = entry.uses.saturating_sub(1);
        if entry.uses == 0 && !entry.listed {
            entry.listed = true;
            self.unused.push_back(number);
        }
    }

    /// The name of a number.
    pub fn name(&self, number: u32) -> Arc<str> {
        self.entries
            .get(number as usize)
            .map_or_else(|| Arc::from(""), |e| e.name.clone())
    }

    /// The number of a name, if it has one.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_names_are_kept_up_to_the_bound_and_used_ones_always() {
        let mut names = Names::default();
        let kept = names.take("kept.example", |_| panic!("nothing is forgotten yet"));
        let mut forgotten = Vec::new();
        for i in 0..UNUSED_NAMES_MAX * 2 {
            let n = names.take(&format!("{i}.example"), |n| forgotten.push(n));
            assert_ne!(n, kept);
            names.give(n);
        }
        assert!(
            names.entries.len() <= UNUSED_NAMES_MAX + 3,
            "{}",
            names.entries.len()
        );
        assert!(!forgotten.is_empty());
        assert_eq!(names.take("kept.example", |_| {}), kept);
        assert_eq!(&*names.name(kept), "kept.example");
        assert_eq!(names.number("0.example"), None);
    }
}
