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
