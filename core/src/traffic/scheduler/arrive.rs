//! From `enqueue` to the lane, and back from `report`.

use super::*;
use crate::traffic::ids::mix;

impl Scheduler {
    /// Takes a delivery in.
    ///
    /// # Errors
    /// [`Misuse::Full`] when there is no number left for it.
    pub fn enqueue(&mut self, now: Instant, new: New) -> Result<DeliveryId, Misuse> {
        let delivery = Delivery::new(&new);
        let id = self.deliveries.insert(delivery).ok_or(Misuse::Full)?;
        *self.tenants.entry(new.tenant).or_insert(0) += 1;
        if !new.hold {
            self.place(now, id);
        }
        Ok(DeliveryId(id))
    }

    /// Says what became of a delivery that was handed out by [`take`](Self::take) or
    /// [`Action::Settle`]. After [`Report::Delivered`] and [`Report::Ended`] its id is gone.
    ///
    /// # Errors
    /// When there is no such delivery, or it is not handed out.
    pub fn report(&mut self, now: Instant, id: DeliveryId, report: Report) -> Result<(), Misuse> {
        let id = id.0;
        let d = self.deliveries.get(id).ok_or(Misuse::UnknownDelivery)?;
        if d.state != State::Leased {
            return Err(Misuse::NotInFlight);
        }
        let lane = self.unlease(id);
        let d = &mut self.deliveries[id];
        match report {
            Report::Delivered | Report::Ended => self.drop_delivery(id),
            Report::Deferred {
                due,
                exclude_source,
            } => {
                d.attempts = d.attempts.saturating_add(1);
                d.due = due;
                d.avoid = exclude_source && d.source().is_some();
                if !core::mem::take(&mut d.hold) {
                    self.place(now, id);
                }
            }
            Report::NotTried => {
                if !core::mem::take(&mut d.hold) {
                    match lane {
                        Some(lane) => self.put_back(now, lane, id),
                        None => {
                            self.place(now, id);
                            // Given back by the caller, it would be flushed again and again.
                            let d = &self.deliveries[id];
                            if d.state == State::Queued {
                                self.stop_flushing(now, self.flows.lane_of(d));
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes a delivery out of its session; the lane that it came from.
    pub(super) fn unlease(&mut self, id: u32) -> Option<u32> {
        let session = self.deliveries[id].place;
        let d = &mut self.deliveries[id];
        d.state = State::Held;
        d.place = NIL;
        let session = self.sessions.get_mut(session)?;
        session.leased.unlink(&mut self.deliveries, id);
        Some(session.lane)
    }

    /// Holds a delivery until it is released. One in flight is held when it comes back; if it is
    /// delivered, it is delivered.
    ///
    /// # Errors
    /// When there is no such delivery.
    pub fn hold(&mut self, now: Instant, id: DeliveryId) -> Result<(), Misuse> {
        let d = self
            .deliveries
            .get_mut(id.0)
            .ok_or(Misuse::UnknownDelivery)?;
        if d.state == State::Leased {
            d.hold = true;
        } else {
            self.detach(now, id.0);
        }
        Ok(())
    }

    /// Lets a held delivery go on: at once if it is due. Nothing happens to others.
    ///
    /// # Errors
    /// When there is no such delivery.
    pub fn release(&mut self, now: Instant, id: DeliveryId) -> Result<(), Misuse> {
        let d = self
            .deliveries
            .get_mut(id.0)
            .ok_or(Misuse::UnknownDelivery)?;
        d.hold = false;
        if d.state == State::Held {
            self.place(now, id.0);
        }
        Ok(())
    }

    /// Makes a delivery that waits for its time due now. Nothing happens to others.
    ///
    /// # Errors
    /// When there is no such delivery.
    pub fn retry_now(&mut self, now: Instant, id: DeliveryId) -> Result<(), Misuse> {
        let d = self.deliveries.get(id.0).ok_or(Misuse::UnknownDelivery)?;
        if d.state == State::Waiting {
            self.detach(now, id.0);
            self.deliveries[id.0].due = now;
            self.place(now, id.0);
        }
        Ok(())
    }

    /// Takes a delivery away, to drop it, bounce it or give it to another shard; its id is gone.
    ///
    /// # Errors
    /// When there is no such delivery, or a session has it ([`Misuse::InFlight`]). One that was
    /// handed out by [`Action::Settle`] can be removed.
    pub fn remove(&mut self, now: Instant, id: DeliveryId) -> Result<New, Misuse> {
        let d = self.deliveries.get(id.0).ok_or(Misuse::UnknownDelivery)?;
        if d.state == State::Leased && d.place != NIL {
            return Err(Misuse::InFlight);
        }
        let hold = d.hold || d.state == State::Held;
        let new = New {
            message: d.message,
            recipient: d.recipient,
            dest: d.dest,
            pool: d.pool,
            source: d.source(),
            tenant: d.tenant,
            campaign: d.campaign,
            class: d.class,
            attempts: d.attempts,
            due: d.due,
            expires: d.expires(),
            hold,
        };
        self.detach(now, id.0);
        self.drop_delivery(id.0);
        Ok(new)
    }

    /// Forgets a delivery that is on no list.
    fn drop_delivery(&mut self, id: u32) {
        let Some(d) = self.deliveries.remove(id) else {
            return;
        };
        if let Some(n) = self.tenants.get_mut(&d.tenant) {
            *n -= 1;
            if *n == 0 {
                self.tenants.remove(&d.tenant);
            }
        }
    }

    /// Puts a delivery that is on no list where it belongs by its time.
    pub(super) fn place(&mut self, now: Instant, id: u32) {
        let d = &mut self.deliveries[id];
        if d.due > now && !d.is_expired(now) {
            d.state = State::Waiting;
            self.wheel.insert(&mut self.deliveries, id);
        } else {
            self.arrive(now, id);
        }
    }

    /// A delivery is due: to its lane, or to its destination to wait for a route.
    pub(super) fn arrive(&mut self, now: Instant, id: u32) {
        let d = &self.deliveries[id];
        if d.is_expired(now) {
            return self.settle(id, Cause::Expired);
        }
        let dest = d.dest;
        let Some(n) = self.dest(dest) else {
            return self.settle(id, Cause::RouteFailed);
        };
        let dest = &mut self.dests[n];
        match dest.state {
            // Behind those that came before it.
            _ if dest.on == DestList::Draining => self.park(n, id),
            DestState::Routed(route) if route.valid_until > now => self.enter(now, id, &route),
            DestState::Failed(until) if until > now => self.settle(id, Cause::RouteFailed),
            DestState::Elsewhere(until) if until > now => self.settle(id, Cause::Elsewhere),
            DestState::Resolving => self.park(n, id),
            _ => {
                dest.state = DestState::Resolving;
                dest.on = DestList::Resolve;
                self.resolve.push_back(&mut self.dests, n);
                self.park(n, id);
            }
        }
    }

    fn park(&mut self, dest: u32, id: u32) {
        self.dests[dest].parked.push_back(&mut self.deliveries, id);
        self.deliveries[id].state = State::Parked;
        self.deliveries[id].place = dest;
    }

    /// Hands a delivery that is on no list to the caller.
    pub(super) fn settle(&mut self, id: u32, cause: Cause) {
        let d = &mut self.deliveries[id];
        d.state = State::Settling;
        d.place = cause as u32;
        self.settle.push_back(&mut self.deliveries, id);
    }

    fn dest(&mut self, id: DestId) -> Option<u32> {
        if let Some(n) = self.dest_of.get(&id) {
            return Some(*n);
        }
        let n = self.dests.insert(Dest {
            id,
            state: DestState::Unknown,
            parked: List::default(),
            on: DestList::None,
            link: Link::default(),
        })?;
        self.dest_of.insert(id, n);
        Some(n)
    }

    /// The route of a destination is known: what is due goes to its lanes, and so does what
    /// becomes due while the route is valid.
    pub fn route(&mut self, dest: DestId, route: Route) {
        self.set_route(dest, DestState::Routed(route));
    }

    /// A destination has no route: what is due, and what becomes due before `until`, comes back as
    /// [`Action::Settle`] with [`Cause::RouteFailed`].
    pub fn route_failed(&mut self, dest: DestId, until: Instant) {
        self.set_route(dest, DestState::Failed(until));
    }

    /// Another shard owns a destination's lanes: what is due, and what becomes due before `until`,
    /// comes back as [`Action::Settle`] with [`Cause::Elsewhere`].
    pub fn route_elsewhere(&mut self, dest: DestId, until: Instant) {
        self.set_route(dest, DestState::Elsewhere(until));
    }

    /// Forgets a destination's route, so that it is asked for anew.
    pub fn forget_route(&mut self, dest: DestId) {
        if let Some(n) = self.dest_of.get(&dest)
            && self.dests[*n].on != DestList::Draining
            && self.dests[*n].state != DestState::Resolving
        {
            self.dests[*n].state = DestState::Unknown;
        }
    }

    /// Forgets that a destination's route failed or that another shard has it, so that it is asked
    /// for anew. A route that became known meanwhile stays: two shards whose answers of DNS differ
    /// would hand its deliveries to each other for ever.
    pub fn forget_failure(&mut self, dest: DestId) {
        if let Some(n) = self.dest_of.get(&dest)
            && let DestState::Failed(_) | DestState::Elsewhere(_) = self.dests[*n].state
        {
            self.forget_route(dest);
        }
    }

    fn set_route(&mut self, dest: DestId, state: DestState) {
        let Some(n) = self.dest(dest) else { return };
        let dest = &mut self.dests[n];
        dest.state = state;
        let (on, parked) = (dest.on, !dest.parked.is_empty());
        if on == DestList::Resolve {
            self.resolve.unlink(&mut self.dests, n);
        }
        if on != DestList::Draining {
            self.dests[n].on = DestList::None;
            if parked {
                self.dests[n].on = DestList::Draining;
                self.draining.push_back(&mut self.dests, n);
            }
        }
    }

    /// Moves one delivery whose way was cleared; whether there was one.
    pub(super) fn move_one(&mut self, now: Instant) -> bool {
        self.move_parked(now) || self.empty_one(now) || self.move_stranded(now)
    }

    fn move_parked(&mut self, now: Instant) -> bool {
        let Some(n) = self.draining.front() else {
            return false;
        };
        self.draining.rotate(&mut self.dests);
        let dest = &mut self.dests[n];
        let id = dest.parked.pop_front(&mut self.deliveries);
        let state = dest.state;
        self.stop_draining_if_empty(n);
        let Some(id) = id else { return true };
        self.deliveries[id].state = State::Held;
        match state {
            _ if self.deliveries[id].is_expired(now) => self.settle(id, Cause::Expired),
            DestState::Routed(route) => self.enter(now, id, &route),
            DestState::Elsewhere(_) => self.settle(id, Cause::Elsewhere),
            _ => self.settle(id, Cause::RouteFailed),
        }
        true
    }

    fn stop_draining_if_empty(&mut self, n: u32) {
        let dest = &mut self.dests[n];
        if dest.on == DestList::Draining && dest.parked.is_empty() {
            dest.on = DestList::None;
            self.draining.unlink(&mut self.dests, n);
        }
    }

    /// Looks at one destination per poll and forgets it if nothing needs it: the memory of routes
    /// stays near the number of routes in use.
    pub(super) fn forget_one_route(&mut self, now: Instant) {
        if self.dest_hand >= self.dests.end() {
            self.dest_hand = 0;
        }
        let n = self.dest_hand;
        self.dest_hand = self.dest_hand.wrapping_add(1);
        let Some(dest) = self.dests.get(n) else {
            return;
        };
        let stale = match dest.state {
            DestState::Unknown => true,
            DestState::Resolving => false,
            DestState::Routed(Route { valid_until: t, .. })
            | DestState::Failed(t)
            | DestState::Elsewhere(t) => t <= now,
        };
        if stale && dest.on == DestList::None && dest.parked.is_empty() {
            self.dest_of.remove(&dest.id);
            self.dests.remove(n);
        }
    }

    /// A delivery goes into the lane of its source and this route.
    fn enter(&mut self, now: Instant, id: u32, route: &Route) {
        let Some(source) = self.choose_source(id, route.site) else {
            return self.strand(id);
        };
        let Some(lane) = self.lane(source, route) else {
            return self.settle(id, Cause::RouteFailed);
        };
        self.deliveries[id].set_source(Some(source));
        let queue = &mut self.lanes[lane].queue;
        if !self
            .flows
            .push(lane, queue, &mut self.deliveries, id, false)
        {
            return self.settle(id, Cause::RouteFailed);
        }
        self.work_came(now, lane);
    }

    /// Its own source if that may be used, else the pool's choice.
    fn choose_source(&mut self, id: u32, site: SiteId) -> Option<SourceId> {
        let d = &self.deliveries[id];
        let state = &self.pools[*self.pool_of.get(&d.pool)?];
        let avoid = d.source().filter(|_| d.avoid);
        if let Some(source) = d.source().filter(|_| !d.avoid)
            && state.pool.usable(source)
        {
            return Some(source);
        }
        let seed = mix(u64::from(site.0) << 16 | u64::from(d.pool.0));
        let mut alone = Chooser::default();
        let chooser = match self.site_of.get(&site) {
            Some(n) => {
                let choosers = &mut self.sites[*n].choosers;
                let at = choosers.iter().position(|(pool, _)| *pool == d.pool);
                let at = at.unwrap_or_else(|| {
                    choosers.push((d.pool, Chooser::default()));
                    choosers.len() - 1
                });
                &mut choosers[at].1
            }
            None => &mut alone,
        };
        let source = state.pool.choose(chooser, d.message, avoid, seed);
        // Only the source to avoid is left, and only for what went over it before.
        source.or_else(|| avoid.filter(|s| state.pool.usable(*s)))
    }

    /// A delivery waits until its pool has a source.
    fn strand(&mut self, id: u32) {
        let pool = self.deliveries[id].pool;
        let Some(n) = self.pool(pool) else {
            return self.settle(id, Cause::RouteFailed);
        };
        self.pools[n].stranded.push_back(&mut self.deliveries, id);
        self.deliveries[id].state = State::Stranded;
        self.deliveries[id].place = n;
    }

    /// The lane, made if it isn't there.
    fn lane(&mut self, source: SourceId, route: &Route) -> Option<u32> {
        let key = (source, route.site, route.gate);
        if let Some(lane) = self.lane_of.get(&key) {
            return Some(*lane);
        }
        let gate = self.gate(source, route.gate)?;
        let site = match self.site_of.get(&route.site) {
            Some(site) => *site,
            None => {
                let site = self.sites.insert(Site {
                    id: route.site,
                    lanes: 0,
                    choosers: Vec::new(),
                })?;
                self.site_of.insert(route.site, site);
                site
            }
        };
        let alarm = self.alarms.insert(Alarm {
            due: Instant::ZERO,
            place: NIL,
            link: Link::default(),
            of: Of::Lane(NIL),
        })?;
        let lane = self.lanes.insert(Lane {
            source,
            site: route.site,
            gate,
            queue: Default::default(),
            sessions: 0,
            unassigned: 0,
            idle: List::default(),
            failures: 0,
            block: None,
            evacuating: false,
            flushing: false,
            wants: None,
            want_link: Link::default(),
            drain_link: Link::default(),
            alarm,
        })?;
        self.alarms[alarm].of = Of::Lane(lane);
        self.lane_of.insert(key, lane);
        self.gates[gate].lanes += 1;
        self.sites[site].lanes += 1;
        if self.source_state(source) == SourceState::Disabled {
            self.evacuate(lane);
        }
        Some(lane)
    }

    /// A delivery that was taken goes back to the front of its lane.
    pub(super) fn put_back(&mut self, now: Instant, lane: u32, id: u32) {
        if self.source_state(self.lanes[lane].source) == SourceState::Disabled {
            return self.arrive(now, id);
        }
        let queue = &mut self.lanes[lane].queue;
        if self.flows.push(lane, queue, &mut self.deliveries, id, true) {
            self.work_came(now, lane);
        } else {
            self.settle(id, Cause::RouteFailed);
        }
    }

    /// What is left in a lane stays there.
    pub(super) fn stop_flushing(&mut self, now: Instant, n: u32) {
        let lane = &mut self.lanes[n];
        if !core::mem::take(&mut lane.flushing) {
            return;
        }
        if !lane.evacuating {
            self.emptying.unlink(&mut self.lanes, n);
        }
        self.reconsider_lane(now, n);
    }

    /// Takes one delivery out of a lane that is being emptied; whether there was one.
    fn empty_one(&mut self, now: Instant) -> bool {
        let Some(n) = self.emptying.front() else {
            return false;
        };
        self.emptying.rotate(&mut self.lanes);
        let lane = &mut self.lanes[n];
        let Some(id) = self.flows.pick(&mut lane.queue) else {
            lane.evacuating = false;
            lane.flushing = false;
            self.emptying.unlink(&mut self.lanes, n);
            self.reconsider_lane(now, n);
            return true;
        };
        let flushing = lane.flushing;
        self.flows.charge(&mut lane.queue, &self.deliveries[id], 1);
        self.flows.unlink(&mut lane.queue, &mut self.deliveries, id);
        if flushing {
            self.settle(id, Cause::Flushed);
        } else {
            // Its source is gone; the pool chooses another.
            self.arrive(now, id);
        }
        true
    }

    /// Takes a delivery off whatever list it is on.
    pub(super) fn detach(&mut self, now: Instant, id: u32) {
        let d = &self.deliveries[id];
        let place = d.place;
        match d.state {
            State::Held | State::Leased => {}
            State::Waiting => self.wheel.cancel(&mut self.deliveries, id),
            State::Parked => {
                self.dests[place].parked.unlink(&mut self.deliveries, id);
                self.stop_draining_if_empty(place);
            }
            State::Stranded => self.pools[place].stranded.unlink(&mut self.deliveries, id),
            State::Settling => self.settle.unlink(&mut self.deliveries, id),
            State::Queued => {
                let lane = self.flows.lane_of(d);
                self.flows
                    .unlink(&mut self.lanes[lane].queue, &mut self.deliveries, id);
                self.reconsider_lane(now, lane);
            }
        }
        let d = &mut self.deliveries[id];
        d.state = State::Held;
        d.place = NIL;
    }

    /// Looks at the next `max` deliveries, round and round over all: those that wait in a lane or
    /// for a route and whose life is over are handed out with [`Cause::Expired`]. To be called now
    /// and then, so that what waits long behind a limit or a pause expires in time.
    pub fn sweep(&mut self, now: Instant, max: u32) {
        for _ in 0..max.min(self.deliveries.end()) {
            if self.sweep_hand >= self.deliveries.end() {
                self.sweep_hand = 0;
            }
            let id = self.sweep_hand;
            self.sweep_hand += 1;
            if let Some(d) = self.deliveries.get(id)
                && d.is_expired(now)
                && !matches!(d.state, State::Leased | State::Settling | State::Held)
            {
                self.detach(now, id);
                self.settle(id, Cause::Expired);
            }
        }
    }
}
