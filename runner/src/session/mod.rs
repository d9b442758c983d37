//! Plan → Outcome: one delivery connection.
//!
//! | file | does |
//! |---|---|
//! | [`connect`] | finds a host that answers |
//! | [`auth`] | says who we are to smart hosts |
//! | [`link`] | moves bytes between the socket and the core's client machine |
//! | [`probe`] | the same without mail, to say what would happen |
//! | [`transaction`] | messages on their way |
//! | [`wanted`] | how much TLS a host gets, and with whom |
//! | this one | takes deliveries from the lane and reports what became of them |

pub mod auth;
pub mod connect;
pub mod link;
pub mod probe;
pub mod transaction;
pub mod wanted;

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use courser_core::feedback::verdict::{Basis, Cause as LocalCause, Class, Scope, Stage, Verdict};
use courser_core::route::Plan;
use courser_core::route::tls::{Demand, Level};
use courser_core::smtp::client::{
    self, Cause, EhloName, Event, Failure, Outcome, State, TransactionId,
};
use courser_core::smtp::reply::Reply;
use courser_core::traffic::scheduler::{LaneId, SessionId, SiteId, SourceId};

use self::connect::Peer;
use self::link::{Link, Paused};
use self::transaction::{Leased, Transaction, Transactions};
use crate::config::Config;
use crate::feedback::settle::{Attempt, Fate, Said};
use crate::net::clock;
use crate::queue::message::Message;
use crate::route::mta_sts::SitePolicies;
use crate::shard::{Shard, Work};

/// What a session is for.
#[derive(Clone)]
pub struct LaneTask {
    /// The connection, in the scheduler.
    pub session: SessionId,
    /// The lane.
    pub lane: LaneId,
    /// Hosts and addresses of its site.
    pub plan: Arc<Plan>,
    /// The site, for people.
    pub site: Arc<str>,
    /// The provider that a rule names.
    pub provider: Option<Arc<str>>,
    /// The source's name.
    pub source: Arc<str>,
    /// The address to send from.
    pub source_address: Option<IpAddr>,
    /// What the source calls itself.
    pub ehlo_name: EhloName,
    /// LMTP instead of SMTP.
    pub lmtp: bool,
    /// How much TLS its mail wants.
    pub tls: Level,
    /// What its mail itself asks for.
    pub demand: Demand,
    /// The policies of the domains whose mail goes over it.
    pub sts: Rc<SitePolicies>,
    /// TLS from the first byte.
    pub implicit_tls: bool,
    /// The route whose user and password we have there; `None`: we are nobody.
    pub login: Option<Arc<str>>,
    /// The configuration when the session began, for its verdict rules.
    pub config: Arc<Config>,
    /// The source's number.
    pub source_id: SourceId,
    /// The site's number.
    pub site_id: SiteId,
}

/// The shortest pause of a session that has nothing to begin.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// Runs one connection from connect to QUIT.
pub async fn run(shard: Rc<Shard>, task: Rc<LaneTask>) {
    let plan = task.plan.clone();
    match connect::establish(&shard, &task, &plan).await {
        Ok((link, peer)) => {
            shard.session_opened(&task, &peer);
            converse(&shard, &task, link, Rc::new(peer)).await;
            shard.session_closed(&task);
        }
        // One connection too many, while others work: that says nothing about the lane's mail.
        Err(unreachable) if shard.lane_works(&task) => {
            shard.step_aside(&task, &unreachable).await;
        }
        Err(unreachable) => shard.lane_unreachable(&task, &unreachable),
    }
}

async fn converse(shard: &Rc<Shard>, task: &LaneTask, mut link: Link, peer: Rc<Peer>) {
    let config = shard.config();
    let keepalive = config.delivery.idle_keepalive;
    let bell = shard.bell(task);
    let mut transactions = Transactions::default();
    let mut next_id = 0;
    let finished = Cell::new(0_u32);
    let mut idle_since = clock::now();
    let mut quitting = false;
    loop {
        let mut idle = None;
        // What is in flight is finished first. As long as the machine would take more, the link
        // comes back at once, and this would be a loop without an end. Where it takes nothing more
        // (the peer's MAILMAX), waiting would be for nothing.
        let full = transactions.is_empty() && !link.machine().can_begin();
        if !quitting && (bell.close.get() || full) {
            quitting = true;
            link.machine().quit();
        }
        while !quitting && !bell.close.get() && link.machine().can_begin() {
            match shard.take_work(task, peer.capabilities.rcpt_max) {
                Work::Batch { message, leased } => {
                    for one in &leased {
                        shard.count_tls(task, &peer.sessions, (&message, *one));
                    }
                    idle_since = clock::now();
                    let id = TransactionId(next_id);
                    next_id = next_id.wrapping_add(1);
                    begin(
                        shard,
                        task,
                        &mut link,
                        &mut transactions,
                        id,
                        message,
                        leased,
                    )
                    .await;
                }
                Work::Wait(wait) => {
                    idle = Some(wait.min(keepalive));
                    break;
                }
                Work::Close => {
                    quitting = true;
                    link.machine().quit();
                }
            }
        }
        if idle.is_some() && transactions.is_empty() {
            let rested = clock::now().since(idle_since);
            if rested >= keepalive || shard.is_draining() {
                quitting = true;
                link.machine().quit();
                idle = None;
            } else {
                idle = idle.map(|i| i.min(keepalive - rested));
            }
        }
        // With answers to come a pause of nothing would be a loop without an end.
        idle = idle.map(|i| i.max(PAUSE_MIN));
        let mut hear =
            |machine: &client::Session, transactions: &mut Transactions, event: Event| {
                let heard = Heard {
                    shard,
                    task,
                    peer: &peer,
                    finished: &finished,
                };
                heard.event(machine, transactions, event);
                if let Event::Finished { .. } = event {
                    idle_since = clock::now();
                }
            };
        match link
            .drive(&mut transactions, &mut hear, &bell.ring, idle)
            .await
        {
            Paused::CanBegin => {}
            Paused::Over => break,
        }
    }
    // The machine tells an outcome for each; this is for a machine that doesn't.
    for transaction in transactions.drain() {
        give_back(shard, &transaction);
    }
}

async fn begin(
    shard: &Rc<Shard>,
    task: &LaneTask,
    link: &mut Link,
    transactions: &mut Transactions,
    id: TransactionId,
    message: Arc<Message>,
    leased: Vec<Leased>,
) {
    match shard.body(&message).await {
        Ok(body) => {
            let transaction = Transaction::new(id, message, leased, body, clock::now());
            transactions.add(transaction);
            if let Err(misuse) = link.machine().begin(id) {
                tracing::error!(%misuse, "the delivery machine was called out of turn");
                if let Some(transaction) = transactions.remove(id) {
                    give_back(shard, &transaction);
                }
            }
        }
        Err(error) => {
            tracing::error!(message = %crate::control::MessageId(message.id()), %error, "can't read a message back from the spool; it waits for its next attempt");
            let text = format!("can't read the message back from the spool: {error}");
            for l in &leased {
                let attempt = Attempt::local(Some(task), &message, *l, clock::now());
                let verdict = LocalCause::Local.verdict();
                shard.settle(
                    attempt,
                    Fate::Failed {
                        verdict,
                        said: Said::locally(text.clone()),
                        unknown: false,
                    },
                );
            }
        }
    }
}

fn give_back(shard: &Shard, transaction: &Transaction) {
    for (l, told) in transaction.leased.iter().zip(&transaction.told) {
        if !told {
            shard.put_back(*l);
        }
    }
}

/// Turns what the machine says into outcomes.
struct Heard<'a> {
    shard: &'a Rc<Shard>,
    task: &'a LaneTask,
    peer: &'a Peer,
    /// Transactions of this connection that the receiver answered.
    finished: &'a Cell<u32>,
}

impl Heard<'_> {
    fn event(&self, machine: &client::Session, transactions: &mut Transactions, event: Event) {
        match event {
            Event::Ready(_) => {}
            Event::Recipient {
                txn,
                index,
                outcome,
            } => {
                let Some(transaction) = transactions.get_mut(txn) else {
                    return;
                };
                if let Some(told) = transaction.told.get_mut(index)
                    && !std::mem::replace(told, true)
                {
                    transaction.answered |= is_answer(&outcome);
                    self.outcome(machine, transaction, index, outcome);
                }
            }
            Event::Message { txn, outcome } => {
                let Some(transaction) = transactions.get_mut(txn) else {
                    return;
                };
                transaction.answered |= is_answer(&outcome);
                for index in 0..transaction.leased.len() {
                    if !std::mem::replace(&mut transaction.told[index], true) {
                        self.outcome(machine, transaction, index, outcome);
                    }
                }
            }
            Event::Finished { txn } => {
                if let Some(transaction) = transactions.remove(txn) {
                    self.finished
                        .set(self.finished.get() + u32::from(transaction.answered));
                    give_back(self.shard, &transaction);
                }
            }
            Event::Broken { failure } => {
                if failure.pipelining_suspect {
                    self.shard.suspect_pipelining(self.peer.address);
                }
                if !matches!(failure.state, State::Idle | State::Quit | State::Closed) {
                    let verdict = failure_verdict(&failure, machine.reply(), self.task);
                    // Many receivers end a connection after so many messages, some without a word.
                    let parted = self.finished.get() > 0 && is_goodbye(&failure);
                    if !(parted && verdict.scope == Scope::Host) {
                        self.shard.lane_trouble(self.task, self.peer, &verdict);
                    }
                }
            }
        }
    }

    fn outcome(
        &self,
        machine: &client::Session,
        transaction: &Transaction,
        index: usize,
        outcome: Outcome,
    ) {
        let attempt = Attempt {
            task: Some(self.task),
            peer: Some(self.peer),
            message: &transaction.message,
            leased: transaction.leased[index],
            began: transaction.began,
            sent: transaction.sent,
            now: clock::now(),
            first: transaction.id == TransactionId(0),
        };
        let fate = match outcome {
            Outcome::Delivered {
                code,
                enhanced,
                dsn,
            } => Fate::Delivered {
                said: Said {
                    code: Some(code),
                    enhanced,
                    text: machine.reply().map(|r| reply_text(&r)).unwrap_or_default(),
                    stage: "body",
                    rule: String::new(),
                },
                reports: dsn,
            },
            Outcome::Postponed => Fate::PutBack,
            // The receiver ended a session that had already done its work: it wants a new one, and
            // each one makes progress.
            Outcome::Unsent(failure) if self.finished.get() > 0 && is_goodbye(&failure) => {
                Fate::PutBack
            }
            Outcome::Failed(failure)
                if self.finished.get() > 0 && self.is_polite_goodbye(machine, &failure) =>
            {
                Fate::PutBack
            }
            Outcome::Failed(failure) => Fate::Failed {
                verdict: failure_verdict(&failure, machine.reply(), self.task),
                said: failure_text(&failure, machine.reply(), self.task),
                unknown: false,
            },
            Outcome::Unsent(failure) => self.broken(machine, &failure, false),
            Outcome::Unknown(failure) => self.broken(machine, &failure, true),
        };
        self.shard.settle(attempt, fate);
    }

    /// 421 at MAIL after messages that went well, and no word about us: so many per connection.
    fn is_polite_goodbye(&self, machine: &client::Session, failure: &Failure) -> bool {
        let polite = |v: &Verdict| matches!(v.class, Class::Busy | Class::Other | Class::Network);
        matches!(failure.cause, Cause::Reply { code, .. } if code.get() == 421)
            && failure.state == State::Mail
            && polite(&failure_verdict(failure, machine.reply(), self.task))
    }

    /// The session ended and nobody refused the message: whatever was said at its end (503 to a
    /// pipelined command, 502 to RSET), no message is given up for it.
    fn broken(&self, machine: &client::Session, failure: &Failure, unknown: bool) -> Fate {
        let verdict = Verdict {
            permanent: false,
            ..failure_verdict(failure, machine.reply(), self.task)
        };
        Fate::Failed {
            verdict,
            said: failure_text(failure, machine.reply(), self.task),
            unknown,
        }
    }
}

/// Whether the receiver said something of its own to the message or a recipient, and not only
/// that it is leaving.
fn is_answer(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Delivered { .. } => true,
        Outcome::Failed(failure) => {
            matches!(failure.cause, Cause::Reply { code, .. } if code.get() != 421)
        }
        _ => false,
    }
}

fn is_goodbye(failure: &Failure) -> bool {
    matches!(failure.cause, Cause::Closed)
        || matches!(failure.cause, Cause::Reply { code, .. } if code.get() == 421)
}

/// The stage of a state, for the rules.
fn stage(state: State) -> Stage {
    match state {
        State::Greeting => Stage::Greeting,
        State::Hello | State::StartTls | State::Handshake | State::Auth => Stage::Hello,
        State::Mail | State::Idle | State::Reset | State::Quit | State::Closed => Stage::Mail,
        State::Rcpt => Stage::Rcpt,
        State::Data => Stage::Data,
        State::Body | State::End => Stage::Body,
    }
}

/// What a failure means: the reply by the rules, a local cause by itself.
pub fn failure_verdict(failure: &Failure, reply: Option<Reply<'_>>, task: &LaneTask) -> Verdict {
    let stage = stage(failure.state);
    let local = match failure.cause {
        Cause::Reply { code, enhanced } => {
            let bare = Reply {
                code,
                enhanced,
                text: b"",
            };
            let reply = reply.unwrap_or(bare);
            return task
                .config
                .with_rules(|rules| rules.judge(&reply, stage, task.provider.as_deref()));
        }
        Cause::Timeout => LocalCause::Timeout(stage),
        Cause::Closed => LocalCause::Closed(stage),
        // Whatever it says: mail waits until an operator has seen it.
        Cause::AuthRefused { code, enhanced } => {
            let bare = Reply {
                code,
                enhanced,
                text: b"",
            };
            let reply = reply.unwrap_or(bare);
            let judged = task
                .config
                .with_rules(|rules| rules.judge(&reply, stage, task.provider.as_deref()));
            return Verdict {
                scope: Scope::Host,
                permanent: false,
                ..judged
            };
        }
        Cause::AuthNotOffered | Cause::AuthNeedsTls | Cause::AuthUnproven => LocalCause::AuthPolicy,
        Cause::TlsNotOffered => LocalCause::TlsPolicy,
        Cause::TlsFailed => LocalCause::TlsFailed,
        Cause::Utf8NotOffered => LocalCause::NeedsSmtpUtf8,
        Cause::EightBitNotOffered | Cause::BinaryNotOffered => LocalCause::NeedsEightBit,
        Cause::TooLarge { .. } => LocalCause::TooLarge,
        Cause::RequireTlsNotOffered => LocalCause::RequireTls,
        Cause::NoRecipients | Cause::EnvelopeMissing | Cause::CommandTooLong => LocalCause::Local,
        _ => LocalCause::Garbled(stage),
    };
    local.verdict()
}

/// A failure in words, with the peer's codes.
pub fn failure_text(failure: &Failure, reply: Option<Reply<'_>>, task: &LaneTask) -> Said {
    let at = stage(failure.state);
    let stage = match failure.state {
        State::Auth => "auth",
        _ => stage_name(at),
    };
    match failure.cause {
        Cause::Reply { code, enhanced } | Cause::AuthRefused { code, enhanced } => {
            let rule = reply
                .filter(|_| !task.config.rules.is_empty())
                .and_then(|r| {
                    let provider = task.provider.as_deref();
                    task.config
                        .with_rules(|rules| match rules.explain(&r, at, provider).1 {
                            Basis::Configured(name) => Some(name.to_owned()),
                            _ => None,
                        })
                });
            let text = reply.map(|r| reply_text(&r)).unwrap_or_default();
            Said {
                code: Some(code),
                enhanced,
                text,
                stage,
                rule: rule.unwrap_or_default(),
            }
        }
        cause => {
            let enhanced = failure.cause.enhanced(failure.permanent);
            Said {
                code: None,
                enhanced,
                text: format!("{cause} ({})", failure.state),
                stage,
                rule: String::new(),
            }
        }
    }
}

/// A stage as it stands in events.
fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Connect => "connect",
        Stage::Greeting => "greeting",
        Stage::Hello => "ehlo",
        Stage::Mail => "mail",
        Stage::Rcpt => "rcpt",
        Stage::Data => "data",
        Stage::Body => "body",
    }
}

fn reply_text(reply: &Reply<'_>) -> String {
    reply.text().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the future of a session may take, bytes; there are tens of thousands of them.
    const FUTURE_BYTES_MAX: usize = 3 * 1024;

    fn future_bytes<F: Future>(_: impl Fn(Rc<Shard>, Rc<LaneTask>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_future_of_a_session_is_small() {
        let bytes = future_bytes(run);
        println!("the future of a session takes {bytes} bytes");
        assert!(bytes <= FUTURE_BYTES_MAX, "{bytes}");
    }
}
