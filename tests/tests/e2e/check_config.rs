//! `courser check-config`: a right configuration, and what is said of wrong ones.

use courser_tests::server::{run, scratch};

fn check(text: &str) -> (Option<i32>, String, String) {
    let dir = scratch();
    let file = dir.path().join("courser.toml");
    std::fs::write(&file, text).expect("a scratch file");
    let out = run(&["check-config", &file.display().to_string()]);
    let words =
        |b: Vec<u8>| String::from_utf8_lossy(&b).replace(&dir.path().display().to_string(), "DIR");
    (out.status.code(), words(out.stdout), words(out.stderr))
}

pub(crate) fn a_right_one() {
    let (code, out, err) = check("hostname = \"mail.example.org\"\n");
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("DIR/courser.toml: right\n"), "{out}");
    assert!(out.contains("this is mail.example.org"), "{out}");
}

pub(crate) fn the_example_is_right() {
    let example = run(&["check-config", "--example"]);
    assert!(example.status.success());
    let text = String::from_utf8(example.stdout).expect("the example is UTF-8");
    let (code, out, err) = check(&text);
    assert_eq!(code, Some(0), "{out}{err}");
}

pub(crate) fn wrong_ones_name_file_line_field_and_what_would_be_right() {
    let table: [(&str, &[&str]); 8] = [
        ("", &["hostname"]),
        (
            "hostname = \"mail.example.org\"\nhostnam = \"x\"\n",
            &[":2", "hostnam", "hostname"],
        ),
        (
            "hostname = \"mail.example.org\"\n[server]\ndrain_timeout = 30\n",
            &[":3", "drain_timeout", "s"],
        ),
        (
            "hostname = \"mail.example.org\"\n[spool]\nsegment_size = \"128 MB!\"\n",
            &[":3", "segment_size"],
        ),
        (
            "hostname = \"mail.example.org\"\n[[listener]]\nrelay_networks = [\"0.0.0.0/0\"]\n",
            &[":3", "relay_networks", "open relay"],
        ),
        (
            "hostname = \"mail.example.org\"\n[[listener]]\naddress = [\"127.0.0.1\"]\n",
            &[":3", "address", "port"],
        ),
        (
            "hostname = \"mail.example.org\"\n[[pool]]\nname = \"p\"\nmembers = [{ source = \"nowhere\" }]\n",
            &[":4", "nowhere"],
        ),
        ("hostname = \"mail.example.org\"\n[server\n", &[":2"]),
    ];
    for (text, words) in table {
        let (code, out, err) = check(text);
        assert_eq!(code, Some(3), "{text}\n{out}{err}");
        for word in words {
            assert!(
                err.contains(word),
                "{word:?} is not said of\n{text}\nbut\n{err}"
            );
        }
        assert!(err.contains("DIR/courser.toml"), "{err}");
    }
    let out = run(&["check-config", "/nonexistent/courser.toml"]);
    assert_eq!(out.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&out.stderr).contains("/nonexistent/courser.toml"));
}

pub(crate) fn serve_says_the_same() {
    let dir = scratch();
    let file = dir.path().join("courser.toml");
    std::fs::write(&file, "hostname = 1\n").expect("a scratch file");
    let out = run(&["serve", "--config", &file.display().to_string()]);
    assert_eq!(
        out.status.code(),
        Some(3),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(String::from_utf8_lossy(&out.stderr).contains("hostname"));
}
