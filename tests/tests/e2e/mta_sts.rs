//! MTA-STS: nsd has the records, Python's web server the policies, and receivers certificates of all
//! kinds.

use std::net::IpAddr;
use std::path::Path;

use courser_tests::client::{Client, small, submit};
use courser_tests::dns::Nsd;
use courser_tests::need::need;
use courser_tests::net::free_port_on;
use courser_tests::receiver::{Answer, EXTENSIONS, Receiver};
use courser_tests::server::{Server, run, scratch};
use courser_tests::tls::{Authority, Issued, Valid};
use courser_tests::web::Web;
use courser_tests::{eventually, need_root};
use serde_json::{Value, json};

/// What a domain has.
#[derive(Clone, Copy)]
struct Spec {
    name: &'static str,
    /// Its MX hosts: label, and what their certificates are.
    hosts: &'static [(&'static str, Shows)],
    /// What its policy says of the hosts; `%` is the domain.
    policy: &'static str,
}

/// What a receiver shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    /// A certificate that is right.
    Right,
    /// One for another name.
    Misnamed,
    /// None: it offers no STARTTLS.
    Nothing,
}

use Shows::{Misnamed, Nothing, Right};

/// A domain whose host has the right certificate, and whose policy demands it.
const fn enforced(name: &'static str) -> Spec {
    Spec {
        name,
        hosts: &[("mx", Right)],
        policy: ENFORCE,
    }
}

struct World {
    dir: tempfile::TempDir,
    authority: Authority,
    web: Web,
    /// By host name.
    receivers: Vec<(String, Receiver)>,
    specs: Vec<Spec>,
    port: u16,
}

/// The certificate of a domain's web server.
fn web_certificate(authority: &Authority, domain: &str) -> Issued {
    authority.issue(&[&format!("mta-sts.{domain}")])
}

/// A receiver for each host, and a web server at `127.0.3.web` that has the policies.
fn world(web: u8, specs: &[Spec]) -> Option<World> {
    if !need_root() || !need(&["nsd", "python3"]) {
        return None;
    }
    let dir = scratch();
    let authority = Authority::new();
    let names: Vec<(String, Shows)> = specs
        .iter()
        .flat_map(|spec| {
            let name =
                |(label, shows): &(&str, Shows)| (format!("{label}.{}.test", spec.name), *shows);
            spec.hosts.iter().map(name)
        })
        .collect();
    let ip = |n: usize| IpAddr::from([127, 0, 5 + web, 1 + n as u8]);
    let ips: Vec<IpAddr> = (0..names.len()).map(ip).collect();
    let port = free_port_on(&ips);
    let receivers = names.into_iter().zip(ips).map(|((name, shows), ip)| {
        let own = match shows {
            Right => &name,
            Misnamed => "mx.elsewhere.test",
            Nothing => {
                let plain = Receiver::start_at((ip, port).into(), EXTENSIONS, |_| Answer::Usual);
                return (name, plain);
            }
        };
        let tls = authority.issue(&[own]).server();
        let receiver = Receiver::start_tls((ip, port).into(), tls, |_| Answer::Usual);
        receiver.offer("REQUIRETLS");
        (name, receiver)
    });
    let receivers = receivers.collect();
    let web = Web::start(dir.path(), IpAddr::from([127, 0, 3, web]));
    let world = World {
        authority,
        web,
        receivers,
        specs: specs.to_vec(),
        port,
        dir,
    };
    for spec in specs {
        world.publish(spec.name, spec.policy);
    }
    Some(world)
}

impl World {
    /// The policy of a domain, from now on.
    fn publish(&self, name: &str, policy: &str) {
        let domain = format!("{name}.test");
        let lines = policy.replace('%', &domain).replace("; ", "\r\n");
        let body = format!("version: STSv1\r\n{lines}\r\n");
        self.publish_as(name, 200, &[("Content-Type", "text/plain")], &body);
    }

    fn publish_as(&self, name: &str, status: u16, headers: &[(&str, &str)], body: &str) {
        let domain = format!("{name}.test");
        let issued = web_certificate(&self.authority, &domain);
        self.web
            .answer(&format!("mta-sts.{domain}"), &issued, status, headers, body);
    }

    /// A name server that says that the policies have this id; `None`: it knows of none.
    fn nsd(&self, id: Option<&str>) -> Nsd {
        let zones: Vec<(String, String)> = self
            .specs
            .iter()
            .map(|spec| {
                let mut zone = format!("mta-sts IN A {}\n", self.web.ip);
                if let Some(id) = id {
                    zone.push_str(&format!("_mta-sts IN TXT \"v=STSv1; id={id};\"\n"));
                }
                for (i, (label, _)) in spec.hosts.iter().enumerate() {
                    let ip = self
                        .receiver(&format!("{label}.{}.test", spec.name))
                        .address
                        .ip();
                    zone.push_str(&format!("@ IN MX {} {label}\n{label} IN A {ip}\n", 10 + i));
                }
                (format!("{}.test", spec.name), zone)
            })
            .collect();
        let zones: Vec<(&str, &str)> = zones.iter().map(|(n, z)| (&**n, &**z)).collect();
        let home = tempfile::Builder::new()
            .prefix("nsd-")
            .tempdir_in(self.dir.path());
        Nsd::start(&home.expect("a scratch directory").keep(), &zones)
    }

    /// Settings that all servers have.
    fn settings(&self, nsd: &Nsd) -> String {
        format!(
            "dns = {{ servers = [\"{}\"] }}\ndelivery.port = {}\ndelivery.timeouts.ehlo = \"2s\"\n\
             tls.ca_file = \"{}\"\n",
            nsd.address,
            self.port,
            self.authority.write(self.dir.path()).display()
        )
    }

    fn receiver(&self, host: &str) -> &Receiver {
        let mut all = self.receivers.iter();
        let found = all.find(|(name, _)| name == host);
        &found.unwrap_or_else(|| panic!("no receiver {host}")).1
    }

    fn requests_of(&self, name: &str) -> usize {
        self.web.requests_of(&format!("mta-sts.{name}.test"))
    }
}

fn send(server: &Server, name: &str) -> String {
    let to = [format!("<you@{name}.test>")];
    submit(server.address, "<me@sender.test>", &to, &small(name))
}

/// Waits for an event `tls-policy` of the domain that says this.
fn told(server: &Server, name: &str, what: &str) -> Value {
    let domain = format!("{name}.test");
    server.wait_event("tls-policy", |e| e["domain"] == domain && e["what"] == what)
}

const ENFORCE: &str = "mode: enforce; mx: mx.%; max_age: 86400";

pub(crate) fn what_policies_do() {
    let specs = [
        enforced("right"),
        Spec {
            name: "misnamed",
            hosts: &[("mx", Misnamed)],
            policy: ENFORCE,
        },
        Spec {
            name: "stripped",
            hosts: &[("mx", Nothing)],
            policy: ENFORCE,
        },
        Spec {
            name: "unnamed",
            hosts: &[("other", Right), ("third", Right)],
            policy: ENFORCE,
        },
        Spec {
            name: "partly",
            hosts: &[("other", Right), ("mx", Right)],
            policy: ENFORCE,
        },
        Spec {
            name: "testing",
            hosts: &[("other", Misnamed)],
            policy: "mode: testing; mx: mx.%; mx: *.%.net; max_age: 86400",
        },
        Spec {
            name: "none",
            hosts: &[("other", Misnamed)],
            policy: "mode: none; max_age: 86400",
        },
    ];
    let Some(w) = world(1, &specs) else { return };
    let nsd = w.nsd(Some("1"));
    let server = Server::start(&w.settings(&nsd));
    let ids: Vec<String> = specs.iter().map(|spec| send(&server, spec.name)).collect();
    for (spec, id) in specs.iter().zip(&ids) {
        let event = server.fate(id);
        let verified = event["tls"]["verified"].as_str().unwrap_or_default();
        let (kind, by, words) = match spec.name {
            "right" => ("delivered", "authorities", "mx.right.test"),
            "misnamed" => ("deferred", "", "mx.elsewhere.test"),
            "stripped" => ("deferred", "", "doesn't offer STARTTLS"),
            "unnamed" => (
                "deferred",
                "",
                "unnamed.test: its MTA-STS policy allows none of its MX hosts (other.unnamed.test, \
                 third.unnamed.test), but mx.unnamed.test",
            ),
            "partly" => ("delivered", "authorities", "mx.partly.test"),
            _ => ("delivered", "", "other."),
        };
        let what = format!("{}: {event:#}\n{}", spec.name, w.web.output());
        assert!(event["kind"] == kind && verified == by, "{what}");
        let said = format!("{}{}", event["cause"], event["peer_host"]);
        assert!(said.contains(words), "{what}");
        let policy = told(&server, spec.name, "new");
        let mode = spec.policy.split([' ', ';']).nth(1);
        assert_eq!(policy["mode"].as_str(), mode, "{policy:#}");
        assert_eq!(policy["max_age_s"], 86_400, "{policy:#}");
        assert_eq!(w.requests_of(spec.name), 1, "{:?}", w.web.requests());
    }
    for host in [
        "mx.misnamed.test",
        "mx.stripped.test",
        "other.unnamed.test",
        "third.unnamed.test",
    ] {
        assert_eq!(w.receiver(host).count(), 0, "{host}");
    }
    // The host that isn't allowed was not even connected to.
    assert_eq!(w.receiver("other.partly.test").sessions(), 0);
    for (name, mode, hosts) in [
        ("partly", "enforce", json!(["other.partly.test"])),
        ("testing", "testing", json!(["other.testing.test"])),
    ] {
        let event = told(&server, name, "not-allowed");
        assert!(
            event["mode"] == mode && event["hosts"] == hosts,
            "{event:#}"
        );
    }
    let told = server.events_of("tls-policy");
    let about = |what| told.iter().filter(|e| e["what"] == what).count();
    assert_eq!(
        (about("not-allowed"), about("fetch-failed")),
        (2, 0),
        "{told:#?}"
    );
    // Who wants so much TLS stands beside what is wrong with it.
    let failed = server.wait_event("tls-failed", |e| e["peer_host"] == "mx.misnamed.test");
    let cause = failed["cause"].as_str().unwrap_or_default();
    assert!(
        cause.contains("the MTA-STS policy of misnamed.test wants it"),
        "{failed:#}"
    );
    assert!(failed["level"] == "verified" && failed["result"] == "certificate-host-mismatch");
}

pub(crate) fn policies_that_cannot_be_fetched() {
    let hosts: &[(&str, Shows)] = &[("other", Misnamed)];
    let names = [
        "html",
        "redirect",
        "missing",
        "large",
        "nonsense",
        "expired",
        "strange",
        "otherwise",
        "silent",
    ];
    let specs = names.map(|name| Spec {
        name,
        hosts,
        policy: ENFORCE,
    });
    let Some(w) = world(2, &specs) else { return };
    let good = "version: STSv1\nmode: enforce\nmx: mx.example\nmax_age: 86400\n";
    let plain = ("Content-Type", "text/plain");
    w.publish_as("html", 200, &[("Content-Type", "text/html")], good);
    let there = (
        "Location",
        "https://mta-sts.missing.test/.well-known/mta-sts.txt",
    );
    w.publish_as("redirect", 301, &[plain, there], good);
    w.publish_as("missing", 404, &[plain], good);
    w.publish_as(
        "large",
        200,
        &[plain],
        &format!("{good}{}", "\n".repeat(65_536)),
    );
    w.publish_as("nonsense", 200, &[plain], "<html>");
    for (name, issued) in [
        (
            "expired",
            w.authority
                .issue_valid(&["mta-sts.expired.test"], Valid::Over),
        ),
        ("strange", Authority::new().issue(&["mta-sts.strange.test"])),
        (
            "otherwise",
            w.authority.issue(&["otherwise.test", "www.otherwise.test"]),
        ),
    ] {
        w.web.answer(
            &format!("mta-sts.{name}.test"),
            &issued,
            200,
            &[plain],
            good,
        );
    }
    let nsd = w.nsd(Some("1"));
    let mut server = Server::start(&w.settings(&nsd));
    for name in names {
        let id = send(&server, name);
        if name == "silent" {
            // Its policy can be fetched, and so the others could.
            assert_eq!(server.fate(&id)["kind"], "deferred");
            continue;
        }
        let event = server.fate(&id);
        assert_eq!(event["kind"], "delivered", "{name}: {event:#}");
        let failed = told(&server, name, "fetch-failed");
        let (result, words) = match name {
            "html" => (
                "sts-policy-fetch-error",
                "\"text/html\", and should as text/plain",
            ),
            "redirect" => (
                "sts-policy-fetch-error",
                "301, a redirect, which may not be followed",
            ),
            "missing" => ("sts-policy-fetch-error", "answers 404, and should 200"),
            "large" => ("sts-policy-invalid", "longer than 65536 bytes"),
            "nonsense" => ("sts-policy-invalid", "a line is not"),
            "expired" => ("sts-webpki-invalid", "has expired"),
            "strange" => (
                "sts-webpki-invalid",
                "no certificate authority that is trusted here",
            ),
            _ => ("sts-webpki-invalid", "and should be for mta-sts."),
        };
        let cause = failed["cause"].as_str().unwrap_or_default();
        assert!(cause.contains(words), "{name}: {failed:#}");
        assert!(
            failed["result"] == result && failed["mode"].is_null(),
            "{name}: {failed:#}"
        );
        // Not again with the next mail.
        assert_eq!(server.fate(&send(&server, name))["kind"], "delivered");
        let asked = w.requests_of(name);
        let certified = !matches!(name, "expired" | "strange" | "otherwise");
        assert_eq!(
            asked,
            usize::from(certified),
            "{name}: {:?}",
            w.web.requests()
        );
    }
    // The redirect was not followed, and nothing but the policy was asked for.
    let mut requests = w.web.requests();
    assert_eq!(requests.len(), 6, "{requests:?}");
    requests.retain(|r| !r.ends_with("/.well-known/mta-sts.txt"));
    assert!(requests.is_empty(), "{requests:?}");
    let kept: Vec<_> = std::fs::read_dir(server.dir().join("spool/mta-sts"))
        .expect("the folder of policies")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(kept, ["silent.test"]);
    // A web server inside: its address is refused as one of an MX would be.
    let inner = format!(
        "{}delivery.allow_private = [\"127.0.7.0/24\"]\ntls.report.enabled = true\n",
        w.settings(&nsd)
    );
    server.stop();
    let server = Server::start(&inner);
    assert_eq!(server.fate(&send(&server, "silent"))["kind"], "delivered");
    let failed = told(&server, "silent", "fetch-failed");
    let cause = failed["cause"].as_str().unwrap_or_default();
    assert!(
        cause.contains("has the address 127.0.3.2, a loopback address"),
        "{failed:#}"
    );
    // The domain hears of it in its report.
    let report = eventually(10, || {
        let out = server.courser(&["tls", "report", "--domain", "silent.test"]);
        serde_json::from_slice::<Value>(&out.stdout).ok()
    });
    let policy = &report.expect("a report")["policies"][0];
    assert_eq!(policy["policy"]["policy-type"], "sts", "{policy:#}");
    let failed = &policy["failure-details"][0];
    assert_eq!(
        failed["result-type"], "sts-policy-fetch-error",
        "{policy:#}"
    );
    assert_eq!(failed["failed-session-count"], 1, "{policy:#}");
}

pub(crate) fn who_is_not_asked() {
    let hosts: &[(&str, Shows)] = &[("other", Misnamed)];
    let specs = ["routed", "off", "plain", "optional"].map(|name| Spec {
        name,
        hosts,
        policy: ENFORCE,
    });
    let Some(w) = world(3, &specs) else { return };
    let nsd = w.nsd(Some("1"));
    let route = format!(
        "[[route]]\ndomain = \"routed.test\"\nto = [\"{}\"]\n\
         [[tls.domain]]\ndomains = [\"off.test\"]\nlevel = \"off\"\n",
        w.receiver("other.routed.test").address
    );
    let server = Server::start(&(w.settings(&nsd) + &route));
    for name in ["routed", "off"] {
        assert_eq!(
            server.fate(&send(&server, name))["kind"],
            "delivered",
            "{name}"
        );
    }
    // Who would rather have it delivered (RFC 8689 5).
    let to = ["<you@optional.test>".to_owned()];
    let body = [b"TLS-Required: No\r\n".as_slice(), &small("optional")].concat();
    let id = submit(server.address, "<me@sender.test>", &to, &body);
    assert_eq!(server.fate(&id)["kind"], "delivered");
    for settings in ["tls.mta_sts = false\n", "tls.level = \"off\"\n"] {
        let server = Server::start(&(w.settings(&nsd) + settings));
        assert_eq!(
            server.fate(&send(&server, "plain"))["kind"],
            "delivered",
            "{settings}"
        );
    }
    assert_eq!(w.web.requests(), [""; 0]);
    // The record is missing, and so nobody is asked although there is a policy.
    let without = w.nsd(None);
    let server = Server::start(&w.settings(&without));
    assert_eq!(server.fate(&send(&server, "plain"))["kind"], "delivered");
    assert_eq!(w.web.requests(), [""; 0]);
    // A policy for the same mail is enforced as soon as it is asked for.
    let server = Server::start(&w.settings(&nsd));
    assert_eq!(server.fate(&send(&server, "plain"))["kind"], "deferred");
    assert_eq!(w.requests_of("plain"), 1);
}

/// Changes what is kept of a policy.
fn change_kept(server: &Server, name: &str, change: impl FnOnce(&mut Value)) {
    let file = server.dir().join(format!("spool/mta-sts/{name}.test"));
    let text = std::fs::read_to_string(&file).expect("a policy");
    let mut kept: Value = serde_json::from_str(&text).expect("JSON");
    change(&mut kept);
    std::fs::write(file, kept.to_string()).expect("a policy");
}

fn kept_id(dir: &Path, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(dir.join(format!("spool/mta-sts/{name}.test"))).ok()?;
    let kept: Value = serde_json::from_str(&text).ok()?;
    Some(kept["id"].as_str()?.to_owned())
}

pub(crate) fn policies_outlive_restarts() {
    let specs = ["kept", "due", "damaged"].map(|name| Spec {
        name,
        hosts: &[("mx", Right), ("other", Right)],
        policy: ENFORCE,
    });
    let Some(mut w) = world(4, &specs) else {
        return;
    };
    let nsd = w.nsd(Some("1"));
    let mut server = Server::start(&w.settings(&nsd));
    let delivered = |server: &Server, name: &str| {
        let event = server.fate(&send(server, name));
        assert_eq!(event["kind"], "delivered", "{event:#}");
        let verified = event["tls"]["verified"] == "authorities";
        assert_eq!(
            verified,
            event["peer_host"] == format!("mx.{name}.test"),
            "{event:#}"
        );
        verified
    };
    for spec in &specs {
        assert!(delivered(&server, spec.name));
        let there = eventually(20, || kept_id(server.dir(), spec.name));
        assert_eq!(there.as_deref(), Some("1"));
    }
    // A restart, and the web server is gone, and what DNS had too: the policy stays in force.
    let without = w.nsd(None);
    server.stop();
    w.web.stop();
    server.configure(&w.settings(&without));
    server.restart();
    assert!(delivered(&server, "kept"));
    server.stop();
    // Another id, which can't be fetched: as before.
    w.web = Web::start(w.dir.path(), w.web.ip);
    w.publish_as("kept", 503, &[], "");
    let another = w.nsd(Some("2"));
    server.configure(&w.settings(&another));
    server.restart();
    assert!(delivered(&server, "kept"));
    let failed = told(&server, "kept", "fetch-failed");
    assert_eq!(failed["mode"], "enforce", "{failed:#}");
    assert_eq!(kept_id(server.dir(), "kept").as_deref(), Some("1"));
    server.stop();
    // It can be fetched, and says something else.
    w.publish("kept", "mode: none; max_age: 600");
    let before = w.requests_of("kept");
    server.restart();
    let event = server.fate(&send(&server, "kept"));
    assert!(
        event["kind"] == "delivered" && event["tls"]["verified"].is_null(),
        "{event:#}"
    );
    assert_eq!(told(&server, "kept", "changed")["mode"], "none");
    assert_eq!(w.requests_of("kept"), before + 1);
    let there = eventually(20, || kept_id(server.dir(), "kept").filter(|id| id == "2"));
    assert!(there.is_some(), "{:?}", kept_id(server.dir(), "kept"));
    server.stop();
    // One is damaged, one was fetched long ago, and no mail is there for either.
    change_kept(&server, "due", |kept| {
        let fetched = kept["fetched"].as_i64().expect("a time");
        kept["fetched"] = json!(fetched - 80_000);
    });
    change_kept(&server, "damaged", |kept| {
        kept["policy"] = json!("version: STSv2")
    });
    w.publish("due", "mode: testing; mx: mx.%; max_age: 86400");
    let before = w.requests_of("due");
    server.restart();
    assert_eq!(told(&server, "due", "changed")["mode"], "testing");
    assert_eq!(w.requests_of("due"), before + 1);
    let said = server.log();
    assert!(
        said.contains("damaged.test") && said.contains("is no policy of MTA-STS"),
        "{said}"
    );
    // What was damaged is fetched anew.
    let before = w.requests_of("damaged");
    assert!(delivered(&server, "damaged"));
    assert_eq!(w.requests_of("damaged"), before + 1);
    server.stop();
    // One that holds no longer is gone.
    change_kept(&server, "due", |kept| {
        kept["fetched"] = json!(1_700_000_000)
    });
    server.configure(&w.settings(&without));
    server.restart();
    let event = server.fate(&send(&server, "due"));
    assert!(
        event["kind"] == "delivered" && event["tls"]["verified"].is_null(),
        "{event:#}"
    );
    assert_eq!(kept_id(server.dir(), "due"), None);
}

pub(crate) fn a_domain_is_fetched_once_for_all_shards() {
    let names = ["one", "two", "three", "four"];
    let specs = names.map(|name| Spec {
        name,
        hosts: &[("mx", Right)],
        policy: ENFORCE,
    });
    let Some(w) = world(5, &specs) else { return };
    let nsd = w.nsd(Some("1"));
    let server = Server::start(&format!("{}server.shards = 4\n", w.settings(&nsd)));
    let address = server.address;
    let clients: Vec<_> = (0..16)
        .map(|_| {
            std::thread::spawn(move || {
                for name in names {
                    let to = [format!("<you@{name}.test>")];
                    submit(address, "<me@sender.test>", &to, &small("many"));
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("a client");
    }
    server.wait_events("delivered", 64, |e| e["tls"]["verified"] == "authorities");
    let mut requests = w.web.requests();
    requests.sort();
    requests.dedup();
    assert_eq!(
        (requests.len(), w.web.requests().len()),
        (4, 4),
        "{:?}",
        w.web.requests()
    );
}

pub(crate) fn requiretls_by_a_policy() {
    let testing = "mode: testing; mx: mx.%; max_age: 86400";
    let specs = [
        enforced("sender"),
        enforced("vouched"),
        Spec {
            name: "tested",
            hosts: &[("mx", Right)],
            policy: testing,
        },
        enforced("later"),
    ];
    let Some(w) = world(6, &specs) else { return };
    w.publish_as("later", 503, &[], "");
    let nsd = w.nsd(Some("1"));
    let here = w.authority.issue(&["courser.test"]);
    let server = Server::start(&format!(
        "{}tls.certificate = [{}]\n",
        w.settings(&nsd),
        here.toml(w.dir.path(), "here")
    ));
    let client = Client::hello(server.address);
    let mut client = client.start_tls(w.authority.client(None), "courser.test");
    for (name, kind, words) in [
        // DNSSEC vouches for nothing here.
        ("vouched", "delivered", "authorities"),
        ("tested", "bounced", "neither DNSSEC nor MTA-STS vouches"),
        // Who knows what its policy will say.
        ("later", "deferred", "as far as can be found out now"),
    ] {
        let to = [format!("<you@{name}.test>")];
        let id = client.submit("<me@sender.test> REQUIRETLS", &to, &small("required"));
        let event = server.fate(&id);
        let right = event["kind"] == kind && event.to_string().contains(words);
        assert!(right, "{name}: {event:#}");
    }
    let mail = &w.receiver("mx.vouched.test").wait(1)[0];
    assert!(
        mail.tls && mail.mail.contains(" REQUIRETLS"),
        "{}",
        mail.mail
    );
}

pub(crate) fn a_probe_shows_the_policy() {
    let specs = [
        enforced("right"),
        Spec {
            name: "misnamed",
            hosts: &[("mx", Misnamed)],
            policy: ENFORCE,
        },
        Spec {
            name: "unnamed",
            hosts: &[("other", Right)],
            policy: ENFORCE,
        },
        Spec {
            name: "testing",
            hosts: &[("other", Misnamed)],
            policy: "mode: testing; mx: mx.%; max_age: 600",
        },
        Spec {
            name: "broken",
            hosts: &[("other", Misnamed)],
            policy: ENFORCE,
        },
    ];
    let Some(w) = world(7, &specs) else { return };
    w.publish_as("broken", 404, &[], "");
    let nsd = w.nsd(Some("1"));
    let dir = scratch();
    let server = Server::prepare(dir.path(), &w.settings(&nsd));
    let config = server.config().display().to_string();
    for spec in specs {
        let domain = format!("{}.test", spec.name);
        let words = ["tls", "probe", &domain, "--config", &config, "--wait", "5"];
        let out = run(&[&words[..], &["--json"]].concat());
        let report: Value = serde_json::from_slice(&out.stdout).expect("JSON");
        let what = format!("{report:#}");
        let sts = &report["mta_sts"];
        let (delivers, level, mode, not_allowed) = match spec.name {
            "right" => (true, "verified", "enforce", json!([])),
            "misnamed" => (false, "verified", "enforce", json!([])),
            "unnamed" => (false, "", "enforce", json!([])),
            "testing" => (
                true,
                "opportunistic",
                "testing",
                json!(["other.testing.test"]),
            ),
            _ => (true, "opportunistic", "", json!([])),
        };
        assert_eq!(out.status.success(), delivers, "{what}");
        assert_eq!(report["level"], level, "{what}");
        assert_eq!(
            (&sts["mode"], &sts["not_allowed"]),
            (&json!(mode), &not_allowed),
            "{what}"
        );
        let said = String::from_utf8_lossy(&run(&words).stdout).into_owned();
        let words = match spec.name {
            "unnamed" => "allows none of its MX hosts (other.unnamed.test)",
            "testing" => "its MTA-STS policy: testing for 600 s; mx.testing.test",
            "broken" => "its MTA-STS policy can't be fetched: the policy's server answers 404",
            _ => "its MTA-STS policy: enforce for 86400 s; mx.",
        };
        assert!(said.contains(words), "{said}");
    }
    // No mail, and nothing is kept.
    assert!(w.receivers.iter().all(|(_, r)| r.count_of("MAIL") == 0));
    assert!(!dir.path().join("spool/mta-sts").exists());
}
