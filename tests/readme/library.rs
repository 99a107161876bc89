use rill::session::{AddTorrent, Config, Event, Session};
use rill::wire::Metainfo;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

pub fn download(torrent: &Path, dir: &Path, config: Config) -> Result<(), Box<dyn Error>> {
    let torrent = Metainfo::parse(&std::fs::read(torrent)?)?;
    let session = Session::start(config)?;
    let id = session.add(AddTorrent::new(torrent, dir))?;
    loop {
        match session.next_event(Duration::from_secs(60)) {
            Some(Event::Completed { .. }) => break,
            Some(Event::Failed { fault, .. }) => return Err(fault.into()),
            Some(Event::Died { reason }) => return Err(reason.into()),
            _ => println!("{} peers", session.peers(id)?.len()),
        }
    }
    session.stop(Duration::from_secs(5)); // writes the records and announces the stop to trackers
    Ok(())
}
