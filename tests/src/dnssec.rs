//! Signed zones in nsd, and unbound as the resolver that validates them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::dns::{Nsd, whole_zone};
use crate::process::Process;
use crate::{need, net};

/// A zone, and how it is signed.
pub struct Zone<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its records, without SOA and NS.
    pub records: String,
    /// Whether it is signed at all.
    pub signed: bool,
    /// What is changed in the file after it was signed: this, into that.
    pub forged: Option<(String, String)>,
}

/// A running unbound, and nsd behind it.
pub struct Unbound {
    /// Where it answers.
    pub address: SocketAddr,
    /// Where nsd answers.
    pub authority: SocketAddr,
    _unbound: Process,
    _nsd: Nsd,
}

/// The programs that [`Unbound::start`] needs.
pub const NEEDS: &[&str] = &["nsd", "unbound", "ldns-signzone"];

impl Unbound {
    /// Signs the zones, serves them, and starts a resolver that trusts their keys.
    ///
    /// # Panics
    /// When one of the programs doesn't do what it should.
    pub fn start(dir: &Path, zones: &[Zone<'_>]) -> Self {
        let home = dir.join("unbound");
        std::fs::create_dir_all(&home).expect("a scratch directory");
        let home = home.canonicalize().expect("the directory exists");
        let mut served = Vec::new();
        let mut anchors = String::new();
        for zone in zones {
            let plain = whole_zone(zone.name, &zone.records);
            if !zone.signed {
                served.push((zone.name, plain));
                continue;
            }
            let file = home.join(format!("{}.plain", zone.name));
            std::fs::write(&file, &plain).expect("a zone file");
            let run = |program: &str, words: &[&str]| {
                let out = Command::new(need::find(program).expect("a program of ldns"))
                    .args(words)
                    .current_dir(&home)
                    .output()
                    .expect("a program that starts");
                let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
                assert!(out.status.success(), "{program}: {said}");
                said.trim().to_owned()
            };
            let key = run("ldns-keygen", &["-a", "ECDSAP256SHA256", "-k", zone.name]);
            let signed = format!("{}.signed", zone.name);
            run(
                "ldns-signzone",
                &[
                    "-o",
                    zone.name,
                    "-f",
                    &signed,
                    &file.display().to_string(),
                    &key,
                ],
            );
            let mut content = std::fs::read_to_string(home.join(&signed)).expect("the signed zone");
            if let Some((from, to)) = &zone.forged {
                assert!(content.contains(from), "{from} is not in {content}");
                content = content.replace(from, to);
            }
            served.push((zone.name, content));
            let ds = std::fs::read_to_string(home.join(format!("{key}.ds"))).expect("a DS record");
            let _ = writeln!(
                anchors,
                " trust-anchor: \"{}\"",
                ds.trim().replace('\t', " ")
            );
        }
        let nsd = Nsd::serve(dir, &served);
        let port = net::free_port();
        let at = home.display();
        let mut conf = format!(
            "server:\n interface: 127.0.0.1@{port}\n username: \"\"\n chroot: \"\"\n directory: \"{at}\"\n \
             pidfile: \"{at}/unbound.pid\"\n use-syslog: no\n logfile: \"\"\n do-daemonize: no\n \
             do-not-query-localhost: no\n module-config: \"validator iterator\"\n num-threads: 1\n \
             root-hints: \"\"\n local-zone: \"test.\" nodefault\n val-log-level: 2\n{anchors}"
        );
        for zone in zones.iter().filter(|z| !z.signed) {
            let _ = writeln!(conf, " domain-insecure: \"{}\"", zone.name);
        }
        conf.push_str("remote-control:\n control-enable: no\n");
        for zone in zones {
            let _ = write!(
                conf,
                "stub-zone:\n name: \"{}\"\n stub-addr: 127.0.0.1@{}\n",
                zone.name,
                nsd.address.port()
            );
        }
        let conf_file = home.join("unbound.conf");
        std::fs::write(&conf_file, conf).expect("unbound.conf");
        let unbound = need::find("unbound").expect("unbound, which the test asked for");
        let process = Process::start(
            "unbound",
            dir,
            Command::new(unbound).arg("-d").arg("-c").arg(conf_file),
        );
        let address = ([127, 0, 0, 1], port).into();
        assert!(
            net::wait_for(address, 20),
            "unbound doesn't answer:\n{}",
            process.output()
        );
        Self {
            address,
            authority: nsd.address,
            _unbound: process,
            _nsd: nsd,
        }
    }
}
