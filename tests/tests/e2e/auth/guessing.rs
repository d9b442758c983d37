//! Who guesses is slowed down and blocked, and learns nothing.

use std::time::{Duration, Instant};

use super::*;

pub(crate) fn wrong_passwords_are_slowed_and_blocked() {
    let (_dir, file) = users();
    let receiver = Receiver::friendly();
    let config = submission(&file, "", &smart_host(receiver.address)).replace(
        "delay = \"0s\"\ndelay_max = \"0s\"\n",
        "delay = \"200ms\"\ndelay_max = \"400ms\"\nfailures_per_address = 4\nblock = \"8s\"\nblock_max = \"8s\"\n",
    );
    let server = Server::start(&config);
    let mut client = Client::hello(server.address);
    let try_wrong = |client: &mut Client| {
        let began = Instant::now();
        let said = client.command(&format!("AUTH PLAIN {}", plain("ann", "wrong password")));
        (said, began.elapsed())
    };
    for least_ms in [200, 400, 400] {
        let (said, took) = try_wrong(&mut client);
        assert_eq!(said, "535 5.7.8 Authentication failed");
        assert!(
            took >= Duration::from_millis(least_ms),
            "{took:?} of {least_ms} ms"
        );
    }
    let (said, _) = try_wrong(&mut client);
    assert_eq!(said, "535 5.7.8 Authentication failed");
    // Now nothing is looked at, be it right; over other sessions as well.
    for client in [&mut client, &mut Client::hello(server.address)] {
        let said = client
            .command(&format!("AUTH PLAIN {}", plain("ann", PASSWORD)))
            .0;
        assert!(
            said.starts_with("421 4.7.0 Too many failed logins from your address, try again in "),
            "{said}"
        );
        assert!(client.closes());
    }
    let blocked = server.wait_event("auth-blocked", |_| true);
    assert_eq!(blocked["blocked"], "address", "{blocked:#}");
    assert_eq!(blocked["client_address"], "127.0.0.1");
    assert!(blocked["until"].is_string(), "{blocked:#}");
    let failed = server.events_of("auth-failed");
    assert_eq!(failed.len(), 4, "{failed:#?}");
    assert!(failed.iter().all(|e| e["client_user"] == "ann"
        && e["mechanism"] == "PLAIN"
        && e["cause"] == "wrong password"));
    // It is this address that is blocked.
    let mut other = Client::open_from([127, 0, 0, 2].into(), server.address).expect("a connection");
    other.expect("220");
    other.command("EHLO client.test").expect_code("250");
    let said = other.command(&format!("AUTH PLAIN {}", plain("ann", PASSWORD)));
    said.expect_code("235 2.7.0");
    let status = server.ask(&["status", "--json"]).swap_remove(0);
    let logins = &status["logins"];
    assert_eq!(logins["failed"], 4, "{logins:#}");
    assert_eq!(logins["refused"], 2, "{logins:#}");
    let words = server.courser(&["status"]);
    let words = String::from_utf8_lossy(&words.stdout).into_owned();
    assert!(words.contains("1 right, 4 wrong, 2 refused"), "{words}");
    assert!(
        server
            .log()
            .contains("too many wrong passwords from this address")
    );
    // After a while it is over.
    let over = eventually(60, || {
        let mut client = Client::hello(server.address);
        let said = client.command(&format!("AUTH PLAIN {}", plain("ann", PASSWORD)));
        said.0.starts_with("235").then_some(())
    });
    assert!(over.is_some(), "the block doesn't end");
}

pub(crate) fn a_block_of_a_user_spares_where_it_logged_in_from() {
    let (_dir, file) = users();
    let (_receiver, server) = server(&file, "failures_per_user = 3\n");
    let from = |last: u8| {
        let ip = [127, 0, 0, last].into();
        let mut client = Client::open_from(ip, server.address).expect("a connection");
        client.expect("220");
        client.command("EHLO client.test").expect_code("250");
        client
    };
    let login = |last: u8, user: &str, password: &str| {
        from(last)
            .command(&format!("AUTH PLAIN {}", plain(user, password)))
            .0
    };
    login(9, "ann", PASSWORD);
    let mut said = Vec::new();
    for user in ["ann", "nobody"] {
        let all: Vec<String> = (20..25)
            .map(|last| login(last, user, "wrong password"))
            .collect();
        said.push(all);
    }
    // Five addresses guessed, and the fourth guess of each name isn't looked at.
    assert_eq!(said[0], said[1], "who is there is blocked like who isn't");
    assert_eq!(said[0][2], "535 5.7.8 Authentication failed");
    assert_eq!(
        said[0][3],
        "454 4.7.0 Too many failed logins for this user, try again in 15 minutes"
    );
    let said = login(30, "ann", PASSWORD);
    assert!(said.starts_with("454 4.7.0"), "{said}");
    let said = login(9, "ann", PASSWORD);
    assert!(said.starts_with("235"), "{said}");
    let said = login(30, "bob", PASSWORD);
    assert!(said.starts_with("235"), "{said}");
    let blocked = server.wait_events("auth-blocked", 2, |e| e["blocked"] == "user");
    // The name that nobody has may be a password.
    let names: Vec<_> = blocked.iter().map(|e| e["client_user"].as_str()).collect();
    assert_eq!(names, [Some("ann"), None]);
}

pub(crate) fn nobody_learns_who_is_there() {
    let (_dir, file) = users();
    let more = "failures_per_user = 1000\nfailures_per_address = 1000\n";
    let (_receiver, server) = server(&file, more);
    let session = || {
        let mut client = Client::open(server.address).expect("a connection");
        client.expect("220");
        client.command("EHLO client.test").expect_code("250");
        client
    };
    let people = ["ann", "bob", "nobody", "eve", "x@y.test"];
    for name in people {
        for password in ["wrong password", ""] {
            let mut client = session();
            let said = client.command(&format!("AUTH PLAIN {}", plain(name, password)));
            assert_eq!(said, "535 5.7.8 Authentication failed", "{name}");
        }
        let mut client = session();
        assert_eq!(client.command("AUTH LOGIN"), "334 VXNlcm5hbWU6");
        assert_eq!(client.command(&b64(name)), "334 UGFzc3dvcmQ6", "{name}");
        let said = client.command(&b64("wrong password"));
        assert_eq!(said, "535 5.7.8 Authentication failed", "{name}");
        // SCRAM: a salt of the same length, the same iterations, and the same salt each time.
        let first = || {
            let mut client = session_to(&server);
            let said = client
                .command(&format!(
                    "AUTH SCRAM-SHA-256 {}",
                    b64(&format!("n,,n={name},r=abc"))
                ))
                .0;
            let challenge = said.strip_prefix("334 ").expect("a challenge").to_owned();
            let text = Base64::decode_vec(&challenge).expect("base64");
            let text = String::from_utf8(text).expect("text");
            let parts: Vec<String> = text.split(',').map(str::to_owned).collect();
            assert!(parts[0].starts_with("r=abc") && parts[0].len() == "r=abc".len() + 24);
            // A proof of nothing.
            let proof = format!("c=biws,{},p={}=", parts[0], "A".repeat(43));
            let said = client.command(&b64(&proof));
            assert_eq!(said, "535 5.7.8 Authentication failed", "{name}");
            (parts[1].clone(), parts[2].clone())
        };
        let (salt, iterations) = first();
        assert_eq!(
            (salt.len(), &*iterations),
            ("s=".len() + 24, "i=4096"),
            "{name}"
        );
        assert_eq!(first(), (salt, iterations), "{name}");
    }
    let salts: std::collections::HashSet<String> = people
        .iter()
        .map(|name| {
            let mut client = session_to(&server);
            let first = b64(&format!("n,,n={name},r=abc"));
            let said = client.command(&format!("AUTH SCRAM-SHA-256 {first}")).0;
            let text = Base64::decode_vec(&said[4..]).expect("base64");
            String::from_utf8(text)
                .expect("text")
                .split(',')
                .nth(1)
                .expect("a salt")
                .to_owned()
        })
        .collect();
    assert_eq!(salts.len(), people.len());
    // To the operator it is told, but for the names that nobody has.
    let failed = server.events_of("auth-failed");
    let causes: std::collections::BTreeSet<&str> =
        failed.iter().filter_map(|e| e["cause"].as_str()).collect();
    assert!(
        causes.contains("there is no such user") && causes.contains("wrong password"),
        "{causes:?}"
    );
    assert!(failed.iter().any(|e| e["client_user"] == "bob"));
    let all = serde_json::to_string(&failed).expect("JSON");
    assert!(
        !all.contains("x@y.test") && !all.contains("nobody"),
        "{all}"
    );
    // What is not base64 is told so (RFC 4954 4).
    let mut client = session_to(&server);
    client.command("AUTH PLAIN AAA").expect_code("501 5.5.2");
    client.command("AUTH LOGIN").expect_code("334");
    client.command("*").expect_code("501 5.7.0");
}

pub(crate) fn many_passwords_at_once() {
    let (_dir, file) = users();
    let more = "failures_per_user = 5\nfailures_per_address = 5\n";
    let (_receiver, server) = server(&file, more);
    let address = server.address;
    // Guesses over forty sessions at the same time, and the right one is the last of them.
    let guesses: Vec<_> = (0..40)
        .map(|n| {
            std::thread::spawn(move || {
                let password = if n == 39 { PASSWORD } else { "wrong password" };
                let mut client = Client::hello(address);
                client
                    .command(&format!("AUTH PLAIN {}", plain("bob", password)))
                    .0
            })
        })
        .collect();
    let said: Vec<String> = guesses
        .into_iter()
        .map(|g| g.join().expect("a reply"))
        .collect();
    let begin = |with: &str| said.iter().filter(|s| s.starts_with(with)).count();
    assert_eq!(
        said.len(),
        begin("535") + begin("421") + begin("235") + begin("454"),
        "{said:?}"
    );
    // Whoever comes after the fifth wrong one is told the same, be it right or wrong.
    assert!(begin("535") <= 5 && begin("235") <= 1, "{said:?}");
    // The others are answered meanwhile.
    let mut client = Client::hello(server.address);
    client.command("NOOP").expect_code("250");
    let status = server.ask(&["status", "--json"]).swap_remove(0);
    assert_eq!(status["logins"]["blocked_addresses"], 1, "{status:#}");
}
