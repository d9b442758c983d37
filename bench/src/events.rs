//! An event as most are.

use courser::control::{DeliverySelector, MessageId};
use courser::events::{
    Delivery, DeliveryEvent, Event, EventKind, Lane, Message, Peer, Reply, Time, Timing, Verdict,
};

/// A delivery that went well.
pub fn delivered() -> Event {
    let message = MessageId(1 << 60);
    let event = DeliveryEvent {
        message: Message {
            message,
            sender: "bounces+4711@news.example.org".into(),
            tenant: "acme".into(),
            campaign: "spring".into(),
            stream: "bulk".into(),
            tags: String::new(),
            envid: String::new(),
            size: 10_000,
        },
        delivery: Delivery {
            delivery: DeliverySelector {
                message,
                recipient: Some(0),
            },
            recipient: "somebody.else@example.net".into(),
            domain: "example.net".into(),
        },
        lane: Some(Lane {
            source: "a1".into(),
            site: "mx.example.net".into(),
            provider: "example".into(),
            source_address: Some([192, 0, 2, 1].into()),
            ehlo_name: "out1.example.org".into(),
        }),
        peer: Some(Peer {
            peer_host: "mx1.example.net".into(),
            peer_address: Some(([192, 0, 2, 25], 25).into()),
            tls: None,
        }),
        reply: Some(Reply {
            code: 250,
            enhanced: "2.0.0".into(),
            text: "OK 1785542400 queued as 4bXyZk1qTGz9rvL".into(),
            stage: "data".into(),
        }),
        verdict: Some(Verdict {
            class: "delivered".into(),
            scope: "recipient".into(),
            permanent: false,
            pressure: false,
            rule: String::new(),
        }),
        cause: String::new(),
        timing: Timing {
            attempt: 1,
            queued_ms: 80,
            connect_ms: 31,
            transfer_ms: 22,
        },
        next_attempt: None,
    };
    Event {
        time: Time(1_785_542_400_123),
        kind: EventKind::Delivered(Box::new(event)),
    }
}
