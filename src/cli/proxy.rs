//! The option `--proxy`.

use super::args::ProxyArg;
use super::exit::{Exit, Failure};
use super::source::shown;
use crate::session::Proxy;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Most bytes of a file with the URL: user name, password and host have at most 255 each, percent-encoded.
const MAX_BYTES: u64 = 4096;

/// Returns the proxy; `None` without the option.
///
/// # Errors
/// The file cannot be read, or the URL is none of a SOCKS5 proxy. The text does not repeat the URL, which may hold a
/// password.
pub(crate) fn of(arg: &ProxyArg) -> Result<Option<Proxy>, Failure> {
    let Some(text) = &arg.proxy else { return Ok(None) };
    let url = match text.strip_prefix("file:") {
        Some(path) => read(Path::new(path))?,
        None => text.clone(),
    };
    let bad = |reason| {
        Failure::new(
            Exit::Option,
            format!("--proxy is not a URL like socks5://user:password@proxy.example:1080: {reason}"),
        )
    };
    Proxy::parse(url.trim()).map(Some).map_err(bad)
}

fn read(path: &Path) -> Result<String, Failure> {
    let name = shown(path);
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
        .map_err(|e| Failure::os(Exit::Open, &name, &e))?;
    Ok(text)
}
