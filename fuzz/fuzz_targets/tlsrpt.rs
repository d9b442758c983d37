//! Any octets are a record, a report, a mail with a report, or refused; what was read is written as
//! what says the same; and a day's results go on from it.
#![no_main]

use courser_core::dns::Name;
use courser_core::limits::{TLSRPT_FAILURES_MAX, TLSRPT_POLICIES_MAX, TLSRPT_URIS_MAX};
use courser_core::route::tlsrpt::{Collector, Record, Report, Reporter};
use courser_core::time::Wall;
use libfuzzer_sys::fuzz_target;

fn good(mut report: Report) {
    assert!(report.policies.len() <= TLSRPT_POLICIES_MAX);
    assert!(
        report
            .policies
            .iter()
            .all(|p| p.details.len() <= TLSRPT_FAILURES_MAX)
    );
    let domain = Name::parse("example.net").expect("a name");
    let submitter = Name::parse("mail.example.org").expect("a name");
    assert!(!report.file_name(&submitter, &domain).contains('/'));
    // What was left out isn't written.
    report.omitted = 0;
    assert_eq!(
        Report::read(report.to_json().as_bytes()).as_ref(),
        Ok(&report)
    );

    let mut day = Collector::new(report.start.unwrap_or(Wall::from_unix(0)));
    if day.add_report(&domain, &report).is_ok() && !report.policies.is_empty() {
        let reporter = Reporter {
            organization: "",
            contact: "",
            submitter: &submitter,
        };
        let ours = day.report(&domain, &reporter).expect("what was added");
        let sum = |report: &Report| {
            report.policies.iter().fold(0_u64, |sum, p| {
                sum.saturating_add(p.successes).saturating_add(p.failures)
            })
        };
        assert_eq!(sum(&ours), sum(&report));
        let mut again = Collector::new(day.day());
        assert_eq!(again.add_report(&domain, &ours), Ok(()));
        assert_eq!(again.report(&domain, &reporter), Some(ours));
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = Record::parse(bytes) {
        assert!((1..=TLSRPT_URIS_MAX).contains(&record.rua.len()));
        assert_eq!(
            Record::parse(record.to_string().as_bytes()).as_ref(),
            Ok(&record)
        );
        for uri in &record.rua {
            let _ = uri.mailto();
        }
    }
    let [plain, mail] = [Report::read(bytes), Report::of_mail(bytes)];
    plain.into_iter().chain(mail).for_each(good);
});
