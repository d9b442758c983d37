//! How long it takes to judge a reply: on every failure of a delivery.

use courser_core::feedback::verdict::{Rules, Stage};
use courser_core::smtp::reply::{EnhancedCode, Reply, ReplyCode};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

fn judge(c: &mut Criterion) {
    let replies: [(&str, u16, Option<EnhancedCode>, &[u8]); 5] = [
        (
            "success",
            250,
            Some(EnhancedCode::new(2, 0, 0)),
            b"Ok: queued as 4XYZ",
        ),
        (
            "enhanced code",
            550,
            Some(EnhancedCode::new(5, 1, 1)),
            b"The email account that you tried to reach does not exist. Please try\n\
              double-checking the recipient's email address for typos or unnecessary spaces.",
        ),
        (
            "marker",
            421,
            Some(EnhancedCode::new(4, 7, 0)),
            b"[TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or \
              user complaints - 4.16.55.1; see https://postmaster.example/error-codes",
        ),
        (
            "words",
            451,
            None,
            b"Greylisted, please try again in 300 seconds",
        ),
        (
            "no rule at all",
            550,
            None,
            b"Le message qui devait partir aujourd'hui ne part pas, on ne sait pas pourquoi, et \
              personne ne le dira avant longtemps; voir le site",
        ),
    ];
    let mut group = c.benchmark_group("verdict");
    for (name, code, enhanced, text) in replies {
        let reply = Reply {
            code: ReplyCode::new(code).expect("a reply code"),
            enhanced,
            text,
        };
        group.bench_function(name, |b| {
            b.iter(|| Rules::built_in().judge(black_box(&reply), Stage::Rcpt, None));
        });
    }
    group.finish();
}

criterion_group!(benches, judge);
criterion_main!(benches);
