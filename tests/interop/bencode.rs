//! A small bencode encoder, for unusual torrents that no tool creates.

/// A value.
pub enum Value {
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    /// Entries in the order in which they are encoded.
    Dict(Vec<(&'static str, Value)>),
}

impl Value {
    /// Returns a string.
    pub fn text(text: impl AsRef<[u8]>) -> Value {
        Value::Bytes(text.as_ref().to_vec())
    }

    /// Encodes the value.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Value::Int(n) => format!("i{n}e").into_bytes(),
            Value::Bytes(bytes) => [format!("{}:", bytes.len()).as_bytes(), bytes].concat(),
            Value::List(items) => {
                [b"l".to_vec(), items.iter().flat_map(Value::encode).collect(), b"e".to_vec()].concat()
            }
            Value::Dict(pairs) => {
                let body = pairs
                    .iter()
                    .flat_map(|(key, value)| [Value::text(key).encode(), value.encode()].concat());
                [b"d".to_vec(), body.collect(), b"e".to_vec()].concat()
            }
        }
    }
}
