//! Which fields a signature covers (RFC 6376 5.4.2), and the octets of them that are signed (3.7).

use crate::auth::canon::{Canon, field, signature_field};
use crate::mail::header::{Field, Header};
use alloc::vec::Vec;
use core::ops::Range;

/// The fields of a header with a number for each name, so that names are found by comparing
/// numbers: `h=` and header are both strangers', and each may be long.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    fields: Vec<Field<'a>>,
    keys: Vec<u32>,
}

/// A field that was used, or must not be.
const TAKEN: u32 = 0;

/// FNV-1a over the name in lower case, never [`TAKEN`].
fn key(name: &str) -> u32 {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, b| {
        (hash ^ u32::from(b.to_ascii_lowercase())).wrapping_mul(0x0100_0193)
    });
    hash | 1
}

impl<'a> Fields<'a> {
    pub(crate) fn of(header: Header<'a>) -> Self {
        let fields: Vec<_> = header.fields().collect();
        let keys = fields.iter().map(|field| key(field.name())).collect();
        Self { fields, keys }
    }

    /// The fields of this name from the top, and where they are.
    pub(crate) fn named<'s>(
        &'s self,
        name: &'s str,
    ) -> impl Iterator<Item = (usize, Field<'a>)> + 's {
        let wanted = key(name);
        self.keys
            .iter()
            .zip(&self.fields)
            .enumerate()
            .filter(move |(_, (key, field))| **key == wanted && field.is(name))
            .map(|(at, (_, field))| (at, *field))
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
        let mut keys = self.keys.clone();
        if let Some(own) = own.and_then(|own| keys.get_mut(own)) {
            *own = TAKEN;
        }
        for name in names {
            let wanted = key(name);
            let found = keys
                .iter_mut()
                .zip(&self.fields)
                .rev()
                .find(|(key, field)| **key == wanted && field.is(name));
            if let Some((key, found)) = found {
                *key = TAKEN;
                field(canon, found.raw(), &mut sink);
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
}
