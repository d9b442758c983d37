//! Which lanes want a connection, which gates may open one, and whose turn it is.

use super::*;
use crate::traffic::gate::{Refusal, blocked};

impl Scheduler {
    /// The gate of a source toward a limits holder, made if it isn't there.
    pub(super) fn gate(&mut self, source: SourceId, key: GateId) -> Option<u32> {
        if let Some(gate) = self.gate_of.get(&(source, key)) {
            return Some(*gate);
        }
        let alarm = self.alarms.insert(Alarm {
            due: Instant::ZERO,
            place: NIL,
            link: Link::default(),
            of: Of::Gate(NIL),
        })?;
        let limits = self.limits_of(key);
        let allowance = self.allowance(source, key);
        let gate = self
            .gates
            .insert(Gate::new(source, key, limits, allowance, alarm))?;
        self.alarms[alarm].of = Of::Gate(gate);
        self.gate_of.insert((source, key), gate);
        Some(gate)
    }

    /// Something was queued in a lane.
    pub(super) fn work_came(&mut self, now: Instant, n: u32) {
        let lane = &self.lanes[n];
        if lane.queue.len() > lane.unassigned
            && let Some(session) = lane.idle.front()
        {
            self.wake(session);
        }
        self.reconsider_lane(now, n);
    }

    /// Wakes idle sessions of a lane for what waits in it. They were woken when it came; this is
    /// for the work of one that was woken and closed instead.
    fn wake_idle(&mut self, now: Instant, n: u32) {
        loop {
            let lane = &self.lanes[n];
            let rests = lane.flushing || lane.evacuating || blocked(lane.block, now).is_some();
            let Some(session) = lane.idle.front().filter(|_| !rests) else {
                return;
            };
            if lane.queue.len() <= lane.unassigned {
                return;
            }
            self.wake(session);
        }
    }

    /// The class for which a lane wants one more session.
    fn lane_wants(&self, now: Instant, n: u32) -> Option<Class> {
        let lane = &self.lanes[n];
        let queued = lane.queue.len();
        if queued <= lane.unassigned
            || !lane.idle.is_empty()
            || lane.evacuating
            || lane.flushing
            || blocked(lane.block, now).is_some()
            // After a failure, one connection finds out whether the site is back.
            || (lane.failures > 0 && lane.sessions > 0)
        {
            return None;
        }
        let per_connection = self.gates[lane.gate].limits.queue_per_connection.max(1);
        let few = lane.sessions < queued.div_ceil(per_connection);
        let urgent = lane.queue.of_class(Class::Transactional) > lane.unassigned;
        if few || urgent {
            lane.queue.first_class()
        } else {
            None
        }
    }

    /// Something about a lane changed: puts it on its gate's list of those that want a session, or
    /// takes it off; forgets it when nothing is left of it.
    pub(super) fn reconsider_lane(&mut self, now: Instant, n: u32) {
        self.wake_idle(now, n);
        let wants = self.lane_wants(now, n);
        let lane = &mut self.lanes[n];
        let (had, gate) = (lane.wants, lane.gate);
        if had != wants {
            lane.wants = wants;
            let gate = &mut self.gates[gate];
            if let Some(class) = had {
                gate.wanting[class.index()].unlink(&mut self.lanes, n);
                gate.wants -= 1;
            }
            if let Some(class) = wants {
                gate.wanting[class.index()].push_back(&mut self.lanes, n);
                gate.wants += 1;
            }
        }
        self.forget_lane(now, n);
        self.reconsider_gate(now, gate);
    }

    /// Something about a gate changed: wakes sessions for which there are tokens, puts it on the
    /// list of those that may open a connection or takes it off, and sets its alarm.
    pub(super) fn reconsider_gate(&mut self, now: Instant, n: u32) {
        let mut alarm = None;
        while let Some(session) = self.gates[n].waiting.front() {
            let gate = &self.gates[n];
            let at = gate.token_at(now, gate.woken.saturating_add(1));
            if at > now {
                alarm = earlier(alarm, Some(at));
                break;
            }
            self.wake(session);
        }
        let gate = &self.gates[n];
        let open = match (gate.wanted_class(), gate.may_open(now)) {
            (None, _) => None,
            (Some(class), Ok(())) => Some(class),
            (Some(_), Err(refusal)) => {
                alarm = earlier(alarm, refusal.until());
                // One that has nothing to do makes room for a lane that has.
                if refusal == Refusal::Concurrency
                    && gate.closing < gate.wants
                    && let Some(idle) = gate.idle.front()
                {
                    self.close(idle);
                }
                None
            }
        };
        self.set_openable(n, open);
        let gate = &self.gates[n];
        if gate.lanes == 0 {
            let spotless = gate.spotless_at();
            if spotless <= now {
                return self.forget_gate(n);
            }
            if spotless < Instant::FAR {
                alarm = earlier(alarm, Some(spotless));
            }
        }
        self.set_alarm(self.gates[n].alarm, alarm);
    }

    fn set_openable(&mut self, n: u32, open: Option<u8>) {
        let gate = &mut self.gates[n];
        let had = core::mem::replace(&mut gate.open_class, open);
        if had == open {
            return;
        }
        if let Some(class) = had {
            self.openable[usize::from(class)].unlink(&mut self.gates, n);
            self.openable_len -= 1;
        }
        if let Some(class) = open {
            self.openable[usize::from(class)].push_back(&mut self.gates, n);
            self.openable_len += 1;
        }
    }

    /// The next connection to open, if any may be opened now.
    pub(super) fn open_next(&mut self, now: Instant) -> Option<Open> {
        loop {
            let waits = [0, 1, 2].map(|c: usize| !self.openable[c].is_empty());
            let class = self.shares.pick(waits)?;
            if self.sessions.len() >= self.config.sessions_max {
                if self.closing < self.openable_len
                    && let Some(idle) = self.idle.front()
                {
                    self.close(idle);
                }
                return None;
            }
            let n = self.openable[class].front()?;
            if self.gates[n].may_open(now).is_err() {
                // Since it was last looked at, its time has passed or come.
                self.reconsider_gate(now, n);
                continue;
            }
            let lane = self.gates[n].pick_lane()?;
            self.shares.charge(class);
            return self.open(now, n, lane);
        }
    }

    fn open(&mut self, now: Instant, gate: u32, lane: u32) -> Option<Open> {
        let alarm = self.alarms.insert(Alarm {
            due: Instant::ZERO,
            place: NIL,
            link: Link::default(),
            of: Of::Session(NIL),
        })?;
        let session = self.sessions.insert(Session {
            lane,
            state: SessionState::Opening,
            messages: 0,
            leased: List::default(),
            in_lane: Link::default(),
            in_gate: Link::default(),
            in_all: Link::default(),
            alarm,
        })?;
        self.alarms[alarm].of = Of::Session(session);
        let g = &mut self.gates[gate];
        g.opening(now);
        g.sessions += 1;
        g.unassigned += 1;
        let l = &mut self.lanes[lane];
        l.sessions += 1;
        l.unassigned += 1;
        let open = Open {
            session: SessionId(session),
            lane: LaneId(lane),
            source: l.source,
            site: l.site,
            gate: g.key,
        };
        // To the back of the gate's list, and the gate to the back of the scheduler's.
        if let Some(class) = l.wants.take() {
            g.wanting[class.index()].unlink(&mut self.lanes, lane);
            g.wants -= 1;
        }
        self.set_openable(gate, None);
        self.reconsider_lane(now, lane);
        Some(open)
    }

    /// Whether another lane waits for the place of a session of this lane.
    pub(super) fn is_waited_for(&self, n: u32) -> bool {
        let lane = &self.lanes[n];
        let gate = &self.gates[lane.gate];
        let own = u32::from(lane.wants.is_some());
        if gate.sessions >= gate.concurrency() && gate.wants - own > gate.closing {
            return true;
        }
        let own = u32::from(gate.open_class.is_some() && gate.wants <= own);
        self.sessions.len() >= self.config.sessions_max && self.openable_len - own > self.closing
    }

    /// A timer rang.
    pub(super) fn ring(&mut self, now: Instant, alarm: u32) {
        match self.alarms[alarm].of {
            Of::Gate(gate) => self.reconsider_gate(now, gate),
            Of::Lane(lane) => self.reconsider_lane(now, lane),
            Of::Session(session) => {
                if self.sessions[session].state == SessionState::Idle {
                    self.close(session);
                }
            }
        }
    }

    pub(super) fn set_alarm(&mut self, alarm: u32, due: Option<Instant>) {
        let a = &self.alarms[alarm];
        if a.place != NIL {
            if due == Some(a.due) {
                return;
            }
            self.alarm_wheel.cancel(&mut self.alarms, alarm);
            self.alarms[alarm].place = NIL;
        }
        if let Some(due) = due.filter(|due| *due < Instant::FAR) {
            self.alarms[alarm].due = due;
            self.alarm_wheel.insert(&mut self.alarms, alarm);
        }
    }

    pub(super) fn drop_alarm(&mut self, alarm: u32) {
        self.set_alarm(alarm, None);
        self.alarms.remove(alarm);
    }

    /// Forgets a lane where nothing is, nothing happens and nothing is to be remembered.
    fn forget_lane(&mut self, now: Instant, n: u32) {
        let lane = &self.lanes[n];
        if !lane.queue.is_empty()
            || lane.sessions > 0
            || lane.evacuating
            || lane.flushing
            || blocked(lane.block, now).is_some()
        {
            return;
        }
        let Some(lane) = self.lanes.remove(n) else {
            return;
        };
        self.drop_alarm(lane.alarm);
        let gate = &mut self.gates[lane.gate];
        gate.lanes -= 1;
        self.lane_of.remove(&(lane.source, lane.site, gate.key));
        if let Some(site) = self.site_of.get(&lane.site).copied() {
            self.sites[site].lanes -= 1;
            if self.sites[site].lanes == 0 {
                self.site_of.remove(&self.sites[site].id);
                self.sites.remove(site);
            }
        }
    }

    fn forget_gate(&mut self, n: u32) {
        if let Some(gate) = self.gates.remove(n) {
            self.drop_alarm(gate.alarm);
            self.gate_of.remove(&(gate.source, gate.key));
        }
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
