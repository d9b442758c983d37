//! One delivery connection over the core's client machine: what `runner/src/session/` does, in
//! virtual time.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courser::config::EightBit;
use courser::feedback::settle::{Fate, Said, lane_rest};
use courser::queue::message::Message;
use courser::session::connect::Unreachable;
use courser::session::transaction::{Leased, Transaction, Transactions};
use courser::session::{LaneTask, failure_text, failure_verdict};
use courser_core::feedback::verdict::{Cause as LocalCause, Class, Scope, Stage, Verdict};
use courser_core::smtp::client::{
    self, Cause, Event as Told, Failure, Input, Options, Outcome, Output, State, TlsMode,
    TransactionId,
};
use courser_core::smtp::server;
use courser_core::time::Instant;
use courser_core::traffic::scheduler::{Closed, DeliveryId};

use crate::mutations::Fault;
use crate::network::{Conn, Toward, Wire};
use crate::receivers::{Current, Mood, Reaction, Step};
use crate::shard::Work;
use crate::world::{Event, World};

/// As in the runner.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const STEP_ASIDE: Duration = Duration::from_secs(30);
const STEP_ASIDE_LOOK: Duration = Duration::from_secs(1);
const COMMAND_BYTES: usize = 8192;

/// What a session does.
enum Doing {
    /// Looks for a host that answers.
    Reaching,
    /// Takes transactions.
    Working,
    /// Leaves its place empty for a while.
    Aside(Instant),
}

/// A delivery session.
pub(crate) struct Client {
    pub(crate) shard: usize,
    pub(crate) number: u64,
    pub(crate) task: LaneTask,
    pub(crate) toward: Toward,
    pub(crate) conn: Option<u32>,
    doing: Doing,
    // The way to a host.
    host: usize,
    address: usize,
    tried: usize,
    counted: bool,
    never: bool,
    last: Unreachable,
    peer: Option<SocketAddr>,
    ready: bool,
    broken: Option<(Failure, Unreachable)>,
    // The conversation.
    machine: Option<Box<client::Session>>,
    rcpt_max: Option<u32>,
    transactions: Transactions,
    leased: Vec<(TransactionId, Vec<DeliveryId>)>,
    next_id: u32,
    finished: u32,
    idle_since: Instant,
    quitting: bool,
    close: bool,
    rung: bool,
    /// Waits for the bell or the end of a pause, and not only for the peer.
    pausing: bool,
    heard: Vec<u8>,
    taken: usize,
    ended: bool,
    deadline: Option<Instant>,
    deadline_set: Option<u64>,
    pause_until: Option<u64>,
}

impl Client {
    pub(crate) fn new(shard: usize, number: u64, task: LaneTask, now: Instant) -> Self {
        let limiter = match &task.provider {
            Some(provider) => provider.to_string(),
            None => task.plan.site.to_string(),
        };
        Self {
            shard,
            number,
            toward: (task.source_id.0, limiter),
            conn: None,
            doing: Doing::Reaching,
            host: 0,
            address: 0,
            tried: 0,
            counted: false,
            never: task.plan.hosts.len() <= task.config.delivery.max_hosts,
            last: Unreachable {
                verdict: LocalCause::Unreachable.verdict(),
                said: Said::locally("no host has an address that the source can reach"),
                host: None,
                address: None,
                sessions: Rc::default(),
            },
            peer: None,
            ready: false,
            broken: None,
            machine: None,
            rcpt_max: None,
            transactions: Transactions::default(),
            leased: Vec::new(),
            next_id: 0,
            finished: 0,
            idle_since: now,
            quitting: false,
            close: false,
            rung: false,
            pausing: false,
            heard: Vec::new(),
            taken: 0,
            ended: false,
            deadline: None,
            deadline_set: None,
            pause_until: None,
            task,
        }
    }

    /// The deliveries that it has and has not reported.
    pub(crate) fn holds(&self) -> impl Iterator<Item = DeliveryId> {
        let open = self.leased.iter();
        let open = open.filter_map(|(id, _)| self.transactions.get(*id));
        let all = open.flat_map(|t| t.leased.iter().zip(&t.told));
        all.filter(|(_, told)| !**told).map(|(l, _)| l.delivery)
    }

    /// It has nothing to do until then, unless somebody rings.
    pub(crate) fn sleeps_until(&self) -> Option<Instant> {
        let sleeps = self.pausing && !self.rung && self.transactions.is_empty();
        let until = self.pause_until.filter(|_| sleeps);
        until.map(Instant::from_nanos)
    }

    fn unreachable(&self, verdict: Verdict, said: Said) -> Unreachable {
        Unreachable {
            verdict,
            said,
            host: None,
            address: self.peer,
            sessions: Rc::default(),
        }
    }
}

impl World {
    /// Takes a session out of its place, lets it work, and puts it back unless it has ended.
    pub(crate) fn with_client(
        &mut self,
        number: u64,
        work: impl FnOnce(&mut Self, &mut Client) -> bool,
    ) {
        let Some(mut client) = self.server.as_mut().and_then(|s| s.clients.remove(&number)) else {
            return;
        };
        let goes_on = work(self, &mut client);
        if let Some(server) = &mut self.server
            && goes_on
        {
            server.clients.insert(number, client);
        }
    }

    /// Rings a session of the scheduler.
    pub(crate) fn ring(&mut self, shard: usize, session: u32, close: bool) {
        let Some(number) = self
            .shard(shard)
            .and_then(|s| s.by_session.get(&session).copied())
        else {
            return;
        };
        if let Some(client) = self
            .server
            .as_mut()
            .and_then(|s| s.clients.get_mut(&number))
        {
            client.close |= close;
            client.rung = true;
            let wait = Duration::from_nanos(self.random.below(20_000));
            self.at_delay(wait, Event::Rung(number));
        }
    }

    pub(crate) fn rung(&mut self, client: &mut Client) -> bool {
        match client.doing {
            Doing::Aside(until) => self.aside(client, until),
            Doing::Working if client.pausing && client.rung => {
                client.rung = false;
                self.converse(client)
            }
            _ => true,
        }
    }

    // -- reaching a host --

    /// Connects to the next address; false when there is none, and the session has ended.
    pub(crate) fn try_next(&mut self, client: &mut Client) -> bool {
        let now = self.instant();
        let plan = client.task.plan.clone();
        let max_hosts = client.task.config.delivery.max_hosts;
        while let Some(host) = plan.hosts.get(client.host) {
            if client.tried == max_hosts && !client.counted {
                break;
            }
            let Some(&ip) = host.addresses.get(client.address) else {
                client.host += 1;
                client.address = 0;
                client.counted = false;
                continue;
            };
            client.address += 1;
            let address = SocketAddr::new(ip, host.port);
            let Some(shard) = self.shard(client.shard) else {
                return false;
            };
            if shard.hosts.dead_until(now, address).is_some() {
                client.never = false;
                if client.last.host.is_none() {
                    client.last.said = Said::locally("could not be reached a while ago");
                    client.last.host = Some(host.name.clone());
                    client.last.verdict = LocalCause::Unreachable.verdict();
                }
                continue;
            }
            if !std::mem::replace(&mut client.counted, true) {
                client.tried += 1;
            }
            client.peer = Some(address);
            self.connect(client, address);
            return true;
        }
        client.last.verdict.permanent &= client.never;
        let trouble = client.last.clone();
        if self.lane_works(client) {
            let ends = now + STEP_ASIDE;
            client.doing = Doing::Aside(ends);
            return self.aside(client, ends);
        }
        self.lane_unreachable(client, &trouble);
        false
    }

    fn lane_works(&mut self, client: &Client) -> bool {
        let key = (client.task.source_id.0, client.task.site_id.0);
        self.shard(client.shard)
            .is_some_and(|s| s.working.contains_key(&key))
    }

    /// A connection too many: its place stays empty as long as the others work.
    fn aside(&mut self, client: &mut Client, until: Instant) -> bool {
        if self.instant() < until && self.lane_works(client) && !client.close {
            self.at_delay(STEP_ASIDE_LOOK, Event::Rung(client.number));
            return true;
        }
        self.close_session(client, Closed::Done);
        self.kick(client.shard);
        false
    }

    fn connect(&mut self, client: &mut Client, address: SocketAddr) {
        let way = self.way();
        let host = self.receivers.at(address);
        let mood = host.map(|h| self.receivers.hosts[h].mood);
        let timeout = client.task.config.delivery.timeouts.connect;
        let outcome = match mood {
            None | Some(Mood::Silent) => (timeout, Err(LocalCause::ConnectTimeout)),
            Some(Mood::Refuses) => (Duration::from_nanos(2 * way), Err(LocalCause::Refused)),
            Some(_) => (Duration::from_nanos(2 * way), Ok(())),
        };
        let limits = self.limits_toward(&client.toward);
        let right = self.network.watch.connects(&client.toward, &limits);
        self.check(right);
        self.say(|| format!("session {} connects to {address}", client.number));
        self.at_delay(outcome.0, Event::Connected(client.number, outcome.1));
    }

    /// The connection is there, or it isn't.
    pub(crate) fn connected(
        &mut self,
        client: &mut Client,
        outcome: Result<(), LocalCause>,
    ) -> bool {
        let now = self.instant();
        let Some(address) = client.peer else {
            return true;
        };
        if let Err(cause) = outcome {
            self.network.watch.closes(&client.toward);
            let said = Said::locally(format!("connect to {address}: {cause:?}"));
            return self.host_trouble(client, cause.verdict(), said, true);
        }
        let Some(host) = self.receivers.at(address) else {
            return true;
        };
        let config = client.task.config.clone();
        let lies = self
            .shard(client.shard)
            .is_some_and(|s| s.liars.contains(&address));
        let t = &config.delivery.timeouts;
        let options = Options {
            lmtp: client.task.lmtp,
            pipelining: config.delivery.pipelining && !lies,
            chunking: config.delivery.chunking,
            eight_bit: match config.delivery.eight_bit {
                EightBit::Refuse => client::EightBit::Refuse,
                EightBit::Send => client::EightBit::SendAnyway,
            },
            tls: TlsMode::Off,
            timeouts: client::Timeouts {
                greeting: t.greeting,
                hello: t.ehlo,
                starttls: t.ehlo,
                mail: t.mail,
                rcpt: t.rcpt,
                data: t.data,
                block: t.data_block,
                end: t.data_end,
                quit: t.quit,
            },
            ..Options::new(client.task.ehlo_name.clone())
        };
        client.machine = Some(Box::new(client::Session::new(now, options)));
        client.ready = false;
        client.broken = None;
        client.heard.clear();
        client.taken = 0;
        client.ended = false;
        let model = &mut self.receivers.hosts[host];
        model.open += 1;
        let crowded = matches!(model.mood, Mood::Crowded(most) if model.open > most);
        let mut machine = server::Session::new(now, model.offers.clone());
        let refuse = match model.mood {
            Mood::Greets(code) => Some((code, &b"not now"[..])),
            _ if crowded => Some((421, &b"4.7.0 too many connections from your address"[..])),
            _ => None,
        };
        let mut stalled = matches!(model.mood, Mood::Stalls(Step::Greeting));
        let hangs = matches!(model.mood, Mood::Drops(Step::Greeting));
        stalled |= hangs;
        if let Some((code, text)) = refuse {
            use courser_core::smtp::reply::{Reply, ReplyCode};
            let code = ReplyCode::new(code).expect("a code");
            let refusal = server::Input::RefuseAndClose(Reply::new(code, None, text));
            machine.handle(now, refusal).expect("before the greeting");
        }
        self.network.next += 1;
        let number = self.network.next;
        let conn = Conn {
            host,
            session: client.number,
            toward: client.toward.clone(),
            up: Default::default(),
            down: Default::default(),
            up_until: 0,
            down_until: 0,
            near_open: true,
            far_open: true,
            machine,
            input: Vec::new(),
            current: Current::default(),
            taken_mails: 0,
            stalled,
            wakes: None,
            wake_set: false,
            mails: 0,
            rcpts: 0,
            rcpt_max: None,
        };
        self.network.conns.insert(number, conn);
        client.conn = Some(number);
        if hangs {
            self.far_says(number, Wire::End, 0);
        } else {
            self.far_looks(number);
        }
        self.listen_on(client)
    }

    /// The host that was tried doesn't take us; goes on with the next.
    fn host_trouble(
        &mut self,
        client: &mut Client,
        verdict: Verdict,
        said: Said,
        dead: bool,
    ) -> bool {
        let now = self.instant();
        let refuses = said.code.is_some();
        let works = self.lane_works(client);
        if dead
            && !(refuses && works)
            && let Some(address) = client.peer
            && let Some(shard) = self.shard(client.shard)
        {
            shard.hosts.failed(now, address);
        }
        client.never &= verdict.permanent;
        client.last = client.unreachable(verdict, said);
        client.last.host = Some("tried".into());
        self.try_next(client)
    }

    // -- the conversation --

    /// Something came for a session, or its time has passed.
    pub(crate) fn near_hears(&mut self, client: &mut Client, number: u32) -> bool {
        // It may be for a connection that it has left.
        if client.conn != Some(number) {
            return true;
        }
        let conn = self.network.conns.get_mut(&number);
        match conn.and_then(|c| c.down.pop_front()) {
            Some(Wire::Bytes(bytes)) => client.heard.extend(bytes),
            Some(Wire::End) => client.ended = true,
            None => return true,
        }
        self.listen_on(client)
    }

    pub(crate) fn near_deadline(&mut self, client: &mut Client) -> bool {
        let now = self.instant();
        client.deadline_set = None;
        match client.deadline {
            Some(deadline) if deadline <= now => {
                if let Some(machine) = &mut client.machine {
                    let told = machine.handle(now, Input::DeadlinePassed);
                    if let Err(misuse) = told {
                        self.violation(format!("deadline: {misuse}"));
                    }
                }
                self.listen_on(client)
            }
            _ => {
                self.set_deadline(client);
                true
            }
        }
    }

    fn set_deadline(&mut self, client: &mut Client) {
        if let Some(deadline) = client.deadline {
            let at = deadline.as_nanos().max(self.now);
            if client.deadline_set.is_none_or(|set| set > at) {
                client.deadline_set = Some(at);
                self.at(at, Event::Deadline(client.number));
            }
        }
    }

    /// The pause of a session is over.
    pub(crate) fn pause_over(&mut self, client: &mut Client) -> bool {
        if client.pausing && client.pause_until == Some(self.now) {
            return self.converse(client);
        }
        true
    }

    fn listen_on(&mut self, client: &mut Client) -> bool {
        if matches!(client.doing, Doing::Working) {
            // The machine hears before the session looks for work, as in the runner.
            self.hand_in(client);
            return self.drive_link(client, None);
        }
        self.hand_in(client);
        let over = self.speak(client);
        let can_begin = client.machine.as_ref().is_some_and(|m| m.can_begin());
        if !over && !can_begin {
            self.set_deadline(client);
            return true;
        }
        if can_begin && client.ready {
            let now = self.instant();
            let Some(address) = client.peer else {
                return true;
            };
            let key = (client.task.source_id.0, client.task.site_id.0);
            let session = client.task.session;
            let Some(shard) = self.shard(client.shard) else {
                return false;
            };
            shard.hosts.reached(address);
            shard.working.entry(key).or_default().insert(session.0);
            shard.troubles.remove(&key);
            if let Err(misuse) = shard.queue.scheduler.opened(now, session) {
                self.violation(format!("opened: {misuse}"));
            }
            self.kick(client.shard);
            client.doing = Doing::Working;
            client.idle_since = now;
            self.say(|| format!("session {} works with {address}", client.number));
            return self.converse(client);
        }
        self.hang_up(client);
        match client.broken.take() {
            Some((failure, trouble)) => {
                let dead = matches!(failure.state, State::Greeting | State::Hello);
                self.host_trouble(client, trouble.verdict, trouble.said, dead)
            }
            None => {
                let verdict = LocalCause::Closed(Stage::Greeting).verdict();
                self.host_trouble(client, verdict, Said::locally("closed"), true)
            }
        }
    }

    fn hang_up(&mut self, client: &mut Client) {
        if let Some(conn) = client.conn.take() {
            self.near_closes(conn);
        }
        client.machine = None;
        client.deadline = None;
    }

    /// Takes work, speaks, and waits: the loop of a session.
    pub(crate) fn converse(&mut self, client: &mut Client) -> bool {
        let keepalive = client.task.config.delivery.idle_keepalive;
        client.pausing = false;
        for _ in 0..10_000 {
            let now = self.instant();
            let mut idle = None;
            let Some(machine) = &mut client.machine else {
                return true;
            };
            let full = client.transactions.is_empty() && !machine.can_begin();
            if !client.quitting && (client.close || full) {
                client.quitting = true;
                machine.quit();
            }
            while !client.quitting
                && !client.close
                && client.machine.as_ref().is_some_and(|m| m.can_begin())
                && self.broken.is_none()
            {
                match self.take_work(client, client.rcpt_max) {
                    Work::Batch(message, leased) => {
                        client.idle_since = now;
                        self.begin(client, message, leased);
                    }
                    Work::Wait(wait) => {
                        idle = Some(wait.min(keepalive));
                        break;
                    }
                    Work::Close => {
                        client.quitting = true;
                        if let Some(machine) = &mut client.machine {
                            machine.quit();
                        }
                    }
                }
            }
            if idle.is_some() && client.transactions.is_empty() {
                let rested = now.since(client.idle_since);
                if rested >= keepalive {
                    client.quitting = true;
                    if let Some(machine) = &mut client.machine {
                        machine.quit();
                    }
                    idle = None;
                } else {
                    idle = idle.map(|i| i.min(keepalive - rested));
                }
            }
            let idle = idle.map(|i| i.max(PAUSE_MIN));
            match self.link(client, idle) {
                Paused::CanBegin => {}
                Paused::Waits => return true,
                Paused::Over => return self.over(client),
            }
        }
        self.violation(format!("session {} turns in circles", client.number));
        false
    }

    fn drive_link(&mut self, client: &mut Client, idle: Option<Duration>) -> bool {
        client.pausing = false;
        match self.link(client, idle) {
            Paused::CanBegin => self.converse(client),
            Paused::Waits => true,
            Paused::Over => self.over(client),
        }
    }

    /// Speaks; then says whether there is more to begin, or what to wait for.
    fn link(&mut self, client: &mut Client, idle: Option<Duration>) -> Paused {
        if self.speak(client) {
            return Paused::Over;
        }
        self.set_deadline(client);
        let can_begin = client.machine.as_ref().is_some_and(|m| m.can_begin());
        match idle {
            None if can_begin => return Paused::CanBegin,
            Some(left) if can_begin => {
                if std::mem::take(&mut client.rung) {
                    return Paused::CanBegin;
                }
                client.pausing = true;
                let at = self.now + left.as_nanos() as u64;
                client.pause_until = Some(at);
                self.at(at, Event::Pause(client.number));
            }
            _ => {}
        }
        Paused::Waits
    }

    fn over(&mut self, client: &mut Client) -> bool {
        self.hang_up(client);
        let left: Vec<Transaction> = client.transactions.drain().collect();
        for transaction in left {
            self.violation(format!(
                "session {} ended and transaction {:?} was not told of",
                client.number, transaction.id
            ));
        }
        self.close_session(client, Closed::Done);
        self.kick(client.shard);
        false
    }

    fn begin(&mut self, client: &mut Client, message: Arc<Message>, leased: Vec<Leased>) {
        let now = self.instant();
        let id = TransactionId(client.next_id);
        client.next_id += 1;
        let key = self.books.by_id[&message.id()];
        let body = if self.random.per_mille(200) {
            let spool = self.server.as_ref().map(|s| s.spool.clone());
            match spool.map(|s| s.read_body(message.id())) {
                Some(Ok(body)) => body,
                _ if self.disk.is_dead() => Bytes::new(),
                Some(Err(error)) => {
                    return self.violation(format!("the body of m{key}: {error}"));
                }
                None => return,
            }
        } else {
            self.books.mails[key as usize].body.clone()
        };
        let names: Vec<u32> = leased.iter().map(|l| l.recipient).collect();
        self.say(|| {
            format!(
                "session {} of source {} sends m{key} to {names:?}",
                client.number, client.toward.0
            )
        });
        let ids = leased.iter().map(|l| l.delivery).collect();
        client.leased.push((id, ids));
        let transaction = Transaction::new(id, message, leased, body, now);
        client.transactions.add(transaction);
        if let Some(machine) = &mut client.machine
            && let Err(misuse) = machine.begin(id)
        {
            self.violation(format!("begin: {misuse}"));
        }
    }

    /// Polls the machine until it waits, and sends what it says; true when it is over.
    fn speak(&mut self, client: &mut Client) -> bool {
        let now = self.instant();
        let mut out = [0; COMMAND_BYTES];
        loop {
            let mut wrote = false;
            let mut sent = Vec::new();
            let over = loop {
                if self.broken.is_some() {
                    return false;
                }
                let Some(machine) = &mut client.machine else {
                    return true;
                };
                match machine.poll(now, &client.transactions, &mut out) {
                    Output::Send(n) => {
                        wrote = true;
                        self.near_says(client, &out[..n], true);
                    }
                    Output::SendBody { txn, framing } => {
                        wrote = true;
                        let mut parts = Vec::new();
                        if let Some(transaction) = client.transactions.get(txn) {
                            transaction.wire_body(framing, &mut parts);
                        }
                        for part in parts {
                            self.near_says(client, &part, false);
                        }
                        sent.push(txn);
                    }
                    Output::Event(event) => self.told(client, event),
                    Output::BufferTooSmall | Output::StartTls | Output::SendAuth(_) => {
                        self.violation("the machine wants what it can't want".into());
                        return true;
                    }
                    Output::Wait(deadline) => {
                        client.deadline = deadline;
                        break false;
                    }
                    Output::Close => break true,
                }
            };
            if !wrote {
                if over || !self.hand_in(client) {
                    return over;
                }
                continue;
            }
            for txn in sent {
                if let Some(machine) = &mut client.machine
                    && let Err(misuse) = machine.handle(now, Input::BodySent(txn))
                {
                    // It broke while the body was on its way out.
                    if !matches!(
                        misuse,
                        client::Misuse::NoSuchBody | client::Misuse::PollFirst
                    ) {
                        self.violation(format!("body sent: {misuse}"));
                    }
                }
            }
            if over {
                return true;
            }
        }
    }

    /// Gives the machine more of what came; false if there is nothing.
    fn hand_in(&mut self, client: &mut Client) -> bool {
        let now = self.instant();
        let Some(machine) = &mut client.machine else {
            return false;
        };
        if client.taken < client.heard.len() {
            match machine.handle(now, Input::Received(&client.heard[client.taken..])) {
                Ok(taken) if taken > 0 => client.taken += taken,
                _ => client.taken = client.heard.len(),
            }
            if client.taken == client.heard.len() {
                client.heard.clear();
                client.taken = 0;
            }
            return true;
        }
        if std::mem::take(&mut client.ended) {
            return machine.handle(now, Input::Closed).is_ok();
        }
        false
    }

    fn told(&mut self, client: &mut Client, event: Told) {
        match event {
            Told::Ready(capabilities) => {
                client.ready = true;
                client.rcpt_max = capabilities.rcpt_max;
                if let Some(conn) = client.conn.and_then(|c| self.network.conns.get_mut(&c)) {
                    conn.rcpt_max = capabilities.rcpt_max;
                }
            }
            Told::Recipient {
                txn,
                index,
                outcome,
            } => {
                let Some(transaction) = client.transactions.get_mut(txn) else {
                    return self.violation("an outcome of no transaction".into());
                };
                if std::mem::replace(&mut transaction.told[index], true) {
                    return self.violation("a recipient has two outcomes".into());
                }
                transaction.answered |= is_answer(&outcome);
                self.outcome(client, txn, index, outcome);
            }
            Told::Message { txn, outcome } => {
                let Some(transaction) = client.transactions.get_mut(txn) else {
                    return self.violation("an outcome of no transaction".into());
                };
                transaction.answered |= is_answer(&outcome);
                let untold: Vec<usize> = (0..transaction.leased.len())
                    .filter(|i| !std::mem::replace(&mut transaction.told[*i], true))
                    .collect();
                for index in untold {
                    self.outcome(client, txn, index, outcome);
                }
            }
            Told::Finished { txn } => {
                client.idle_since = self.instant();
                client.leased.retain(|(id, _)| *id != txn);
                let Some(transaction) = client.transactions.remove(txn) else {
                    return self.violation("the end of no transaction".into());
                };
                client.finished += u32::from(transaction.answered);
                if transaction.told.contains(&false) {
                    self.violation("a recipient without an outcome".into());
                }
            }
            Told::Broken { failure } => self.broke(client, failure),
        }
    }

    fn broke(&mut self, client: &mut Client, failure: Failure) {
        let reply = client.machine.as_ref().and_then(|m| m.reply());
        let verdict = failure_verdict(&failure, reply, &client.task);
        let said = failure_text(&failure, reply, &client.task);
        self.say(|| format!("session {} breaks: {}", client.number, said.line()));
        if matches!(client.doing, Doing::Reaching) {
            let trouble = client.unreachable(verdict, said);
            client.broken = Some((failure, trouble));
            return;
        }
        let Some(address) = client.peer else { return };
        if failure.pipelining_suspect
            && let Some(shard) = self.shard(client.shard)
        {
            shard.liars.insert(address);
        }
        if matches!(failure.state, State::Idle | State::Quit | State::Closed) {
            return;
        }
        let parted = client.finished > 0 && is_goodbye(&failure);
        if parted && verdict.scope == Scope::Host {
            return;
        }
        if verdict.scope == Scope::Host {
            let now = self.instant();
            let key = (client.task.source_id.0, client.task.site_id.0);
            let session = client.task.session.0;
            if let Some(shard) = self.shard(client.shard) {
                let others = shard.working.get(&key);
                if !others.is_some_and(|all| all.iter().any(|s| *s != session)) {
                    shard.hosts.failed(now, address);
                }
            }
        } else if let Some(rest) = lane_rest(&verdict) {
            self.rest_lane(client.shard, &client.task, rest);
        }
    }

    fn outcome(&mut self, client: &mut Client, txn: TransactionId, index: usize, outcome: Outcome) {
        let Some(transaction) = client.transactions.get(txn) else {
            return;
        };
        let (message, leased) = (transaction.message.clone(), transaction.leased[index]);
        let Some(machine) = &client.machine else {
            return;
        };
        let reply = machine.reply();
        let task = &client.task;
        let broken = |failure: &Failure, unknown| Fate::Failed {
            verdict: Verdict {
                permanent: false,
                ..failure_verdict(failure, reply, task)
            },
            said: failure_text(failure, reply, task),
            unknown,
        };
        let went_well = client.finished > 0;
        let fate = match outcome {
            Outcome::Delivered { code, enhanced, .. } => Fate::Delivered {
                said: Said {
                    code: Some(code),
                    enhanced,
                    ..Said::default()
                },
                reports: false,
            },
            Outcome::Postponed => Fate::PutBack,
            Outcome::Unsent(failure) if went_well && is_goodbye(&failure) => Fate::PutBack,
            Outcome::Failed(failure)
                if went_well
                    && matches!(failure.cause, Cause::Reply { code, .. } if code.get() == 421)
                    && failure.state == State::Mail
                    && matches!(
                        failure_verdict(&failure, reply, task).class,
                        Class::Busy | Class::Other | Class::Network
                    ) =>
            {
                Fate::PutBack
            }
            Outcome::Failed(failure) => Fate::Failed {
                verdict: failure_verdict(&failure, reply, task),
                said: failure_text(&failure, reply, task),
                unknown: false,
            },
            Outcome::Unsent(failure) => broken(&failure, false),
            Outcome::Unknown(failure) if self.fault == Some(Fault::TakesSilenceForYes) => {
                Fate::Delivered {
                    said: failure_text(&failure, reply, task),
                    reports: false,
                }
            }
            Outcome::Unknown(failure) => broken(&failure, true),
        };
        let task = client.task.clone();
        self.settle(client.shard, Some(&task), &message, leased, fate);
    }

    // -- the wire --

    /// Nanoseconds from one end to the other.
    fn way(&mut self) -> u64 {
        let latency = self.shape.latency_us * 1000;
        latency + self.random.below(latency / 4 + 1)
    }

    fn near_says(&mut self, client: &mut Client, bytes: &[u8], commands: bool) {
        let way = self.way();
        let now = self.now;
        let limits = self.limits_toward(&client.toward);
        let Some(number) = client.conn else { return };
        let Some(conn) = self.network.conns.get_mut(&number) else {
            return;
        };
        let right = if commands {
            let watch = &mut self.network.watch;
            watch.commands(conn, bytes, &limits, now)
        } else {
            Ok(())
        };
        // Cut where chance says.
        let cut = match self.random.per_mille(150) {
            true => self.random.below(bytes.len() as u64 + 1) as usize,
            false => bytes.len(),
        };
        let mut times = Vec::new();
        for part in [&bytes[..cut], &bytes[cut..]] {
            if !part.is_empty() {
                conn.up_until = conn.up_until.max(now + way) + 1;
                conn.up.push_back(Wire::Bytes(part.to_vec()));
                times.push(conn.up_until);
            }
        }
        for at in times {
            self.at_far(at, Event::Up(number));
        }
        self.check(right);
    }

    pub(crate) fn near_closes(&mut self, number: u32) {
        let way = self.way();
        let Some(conn) = self.network.conns.get_mut(&number) else {
            return;
        };
        if std::mem::replace(&mut conn.near_open, false) {
            let toward = conn.toward.clone();
            conn.up_until = conn.up_until.max(self.now + way) + 1;
            conn.up.push_back(Wire::End);
            let at = conn.up_until;
            self.network.watch.closes(&toward);
            self.say(|| format!("connection {number} is closed"));
            self.at_far(at, Event::Up(number));
        }
    }

    /// Something reaches a receiver.
    pub(crate) fn far_hears(&mut self, number: u32) {
        let now = self.instant();
        let Some(conn) = self.network.conns.get_mut(&number) else {
            return;
        };
        match conn.up.pop_front() {
            Some(Wire::Bytes(bytes)) if conn.far_open && !conn.stalled => {
                conn.input.extend(bytes);
                self.far_looks(number);
            }
            Some(Wire::End) => {
                let _ = conn.machine.handle(now, server::Input::Closed);
                let host = conn.host;
                let was_open = std::mem::replace(&mut conn.far_open, false);
                if was_open {
                    self.receivers.hosts[host].open -= 1;
                }
                self.network.conns.remove(&number);
            }
            _ => {}
        }
    }

    /// A receiver looks at what it has.
    pub(crate) fn far_looks(&mut self, number: u32) {
        let now = self.instant();
        let Some(mut conn) = self.network.conns.remove(&number) else {
            return;
        };
        let reactions = match conn.far_open && !conn.stalled {
            true => self.receivers.look(&mut conn, now),
            false => Vec::new(),
        };
        let wakes = conn.wakes.filter(|_| !conn.wake_set && !conn.stalled);
        if let Some(at) = wakes {
            conn.wake_set = true;
            self.at_far(at.as_nanos(), Event::FarWakes(number));
        }
        self.network.conns.insert(number, conn);
        for reaction in reactions {
            match reaction {
                Reaction::Say(bytes, think) => self.far_says(number, Wire::Bytes(bytes), think),
                Reaction::Hang => self.far_says(number, Wire::End, 0),
                Reaction::Take(taken) => {
                    let names = taken.recipients.clone();
                    self.say(|| format!("a receiver takes {names:?}"));
                    let right = self.books.received(&taken.recipients, &taken.body);
                    self.check(right);
                }
            }
        }
    }

    pub(crate) fn far_wakes(&mut self, number: u32) {
        if let Some(conn) = self.network.conns.get_mut(&number) {
            conn.wake_set = false;
            if conn.wakes.is_some_and(|at| at.as_nanos() <= self.now) {
                conn.wakes = None;
                self.far_looks(number);
            } else if let Some(at) = conn.wakes {
                conn.wake_set = true;
                self.at_far(at.as_nanos(), Event::FarWakes(number));
            }
        }
    }

    fn far_says(&mut self, number: u32, wire: Wire, think: u64) {
        let way = self.way();
        let now = self.now;
        let Some(conn) = self.network.conns.get_mut(&number) else {
            return;
        };
        let mut parts = Vec::new();
        match wire {
            Wire::Bytes(bytes) if self.random.per_mille(150) => {
                let cut = self.random.below(bytes.len() as u64 + 1) as usize;
                let parted = [&bytes[..cut], &bytes[cut..]];
                parts.extend(
                    parted
                        .iter()
                        .filter(|p| !p.is_empty())
                        .map(|p| Wire::Bytes(p.to_vec())),
                );
            }
            Wire::End => {
                if std::mem::replace(&mut conn.far_open, false) {
                    self.receivers.hosts[conn.host].open -= 1;
                }
                parts.push(Wire::End);
            }
            wire => parts.push(wire),
        }
        let session = conn.session;
        let mut times = Vec::new();
        for part in parts {
            conn.down_until = conn.down_until.max(now + way + think) + 1;
            conn.down.push_back(part);
            times.push(conn.down_until);
        }
        for at in times {
            self.at(at, Event::Down(session, number));
        }
    }
}

enum Paused {
    CanBegin,
    Waits,
    Over,
}

/// Whether the receiver said something of its own, and not only that it is leaving.
fn is_answer(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Delivered { .. } => true,
        Outcome::Failed(failure) => {
            matches!(failure.cause, Cause::Reply { code, .. } if code.get() != 421)
        }
        _ => false,
    }
}

fn is_goodbye(failure: &Failure) -> bool {
    matches!(failure.cause, Cause::Closed)
        || matches!(failure.cause, Cause::Reply { code, .. } if code.get() == 421)
}
