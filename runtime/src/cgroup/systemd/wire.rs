//! Messages of D-Bus, as far as systemd is talked to.
//!
//! A message is a header and a body, in which every value stands at a multiple of its size. The
//! [D-Bus specification](https://dbus.freedesktop.org/doc/dbus-specification.html), "Message Protocol" and "Marshaling".

/// A property of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Property {
    pub(super) name: String,
    pub(super) value: Value,
}

/// Values that properties have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// `b`
    Flag(bool),
    /// `i`
    Signed(i32),
    /// `u`
    Word(u32),
    /// `t`
    Number(u64),
    /// `s`
    Text(String),
    /// `ay`
    Bytes(Vec<u8>),
    /// `au`
    Words(Vec<u32>),
    /// `as`
    Texts(Vec<String>),
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
}

impl Property {
    pub(super) fn new(name: impl Into<String>, value: Value) -> Self {
        Self { name: name.into(), value }
    }
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Self::Flag(_) => "b",
            Self::Signed(_) => "i",
            Self::Word(_) => "u",
            Self::Number(_) => "t",
            Self::Text(_) => "s",
            Self::Bytes(_) => "ay",
            Self::Words(_) => "au",
            Self::Texts(_) => "as",
            Self::Pairs(_) => "a(ss)",
        }
    }
}

/// A method that is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Method {
    /// The service; empty on a connection without a bus in between.
    pub(super) destination: &'static str,
    pub(super) object: &'static str,
    pub(super) interface: &'static str,
    pub(super) member: &'static str,
}

/// Bytes being written.
#[derive(Debug, Default)]
pub(super) struct Body {
    bytes: Vec<u8>,
    signature: String,
}

impl Body {
    pub(super) fn text(mut self, text: &str) -> Self {
        self.signature.push('s');
        put_text(&mut self.bytes, text);
        self
    }

    pub(super) fn flag(mut self, flag: bool) -> Self {
        self.signature.push('b');
        put_word(&mut self.bytes, flag.into());
        self
    }

    pub(super) fn words(mut self, words: &[u32]) -> Self {
        self.signature.push_str("au");
        put_list(&mut self.bytes, 4, words, |bytes, word| put_word(bytes, *word));
        self
    }

    pub(super) fn properties(mut self, properties: &[Property]) -> Self {
        self.signature.push_str("a(sv)");
        put_list(&mut self.bytes, 8, properties, |bytes, property| {
            align(bytes, 8);
            put_text(bytes, &property.name);
            put_variant(bytes, &property.value);
        });
        self
    }

    /// Further units that are made with the first, with their properties: none.
    pub(super) fn no_further_units(mut self) -> Self {
        self.signature.push_str("a(sa(sv))");
        put_list::<()>(&mut self.bytes, 8, &[], |_, ()| ());
        self
    }

    /// The whole message of a call.
    pub(super) fn call(self, method: Method, serial: u32) -> Vec<u8> {
        const CALL: u8 = 1;
        const VERSION: u8 = 1;
        let mut bytes = vec![b'l', CALL, 0, VERSION];
        put_word(&mut bytes, length(self.bytes.len()));
        put_word(&mut bytes, serial);
        let fields = [
            (field::PATH, 'o', method.object),
            (field::DESTINATION, 's', method.destination),
            (field::INTERFACE, 's', method.interface),
            (field::MEMBER, 's', method.member),
            (field::SIGNATURE, 'g', &self.signature),
        ];
        let fields: Vec<_> = fields.into_iter().filter(|(_, _, value)| !value.is_empty()).collect();
        put_list(&mut bytes, 8, &fields, |bytes, (code, kind, value)| {
            align(bytes, 8);
            bytes.push(*code);
            put_signature(bytes, &kind.to_string());
            if *kind == 'g' { put_signature(bytes, value) } else { put_text(bytes, value) }
        });
        align(&mut bytes, 8);
        bytes.extend(self.bytes);
        bytes
    }
}

mod field {
    pub(super) const PATH: u8 = 1;
    pub(super) const INTERFACE: u8 = 2;
    pub(super) const MEMBER: u8 = 3;
    pub(super) const ERROR_NAME: u8 = 4;
    pub(super) const REPLY_SERIAL: u8 = 5;
    pub(super) const DESTINATION: u8 = 6;
    pub(super) const SIGNATURE: u8 = 8;
}

fn align(bytes: &mut Vec<u8>, size: usize) {
    bytes.resize(bytes.len().next_multiple_of(size), 0);
}

/// What floe sends is far below 4 GiB.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn put_word(bytes: &mut Vec<u8>, value: u32) {
    align(bytes, 4);
    bytes.extend(value.to_le_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_word(bytes, length(text.len()));
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

fn put_signature(bytes: &mut Vec<u8>, signature: &str) {
    bytes.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
    bytes.extend(signature.as_bytes());
    bytes.push(0);
}

/// The length of a list is counted from its first entry, behind what aligns that.
fn put_list<T>(bytes: &mut Vec<u8>, size: usize, list: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    put_word(bytes, 0);
    let place = bytes.len() - 4;
    align(bytes, size);
    let start = bytes.len();
    list.iter().for_each(|entry| put(bytes, entry));
    let count = length(bytes.len() - start);
    bytes[place..place + 4].copy_from_slice(&count.to_le_bytes());
}

fn put_variant(bytes: &mut Vec<u8>, value: &Value) {
    put_signature(bytes, value.signature());
    match value {
        Value::Flag(flag) => put_word(bytes, (*flag).into()),
        Value::Signed(number) => put_word(bytes, number.cast_unsigned()),
        Value::Word(number) => put_word(bytes, *number),
        Value::Number(number) => {
            align(bytes, 8);
            bytes.extend(number.to_le_bytes());
        }
        Value::Text(text) => put_text(bytes, text),
        Value::Bytes(list) => put_list(bytes, 1, list, |bytes, byte| bytes.push(*byte)),
        Value::Words(list) => put_list(bytes, 4, list, |bytes, word| put_word(bytes, *word)),
        Value::Texts(list) => put_list(bytes, 4, list, |bytes, text| put_text(bytes, text)),
        Value::Pairs(list) => put_list(bytes, 8, list, |bytes, (first, second)| {
            align(bytes, 8);
            put_text(bytes, first);
            put_text(bytes, second);
        }),
    }
}

/// A message that came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    /// To which call it is the answer.
    pub(super) reply_to: Option<u32>,
    pub(super) member: String,
    pub(super) error: Option<String>,
    pub(super) signature: String,
    pub(super) body: Vec<u8>,
    big_endian: bool,
}

pub(super) const REPLY: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

/// Length of the part of a header that says how long everything is.
pub(super) const FIXED: usize = 16;

/// How many bytes follow the first 16 of a message: the fields, and the body. `None` if it is no message, or a larger one
/// than anybody sends to floe.
pub(super) fn following(fixed: &[u8; FIXED]) -> Option<usize> {
    const MOST: usize = 1 << 20;
    let big_endian = match fixed[0] {
        b'l' => false,
        b'B' => true,
        _ => return None,
    };
    let reader = Reader { bytes: fixed, at: 4, big_endian };
    let (body, fields) = (reader.word_at(4)?, reader.word_at(12)?);
    let fields = usize::try_from(fields).ok()?.checked_next_multiple_of(8)?;
    let all = fields.checked_add(usize::try_from(body).ok()?)?;
    (all <= MOST).then_some(all)
}

impl Message {
    /// Reads a whole message; `None` if it breaks the rules.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let big_endian = *bytes.first()? == b'B';
        let mut message = Self { kind: *bytes.get(1)?, big_endian, ..Self::default() };
        let mut reader = Reader { bytes, at: 12, big_endian };
        let end = usize::try_from(reader.word()?).ok()?.checked_add(FIXED)?;
        while reader.at < end {
            reader.align(8)?;
            let code = reader.byte()?;
            match (code, reader.signature()?.as_str()) {
                (field::REPLY_SERIAL, "u") => message.reply_to = Some(reader.word()?),
                (field::SIGNATURE, "g") => message.signature = reader.signature()?,
                (field::MEMBER, "s") => message.member = reader.text()?,
                (field::ERROR_NAME, "s") => message.error = Some(reader.text()?),
                (_, "s" | "o") => drop(reader.text()?),
                (_, "u") => drop(reader.word()?),
                (_, "g") => drop(reader.signature()?),
                _ => return None,
            }
        }
        reader.align(8)?;
        message.body = bytes.get(reader.at..)?.to_vec();
        Some(message)
    }

    /// Strings, object paths and words of the body from its start on, words in decimal.
    pub(super) fn texts(&self) -> Vec<String> {
        let mut reader = Reader { bytes: &self.body, at: 0, big_endian: self.big_endian };
        let mut found = Vec::new();
        for kind in self.signature.chars() {
            let text = match kind {
                's' | 'o' => reader.text(),
                'u' => reader.word().map(|word| word.to_string()),
                // The only variants that are asked for hold a string.
                'v' => reader.signature().filter(|inner| inner == "s").and_then(|_| reader.text()),
                _ => None,
            };
            match text {
                Some(text) => found.push(text),
                None => break,
            }
        }
        found
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl Reader<'_> {
    fn align(&mut self, size: usize) -> Option<()> {
        self.at = self.at.next_multiple_of(size);
        (self.at <= self.bytes.len()).then_some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn word_at(&self, at: usize) -> Option<u32> {
        let four: [u8; 4] = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    }

    fn word(&mut self) -> Option<u32> {
        self.align(4)?;
        let word = self.word_at(self.at)?;
        self.at += 4;
        Some(word)
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.word()?).ok()?;
        self.take(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        self.take(length)
    }

    /// With the zero byte at its end.
    fn take(&mut self, length: usize) -> Option<String> {
        let end = self.at.checked_add(length)?;
        let text = std::str::from_utf8(self.bytes.get(self.at..end)?).ok()?.to_owned();
        self.at = end;
        (self.byte()? == 0).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHOD: Method =
        Method { destination: "org.example", object: "/o", interface: "org.example.I", member: "Do" };

    #[test]
    fn a_call_is_read_as_it_was_written() {
        let bytes = Body::default().text("unit").text("replace").call(METHOD, 7);
        let fixed: [u8; FIXED] = bytes[..FIXED].try_into().unwrap();
        assert_eq!(following(&fixed), Some(bytes.len() - FIXED));
        let read = Message::parse(&bytes).unwrap();
        assert_eq!((read.kind, read.member.as_str(), read.signature.as_str()), (1, "Do", "ss"));
        assert_eq!(read.texts(), ["unit", "replace"]);
    }

    /// As `busctl --user --json=short call … a(sv)` shows it and the specification's rules of alignment want it.
    #[test]
    fn properties_stand_where_the_specification_wants_them() {
        let body = Body::default().properties(&[Property::new("Max", Value::Number(5))]);
        let mut expected = vec![24, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0];
        expected.extend(b"Max\0\x01t\0\0\0\0\0\0");
        expected.extend(5_u64.to_le_bytes());
        expected[0] = u8::try_from(expected.len() - 8).unwrap();
        assert_eq!(body.bytes, expected);
    }

    #[test]
    fn broken_messages_are_none() {
        let good = Body::default().text("unit").call(METHOD, 1);
        for cut in 0..good.len() {
            if let Some(read) = Message::parse(&good[..cut]) {
                assert!(read.texts().is_empty(), "cut at {cut}");
            }
        }
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                // Whatever comes of it, nothing breaks.
                let _ = following(&bad[..FIXED].try_into().unwrap());
                let _ = Message::parse(&bad).map(|read| read.texts());
            }
        }
        let mut long = [0; FIXED];
        long[0] = b'l';
        long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(following(&long), None);
    }
}
