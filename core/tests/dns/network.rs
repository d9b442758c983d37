//! A network that loses, doubles, delays, cuts and forges, over many seeds.

use super::*;

struct Network {
    random: StdRng,
    /// By time of arrival.
    flying: BTreeMap<(u64, u64), Flight>,
    next: u64,
}
enum Flight {
    Datagram(SocketAddr, u16, Vec<u8>),
    Tcp(QueryId, Option<Vec<u8>>),
    SendFailed(QueryId),
}

impl Network {
    fn chance(&mut self, percent: u32) -> bool {
        self.random.next_u32() % 100 < percent
    }
    fn fly(&mut self, now: u64, flight: Flight) {
        // Reordered, and now and then very late.
        let delay = if self.chance(5) { 8000 } else { 200 };
        let arrival = now + 1 + u64::from(self.random.next_u32()) % delay;
        self.next += 1;
        self.flying.insert((arrival, self.next), flight);
    }
    fn take(&mut self, now: u64) -> Option<Flight> {
        let first = self.flying.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
    fn next_at(&self) -> Option<u64> {
        self.flying.keys().next().map(|k| k.0)
    }

    /// What a server does with a query. `n…` have the address of their number; `c…` are aliases,
    /// `x…` do not exist, `s…` fail, `t…` are long.
    fn serve(&mut self, now: u64, sent: &Sent) {
        if sent.socket.is_some() && self.chance(3) {
            return self.fly(now, Flight::SendFailed(sent.query));
        }
        if self.chance(15) {
            if sent.socket.is_none() && self.chance(70) {
                self.fly(now, Flight::Tcp(sent.query, None));
            }
            return;
        }
        let query = Message::from_vec(&sent.bytes).unwrap();
        let text = query.queries[0].name().to_ascii().to_lowercase();
        let text = text.trim_end_matches('.').to_string();
        let number = number(&text);
        let tcp = sent.socket.is_none();
        let broken = self.chance(5);
        let mut bytes = reply(&sent.bytes, |m| match &text[..1] {
            _ if broken => m.metadata.response_code = ResponseCode::ServFail,
            "n" => {
                m.add_answer(a(&text, 20, number));
            }
            "c" => {
                m.add_answer(cname(&text, 20, &format!("n{}", &text[1..])));
            }
            "x" => {
                m.metadata.response_code = ResponseCode::NXDomain;
                m.add_authority(soa("example", 20, 20));
            }
            "t" if tcp => {
                m.add_answer(a(&text, 20, number));
            }
            "t" => m.metadata.truncation = true,
            _ => m.metadata.response_code = ResponseCode::ServFail,
        });
        if self.chance(5) {
            let at = 26 + self.random.next_u32() as usize % (bytes.len() - 26);
            bytes.truncate(at);
        }
        match sent.socket {
            None => self.fly(now, Flight::Tcp(sent.query, Some(bytes))),
            Some(socket) => {
                // Somebody else answers too, but can only guess.
                let mut forged = reply(&sent.bytes, |m| {
                    m.add_answer(a(&text, 20, 66));
                });
                match self.random.next_u32() % 4 {
                    0 => forged[1] ^= 0x55,
                    1 => forged[15] ^= 0x20 | 1,
                    _ => {}
                }
                let honest = forged[..]
                    == reply(&sent.bytes, |m| {
                        m.add_answer(a(&text, 20, 66));
                    })[..];
                let from = if honest { server(77) } else { sent.to };
                self.fly(now, Flight::Datagram(from, socket, forged));
                for _ in 0..1 + u32::from(self.chance(20)) {
                    self.fly(now, Flight::Datagram(sent.to, socket, bytes.clone()));
                }
            }
        }
    }
}

/// The number in a name of the simulation, never 66.
fn number(text: &str) -> u8 {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse::<u64>().map_or(0, |n| (n % 60) as u8)
}

fn simulate(seed: u64) {
    const GIVE_UP_MS: u64 = 12_000;
    let mut world = World::new(|c| {
        c.give_up = Duration::from_millis(GIVE_UP_MS);
        c.in_flight_max = 20;
        c.questions_max = 60;
        c.waiters_max = 100;
        c.cache_entries_max = 30;
        c.rotate = seed.is_multiple_of(2);
    });
    let mut network = Network {
        random: StdRng::seed_from_u64(seed),
        flying: BTreeMap::new(),
        next: 0,
    };
    let mut open: BTreeMap<u64, (u64, String)> = BTreeMap::new();
    let (mut token, mut found, mut seen) = (0, 0, 0);
    let mut now = 0;
    while token < 400 || !open.is_empty() {
        for _ in 0..network.random.next_u32() % 4 {
            if token >= 400 {
                break;
            }
            token += 1;
            let letter =
                ["n", "n", "n", "c", "x", "s", "t"][network.random.next_u32() as usize % 7];
            let text = format!("{letter}{}.example", network.random.next_u32() % 50);
            match world.ask(now, token, ask(&text, Kind::A)) {
                Asked::Pending => {
                    open.insert(token, (now, text));
                }
                Asked::Answered(answer) => check(&text, &answer),
                Asked::Busy => assert!(world.resolver.open() >= 60 || open.len() >= 100),
            }
        }
        while let Some(flight) = network.take(now) {
            match &flight {
                Flight::Datagram(from, socket, bytes) => world.resolver.handle(
                    at(now),
                    Input::Datagram {
                        from: *from,
                        socket: *socket,
                        bytes,
                    },
                ),
                Flight::Tcp(query, Some(bytes)) => world.resolver.handle(
                    at(now),
                    Input::TcpReply {
                        query: *query,
                        bytes,
                    },
                ),
                Flight::Tcp(query, None) => world
                    .resolver
                    .handle(at(now), Input::TcpFailed { query: *query }),
                Flight::SendFailed(query) => world
                    .resolver
                    .handle(at(now), Input::SendFailed { query: *query }),
            }
        }
        for sent in world.poll(now) {
            network.serve(now, &sent);
        }
        for (token, answer) in world.answers.drain(..) {
            let (asked, text) = open.remove(&token).expect("answered once");
            assert!(
                now - asked <= GIVE_UP_MS,
                "seed {seed}: {text} took {} ms",
                now - asked
            );
            check(&text, &answer);
            seen += 1;
            found += u32::from(!matches!(answer.outcome, Outcome::Failed(_)));
        }
        let wake = world.wake.map(|w| w.since(at(0)).as_millis() as u64);
        if !open.is_empty() {
            assert!(wake.is_some(), "seed {seed}: waits for ever");
        }
        let next = [wake, network.next_at()].into_iter().flatten().min();
        now = next.unwrap_or(now + 50).clamp(now + 1, now + 50);
    }
    assert_eq!(world.resolver.open(), 0);
    // Most of what can be answered is.
    assert!(found * 10 >= seen * 6, "seed {seed}: {found} of {seen}");
}

fn check(text: &str, answer: &Answer) {
    match (&text[..1], &answer.outcome) {
        ("n" | "c" | "t", Outcome::Found(Records::A(ips))) => {
            assert_eq!(**ips, [Ipv4Addr::new(20, 0, 0, number(text))], "{text}");
        }
        ("x", Outcome::NoName) | (_, Outcome::Failed(_)) => {}
        (_, other) => panic!("{text}: {other:?}"),
    }
}

/// Every token gets exactly one answer, in time, and no forged one.
#[test]
fn every_token_is_answered_over_a_bad_network() {
    for seed in 0..200 {
        simulate(seed);
    }
}
