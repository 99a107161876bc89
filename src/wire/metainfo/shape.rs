//! What stands in a .torrent file (BEP 3, 5, 12, 19, 27, 47), field by field, before anybody believes it.
//!
//! One type for each dictionary. A field of the wrong type counts as absent; whether that matters is decided in
//! [`super::parse`]. `info` itself is read from its own raw span, never from here.

use super::MetainfoError;
use super::files::FilesBuilder;
use crate::wire::bencode::{Lenient, Shape, optional, pairs};
use crate::wire::limits::METAINFO_FILES;
use bendy::decoding::{Error, Object};

/// The outer dictionary, without `info`.
#[derive(Default)]
pub struct Outer<'a> {
    pub announce: Option<&'a [u8]>,
    pub announce_list: Lenient<Lenient<&'a [u8]>>,
    pub comment: Option<&'a [u8]>,
    pub comment_utf8: Option<&'a [u8]>,
    pub created_by: Option<&'a [u8]>,
    pub creation_date: Option<i64>,
    pub nodes: Lenient<NamedNode<'a>>,
    pub url_list: Lenient<&'a [u8]>,
}

impl<'a> Shape<'a> for Outer<'a> {
    fn read(object: Object<'_, 'a>) -> Result<Self, Error> {
        let mut outer = Outer::default();
        pairs(object, |key, value| match key {
            b"announce" => outer.announce = optional(value),
            b"announce-list" => outer.announce_list = optional(value).unwrap_or_default(),
            b"comment" => outer.comment = optional(value),
            b"comment.utf-8" => outer.comment_utf8 = optional(value),
            b"created by" => outer.created_by = optional(value),
            b"creation date" => outer.creation_date = optional(value),
            b"nodes" => outer.nodes = optional(value).unwrap_or_default(),
            b"url-list" => outer.url_list = optional(value).unwrap_or_default(),
            _ => {}
        })?;
        Ok(outer)
    }
}

/// A node of the DHT: a list of its host and its port (BEP 5).
pub struct NamedNode<'a> {
    pub host: &'a [u8],
    pub port: i64,
}

impl<'a> Shape<'a> for NamedNode<'a> {
    fn read(object: Object<'_, 'a>) -> Result<Self, Error> {
        let mut list = object.try_into_list()?;
        let host = list.next_object()?.ok_or_else(|| Error::missing_field("host"))?.try_into_bytes()?;
        let port = i64::read(list.next_object()?.ok_or_else(|| Error::missing_field("port"))?)?;
        Ok(NamedNode { host, port })
    }
}

/// The info dictionary.
#[derive(Default)]
pub struct Info<'a> {
    pub name: Option<&'a [u8]>,
    pub name_utf8: Option<&'a [u8]>,
    pub piece_length: Option<i64>,
    pub pieces: Option<&'a [u8]>,
    pub length: Option<i64>,
    pub attr: &'a [u8],
    pub files: Option<Listed>,
    pub has_files: bool,
    pub private: Option<i64>,
    pub meta_version: Option<i64>,
    pub has_file_tree: bool,
}

impl<'a> Shape<'a> for Info<'a> {
    fn read(object: Object<'_, 'a>) -> Result<Self, Error> {
        let mut info = Info::default();
        pairs(object, |key, value| match key {
            b"name" => info.name = optional(value),
            b"name.utf-8" => info.name_utf8 = optional(value),
            b"piece length" => info.piece_length = optional(value),
            b"pieces" => info.pieces = optional(value),
            b"length" => info.length = optional(value),
            b"attr" => info.attr = optional(value).unwrap_or_default(),
            b"files" => (info.has_files, info.files) = (true, optional(value)),
            b"private" => info.private = optional(value),
            b"meta version" => info.meta_version = optional(value),
            b"file tree" => info.has_file_tree = true,
            _ => {}
        })?;
        Ok(info)
    }
}

/// The list `files`, taken in entry by entry: of a long list no second form is ever held.
#[derive(Default)]
pub struct Listed {
    /// Those that were good, up to the first that was not, below no root.
    pub files: FilesBuilder,
    /// Entries in all.
    pub count: usize,
    /// What was wrong with the first that was wrong.
    pub problem: Option<MetainfoError>,
}

impl<'a> Shape<'a> for Listed {
    fn read(object: Object<'_, 'a>) -> Result<Self, Error> {
        let mut list = object.try_into_list()?;
        let mut listed = Listed::default();
        while let Some(item) = list.next_object()? {
            let file = File::read(item)?;
            listed.count = listed.count.saturating_add(1);
            if listed.problem.is_none() && listed.count <= METAINFO_FILES {
                listed.problem = file.add_to(&mut listed.files).err();
            }
        }
        Ok(listed)
    }
}

/// One entry of `files`.
#[derive(Default)]
pub struct File<'a> {
    pub length: Option<i64>,
    pub path: Option<Vec<&'a [u8]>>,
    pub path_utf8: Option<Vec<&'a [u8]>>,
    pub attr: &'a [u8],
}

impl<'a> Shape<'a> for File<'a> {
    fn read(object: Object<'_, 'a>) -> Result<Self, Error> {
        let mut file = File::default();
        pairs(object, |key, value| match key {
            b"length" => file.length = optional(value),
            b"path" => file.path = optional(value),
            b"path.utf-8" => file.path_utf8 = optional(value),
            b"attr" => file.attr = optional(value).unwrap_or_default(),
            _ => {}
        })?;
        Ok(file)
    }
}
