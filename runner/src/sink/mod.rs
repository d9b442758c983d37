//! A receiver for tests: modelled providers that take mail, refuse it as real ones do, and count.
//!
//! As a program it is `courser sink`; as a library:
//!
//! ```no_run
//! use courser::sink::{Behaviour, Config, ReceiverConfig, Sink};
//!
//! let receiver = ReceiverConfig {
//!     name: "busy".into(),
//!     listen: vec!["127.0.0.2:0".parse().unwrap()],
//!     behaviour: Behaviour { connections: 2, ..Behaviour::default() },
//!     ..ReceiverConfig::default()
//! };
//! let sink = Sink::start(Config { receivers: vec![receiver], ..Config::default() }).unwrap();
//! let busy = sink.receiver("busy").unwrap();
//! println!("listens on {}", busy.addresses()[0]);
//! // … send to it …
//! println!("took {} messages", busy.counts().messages);
//! println!("{} of them for ann", busy.deliveries_to("ann@busy.test"));
//! ```
//!
//! | file | has |
//! |---|---|
//! | [`behaviour`] | what a receiver can be told to do, as options and in a file |
//! | [`model`] | what that means for each connection, message and recipient, and the counts |
//! | `session` | one connection: a socket, core's submission machine, the model |
//! | `server` | listeners and threads |
//! | `record` | what is kept of messages: files, lists |
//!
//! It runs on plain tokio, one thread or more, each with its own listeners: the peer of a load
//! run should share as little as possible with what is measured. An idle connection costs about
//! 3 kB; what was read lies in one buffer per thread, and all replies to it leave in one write.

pub mod behaviour;
pub mod model;
mod record;
mod server;
mod session;

pub use behaviour::{Behaviour, Config, Extension, Pipelining, ReceiverConfig, Share, Stage};
pub use model::Counts;
pub use server::{Sink, SinkReceiver};
