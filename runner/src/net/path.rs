//! Paths of certificates, validated by rustls-webpki, as rustls itself does it: for DANE's trust
//! anchors, whose rules are the core's.

use std::time::Duration;

use courser_core::route::dane::{Anchor, Path, PathFault, PathValidator, contents};
use courser_core::time::Wall;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};

/// RFC 5280 6 for TLS servers: signatures by the algorithms that rustls takes, dates, key usage and
/// name constraints. Certificates are not asked about revocation.
#[derive(Clone, Copy, Debug, Default)]
pub struct WebPki;

impl PathValidator for WebPki {
    fn validate(&self, path: &Path<'_>) -> Result<(), PathFault> {
        let leaf = CertificateDer::from(path.leaf);
        let leaf = EndEntityCert::try_from(&leaf).map_err(fault)?;
        let between: Vec<_> = path
            .between
            .iter()
            .map(|der| CertificateDer::from(*der))
            .collect();
        let certificate;
        let anchor = match path.anchor {
            Anchor::Certificate(der) => {
                certificate = CertificateDer::from(der);
                anchor_from_trusted_cert(&certificate).map_err(fault)?
            }
            Anchor::Key {
                subject,
                public_key,
            } => {
                let part = |element| contents(element).ok_or_else(|| fault(Error::BadDer));
                TrustAnchor {
                    subject: part(subject)?.into(),
                    subject_public_key_info: part(public_key)?.into(),
                    name_constraints: None,
                }
            }
        };
        leaf.verify_for_usage(
            ALL_VERIFICATION_ALGS,
            &[anchor],
            &between,
            time(path.now),
            KeyUsage::server_auth(),
            None,
            None,
        )
        .map(drop)
        .map_err(fault)
    }
}

/// Before 1970 it is 1970.
fn time(now: Wall) -> UnixTime {
    let s = u64::try_from(now.unix()).unwrap_or(0);
    UnixTime::since_unix_epoch(Duration::from_secs(s))
}

/// In words, where the library has only names.
fn fault(error: Error) -> PathFault {
    let what = match error {
        Error::CertExpired { .. } => return PathFault::Expired,
        Error::CertNotValidYet { .. } => return PathFault::NotYetValid,
        Error::UnknownIssuer => return PathFault::NotTrusted,
        Error::InvalidSignatureForPublicKey => "a signature is not by the key of its issuer",
        Error::RequiredEkuNotFoundContext(_) => "a certificate is not for TLS servers",
        Error::EndEntityUsedAsCa => "a certificate was signed by one that is no authority's",
        Error::CaUsedAsEndEntity => "the host's certificate is an authority's",
        Error::NameConstraintViolation => "an authority may not sign for these names",
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            "a signature is of an algorithm that is too weak or not known"
        }
        other => return PathFault::Other(format!("a certificate can't be used: {other}").into()),
    };
    PathFault::Other(what.into())
}
