//! The control socket under any bytes, cut anywhere: each line gets one response, the connection
//! ends with the client, and requests, responses and filters mean what they say.
#![no_main]

use std::sync::{Arc, OnceLock};

use courser::control::protocol::{DeliveryState, Filter, REQUEST_BYTES_MAX, Subject};
use courser::control::server::BoxFuture;
use courser::control::{ControlBackend, ControlServer, DeliverySelector, Request, Response};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

type Fields = (u64, u32, &'static str, &'static str, &'static str, &'static str, Option<&'static str>, DeliveryState);

/// Three deliveries that filters look at.
const SUBJECTS: [Fields; 3] = [
    (1, 0, "a@b.example", "c@d.example", "d.example", "shop", Some("google"), DeliveryState::Ready),
    (2, 7, "", "x@sub.d.example", "sub.d.example", "", None, DeliveryState::Held),
    (u64::MAX, u32::MAX, "ä@b.example", "x@ä.example", "ä.example", "Ä", Some(""), DeliveryState::Deferred),
];

fn subjects() -> impl Iterator<Item = Subject<'static>> {
    SUBJECTS.into_iter().map(|(message, recipient_index, sender, recipient, domain, tenant, provider, state)| Subject {
        message,
        recipient_index,
        sender,
        recipient,
        domain,
        tenant,
        campaign: tenant,
        stream: "default",
        provider,
        state,
    })
}

/// What a filter means, said another way.
fn means(filter: &Filter, it: &Subject<'_>) -> bool {
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    let all = |wanted: &Option<String>, is: &str| wanted.iter().all(|w| same(w, is));
    let domain = filter.domain.iter().all(|wanted| {
        match wanted.strip_prefix("*.").or(wanted.strip_prefix('.')) {
            Some(above) => it.domain.to_ascii_lowercase().ends_with(&format!(".{}", above.to_ascii_lowercase()))
                && !it.domain.starts_with('.'),
            None => same(wanted, it.domain),
        }
    });
    let sender = filter.sender.iter().all(|wanted| {
        let bare = wanted.strip_prefix('<').unwrap_or(wanted);
        same(bare.strip_suffix('>').unwrap_or(bare), it.sender)
    });
    let id = filter.id.iter().all(|id| {
        id.message.0 == it.message && id.recipient.iter().all(|r| *r == it.recipient_index)
    });
    domain
        && sender
        && id
        && all(&filter.provider, it.provider.unwrap_or_default())
        && all(&filter.tenant, it.tenant)
        && all(&filter.campaign, it.campaign)
        && all(&filter.stream, it.stream)
        && all(&filter.recipient, it.recipient)
        && filter.state.iter().all(|s| *s == it.state)
}

struct Backend;

impl ControlBackend for Backend {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        let filter = match &request {
            Request::QueueList { filter, .. }
            | Request::Hold { filter, .. }
            | Request::Release { filter }
            | Request::Retry { filter }
            | Request::Bounce { filter, .. }
            | Request::Drop { filter } => filter.clone(),
            _ => Filter::default(),
        };
        let mut count = 0;
        for it in subjects() {
            assert_eq!(filter.matches(&it), means(&filter, &it), "{filter:?} {it:?}");
            assert!(!filter.is_everything() || filter.matches(&it));
            count += u64::from(filter.matches(&it));
        }
        Box::pin(async move { Response::Changed { count } })
    }

    fn events(&self, _: Filter) -> mpsc::Receiver<serde_json::Value> {
        let (send, receive) = mpsc::channel(1);
        send.try_send(serde_json::Value::Null).expect("room");
        receive
    }
}

/// One server for all inputs, with the runtime that it and its clients run on.
fn server() -> &'static (Runtime, std::path::PathBuf) {
    static SERVER: OnceLock<(Runtime, std::path::PathBuf)> = OnceLock::new();
    SERVER.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let path = std::env::temp_dir().join(format!("courser-fuzz-{}.sock", std::process::id()));
        let bound = ControlServer::bind(&path).expect("a free path");
        runtime.spawn(bound.run(Arc::new(Backend), std::future::pending()));
        (runtime, path)
    })
}

/// What a client reads after it has sent `bytes`, `cut` at a time, and closed its side.
fn ask(bytes: &[u8], cut: usize) -> Vec<u8> {
    let (runtime, path) = server();
    runtime.block_on(async {
        let stream = UnixStream::connect(path).await.expect("it listens");
        let (mut read, mut write) = stream.into_split();
        let send = async {
            for piece in bytes.chunks(cut) {
                if write.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let _ = write.shutdown().await;
        };
        let mut said = Vec::new();
        let hear = async {
            // A server that leaves bytes unread ends with a reset.
            let _ = read.read_to_end(&mut said).await;
        };
        tokio::join!(send, hear);
        said
    })
}

fuzz_target!(|input: &[u8]| {
    let Some((&cut, bytes)) = input.split_first() else {
        return;
    };
    // What each line should get, until one ends the connection.
    let (mut errors, mut streams) = (Vec::new(), false);
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let text = String::from_utf8_lossy(line);
        if let Ok(id) = text.trim().parse::<DeliverySelector>() {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        if let Ok(response) = serde_json::from_slice::<Response>(line) {
            let written = serde_json::to_vec(&response).expect("written");
            assert_eq!(serde_json::from_slice::<Response>(&written).ok(), Some(response));
        }
        if !line.ends_with(b"\n") || line.len() > REQUEST_BYTES_MAX {
            errors.push(true);
            break;
        }
        match serde_json::from_slice::<Request>(line) {
            Ok(request) => {
                let written = serde_json::to_vec(&request).expect("written");
                assert_eq!(serde_json::from_slice::<Request>(&written).ok().as_ref(), Some(&request));
                if matches!(request, Request::Events { .. }) {
                    streams = true;
                    break;
                }
                errors.push(false);
            }
            Err(_) => errors.push(true),
        }
    }
    let said = ask(bytes, usize::from(cut) * 16 + 1);
    let responses: Vec<Response> = said
        .split_inclusive(|b| *b == b'\n')
        .map(|line| serde_json::from_slice(line).expect("a response on each line"))
        .collect();
    assert!(responses.len() >= errors.len());
    for (response, error) in responses.iter().zip(&errors) {
        match response {
            Response::Error { message, hint } => assert!(*error && !message.is_empty() && !hint.is_empty()),
            Response::Changed { .. } => assert!(!error),
            other => panic!("{other:?}"),
        }
    }
    assert!(streams || responses.len() == errors.len());
});
