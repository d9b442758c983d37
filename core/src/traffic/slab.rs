//! Storage where a million small records cost their own bytes and nothing more: a [`Slab`] hands
//! out 32-bit indices, and a [`List`] threads records together through links that lie inside them.
//!
//! Records live in chunks that never move, so growing copies nothing and wastes at most one chunk.
//! A record can be on several lists at once when its type has several links: the list's number `N`
//! says which link it uses ([`Linked`]). Taking a record out of the middle of a list is one step,
//! but the caller must know which list it is on.

use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

/// No record.
pub const NIL: u32 = u32::MAX;

/// Records per chunk.
const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 9;

/// Records under 32-bit indices; a freed index is used again.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Vec<Entry<T>>>,
    free: u32,
    used: u32,
    len: u32,
}

#[derive(Debug)]
enum Entry<T> {
    /// And the next vacant one.
    Vacant(u32),
    Taken(T),
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            free: NIL,
            used: 0,
            len: 0,
        }
    }
}

impl<T> Slab<T> {
    /// Records held.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more than the highest index in use so far.
    pub fn end(&self) -> u32 {
        self.used
    }

    /// Bytes that the records take, with the room that is still vacant.
    pub fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<Entry<T>>()
            + self.chunks.capacity() * size_of::<Vec<Entry<T>>>()
    }

    /// Keeps `record`; `None` when every index is taken.
    pub fn insert(&mut self, record: T) -> Option<u32> {
        let id = if self.free == NIL {
            let id = self.used;
            if id == NIL {
                return None;
            }
            let (chunk, _) = split(id);
            if chunk == self.chunks.len() {
                self.chunks.push(Vec::with_capacity(CHUNK));
            }
            self.chunks[chunk].push(Entry::Taken(record));
            self.used += 1;
            id
        } else {
            let id = self.free;
            let (chunk, at) = split(id);
            let entry = &mut self.chunks[chunk][at];
            if let Entry::Vacant(next) = *entry {
                self.free = next;
            }
            *entry = Entry::Taken(record);
            id
        };
        self.len += 1;
        Some(id)
    }

    /// Gives the record back and its index free.
    pub fn remove(&mut self, id: u32) -> Option<T> {
        self.get(id)?;
        let (chunk, at) = split(id);
        let old = core::mem::replace(&mut self.chunks[chunk][at], Entry::Vacant(self.free));
        self.free = id;
        self.len -= 1;
        match old {
            Entry::Taken(record) => Some(record),
            Entry::Vacant(_) => None,
        }
    }

    /// The record, if there is one under this index.
    pub fn get(&self, id: u32) -> Option<&T> {
        let (chunk, at) = split(id);
        match self.chunks.get(chunk)?.get(at)? {
            Entry::Taken(record) => Some(record),
            Entry::Vacant(_) => None,
        }
    }

    /// The record, if there is one under this index.
    pub fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let (chunk, at) = split(id);
        match self.chunks.get_mut(chunk)?.get_mut(at)? {
            Entry::Taken(record) => Some(record),
            Entry::Vacant(_) => None,
        }
    }

    /// Every record from index `from` on, in the order of indices.
    pub fn iter_from(&self, from: u32) -> impl Iterator<Item = (u32, &T)> {
        (from..self.used).filter_map(|id| Some((id, self.get(id)?)))
    }
}

const fn split(id: u32) -> (usize, usize) {
    ((id >> CHUNK_BITS) as usize, id as usize & (CHUNK - 1))
}

/// For indices that this crate made itself; an index from outside goes through [`Slab::get`].
impl<T> Index<u32> for Slab<T> {
    type Output = T;
    fn index(&self, id: u32) -> &T {
        match self.get(id) {
            Some(record) => record,
            None => unreachable!("no record {id}"),
        }
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, id: u32) -> &mut T {
        match self.get_mut(id) {
            Some(record) => record,
            None => unreachable!("no record {id}"),
        }
    }
}

/// Neighbours on a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Toward the front.
    pub prev: u32,
    /// Toward the back.
    pub next: u32,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            prev: NIL,
            next: NIL,
        }
    }
}

/// A record that can be on a list number `N`.
pub trait Linked<const N: usize> {
    /// Its link for that list.
    fn link(&mut self) -> &mut Link;
    /// Its link for that list.
    fn link_ref(&self) -> &Link;
}

/// A list through the links number `N` of the records of a slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List<const N: usize> {
    head: u32,
    tail: u32,
}

impl<const N: usize> Default for List<N> {
    fn default() -> Self {
        Self {
            head: NIL,
            tail: NIL,
        }
    }
}

impl<const N: usize> List<N> {
    /// Whether nothing is on it.
    pub const fn is_empty(&self) -> bool {
        self.head == NIL
    }

    /// Whether exactly one record is on it.
    pub const fn is_single(&self) -> bool {
        self.head != NIL && self.head == self.tail
    }

    /// The first record.
    pub const fn front(&self) -> Option<u32> {
        if self.head == NIL {
            None
        } else {
            Some(self.head)
        }
    }

    /// Puts a record, which is on no list through this link, at the back.
    pub fn push_back<T: Linked<N>>(&mut self, slab: &mut Slab<T>, id: u32) {
        *slab[id].link() = Link {
            prev: self.tail,
            next: NIL,
        };
        if self.tail == NIL {
            self.head = id;
        } else {
            slab[self.tail].link().next = id;
        }
        self.tail = id;
    }

    /// Puts a record, which is on no list through this link, at the front.
    pub fn push_front<T: Linked<N>>(&mut self, slab: &mut Slab<T>, id: u32) {
        *slab[id].link() = Link {
            prev: NIL,
            next: self.head,
        };
        if self.head == NIL {
            self.tail = id;
        } else {
            slab[self.head].link().prev = id;
        }
        self.head = id;
    }

    /// Takes a record, which must be on this very list, off it.
    pub fn unlink<T: Linked<N>>(&mut self, slab: &mut Slab<T>, id: u32) {
        let Link { prev, next } = core::mem::take(slab[id].link());
        if prev == NIL {
            self.head = next;
        } else {
            slab[prev].link().next = next;
        }
        if next == NIL {
            self.tail = prev;
        } else {
            slab[next].link().prev = prev;
        }
    }

    /// Takes the first record off.
    pub fn pop_front<T: Linked<N>>(&mut self, slab: &mut Slab<T>) -> Option<u32> {
        let id = self.front()?;
        self.unlink(slab, id);
        Some(id)
    }

    /// Sends the first record to the back.
    pub fn rotate<T: Linked<N>>(&mut self, slab: &mut Slab<T>) {
        if self.head != self.tail
            && let Some(id) = self.pop_front(slab)
        {
            self.push_back(slab, id);
        }
    }

    /// The records, from the front.
    pub fn iter<'a, T: Linked<N>>(&self, slab: &'a Slab<T>) -> impl Iterator<Item = u32> + 'a {
        core::iter::successors(self.front(), |id| {
            let next = slab.get(*id)?.link_ref().next;
            (next != NIL).then_some(next)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    struct Record {
        value: u32,
        link: Link,
    }
    impl Linked<0> for Record {
        fn link(&mut self) -> &mut Link {
            &mut self.link
        }
        fn link_ref(&self) -> &Link {
            &self.link
        }
    }

    proptest! {
        #[test]
        fn a_list_is_a_deque_with_removal(ops in proptest::collection::vec((0u8..5, any::<u16>()), 0..400)) {
            let mut slab = Slab::default();
            let mut list = List::<0>::default();
            let mut model: VecDeque<(u32, u32)> = VecDeque::new();
            for (n, (op, arg)) in ops.into_iter().enumerate() {
                match op {
                    0 | 1 => {
                        let id = slab.insert(Record { value: n as u32, link: Link::default() }).unwrap();
                        prop_assert!(model.iter().all(|m| m.0 != id));
                        if op == 0 {
                            list.push_back(&mut slab, id);
                            model.push_back((id, n as u32));
                        } else {
                            list.push_front(&mut slab, id);
                            model.push_front((id, n as u32));
                        }
                    }
                    2 => {
                        let popped = list.pop_front(&mut slab);
                        prop_assert_eq!(popped, model.pop_front().map(|m| m.0));
                        if let Some(id) = popped { slab.remove(id); }
                    }
                    3 => {
                        list.rotate(&mut slab);
                        if let Some(first) = model.pop_front() { model.push_back(first); }
                    }
                    _ => if !model.is_empty() {
                        let (id, value) = model.remove(usize::from(arg) % model.len()).unwrap();
                        list.unlink(&mut slab, id);
                        prop_assert_eq!(slab.remove(id).unwrap().value, value);
                        prop_assert!(slab.get(id).is_none());
                    },
                }
                prop_assert_eq!(slab.len() as usize, model.len());
                let seen: Vec<_> = list.iter(&slab).map(|id| (id, slab[id].value)).collect();
                prop_assert_eq!(seen, model.iter().copied().collect::<Vec<_>>());
            }
        }
    }
}
