//! The file of users, and where secrets are.

use super::*;

pub(crate) fn users_are_read_again() {
    let (_dir, file) = users();
    let (receiver, server) = server(&file, "");
    let mut bob = logged_in(&server, "bob");
    bob.submit("<>", &["<one@dest.test>"], &letter("a@shop.test"));
    let reload = || {
        let out = server.courser(&["reload"]);
        (
            out.status.success(),
            String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned(),
        )
    };
    // A mistake leaves all as it was, and shows no hash.
    let before = std::fs::read_to_string(&file).expect("the users");
    let broken = before.replace("hash = \"$argon2id$", "hash = \"$argon2zz$");
    std::fs::write(&file, &broken).expect("the users");
    let (good, said) = reload();
    assert!(
        !good && said.contains("users.toml:") && said.contains("bob"),
        "{said}"
    );
    assert!(!said.contains("$argon2"), "{said}");
    bob.submit("<>", &["<one@dest.test>"], &letter("a@shop.test"));
    logged_in(&server, "bob");
    // So does a file that others may read.
    std::fs::write(&file, &before).expect("the users");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .expect("ours");
    let (good, said) = reload();
    assert!(!good && said.contains("chmod 600"), "{said}");
    private(&file);
    // Another password, by SIGHUP.
    let name = file.display().to_string();
    let out = run_with_input(
        &["user", "passwd", "bob", "--users", &name],
        "another password\n",
    );
    assert!(out.status.success(), "{out:?}");
    server.signal(libc::SIGHUP);
    let changed = eventually(10, || {
        let mut client = session_to(&server);
        let said = client.command(&format!("AUTH PLAIN {}", plain("bob", "another password")));
        said.0.starts_with("235").then_some(())
    });
    assert!(changed.is_some(), "{}", server.log());
    // Who is removed may send no more, although he is still there.
    let out = run(&["user", "remove", "bob", "--users", &name]);
    assert!(out.status.success(), "{out:?}");
    let (good, said) = reload();
    assert!(good && said.contains("2 users of"), "{said}");
    let said = bob.command("MAIL FROM:<>");
    assert_eq!(
        said,
        "530 5.7.0 Authentication required: your user is not here any more"
    );
    assert_eq!(receiver.wait(2).len(), 2);
}

pub(crate) fn the_command_line_keeps_users() {
    let dir = scratch();
    let file = dir.path().join("courser/users.toml");
    let config = dir.path().join("courser.toml");
    let text = submission(&file, "", "").replace(
        "relay_networks",
        "address = [\"127.0.0.1:2525\"]\nrelay_networks",
    );
    std::fs::write(&config, format!("hostname = \"mail.example.org\"\n{text}"))
        .expect("a scratch file");
    let config = config.display().to_string();
    let user = |words: &[&str], input: &str| {
        let all = [&["user"], words, &["--config", &config]].concat();
        let out = run_with_input(&all, input);
        let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        (out.status.code(), said)
    };
    // The configuration says what is missing, and how to make it.
    let out = run(&["check-config", &config]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        out.status.code() == Some(3) && said.contains("courser user add"),
        "{said}"
    );
    let (code, said) = user(
        &["add", "ann", "--from", "example.org", "--scram"],
        "long enough\n",
    );
    assert_eq!(code, Some(0), "{said}");
    let mode =
        std::fs::metadata(&file).map(|m| std::os::unix::fs::PermissionsExt::mode(&m.permissions()));
    assert_eq!(mode.expect("the users") & 0o777, 0o600);
    for (words, input, code, part) in [
        (
            &["add", "ann", "--from=*"][..],
            "long enough\n",
            1,
            "there already",
        ),
        (&["add", "bob", "--from=*"], "short\n", 1, "8 characters"),
        (&["add", "bob", "--from=*"], "", 1, "8 characters"),
        (&["add", "bob", "--from=@"], "long enough\n", 2, "--from"),
        (&["add", "b b", "--from=*"], "long enough\n", 2, "no name"),
        (
            &["add", "bob", "--from=*", "--scram", "--iterations=1"],
            "long enough\n",
            1,
            "4096",
        ),
        (&["add", "bob"], "long enough\n", 2, "--from"),
        (&["remove", "bob"], "", 1, "no user bob"),
        (&["passwd", "bob"], "long enough\n", 1, "no user bob"),
        (
            &["add", "bob", "--from=*", "--messages-per-day=0"],
            "long enough\n",
            3,
            "nothing is written",
        ),
    ] {
        let (got, said) = user(words, input);
        assert_eq!(got, Some(code), "{words:?}: {said}");
        assert!(
            said.contains(part) && !said.contains("long enough"),
            "{words:?}: {said}"
        );
    }
    // A password is no argument.
    let (code, said) = user(&["add", "bob", "--from=*", "--password=x"], "");
    assert_eq!(code, Some(2), "{said}");
    let text = std::fs::read_to_string(&file).expect("the users");
    std::fs::write(&file, format!("{text}\n# Mine: do not touch.\n")).expect("the users");
    assert_eq!(
        user(&["passwd", "ann", "--argon2"], "even longer\n").0,
        Some(0)
    );
    let text = std::fs::read_to_string(&file).expect("the users");
    assert!(
        text.contains("# Mine: do not touch.") && text.contains("$argon2id$"),
        "{text}"
    );
    let (_, listed) = user(&["list", "--json"], "");
    let ann: serde_json::Value = serde_json::from_str(listed.trim()).expect("JSON");
    assert_eq!(
        (&ann["name"], &ann["hash"]),
        (&"ann".into(), &"argon2id".into())
    );
    assert!(!listed.contains("$argon2"), "{listed}");
    let (_, table) = user(&["list"], "");
    assert!(
        table.contains("example.org") && !table.contains('$'),
        "{table}"
    );
    let out = run(&["check-config", &config]);
    assert!(out.status.success());
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        said.contains("1 users of") && said.contains("PLAIN, LOGIN"),
        "{said}"
    );
}

/// Everything in a folder, and in those below.
fn contents(dir: &Path, into: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => contents(&path, into),
            Ok(kind) if kind.is_file() => {
                if let Ok(bytes) = std::fs::read(&path) {
                    into.push((path, bytes));
                }
            }
            _ => {}
        }
    }
}

pub(crate) fn secrets_are_nowhere() {
    let (dir, file) = users();
    // Another server that wants a password, and at first gets a wrong one.
    let (receiver, relay) = server(&file, "");
    let relay_password = dir.path().join("relay-password");
    std::fs::write(&relay_password, "a wrong relay secret").expect("a scratch file");
    private(&relay_password);
    let route = format!(
        "[[route]]\ndomain = \"*\"\nto = [\"{}\"]\n\
         auth = {{ user = \"ann\", password_file = \"{}\", without_tls = true }}\n\
         [[stream]]\nname = \"default\"\n[stream.retry]\nintervals = [\"1s\"]\n\
         [log]\nlevel = \"trace\"\n",
        relay.address,
        relay_password.display()
    );
    let mut server = Server::start(&submission(&file, "", &route));
    let typo = "the password typed as a name";
    let wrong = "a wrong but telling guess";
    for line in [
        plain("ann", PASSWORD),
        plain("bob", PASSWORD),
        plain("bob", wrong),
        plain(typo, wrong),
        plain("j\u{f6}rg", AWKWARD),
    ] {
        let mut client = session_to(&server);
        client.command(&format!("AUTH PLAIN {line}"));
        client.command(&format!("AUTH PLAIN {line}="));
        client.command("AUTH LOGIN");
        client.command(&b64(typo));
        client.command(&b64(wrong));
    }
    let mut ann = logged_in(&server, "ann");
    ann.submit("<a@b.test>", &["<one@dest.test>"], &letter("a@b.test"));
    server.wait_event("deferred", |_| true);
    server.ask(&["status", "--json"]);
    server.queue();
    // The configuration with mistakes, and read again.
    let good = std::fs::read_to_string(&file).expect("the users");
    let hash = good
        .lines()
        .find(|l| l.starts_with("hash = \"$argon2"))
        .expect("a hash")
        .to_owned();
    let broken = good.replace(
        &hash,
        &format!("hash = \"{wrong}\"\npassword = \"{PASSWORD}\""),
    );
    std::fs::write(&file, broken).expect("the users");
    assert!(!server.courser(&["reload"]).status.success());
    std::fs::write(&file, &good).expect("the users");
    let config = std::fs::read_to_string(server.config()).expect("the configuration");
    let with = config.replace(
        "user = \"ann\"",
        &format!("user = \"ann\"\npassword = \"{wrong}\""),
    );
    assert_ne!(config, with);
    std::fs::write(server.config(), with).expect("the configuration");
    assert!(!server.courser(&["reload"]).status.success());
    std::fs::write(server.config(), config).expect("the configuration");
    std::fs::write(&relay_password, PASSWORD).expect("a scratch file");
    assert!(
        server.courser(&["reload"]).status.success(),
        "{}",
        server.log()
    );
    let there = eventually(30, || {
        server.ask(&["queue", "retry", "--all", "--json"]);
        (receiver.count() > 0).then_some(())
    });
    assert!(there.is_some(), "{}", server.log());
    server.stop();

    let secrets = [PASSWORD, AWKWARD, wrong, typo, "a wrong relay secret"];
    let mut words: Vec<String> = secrets.iter().map(ToString::to_string).collect();
    words.extend(
        secrets
            .iter()
            .map(|s| b64(s).trim_end_matches('=').to_owned()),
    );
    for user in ["ann", "bob", "j\u{f6}rg", typo] {
        for secret in secrets {
            words.push(plain(user, secret).trim_end_matches('=').to_owned());
        }
    }
    // What is kept of passwords, too.
    words.extend(good.lines().filter_map(|l| {
        let (_, rest) = l.strip_prefix("hash = \"")?.rsplit_once('$')?;
        Some(rest.trim_matches('"').trim_end_matches('=').to_owned())
    }));
    let mut files = Vec::new();
    contents(server.dir(), &mut files);
    contents(relay.dir(), &mut files);
    assert!(files.iter().any(|(path, _)| path.ends_with("courser.log")));
    assert!(
        files
            .iter()
            .any(|(path, _)| path.to_string_lossy().contains("/spool/"))
    );
    assert!(
        files
            .iter()
            .any(|(path, _)| path.to_string_lossy().contains("/events/"))
    );
    let log = server.log();
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "the log says all that it can"
    );
    for (path, bytes) in files {
        for word in &words {
            let found = bytes.windows(word.len()).any(|w| w == word.as_bytes());
            assert!(!found, "{word:?} in {}", path.display());
        }
    }
}
