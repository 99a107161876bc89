//! A torrent file around an info dictionary that is here already: the dictionary to the letter, so that its hash stays, and what
//! belongs beside it. Keys are in ascending order by hand, because no encoder takes what is encoded already.

use super::Metainfo;

/// The file's bytes.
pub(super) fn file(m: &Metainfo, info: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(info.len().saturating_add(1024));
    out.push(b'd');
    if let Some(first) = m.trackers().iter().flatten().next() {
        string("announce", &mut out);
        string(first, &mut out);
    }
    if m.trackers().iter().flatten().nth(1).is_some() {
        string("announce-list", &mut out);
        list(m.trackers(), &mut out, |tier, out| list(tier, out, |url, out| string(url, out)));
    }
    string("info", &mut out);
    out.extend(info);
    if !m.nodes().is_empty() {
        string("nodes", &mut out);
        list(m.nodes(), &mut out, |(host, port), out| {
            out.push(b'l');
            string(host, out);
            out.extend(format!("i{port}ee").bytes());
        });
    }
    if !m.web_seeds().is_empty() {
        string("url-list", &mut out);
        list(m.web_seeds(), &mut out, |url, out| string(url, out));
    }
    out.push(b'e');
    out
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.extend(format!("{}:", text.len()).bytes());
    out.extend(text.bytes());
}

fn list<T>(items: &[T], out: &mut Vec<u8>, mut each: impl FnMut(&T, &mut Vec<u8>)) {
    out.push(b'l');
    items.iter().for_each(|item| each(item, out));
    out.push(b'e');
}
