//! Any octets are a record or a policy, or refused; what was read is written as what says the same;
//! a policy allows what its patterns say; and deciding what to do with it ends.
#![no_main]

use std::sync::Arc;

use courser_core::dns::{Failure, Outcome, Records};
use courser_core::route::mta_sts::{
    Decision, FetchFault, Known, Mode, Policy, Record, published, read_response,
};
use courser_core::route::tlsrpt::ResultType;
use courser_core::time::Wall;
use libfuzzer_sys::fuzz_target;

fn policy(text: &[u8]) -> Option<Policy> {
    let policy = Policy::parse(text).ok()?;
    assert_eq!(
        read_response(200, Some("text/plain"), text).as_ref(),
        Ok(&policy)
    );
    assert_eq!(
        Policy::parse(policy.to_string().as_bytes()).as_ref(),
        Ok(&policy)
    );
    assert!(!policy.mx.is_empty() || policy.mode == Mode::None);
    for pattern in policy.patterns() {
        let host = pattern.replacen('*', "a", 1);
        assert!(policy.allows(&host) && policy.allows(&host.to_ascii_uppercase()));
        assert_eq!(policy.allows(&format!("b.{host}")), {
            let own = |p: &String| *p == format!("*.{host}") || *p == format!("b.{host}");
            policy.patterns().iter().any(own)
        });
    }
    Some(policy)
}

// Lines: a record, steps, and the policy. A step is an octet: what DNS says, whether a fetch works, and
// how much time has passed.
fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.splitn(3, |b| *b == b'\n');
    let [txt, steps, text] = [(); 3].map(|()| lines.next().unwrap_or(&[]));
    if let Ok(record) = Record::parse(txt) {
        assert_eq!(Record::parse(record.to_string().as_bytes()), Ok(record));
    }
    let Some(policy) = policy(text) else { return };
    let mut known = Known::default();
    let fault = Arc::new(FetchFault {
        result: ResultType::StsPolicyFetchError,
        text: String::new(),
    });
    let mut now = Wall::from_unix(1_800_000_000);
    for step in steps {
        let (says, works) = (step & 7, step & 8 == 0);
        now = now.plus_s(
            [0, 1, 299, 300, 3600, 43_200, 86_400, -3600, 604_800][usize::from(step >> 4) % 9],
        );
        let found = |text: &[u8]| Outcome::Found(Records::Txt([text.into()].into()));
        let dns = match says % 5 {
            0 => found(txt),
            1 => found(b"v=STSv1; id=a"),
            2 => found(b"v=STSv1; id=b"),
            3 => Outcome::NoName,
            _ => Outcome::Failed(Failure::Timeout),
        };
        let before = known.in_force(now).is_some();
        match known.decide(&dns, now) {
            Decision::Fetch(id) => {
                assert_eq!(published(&dns).record().map(|r| r.id), Some(id.clone()));
                match works {
                    true => known.fetched(policy.clone(), Some(id), now),
                    false => known.failed(Some(id), fault.clone(), now),
                }
            }
            Decision::Use { refresh: true, .. } => match works {
                true => known.fetched(policy.clone(), None, now),
                false => known.failed(None, fault.clone(), now),
            },
            _ => {}
        }
        match known.decide(&dns, now) {
            Decision::Use { cached, refresh } => assert!(cached.in_force(now) && !refresh),
            Decision::Without => assert!(!before),
            Decision::Fetch(_) => panic!("fetched twice"),
        }
        assert!(!(known.is_spent(now) && known.due(now).is_some()));
    }
});
