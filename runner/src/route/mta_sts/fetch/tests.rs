//! Web servers of all kinds, and what they are taken for.

use std::net::Ipv4Addr;
use std::path::Path;

use courser_core::route::mta_sts::MxPattern;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;

const HOST: &str = "mta-sts.example.net";
const POLICY: &str = "version: STSv1\nmode: enforce\nmx: mx.example.net\nmax_age: 86400\n";
/// More than any of this takes.
const LONG: Duration = Duration::from_secs(30);
/// For those that never answer.
const SHORT: Duration = Duration::from_millis(200);

struct Web {
    authority: CertifiedIssuer<'static, KeyPair>,
    client: Client,
}

impl Web {
    fn new(dir: &Path) -> Self {
        let mut params = CertificateParams::default();
        let name = (rcgen::DnType::CommonName, "Authority");
        params.distinguished_name.push(name.0, name.1);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = dir.join("authority.pem");
        std::fs::write(&file, authority.pem()).unwrap();
        let client = Client::load(Some(&file)).unwrap();
        Self { authority, client }
    }

    /// TLS with a certificate for `name` that is valid until then.
    fn tls(&self, name: &str, until_year: i32, own: bool) -> TlsAcceptor {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = match own {
            true => params.self_signed(&key),
            false => params.signed_by(&key, &self.authority),
        };
        let chain = vec![certificate.unwrap().der().clone()];
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let config = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key.into())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    fn good(&self) -> TlsAcceptor {
        self.tls(HOST, 2100, false)
    }

    async fn ask(
        &self,
        address: std::net::SocketAddr,
        limit: Duration,
    ) -> Result<Policy, FetchFault> {
        get(&self.client, HOST, &[address.ip()], address.port(), limit).await
    }
}

async fn listen() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A server that answers one request with `parts`, a pause of `SHORT` between them. Gives the request.
async fn serve(listener: TcpListener, tls: TlsAcceptor, parts: Vec<Vec<u8>>) -> Option<String> {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = tls.accept(stream).await.ok()?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
    }
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            tokio::time::sleep(SHORT).await;
        }
        // A client that has heard enough closes.
        let _ = stream.write_all(part).await;
        let _ = stream.flush().await;
    }
    let _ = stream.shutdown().await;
    String::from_utf8(request).ok()
}

fn response(head: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

const OK: &str = "200 OK\r\nContent-Type: text/plain";

#[tokio::test]
async fn what_servers_answer() {
    let dir = tempfile::tempdir().unwrap();
    let web = Web::new(dir.path());
    let filled = |length: usize| format!("{POLICY}{}", "\n".repeat(length - POLICY.len()));
    let cut = {
        let mut whole = response(OK, POLICY);
        whole.truncate(whole.len() - 10);
        whole
    };
    let until_closed = format!("HTTP/1.1 {OK}\r\n\r\n{POLICY}").into_bytes();
    let chunked = format!(
        "HTTP/1.1 {OK}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{POLICY}\r\n0\r\n\r\n",
        POLICY.len()
    );
    let whole = response(OK, POLICY);
    let (first, second) = whole.split_at(whole.len() / 2);
    let heads = "X-Long: 0123456789\r\n".repeat(5000);
    type Case = (Vec<Vec<u8>>, Result<(), (&'static str, &'static str)>);
    let fetch = |words| Err(("sts-policy-fetch-error", words));
    let invalid = |words| Err(("sts-policy-invalid", words));
    let cases: Vec<Case> = vec![
        (vec![whole.clone()], Ok(())),
        (vec![first.into(), second.into()], Ok(())),
        (vec![until_closed], Ok(())),
        (vec![chunked.into_bytes()], Ok(())),
        (
            vec![response(
                "200 OK\r\nContent-Type: text/plain; charset=utf-8",
                POLICY,
            )],
            Ok(()),
        ),
        // RFC 8461 3.3: what a cache would do is of no interest.
        (
            vec![response(
                "200 OK\r\nCache-Control: no-store\r\nContent-Type: text/plain",
                POLICY,
            )],
            Ok(()),
        ),
        (
            vec![response(OK, &filled(MTA_STS_POLICY_BYTES_MAX))],
            Ok(()),
        ),
        (
            vec![response(OK, &filled(MTA_STS_POLICY_BYTES_MAX + 1))],
            invalid("longer than 65536 bytes"),
        ),
        (
            vec![response(OK, &filled(1 << 20))],
            invalid("longer than 65536 bytes"),
        ),
        (
            vec![response("200 OK\r\nContent-Type: text/html", POLICY)],
            fetch("text/html"),
        ),
        (vec![response("200 OK", POLICY)], fetch("as text/plain")),
        (
            vec![response(
                "302 Found\r\nLocation: https://mta-sts.example.net/there",
                "",
            )],
            fetch("answers 302, a redirect, which may not be followed"),
        ),
        (
            vec![response("404 Not Found", "no")],
            fetch("answers 404, and should 200"),
        ),
        (
            vec![response("503 Busy\r\nRetry-After: 1", "")],
            fetch("answers 503"),
        ),
        (vec![response(OK, "<html>")], invalid("a line is not")),
        (
            vec![response(OK, &POLICY.replace("enforce", "force"))],
            invalid("mode has a value"),
        ),
        (vec![response(OK, "")], invalid("there is no version")),
        (vec![cut], fetch("mta-sts.example.net: ")),
        (vec![], fetch("mta-sts.example.net: ")),
        (
            vec![b"220 mta-sts.example.net ESMTP\r\n".to_vec()],
            fetch("invalid HTTP"),
        ),
        (
            vec![response(
                &format!("200 OK\r\n{heads}Content-Type: text/plain"),
                POLICY,
            )],
            fetch("too large"),
        ),
    ];
    for (parts, expected) in cases {
        let shown = String::from_utf8_lossy(&parts.concat())
            .chars()
            .take(90)
            .collect::<String>();
        let (listener, address) = listen().await;
        let (request, done) =
            tokio::join!(serve(listener, web.good(), parts), web.ask(address, LONG));
        let request = request.expect("a request");
        assert!(
            request.starts_with("GET /.well-known/mta-sts.txt HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(
            request.to_lowercase().contains(&format!(
                "\r\nhost: mta-sts.example.net:{}\r\n",
                address.port()
            )),
            "{request}"
        );
        match (done, expected) {
            (Ok(policy), Ok(())) => {
                assert_eq!(policy.mx, [MxPattern::parse("mx.example.net").unwrap()]);
            }
            (Err(error), Err((result, words))) => {
                assert_eq!(error.result.as_str(), result, "{shown}: {error}");
                assert!(error.text.contains(words), "{shown}: {error}");
            }
            (done, expected) => panic!("{shown}: {done:?}, and not {expected:?}"),
        }
    }
}

#[tokio::test]
async fn whose_certificates_are_right() {
    let dir = tempfile::tempdir().unwrap();
    let web = Web::new(dir.path());
    for (tls, words) in [
        (
            web.tls("example.net", 2100, false),
            "is for example.net, and should be for mta-sts.",
        ),
        (web.tls(HOST, 2001, false), "has expired"),
        (
            web.tls(HOST, 2100, true),
            "no certificate authority that is trusted here",
        ),
    ] {
        let (listener, address) = listen().await;
        let (request, done) = tokio::join!(
            serve(listener, tls, vec![response(OK, POLICY)]),
            web.ask(address, LONG)
        );
        let error = done.unwrap_err();
        assert_eq!(error.result.as_str(), "sts-webpki-invalid", "{error}");
        assert!(error.text.contains(words), "{error}");
        // Nothing was asked of it.
        assert_eq!(request, None);
    }
    // No TLS at all.
    let (listener, address) = listen().await;
    let plain = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(&response(OK, POLICY)).await;
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard).await;
    };
    let (done, ()) = tokio::join!(web.ask(address, LONG), plain);
    let error = done.unwrap_err();
    assert_eq!(error.result.as_str(), "sts-webpki-invalid");
    assert!(error.text.contains("something that is not TLS"), "{error}");
}

#[tokio::test]
async fn servers_that_take_too_long() {
    let dir = tempfile::tempdir().unwrap();
    let web = Web::new(dir.path());
    let late = |done: Result<Policy, FetchFault>| {
        let error = done.unwrap_err();
        assert_eq!(error.result.as_str(), "sts-policy-fetch-error");
        assert_eq!(error.text, "mta-sts.example.net takes longer than 1 s");
    };
    // It accepts and says nothing.
    let (listener, address) = listen().await;
    let accepting = async {
        let (stream, _): (TcpStream, _) = listener.accept().await.unwrap();
        tokio::time::sleep(LONG).await;
        drop(stream);
    };
    tokio::select! {
        done = web.ask(address, SHORT) => late(done),
        () = accepting => unreachable!(),
    }
    // A byte after the other, each in time.
    let (listener, address) = listen().await;
    let whole = response(OK, POLICY);
    let trickle = whole.iter().map(|byte| vec![*byte]).collect();
    tokio::select! {
        done = web.ask(address, SHORT * 3) => late(done),
        _ = serve(listener, web.good(), trickle) => unreachable!(),
    }
}

#[tokio::test]
async fn one_address_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let web = Web::new(dir.path());
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let ips = ["127.0.0.1", "127.0.0.2"].map(|ip| ip.parse().unwrap());
    let (_, done) = tokio::join!(
        serve(listener, web.good(), vec![response(OK, POLICY)]),
        get(&web.client, HOST, &ips, port, LONG)
    );
    assert!(done.is_ok(), "{done:?}");
    let error = get(&web.client, HOST, &ips, port, LONG).await.unwrap_err();
    assert!(
        error
            .text
            .contains("connect to mta-sts.example.net [127.0.0.2]: "),
        "{error}"
    );
    let error = get(&web.client, HOST, &[], port, LONG).await.unwrap_err();
    assert!(error.text.contains("has no address"), "{error}");
}

#[test]
fn what_is_told_of_a_policy() {
    let (a, b) = (
        Policy::parse(POLICY.as_bytes()).unwrap(),
        Policy::parse(POLICY.replace("enforce", "testing").as_bytes()).unwrap(),
    );
    assert_eq!(change(None, &a), Some("new"));
    assert_eq!(change(Some(&a), &a), None);
    assert_eq!(change(Some(&a), &b), Some("changed"));
    let domain = Name::parse("example.net").unwrap();
    let event = Event::now(EventKind::TlsPolicy(Box::new(of_policy(
        &domain, "changed", &b,
    ))));
    let mut line = Vec::new();
    event.write_line(&mut line);
    let mut json: serde_json::Value = serde_json::from_slice(&line).unwrap();
    json.as_object_mut().unwrap().remove("time");
    let expected = serde_json::json!({
        "kind": "tls-policy", "domain": "example.net", "what": "changed", "mode": "testing",
        "mx": ["mx.example.net"], "max_age_s": 86400,
        "cause": "mail goes as without it, and what it would forbid is told",
    });
    assert_eq!(json, expected);
}
