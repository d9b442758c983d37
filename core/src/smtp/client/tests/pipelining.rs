//! Batches (RFC 2920, RFC 3030), and peers that can't.

use super::harness::{Letter, Run, assert_accounted, options};
use super::*;

const BATCH: &str = "> MAIL FROM:<s@example.org>\n> RCPT TO:<r0@example.net>\n\
                     > RCPT TO:<r1@example.net>\n";

fn pipelined() -> Run {
    Run::ready(options(), &["PIPELINING"])
}

fn chunked() -> Run {
    Run::ready(options(), &["PIPELINING", "CHUNKING"])
}

#[test]
fn a_batch_with_data() {
    let mut run = pipelined();
    assert_eq!(run.begin(Letter::to(2)), std::format!("{BATCH}> DATA"));
    assert!(!run.session.can_begin());
    assert_eq!(
        run.hear("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
        "> (body 0 Dot)"
    );
    assert_eq!(run.hear("250 ok\r\n"), "0/* delivered 250 “ok”\n0 finished");
    assert_accounted(&run.letters, &run.events);
}

#[test]
fn two_transactions_with_chunking() {
    let mut run = chunked();
    let whole = std::format!("{BATCH}> BDAT 100 LAST\n> (body 0 Bdat)");
    assert_eq!(run.begin(Letter::to(2)), whole);
    assert!(run.session.can_begin());
    let behind = std::format!("> RSET\n{BATCH}> BDAT 100 LAST\n> (body 1 Bdat)");
    assert_eq!(run.begin(Letter::to(2)), behind);
    assert!(!run.session.can_begin());
    run.lines.clear();
    run.hear("250 m\r\n250 r0\r\n550 r1\r\n250 end\r\n250 rset\r\n250 m\r\n250 r0\r\n250 r1\r\n550 end\r\n");
    assert_eq!(
        run.lines.join("\n"),
        "0/1 failed (permanent Recipient at Rcpt: 550) “r1”\n\
         0/* delivered 250 “end”\n0 finished\n\
         1/* failed (permanent Message at End: 550) “end”\n1 finished"
    );
    assert_accounted(&run.letters, &run.events);
    assert!(
        run.begin(Letter::to(1)).starts_with("> RSET"),
        "after a BDAT that was refused"
    );
}

#[test]
fn a_large_body_waits_for_its_recipients() {
    let large = Letter {
        size: 1 << 20,
        ..Letter::to(2)
    };
    let mut run = chunked();
    assert_eq!(run.begin(large.clone()), BATCH.trim_end());
    assert_eq!(run.begin(Letter::to(1)), "", "behind it");
    let mut nobody = run.clone();
    let said = run.hear("250 ok\r\n250 ok\r\n550 no\r\n");
    assert_eq!(
        said,
        "0/1 failed (permanent Recipient at Rcpt: 550) “no”\n\
         > BDAT 1048576 LAST\n> (body 0 Bdat)\n\
         > RSET\n> MAIL FROM:<s@example.org>\n> RCPT TO:<r0@example.net>\n\
         > BDAT 100 LAST\n> (body 1 Bdat)"
    );
    let said = nobody.hear("250 ok\r\n550 no\r\n550 no\r\n");
    assert!(said.contains("0 finished\n> RSET\n> MAIL"), "{said}");
}

#[test]
fn chunking_without_pipelining() {
    let mut run = Run::ready(options(), &["CHUNKING"]);
    run.begin(Letter::to(1));
    assert!(!run.session.can_begin());
    run.hear("250 ok\r\n");
    assert_eq!(run.hear("250 ok\r\n"), "> BDAT 100 LAST\n> (body 0 Bdat)");
    assert_eq!(run.hear("250 ok\r\n"), "0/* delivered 250 “ok”\n0 finished");
}

#[test]
fn nobody_to_send_to_and_a_go_ahead() {
    let mut run = pipelined();
    run.begin(Letter::to(2));
    run.hear("250 ok\r\n550 no\r\n550 no\r\n");
    assert_eq!(run.hear("354 go\r\n"), "> .");
    assert_eq!(run.hear("554 no valid recipients\r\n"), "0 finished");
    assert_accounted(&run.letters, &run.events);
    assert!(
        run.begin(Letter::to(1)).starts_with("> MAIL"),
        "the dot ended it"
    );
}

#[test]
fn nobody_to_send_to_and_data_refused() {
    let mut run = pipelined();
    run.begin(Letter::to(2));
    run.hear("250 ok\r\n550 no\r\n550 no\r\n");
    assert_eq!(run.hear("503 no recipients\r\n"), "0 finished");
    assert!(run.begin(Letter::to(1)).starts_with("> RSET"));
    // With BDAT the body went out, and its answer has to be heard.
    let mut run = chunked();
    run.begin(Letter::to(2));
    run.hear("250 ok\r\n550 no\r\n550 no\r\n");
    assert_eq!(run.hear("503 no recipients\r\n"), "0 finished");
    assert!(run.begin(Letter::to(1)).starts_with("> RSET"));
}

#[test]
fn sender_refused_and_the_rest_drained() {
    let mut run = pipelined();
    run.begin(Letter::to(2));
    let said = run.hear("450 4.7.1 slow down\r\n503 no\r\n503 no\r\n503 no\r\n");
    let line = "0/* failed (temporary Message at Mail: 450) “slow down”\n0 finished";
    assert_eq!(said, line);
    assert!(run.begin(Letter::to(1)).starts_with("> MAIL"));

    let mut run = pipelined();
    run.begin(Letter::to(2));
    let said = run.hear("550 not you\r\n503 no\r\n503 no\r\n354 well\r\n");
    assert!(said.ends_with("> ."), "{said}");
    assert_eq!(run.hear("554 nothing\r\n"), "0 finished");
    // An empty message must not reach a recipient.
    let mut run = pipelined();
    run.begin(Letter::to(2));
    let said = run.hear("550 not you\r\n250 yes\r\n503 no\r\n354 well\r\n");
    assert!(!said.contains("> ."), "{said}");
    assert_accounted(&run.letters, &run.events);
}

#[test]
fn service_closing_with_two_in_flight() {
    let mut run = chunked();
    run.begin(Letter::to(2));
    run.begin(Letter::to(2));
    let said = run.hear("250 ok\r\n250 ok\r\n421 4.7.0 enough\r\n");
    assert_eq!(
        said,
        "0/* failed (temporary Lane at Rcpt: 421) “enough”\n0 finished\n\
         1/* unsent (temporary Lane at Rcpt: 421) “enough”\n1 finished\n\
         broken (temporary Lane at Rcpt: 421) “enough”\nclose"
    );
    assert_accounted(&run.letters, &run.events);
}

#[test]
fn peers_that_only_say_that_they_can() {
    // Throws away what came with MAIL.
    let mut run = pipelined();
    run.begin(Letter::to(2));
    run.hear("250 ok\r\n");
    let suspect = "(temporary Host at Rcpt: Timeout, pipelining?)";
    let said = run.time_out();
    let expected = std::format!("0/* unsent {suspect}\n0 finished\nbroken {suspect}\nclose");
    assert_eq!(said, expected);
    // Closes.
    let mut run = pipelined();
    run.begin(Letter::to(2));
    let said = run.tell(Input::Closed);
    assert!(said.contains("broken (temporary Host at Mail: Closed, pipelining?)"));
    // Mixes the commands up.
    for reply in ["503 MAIL first", "500 what", "502 no"] {
        let mut run = pipelined();
        run.begin(Letter::to(2));
        run.hear("250 ok\r\n");
        let said = run.hear(&std::format!("{reply}\r\n"));
        assert!(
            said.starts_with("0/* unsent (temporary Host at Rcpt: 50"),
            "{said}"
        );
        assert!(said.contains("pipelining?"), "{said}");
    }
    for mut run in [pipelined(), chunked()] {
        run.begin(Letter::to(1));
        let said = run.hear("250 ok\r\n250 ok\r\n503 RCPT first\r\n");
        assert!(said.starts_with("0/* unsent (temporary Host at "), "{said}");
        assert!(said.contains("pipelining?"), "{said}");
    }
}

#[test]
fn a_peer_that_did_it_before_is_not_suspect() {
    let mut run = pipelined();
    run.begin(Letter::to(1));
    run.hear("250 ok\r\n250 ok\r\n354 go\r\n");
    run.hear("250 ok\r\n");
    run.begin(Letter::to(2));
    let said = run.tell(Input::Closed);
    assert!(
        said.contains("broken (temporary Host at Mail: Closed)"),
        "{said}"
    );
}

#[test]
fn a_check_fails_between_two() {
    let mut run = chunked();
    run.begin(Letter::to(1));
    let utf8 = Letter {
        utf8: true,
        ..Letter::to(2)
    };
    let said = run.begin(utf8);
    assert_eq!(
        said,
        "1/* failed (permanent Message at Mail: Utf8NotOffered)"
    );
    let said = run.hear("250 ok\r\n250 ok\r\n554 no\r\n");
    assert!(said.ends_with("0 finished\n1 finished"), "{said}");
    assert!(
        run.begin(Letter::to(1)).starts_with("> RSET"),
        "what 0 left open"
    );
    let accounted = harness::Letters(run.letters.0[..2].to_vec());
    assert_accounted(&accounted, &run.events);
}
