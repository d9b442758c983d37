//! Whatever bytes come, nothing panics and every question still ends.

use super::*;

/// A good response of some kind to `query`.
fn some_reply(query: &[u8], kind: Kind, text: &str) -> Vec<u8> {
    reply(query, |m| {
        m.metadata.authentic_data = true;
        m.add_answer(cname(text, 300, "c.example"));
        let data = match kind {
            Kind::A => RData::A(A::new(20, 0, 0, 1)),
            Kind::Aaaa => RData::AAAA(AAAA::new(1, 2, 3, 4, 5, 6, 7, 8)),
            Kind::Mx => RData::MX(MX::new(10, wire("mx.c.example"))),
            Kind::Txt => RData::TXT(TXT::from_bytes(vec![b"some", b"text"])),
            Kind::Ptr => RData::PTR(PTR(wire("host.c.example"))),
            _ => RData::TLSA(TLSA::new(
                CertUsage::DaneEe,
                Selector::Spki,
                Matching::Sha256,
                vec![1; 32],
            )),
        };
        m.add_answers([
            record("c.example", 300, data.clone()),
            record("c.example", 30, data),
        ]);
        m.add_authority(soa("example", 300, 60));
    })
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::A),
        Just(Kind::Aaaa),
        Just(Kind::Mx),
        Just(Kind::Txt),
        Just(Kind::Ptr),
        Just(Kind::Tlsa)
    ]
}

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in kinds()) {
        let _ = parse_answer(at(0), &ask("a.example", kind), &bytes);
        let mut world = World::new(|_| {});
        world.ask(0, 1, ask("a.example", kind));
        let sent = world.one(0);
        // The right head, and anything behind it.
        let mut message = sent.bytes[..2].to_vec();
        message.extend([0x81, 0x80, 0, 1, 0, 9, 0, 9, 0, 9]);
        message.extend(&sent.bytes[12..27]);
        message.extend(&bytes);
        world.give(0, &sent, &message);
        world.give(0, &sent, &bytes);
        world.poll(0);
    }

    #[test]
    fn mutated_answers_never_panic(
        kind in kinds(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let mut world = World::new(|c| c.servers.truncate(1));
        world.ask(0, 1, ask("a.example", kind));
        let sent = world.one(0);
        let mut bytes = some_reply(&sent.bytes, kind, "a.example");
        for (index, value) in changes {
            // Behind the question, so that most of them are read.
            let at = 27 + index.index(bytes.len() - 27);
            bytes[at] = value;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        world.give(0, &sent, &bytes);
        let mut ms = 0;
        while world.answers.is_empty() && ms <= 30_000 {
            world.poll(ms);
            ms += 1000;
        }
        prop_assert_eq!(world.answers.len(), 1);
        prop_assert_eq!(world.resolver.open(), 0);
    }
}
