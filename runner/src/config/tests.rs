use std::collections::BTreeSet;
use std::net::IpAddr;

use courser_core::feedback::verdict::Stage;
use courser_core::smtp::reply::{Reply, ReplyCode};
use proptest::prelude::*;

use super::reload::{NEEDS_RESTART, below, without_names};
use super::*;

const FIRST: &str = "hostname = \"mail.example.org\"\n";

fn good(text: &str) -> Config {
    parse(text, "courser.toml").unwrap_or_else(|e| panic!("{e}"))
}

/// `text` behind the one line that every configuration needs.
fn with(text: &str) -> Config {
    good(&format!("{FIRST}{text}"))
}

#[test]
fn a_host_name_is_enough_and_opens_no_relay() {
    let config = with("");
    let relays = |ip: &str| config.listeners[0].relays_for(ip.parse::<IpAddr>().unwrap());
    assert!(relays("127.0.0.1") && relays("::1") && relays("::ffff:127.0.0.1"));
    assert!(!relays("192.0.2.1") && !relays("10.0.0.1") && !relays("2001:db8::1"));
    assert!(
        config.listeners[0]
            .address
            .iter()
            .all(|a| a.ip().is_loopback())
    );
    assert_eq!(&*config.postmaster, "postmaster@mail.example.org");
    assert_eq!(
        config.pools[0].members,
        [Member {
            source: 0,
            weight: 1
        }]
    );
}

// -- the example --

/// The example with its commented options in force.
fn example_with_everything() -> String {
    let live = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
            rest.to_owned()
        }
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(|l| live(l) + "\n").collect()
}

#[test]
fn what_the_example_says_is_the_default() {
    let plain = |config: Config| Config {
        options: Vec::new(),
        ..config
    };
    assert_eq!(plain(good(EXAMPLE)), plain(with("")));
}

/// The paths of all keys of `table` that are not tables, without positions.
fn keys(path: &str, value: &toml::Value, into: &mut BTreeSet<String>) {
    let tables = |a: &Vec<toml::Value>| !a.is_empty() && a.iter().all(toml::Value::is_table);
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let dot = if path.is_empty() { "" } else { "." };
                keys(&format!("{path}{dot}{key}"), value, into);
            }
        }
        toml::Value::Array(array) if tables(array) => {
            array.iter().for_each(|v| keys(path, v, into));
        }
        _ => {
            into.insert(path.to_owned());
        }
    }
}

#[test]
fn the_example_has_every_option() {
    let text = example_with_everything();
    let (_, notes) = read(&text, "example").unwrap_or_else(|e| panic!("{e}"));
    let options: BTreeSet<_> = notes
        .options
        .iter()
        .map(|o| without_names(&o.path))
        .collect();
    let sections: BTreeSet<_> = notes.sections.iter().map(|s| without_names(s)).collect();
    let mut shown = BTreeSet::new();
    keys("", &toml::Value::Table(text.parse().unwrap()), &mut shown);
    assert_eq!(shown, options, "left: the example; right: what is read");
    for section in sections {
        let inside = |o: &String| o.starts_with(&format!("{section}."));
        assert!(shown.iter().any(inside), "no [[{section}]] in the example");
    }
}

#[test]
fn the_example_documents_every_option_and_what_takes_a_restart() {
    // A section and its options, each with the comment above it.
    let (mut path, mut comment, mut section_restart) = (String::new(), String::new(), false);
    let mut documented = BTreeSet::new();
    for line in EXAMPLE.lines() {
        let bare = line.strip_prefix('#').unwrap_or(line);
        if let Some(text) = line.strip_prefix("# ") {
            comment.push_str(text);
        } else if bare.starts_with('[') {
            path = bare.trim_matches(['[', ']']).to_owned();
            section_restart = comment.contains("(restart)");
            comment.clear();
        } else if let Some((key, _)) = bare.split_once(" = ") {
            let dot = if path.is_empty() { "" } else { "." };
            let option = format!("{path}{dot}{key}");
            if !comment.is_empty() {
                let restart = section_restart || comment.contains("(restart)");
                assert_eq!(
                    restart,
                    below(&option, NEEDS_RESTART),
                    "{option}: (restart)"
                );
                documented.insert(option);
            }
            // `pipelining`, `chunking` … may share the comment of the first of them.
            comment.clear();
        } else {
            comment.clear();
        }
    }
    let text = example_with_everything();
    let (_, notes) = read(&text, "example").unwrap();
    for option in notes.options {
        let option = without_names(&option.path);
        // These stand in one line, with their table.
        if !option.starts_with("pool.members.") {
            assert!(documented.contains(&option), "{option} has no comment");
        }
    }
}

#[test]
fn every_listed_default_is_read_again() {
    // What `options` shows is TOML that means the same.
    let config = good(&example_with_everything());
    for option in config.options() {
        for shown in [&option.value, &option.default].into_iter().flatten() {
            let line = format!("x = {shown}");
            assert!(
                line.parse::<toml::Table>().is_ok(),
                "{}: {line}",
                option.path
            );
        }
    }
}

// -- names and references --

#[test]
fn names_are_resolved_to_positions() {
    let config = with(
        r#"
        [[source]]
        name = "a"
        address = "192.0.2.1"
        [[source]]
        name = "b"
        ehlo = "b.example.org"
        [[pool]]
        name = "one"
        members = [{ source = "b", weight = 3 }]
        [[pool]]
        name = "two"
        members = [{ source = "a" }, { source = "b", weight = 2 }]
        [[stream]]
        name = "news"
        class = "bulk"
        pool = "two"
        retry = { intervals = ["1m", "1h"], life = "2d" }
        delay_dsn_after = "off"
        [[listener]]
        address = ["127.0.0.1:2526", "[::1]:2526"]
        stream = "news"
        pool = "one"
        client_message_rate = "10/s"
        "#,
    );
    assert_eq!(
        config.pools[0].members,
        [Member {
            source: 1,
            weight: 3
        }]
    );
    assert_eq!(
        config.pools[1].members[0],
        Member {
            source: 0,
            weight: 1
        }
    );
    assert_eq!(config.pool_named("two"), Some(1));
    assert_eq!(config.streams[0].pool, 1);
    assert_eq!(config.streams[0].delay_dsn_after, None);
    assert_eq!(config.streams[0].retry.intervals.len(), 2);
    assert_eq!(config.listeners[0].pool, Some(0));
    assert_eq!(&*config.sources[0].ehlo, "mail.example.org");
}

#[test]
fn the_closest_route_wins() {
    let config = with(
        r#"
        [[route]]
        domain = "*"
        to = "smart.example.net"
        "#
        .replace("\"smart.example.net\"", "[\"smart.example.net\"]")
        .as_str(),
    );
    assert_eq!(
        config.route_for("a.test").unwrap().domain,
        DomainPattern::Any
    );
    let config = with(
        r#"
        [[route]]
        domain = "*"
        to = ["smart.example.net:587"]
        [[route]]
        domain = "*.example.org"
        to = ["[2001:db8::1]:26"]
        [[route]]
        domain = ".b.example.org"
        to = ["10.0.0.1"]
        lmtp = true
        [[route]]
        domain = "a.b.example.org"
        to = ["mx.example.org"]
        mx = true
        "#,
    );
    let route = |d: &str| config.route_for(d).unwrap().domain.to_string();
    assert_eq!(route("example.org"), "*");
    assert_eq!(route("x.example.org"), "*.example.org");
    assert_eq!(route("x.b.example.org"), "*.b.example.org");
    assert_eq!(route("a.b.example.org"), "a.b.example.org");
    assert!(with("").route_for("example.org").is_none());
}

#[test]
fn rules_are_asked_before_the_built_in_ones() {
    let config = with(
        r#"
        [[provider]]
        name = "example"
        mx = ["example.net"]
        [[rule]]
        name = "ours"
        provider = "example"
        stage = "rcpt"
        codes = "45x"
        text = ["NOT now"]
        class = "busy"
        scope = "lane"
        retry_after = "10m"
        "#,
    );
    let reply = Reply {
        code: ReplyCode::new(451).unwrap(),
        enhanced: None,
        text: b"please not now",
    };
    let judge = |provider| config.with_rules(|r| r.judge(&reply, Stage::Rcpt, provider));
    let verdict = judge(Some("example"));
    assert_eq!(verdict.class.name(), "busy");
    assert_eq!(verdict.scope.name(), "lane");
    assert_eq!(
        verdict.retry_after,
        Some(std::time::Duration::from_secs(600))
    );
    assert_ne!(judge(None).retry_after, verdict.retry_after);
}

// -- reload --

#[test]
fn a_reload_says_what_it_does() {
    let old = with("");
    let new = with(
        r#"
        [server]
        shards = 4
        drain_timeout = "1m"
        [log]
        level = "debug"
        [[listener]]
        address = ["127.0.0.1:2525"]
        max_recipients = 500
        [[listener]]
        name = "more"
        address = ["127.0.0.1:2526"]
        [[provider]]
        name = "google"
        mx = ["google.com"]
        "#,
    );
    let plan = reload_plan(&old, &new);
    let next = plan.merged(&old, new);
    insta::assert_snapshot!(plan.to_string());
    assert_eq!(next.server.shards, 0);
    assert_eq!(next.server.drain_timeout.as_secs(), 60);
    assert_eq!(next.log.level, LogLevel::Debug);
    assert_eq!(next.listeners.len(), 1);
    assert_eq!(next.listeners[0].max_recipients, 500);
    assert_eq!(next.providers.len(), 1);
    let again = reload_plan(&old, &next);
    assert_eq!(
        (again.applied, again.needs_restart),
        (plan.applied, Vec::new())
    );
    assert!(reload_plan(&old, &old).is_empty());
}

#[test]
fn a_listener_that_left_the_file_keeps_its_stream_by_name() {
    let streams = |names: [&str; 2]| {
        names
            .map(|n| format!("[[stream]]\nname = {n:?}\n"))
            .concat()
    };
    let listener = |name: &str, port: u16, stream: &str| {
        format!(
            "[[listener]]\nname = {name:?}\naddress = [\"127.0.0.1:{port}\"]\nstream = {stream:?}\n"
        )
    };
    let (one, two) = (listener("one", 26, "a"), listener("two", 27, "b"));
    let old = with(&format!("{}{one}{two}", streams(["a", "b"])));
    let new = with(&format!("{}{one}", streams(["b", "a"])));
    let next = reload_plan(&old, &new).merged(&old, new);
    let stream = |i: usize| &*next.streams[next.listeners[i].stream].name;
    assert_eq!((next.listeners.len(), stream(0), stream(1)), (2, "a", "b"));
}

#[test]
fn the_parts_have_the_defaults_that_the_file_says() {
    let config = with("");
    let (spool, usual) = (config.spool.options(), crate::spool::Options::default());
    assert_eq!(spool.segment_bytes, usual.segment_bytes);
    assert_eq!(spool.max_bytes, usual.max_bytes);
    assert_eq!(spool.min_free_bytes, usual.min_free_bytes);
    assert_eq!(spool.min_free_percent, usual.min_free_percent);
    assert_eq!(spool.reserve_bytes, usual.reserve_bytes);
    assert_eq!(spool.pending_bytes, usual.pending_bytes);
    assert_eq!(spool.pending_outcome_bytes, usual.pending_outcome_bytes);
    assert_eq!(spool.sparse_percent, usual.sparse_percent);
    assert_eq!(spool.settle, usual.settle);
    assert_eq!(spool.open_files, usual.open_files);
    assert_eq!(spool.corrupt_bytes, usual.corrupt_bytes);
    let (events, usual) = (config.events.options(), crate::events::Options::default());
    assert_eq!(format!("{events:?}"), format!("{usual:?}"));
}

#[test]
fn what_refers_to_sources_waits_with_them() {
    let old = with("");
    let new = with(
        r#"
        [[source]]
        name = "a"
        [[source]]
        name = "b"
        [[stream]]
        name = "default"
        class = "bulk"
        "#,
    );
    let plan = reload_plan(&old, &new);
    let next = plan.merged(&old, new);
    assert_eq!((&next.sources, &next.pools), (&old.sources, &old.pools));
    assert_eq!(next.streams, old.streams);
    assert!(plan.applied.is_empty(), "{plan}");
    assert!(
        plan.needs_restart
            .iter()
            .any(|c| c.path == "stream[default].class")
    );
    assert!(reload_plan(&old, &next).is_empty());
}

// -- mistakes --

/// One of each kind of mistake: what it is called, and the text that has it.
const MISTAKES: &[(&str, &str)] = &[
    ("nothing at all", ""),
    (
        "syntax",
        "hostname = mail.example.org\n[server\nshards = = 2\n",
    ),
    (
        "a key twice",
        "hostname = \"a.example.org\"\nhostname = \"b.example.org\"\n",
    ),
    (
        "wrong types",
        "hostname = 7\n[server]\nshards = \"two\"\n[events]\ncompress = \"yes\"\n[spool]\ndir = false\n[dns]\nservers = \"192.0.2.1\"\nmixed_case = 1\n",
    ),
    (
        "not tables",
        "hostname = \"mail.example.org\"\nserver = 5\nlistener = \"127.0.0.1:25\"\npool = [1]\n",
    ),
    (
        "a table once that is a list",
        "hostname = \"mail.example.org\"\n[listener]\naddress = [\"127.0.0.1:25\"]\n",
    ),
    (
        "unknown names",
        "hostnam = \"mail.example.org\"\n[sever]\n[server]\nshard = 2\n[delivery.timeouts]\nrcpt_to = \"1m\"\nzzz = 1\n",
    ),
    (
        "host names",
        "hostname = \"mail\"\npostmaster = \"me\"\n[[source]]\nname = \"a b\"\nehlo = \"192.0.2.1\"\naddress = \"0.0.0.0\"\n[[source]]\nname = \"ü\"\nehlo = \"bücher.example\"\naddress = \"localhost\"\n",
    ),
    (
        "durations",
        "hostname = \"mail.example.org\"\n[server]\ndrain_timeout = 30\n[events]\nrotate_every = \"0s\"\nkeep = \"never\"\n[delivery]\nidle_keepalive = \"10\"\n[delivery.timeouts]\nconnect = \"30 parsecs\"\ngreeting = \"2h\"\nehlo = \"1.5m\"\n",
    ),
    (
        "sizes and shares",
        "hostname = \"mail.example.org\"\n[limits]\nbody_memory = \"256\"\nintake_memory = 1024\n[spool]\nsegment_size = \"25 MegaB\"\nmin_free = \"5%\"\nmin_free_percent = \"120%\"\ncompact_below = \"1GiB\"\npending = \"1B\"\n",
    ),
    (
        "too little disk",
        "hostname = \"mail.example.org\"\n[spool]\nsegment_size = \"1GiB\"\nmax_bytes = \"1GiB\"\n",
    ),
    (
        "rates",
        "hostname = \"mail.example.org\"\n[delivery.limits]\nmessage_rate = \"100\"\nconnection_rate = \"0/s\"\nconnections = 0\n[[listener]]\naddress = [\"127.0.0.1:25\"]\nclient_message_rate = \"fast\"\nclient_connection_rate = 5\n",
    ),
    (
        "numbers",
        "hostname = \"mail.example.org\"\n[server]\nshards = -1\n[dns]\nattempts = 2.5\ncache_entries = 99999999999\n[limits]\nmax_deliveries = 0\n[delivery]\nport = 0\n",
    ),
    (
        "words",
        "hostname = \"mail.example.org\"\n[log]\nlevel = \"warning\"\nformat = \"xml\"\n[delivery]\naddress_family = \"ipv4\"\neight_bit = \"convert\"\n",
    ),
    (
        "an open relay",
        "hostname = \"mail.example.org\"\n[[listener]]\naddress = [\"0.0.0.0:25\"]\nrelay_networks = [\"10.0.0.0/8\", \"0.0.0.0/0\"]\n[[listener]]\nname = \"b\"\naddress = [\"[::]:25\"]\nrelay_networks = [\"::/0\", \"0.0.0.0/1\", \"128.0.0.0/1\", \"::ffff:0:0/96\"]\nproxy_protocol_from = [\"0.0.0.0/0\"]\n",
    ),
    (
        "domains of ours",
        "hostname = \"mail.example.org\"\n[[listener]]\naddress = [\"0.0.0.0:25\"]\ninbound_domains = [\"*\", \"bounces.example.org\", \"*.in.example.org\", \"*.at.example.org\", \"a.at.example.org\"]\n[[route]]\ndomain = \"*\"\nto = [\"a.example\"]\n[[route]]\ndomain = \"in.example.org\"\nto = [\"a.example\"]\n[[route]]\ndomain = \"*.at.example.org\"\nto = [\"a.example\"]\n",
    ),
    (
        "logins",
        "hostname = \"mail.example.org\"\n[[listener]]\naddress = [\"127.0.0.1:25\"]\ninbound_domains = [\"a.example\"]\nauth = { user = \"/etc/users\", required = true, mechanisms = [\"CRAM-MD5\"] }\n[logins]\ndelay = \"20s\"\nblock = \"1ms\"\nfailures_per_user = 0\n[[route]]\ndomain = \"a.example\"\nto = [\"b.example\"]\nauth = { user = \"\", password = \"hunter2\" }\n[[route]]\ndomain = \"c.example\"\nto = [\"b.example\"]\nauth = \"me\"\n",
    ),
    (
        "networks",
        "hostname = \"mail.example.org\"\n[[listener]]\naddress = [\"127.0.0.1:25\"]\nrelay_networks = [\"10.1.2.3/8\", \"10.0.0.0/33\", \"example.org\", 5, \"192.168.1\"]\n",
    ),
    (
        "addresses",
        "hostname = \"mail.example.org\"\n[[listener]]\naddress = [\"127.0.0.1\", \"localhost:25\", \"127.0.0.1:0\", \"127.0.0.1:99999\"]\n[[listener]]\nname = \"b\"\naddress = []\n[[listener]]\nname = \"c\"\n",
    ),
    (
        "the same twice",
        "hostname = \"mail.example.org\"\n[[listener]]\naddress = [\"127.0.0.1:25\", \"127.0.0.1:25\"]\n[[listener]]\naddress = [\"127.0.0.1:25\"]\n[[source]]\nname = \"a\"\n[[source]]\nname = \"a\"\n[[route]]\ndomain = \"*\"\nto = [\"a.example\"]\n[[route]]\ndomain = \"*\"\nto = [\"b.example\"]\n[[provider]]\nname = \"x\"\nmx = [\"x.example\"]\n[[provider]]\nname = \"x\"\nmx = [\"x.example\"]\n",
    ),
    (
        "names of nothing",
        "hostname = \"mail.example.org\"\n[[source]]\nname = \"first\"\n[[pool]]\nname = \"main\"\nmembers = [{ source = \"frist\" }, { source = \"first\", weight = 0 }, { weight = 2 }]\n[[pool]]\nname = \"empty\"\n[[stream]]\nname = \"news\"\npool = \"mian\"\n[[listener]]\naddress = [\"127.0.0.1:25\"]\nstream = \"newsletter\"\npool = \"zebra\"\n[[rule]]\nname = \"r\"\nprovider = \"gogle\"\ncodes = 421\nclass = \"busy\"\n[dsn]\nstream = \"dsns\"\n",
    ),
    (
        "names that are missing",
        "hostname = \"mail.example.org\"\n[[source]]\naddress = \"192.0.2.1\"\n[[stream]]\nclass = \"bulk\"\n[[provider]]\nmx = [\"google.com\"]\n[[route]]\nmx = true\n[[rule]]\ncodes = \"5xx\"\n",
    ),
    (
        "a provider of nothing",
        "hostname = \"mail.example.org\"\n[[provider]]\nname = \"google\"\n[provider.limits]\nconections = 5\n",
    ),
    (
        "retry schedules",
        "hostname = \"mail.example.org\"\n[[stream]]\nname = \"s\"\n[stream.retry]\nfirst = \"1h\"\nmax = \"5m\"\nfactor = 0.5\njitter = \"95%\"\nlife = \"0s\"\nintervals = [\"1m\", \"0s\", 5]\n",
    ),
    (
        "routes",
        "hostname = \"mail.example.org\"\n[[route]]\ndomain = \"exa mple.org\"\nto = [\"a.example:0\", \"a.example:smtp\", \"1.2.3.4.5\", \"-.example\"]\n[[route]]\ndomain = \"b.example\"\nto = []\n[[route]]\ndomain = \"c.example\"\nto = [\"192.0.2.1\"]\nmx = true\n[[route]]\ndomain = \"d.example\"\nto = \"mx.example\"\n[[route]]\ndomain = \"e.example\"\nto = [\"provider.example\"]\nmx = true\nauth = { user = \"us\", password_file = \"/etc/courser/password\" }\n",
    ),
    (
        "rules",
        "hostname = \"mail.example.org\"\n[[rule]]\nname = \"a\"\nclass = \"busy\"\n[[rule]]\nname = \"b\"\ncodes = 250\nenhanced = \"9.1.1\"\nstage = \"rctp\"\nclass = \"buzy\"\nscope = \"world\"\n[[rule]]\nname = \"c\"\ncodes = [421]\ntext = [\" \"]\nclass = \"content\"\npermanent = true\nretry_after = \"1h\"\n",
    ),
    (
        "dns",
        "hostname = \"mail.example.org\"\n[dns]\nservers = [\"dns.example.org\", \"192.0.2.53\"]\nttl_min = \"2h\"\nttl_max = \"1h\"\ntimeout = \"1ms\"\n",
    ),
    (
        "dsn",
        "hostname = \"mail.example.org\"\n[dsn]\nfrom = \"Mailer <a@b.example>\"\nfrom_name = \"a\\r\\nBcc: b\"\n",
    ),
    (
        "dead hosts",
        "hostname = \"mail.example.org\"\n[delivery.dead_host]\nfirst = \"2h\"\nmax = \"1h\"\n",
    ),
    (
        "a long socket path",
        "hostname = \"mail.example.org\"\n[server]\ncontrol_socket = \"/very/long/very/long/very/long/very/long/very/long/very/long/very/long/very/long/very/long/very/long/very/long/s\"\n",
    ),
    (
        "columns count characters",
        "# ü\nhostname = \"mail.example.org\"\n[dsn]\nfrom_name = \"Zürich\", failures = \"ü\"\n",
    ),
    (
        "marks stand under characters",
        "hostname = \"mail.example.org\"\ndsn = { from_name = \"Zürich\", failures = \"ü\" }\r\n",
    ),
];

#[test]
fn each_mistake_says_where_it_is_and_what_would_be_right() {
    let mut all = String::new();
    for (name, text) in MISTAKES {
        match parse(text, "courser.toml") {
            Ok(_) => panic!("{name}: no mistake was found"),
            Err(problems) => all.push_str(&format!("## {name}\n\n{problems}\n\n\n")),
        }
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_file_that_is_not_there_says_how_to_begin() {
    let error = load(Path::new("/nonexistent/courser.toml")).unwrap_err();
    assert!(error.to_string().contains("--example"), "{error}");
}

proptest! {
    #[test]
    fn any_users_are_read_or_refused(
        text in "(?s)(\\[\\[user\\]\\]\n(name|hash|from|decoy|tenant) = [\"\\[a-z*@.\\]]{0,12}\n){0,3}.{0,20}",
    ) {
        if let Err(problems) = parse_users(&text, "users.toml") {
            // Where and what, and no line of it.
            prop_assert!(!problems.to_string().contains(" | "), "{}", problems);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,200}") {
        if let Err(problems) = parse(&text, "x") {
            let _ = problems.to_string();
        }
    }

    #[test]
    fn a_damaged_example_is_read_or_refused(at in 0..EXAMPLE.len(), with in "(?s).{0,3}", cut in 0usize..20) {
        let text = example_with_everything();
        let boundary = |mut i: usize| { while !text.is_char_boundary(i) { i -= 1; } i };
        let (from, to) = (boundary(at), boundary((at + cut).min(text.len())));
        let damaged = format!("{}{with}{}", &text[..from], &text[to..]);
        match parse(&damaged, "x") {
            Ok(config) => prop_assert!(!config.listeners.is_empty() && !config.pools.is_empty()),
            Err(problems) => {
                prop_assert!(!problems.list().is_empty());
                let _ = problems.to_string();
            }
        }
    }
}
