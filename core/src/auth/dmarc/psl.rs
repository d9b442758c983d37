//! The organizational domain without DNS, by the public suffix list (RFC 7489 3.2).
//!
//! The list is compiled in; a new version of the crate `psl` brings a new list. Both its parts
//! count, the private one too: who rents out names below `blogspot.com` says there that his
//! tenants are not one organization. A top level that the list doesn't know is a public suffix, as
//! the list's own rule `*` has it.

use crate::dns::Name;

/// The public suffix that `name` ends with or is: `co.uk` of `www.example.co.uk`. The root has
/// none.
pub fn public_suffix(name: &Name) -> Option<Name> {
    // Names are in lower case, as the list wants them; those with odd bytes are not in it.
    let suffix = psl::suffix_str(name.as_str())?;
    Name::parse(suffix).ok()
}

/// The domain that someone registered below a public suffix: `example.co.uk` of
/// `www.example.co.uk`. A public suffix has none.
pub fn registrable_domain(name: &Name) -> Option<Name> {
    let domain = psl::domain_str(name.as_str())?;
    Name::parse(domain).ok()
}

/// The organizational domain: the registrable one, or of a public suffix itself.
pub fn organizational_domain(name: &Name) -> Name {
    registrable_domain(name).unwrap_or_else(|| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_exceptions() {
        for (name, org) in [
            ("example.com", "example.com"),
            ("a.b.example.com", "example.com"),
            ("www.example.co.uk", "example.co.uk"),
            ("co.uk", "co.uk"),
            ("com", "com"),
            ("a.b.c.mm", "b.c.mm"),
            ("www.city.kobe.jp", "city.kobe.jp"),
            ("a.example.unlisted", "example.unlisted"),
            ("mine.blogspot.com", "mine.blogspot.com"),
        ] {
            let got = organizational_domain(&Name::parse(name).unwrap());
            assert_eq!(got.as_str(), org, "{name}");
        }
        assert_eq!(organizational_domain(&Name::root()), Name::root());
        assert_eq!(
            public_suffix(&Name::parse("www.example.co.uk").unwrap()),
            Name::parse("co.uk").ok()
        );
        assert_eq!(public_suffix(&Name::root()), None);
    }
}
