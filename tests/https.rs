//! HTTPS servers whose certificate authority is given: `--ca-certificate` and `SSL_CERT_FILE`.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

/// The authority that vouches for the server.
const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/https/authority.pem");

/// Starts an HTTPS server that answers every request with this body. Returns its port and the paths that it was
/// asked for.
fn serve(body: Vec<u8>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("https/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("https/server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let paths = Arc::new(Mutex::new(Vec::new()));
    let asked = paths.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                head.push(byte[0]);
            }
            let path = String::from_utf8_lossy(&head).split([' ', '?']).nth(1).unwrap_or_default().to_owned();
            asked.lock().unwrap().push(path);
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(&body);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    (port, paths)
}

fn rill(dir: &Path, words: &[&str], cert_file: &str) -> Output {
    let mut rill = Command::new(env!("CARGO_BIN_EXE_rill"));
    rill.current_dir(dir).args(words).env("SSL_CERT_FILE", cert_file).env("HOME", dir);
    for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        rill.env_remove(proxy);
    }
    rill.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn s17_a_server_is_checked_against_the_given_authority() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("t"), [7; 40_000]).unwrap();
    assert!(rill(dir.path(), &["create", "t", "-q"], "").status.success());
    let (port, _) = serve(std::fs::read(dir.path().join("t.torrent")).unwrap());
    let url = format!("https://localhost:{port}/t.torrent");
    let unknown = rill(dir.path(), &["show", &url], "");
    assert_eq!(unknown.status.code(), Some(6), "{}", stderr(&unknown));
    assert!(stderr(&unknown).contains("certificate"), "{}", stderr(&unknown));
    for (words, cert_file) in [
        (&["show", &url, "--ca-certificate", AUTHORITY][..], ""),
        (&["show", &url], AUTHORITY),
        (&["verify", &url, "--ca-certificate", AUTHORITY], "nothing.pem"),
    ] {
        let output = rill(dir.path(), words, cert_file);
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{words:?}");
    }
}

#[test]
fn s17_a_tracker_is_checked_against_the_given_authority() {
    let dir = tempfile::tempdir().unwrap();
    let (port, paths) = serve(b"d8:intervali1800e5:peers0:e".to_vec());
    let tracker = format!("https://localhost:{port}/announce");
    let link = "0123456789abcdef0123456789abcdef01234567";
    let alone = ["--no-dht", "--no-lsd", "--listen-port", "0", "--timeout", "3", "--no-state"];
    let words = [&["get", link, "--tracker", &tracker], &alone[..]].concat();
    let refused = rill(dir.path(), &words, "");
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(!paths.lock().unwrap().contains(&"/announce".to_owned()));
    let words = [&words[..], &["--ca-certificate", AUTHORITY]].concat();
    assert_eq!(rill(dir.path(), &words, "").status.code(), Some(2));
    assert!(paths.lock().unwrap().contains(&"/announce".to_owned()));
}

#[test]
fn s17_a_file_without_authorities_is_refused_and_in_the_environment_only_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("t"), "t").unwrap();
    std::fs::write(dir.path().join("empty.pem"), "no certificate").unwrap();
    assert!(rill(dir.path(), &["create", "t", "-q"], "").status.success());
    for (file, code, sentence) in [
        ("none.pem", 15, "none.pem: no such file or directory"),
        ("empty.pem", 28, "empty.pem: no certificate in PEM form"),
    ] {
        let output = rill(dir.path(), &["show", "t.torrent", "--ca-certificate", file], "");
        assert_eq!((output.status.code(), stderr(&output)), (Some(code), format!("rill: {sentence}\n")));
        let output = rill(dir.path(), &["show", "t.torrent"], file);
        let expected = format!("rill: SSL_CERT_FILE: {sentence}; the built-in authorities are used\n");
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), expected));
    }
}
