//! Metadata of magnet links: received from peers or loaded from an earlier run, then the user's choice of
//! files, then the disk.
//!
//! ```text
//!   Awaited ──metadata──▶ Undecided ──choose──▶ Known: the disk checks the content
//!                  └──────── no choice is awaited ──────────▲
//! ```
//!
//! The metadata is validated like a torrent file, and saved in the state directory as one, so the next run of
//! the link needs no peer for it.

use super::config::{AddTorrent, TorrentSource};
use super::dispatch::NAME_CHARS;
use super::error::CommandError;
use super::event::{Event, TorrentId};
use super::event_loop::EventLoop;
use super::registry::{ContentSource, DiskState};
use crate::disk::read_state_file;
use crate::units::{InfoHash, TorrentKey};
use crate::wire::limits::METAINFO_BYTES;
use crate::wire::{Magnet, Metainfo, printable};
use std::path::Path;

/// Loads the metadata that an earlier run saved here. A file whose hash differs from its name is ignored.
pub fn kept_metadata(state_dir: &Path, magnet: &Magnet) -> Option<Metainfo> {
    let bytes = read_state_file(state_dir, &file_name(magnet.info_hash), METAINFO_BYTES as u64)?;
    let metainfo =
        Metainfo::parse(&bytes).ok().filter(|metainfo| metainfo.info_hash() == magnet.info_hash)?;
    let trackers = magnet.trackers.iter().map(|url| vec![url.clone()]).collect();
    Metainfo::from_info(&metainfo.info()?, trackers, magnet.web_seeds.clone()).ok()
}

fn file_name(info_hash: InfoHash) -> String {
    format!("{info_hash}.torrent")
}

impl EventLoop {
    /// Handles metadata that peers sent and whose hash matches.
    pub(super) fn on_metadata(&mut self, key: TorrentKey, info: &[u8]) {
        let Some(entry) = self.registry.get(key) else { return };
        let ContentSource::Awaited(order) = &entry.content else { return };
        let TorrentSource::Magnet(magnet) = &order.source else { return };
        let torrent = entry.id;
        match Metainfo::from_info(info, order.all_trackers(), magnet.web_seeds.clone()) {
            Ok(metainfo) => {
                if let Some(file) = metainfo.to_file() {
                    self.store.write_state_file(&file_name(metainfo.info_hash()), file);
                }
                self.on_metainfo(key, metainfo);
            }
            Err(error) => {
                self.engine.pause(self.now, key, &mut self.actions);
                self.emit(Event::BadMetadata { torrent, error });
            }
        }
    }

    /// Handles known metadata of a magnet link.
    pub(super) fn on_metainfo(&mut self, key: TorrentKey, metainfo: Metainfo) {
        let Some(entry) = self.registry.get(key) else { return };
        let ContentSource::Awaited(order) = &entry.content else { return };
        let torrent = entry.id;
        let order = order.clone();
        let metainfo = order.named(metainfo);
        self.emit(Event::Metadata { torrent, metainfo: metainfo.clone() });
        if !order.choose_later {
            return self.begin(key, &order, &metainfo);
        }
        // Only a private torrent's own trackers may learn of it, however long the choice takes.
        self.engine.on_metadata(self.now, key, order.torrent_info(&metainfo), &mut self.actions);
        if let Some(entry) = self.registry.get_mut(key) {
            entry.content = ContentSource::Undecided(order, metainfo);
        }
    }

    /// Applies the user's choice of a link's files.
    pub(super) fn choose(&mut self, id: TorrentId, files: Option<Vec<usize>>) -> Result<(), CommandError> {
        let key = self.key(id)?;
        let entry = self.registry.get(key).ok_or(CommandError::UnknownTorrent)?;
        let (order, metainfo) = match &entry.content {
            ContentSource::Undecided(order, metainfo) => (order, metainfo),
            ContentSource::Awaited(_) => return Err(CommandError::NoMetadata),
            ContentSource::Known(_) => return Err(CommandError::NothingToChoose),
        };
        let count = metainfo.files().len();
        if let Some(index) = files.iter().flatten().copied().find(|index| *index >= count) {
            return Err(CommandError::NoSuchFile { index, files: count });
        }
        let order = AddTorrent { wanted_files: files, ..(**order).clone() };
        let metainfo = metainfo.clone();
        self.begin(key, &order, &metainfo);
        Ok(())
    }

    /// Passes the wanted pieces to the engine and has the disk open the content.
    fn begin(&mut self, key: TorrentKey, order: &AddTorrent, metainfo: &Metainfo) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        let content = order.to_open(metainfo);
        entry.disk = DiskState::Opening;
        entry.content = ContentSource::Known(content.clone());
        entry.name = Some(printable(metainfo.name(), NAME_CHARS));
        self.engine.on_metadata(self.now, key, order.torrent_info(metainfo), &mut self.actions);
        self.store.open(key, content);
    }
}
