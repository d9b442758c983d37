//! Due → Plan: does what the scheduler says.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use courser_core::feedback::verdict::{Cause as LocalCause, Verdict};
use courser_core::route::tls::Level;
use courser_core::route::{Fault, RouteError};
use courser_core::smtp::client::EhloName;
use courser_core::smtp::reply::EnhancedCode;
use courser_core::time::Instant;
use courser_core::traffic::scheduler::{
    Action, Cause, Closed, DeliveryId, DestId, Open, Report, Route,
};

use super::Shard;
use crate::feedback::settle::{Attempt, Fate, Said};
use crate::net::{clock, ring};
use crate::queue::{Entry, Known, Queue};
use crate::route::Routed;
use crate::session::LaneTask;

/// A destination without a route is asked about again after this, at the earliest.
const ROUTE_AGAIN_MIN: Duration = Duration::from_secs(5);
/// And at the latest.
const ROUTE_AGAIN_MAX: Duration = Duration::from_secs(300);
/// Deliveries that a sweep looks at, and how often: what waits behind a limit expires within a
/// minute for each million.
const SWEEP: u32 = 20_000;
/// See [`SWEEP`].
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Actions done before the sockets have their turn.
const ACTIONS_AT_ONCE: usize = 256;

/// Deliveries on their way to other shards.
type Outgoing = HashMap<(usize, Arc<str>), (Routed, Vec<Entry>)>;

impl Shard {
    /// Says that the scheduler may have something to do.
    pub fn kick(&self) {
        self.kick.notify_one();
    }

    /// Drives the scheduler until the shard ends.
    pub(super) async fn drive(self: Rc<Self>) {
        let mut swept = clock::now();
        loop {
            let mut outgoing = Outgoing::new();
            let mut done = 0;
            loop {
                let action = self.queue.borrow_mut().scheduler.poll(clock::now());
                match action {
                    Some(action) => self.act(action, &mut outgoing),
                    None => break,
                }
                done += 1;
                if done == ACTIONS_AT_ONCE {
                    break;
                }
            }
            for ((shard, domain), (routed, entries)) in outgoing {
                self.hand_over(shard, domain, Some(routed), entries);
            }
            let now = clock::now();
            if now.since(swept) >= SWEEP_EVERY {
                swept = now;
                self.queue.borrow_mut().scheduler.sweep(now, SWEEP);
                if !self.is_draining() && self.can_keep() {
                    self.tell_delays(SWEEP);
                }
                continue;
            }
            let next = if done == ACTIONS_AT_ONCE {
                Some(Instant::ZERO)
            } else {
                self.queue.borrow().scheduler.next_wakeup()
            };
            let until = next.unwrap_or(Instant::FAR).min(swept + SWEEP_EVERY);
            let left = until.since(now);
            if left.is_zero() {
                ring::breathe().await;
            } else {
                let _ = tokio::time::timeout(left, self.kick.notified()).await;
            }
        }
    }

    fn act(self: &Rc<Self>, action: Action, outgoing: &mut Outgoing) {
        match action {
            Action::Resolve(dest) => {
                let shard = self.clone();
                let resolving = Resolving {
                    key: self.queue.borrow().key_of(dest),
                    shard: self.clone(),
                };
                ring::spawn(async move {
                    let _resolving = resolving;
                    shard.resolve(dest).await;
                });
            }
            Action::Open(open) => self.open(open),
            Action::Wake(session) => self.ring_session(session, false),
            Action::Close(session) => self.ring_session(session, true),
            Action::Settle(delivery, cause) => {
                self.settle_without_attempt(delivery, cause, outgoing)
            }
        }
    }

    fn open(self: &Rc<Self>, open: Open) {
        let config = self.config();
        let queue = self.queue.borrow();
        let source = config.sources.get(usize::from(open.source.0));
        let site = queue.sites.get(open.site);
        let task = match (source, site) {
            (Some(source), Some(site)) => {
                EhloName::new(&source.ehlo).ok().map(|ehlo_name| LaneTask {
                    session: open.session,
                    lane: open.lane,
                    plan: site.plan.clone(),
                    site: site.name.clone(),
                    provider: site.provider.clone(),
                    source: Arc::from(&*source.name),
                    source_address: source.address,
                    ehlo_name,
                    lmtp: site.lmtp,
                    tls: Level::decide([site.tls, source.tls], config.tls.level),
                    demand: site.demand,
                    sts: site.sts.clone(),
                    implicit_tls: site.implicit_tls,
                    login: site.login.clone(),
                    config: config.clone(),
                    source_id: open.source,
                    site_id: open.site,
                })
            }
            _ => None,
        };
        drop(queue);
        match task {
            Some(task) if !self.is_draining() => self.open_session(task),
            Some(_) => {
                let _ = self.queue.borrow_mut().scheduler.closed(
                    clock::now(),
                    open.session,
                    Closed::Done,
                );
            }
            None => {
                tracing::error!(source = %open.source, site = %open.site, "no such source or site any more; its mail waits");
                let now = clock::now();
                let _ = self.queue.borrow_mut().scheduler.closed(
                    now,
                    open.session,
                    Closed::Unreachable,
                );
            }
        }
    }

    async fn resolve(self: Rc<Self>, dest: DestId) {
        let key = self.queue.borrow().key_of(dest);
        let (domain, demand) = Queue::split_key(&key);
        let router = self.router.borrow().clone();
        let seed = clock::random_u64();
        match router.route(domain, &demand, seed).await {
            Ok(routed) => {
                self.tell_policy(routed.sts.as_deref());
                self.learn_route(&key, &routed, false);
            }
            Err(error) => {
                let again = error.valid_for.clamp(ROUTE_AGAIN_MIN, ROUTE_AGAIN_MAX);
                let mut queue = self.queue.borrow_mut();
                // By its key: meanwhile the number may have become another domain's.
                if let Some(dest) = queue.dest(&key) {
                    queue.know(
                        dest,
                        Some(Known::Failed {
                            error: Arc::new(error),
                        }),
                    );
                    queue.scheduler.route_failed(dest, clock::now() + again);
                }
            }
        }
        self.kick();
    }

    /// The route of a destination is known. `mine` where another shard found out that its lanes
    /// belong here.
    pub(super) fn learn_route(&self, key: &str, routed: &Routed, mine: bool) {
        let (domain, demand) = Queue::split_key(key);
        let config = self.config();
        let now = clock::now();
        let until = now + routed.plan.valid_for;
        let mut queue = self.queue.borrow_mut();
        let Some(dest) = queue.dest(key) else {
            return;
        };
        let owner = queue
            .sites
            .owner(&config, domain, &routed.plan, self.shared.inboxes.len());
        if owner != self.index && !mine {
            queue.know(
                dest,
                Some(Known::Elsewhere {
                    shard: owner,
                    routed: routed.clone(),
                    until,
                }),
            );
            queue.scheduler.route_elsewhere(dest, until);
            return;
        }
        queue.know(dest, None);
        let learned = queue.sites.learn(domain, routed, demand);
        if let Some(limits) = learned.limits {
            queue.scheduler.set_limits(now, learned.gate, limits);
        }
        queue.set_site(dest, learned.site);
        queue.scheduler.route(
            dest,
            Route {
                site: learned.site,
                gate: learned.gate,
                valid_until: until,
            },
        );
    }

    fn settle_without_attempt(
        self: &Rc<Self>,
        delivery: DeliveryId,
        cause: Cause,
        outgoing: &mut Outgoing,
    ) {
        let now = clock::now();
        let queue = self.queue.borrow();
        let view = queue.scheduler.get(delivery);
        let leased = queue.leased(delivery);
        let (Some(view), Some((message, leased))) = (view, leased) else {
            return;
        };
        let known = queue.known(view.delivery.dest).cloned();
        let last = queue.last(delivery);
        drop(queue);
        let back = || {
            let _ = self
                .queue
                .borrow_mut()
                .scheduler
                .report(now, delivery, Report::NotTried);
        };
        match (cause, known) {
            (Cause::Elsewhere, Some(Known::Elsewhere { shard, routed, .. })) => {
                let key = self.queue.borrow().key_of(view.delivery.dest);
                let removed = self.queue.borrow_mut().remove(now, delivery);
                if let Ok((new, last)) = removed {
                    let entry = Entry {
                        message,
                        recipient: new.recipient,
                        attempts: new.attempts,
                        due: new.due,
                        source: new.source,
                        held: new.hold,
                        last,
                    };
                    outgoing
                        .entry((shard, key))
                        .or_insert_with(|| (routed, Vec::new()))
                        .1
                        .push(entry);
                }
            }
            (Cause::RouteFailed, Some(Known::Failed { error })) => {
                let attempt = Attempt::local(None, &message, leased, now);
                let said = Said {
                    enhanced: Some(error.enhanced),
                    ..Said::locally(error.text.clone())
                };
                self.settle(
                    attempt,
                    Fate::Failed {
                        verdict: route_verdict(&error),
                        said,
                        unknown: false,
                    },
                );
            }
            (Cause::Elsewhere | Cause::RouteFailed, _) => {
                // The route became known meanwhile, or was forgotten and will be asked for again.
                self.queue
                    .borrow_mut()
                    .scheduler
                    .forget_failure(view.delivery.dest);
                back();
            }
            (Cause::Flushed, _) => {
                let trouble = self.trouble_of(&view);
                match trouble {
                    Some((task, trouble)) => {
                        self.count_tls(&task, &trouble.sessions, (&message, leased));
                        let attempt = Attempt::local(Some(&task), &message, leased, now);
                        let fate = Fate::Failed {
                            verdict: trouble.verdict,
                            said: trouble.said,
                            unknown: false,
                        };
                        self.settle(attempt, fate);
                    }
                    None => back(),
                }
            }
            (Cause::Expired, _) => {
                let text = match last {
                    Some(last) if !last.text.is_empty() => {
                        format!("expired; last said: {}", last.text)
                    }
                    _ => "expired before it could be tried".to_owned(),
                };
                self.expire(&message, leased, Said::locally(text));
            }
        }
    }
}

/// A domain whose route is being found. A panic on the way must not leave its mail waiting for an
/// answer that never comes.
struct Resolving {
    shard: Rc<Shard>,
    key: Arc<str>,
}

impl Drop for Resolving {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        tracing::error!(domain = %Queue::split_key(&self.key).0, "finding its route panicked; its mail waits for the next attempt");
        let error = RouteError {
            fault: Fault::Dns,
            permanent: false,
            enhanced: EnhancedCode::new(4, 3, 0),
            text: "trouble of our own while finding its hosts".to_owned(),
            valid_for: ROUTE_AGAIN_MAX,
        };
        if let Ok(mut queue) = self.shard.queue.try_borrow_mut()
            && let Some(dest) = queue.dest(&self.key)
        {
            let error = Arc::new(error);
            queue.know(dest, Some(Known::Failed { error }));
            let again = clock::now() + ROUTE_AGAIN_MAX;
            queue.scheduler.route_failed(dest, again);
        }
        self.shard.kick();
    }
}

/// What a route that can't be found means for the deliveries.
pub fn route_verdict(error: &RouteError) -> Verdict {
    let cause = match error.fault {
        Fault::NullMx => LocalCause::NullMx,
        Fault::NoSuchDomain | Fault::BadName => LocalCause::NoSuchDomain,
        Fault::NoAddress | Fault::NoUsableMx => LocalCause::NoMailHost,
        Fault::Loop => LocalCause::MailLoop,
        Fault::SpecialAddress => LocalCause::ForbiddenAddress,
        Fault::Insecure => LocalCause::RequireTls,
        Fault::Policy => LocalCause::TlsPolicy,
        _ => LocalCause::DnsTemporary,
    };
    Verdict {
        permanent: error.permanent,
        ..cause.verdict()
    }
}
