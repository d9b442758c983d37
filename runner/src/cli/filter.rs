//! The options that choose deliveries.

use crate::control::DeliverySelector;
use crate::control::protocol::{DeliveryState, Filter};

/// Which deliveries; all that is given must hold.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Which deliveries (all that is given must hold)")]
pub struct FilterArgs {
    /// Recipients of this domain; `*.example.org` is every domain below
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// Domains that belong to this provider
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    /// Mail of this tenant
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Mail of this campaign
    #[arg(long, value_name = "NAME")]
    pub campaign: Option<String>,
    /// Mail of this stream
    #[arg(long, value_name = "NAME")]
    pub stream: Option<String>,
    /// Mail from this envelope sender; `<>` for bounces
    #[arg(long, value_name = "ADDRESS")]
    pub sender: Option<String>,
    /// Mail to this envelope recipient
    #[arg(long, value_name = "ADDRESS")]
    pub recipient: Option<String>,
    /// This message, or this delivery of it
    #[arg(long, value_name = "ID")]
    pub id: Option<DeliverySelector>,
    /// Deliveries in this state
    #[arg(long, value_name = "STATE")]
    pub state: Option<State>,
}

/// [`DeliveryState`] on the command line.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum State {
    /// It could go now and waits for its turn or for its lane.
    Ready,
    /// A session has it.
    InFlight,
    /// It waits for its retry time.
    Deferred,
    /// An operator holds it.
    Held,
}

impl FilterArgs {
    /// As the server understands it.
    pub fn filter(self) -> Filter {
        Filter {
            domain: self.domain.map(|d| d.trim_end_matches('.').to_owned()),
            provider: self.provider,
            tenant: self.tenant,
            campaign: self.campaign,
            stream: self.stream,
            sender: self.sender,
            recipient: self.recipient,
            id: self.id,
            state: self.state.map(|s| match s {
                State::Ready => DeliveryState::Ready,
                State::InFlight => DeliveryState::InFlight,
                State::Deferred => DeliveryState::Deferred,
                State::Held => DeliveryState::Held,
            }),
        }
    }
}
