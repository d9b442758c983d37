//! Pools, sources, limits and pauses: all of it may change at any time.

use super::*;
use crate::traffic::pool::Member;

impl Scheduler {
    /// Makes or replaces a pool of sources with their weights. Deliveries that waited for one of
    /// its sources go on.
    pub fn set_pool(&mut self, pool: PoolId, members: &[(SourceId, u32)]) {
        let Some(n) = self.pool(pool) else { return };
        self.pools[n].members = members.to_vec();
        self.refresh_pool(n);
    }

    /// Says whether a source may be used; without this it may.
    pub fn set_source(&mut self, now: Instant, source: SourceId, state: SourceState) {
        if state == SourceState::Enabled {
            self.sources.remove(&source);
        } else {
            self.sources.insert(source, state);
        }
        for n in 0..self.pools.end() {
            self.refresh_pool(n);
        }
        let lanes: Vec<u32> = self
            .lanes
            .iter_from(0)
            .filter(|(_, lane)| lane.source == source)
            .map(|(n, _)| n)
            .collect();
        for n in lanes {
            if state == SourceState::Disabled {
                self.evacuate(n);
                self.close_idle(n);
            }
            self.reconsider_lane(now, n);
        }
    }

    /// Whether a source may be used.
    pub fn source_state(&self, source: SourceId) -> SourceState {
        self.sources.get(&source).copied().unwrap_or_default()
    }

    pub(super) fn pool(&mut self, pool: PoolId) -> Option<u32> {
        if let Some(n) = self.pool_of.get(&pool) {
            return Some(*n);
        }
        let n = self.pools.insert(PoolState::default())?;
        self.pool_of.insert(pool, n);
        Some(n)
    }

    fn refresh_pool(&mut self, n: u32) {
        let sources = &self.sources;
        let state = &mut self.pools[n];
        state.pool.set(state.members.iter().map(|(source, weight)| {
            let state = sources.get(source).copied().unwrap_or_default();
            Member {
                source: *source,
                weight: if state == SourceState::Enabled {
                    *weight
                } else {
                    0
                },
                usable: state != SourceState::Disabled,
            }
        }));
        if state.pool.is_usable() && !state.stranded.is_empty() && !state.moving {
            state.moving = true;
            self.unstranding.push_back(&mut self.pools, n);
        }
    }

    /// Moves one delivery that waited for a source; whether there was one.
    pub(super) fn move_stranded(&mut self, now: Instant) -> bool {
        let Some(n) = self.unstranding.front() else {
            return false;
        };
        let state = &mut self.pools[n];
        let usable = state.pool.is_usable();
        match state.stranded.front().filter(|_| usable) {
            Some(id) => {
                self.detach(now, id);
                self.arrive(now, id);
            }
            None => {
                state.moving = false;
                self.unstranding.unlink(&mut self.pools, n);
            }
        }
        true
    }

    /// Has a lane's deliveries go over other sources.
    pub(super) fn evacuate(&mut self, n: u32) {
        let lane = &mut self.lanes[n];
        if !lane.evacuating && !lane.flushing {
            self.emptying.push_back(&mut self.lanes, n);
        }
        self.lanes[n].evacuating = true;
    }

    fn close_idle(&mut self, n: u32) {
        while let Some(session) = self.lanes[n].idle.front() {
            self.close(session);
        }
    }

    /// Sets the limits of a gate, toward whatever source, at once.
    pub fn set_limits(&mut self, now: Instant, gate: GateId, limits: Limits) {
        self.limits.insert(gate, limits);
        self.change_gates(now, |_, key| key == gate);
    }

    /// Sets the limits of all gates that have none of their own, at once.
    pub fn set_default_limits(&mut self, now: Instant, limits: Limits) {
        self.config.limits = limits;
        self.change_gates(now, |_, _| true);
    }

    /// The limits that count for a gate.
    pub fn limits_of(&self, gate: GateId) -> Limits {
        self.limits
            .get(&gate)
            .copied()
            .unwrap_or(self.config.limits)
    }

    /// Sets what a source may do toward a gate below its limits, at once; the default takes it
    /// back.
    pub fn set_allowance(
        &mut self,
        now: Instant,
        source: SourceId,
        gate: GateId,
        allowance: Allowance,
    ) {
        if allowance == Allowance::default() {
            self.allowances.remove(&(source, gate));
        } else {
            self.allowances.insert((source, gate), allowance);
        }
        if let Some(n) = self.gate_of.get(&(source, gate)).copied() {
            let limits = self.gates[n].limits;
            self.gates[n].change(limits, allowance);
            self.reconsider_lanes_of(now, n);
        }
    }

    /// What a source may do toward a gate below its limits.
    pub fn allowance(&self, source: SourceId, gate: GateId) -> Allowance {
        self.allowances
            .get(&(source, gate))
            .copied()
            .unwrap_or_default()
    }

    /// Sets how many connections may be open at once, over all lanes. Where more are open, they
    /// close one after the other as they ask for work.
    pub fn set_sessions_max(&mut self, max: u32) {
        self.config.sessions_max = max;
    }

    /// Sets how long a lane pauses after its site could not be reached, from the next time on.
    pub fn set_unreachable(&mut self, first: core::time::Duration, max: core::time::Duration) {
        self.config.unreachable_first = first;
        self.config.unreachable_max = max;
    }

    fn change_gates(&mut self, now: Instant, which: impl Fn(SourceId, GateId) -> bool) {
        let gates: Vec<u32> = self
            .gates
            .iter_from(0)
            .filter(|(_, g)| which(g.source, g.key))
            .map(|(n, _)| n)
            .collect();
        for n in gates {
            let limits = self.limits_of(self.gates[n].key);
            let allowance = self.gates[n].allowance;
            self.gates[n].change(limits, allowance);
            self.reconsider_lanes_of(now, n);
        }
    }

    /// Lanes want more or fewer connections when their gate's limits change.
    fn reconsider_lanes_of(&mut self, now: Instant, gate: u32) {
        let lanes: Vec<u32> = self
            .lanes
            .iter_from(0)
            .filter(|(_, lane)| lane.gate == gate)
            .map(|(n, _)| n)
            .collect();
        for n in &lanes {
            self.reconsider_lane(now, *n);
        }
        if lanes.is_empty() && self.gates.get(gate).is_some() {
            self.reconsider_gate(now, gate);
        }
    }

    /// Lets nothing through a lane before `until`: its deliveries stay in it, its sessions close
    /// when they ask for work. A later call replaces an earlier one.
    ///
    /// # Errors
    /// When there is no such lane.
    pub fn block_lane(
        &mut self,
        now: Instant,
        lane: LaneId,
        until: Instant,
        reason: BlockReason,
    ) -> Result<(), Misuse> {
        self.lanes.get(lane.0).ok_or(Misuse::UnknownLane)?;
        self.pause_lane(now, lane.0, until, reason);
        self.reconsider_lane(now, lane.0);
        Ok(())
    }

    pub(super) fn pause_lane(&mut self, _: Instant, n: u32, until: Instant, reason: BlockReason) {
        self.lanes[n].block = Some(Block { until, reason });
        self.close_idle(n);
        self.set_alarm(self.lanes[n].alarm, Some(until));
    }

    /// Ends a lane's pause.
    ///
    /// # Errors
    /// When there is no such lane.
    pub fn unblock_lane(&mut self, now: Instant, lane: LaneId) -> Result<(), Misuse> {
        let l = self.lanes.get_mut(lane.0).ok_or(Misuse::UnknownLane)?;
        l.block = None;
        l.failures = 0;
        self.set_alarm(self.lanes[lane.0].alarm, None);
        self.reconsider_lane(now, lane.0);
        Ok(())
    }

    /// Lets nothing from a source through to a provider or site before `until`, over whatever
    /// lane.
    pub fn block_gate(
        &mut self,
        now: Instant,
        source: SourceId,
        gate: GateId,
        until: Instant,
        reason: BlockReason,
    ) {
        let Some(n) = self.gate(source, gate) else {
            return;
        };
        self.gates[n].block = Some(Block { until, reason });
        while let Some(session) = self.gates[n].idle.front() {
            self.close(session);
        }
        self.reconsider_gate(now, n);
    }

    /// Ends a gate's pause.
    pub fn unblock_gate(&mut self, now: Instant, source: SourceId, gate: GateId) {
        if let Some(n) = self.gate_of.get(&(source, gate)).copied() {
            self.gates[n].block = None;
            self.reconsider_gate(now, n);
        }
    }

    /// Hands back all that is queued in a lane as [`Action::Settle`] with [`Cause::Flushed`], to
    /// count a failed attempt of each, say.
    ///
    /// # Errors
    /// When there is no such lane.
    pub fn flush_lane(&mut self, now: Instant, lane: LaneId) -> Result<(), Misuse> {
        let l = self.lanes.get_mut(lane.0).ok_or(Misuse::UnknownLane)?;
        if !l.evacuating && !l.flushing {
            self.emptying.push_back(&mut self.lanes, lane.0);
        }
        self.lanes[lane.0].flushing = true;
        self.reconsider_lane(now, lane.0);
        Ok(())
    }
}
