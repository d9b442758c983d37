//! `courser check-config`: what it prints and with which code it exits.

use std::process::{Command, Output};

fn check(args: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_courser"))
        .arg("check-config")
        .args(args)
        .env_remove("COURSER_CONFIG")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn the_example_is_printed_and_is_right() {
    let (code, example, _) = check(&["--example"]);
    assert_eq!(code, 0);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("courser.toml");
    std::fs::write(&file, &example).unwrap();
    let file = file.to_str().unwrap();
    let (code, out, err) = check(&[file, "--options"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("relays for 127.0.0.0/8, ::1\n"), "{out}");
    assert!(
        out.contains("listener[default].max_recipients = 1000  (default)\n"),
        "{out}"
    );
}

#[test]
fn mistakes_begin_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("courser.toml");
    std::fs::write(
        &file,
        "hostname = \"mail.example.org\"\n[server]\nshard = 2\n",
    )
    .unwrap();
    let name = file.to_str().unwrap();
    let (code, out, err) = check(&[name]);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(
        err.starts_with(&format!("{name}:3:1: server.shard: ")),
        "{err}"
    );
    assert!(err.contains("did you mean `shards`?"), "{err}");
    assert!(err.ends_with(&format!("1 problem in {name}\n")), "{err}");
}

#[test]
fn a_missing_file_says_how_to_begin() {
    let (code, _, err) = check(&["/nonexistent.toml"]);
    assert_eq!(code, 3);
    assert!(err.contains("check-config --example"), "{err}");
    // Not UTF-8.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("courser.toml");
    std::fs::write(&file, b"hostname = \"\xff\"").unwrap();
    assert_eq!(check(&[file.to_str().unwrap()]).0, 3);
}

#[test]
fn a_wrong_command_line_is_2() {
    assert_eq!(check(&["--no-such"]).0, 2);
}
