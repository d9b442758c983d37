//! DKIM: signatures of domains over messages (RFC 6376, with RFC 8301 and RFC 8463).
//!
//! **Signing.** Hash the body while it comes ([`BodyHashes`]), then [`sign`] once for each
//! signature. The key is a [`PrivateKey`] from PEM, what signs with it a [`Signer`]: its own, or one
//! over another library.
//!
//! **Verifying.** Give the header to a [`Verifier`], then the body as it comes; what
//! [`finish`](Verifier::finish) returns is an [`Evaluate`](super::Evaluate) that asks for the keys.
//!
//! ```
//! use courser_core::auth::Evaluate;
//! use courser_core::auth::canon::Canon;
//! use courser_core::auth::dkim::{PrivateKey, SigningOptions, Status, Verifier, sign};
//! use courser_core::auth::hash::BodyHashes;
//! use courser_core::dns::{Name, Outcome, Records};
//! use courser_core::mail::header::Header;
//! use courser_core::time::Wall;
//!
//! let (now, seed) = (Wall::from_unix(1_790_000_000), [7; 32]); // the clock, and random octets
//! let message = b"From: a@example.com\r\nSubject: hello\r\n\r\nHi!\r\n";
//! let (header, body) = Header::of(message).unwrap();
//!
//! let mut hashes = BodyHashes::new(&[Canon::Relaxed]);
//! for piece in body.chunks(2) {
//!     hashes.update(piece);
//! }
//! let key = PrivateKey::parse("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=").unwrap();
//! let (domain, selector) = (Name::parse("example.com").unwrap(), Name::parse("one").unwrap());
//! let options = SigningOptions::new(&domain, &selector);
//! let mut signed = Vec::new();
//! sign(header, &hashes.finish(), now, &options, &key.signer(seed), &mut signed).unwrap();
//! signed.extend_from_slice(message);
//!
//! let (header, body) = Header::of(&signed).unwrap();
//! let mut verifier = Verifier::new(header, now);
//! verifier.update(body);
//! let report = verifier.finish().run(|question| {
//!     assert_eq!(question.name.as_str(), "one._domainkey.example.com");
//!     Outcome::Found(Records::Txt([key.record().to_string().into_bytes().into()].into()))
//! });
//! assert_eq!(report.signatures[0].status, Status::Pass);
//! ```
//!
//! | file | holds |
//! |---|---|
//! | [`tags`] | tag lists |
//! | [`signature`] | the fields that sign, ARC's too |
//! | [`key`] | public keys in DNS |
//! | `fields` | which fields are signed, and their octets |
//! | [`signer`] | private keys |
//! | [`mod@sign`], [`verify`] | the two ways |

pub(crate) mod fields;
pub mod key;
pub mod sign;
pub mod signature;
pub mod signer;
pub mod tags;
pub mod verify;

pub use super::hash::{BodyHashes, HashedBody};
pub use key::{KeyRecord, KeyType, PublicKey};
pub use sign::{DEFAULT_FIELDS, SignError, SignedField, SigningOptions, sign};
pub use signature::{Algorithm, Signature};
pub use signer::{KeySigner, PrivateKey, PrivateKeyError, Signer, SignerError};
pub use verify::{Reason, Report, Status, Verdict, Verification, Verifier};

#[cfg(test)]
pub(crate) mod tests {
    /// RFC 6376 A.3, as its erratum of the body has it.
    pub(crate) const RFC_6376_MESSAGE: &[u8] = concat!(
        "DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;\r\n",
        "      c=simple/simple; q=dns/txt; i=joe@football.example.com;\r\n",
        "      h=Received : From : To : Subject : Date : Message-ID;\r\n",
        "      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n",
        "      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB\r\n",
        "        4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut\r\n",
        "        KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV\r\n",
        "        4bmp/YzhwvcubU4=;\r\n",
        "Received: from client1.football.example.com  [192.0.2.1]\r\n",
        "      by submitserver.example.com with SUBMISSION;\r\n",
        "      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)\r\n",
        "From: Joe SixPack <joe@football.example.com>\r\n",
        "To: Suzie Q <suzie@shopping.example.net>\r\n",
        "Subject: Is dinner ready?\r\n",
        "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n",
        "Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n",
        "\r\n",
        "Hi.\r\n",
        "\r\n",
        "We lost the game. Are you hungry yet?\r\n",
        "\r\n",
        "Joe.\r\n",
    )
    .as_bytes();
    /// RFC 8463 A.3: Ed25519, then RSA.
    pub(crate) const RFC_8463_MESSAGE: &[u8] = concat!(
        "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n",
        " d=football.example.com; i=@football.example.com;\r\n",
        " q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n",
        " subject : date : message-id : from : subject : date;\r\n",
        " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n",
        " b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n",
        " Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n",
        "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n",
        " d=football.example.com; i=@football.example.com;\r\n",
        " q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n",
        " date : message-id : from : subject : date;\r\n",
        " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n",
        " b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n",
        " DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n",
        " dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\n",
        "From: Joe SixPack <joe@football.example.com>\r\n",
        "To: Suzie Q <suzie@shopping.example.net>\r\n",
        "Subject: Is dinner ready?\r\n",
        "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n",
        "Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n",
        "\r\n",
        "Hi.\r\n",
        "\r\n",
        "We lost the game.  Are you hungry yet?\r\n",
        "\r\n",
        "Joe.\r\n",
    )
    .as_bytes();
}
