//! Any text is a configuration, or file of users, or a list of mistakes, each with its place in the text; and what is
//! accepted is accepted again and means the same.
#![no_main]

use courser::config::{Config, Problems, parse, parse_users, reload_plan};
use libfuzzer_sys::fuzz_target;

const FILE: &str = "f.toml";

/// What every configuration needs, in front of what the fuzzer says.
const BASE: &str = "hostname = \"mail.example.org\"\n";

fn mistakes(text: &str, problems: &Problems) {
    assert!(!problems.list().is_empty());
    let lines = text.split('\n').count();
    let shown = problems.to_string();
    for problem in problems.list() {
        assert!((1..=lines).contains(&problem.line), "{problem:?}");
        let line = text.split('\n').nth(problem.line - 1).unwrap();
        assert!((1..=line.chars().count() + 1).contains(&problem.column));
        assert!(!problem.what.is_empty() && !problem.right.is_empty(), "{problem:?}");
        assert!(shown.contains(&format!("{FILE}:{}:{}: ", problem.line, problem.column)));
    }
}

fn holds(text: &str, config: &Config) {
    assert_eq!(parse(text, "g.toml").as_ref(), Ok(config));
    assert!(reload_plan(config, config).is_empty());
    assert!(!config.listeners.is_empty() && !config.sources.is_empty());
    assert!(!config.pools.is_empty() && !config.streams.is_empty());
    // Positions stand for names, so they must be there.
    for stream in &config.streams {
        assert!(stream.pool < config.pools.len());
    }
    for pool in &config.pools {
        assert!(!pool.members.is_empty());
        assert!(pool.members.iter().all(|m| m.source < config.sources.len()));
    }
    for listener in &config.listeners {
        assert!(listener.stream < config.streams.len());
        assert!(listener.pool.is_none_or(|p| p < config.pools.len()));
    }
    for domain in ["example.org", "a.b.example.net", "xn--bcher-kva.example", ""] {
        if let Some(route) = config.route_for(domain) {
            assert!(route.domain.matches(domain));
        }
    }
    assert!(config.options().iter().all(|o| !o.path.is_empty()));
}

fuzz_target!(|text: &str| {
    let more = format!("{BASE}{text}");
    for text in [text, &more] {
        match parse(text, FILE) {
            Ok(config) => holds(text, &config),
            Err(problems) => mistakes(text, &problems),
        }
        // The same text as a file of users, of which nothing is shown.
        if let Err(problems) = parse_users(text, FILE) {
            mistakes(text, &problems);
            assert!(!problems.to_string().contains("\n  1 | "));
        }
    }
});
