//! A scheduler with a hundred sites and as many deliveries as wanted.

use courser_core::time::Instant;
use courser_core::traffic::bucket::Rate;
use courser_core::traffic::scheduler::*;

const SITES: u32 = 100;

/// The `n`th delivery.
pub fn new(n: u32) -> New {
    New {
        message: n,
        recipient: 0,
        dest: DestId(n % SITES),
        pool: PoolId(0),
        source: None,
        tenant: TenantId(n % 17),
        campaign: CampaignId(n % 31),
        class: Class::ALL[n as usize % 3],
        attempts: 0,
        due: Instant::ZERO,
        expires: Instant::FAR,
        hold: false,
    }
}

/// With routes, without deliveries.
pub fn scheduler() -> Scheduler {
    let mut s = Scheduler::new(Config {
        sessions_max: 1000,
        limits: Limits {
            message_rate: Some(Rate::new(1_000_000_000, 1)),
            connection_rate: None,
            messages_per_connection: u32::MAX,
            ..Limits::default()
        },
        ..Config::default()
    });
    s.set_pool(PoolId(0), &[(SourceId(0), 2), (SourceId(1), 1)]);
    for n in 0..SITES {
        let route = Route {
            site: SiteId(n),
            gate: GateId(n / 2),
            valid_until: Instant::FAR,
        };
        s.route(DestId(n), route);
    }
    s
}

/// With so many due deliveries in the lanes, and sessions that serve them.
pub fn due(n: u32) -> (Scheduler, Vec<SessionId>) {
    let mut s = scheduler();
    for i in 0..n {
        let _ = s.enqueue(Instant::ZERO, new(i));
    }
    let mut sessions = Vec::new();
    while let Some(action) = s.poll(Instant::ZERO) {
        if let Action::Open(open) = action {
            let _ = s.opened(Instant::ZERO, open.session);
            sessions.push(open.session);
        }
    }
    (s, sessions)
}
