//! What sessions came to about TLS, for the reports (RFC 8460).

use courser_core::dns::Name;

use super::Shard;
use crate::net::clock;
use crate::queue::Queue;
use crate::queue::message::Message;
use crate::session::LaneTask;
use crate::session::transaction::Leased;
use crate::tls_reports::{Counted, Sessions};

impl Shard {
    /// There was a delivery for these sessions: each counts once for its domain. Where the
    /// configuration routes the mail, it is the host's business and not the domain's (RFC 8460 1.1).
    pub fn count_tls(&self, task: &LaneTask, sessions: &Sessions, to: (&Message, Leased)) {
        if sessions.is_empty() {
            return;
        }
        let (message, leased) = to;
        let view = message.envelope();
        let recipient = view.recipient(leased.recipient as usize);
        let domain = Queue::domain(recipient.map_or("", |r| r.address));
        let counted = match sessions.for_domain(&domain) {
            Ok([]) => return,
            Ok(counted) => counted,
            Err(_) => return self.shared.tls_results.lost(1),
        };
        let Ok(name) = Name::from_domain(&domain) else {
            return;
        };
        let is_routed = task.config.route_for(name.as_str()).is_some();
        let sts = task.sts.of(&domain);
        let at = clock::wall();
        let mut results = self.tls_results.borrow_mut();
        for session in counted {
            let domain = match is_routed {
                false => Some(name.clone()),
                // An address has no owner that could be told.
                true => Name::parse(&session.host).ok(),
            };
            if let Some(domain) = domain.filter(Name::is_hostname) {
                results.push(Counted {
                    at,
                    domain,
                    session: session.clone(),
                    sts: sts.clone(),
                });
            }
        }
        drop(results);
        self.events_bell.notify_one();
    }

    /// Gives what was counted to the control plane.
    pub(super) fn pass_tls_results_on(&self) {
        let counted = std::mem::take(&mut *self.tls_results.borrow_mut());
        if !counted.is_empty() {
            self.shared.tls_results.put(counted);
        }
    }
}
