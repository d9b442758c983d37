//! Plan → a connection that takes transactions: host after host, address after address.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use courser_core::dns::Name;
use courser_core::feedback::verdict::Cause as LocalCause;
use courser_core::feedback::verdict::{Stage, Verdict};
use courser_core::route::tls::Level;
use courser_core::route::tlsrpt::{ResultType, Session};
use courser_core::route::{Plan, PlanHost};
use courser_core::smtp::client::{self, Cause, Event, Failure, Options, State, TlsMode};
use courser_core::smtp::extension::Capabilities;
use tokio::sync::Notify;

use super::auth::Identity;
use super::link::{Link, Paused};
use super::transaction::Transactions;
use super::wanted::{Wanted, wanted};
use super::{LaneTask, failure_verdict};
use crate::events;
use crate::feedback::settle::Said;
use crate::login::SmartHost;
use crate::net::clock;
use crate::net::tcp::Stream;
use crate::net::tls::{Conn, Fault, Trust};
use crate::shard::Shard;
use crate::tls_reports::Sessions;

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its name in the plan.
    pub host: Arc<str>,
    /// Its address.
    pub address: SocketAddr,
    /// Our address.
    pub local: IpAddr,
    /// How long connect, greeting and EHLO took.
    pub connect: Duration,
    /// What it offers.
    pub capabilities: Capabilities,
    /// How the connection is encrypted; `None`: not.
    pub tls: Option<events::Tls>,
    /// What this connection, and those before it that came to nothing, are for TLS reports.
    pub sessions: Rc<Sessions>,
}

/// No host of the plan takes us now.
#[derive(Clone, Debug)]
pub struct Unreachable {
    /// What the last one's trouble means.
    pub verdict: Verdict,
    /// It, in words: the peer's reply or the local cause.
    pub said: Said,
    /// Which host.
    pub host: Option<Arc<str>>,
    /// Which address.
    pub address: Option<SocketAddr>,
    /// What the connections are for TLS reports.
    pub sessions: Rc<Sessions>,
}

/// Tries the hosts of `plan` in order, at most `max_hosts` of them, leaving out those that are
/// known to be dead.
///
/// # Errors
/// The trouble of the last host that was tried, or of the first dead one if all are.
pub async fn establish(
    shard: &Rc<Shard>,
    task: &LaneTask,
    plan: &Plan,
) -> Result<(Link, Peer), Unreachable> {
    let config = shard.config();
    let mut last = Unreachable {
        verdict: LocalCause::Unreachable.verdict(),
        said: Said::locally("no host of the domain has an address that the source can reach"),
        host: None,
        address: None,
        sessions: Rc::default(),
    };
    let mut sessions = Sessions::default();
    // "Never" (RFC 7504) holds only if every host says so.
    let mut never = plan.hosts.len() <= config.delivery.max_hosts;
    let mut tried = 0;
    for host in &plan.hosts {
        if tried == config.delivery.max_hosts {
            break;
        }
        let mut reached_for = false;
        for &ip in &host.addresses {
            let address = SocketAddr::new(ip, host.port);
            if task
                .source_address
                .is_some_and(|s| s.is_ipv4() != ip.is_ipv4())
            {
                never = false;
                continue;
            }
            if shard.host_dead_until(address).is_some() {
                never = false;
                if last.host.is_none() {
                    last.said = Said::locally(format!(
                        "{} [{ip}] could not be reached a while ago",
                        host.name
                    ));
                    last.host = Some(host.name.clone());
                    last.address = Some(address);
                    last.verdict = LocalCause::Unreachable.verdict();
                }
                continue;
            }
            if !std::mem::replace(&mut reached_for, true) {
                tried += 1;
            }
            let reaching = reach_or_fall_back(shard, task, host, address, &mut sessions);
            // In a box: it is over when the session begins, and all would have room for it.
            match Box::pin(reaching).await {
                Ok((link, peer)) if task.demand.required && !peer.capabilities.requiretls => {
                    shard.host_alive(address);
                    // Another host may offer it (RFC 8689 4.2.1).
                    last = lacks_requiretls(peer);
                    never &= last.verdict.permanent;
                    part(link).await;
                }
                Ok((link, mut peer)) => {
                    shard.host_alive(address);
                    peer.sessions = Rc::new(sessions);
                    return Ok((link, peer));
                }
                Err(trouble) => {
                    // A host that only refuses one more connection is not dead.
                    let refuses = trouble.unreachable.said.code.is_some();
                    if trouble.host_is_dead && !(refuses && shard.lane_works(task)) {
                        shard.host_failed(address);
                    }
                    last = trouble.unreachable;
                    never &= last.verdict.permanent;
                }
            }
        }
    }
    last.verdict.permanent &= never;
    last.sessions = Rc::new(sessions);
    Err(last)
}

/// A host that would take the mail, and doesn't promise what it asks for.
fn lacks_requiretls(peer: Peer) -> Unreachable {
    let cause = client::Cause::RequireTlsNotOffered;
    Unreachable {
        verdict: LocalCause::RequireTls.verdict(),
        said: Said::locally(format!("{} [{}]: {cause}", peer.host, peer.address.ip())),
        host: Some(peer.host),
        address: Some(peer.address),
        sessions: Rc::default(),
    }
}

/// Says goodbye.
async fn part(mut link: Link) {
    link.machine().quit();
    let mut hear = |_: &client::Session, _: &mut Transactions, _: Event| {};
    let never = Notify::new();
    link.drive(&mut Transactions::default(), &mut hear, &never, None)
        .await;
}

struct Trouble {
    unreachable: Unreachable,
    host_is_dead: bool,
    /// There is no TLS with it.
    tls: Option<Fault>,
}

/// Connects to one address. Where its TLS is broken and plaintext is allowed, it is spoken to in
/// plaintext (RFC 7435), for a while without trying.
async fn reach_or_fall_back(
    shard: &Rc<Shard>,
    task: &LaneTask,
    plan_host: &PlanHost,
    address: SocketAddr,
    sessions: &mut Sessions,
) -> Result<(Link, Peer), Trouble> {
    let host = plan_host.name.clone();
    let config = shard.config();
    // Mail that would rather be delivered than encrypted says nothing of policies; reports are such.
    let counts = config.tls.report.enabled && !task.demand.optional;
    let mut session = Session {
        host: (&*host).into(),
        receiving_ip: None,
        sending_ip: task.source_address,
        tlsa: None,
        fault: None,
        fault_by_test: None,
    };
    let wanted = match wanted(shard.dns(), &config, (task.tls, &task.demand), plan_host).await {
        Ok(wanted) => wanted,
        Err(fault) => {
            shard.tell_tls_failed(task, (&host, address), &fault, false);
            if counts {
                session.tlsa = Name::parse(&host).ok().map(|name| (name, [].into()));
                session.fault = Some(for_report(&fault));
                sessions.push(session);
            }
            return Err(no_tls(&host, address, LocalCause::DnsTemporary, fault));
        }
    };
    let may_fall_back = wanted.level == Level::Opportunistic && !task.implicit_tls;
    if may_fall_back && shard.is_tls_broken(address) {
        return reach(shard, task, host, address, &Wanted::NOTHING).await;
    }
    let done = reach(shard, task, host.clone(), address, &wanted).await;
    if counts && (wanted.level != Level::Off || task.implicit_tls) {
        session.receiving_ip = Some(address.ip());
        session.tlsa.clone_from(&wanted.tlsa);
        session.fault = match &done {
            Ok((link, peer)) => {
                session.sending_ip = Some(peer.local);
                // What mail goes by doesn't say what a policy would find that is only tested.
                if matches!(wanted.trust, Trust::Anyone) && task.sts.is_testing() {
                    let chain = link.stream().peer_chain();
                    let client = shard.shared().tls();
                    let judged = client.judge(&host, &chain, clock::wall());
                    session.fault_by_test = judged.as_ref().err().map(for_report);
                }
                no_tls_with(peer)
            }
            Err(trouble) => trouble.tls.as_ref().map(for_report),
        };
        // A connection that ended before it was about TLS isn't counted.
        if done.is_ok() || session.fault.is_some() {
            sessions.push(session);
        }
    }
    match done {
        Err(Trouble {
            tls: Some(fault),
            unreachable,
            ..
        }) => {
            shard.tell_tls_failed(task, (&host, address), &fault, may_fall_back);
            if may_fall_back {
                shard.tls_failed(address);
                return reach(shard, task, host, address, &Wanted::NOTHING).await;
            }
            Err(Trouble {
                unreachable,
                // It answers, and others may want less of it.
                host_is_dead: false,
                tls: Some(fault),
            })
        }
        done => done,
    }
}

/// Why there is no TLS with a peer that takes mail without.
fn no_tls_with(peer: &Peer) -> Option<(ResultType, String)> {
    match (&peer.tls, peer.capabilities.starttls) {
        (Some(_), _) => None,
        (None, true) => Some((
            ResultType::ValidationFailure,
            "it offers STARTTLS and refuses it".to_owned(),
        )),
        (None, false) => Some((
            ResultType::StarttlsNotSupported,
            "it doesn't offer STARTTLS".to_owned(),
        )),
    }
}

fn for_report(fault: &Fault) -> (ResultType, String) {
    (fault.result.clone(), fault.text.clone())
}

fn no_tls(host: &Arc<str>, address: SocketAddr, cause: LocalCause, fault: Fault) -> Trouble {
    Trouble {
        host_is_dead: false,
        unreachable: Unreachable {
            verdict: cause.verdict(),
            said: Said::locally(format!("{host} [{}]: {fault}", address.ip())),
            host: Some(host.clone()),
            address: Some(address),
            sessions: Rc::default(),
        },
        tls: Some(fault),
    }
}

/// Connects to one address and speaks until the session takes transactions.
async fn reach(
    shard: &Rc<Shard>,
    task: &LaneTask,
    host: Arc<str>,
    address: SocketAddr,
    wanted: &Wanted,
) -> Result<(Link, Peer), Trouble> {
    let Wanted { level, trust, .. } = wanted;
    let level = *level;
    let config = shard.config();
    let began = clock::now();
    let timeouts = &config.delivery.timeouts;
    let no_tls = |fault| no_tls(&host, address, LocalCause::TlsFailed, fault);
    let mut attempt = match level {
        Level::Off if !task.implicit_tls => None,
        _ => {
            let client = shard.shared().tls();
            Some(client.attempt(&host, trust).map_err(no_tls)?)
        }
    };
    let identity = identity(shard, task, &host, address).map_err(|t| *t)?;
    let stream = Stream::connect(address, task.source_address, timeouts.connect)
        .await
        .map_err(|error| {
            let cause = match error.kind() {
                std::io::ErrorKind::ConnectionRefused => LocalCause::Refused,
                std::io::ErrorKind::TimedOut => LocalCause::ConnectTimeout,
                std::io::ErrorKind::AddrNotAvailable => LocalCause::Local,
                _ => LocalCause::Unreachable,
            };
            Trouble {
                host_is_dead: cause != LocalCause::Local,
                tls: None,
                unreachable: Unreachable {
                    verdict: cause.verdict(),
                    said: Said::locally(format!("connect to {host} [{}]: {error}", address.ip())),
                    host: Some(host.clone()),
                    address: Some(address),
                    sessions: Rc::default(),
                },
            }
        })?;
    let local = stream.local().ip();
    let mut stream = Conn::new(stream);
    let mode = match level {
        _ if task.implicit_tls => {
            let attempt = attempt.take();
            let shaking = async {
                match attempt {
                    Some(attempt) => stream.start_client(attempt).await,
                    None => Ok(()),
                }
            };
            let done = tokio::time::timeout(timeouts.ehlo, Box::pin(shaking)).await;
            if let Err(fault) = done.unwrap_or_else(|_| Err(Fault::silent(timeouts.ehlo))) {
                stream.abort();
                return Err(no_tls(fault));
            }
            TlsMode::Implicit
        }
        Level::Off => TlsMode::Off,
        Level::Opportunistic => TlsMode::Opportunistic,
        Level::Required | Level::Verified => TlsMode::Required,
    };
    let options = Options {
        lmtp: task.lmtp,
        pipelining: config.delivery.pipelining && !shard.lies_about_pipelining(address),
        chunking: config.delivery.chunking,
        eight_bit: match config.delivery.eight_bit {
            crate::config::EightBit::Refuse => client::EightBit::Refuse,
            crate::config::EightBit::Send => client::EightBit::SendAnyway,
        },
        tls: mode,
        auth: identity.as_ref().map(|host| host.auth()),
        timeouts: client::Timeouts {
            greeting: timeouts.greeting,
            hello: timeouts.ehlo,
            starttls: timeouts.ehlo,
            mail: timeouts.mail,
            rcpt: timeouts.rcpt,
            data: timeouts.data,
            block: timeouts.data_block,
            end: timeouts.data_end,
            quit: timeouts.quit,
        },
        ..Options::new(task.ehlo_name.clone())
    };
    let mut link = Link::new(stream, options, attempt);
    link.set_identity(identity.map(|host| Identity::new(shard.clone(), host)));
    let mut ready: Option<Capabilities> = None;
    let mut broken: Option<(Failure, Unreachable)> = None;
    let never = Notify::new();
    let paused = {
        let mut hear = |machine: &client::Session, _: &mut Transactions, event: Event| match event {
            Event::Ready(capabilities) => ready = Some(capabilities),
            Event::Broken { failure } => {
                let verdict = failure_verdict(&failure, machine.reply(), task);
                let mut said = super::failure_text(&failure, machine.reply(), task);
                if said.code.is_none() {
                    said.text = format!("{host} [{}]: {}", address.ip(), said.text);
                }
                let unreachable = Unreachable {
                    verdict,
                    said,
                    host: Some(host.clone()),
                    address: Some(address),
                    sessions: Rc::default(),
                };
                broken = Some((failure, unreachable));
            }
            // Nothing was begun.
            Event::Recipient { .. } | Event::Message { .. } | Event::Finished { .. } => {}
        };
        link.drive(&mut Transactions::default(), &mut hear, &never, None)
            .await
    };
    match (paused, ready, broken) {
        (Paused::CanBegin, Some(capabilities), _) => {
            link.set_identity(None);
            if let Some(route) = &task.login {
                shard.shared().logins.smart_host_takes_us(route);
            }
            let connect = clock::now().since(began);
            let tls = link.stream().facts().map(|facts| events::Tls {
                verified: trust.word().to_owned(),
                ..facts.into()
            });
            Ok((
                link,
                Peer {
                    host,
                    address,
                    local,
                    connect,
                    capabilities,
                    tls,
                    sessions: Rc::default(),
                },
            ))
        }
        (_, _, Some((failure, mut unreachable))) => {
            if let (Some(route), State::Auth | State::Hello) = (&task.login, failure.state)
                && let Some(trouble) = auth_trouble(&failure, &unreachable)
            {
                shard.shared().logins.smart_host_refuses(route, &trouble);
            }
            let host_is_dead = matches!(failure.state, State::Greeting | State::Hello);
            let first_answer_fails = failure.state == State::Hello
                && matches!(failure.cause, Cause::Closed | Cause::Timeout);
            let tls = match (link.fault(), failure.cause) {
                (Some(fault), _) => Some(fault.clone()),
                (None, Cause::TlsNotOffered) => Some(Fault::new(
                    ResultType::StarttlsNotSupported,
                    format!("it doesn't offer STARTTLS, and TLS is {level} here"),
                )),
                (None, Cause::PlaintextInjected) => Some(Fault::new(
                    ResultType::ValidationFailure,
                    "it, or somebody in between, sent plaintext behind its answer to STARTTLS",
                )),
                // A peer that breaks off or is silent after STARTTLS has no working TLS.
                (None, _) if matches!(failure.state, State::StartTls | State::Handshake) => Some(
                    Fault::new(ResultType::ValidationFailure, unreachable.said.line()),
                ),
                // In TLS 1.3 our handshake ends before the server's (RFC 8446 2): that it comes to
                // nothing there shows in place of the first answer.
                (None, _) if first_answer_fails && link.stream().facts().is_some() => Some(
                    Fault::new(ResultType::ValidationFailure, unreachable.said.line()),
                ),
                (None, _) => None,
            };
            if let Some(fault) = &tls
                && unreachable.said.code.is_none()
                && !unreachable.said.text.contains(&fault.text)
            {
                unreachable.said.text = format!("{host} [{}]: {fault}", address.ip());
            }
            Err(Trouble {
                unreachable,
                host_is_dead,
                tls,
            })
        }
        _ => Err(Trouble {
            host_is_dead: true,
            tls: None,
            unreachable: Unreachable {
                verdict: LocalCause::Closed(Stage::Greeting).verdict(),
                said: Said::locally(format!("{host} [{}]: closed the connection", address.ip())),
                host: Some(host),
                address: Some(address),
                sessions: Rc::default(),
            },
        }),
    }
}

/// User and password for the host, where the route has them.
///
/// # Errors
/// The route has them no more, since a reload a moment ago; nothing is sent there as nobody.
fn identity(
    shard: &Shard,
    task: &LaneTask,
    host: &Arc<str>,
    address: SocketAddr,
) -> Result<Option<Arc<SmartHost>>, Box<Trouble>> {
    let Some(route) = &task.login else {
        return Ok(None);
    };
    let found = shard.shared().logins.loaded().smart_host(route).cloned();
    let gone = || Trouble {
        host_is_dead: false,
        tls: None,
        unreachable: Unreachable {
            verdict: LocalCause::Local.verdict(),
            said: Said::locally(format!(
                "the configuration has no user and password for route {route} any more"
            )),
            host: Some(host.clone()),
            address: Some(address),
            sessions: Rc::default(),
        },
    };
    found.map(Some).ok_or_else(|| Box::new(gone()))
}

/// What an operator has to see to before mail goes to a smart host again.
fn auth_trouble(failure: &Failure, trouble: &Unreachable) -> Option<String> {
    let peer = trouble.host.as_deref().unwrap_or_default();
    match failure.cause {
        Cause::AuthRefused { .. } => Some(format!(
            "{peer} refuses our user and password: {}",
            trouble.said.line()
        )),
        Cause::AuthNotOffered | Cause::AuthNeedsTls | Cause::AuthUnproven => {
            Some(trouble.said.line())
        }
        _ => None,
    }
}
