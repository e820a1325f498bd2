//! Magic numbers and lengths (criu/include/magic.h).

use protobuf::Message;

use crate::error::{Error, Result};

/// Begins every image of a checkpoint but the inventory.
pub(crate) const COMMON: u32 = 0x5456_4319;
/// Begins statistics.
pub(crate) const SERVICE: u32 = 0x5510_5940;
pub(crate) const PAGEMAP: u32 = 0x5608_4025;
pub(crate) const PSTREE: u32 = 0x5027_3030;
pub(crate) const CORE: u32 = 0x5505_3847;
pub(crate) const FILES: u32 = 0x5630_3138;
pub(crate) const INVENTORY: u32 = 0x5831_3116;
pub(crate) const IDS: u32 = 0x5443_2030;
pub(crate) const USERNS: u32 = 0x5547_4906;
pub(crate) const MM: u32 = 0x5749_2820;
pub(crate) const FDINFO: u32 = 0x5621_3732;
pub(crate) const REMAP_FPATH: u32 = 0x5913_3954;
pub(crate) const CGROUP: u32 = 0x5938_3330;
pub(crate) const MNTS: u32 = 0x5556_3928;
pub(crate) const NETNS: u32 = 0x5593_3752;
pub(crate) const PIDNS: u32 = 0x6115_7326;
pub(crate) const STATS: u32 = 0x5709_3306;

/// Largest message. The largest that CRIU writes are memory maps of some hundred thousand areas.
const MESSAGE: usize = 64 << 20;

/// The messages of `bytes`, undecoded.
pub(crate) fn messages<'a>(image: &str, bytes: &'a [u8], common: u32, magic: u32) -> Result<Vec<&'a [u8]>> {
    behind(image, bytes, &[common, magic])
}

/// The first message of an image that begins with the number of its kind only, as the inventory does.
pub(crate) fn first_of_service<'a>(image: &str, bytes: &'a [u8], magic: u32) -> Result<Option<&'a [u8]>> {
    Ok(behind(image, bytes, &[magic])?.first().copied())
}

fn behind<'a>(image: &str, bytes: &'a [u8], numbers: &[u32]) -> Result<Vec<&'a [u8]>> {
    let bad = |what: &str| Error::BadImage { image: image.to_owned(), what: what.to_owned() };
    let word =
        |at: usize| bytes.get(at..at + 4).map(|raw| u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]));
    if numbers.iter().enumerate().any(|(at, number)| word(at * 4) != Some(*number)) {
        return Err(bad("it begins with another number"));
    }
    let mut found = Vec::new();
    let mut at = numbers.len() * 4;
    while at < bytes.len() {
        let size = word(at).ok_or_else(|| bad("it is cut"))? as usize;
        if size > MESSAGE {
            return Err(bad("a message is too long"));
        }
        found.push(bytes.get(at + 4..at + 4 + size).ok_or_else(|| bad("it is cut"))?);
        at += 4 + size;
    }
    Ok(found)
}

/// Decodes one message.
pub(crate) fn parse<M: Message>(image: &str, bytes: &[u8]) -> Result<M> {
    M::parse_from_bytes(bytes)
        .map_err(|error| Error::BadImage { image: image.to_owned(), what: error.to_string() })
}

/// An image under construction.
pub(crate) struct Image(Vec<u8>);

impl Image {
    pub(crate) fn new(common: u32, magic: u32) -> Self {
        let mut bytes = common.to_le_bytes().to_vec();
        bytes.extend_from_slice(&magic.to_le_bytes());
        Self(bytes)
    }

    pub(crate) fn raw(&mut self, message: &[u8]) {
        self.0.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.0.extend_from_slice(message);
    }

    pub(crate) fn message(&mut self, image: &str, message: &impl Message) -> Result<()> {
        let bytes = message
            .write_to_bytes()
            .map_err(|error| Error::BadImage { image: image.to_owned(), what: error.to_string() })?;
        self.raw(&bytes);
        Ok(())
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}
