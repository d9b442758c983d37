//! Spool folders that can't be used: the error names the path and what would be right.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use courser_tests::client::{Client, small, submit};
use courser_tests::receiver::{Answer, Receiver};
use courser_tests::server::{Server, program, run, scratch, smart_host};
use courser_tests::{eventually, need, need_root};

/// `courser serve` with its spool in `spool`, which must not come up.
fn refused(dir: &Path, spool: &Path, serve: impl Fn(&[&str]) -> Output) -> String {
    let server = Server::prepare(dir, &format!("spool.dir = \"{}\"", spool.display()));
    let out = serve(&["serve", "--config", &server.config().display().to_string()]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    said
}

fn says(said: &str, path: &Path, what: &[&str]) {
    assert!(said.contains(&path.display().to_string()), "{said}");
    for what in what {
        assert!(said.contains(what), "no {what:?} in {said}");
    }
}

/// Without the right to write where the mode of a folder forbids it, which root has.
fn run_bound_by_modes(words: &[&str]) -> Output {
    // SAFETY: geteuid only reads.
    if unsafe { libc::geteuid() } != 0 {
        return run(words);
    }
    Command::new("setpriv")
        .arg("--bounding-set=-dac_override")
        .arg(program())
        .args(words)
        .output()
        .expect("setpriv starts")
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("another mode");
}

pub(crate) fn in_the_way_of_a_file() {
    let dir = scratch();
    let file = dir.path().join("file");
    std::fs::write(&file, "not a folder").expect("a file");
    says(
        &refused(dir.path(), &file, run),
        &file,
        &["spool.dir has to name a folder"],
    );
    let below = file.join("spool");
    says(
        &refused(dir.path(), &below, run),
        &below,
        &["Not a directory", "spool.dir has to name a folder"],
    );
    assert_eq!(
        std::fs::read(&file).expect("the file"),
        b"not a folder",
        "it is left alone"
    );
}

pub(crate) fn not_writable() {
    if !need::need(&["setpriv"]) {
        return;
    }
    let dir = scratch();
    let closed = dir.path().join("closed");
    std::fs::create_dir(&closed).expect("a folder");
    set_mode(&closed, 0o555);
    let advice = &[
        "Permission denied",
        "must own the folder named in spool.dir",
    ];
    // It is the spool, its parent is, or a folder above that is missing.
    let below: [PathBuf; 3] = [
        closed.clone(),
        closed.join("spool"),
        closed.join("missing/spool"),
    ];
    for spool in below {
        let said = refused(dir.path(), &spool, run_bound_by_modes);
        says(&said, &spool, advice);
    }
    set_mode(&closed, 0o755);
    // One of its own folders is.
    let spool = closed.join("spool");
    for of in ["segments", "corrupt"] {
        std::fs::create_dir_all(spool.join(of)).expect("a folder");
    }
    let segments = spool.join("segments");
    set_mode(&segments, 0o555);
    says(
        &refused(dir.path(), &spool, run_bound_by_modes),
        &segments,
        advice,
    );
    set_mode(&segments, 0o755);
}

pub(crate) fn mounted_read_only() {
    if !need_root() {
        return;
    }
    let dir = scratch();
    let disk = dir.path().join("disk");
    let Some(_mount) = super::full::Mount::tmpfs(&disk, "ro,size=1m") else {
        return need::skip("the right to mount a tmpfs");
    };
    let spool = disk.join("spool");
    says(
        &refused(dir.path(), &spool, run),
        &spool,
        &["Read-only file system", "has to be mounted writable"],
    );
}

pub(crate) fn full_at_the_start() {
    if !need_root() {
        return;
    }
    let dir = scratch();
    let disk = dir.path().join("disk");
    let Some(_mount) = super::full::Mount::tmpfs(&disk, "size=64k") else {
        return need::skip("the right to mount a tmpfs");
    };
    super::full::fill(&disk.join("other"));
    let spool = disk.join("spool");
    std::fs::create_dir_all(&spool).expect("a folder needs no room");
    says(
        &refused(dir.path(), &spool, run),
        &spool,
        &["No space left on device", "make room on its file system"],
    );
}

pub(crate) fn missing_ones_are_made() {
    let dir = scratch();
    let receiver = Receiver::friendly();
    let spool = dir.path().join("none/of/these/is/there");
    let mut server = Server::start_in(
        dir.path(),
        &format!(
            "spool.dir = \"{}\"\n{}",
            spool.display(),
            smart_host(receiver.address)
        ),
    );
    submit(
        server.address,
        "<a@sender.test>",
        &["<one@dest.test>"],
        &small("made"),
    );
    receiver.wait(1);
    server.stop();
    assert!(spool.join("segments").is_dir());
}

pub(crate) fn removed_under_the_running_server() {
    for whole in [true, false] {
        let receiver = Receiver::start(|line| match line {
            l if l.starts_with("RCPT") => Answer::say("451 4.2.1 Later"),
            _ => Answer::Usual,
        });
        let mut server = Server::start(&smart_host(receiver.address));
        let mut client = Client::hello(server.address);
        client.submit("<a@sender.test>", &["<x@dest.test>"], &small("before"));
        let spool = server.dir().join("spool");
        let gone = match whole {
            true => spool.clone(),
            false => spool.join("segments"),
        };
        std::fs::remove_dir_all(&gone).expect("it can be removed");
        // At the first message, or after a moment without one.
        if whole {
            let reply = client
                .try_submit("<a@sender.test>", &["<y@dest.test>"], &small("after"))
                .expect("a reply");
            assert!(reply.starts_with("451 4.3.0 "), "{reply}");
        }
        let event = server.wait_event("spool", |e| e["state"] == "failed");
        let reason = event["reason"].as_str().expect("a reason");
        says(reason, &spool, &["removed"]);
        let status = server.ask(&["status", "--json"])[0]["warnings"].to_string();
        says(&status, &spool, &["removed", "until a restart"]);
        let refused = eventually(5, || {
            let reply = client
                .try_submit("<a@sender.test>", &["<z@dest.test>"], &small("later"))
                .ok()?;
            reply.starts_with("451 4.3.0 ").then_some(())
        });
        assert!(refused.is_some(), "it goes on taking mail");
        server.stop();
        server.restart();
        submit(
            server.address,
            "<a@sender.test>",
            &["<x@dest.test>"],
            &small("anew"),
        );
        server.stop();
    }
}
