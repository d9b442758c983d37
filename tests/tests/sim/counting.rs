//! What is counted after every step: each open delivery is in exactly one place, and has somebody
//! who comes for it.

use std::time::Duration;

use courser_core::time::Instant;
use courser_core::traffic::scheduler::{DeliveryId, LaneId, Where};

use crate::checkers::With;
use crate::keeping::Server;
use crate::session::Client;
use crate::world::World;

impl World {
    /// Conservation, and that nobody is left waiting.
    pub(crate) fn count(&mut self) -> Result<(), String> {
        self.at_a_glance()?;
        self.one_by_one()
    }

    /// As many deliveries in the schedulers as are open.
    fn at_a_glance(&self) -> Result<(), String> {
        let Some(server) = &self.server else {
            return Ok(());
        };
        let queued: u64 = server
            .shards
            .iter()
            .map(|s| u64::from(s.queue.scheduler.len()))
            .sum();
        let books = &self.books;
        if queued + books.moving != books.open {
            return Err(format!(
                "{queued} deliveries in the schedulers, {} on their way between shards, {} open",
                books.moving, books.open
            ));
        }
        Ok(())
    }

    /// Each is where it is once, and with whom it is.
    fn one_by_one(&mut self) -> Result<(), String> {
        let (now, soon) = (self.instant(), self.now + 50_000);
        let Self { server, books, .. } = self;
        let Some(server) = server else {
            return Ok(());
        };
        books.round += 1;
        for (n, shard) in server.shards.iter().enumerate() {
            let scheduler = &shard.queue.scheduler;
            // It isn't about to be driven.
            let idle = shard.drive_at.is_none_or(|at| at > soon);
            let mut working: Vec<(u32, u32)> = Vec::new();
            for client in server.clients.values().filter(|c| c.shard == n) {
                let session = client.task.session.0;
                working.extend(client.holds().map(|delivery| (delivery.0, session)));
            }
            working.sort_unstable();
            let mut worked = 0;
            // Lanes that were found to have somebody who comes.
            let mut served: Vec<LaneId> = Vec::new();
            for view in scheduler.deliveries(DeliveryId(0)) {
                let Some(message) = shard.queue.message(view.delivery.message) else {
                    return Err(format!("{} has no message", view.id));
                };
                let recipient = view.delivery.recipient;
                let Some(&key) = books.by_id.get(&message.id()) else {
                    return Err(format!("{} is of no message of this world", view.id));
                };
                let mail = &mut books.mails[key as usize];
                let with_server = mail.with == With::Server;
                let r = &mut mail.recipients[recipient as usize];
                if std::mem::replace(&mut r.counted, books.round) == books.round {
                    return Err(format!("m{key}-{recipient} is in two places"));
                }
                if r.ended.is_some() || !with_server {
                    return Err(format!("m{key}-{recipient} is queued and is not open"));
                }
                let found = working.binary_search_by_key(&view.id.0, |w| w.0);
                let with = found.ok().map(|at| working[at].1);
                worked += usize::from(with.is_some());
                match (view.state, with) {
                    (Where::InFlight(session), Some(at)) if session.0 == at => {}
                    (Where::InFlight(_), _) | (_, Some(_)) => {
                        return Err(format!(
                            "m{key}-{recipient} is {:?} and session {with:?} has it",
                            view.state
                        ));
                    }
                    (Where::Waiting, None)
                        if view.delivery.due + Duration::from_millis(5) < now && idle =>
                    {
                        return Err(format!(
                            "m{key}-{recipient} is due since {:?} and still waits",
                            now.since(view.delivery.due)
                        ));
                    }
                    (Where::Queued(lane), None) if idle && !served.contains(&lane) => {
                        somebody_comes(server, now, n, lane)
                            .map_err(|why| format!("m{key}-{recipient} waits in {why}"))?;
                        served.push(lane);
                    }
                    (Where::Stranded | Where::Held, None) => {
                        return Err(format!(
                            "m{key}-{recipient} is {:?} for no reason",
                            view.state
                        ));
                    }
                    _ => {}
                }
            }
            if worked != working.len() {
                return Err(format!(
                    "sessions have deliveries that the scheduler hasn't, or twice: {working:?}"
                ));
            }
        }
        Ok(())
    }
}

/// What waits in a lane is worked on, or the scheduler will wake up for it: within the time that
/// its slowest rate needs for one token, or at the end of its pause.
fn somebody_comes(server: &Server, now: Instant, n: usize, lane: LaneId) -> Result<(), String> {
    let shard = &server.shards[n];
    let scheduler = &shard.queue.scheduler;
    let Some(view) = scheduler.lane_view(lane) else {
        return Err(format!("{lane}, which isn't there"));
    };
    let limits = scheduler.limits_of(view.gate);
    let rates = [limits.connection_rate, limits.message_rate];
    let token = rates
        .iter()
        .flatten()
        .map(|r| r.period() / r.count())
        .max()
        .unwrap_or_default();
    // Sessions that were opened ahead may be in line for tokens before it.
    let token = token * (limits.concurrency + 1) + Duration::from_secs(1);
    let by = view.block.map_or(now, |b| b.until.max(now)) + token;
    if view.sessions > 0 {
        // One of its sessions works, or looks again soon.
        let all = server
            .clients
            .values()
            .filter(|c| (c.shard, c.task.lane) == (n, lane))
            .map(Client::sleeps_until);
        return match all.clone().any(|until| until.is_none_or(|at| at <= by)) {
            true => Ok(()),
            false => Err(format!(
                "{lane} ({view:?}), and all its sessions sleep until after {by:?}: {:?}",
                all.collect::<Vec<_>>()
            )),
        };
    }
    if scheduler.totals().sessions >= shard.sessions_max {
        return Ok(());
    }
    let busy = scheduler
        .lanes()
        .filter(|l| (l.source, l.gate) == (view.source, view.gate))
        .map(|l| l.sessions)
        .sum::<u32>();
    if busy >= limits.concurrency {
        return Ok(());
    }
    match scheduler.next_wakeup() {
        Some(at) if at <= by => Ok(()),
        at => Err(format!(
            "{lane} ({view:?}), and nobody comes: the next wake-up is {at:?}, now is {now:?}"
        )),
    }
}
