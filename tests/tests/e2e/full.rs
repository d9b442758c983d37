//! A disk that fills up: senders are told to wait before it is full, and let in again.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use courser_tests::client::{Client, small};
use courser_tests::receiver::{Answer, Receiver};
use courser_tests::server::{Server, scratch, smart_host};
use courser_tests::{eventually, need, need_root};

/// A file system of its own that is unmounted in the end.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// In memory, with the mount options `how`.
    pub(crate) fn tmpfs(at: &Path, how: &str) -> Option<Self> {
        let options = ["-t", "tmpfs", "-o", how, "courser-test"];
        Self::with(at, options.map(AsRef::as_ref))
    }

    /// Ext4 of 24 MB in a file, over a loop device.
    fn ext4(at: &Path) -> Option<Self> {
        if !need::need(&["mkfs.ext4"]) {
            return None;
        }
        let image = at.with_extension("img");
        let file = std::fs::File::create(&image).ok()?;
        file.set_len(24 << 20).ok()?;
        let made = Command::new(need::find("mkfs.ext4")?)
            .args(["-q", "-m", "0"])
            .arg(&image)
            .status();
        if !made.is_ok_and(|s| s.success()) {
            return None;
        }
        Self::with(at, ["-o".as_ref(), "loop".as_ref(), image.as_os_str()])
    }

    fn with<const N: usize>(at: &Path, words: [&OsStr; N]) -> Option<Self> {
        std::fs::create_dir_all(at).ok()?;
        let mounted = Command::new("mount").args(words).arg(at).output();
        mounted
            .is_ok_and(|o| o.status.success())
            .then(|| Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// Writes to `file` until there is no room left.
pub(crate) fn fill(file: &Path) {
    let mut file = std::fs::File::create(file).expect("a file");
    for size in [1 << 20, 4096, 1] {
        let some = vec![0; size];
        while file.write_all(&some).is_ok() {}
    }
}

/// 100 kB.
fn large(number: usize) -> Vec<u8> {
    let mut body = small(&format!("full-{number}"));
    for _ in 0..1250 {
        body.extend_from_slice(
            b"0123456789012345678901234567890123456789012345678901234567890123456789012345678\r\n",
        );
    }
    body
}

/// A receiver that takes nothing before the gate is open.
fn gated() -> (Arc<AtomicBool>, Receiver) {
    let gate = Arc::new(AtomicBool::new(false));
    let open = gate.clone();
    let receiver = Receiver::start(move |line| match line {
        l if l.starts_with("RCPT") && !open.load(Ordering::Acquire) => {
            Answer::say("451 4.2.1 Later")
        }
        _ => Answer::Usual,
    });
    (gate, receiver)
}

/// Hands in messages from `number` on until one is refused; gives the number of that one.
fn hand_in_until_full(client: &mut Client, mut number: usize) -> usize {
    loop {
        let reply = client
            .try_submit(
                "<a@sender.test>",
                &[format!("<x{number}@dest.test>")],
                &large(number),
            )
            .expect("a reply");
        if !reply.starts_with("250") {
            assert_eq!(
                reply,
                "452 4.3.1 Insufficient system storage, try again later"
            );
            return number;
        }
        number += 1;
        assert!(number < 300, "24 MB took 30 MB");
    }
}

/// Waits until the next message is taken.
fn wait_for_room(server: &Server, client: &mut Client, number: usize) {
    let again = eventually(20, || {
        let to = [format!("<x{number}@dest.test>")];
        let reply = client
            .try_submit("<a@sender.test>", &to, &large(number))
            .ok()?;
        reply.starts_with("250").then_some(())
    });
    assert!(
        again.is_some(),
        "it takes nothing although there is room again:\n{}",
        server.log()
    );
}

/// Each of the first `count` messages has come once, as it was sent.
fn all_came(server: &Server, receiver: &Receiver, count: usize) {
    server.wait_empty();
    let mails = receiver.mails();
    let mut came: Vec<usize> = mails
        .iter()
        .map(|m| {
            let to = m.recipients().remove(0);
            let number = to[1..to.find('@').expect("an address")].parse();
            let number = number.expect("a number");
            assert!(
                m.without_received() == large(number),
                "{to} got something else"
            );
            number
        })
        .collect();
    came.sort_unstable();
    assert!(came.iter().copied().eq(0..count), "{count}: {came:?}");
}

fn config(disk: &Path, min_free: &str, receiver: &Receiver) -> String {
    format!(
        "spool = {{ dir = \"{}/spool\", segment_size = \"1MiB\", min_free = \"{min_free}\", min_free_percent = \"0%\" }}\n\
         [[stream]]\nretry = {{ intervals = [\"1h\"], life = \"2h\" }}\n{}",
        disk.display(),
        smart_host(receiver.address)
    )
}

fn warnings(server: &Server) -> String {
    server.ask(&["status", "--json"])[0]["warnings"].to_string()
}

/// Senders are told to wait before the disk is full, and let in when room was made.
fn fills_up(dir: &Path, disk: &Path) {
    let (gate, receiver) = gated();
    let server = Server::start_in(dir, &config(disk, "6MiB", &receiver));
    let mut client = Client::hello(server.address);
    let taken = hand_in_until_full(&mut client, 0);
    assert!(taken > 50, "{taken} were taken");
    let event = server.wait_event("spool", |e| e["state"] == "nearly-full");
    assert!(
        event["reason"].to_string().contains("have to stay free"),
        "{event}"
    );
    let said = warnings(&server);
    assert!(said.contains("the spool is nearly full"), "{said}");
    // It could still be written to.
    std::fs::write(disk.join("other"), vec![0; 4 << 20]).expect("4 MB are left");
    std::fs::remove_file(disk.join("other")).expect("it was made");
    assert_eq!(server.queue().len(), taken);
    // An operator can still work: with half of it gone there is room.
    let rested = eventually(20, || {
        (server.ask(&["status", "--json"])[0]["gauges"]["deferred"] == taken).then_some(())
    });
    assert!(rested.is_some());
    gate.store(true, Ordering::Release);
    let count = server.ask(&["queue", "retry", "--all", "--json"]);
    assert_eq!(count[0]["count"], taken);
    receiver.wait(taken);
    wait_for_room(&server, &mut client, taken);
    server.wait_event("spool", |e| e["state"] == "open");
    assert!(!warnings(&server).contains("nearly full"));
    all_came(&server, &receiver, taken + 1);
}

/// Something else takes all the room: outcomes are kept all the same, a start goes on, and nothing
/// is lost.
fn is_filled_by_others(dir: &Path, disk: &Path) {
    let (gate, receiver) = gated();
    let mut server = Server::start_in(dir, &config(disk, "0B", &receiver));
    let mut client = Client::hello(server.address);
    for number in 0..20 {
        client.submit(
            "<a@sender.test>",
            &[format!("<x{number}@dest.test>")],
            &large(number),
        );
    }
    let other = disk.join("other");
    fill(&other);
    let taken = hand_in_until_full(&mut client, 20);
    server.wait_event("spool", |e| e["state"] == "nearly-full");
    server.kill9();
    server.restart();
    assert_eq!(server.queue().len(), taken, "what was taken is there");
    gate.store(true, Ordering::Release);
    server.ask(&["queue", "retry", "--all", "--json"]);
    all_came(&server, &receiver, taken);
    // Their ends were written down.
    server.kill9();
    server.restart();
    assert_eq!(server.queue().len(), 0);
    std::fs::remove_file(&other).expect("it is there");
    let mut client = Client::hello(server.address);
    wait_for_room(&server, &mut client, taken);
    all_came(&server, &receiver, taken + 1);
    server.stop();
}

/// With a scratch directory and a small file system of each kind.
pub(crate) fn on_each(test: impl Fn(&Path, &Path)) {
    if !need_root() {
        return;
    }
    let dir = scratch();
    let disk = dir.path().join("tmpfs");
    match Mount::tmpfs(&disk, "size=24m") {
        Some(_mount) => test(&dir.path().join("on-tmpfs"), &disk),
        None => need::skip("the right to mount a tmpfs"),
    }
    let disk = dir.path().join("ext4");
    match Mount::ext4(&disk) {
        Some(_mount) => test(&dir.path().join("on-ext4"), &disk),
        None => need::skip("mkfs.ext4 and a loop device to mount"),
    }
}

pub(crate) fn a_full_disk() {
    on_each(fills_up);
}

pub(crate) fn a_disk_that_others_fill() {
    on_each(is_filled_by_others);
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
