use std::sync::Arc;

use courser_core::route::tlsrpt::{ResultType, Session};

use super::*;

/// 2027-01-15, eight in the morning.
const NOW: Wall = Wall::from_unix(1_800_000_000);
const TODAY: Wall = Wall::from_unix(1_799_971_200);

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn counted(domain: &str, at: Wall, failed: bool) -> Counted {
    let fault = failed.then(|| (ResultType::CertificateExpired, "expired".to_owned()));
    Counted {
        at,
        domain: name(domain),
        session: Arc::new(Session {
            host: "mx.example".into(),
            receiving_ip: None,
            sending_ip: None,
            tlsa: None,
            fault,
            fault_by_test: None,
        }),
        sts: None,
    }
}

fn load(dir: &Path) -> Book {
    Book::load(dir, NOW, |_| false)
}

/// Successes and failures of today that are not sealed.
fn sums(book: &Book, domain: &str) -> Option<(u64, u64)> {
    let submitter = name("example.org");
    let report = book.report(TODAY, &name(domain), &reporter(&submitter))?;
    let policies = report.policies.iter();
    let sums = policies.map(|p| (p.successes, p.failures));
    Some(sums.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)))
}

fn reporter(submitter: &Name) -> Reporter<'_> {
    Reporter {
        organization: "Example",
        contact: "a@example.org",
        submitter,
    }
}

fn seal(book: &mut Book, domain: &str, uris: &[&str], now: Wall) {
    let submitter = name("example.org");
    let uris = uris.iter().map(|uri| (*uri).to_owned());
    book.seal(TODAY, &name(domain), &reporter(&submitter), uris, now)
        .unwrap();
}

fn open(book: &Book, domain: &str, now: Wall) -> Vec<Open> {
    book.open(TODAY, &name(domain), now)
}

#[test]
fn what_is_saved_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut book = load(dir.path());
    book.save().unwrap();
    assert!(!dir.path().join("tls-reports").exists(), "nothing, no file");
    let results = vec![
        counted("a.example", NOW, false),
        counted("a.example", NOW, true),
        counted("b.example", NOW, false),
        counted("a.example", TODAY.plus_s(-1), false),
    ];
    book.add(results, 7, NOW);
    book.save().unwrap();
    book.add(vec![counted("b.example", NOW, false)], 0, NOW);
    let again = load(dir.path());
    assert_eq!(sums(&again, "a.example"), Some((1, 1)));
    assert_eq!(sums(&again, "b.example"), Some((1, 0)), "not saved since");
    assert_eq!(again.lost(NOW), 7);
    let all: Vec<_> = again.unsealed().map(|(day, d)| (day, d.as_str())).collect();
    let yesterday = TODAY.plus_s(-DAY_S);
    let expected = [
        (yesterday, "a.example"),
        (TODAY, "a.example"),
        (TODAY, "b.example"),
    ];
    assert_eq!(all, expected);
}

#[test]
fn sealed_reports_are_sent_once_whatever_ends_in_between() {
    let dir = tempfile::tempdir().unwrap();
    let mut book = load(dir.path());
    book.add(vec![counted("a.example", NOW, true)], 0, NOW);
    book.save().unwrap();
    let kept = fs::read(dir.path().join("tls-reports/20270115.results")).unwrap();
    seal(
        &mut book,
        "a.example",
        &["mailto:x@a.example", "https://a.example/"],
        NOW,
    );
    assert_eq!(sums(&book, "a.example"), None);
    // A crash before the day was written without it: it is not in two reports.
    fs::write(dir.path().join("tls-reports/20270115.results"), kept).unwrap();
    let mut book = load(dir.path());
    assert_eq!(sums(&book, "a.example"), None);
    let waiting = open(&book, "a.example", NOW);
    assert_eq!(waiting.len(), 2);
    assert_eq!(waiting[0].report.id, "20270115.a.example@example.org");
    assert_eq!(
        (waiting[0].report.successes, waiting[0].report.failures),
        (0, 1)
    );
    let domain = name("a.example");
    let queueing = State::Queueing { message: 5 };
    book.note(TODAY, &domain, &waiting[0], queueing).unwrap();
    book.note(TODAY, &domain, &waiting[1], State::Sent).unwrap();
    // The message reached the spool, or didn't.
    let there = Book::load(dir.path(), NOW, |id| id == 5);
    assert_eq!(open(&there, "a.example", NOW).len(), 0);
    // Which is settled then: the number may be another message's later.
    assert_eq!(open(&load(dir.path()), "a.example", NOW).len(), 0);
    let queueing = State::Queueing { message: 5 };
    book.note(TODAY, &domain, &waiting[0], queueing).unwrap();
    let mut book = load(dir.path());
    let waiting = open(&book, "a.example", NOW);
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].report.id, "20270115.a.example@example.org");
    book.note(TODAY, &domain, &waiting[0], State::Sent).unwrap();
    assert_eq!(open(&book, "a.example", NOW).len(), 0);
    // What comes later is another report.
    book.add(vec![counted("a.example", NOW, false)], 0, NOW);
    book.save().unwrap();
    let mut book = load(dir.path());
    assert_eq!(sums(&book, "a.example"), Some((1, 0)));
    let noon = NOW.plus_s(4 * 3600);
    seal(&mut book, "a.example", &["mailto:x@a.example"], noon);
    let waiting = open(&book, "a.example", noon);
    assert_eq!(waiting[0].report.id, "20270115.a.example.2@example.org");
    let report = Report::read(waiting[0].report.json.as_bytes()).unwrap();
    assert_eq!((report.start, report.end), (Some(TODAY), Some(noon)));
    assert_eq!(report.policies[0].successes, 1);
}

#[test]
fn attempts_end_after_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let mut book = load(dir.path());
    book.add(vec![counted("a.example", NOW, false)], 0, NOW);
    seal(&mut book, "a.example", &["https://a.example/"], NOW);
    let (mut now, mut attempts, domain) = (NOW, 0, name("a.example"));
    loop {
        let waiting = open(&book, "a.example", now);
        if let [one] = &waiting[..] {
            attempts += 1;
            let state = book.failed(TODAY, &domain, one, now).unwrap();
            if state == State::GivenUp {
                break;
            }
            assert_eq!(open(&book, "a.example", now).len(), 0, "not at once");
        }
        now = now.plus_s(60);
        assert!(now < NOW.plus_s(TRY_S));
    }
    assert!((5..20).contains(&attempts), "{attempts}");
    assert_eq!(open(&book, "a.example", now.plus_s(TRY_S)).len(), 0);
    assert_eq!(book.waiting(now.plus_s(TRY_S)).count(), 0);
}

#[test]
fn what_is_not_wanted_is_forgotten_and_old_days_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut book = load(dir.path());
    book.add(vec![counted("a.example", NOW, false)], 0, NOW);
    book.forget(TODAY, &name("a.example"));
    assert_eq!(book.unsealed().count(), 0);
    book.add(vec![counted("a.example", NOW, false)], 0, NOW);
    book.add(vec![counted("b.example", NOW, false)], 0, NOW);
    seal(&mut book, "b.example", &["mailto:x@b.example"], NOW);
    book.save().unwrap();
    let files = || {
        fs::read_dir(dir.path().join("tls-reports"))
            .unwrap()
            .count()
    };
    assert_eq!(files(), 2);
    let later = NOW.plus_s(4 * DAY_S);
    book.add(vec![counted("a.example", later, false)], 0, later);
    assert_eq!((book.days.len(), files()), (1, 0));
    // A clock that was wrong for a while.
    for n in 0..20 {
        let odd = later.plus_s(n * 1000 * DAY_S);
        book.add(vec![counted("a.example", odd, false)], 0, later);
        assert!(book.days.len() <= DAYS_MAX);
    }
    assert!(book.days.contains_key(&day_of(later)));
}

#[test]
fn what_is_sealed_is_not_counted_again_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut book = load(dir.path());
    for domain in ["a.example", "b.example"] {
        book.add(vec![counted(domain, NOW, false)], 0, NOW);
    }
    book.save().unwrap();
    seal(&mut book, "b.example", &["mailto:x@b.example"], NOW);
    // The results on the disk are those from before it was sealed.
    let book = load(dir.path());
    let unsealed: Vec<String> = book.unsealed().map(|(_, d)| d.to_string()).collect();
    assert_eq!(unsealed, ["a.example"]);
    assert_eq!(open(&book, "b.example", NOW).len(), 1);
}

#[test]
fn damaged_files_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut book = load(dir.path());
    for domain in ["a.example", "b.example"] {
        book.add(vec![counted(domain, NOW, false)], 0, NOW);
    }
    seal(&mut book, "b.example", &["mailto:x@b.example"], NOW);
    book.save().unwrap();
    let results = dir.path().join("tls-reports/20270115.results");
    let good = fs::read_to_string(&results).unwrap();
    for bad in [
        "",
        "x",
        "lost x\n",
        &good[..good.len() / 2],
        "lost 0\nb.example 0\n",
        "lost 0\na.example 0 {}\n",
    ] {
        fs::write(&results, bad).unwrap();
        let book = load(dir.path());
        assert_eq!(sums(&book, "a.example"), None, "{bad:?}");
        assert_eq!(open(&book, "b.example", NOW).len(), 1);
    }
    fs::write(&results, &good).unwrap();
    let sealed = dir.path().join("tls-reports/20270115");
    fs::write(sealed.join("c.example"), "[{").unwrap();
    fs::write(sealed.join("..example"), "[]").unwrap();
    fs::write(sealed.join(".new"), "[").unwrap();
    fs::write(dir.path().join("tls-reports/x.results"), "").unwrap();
    let book = load(dir.path());
    assert_eq!(sums(&book, "a.example"), Some((1, 0)));
    assert_eq!(book.waiting(NOW).count(), 1);
    assert!(!sealed.join(".new").exists());
    // A name that leads elsewhere is none.
    assert!(Name::parse("a/b").is_err());
}
