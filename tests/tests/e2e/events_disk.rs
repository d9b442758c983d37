//! Event files on a disk that fails or is full, while the spool's is well: mail goes on, what there is
//! no room for is dropped and counted, and when the disk works again so do the events.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use courser::events::MADE_UP;
use courser_tests::client::{Client, small};
use courser_tests::disk::{Disk, Fault, What};
use courser_tests::receiver::Receiver;
use courser_tests::server::{Server, run, scratch, smart_host};
use courser_tests::{eventually, say};

use crate::full;

/// Events that may wait for the disk; as few as the configuration allows.
const BUFFER: usize = 64;
/// Messages of which more happens than that: each is received and delivered.
const TOO_MANY: usize = 2 * BUFFER;
/// And of which less happens.
const FEW: usize = 8;

const ALWAYS: u64 = u64::MAX;

fn config(events: &Path, receiver: &Receiver) -> String {
    format!(
        "events = {{ dir = \"{}\", buffer = {BUFFER} }}\n\
         delivery.limits = {{ connection_rate = \"1000/s\", message_rate = \"10000/s\" }}\n{}",
        events.display(),
        smart_host(receiver.address)
    )
}

/// A server whose events lie on another disk than its spool.
struct World {
    server: Server,
    receiver: Receiver,
    client: Client,
    /// Ids of what was handed in.
    messages: Vec<String>,
}

impl World {
    fn new(dir: &Path, events: &Path) -> Self {
        let receiver = Receiver::friendly();
        let mut server = Server::prepare(dir, &config(events, &receiver));
        // Where the harness looks for them.
        std::os::unix::fs::symlink(events, dir.join("events")).expect("a link");
        server.restart();
        let mut world = Self {
            client: Client::hello(server.address),
            server,
            receiver,
            messages: Vec::new(),
        };
        world.mail_flows(1);
        world.events_go_on();
        world
    }

    /// So many messages are taken and delivered.
    fn mail_flows(&mut self, count: usize) {
        for _ in 0..count {
            let number = self.messages.len();
            let to = [format!("<r{number}@d{}.test>", number % 3)];
            let mail = small(&format!("events-{number}"));
            let id = self.client.submit("<a@sender.test>", &to, &mail);
            self.messages.push(id);
        }
        self.receiver.wait(self.messages.len());
        self.server.wait_empty();
    }

    fn warnings(&self) -> String {
        self.server.ask(&["status", "--json"])[0]["warnings"].to_string()
    }

    /// Waits until the status says what ails the event files.
    fn says(&self, text: &str) {
        let said = eventually(10, || {
            let warnings = self.warnings();
            let said = warnings.contains("events can't be written") && warnings.contains(text);
            said.then_some(())
        });
        assert!(said.is_some(), "no word of {text:?}: {}", self.warnings());
    }

    /// Events that the log on standard error says were dropped so far.
    fn dropped(&self) -> u64 {
        let log = self.server.log();
        let counts = log
            .lines()
            .filter(|l| l.contains("events were dropped"))
            .map(|l| {
                let count = l.split_once("count=").expect("how many").1;
                let digits = count.split(' ').next().unwrap_or_default();
                digits.parse::<u64>().expect("a number")
            });
        counts.sum()
    }

    /// Waits until as many events as there is room for were dropped beyond `before`.
    fn many_are_dropped(&self, before: u64) {
        let many = before + BUFFER as u64;
        let dropped = eventually(20, || (self.dropped() >= many).then_some(()));
        let log = self.server.log();
        assert!(dropped.is_some(), "{} of {many}:\n{log}", self.dropped());
    }

    /// What happens from now on is written down again, and nothing is wrong any more.
    fn events_go_on(&mut self) {
        self.mail_flows(1);
        let last = self.messages.last().expect("there is one").clone();
        self.server
            .wait_event("delivered", |e| e["message"] == *last);
        let well = eventually(10, || {
            (!self.warnings().contains("events can't be written")).then_some(())
        });
        assert!(well.is_some(), "{}", self.warnings());
    }

    /// What is missing was told with its number, nothing stands there twice, and each message was
    /// delivered once. Gives how many events are missing and how many were told as lost.
    fn accounts(&self) -> (u64, u64) {
        let dropped = self.dropped();
        let lost = || -> u64 {
            let events = self.server.events_of("lost");
            events.iter().filter_map(|e| e["count"].as_u64()).sum()
        };
        let told = eventually(20, || (lost() == dropped).then_some(()));
        assert!(
            told.is_some(),
            "{dropped} events were dropped, {} told as lost:\n{}",
            lost(),
            self.server.log()
        );
        let mut seen: BTreeMap<(String, String), u64> = BTreeMap::new();
        self.server.each_event(|e| {
            if let (Some(message), Some(kind)) = (e["message"].as_str(), e["kind"].as_str()) {
                *seen.entry((message.into(), kind.into())).or_default() += 1;
            }
        });
        let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
        let kinds = ["received", "delivered"].map(str::to_owned);
        let missing = self
            .messages
            .iter()
            .flat_map(|m| kinds.iter().map(move |k| (m.clone(), k.clone())))
            .filter(|key| !seen.contains_key(key))
            .count() as u64;
        assert!(
            missing <= dropped,
            "{missing} events are missing, {dropped} were told as lost"
        );
        let mut came: Vec<_> = self
            .receiver
            .mails()
            .iter()
            .map(|m| (m.recipients(), m.without_received().to_vec()))
            .collect();
        let mut right: Vec<_> = (0..self.messages.len())
            .map(|n| {
                let to = vec![format!("r{n}@d{}.test", n % 3)];
                (to, small(&format!("events-{n}")))
            })
            .collect();
        came.sort();
        right.sort();
        assert!(came == right, "{} came of {}", came.len(), right.len());
        (missing, dropped)
    }
}

fn fault(what: What, nth: u64, times: u64, errno: i32, some: usize) -> Fault {
    Fault {
        what,
        path: "jsonl".into(),
        nth,
        times,
        errno,
        some,
    }
}

/// The server with its events on a disk that can be made to fail.
fn on_a_failing_disk(test: impl FnOnce(&mut World, &Disk)) {
    let dir = scratch();
    if let Some(disk) = Disk::mount(&dir.path().join("disk")) {
        let mut world = World::new(&dir.path().join("s"), &disk.path().join("events"));
        test(&mut world, &disk);
    }
}

pub(crate) fn a_disk_that_fails_for_long() {
    on_a_failing_disk(|world, disk| {
        for (errno, text) in [
            (libc::EIO, "Input/output error"),
            (libc::ENOSPC, "No space left on device"),
        ] {
            let f = |what, times, some| fault(what, 1, times, errno, some);
            for faults in [
                vec![f(What::Write, ALWAYS, 0)],
                // What a failed write has left can't be cut off, and there is no other file.
                vec![
                    f(What::Write, 1, 10),
                    f(What::SetLen, 1, 0),
                    f(What::Create, ALWAYS, 0),
                ],
            ] {
                let before = world.dropped();
                disk.fail_all(faults);
                world.mail_flows(TOO_MANY);
                assert!(disk.struck() > 0, "it was not reached");
                world.says(text);
                world.many_are_dropped(before);
                // And all the same mail goes on.
                world.mail_flows(FEW);
                disk.mend();
                world.events_go_on();
                let (missing, _) = world.accounts();
                assert!(missing > 0);
            }
        }
        let (missing, told) = world.accounts();
        say(&format!(
            "event files on a failing disk: {} messages delivered, {missing} of their events are missing, {told} events told as lost\n",
            world.messages.len()
        ));
        world.server.stop();
    });
}

pub(crate) fn a_disk_that_fails_for_a_moment() {
    on_a_failing_disk(|world, disk| {
        for errno in [libc::EIO, libc::ENOSPC] {
            for faults in [
                vec![fault(What::Write, 1, 1, errno, 0)],
                vec![fault(What::Write, 1, 1, errno, 10)],
                vec![
                    fault(What::Write, 1, 1, errno, 10),
                    fault(What::SetLen, 1, 1, errno, 0),
                    fault(What::Create, 1, 1, errno, 0),
                ],
            ] {
                disk.fail_all(faults);
                world.mail_flows(FEW);
                let struck = eventually(10, || (disk.struck() > 0).then_some(()));
                assert!(struck.is_some(), "it was not reached");
                world.events_go_on();
                disk.mend();
                assert_eq!(world.accounts(), (0, 0), "there was room for all of them");
            }
            // Syncs that fail are said, and another file is begun.
            let before = world.server.log().len();
            let files = disk.count(What::Create, "jsonl");
            disk.fail(fault(What::Sync, 1, ALWAYS, errno, 0));
            world.mail_flows(FEW);
            let said = eventually(10, || {
                let said = world.server.log()[before..].contains("syncing the events failed");
                said.then_some(())
            });
            assert!(said.is_some(), "{}", &world.server.log()[before..]);
            world.events_go_on();
            assert!(disk.count(What::Create, "jsonl") > files);
            disk.mend();
            assert_eq!(world.accounts(), (0, 0), "a failed sync drops none");
        }
        world.server.stop();
    });
}

pub(crate) fn a_stop_while_nothing_can_be_written() {
    on_a_failing_disk(|world, disk| {
        let before = world.messages.len();
        disk.fail(fault(What::Write, 1, ALWAYS, libc::EIO, 0));
        world.mail_flows(FEW);
        world.says("Input/output error");
        // In time, well, and with a word on what is lost with it.
        world.server.stop_within(Duration::from_secs(60));
        let log = world.server.log();
        assert!(
            log.contains("events couldn't be written before the end"),
            "{log}"
        );
        disk.mend();
        world.server.restart();
        world.client = Client::hello(world.server.address);
        world.events_go_on();
        // Given up, and the end made up from the spool.
        let story = world.server.story(&world.messages[before]);
        let causes: Vec<&str> = story.iter().filter_map(|e| e["cause"].as_str()).collect();
        assert_eq!(causes, [MADE_UP], "{story:#?}");
        assert_eq!(story.len(), 1, "{story:#?}");
        world.server.stop();
    });
}

pub(crate) fn a_start_that_cannot_make_the_folder() {
    let dir = scratch();
    let Some(disk) = Disk::mount(&dir.path().join("disk")) else {
        return;
    };
    let events = disk.path().join("events");
    let receiver = Receiver::friendly();
    let server = Server::prepare(&dir.path().join("s"), &config(&events, &receiver));
    for (errno, text) in [
        (libc::EROFS, "Read-only file system"),
        (libc::EACCES, "Permission denied"),
    ] {
        let what = Fault::once(What::MakeFolder, 1, errno);
        disk.fail(Fault {
            times: ALWAYS,
            ..what
        });
        let out = run(&["serve", "--config", &server.config().display().to_string()]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{said}");
        assert!(
            said.contains(&events.display().to_string()) && said.contains(text),
            "{said}"
        );
    }
}

pub(crate) fn a_full_disk() {
    full::on_each(|dir, disk| {
        let mut world = World::new(dir, &disk.join("events"));
        let other = disk.join("other");
        full::fill(&other);
        world.mail_flows(TOO_MANY);
        world.says("No space left on device");
        world.many_are_dropped(0);
        world.mail_flows(FEW);
        std::fs::remove_file(&other).expect("it is there");
        world.events_go_on();
        let (missing, told) = world.accounts();
        assert!(missing > 0);
        say(&format!(
            "event files on a full disk: {} messages delivered, {missing} of their events are missing, {told} events told as lost\n",
            world.messages.len()
        ));
        world.server.stop();
    });
}
