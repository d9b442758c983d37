//! What happened, as events, and the counts that the control socket shows.

use std::net::SocketAddr;
use std::sync::Arc;

use courser_core::feedback::verdict::Verdict;
use courser_core::mail::dsn::Action;
use courser_core::route::mta_sts::{Applied, Mode};
use courser_core::time::Duration;

use super::Shard;
use crate::control::{DeliverySelector, MessageId};
use crate::events::{
    self, Delivery, DeliveryEvent, Dsn, Event, EventKind, Lane, Peer, Reply, Throttled, Time,
    Timing,
};
use crate::feedback::settle::{Attempt, Ending, Said};
use crate::net::clock;
use crate::net::tls::Fault;
use crate::queue::Queue;
use crate::queue::message::Message;
use crate::session::LaneTask;
use crate::session::transaction::Leased;
use crate::spool::EnvelopeView;

/// Events that a shard gathers before it gives them to the log.
const EVENTS_GATHERED: usize = 64;
/// Events that a shard holds back while the log has no room; beyond, nothing is accepted and
/// nothing more is delivered until there is.
pub const EVENTS_HELD_MAX: usize = 10_000;

impl Shard {
    /// Something happened.
    pub fn event(&self, kind: EventKind) {
        let mut gathered = self.gathered.borrow_mut();
        gathered.push(Event {
            time: Time(clock::wall_ms().max(0) as u64),
            kind,
        });
        if gathered.len() >= EVENTS_GATHERED {
            self.shared.events.try_send(&mut gathered);
        }
        drop(gathered);
        self.events_bell.notify_one();
    }

    /// Whether the event log is so far behind that nothing more should happen.
    pub fn events_are_stuck(&self) -> bool {
        self.gathered.borrow().len() >= EVENTS_HELD_MAX
    }

    /// Gives what was gathered to the log.
    pub async fn pass_events_on(&self) {
        loop {
            self.events_bell.notified().await;
            crate::net::ring::breathe().await;
            self.pass_tls_results_on();
            let mut gathered = std::mem::take(&mut *self.gathered.borrow_mut());
            self.shared.events.try_send(&mut gathered);
            if !gathered.is_empty() {
                // Waits as long as the log allows, then drops them loudly.
                self.shared.events.send(&mut gathered).await;
                self.kick();
            }
        }
    }

    /// A message was taken.
    pub fn tell_received(
        &self,
        view: &EnvelopeView<'_>,
        listener: &str,
        client_tls: Option<events::Tls>,
        commit: Duration,
    ) {
        let mut totals = self.totals.borrow_mut();
        totals.messages_received += 1;
        totals.deliveries_received += view.recipients_len() as u64;
        drop(totals);
        self.event(EventKind::Received(Box::new(events::Received {
            message: events::Message::of(*view),
            client: events::Client {
                client_address: view.client(),
                client_helo: view.helo().to_owned(),
                client_user: view.user().to_owned(),
                listener: listener.to_owned(),
                client_tls,
            },
            recipients: view.recipients_len() as u32,
            commit_ms: commit.as_millis() as u64,
        })));
    }

    /// There is no TLS with a host; `plaintext`: mail goes to it in plaintext now.
    pub fn tell_tls_failed(
        &self,
        task: &LaneTask,
        (host, address): (&str, SocketAddr),
        fault: &Fault,
        plaintext: bool,
    ) {
        let then = match plaintext {
            true => "mail goes to it in plaintext for a while",
            false => "no mail goes to it",
        };
        // Or the operator looks in vain for who asked for so much.
        let asked = match task.sts.enforced() {
            Some(sts) => format!(" (the MTA-STS policy of {} wants it)", sts.domain),
            None => String::new(),
        };
        tracing::warn!(
            source = %task.source, site = %task.site, %host, %address, level = %task.tls,
            "no TLS: {fault}; {then}{asked}"
        );
        self.event(EventKind::TlsFailed(Box::new(events::TlsFailed {
            lane: lane_of(task),
            peer: Peer {
                peer_host: host.to_owned(),
                peer_address: Some(address),
                tls: None,
            },
            level: task.tls.word().into(),
            result: fault.result.as_str().to_owned().into(),
            cause: format!("{fault}{asked}"),
            plaintext,
        })));
    }

    /// A domain's policy is not what its MX records say.
    pub fn tell_policy(&self, applied: Option<&Applied>) {
        let Some(applied) = applied.filter(|a| !a.not_allowed.is_empty()) else {
            return;
        };
        let hosts: Vec<String> = applied.not_allowed.iter().map(|h| h.to_string()).collect();
        let then = match applied.policy.mode {
            Mode::Enforce => "no mail goes to them",
            Mode::Testing | Mode::None => "mail goes to them, since it is only tested",
        };
        let (names, patterns) = (hosts.join(", "), applied.policy.patterns());
        let event = events::TlsPolicy {
            domain: applied.domain.to_string(),
            what: "not-allowed".into(),
            mode: applied.policy.mode.as_str().into(),
            cause: format!("its MX records name {names}, which it doesn't allow; {then}"),
            mx: patterns,
            hosts,
            ..events::TlsPolicy::default()
        };
        event.log();
        self.event(EventKind::TlsPolicy(Box::new(event)));
    }

    /// Intake refused something.
    pub fn tell_refused(&self, refused: events::Refused) {
        self.totals.borrow_mut().messages_refused += 1;
        self.event(EventKind::Refused(Box::new(refused)));
    }

    fn delivery_event(
        &self,
        attempt: &Attempt<'_>,
        said: &Said,
        verdict: Option<&Verdict>,
    ) -> DeliveryEvent {
        let view = attempt.message.envelope();
        let recipient = view
            .recipient(attempt.leased.recipient as usize)
            .map_or("", |r| r.address);
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        DeliveryEvent {
            message: events::Message::of(view),
            delivery: Delivery {
                delivery: selector(attempt.message, attempt.leased),
                recipient: recipient.to_owned(),
                domain: Queue::domain(recipient),
            },
            lane: attempt.task.map(lane_of),
            peer: attempt.peer.map(|p| Peer {
                peer_host: p.host.to_string(),
                peer_address: Some(p.address),
                tls: p.tls.clone(),
            }),
            reply: said.code.map(|code| Reply {
                code: code.get(),
                enhanced: said.enhanced.map(|e| e.to_string()).unwrap_or_default(),
                text: said.text.clone(),
                stage: said.stage.into(),
            }),
            verdict: verdict.map(|v| events::Verdict {
                rule: said.rule.clone(),
                ..v.into()
            }),
            cause: if said.code.is_none() {
                said.text.clone()
            } else {
                String::new()
            },
            timing: Timing {
                attempt: self.attempts(attempt.leased.delivery) + u32::from(attempt.task.is_some()),
                queued_ms: ms(attempt.message.waited(attempt.now)),
                connect_ms: attempt
                    .peer
                    .filter(|_| attempt.first)
                    .map_or(0, |p| ms(p.connect)),
                transfer_ms: attempt
                    .peer
                    .map_or(0, |_| ms(attempt.now.since(attempt.began))),
            },
            next_attempt: None,
        }
    }

    /// The receiver took it.
    pub fn tell_delivered(&self, attempt: &Attempt<'_>, said: &Said) {
        self.totals.borrow_mut().delivered += 1;
        self.count_lane(attempt.task, |l| l.delivered += 1);
        let event = self.delivery_event(attempt, said, None);
        self.event(EventKind::Delivered(Box::new(event)));
    }

    /// It did not.
    pub fn tell_failed(
        &self,
        attempt: &Attempt<'_>,
        verdict: &Verdict,
        said: &Said,
        unknown: bool,
        ending: Ending,
    ) {
        let mut event = self.delivery_event(attempt, said, Some(verdict));
        if unknown {
            let why = &said.text;
            event.cause =
                format!("{why}; the message was sent before, so it may have been delivered");
        }
        let mut totals = self.totals.borrow_mut();
        let kind = match ending {
            Ending::Bounced => {
                totals.bounced += 1;
                self.count_lane(attempt.task, |l| l.bounced += 1);
                EventKind::Bounced(Box::new(event))
            }
            Ending::Expired => {
                totals.expired += 1;
                self.count_lane(attempt.task, |l| l.bounced += 1);
                EventKind::Expired(Box::new(event))
            }
            Ending::Deferred { due, .. } => {
                totals.deferrals += 1;
                self.count_lane(attempt.task, |l| l.deferrals += 1);
                event.next_attempt = Some(Time((due.unix().max(0) as u64) * 1000));
                EventKind::Deferred(Box::new(event))
            }
        };
        drop(totals);
        self.event(kind);
    }

    /// An operator ended it.
    pub fn tell_dropped(&self, attempt: &Attempt<'_>, said: &Said) {
        self.totals.borrow_mut().suppressed += 1;
        let event = self.delivery_event(attempt, said, None);
        self.event(EventKind::Suppressed(Box::new(event)));
    }

    /// An operator holds it, or lets it go.
    pub fn tell_held(&self, message: &Arc<Message>, leased: Leased, held: bool, why: &str) {
        let attempt = Attempt::local(None, message, leased, clock::now());
        let event = Box::new(self.delivery_event(&attempt, &Said::locally(why), None));
        self.event(if held {
            EventKind::Held(event)
        } else {
            EventKind::Released(event)
        });
    }

    /// A message was taken and all of its deliveries are held, until an operator lets them go.
    pub fn tell_held_from_the_start(&self, view: EnvelopeView<'_>, why: &str) {
        for (i, recipient) in (0..).zip(view.recipients()) {
            let event = DeliveryEvent::untried(view, i, recipient.address, why);
            self.event(EventKind::Held(Box::new(event)));
        }
    }

    /// Its sender was told of these.
    pub fn tell_notified(
        &self,
        message: &Arc<Message>,
        leased: impl Iterator<Item = Leased>,
        dsn: u64,
        action: Action,
    ) {
        self.event(EventKind::Dsn(Box::new(Dsn {
            message: events::Message::of(message.envelope()),
            deliveries: leased.map(|l| selector(message, l)).collect(),
            action: action.name().into(),
            dsn: Some(MessageId(dsn)),
            cause: String::new(),
        })));
    }

    /// A lane rests.
    pub fn tell_throttled(
        &self,
        task: &LaneTask,
        verdict: &Verdict,
        cause: String,
        rest: Duration,
    ) {
        let until = Time((clock::wall_ms().max(0) as u64) + rest.as_millis() as u64);
        self.event(EventKind::Throttled(Box::new(Throttled {
            lane: lane_of(task),
            reply: None,
            verdict: Some(verdict.into()),
            cause,
            until: Some(until),
        })));
    }
}

fn selector(message: &Message, leased: Leased) -> DeliverySelector {
    DeliverySelector {
        message: MessageId(message.id()),
        recipient: Some(leased.recipient),
    }
}

/// A lane as events show it.
pub fn lane_of(task: &LaneTask) -> Lane {
    Lane {
        source: task.source.to_string(),
        site: task.site.to_string(),
        provider: task.provider.as_deref().unwrap_or_default().to_owned(),
        source_address: task.source_address,
        ehlo_name: task.ehlo_name.to_string(),
    }
}
