//! The harness itself, where a mistake in it would make other tests pass.

use std::time::Duration;

use courser_tests::clock::unix_of;
use courser_tests::suite::within;

pub(crate) fn a_test_that_hangs_is_given_up() {
    let ends = within("ends", || (), Duration::from_secs(60));
    assert!(ends.is_ok());
    let hangs = within(
        "hangs",
        || loop {
            std::thread::park()
        },
        Duration::from_millis(10),
    );
    let failed = hangs.expect_err("it never ends");
    let text = failed.message().unwrap_or_default();
    assert!(text.contains("hangs has not ended"), "{text}");
}

pub(crate) fn times_are_read() {
    for (time, unix) in [
        ("1970-01-01T00:00:00.000Z", 0),
        ("2000-02-29T12:34:56.789Z", 951_827_696),
        ("2036-11-22T04:00:00Z", 2_110_939_200),
    ] {
        assert_eq!(unix_of(time), Some(unix), "{time}");
    }
    assert_eq!(unix_of("yesterday"), None);
}
