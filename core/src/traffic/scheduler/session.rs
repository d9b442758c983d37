//! What a connection gets to do.
//!
//! ```text
//!  Open ─► Opening ─opened─► Busy ◄──────take──────┐
//!                             │ take                │
//!            ┌────────────────┼───────────────┐     │
//!            ▼ Idle           ▼ Wait          │   Woken ◄─Action::Wake─ Waking
//!          Idle ──work came── Waiting ──token─┼───────────────────────────┘
//!            │ place needed,                  │ Close
//!            ▼ kept too long                  ▼
//!         Closing ──Action::Close──────────► Quitting ─closed─► gone
//! ```

use super::*;
use crate::limits::{SESSION_TURN_MESSAGES, TAKE_EXPIRED_MAX};
use crate::time::Duration;
use crate::traffic::gate::blocked;
use SessionState::*;

impl Scheduler {
    /// The connection is there, and the session will ask for work.
    ///
    /// # Errors
    /// When there is no such session.
    pub fn opened(&mut self, now: Instant, session: SessionId) -> Result<(), Misuse> {
        let s = self.sessions.get(session.0).ok_or(Misuse::UnknownSession)?;
        if s.state == Opening {
            let lane = s.lane;
            self.enter_state(session.0, Woken);
            self.lanes[lane].failures = 0;
            // The site can be reached after all.
            self.stop_flushing(now, lane);
            self.reconsider_lane(now, lane);
        }
        Ok(())
    }

    /// The next transaction of a session, with at most `recipients_max` recipients; its deliveries
    /// are added to `out`. Each is then [`report`](Self::report)ed once.
    pub fn take(
        &mut self,
        now: Instant,
        session: SessionId,
        recipients_max: u32,
        out: &mut Vec<DeliveryId>,
    ) -> Take {
        let id = session.0;
        let Some(s) = self.sessions.get(id) else {
            return Take::Close(CloseReason::Closed);
        };
        let lane = s.lane;
        let take = match s.state {
            Closing | Quitting => Take::Close(CloseReason::Closed),
            _ => {
                self.enter_state(id, Busy);
                self.decide(now, id, recipients_max, out)
            }
        };
        match take {
            Take::Batch(_) => {}
            Take::Idle(until) => {
                self.enter_state(id, Idle);
                self.set_alarm(self.sessions[id].alarm, Some(until));
            }
            Take::Wait(_) => self.enter_state(id, Waiting),
            Take::Close(_) => self.enter_state(id, Quitting),
        }
        self.reconsider_lane(now, lane);
        take
    }

    fn decide(
        &mut self,
        now: Instant,
        id: u32,
        recipients_max: u32,
        out: &mut Vec<DeliveryId>,
    ) -> Take {
        let session = &self.sessions[id];
        let (n, messages) = (session.lane, session.messages);
        let lane = &self.lanes[n];
        let gate = &self.gates[lane.gate];
        if let Some(block) = blocked(lane.block, now).or(blocked(gate.block, now)) {
            return Take::Close(CloseReason::Blocked(block));
        }
        if self.source_state(lane.source) == SourceState::Disabled {
            return Take::Close(CloseReason::SourceDisabled);
        }
        if gate.sessions - gate.closing > gate.concurrency()
            || self.sessions.len() - self.closing > self.config.sessions_max
        {
            return Take::Close(CloseReason::Concurrency);
        }
        if messages >= gate.limits.messages_per_connection.max(1) {
            return Take::Close(CloseReason::MessagesPerConnection);
        }
        let empty = lane.queue.is_empty() || lane.flushing;
        if (empty || messages >= SESSION_TURN_MESSAGES) && self.is_waited_for(n) {
            return Take::Close(CloseReason::MakeWay);
        }
        let keep = gate.limits.idle;
        if empty {
            return Take::Idle(now + keep);
        }
        let at = gate.token_at(now, 1);
        if at > now {
            return if at.since(now) > keep {
                Take::Close(CloseReason::Rate(at))
            } else {
                Take::Wait(at)
            };
        }
        let recipients = gate.recipients(now, recipients_max.max(1));
        let taken = self.batch(now, id, recipients, out);
        match taken {
            Some(0) => Take::Wait(now + Duration::from_millis(1)),
            Some(taken) => {
                let gate = self.lanes[n].gate;
                self.gates[gate].sending(now, taken);
                self.sessions[id].messages += 1;
                Take::Batch(taken)
            }
            None => Take::Idle(now + keep),
        }
    }

    /// Leases the deliveries of one message whose turn it is. `None` when nothing was left but what
    /// has expired; 0 when so much had expired that it is somebody else's turn to run.
    fn batch(
        &mut self,
        now: Instant,
        session: u32,
        recipients: u32,
        out: &mut Vec<DeliveryId>,
    ) -> Option<u32> {
        let n = self.sessions[session].lane;
        let mut skipped = 0;
        loop {
            let queue = &mut self.lanes[n].queue;
            let first = self.flows.pick(queue)?;
            if self.deliveries[first].is_expired(now) {
                self.flows.unlink(queue, &mut self.deliveries, first);
                self.settle(first, Cause::Expired);
                skipped += 1;
                if skipped >= TAKE_EXPIRED_MAX {
                    return Some(0);
                }
                continue;
            }
            let message = self.deliveries[first].message;
            let from = out.len();
            let mut at = Some(first);
            while let Some(id) = at
                && out.len() - from < recipients as usize
                && self.deliveries[id].message == message
                && !self.deliveries[id].is_expired(now)
            {
                out.push(DeliveryId(id));
                at = self.flows.behind(&self.deliveries, id);
            }
            let taken = (out.len() - from) as u32;
            self.flows.charge(queue, &self.deliveries[first], taken);
            for DeliveryId(id) in &out[from..] {
                self.flows.unlink(queue, &mut self.deliveries, *id);
                self.deliveries[*id].state = State::Leased;
                self.deliveries[*id].place = session;
                self.sessions[session]
                    .leased
                    .push_back(&mut self.deliveries, *id);
            }
            return Some(taken);
        }
    }

    /// The connection is gone, or never came about. What the session had taken and nobody reported
    /// goes back to the front of its lane. Until when the lane pauses because of it, if it does.
    ///
    /// # Errors
    /// When there is no such session.
    pub fn closed(
        &mut self,
        now: Instant,
        session: SessionId,
        how: Closed,
    ) -> Result<Option<Instant>, Misuse> {
        let id = session.0;
        let s = self.sessions.get(id).ok_or(Misuse::UnknownSession)?;
        let (n, alarm) = (s.lane, s.alarm);
        self.enter_state(id, Busy);
        // From the last to the first, so that their order stays.
        let leased: Vec<u32> = self.sessions[id].leased.iter(&self.deliveries).collect();
        for delivery in leased.into_iter().rev() {
            self.unlease(delivery);
            if !core::mem::take(&mut self.deliveries[delivery].hold) {
                self.put_back(now, n, delivery);
            }
        }
        self.drop_alarm(alarm);
        self.sessions.remove(id);
        let lane = &mut self.lanes[n];
        lane.sessions -= 1;
        self.gates[lane.gate].sessions -= 1;
        let mut until = None;
        if how == Closed::Unreachable && blocked(lane.block, now).is_none() {
            let pause = self
                .config
                .unreachable_first
                .saturating_mul(1 << lane.failures.min(16));
            let end = now + pause.min(self.config.unreachable_max);
            lane.failures = lane.failures.saturating_add(1);
            until = Some(end);
            self.pause_lane(now, n, end, BlockReason::DeadHost);
        }
        self.reconsider_lane(now, n);
        Ok(until)
    }

    /// Brings a session that waits for something to ask again.
    pub(super) fn wake(&mut self, session: u32) {
        self.enter_state(session, Waking);
    }

    /// Has a session closed.
    pub(super) fn close(&mut self, session: u32) {
        self.enter_state(session, Closing);
    }

    /// Moves a session to another state: the only place that touches the lists and counts that
    /// depend on it.
    fn enter_state(&mut self, id: u32, to: SessionState) {
        let session = &mut self.sessions[id];
        let from = core::mem::replace(&mut session.state, to);
        let (n, alarm) = (session.lane, session.alarm);
        if from == to {
            return;
        }
        let lane = &mut self.lanes[n];
        let gate = &mut self.gates[lane.gate];
        match from {
            Idle => {
                lane.idle.unlink(&mut self.sessions, id);
                gate.idle.unlink(&mut self.sessions, id);
                self.idle.unlink(&mut self.sessions, id);
            }
            Waiting => gate.waiting.unlink(&mut self.sessions, id),
            Waking => self.wakes.unlink(&mut self.sessions, id),
            Closing => self.closes.unlink(&mut self.sessions, id),
            _ => {}
        }
        let is = |states: &[SessionState]| (states.contains(&from), states.contains(&to));
        let shift = |count: &mut u32, (was, is): (bool, bool)| match (was, is) {
            (false, true) => *count += 1,
            (true, false) => *count -= 1,
            _ => {}
        };
        let unassigned = is(&[Opening, Waiting, Waking, Woken]);
        let closing = is(&[Closing, Quitting]);
        shift(&mut lane.unassigned, unassigned);
        shift(&mut gate.unassigned, unassigned);
        shift(&mut gate.woken, is(&[Waking, Woken]));
        shift(&mut gate.closing, closing);
        shift(&mut self.closing, closing);
        match to {
            Idle => {
                // The lane wakes the one that worked last, so that the others can go; places are
                // taken from the one that was idle longest.
                lane.idle.push_front(&mut self.sessions, id);
                gate.idle.push_back(&mut self.sessions, id);
                self.idle.push_back(&mut self.sessions, id);
            }
            Waiting => gate.waiting.push_back(&mut self.sessions, id),
            Waking => self.wakes.push_back(&mut self.sessions, id),
            Closing => self.closes.push_back(&mut self.sessions, id),
            _ => {}
        }
        if from == Idle {
            self.set_alarm(alarm, None);
        }
    }
}
