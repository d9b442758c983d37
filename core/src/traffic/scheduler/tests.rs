//! One step at a time; whole worlds are in `core/tests/scheduler.rs`.

use super::*;
use crate::time::Duration;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

const ROUTE: Route = Route {
    site: SiteId(1),
    gate: GateId(1),
    valid_until: Instant::FAR,
};

fn new(message: u32) -> New {
    New {
        message,
        recipient: 0,
        dest: DestId(1),
        pool: PoolId(1),
        source: None,
        tenant: TenantId(1),
        campaign: CampaignId(1),
        class: Class::Normal,
        attempts: 0,
        due: Instant::ZERO,
        expires: Instant::FAR,
        hold: false,
    }
}

fn scheduler(limits: Limits) -> Scheduler {
    let mut s = Scheduler::new(Config {
        limits,
        ..Config::default()
    });
    s.set_pool(PoolId(1), &[(SourceId(1), 1)]);
    s
}

fn free() -> Limits {
    Limits {
        message_rate: None,
        connection_rate: None,
        ..Limits::default()
    }
}

fn actions(s: &mut Scheduler, now: Instant) -> Vec<Action> {
    let mut all = Vec::new();
    loop {
        while let Some(a) = s.poll(now) {
            all.push(a);
        }
        if s.next_wakeup().is_none_or(|t| t > now) {
            return all;
        }
    }
}

fn opens(s: &mut Scheduler, now: Instant) -> Vec<SessionId> {
    actions(s, now)
        .into_iter()
        .filter_map(|a| match a {
            Action::Open(o) => Some(o.session),
            _ => None,
        })
        .collect()
}

#[test]
fn from_enqueue_to_delivered() {
    let mut s = scheduler(free());
    let id = s
        .enqueue(
            at(0),
            New {
                due: at(50),
                ..new(1)
            },
        )
        .unwrap();
    assert_eq!(s.explain(at(1), id).unwrap().why, Why::Scheduled);
    assert_eq!(actions(&mut s, at(1)), []);
    let wakeup = s.next_wakeup().unwrap();
    assert!(wakeup >= at(50) && wakeup <= at(52), "{wakeup:?}");
    assert_eq!(actions(&mut s, wakeup), [Action::Resolve(DestId(1))]);
    assert_eq!(s.explain(wakeup, id).unwrap().why, Why::Dns);
    s.route(DestId(1), ROUTE);
    let open = opens(&mut s, wakeup);
    assert_eq!(open.len(), 1);
    assert_eq!(s.explain(wakeup, id).unwrap().why, Why::Connecting);
    s.opened(wakeup, open[0]).unwrap();
    let mut out = Vec::new();
    assert_eq!(s.take(wakeup, open[0], 100, &mut out), Take::Batch(1));
    assert_eq!(out, [id]);
    assert_eq!(s.explain(wakeup, id).unwrap().why, Why::InFlight);
    assert_eq!(s.remove(wakeup, id), Err(Misuse::InFlight));
    s.report(wakeup, id, Report::Delivered).unwrap();
    assert_eq!(
        s.report(wakeup, id, Report::Delivered),
        Err(Misuse::UnknownDelivery)
    );
    assert_eq!(
        s.take(wakeup, open[0], 100, &mut out),
        Take::Idle(wakeup + Duration::from_secs(60))
    );
    // On the way down the wheel there may be wakeups with nothing to do.
    let (later, said) = loop {
        let later = s.next_wakeup().unwrap();
        let said = actions(&mut s, later);
        if !said.is_empty() {
            break (later, said);
        }
    };
    assert_eq!(said, [Action::Close(open[0])]);
    assert!(later >= wakeup + Duration::from_secs(60));
    s.closed(later, open[0], Closed::Done).unwrap();
    assert_eq!(actions(&mut s, later), []);
    assert_eq!((s.next_wakeup(), s.len()), (None, 0));
    assert_eq!(
        (s.totals().lanes, s.totals().gates, s.totals().sessions),
        (0, 0, 0)
    );
}

/// Enqueues on a known route, opens one connection and gives it the first delivery.
fn busy(s: &mut Scheduler) -> (SessionId, DeliveryId) {
    s.route(DestId(1), ROUTE);
    let id = s.enqueue(at(0), new(1)).unwrap();
    let open = opens(s, at(0));
    assert_eq!(open.len(), 1);
    s.opened(at(0), open[0]).unwrap();
    let mut out = Vec::new();
    assert_eq!(s.take(at(0), open[0], 1, &mut out), Take::Batch(1));
    assert_eq!(out, [id]);
    (open[0], id)
}

fn why(s: &Scheduler, now: Instant, id: DeliveryId) -> (Why, Option<Instant>) {
    let waiting = s.explain(now, id).unwrap();
    (waiting.why, waiting.until)
}

/// Lets time pass, doing nothing but polling, until a connection is to be opened.
fn wait_for_open(s: &mut Scheduler, until: Instant) -> Option<(Instant, SessionId)> {
    while let Some(now) = s.next_wakeup().filter(|t| *t <= until) {
        for action in actions(s, now) {
            if let Action::Open(open) = action {
                return Some((now, open.session));
            }
        }
    }
    None
}

const LANE: LaneId = LaneId(0);
/// A timer rings at most this much late.
const TICK: Duration = Duration::from_micros(1100);

#[test]
fn why_retry_time_and_hold() {
    let mut s = scheduler(free());
    let (session, id) = busy(&mut s);
    let report = Report::Deferred {
        due: at(5000),
        exclude_source: false,
    };
    s.report(at(10), id, report).unwrap();
    assert_eq!(why(&s, at(20), id), (Why::RetryTime, Some(at(5000))));
    s.hold(at(20), id).unwrap();
    assert_eq!(why(&s, at(20), id), (Why::Hold, None));
    s.retry_now(at(20), id).unwrap();
    assert_eq!(why(&s, at(20), id), (Why::Hold, None), "held is held");
    s.release(at(20), id).unwrap();
    assert_eq!(why(&s, at(20), id), (Why::RetryTime, Some(at(5000))));
    s.retry_now(at(20), id).unwrap();
    assert_eq!(s.take(at(20), session, 1, &mut Vec::new()), Take::Batch(1));
    assert_eq!(s.get(id).unwrap().delivery.attempts, 1);
    // Held while in flight: it takes effect when it comes back.
    s.hold(at(20), id).unwrap();
    assert_eq!(why(&s, at(20), id), (Why::InFlight, None));
    s.report(at(20), id, report).unwrap();
    assert_eq!(why(&s, at(20), id), (Why::Hold, None));
    s.hold(at(20), DeliveryId(77)).unwrap_err();
}

#[test]
fn why_rate() {
    let mut s = scheduler(Limits {
        message_rate: Some("1/10s".parse().unwrap()),
        ..free()
    });
    let (session, _) = busy(&mut s);
    let id = s.enqueue(at(1), new(2)).unwrap();
    assert_eq!(why(&s, at(1), id), (Why::Rate, Some(at(10_000))));
    assert_eq!(
        s.take(at(1), session, 1, &mut Vec::new()),
        Take::Wait(at(10_000))
    );
    // No second connection for a token that the first one waits for.
    assert_eq!(actions(&mut s, at(9_999)), []);
    let now = at(10_000) + TICK;
    assert_eq!(actions(&mut s, now), [Action::Wake(session)]);
    assert_eq!(s.take(now, session, 1, &mut Vec::new()), Take::Batch(1));
}

#[test]
fn a_token_too_far_away_closes_and_the_connection_is_opened_for_it_in_time() {
    let mut s = scheduler(Limits {
        message_rate: Some("1/10min".parse().unwrap()),
        ..free()
    });
    let (session, first) = busy(&mut s);
    s.report(at(1), first, Report::Delivered).unwrap();
    let id = s.enqueue(at(1), new(2)).unwrap();
    let token = at(600_000);
    let take = s.take(at(1), session, 1, &mut Vec::new());
    assert_eq!(take, Take::Close(CloseReason::Rate(token)));
    s.closed(at(2), session, Closed::Done).unwrap();
    assert_eq!(why(&s, at(3), id), (Why::Rate, Some(token)));
    let (now, session) = wait_for_open(&mut s, token).unwrap();
    assert!(now >= token - Duration::from_secs(1) && now < token);
    s.opened(token, session).unwrap();
    assert_eq!(s.take(token, session, 1, &mut Vec::new()), Take::Batch(1));
}

#[test]
fn why_concurrency_sessions_and_connection_rate() {
    // Another site behind the same gate has its only connection.
    let mut s = scheduler(Limits {
        concurrency: 1,
        connection_rate: Some("1/10s".parse().unwrap()),
        ..free()
    });
    let (session, first) = busy(&mut s);
    s.route(
        DestId(2),
        Route {
            site: SiteId(2),
            ..ROUTE
        },
    );
    s.route(
        DestId(3),
        Route {
            site: SiteId(3),
            gate: GateId(3),
            ..ROUTE
        },
    );
    let id = s
        .enqueue(
            at(1),
            New {
                dest: DestId(2),
                ..new(2)
            },
        )
        .unwrap();
    assert_eq!(opens(&mut s, at(1)), []);
    assert_eq!(why(&s, at(1), id), (Why::Concurrency, None));
    // The first makes way when it has nothing more to do; then the connection rate counts.
    s.report(at(1), first, Report::Delivered).unwrap();
    let take = s.take(at(1), session, 1, &mut Vec::new());
    assert_eq!(take, Take::Close(CloseReason::MakeWay));
    s.closed(at(2), session, Closed::Done).unwrap();
    assert_eq!(opens(&mut s, at(2)), []);
    assert_eq!(why(&s, at(2), id), (Why::ConnectionRate, Some(at(10_000))));
    // All places taken by then.
    s.set_sessions_max(1);
    let other = s
        .enqueue(
            at(3),
            New {
                dest: DestId(3),
                ..new(3)
            },
        )
        .unwrap();
    let taken = opens(&mut s, at(3));
    assert_eq!(taken.len(), 1);
    assert_eq!(why(&s, at(3), other), (Why::Connecting, None));
    let now = at(10_000) + TICK;
    assert_eq!(opens(&mut s, now), []);
    assert_eq!(why(&s, now, id), (Why::Sessions, None));
    s.closed(now, taken[0], Closed::Done).unwrap();
    assert_eq!(opens(&mut s, now).len(), 1);
    assert_eq!(why(&s, now, id), (Why::Connecting, None));
}

#[test]
fn why_dead_host_longer_each_time() {
    let mut s = scheduler(free());
    s.route(DestId(1), ROUTE);
    let id = s.enqueue(at(0), new(1)).unwrap();
    let mut now = at(0);
    for pause in [60, 120, 240, 480, 960, 1920, 3600, 3600] {
        let (then, session) = wait_for_open(&mut s, now + TICK).unwrap();
        let until = s
            .closed(then, session, Closed::Unreachable)
            .unwrap()
            .unwrap();
        assert_eq!(until.since(then).as_secs(), pause);
        assert_eq!(why(&s, then, id), (Why::DeadHost, Some(until)));
        assert_eq!(wait_for_open(&mut s, until - TICK), None);
        now = until;
    }
    s.unblock_lane(now, LANE).unwrap();
    let session = opens(&mut s, now)[0];
    s.opened(now, session).unwrap();
    assert_eq!(s.closed(now, session, Closed::Done), Ok(None));
}

#[test]
fn why_blocked_and_flushed() {
    let mut s = scheduler(free());
    let (session, first) = busy(&mut s);
    let id = s.enqueue(at(1), new(2)).unwrap();
    s.block_lane(at(1), LANE, at(900), BlockReason::Throttled)
        .unwrap();
    assert_eq!(
        why(&s, at(1), id),
        (Why::Blocked(BlockReason::Throttled), Some(at(900)))
    );
    assert!(matches!(
        s.take(at(1), session, 1, &mut Vec::new()),
        Take::Close(CloseReason::Blocked(_))
    ));
    s.report(at(1), first, Report::Ended).unwrap();
    s.closed(at(1), session, Closed::Done).unwrap();
    assert!(wait_for_open(&mut s, at(890)).is_none());
    // The gate is blocked for ever: no time is known.
    s.block_gate(
        at(890),
        SourceId(1),
        GateId(1),
        Instant::FAR,
        BlockReason::Operator,
    );
    s.unblock_lane(at(890), LANE).unwrap();
    assert_eq!(
        why(&s, at(900), id),
        (Why::Blocked(BlockReason::Operator), None)
    );
    s.flush_lane(at(900), LANE).unwrap();
    let flushed = [Action::Settle(id, Cause::Flushed)];
    assert_eq!(actions(&mut s, at(900)), flushed);
    assert_eq!(why(&s, at(900), id), (Why::Settling, None));
    let report = Report::Deferred {
        due: at(900),
        exclude_source: false,
    };
    s.report(at(900), id, report).unwrap();
    s.unblock_gate(at(901), SourceId(1), GateId(1));
    assert_eq!(opens(&mut s, at(901)).len(), 1);
    s.block_lane(at(0), LaneId(9), at(1), BlockReason::Operator)
        .unwrap_err();
}

#[test]
fn why_source_disabled() {
    let mut s = scheduler(free());
    let (session, first) = busy(&mut s);
    let id = s.enqueue(at(1), new(2)).unwrap();
    s.set_source(at(1), SourceId(1), SourceState::Disabled);
    assert_eq!(why(&s, at(1), id).0, Why::SourceDisabled);
    assert_eq!(actions(&mut s, at(1)), []);
    assert_eq!(why(&s, at(1), id), (Why::SourceDisabled, None));
    let take = s.take(at(1), session, 1, &mut Vec::new());
    assert_eq!(take, Take::Close(CloseReason::SourceDisabled));
    // What it had taken and not reported goes back, then over another source.
    s.closed(at(1), session, Closed::Done).unwrap();
    s.set_pool(PoolId(1), &[(SourceId(1), 1), (SourceId(2), 1)]);
    let open = opens(&mut s, at(2));
    assert_eq!(open.len(), 1);
    s.opened(at(2), open[0]).unwrap();
    for id in [first, id] {
        assert_eq!(s.get(id).unwrap().delivery.source, Some(SourceId(2)));
    }
}

#[test]
fn why_turn() {
    let mut s = scheduler(free());
    let (session, _) = busy(&mut s);
    let ids: Vec<_> = (2..5).map(|m| s.enqueue(at(1), new(m)).unwrap()).collect();
    assert_eq!(actions(&mut s, at(1)), []);
    assert_eq!(why(&s, at(1), ids[2]).0, Why::Turn { ahead: 2, lane: 3 });
    assert_eq!(s.take(at(1), session, 1, &mut Vec::new()), Take::Batch(1));
    assert_eq!(why(&s, at(1), ids[2]).0, Why::Turn { ahead: 1, lane: 2 });
}

#[test]
fn a_retry_keeps_its_source_unless_told_otherwise() {
    let mut s = scheduler(free());
    s.set_pool(PoolId(1), &[(SourceId(1), 1), (SourceId(2), 1)]);
    s.route(DestId(1), ROUTE);
    let id = s.enqueue(at(0), new(1)).unwrap();
    let mut before = s.get(id).unwrap().delivery.source;
    assert!(before.is_some());
    for exclude_source in [false, false, true, true, false] {
        let session = opens(&mut s, at(0))[0];
        s.opened(at(0), session).unwrap();
        assert_eq!(s.take(at(0), session, 1, &mut Vec::new()), Take::Batch(1));
        let report = Report::Deferred {
            due: at(0),
            exclude_source,
        };
        s.report(at(0), id, report).unwrap();
        s.closed(at(0), session, Closed::Done).unwrap();
        let after = s.get(id).unwrap().delivery.source;
        assert_eq!(after != before, exclude_source);
        before = after;
    }
}

#[test]
fn no_route_and_another_shards() {
    let mut s = scheduler(free());
    let ids: Vec<_> = (0..3).map(|m| s.enqueue(at(0), new(m)).unwrap()).collect();
    assert_eq!(actions(&mut s, at(0)), [Action::Resolve(DestId(1))]);
    s.route_failed(DestId(1), at(100));
    let failed: Vec<_> = ids
        .iter()
        .map(|id| Action::Settle(*id, Cause::RouteFailed))
        .collect();
    assert_eq!(actions(&mut s, at(0)), failed);
    for id in ids {
        s.report(at(0), id, Report::Ended).unwrap();
    }
    // What comes meanwhile fails without asking; later one asks again.
    let id = s.enqueue(at(50), new(9)).unwrap();
    assert_eq!(
        actions(&mut s, at(50)),
        [Action::Settle(id, Cause::RouteFailed)]
    );
    let given = New {
        due: at(100),
        ..new(9)
    };
    let report = Report::Deferred {
        due: at(100),
        exclude_source: true,
    };
    s.report(at(50), id, report).unwrap();
    let now = at(100) + TICK;
    assert_eq!(actions(&mut s, now), [Action::Resolve(DestId(1))]);
    s.route_elsewhere(DestId(1), at(200));
    assert_eq!(actions(&mut s, now), [Action::Settle(id, Cause::Elsewhere)]);
    assert_eq!(
        s.remove(now, id),
        Ok(New {
            attempts: 1,
            ..given
        })
    );
    assert!(s.is_empty());
}

#[test]
fn what_is_too_old_is_not_sent() {
    let mut s = scheduler(free());
    let (session, _) = busy(&mut s);
    let old = New {
        expires: at(2000),
        ..new(2)
    };
    let ids: Vec<_> = (0..3).map(|_| s.enqueue(at(1), old).unwrap()).collect();
    // Noticed by the sweep, by a session that asks for work, or when it comes.
    s.hold(at(1), ids[2]).unwrap();
    s.sweep(at(1999), 100);
    assert_eq!(actions(&mut s, at(1999)), []);
    let expired = |id| Action::Settle(id, Cause::Expired);
    assert!(matches!(
        s.take(at(2000), session, 9, &mut Vec::new()),
        Take::Idle(_)
    ));
    assert_eq!(
        actions(&mut s, at(2000)),
        [expired(ids[0]), expired(ids[1])]
    );
    s.release(at(2000), ids[2]).unwrap();
    assert_eq!(actions(&mut s, at(2000)), [expired(ids[2])]);
    s.block_lane(at(2000), LANE, Instant::FAR, BlockReason::Operator)
        .unwrap();
    let id = s
        .enqueue(
            at(2000),
            New {
                expires: at(3000),
                ..new(3)
            },
        )
        .unwrap();
    actions(&mut s, at(3000));
    s.sweep(at(3000), 100);
    assert_eq!(actions(&mut s, at(3000)), [expired(id)]);
}

#[test]
fn limits_and_allowances_change_at_once() {
    let mut s = scheduler(Limits {
        queue_per_connection: 1,
        ..free()
    });
    s.route(DestId(1), ROUTE);
    for m in 0..100 {
        s.enqueue(at(0), new(m)).unwrap();
    }
    let mut sessions = opens(&mut s, at(0));
    assert_eq!(sessions.len(), 10);
    s.set_limits(
        at(0),
        GateId(1),
        Limits {
            concurrency: 15,
            queue_per_connection: 1,
            ..free()
        },
    );
    sessions.extend(opens(&mut s, at(0)));
    assert_eq!(sessions.len(), 15);
    let allowance = Allowance {
        concurrency: 2,
        message_rate: None,
    };
    s.set_allowance(at(0), SourceId(1), GateId(1), allowance);
    let mut left = Vec::new();
    for session in sessions {
        s.opened(at(0), session).unwrap();
        match s.take(at(0), session, 1, &mut Vec::new()) {
            Take::Batch(1) => left.push(session),
            other => assert_eq!(other, Take::Close(CloseReason::Concurrency)),
        }
    }
    assert_eq!(left.len(), 2);
    // The allowance's rate counts where it is the slower one.
    let slow = Allowance {
        concurrency: 2,
        message_rate: Some("1/s".parse().unwrap()),
    };
    s.set_allowance(at(0), SourceId(1), GateId(1), slow);
    assert_eq!(s.take(at(0), left[0], 1, &mut Vec::new()), Take::Batch(1));
    assert_eq!(
        s.take(at(0), left[1], 1, &mut Vec::new()),
        Take::Wait(at(1000))
    );
    s.set_allowance(at(1), SourceId(1), GateId(1), Allowance::default());
    assert_eq!(actions(&mut s, at(1))[0], Action::Wake(left[1]));
}

#[test]
fn the_work_of_a_session_that_closes_goes_to_one_that_is_idle() {
    let mut s = scheduler(Limits {
        queue_per_connection: 1,
        ..free()
    });
    s.route(DestId(1), ROUTE);
    for m in [1, 2] {
        s.enqueue(at(0), new(m)).unwrap();
    }
    let sessions = opens(&mut s, at(0));
    assert_eq!(sessions.len(), 2);
    for session in &sessions {
        s.opened(at(0), *session).unwrap();
        let mut out = Vec::new();
        assert_eq!(s.take(at(0), *session, 1, &mut out), Take::Batch(1));
        s.report(at(1), out[0], Report::Delivered).unwrap();
    }
    for session in &sessions {
        let take = s.take(at(1), *session, 1, &mut Vec::new());
        assert!(matches!(take, Take::Idle(_)), "{take:?}");
    }
    s.enqueue(at(2), new(3)).unwrap();
    assert_eq!(actions(&mut s, at(2)), [Action::Wake(sessions[1])]);
    // It was about to quit, and doesn't hear the bell.
    s.closed(at(3), sessions[1], Closed::Done).unwrap();
    assert_eq!(actions(&mut s, at(3)), [Action::Wake(sessions[0])]);
    let take = s.take(at(3), sessions[0], 1, &mut Vec::new());
    assert_eq!(take, Take::Batch(1));
}

#[test]
fn urgent_mail_is_woken_for_and_gets_connections_first() {
    let mut s = scheduler(free());
    s.set_sessions_max(3);
    for n in 10..30 {
        s.route(
            DestId(n),
            Route {
                site: SiteId(n),
                gate: GateId(n),
                valid_until: Instant::FAR,
            },
        );
    }
    for n in 10..29 {
        let bulk = New {
            dest: DestId(n),
            class: Class::Bulk,
            ..new(n)
        };
        s.enqueue(at(0), bulk).unwrap();
    }
    let sessions = opens(&mut s, at(0));
    assert_eq!(sessions.len(), 3);
    let urgent = New {
        dest: DestId(29),
        class: Class::Transactional,
        ..new(99)
    };
    s.enqueue(at(0), urgent).unwrap();
    s.closed(at(0), sessions[0], Closed::Done).unwrap();
    let Some(Action::Open(open)) = s.poll(at(0)) else {
        panic!("a place is free");
    };
    assert_eq!(open.site, SiteId(29));
}

#[test]
fn small_records() {
    assert_eq!(size_of::<Delivery>(), 56);
    let mut slab = Slab::default();
    slab.insert(Delivery::new(&new(1)));
    assert!(
        slab.bytes() <= 512 * 56 + 200,
        "an entry is no larger than its record"
    );
}

#[test]
fn a_route_that_became_known_meanwhile_stays() {
    let mut s = scheduler(free());
    let id = s.enqueue(at(1), new(1)).unwrap();
    assert_eq!(actions(&mut s, at(1)), [Action::Resolve(DestId(1))]);
    s.route_elsewhere(DestId(1), at(60_000));
    assert_eq!(
        actions(&mut s, at(1)),
        [Action::Settle(id, Cause::Elsewhere)]
    );
    // Before the caller has settled it, the other shard hands something over with a route.
    s.route(DestId(1), ROUTE);
    s.forget_failure(DestId(1));
    s.report(at(1), id, Report::NotTried).unwrap();
    let all = actions(&mut s, at(1));
    assert!(
        matches!(all[..], [Action::Open(_)]),
        "asked again, or handed on: {all:?}"
    );
    // One that is not known is asked for anew.
    s.route_elsewhere(DestId(1), at(60_000));
    s.forget_failure(DestId(1));
    s.enqueue(at(2), new(2)).unwrap();
    assert_eq!(actions(&mut s, at(2)), [Action::Resolve(DestId(1))]);
}

#[test]
fn what_is_flushed_and_given_back_is_not_flushed_again() {
    let mut s = scheduler(free());
    for message in 1..=5 {
        s.enqueue(at(1), new(message)).unwrap();
    }
    actions(&mut s, at(1));
    s.route(DestId(1), ROUTE);
    let all = actions(&mut s, at(1));
    let Some(Action::Open(open)) = all.first() else {
        panic!("{all:?}");
    };
    s.flush_lane(at(1), open.lane).unwrap();
    let Some(Action::Settle(id, Cause::Flushed)) = s.poll(at(1)) else {
        panic!("not flushed");
    };
    s.report(at(1), id, Report::NotTried).unwrap();
    let all = actions(&mut s, at(1));
    assert!(
        !all.iter().any(|a| matches!(a, Action::Settle(..))),
        "{all:?}"
    );
    assert_eq!(
        s.lane_view(open.lane).unwrap().queued.iter().sum::<u32>(),
        5
    );
}

#[test]
fn a_session_that_opens_ends_the_flush_of_its_lane() {
    let mut s = scheduler(free());
    for message in 1..=5 {
        s.enqueue(at(1), new(message)).unwrap();
    }
    actions(&mut s, at(1));
    s.route(DestId(1), ROUTE);
    let opens: Vec<_> = actions(&mut s, at(1))
        .into_iter()
        .filter_map(|a| match a {
            Action::Open(open) => Some(open),
            _ => None,
        })
        .collect();
    assert!(opens.len() > 1, "{opens:?}");
    s.closed(at(1), opens[0].session, Closed::Done).unwrap();
    s.flush_lane(at(1), opens[0].lane).unwrap();
    assert!(matches!(
        s.poll(at(1)),
        Some(Action::Settle(_, Cause::Flushed))
    ));
    s.opened(at(1), opens[1].session).unwrap();
    let all = actions(&mut s, at(1));
    assert!(
        !all.iter().any(|a| matches!(a, Action::Settle(..))),
        "{all:?}"
    );
    let mut out = Vec::new();
    assert!(matches!(
        s.take(at(1), opens[1].session, 10, &mut out),
        Take::Batch(_)
    ));
}
