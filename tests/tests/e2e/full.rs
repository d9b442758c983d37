//! A disk that fills up: senders are told to wait before it is full, and let in again.

use std::process::Command;

use courser_tests::client::{Client, small};
use courser_tests::receiver::{Answer, Receiver};
use courser_tests::server::{Server, scratch, smart_host};
use courser_tests::{eventually, need, need_root};

/// A file system of its own that is unmounted in the end.
struct Mount(std::path::PathBuf);

impl Mount {
    fn tmpfs(at: &std::path::Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).ok()?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "courser-test"])
            .arg(at)
            .output()
            .is_ok_and(|o| o.status.success());
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

pub(crate) fn a_full_disk() {
    if !need_root() {
        return;
    }
    let dir = scratch();
    let disk = dir.path().join("disk");
    let Some(_mount) = Mount::tmpfs(&disk, "24m") else {
        return need::skip("the right to mount a tmpfs");
    };
    let receiver = Receiver::start(|line| match line {
        l if l.starts_with("RCPT") => Answer::say("451 4.2.1 Later"),
        _ => Answer::Usual,
    });
    let server = Server::start(&format!(
        "spool = {{ dir = \"{}/spool\", segment_size = \"1MiB\", min_free = \"6MiB\", min_free_percent = \"0%\" }}\n{}",
        disk.display(),
        smart_host(receiver.address)
    ));
    let mut body = small("full");
    for _ in 0..1250 {
        body.extend_from_slice(
            b"0123456789012345678901234567890123456789012345678901234567890123456789012345678\r\n",
        );
    }
    let mut client = Client::hello(server.address);
    let mut taken = 0;
    let refused = loop {
        let reply = client
            .try_submit("<a@sender.test>", &["<x@dest.test>"], &body)
            .expect("a reply");
        if !reply.starts_with("250") {
            break reply;
        }
        taken += 1;
        assert!(taken < 300, "24 MB took 30 MB");
    };
    assert_eq!(
        refused,
        "452 4.3.1 Insufficient system storage, try again later"
    );
    assert!(taken > 50, "{taken} were taken");
    server.wait_event("spool", |e| e["state"] == "nearly-full");
    // Nothing of what was taken is gone, and an operator can still work.
    assert_eq!(server.queue().len(), taken);
    let rested = eventually(20, || {
        (server.ask(&["status", "--json"])[0]["gauges"]["deferred"] == taken).then_some(())
    });
    assert!(rested.is_some());
    let dropped = server.ask(&["queue", "drop", "--all", "--json"]);
    assert_eq!(dropped[0]["count"], taken);
    server.wait_empty();
    let again = eventually(20, || {
        let reply = client
            .try_submit("<a@sender.test>", &["<x@dest.test>"], &body)
            .ok()?;
        reply.starts_with("250").then_some(())
    });
    assert!(
        again.is_some(),
        "it takes nothing although the disk is free again:\n{}",
        server.log()
    );
    server.wait_event("spool", |e| e["state"] == "open");
}

pub(crate) fn a_full_queue() {
    let receiver = Receiver::start(|line| match line {
        l if l.starts_with("RCPT") => Answer::say("451 4.2.1 Later"),
        _ => Answer::Usual,
    });
    let server = Server::start(&format!(
        "limits.max_deliveries = 1000\n{}",
        smart_host(receiver.address)
    ));
    let recipients: Vec<String> = (0..500).map(|i| format!("<r{i}@dest.test>")).collect();
    let mut client = Client::hello(server.address);
    for _ in 0..2 {
        client.submit("<a@sender.test>", &recipients, &small("fills"));
    }
    let reply = client
        .try_submit("<a@sender.test>", &["<one@dest.test>"], &small("too-much"))
        .expect("a reply");
    assert_eq!(reply, "452 4.3.1 The queue is full, try again later");
    // What is being tried right now can't be dropped.
    let rested = eventually(20, || {
        (server.ask(&["status", "--json"])[0]["gauges"]["deferred"] == 1000).then_some(())
    });
    assert!(rested.is_some());
    server.ask(&["queue", "drop", "--all", "--json"]);
    server.wait_empty();
    client.submit(
        "<a@sender.test>",
        &["<one@dest.test>"],
        &small("room-again"),
    );
}
