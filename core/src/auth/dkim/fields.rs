//! Which fields a signature covers (RFC 6376 5.4.2), and the octets of them that are signed (3.7).

use crate::auth::canon::{Canon, field, signature_field};
use crate::mail::header::{Field, Header};
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::ops::Range;

/// The fields of a header, found by their names: `h=` and header are both strangers', and each may
/// be long.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    fields: Vec<Field<'a>>,
    /// The places in `fields`, by name and from the top, each with the name's [`key`].
    sorted: Vec<(u32, u32)>,
}

/// FNV-1a over the name in lower case: most names differ in it.
fn key(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5_u32, |hash, b| {
        (hash ^ u32::from(b.to_ascii_lowercase())).wrapping_mul(0x0100_0193)
    })
}

fn by_name(a: &str, b: &str) -> Ordering {
    fn lower(name: &str) -> impl Iterator<Item = u8> {
        name.bytes().map(|b| b.to_ascii_lowercase())
    }
    a.len().cmp(&b.len()).then_with(|| lower(a).cmp(lower(b)))
}

impl<'a> Fields<'a> {
    pub(crate) fn of(header: Header<'a>) -> Self {
        let fields: Vec<_> = header.fields().collect();
        let places = (0..).zip(&fields);
        let mut sorted: Vec<_> = places.map(|(at, f)| (key(f.name()), at)).collect();
        let name = |at: u32| fields.get(at as usize).map_or("", Field::name);
        // Stable: fields of one name stay in their order.
        sorted.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| by_name(name(a.1), name(b.1))));
        Self { fields, sorted }
    }

    /// Where the fields of this name lie in `sorted`.
    fn group(&self, name: &str) -> Range<usize> {
        let wanted = key(name);
        let order = |entry: &(u32, u32)| {
            let found = self.fields.get(entry.1 as usize).map_or("", Field::name);
            entry.0.cmp(&wanted).then_with(|| by_name(found, name))
        };
        let from = self.sorted.partition_point(|e| order(e) == Ordering::Less);
        let rest = self.sorted.get(from..).unwrap_or(&[]);
        from..from + rest.partition_point(|e| order(e) == Ordering::Equal)
    }

    /// The fields of this name from the top, and where they are.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = (usize, Field<'a>)> {
        let group = self.sorted.get(self.group(name)).unwrap_or(&[]);
        group
            .iter()
            .filter_map(|(_, at)| Some((*at as usize, *self.fields.get(*at as usize)?)))
    }

    /// Gives the canonical forms of the fields that `names` cover to `sink`: for each name the
    /// lowest that was not used (5.4.2), nothing where there is none left. The field at `own` is
    /// never used.
    pub(crate) fn canonical<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
        canon: Canon,
        own: Option<usize>,
        mut sink: impl FnMut(&[u8]),
    ) {
        // How many of a name were used, at the start of its group.
        let mut used = vec![0_usize; self.sorted.len()];
        for name in names {
            let group = self.group(name);
            let Some(used) = used.get_mut(group.start) else {
                continue;
            };
            let group = self.sorted.get(group).unwrap_or(&[]);
            let left = group.iter().rev().skip(*used).map(|(_, at)| *at as usize);
            for at in left {
                *used += 1;
                if Some(at) == own {
                    continue;
                }
                if let Some(found) = self.fields.get(at) {
                    field(canon, found.raw(), &mut sink);
                }
                break;
            }
        }
    }
}

/// Gives a signature field to `sink` as it signs itself; `span` is where the value of `b=` lies in
/// the field's value.
pub(crate) fn canonical_signature(
    canon: Canon,
    signature: &Field<'_>,
    span: Range<usize>,
    sink: impl FnMut(&[u8]),
) {
    let raw = signature.raw();
    // The value follows the first colon.
    let from = memchr::memchr(b':', raw).map_or(raw.len(), |colon| colon + 1);
    signature_field(canon, raw, from + span.start..from + span.end, sink);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use proptest::prelude::*;

    #[test]
    fn from_the_bottom_and_each_once() {
        let (header, _) = Header::of(b"A: 1\r\nB: 2\r\na: 3\r\nC: 4\r\n\r\n").unwrap();
        let fields = Fields::of(header);
        let mut out = Vec::new();
        fields.canonical(
            ["a", "A", "a", "c", "b", "x"].into_iter(),
            Canon::Relaxed,
            Some(3),
            |bytes| out.extend_from_slice(bytes),
        );
        assert_eq!(out, b"a:3\r\na:1\r\nb:2\r\n");
        assert_eq!(
            fields.named("A").map(|(at, _)| at).collect::<Vec<_>>(),
            [0, 2]
        );
    }

    /// What the index must give: the lowest field of the name that is left.
    fn plain(names: &[String], fields: &[(String, usize)], own: Option<usize>) -> Vec<usize> {
        let mut left: Vec<_> = fields.iter().filter(|f| Some(f.1) != own).collect();
        let mut found = Vec::new();
        for name in names {
            if let Some(at) = left.iter().rposition(|f| f.0.eq_ignore_ascii_case(name)) {
                found.push(left.remove(at).1);
            }
        }
        found
    }

    proptest! {
        #[test]
        fn as_looking_through_all_of_them(
            names in proptest::collection::vec("[aAbB]{1,2}", 0..12),
            fields in proptest::collection::vec("[aAbB]{1,2}", 0..12),
            own in proptest::option::of(0..12_usize),
        ) {
            let fields: Vec<_> = fields.into_iter().zip(0..).collect();
            let text: String = fields.iter().map(|(name, at)| format!("{name}:{at}\r\n")).collect();
            let (header, _) = Header::of(text.as_bytes()).unwrap();
            let mut found: Vec<usize> = Vec::new();
            let names_of = names.iter().map(String::as_str);
            Fields::of(header).canonical(names_of, Canon::Simple, own, |raw| {
                let (_, at) = core::str::from_utf8(raw).unwrap().split_once(':').unwrap();
                found.push(at.trim().parse().unwrap());
            });
            prop_assert_eq!(found, plain(&names, &fields, own));
        }
    }
}
