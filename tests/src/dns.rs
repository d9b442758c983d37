//! nsd as the authoritative server for the zones of a test.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::process::Process;
use crate::{need, net};

/// A zone file of records without SOA and NS.
pub fn whole_zone(zone: &str, records: &str) -> String {
    format!(
        "$ORIGIN {zone}.\n$TTL 60\n@ IN SOA ns.{zone}. hostmaster.{zone}. 1 3600 600 86400 5\n\
         @ IN NS ns.{zone}.\nns IN A 127.0.0.1\n{records}\n"
    )
}

/// A running nsd.
pub struct Nsd {
    /// Where it answers, UDP and TCP.
    pub address: SocketAddr,
    _process: Process,
}

impl Nsd {
    /// Serves each `(zone, records)`; the records are zone-file lines without SOA and NS.
    ///
    /// # Panics
    /// When nsd doesn't come up; what it printed is shown.
    pub fn start(dir: &Path, zones: &[(&str, &str)]) -> Self {
        let whole: Vec<(&str, String)> = zones
            .iter()
            .map(|(zone, records)| (*zone, whole_zone(zone, records)))
            .collect();
        Self::serve(dir, &whole)
    }

    /// Serves each `(zone, file)`, whose file is whole.
    ///
    /// # Panics
    /// When nsd doesn't come up; what it printed is shown.
    pub fn serve(dir: &Path, zones: &[(&str, String)]) -> Self {
        let port = net::free_port();
        let home = dir.join("nsd");
        std::fs::create_dir_all(&home).expect("a scratch directory");
        let home = home.canonicalize().expect("the directory exists");
        let at = home.display();
        let mut conf = format!(
            "server:\n ip-address: 127.0.0.1\n port: {port}\n server-count: 1\n username: \"\"\n chroot: \"\"\n \
             zonesdir: \"{at}\"\n pidfile: \"{at}/nsd.pid\"\n database: \"\"\n zonelistfile: \"{at}/zone.list\"\n \
             xfrdfile: \"{at}/xfrd.state\"\n xfrdir: \"{at}\"\nremote-control:\n control-enable: no\n"
        );
        for (zone, content) in zones {
            let file = format!("{zone}.zone");
            std::fs::write(home.join(&file), content).expect("a zone file");
            let _ = write!(conf, "zone:\n name: \"{zone}\"\n zonefile: \"{file}\"\n");
        }
        let conf_file = home.join("nsd.conf");
        std::fs::write(&conf_file, conf).expect("nsd.conf");
        let nsd = need::find("nsd").expect("nsd, which the test asked for");
        let process = Process::start(
            "nsd",
            dir,
            Command::new(nsd).arg("-d").arg("-c").arg(conf_file),
        );
        let address = ([127, 0, 0, 1], port).into();
        assert!(
            net::wait_for(address, 20),
            "nsd doesn't answer:\n{}",
            process.output()
        );
        Self {
            address,
            _process: process,
        }
    }
}
