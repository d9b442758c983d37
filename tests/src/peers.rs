//! Peers that send and receive.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::Process;
use crate::{need, net};

/// Postfix's smtp-sink, a receiver that takes everything.
pub struct SmtpSink {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
    dumps: PathBuf,
}

impl SmtpSink {
    /// Starts one on `address`; each message is kept as a file. `options` are smtp-sink's own.
    ///
    /// # Panics
    /// When it doesn't come up.
    pub fn start(dir: &Path, address: SocketAddr, options: &[&str]) -> Self {
        let dumps = dir.join(format!("sink-{}", address.port()));
        std::fs::create_dir_all(&dumps).expect("a scratch directory");
        let sink = need::find("smtp-sink").expect("smtp-sink, which the test asked for");
        let mut command = Command::new(sink);
        // Each message in a file of its own, named by its start.
        command
            .args(options)
            .arg("-d")
            .arg(format!("{}/%s.", dumps.display()));
        // SAFETY: geteuid only reads.
        if unsafe { libc::geteuid() } == 0 {
            command.args(["-u", "root"]);
        }
        command
            .arg(format!("{}:{}", address.ip(), address.port()))
            .arg("100");
        let process = Process::start(&format!("smtp-sink-{}", address.port()), dir, &mut command);
        assert!(
            net::wait_for(address, 10),
            "smtp-sink doesn't listen:\n{}",
            process.output()
        );
        Self {
            address,
            process,
            dumps,
        }
    }

    /// The messages so far, as smtp-sink wrote them: its own `X-…` lines, then header and body.
    pub fn messages(&self) -> Vec<Vec<u8>> {
        let Ok(files) = std::fs::read_dir(&self.dumps) else {
            return Vec::new();
        };
        files
            .flatten()
            .filter_map(|f| std::fs::read(f.path()).ok())
            .filter(|m| !m.is_empty())
            .collect()
    }

    /// What it printed.
    pub fn output(&self) -> String {
        self.process.output()
    }
}

/// Runs Postfix's smtp-source against `to` and waits for it.
///
/// # Panics
/// When it fails.
pub fn smtp_source(dir: &Path, to: SocketAddr, options: &[&str]) {
    let source = need::find("smtp-source").expect("smtp-source, which the test asked for");
    let mut command = Command::new(source);
    command
        .args(options)
        .arg(format!("{}:{}", to.ip(), to.port()));
    let mut process = Process::start("smtp-source", dir, &mut command);
    let status = process.wait(Duration::from_secs(120));
    assert!(
        status.success(),
        "smtp-source: {status}\n{}",
        process.output()
    );
}

/// A real Postfix with a configuration and queue of its own.
pub struct Postfix {
    /// Where its smtpd listens.
    pub address: SocketAddr,
    conf: PathBuf,
    dir: PathBuf,
}

impl Postfix {
    /// Starts one on `ip` and a free port. `settings` are added to its main.cf. Mail for
    /// `mydestination` goes to files in [`Postfix::mailbox`].
    ///
    /// # Panics
    /// When it doesn't come up. Needs root, as Postfix does.
    pub fn start(dir: &Path, ip: IpAddr, settings: &str) -> Self {
        let port = net::free_port_on(&[ip]);
        let home = dir.join("postfix");
        let (conf, queue, data, mail) = (
            home.join("conf"),
            home.join("queue"),
            home.join("data"),
            home.join("mail"),
        );
        for d in [&conf, &queue, &data, &mail] {
            std::fs::create_dir_all(d).expect("a scratch directory");
        }
        let run = |program: &str, words: &[&str]| {
            let out = Command::new(need::find(program).expect("a program of Postfix's"))
                .args(words)
                .output()
                .expect("a program that starts");
            (
                out.status.success(),
                String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned(),
            )
        };
        let everyone_may_enter = |d: &Path| {
            use std::os::unix::fs::PermissionsExt;
            let mut d = Some(d);
            while let Some(here) = d.filter(|p| p.starts_with(dir)) {
                let _ = std::fs::set_permissions(here, std::fs::Permissions::from_mode(0o755));
                d = here.parent();
            }
        };
        everyone_may_enter(&home);
        for (d, owner) in [(&data, "postfix"), (&mail, "nobody")] {
            run("chown", &[owner, &d.display().to_string()]);
        }
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {queue}\ndata_directory = {data}\n\
             mail_owner = postfix\nsetgid_group = postdrop\ninet_interfaces = {ip}\ninet_protocols = ipv4\n\
             myhostname = postfix.test\nmydestination = postfix.test\nmynetworks = 127.0.0.0/8\n\
             alias_maps =\nalias_database =\nlocal_recipient_maps =\nsmtpd_peername_lookup = no\n\
             virtual_mailbox_base = {mail}\nvirtual_uid_maps = static:65534\nvirtual_gid_maps = static:65534\n\
             local_transport = virtual\nvirtual_mailbox_domains =\nvirtual_mailbox_maps = static:all/\nmaillog_file = {home}/maillog\n\
             maillog_file_prefixes = {home}\nsmtpd_recipient_restrictions = permit_mynetworks, reject\n\
             smtp_dns_support_level = disabled\nsmtp_host_lookup = native\nbounce_queue_lifetime = 1h\n\
             message_size_limit = 60000000\nmailbox_size_limit = 0\nvirtual_mailbox_limit = 0\n",
            queue = queue.display(),
            data = data.display(),
            mail = mail.display(),
            home = home.display(),
        );
        std::fs::write(conf.join("main.cf"), merged(&main, settings)).expect("main.cf");
        let service = |line: &str| format!("{line}\n");
        let master: String = [
            &format!("{ip}:{port} inet n - n - - smtpd"),
            "pickup unix n - n 60 1 pickup",
            "cleanup unix n - n - 0 cleanup",
            "qmgr unix n - n 300 1 qmgr",
            "tlsmgr unix - - n 1000? 1 tlsmgr",
            "rewrite unix - - n - - trivial-rewrite",
            "bounce unix - - n - 0 bounce",
            "defer unix - - n - 0 bounce",
            "trace unix - - n - 0 bounce",
            "verify unix - - n - 1 verify",
            "flush unix n - n 1000? 0 flush",
            "proxymap unix - - n - - proxymap",
            "smtp unix - - n - - smtp",
            "relay unix - - n - - smtp",
            "error unix - - n - - error",
            "retry unix - - n - - error",
            "discard unix - - n - - discard",
            "local unix - n n - - local",
            "virtual unix - n n - - virtual",
            "anvil unix - - n - 1 anvil",
            "scache unix - - n - 1 scache",
            "postlog unix-dgram n - n - 1 postlogd",
        ]
        .iter()
        .map(|l| service(l))
        .collect();
        std::fs::write(conf.join("master.cf"), master).expect("master.cf");
        let this = Self {
            address: SocketAddr::new(ip, port),
            conf,
            dir: home,
        };
        let (ok, said) = this.postfix("start");
        assert!(
            ok && net::wait_for(this.address, 20),
            "Postfix doesn't start:\n{said}\n{}",
            this.log()
        );
        this
    }

    fn postfix(&self, word: &str) -> (bool, String) {
        // Where its logging is stuck, `postfix` is too.
        let out = Command::new("timeout")
            .args(["--kill-after=1", "60"])
            .arg(need::find("postfix").expect("postfix, which the test asked for"))
            .arg("-c")
            .arg(&self.conf)
            .arg(word)
            .output()
            .expect("postfix starts");
        (
            out.status.success(),
            String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned(),
        )
    }

    /// Its mail log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("maillog")).unwrap_or_default()
    }

    /// The messages that it delivered, whole.
    pub fn mailbox(&self) -> Vec<Vec<u8>> {
        let Ok(files) = std::fs::read_dir(self.dir.join("mail/all/new")) else {
            return Vec::new();
        };
        files
            .flatten()
            .filter_map(|f| std::fs::read(f.path()).ok())
            .collect()
    }

    /// Its configuration directory, for `sendmail -C`.
    pub fn conf(&self) -> &Path {
        &self.conf
    }
}

/// `main` with the lines of `settings`, each name once. Of a name that is there twice every program of
/// Postfix's warns as it starts, postlogd too, which then can wait for itself: it warns into the
/// socket that it has to empty.
fn merged(main: &str, settings: &str) -> String {
    let name = |line: &str| line.split_once('=').map(|(n, _)| n.trim().to_owned());
    let set: Vec<_> = settings.lines().filter_map(name).collect();
    let kept = main
        .lines()
        .filter(|l| name(l).is_some_and(|n| !set.contains(&n)));
    let lines = kept.chain(settings.lines());
    lines.map(|l| format!("{l}\n")).collect()
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let _ = self.postfix("abort");
        if std::thread::panicking() {
            eprintln!("---- Postfix ----\n{}", self.log());
        }
    }
}
