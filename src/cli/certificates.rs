//! The certificate authorities of HTTPS servers: `--ca-certificate`, the variable `SSL_CERT_FILE`, or those that
//! rill was built with.

use super::args::Https;
use super::exit::Failure;
use crate::session::RootCertificates;

/// Returns the certificate authorities. A bad file in `SSL_CERT_FILE` is said and not used: the variable is meant
/// for all programs.
///
/// # Errors
/// The file of the option cannot be read or holds no certificate.
#[cfg(feature = "tls")]
pub(crate) fn roots(options: &Https) -> Result<RootCertificates, Failure> {
    match &options.ca_certificate {
        Some(path) => read(path),
        None => match std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) {
            Some(path) => Ok(read(path.as_ref()).unwrap_or_else(|failure| {
                super::out::error(format_args!(
                    "SSL_CERT_FILE: {}; the built-in authorities are used",
                    failure.sentence
                ));
                RootCertificates::default()
            })),
            None => Ok(RootCertificates::default()),
        },
    }
}

/// Returns the built-in authorities, which nothing needs without HTTPS.
#[cfg(not(feature = "tls"))]
pub(crate) fn roots(_: &Https) -> Result<RootCertificates, Failure> {
    Ok(RootCertificates::default())
}

#[cfg(feature = "tls")]
fn read(path: &std::path::Path) -> Result<RootCertificates, Failure> {
    use super::exit::Exit;
    use super::source::shown;
    use std::io::Read;

    /// Longest file, bytes. The bundle of a distribution has about 250,000.
    const MAX_BYTES: u64 = 16 << 20;

    let name = shown(path);
    let failed = |e: &std::io::Error| Failure::os(Exit::Open, &name, e);
    let mut pem = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_BYTES).read_to_end(&mut pem))
        .map_err(|e| failed(&e))?;
    RootCertificates::from_pem(&pem)
        .ok_or_else(|| Failure::new(Exit::Option, format!("{name}: no certificate in PEM form")))
}
