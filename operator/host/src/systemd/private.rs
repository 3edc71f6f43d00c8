//! systemd's private socket, as a socket of zbus.
//!
//! Where no message bus runs (KinD's node images and other slim ones install none), systemd speaks D-Bus itself on
//! `/run/systemd/private`. It names itself there as the sender, `org.freedesktop.systemd1` (systemd's
//! `bus_init_private`: `sd_bus_set_sender`). On a bus the sender is always a unique name such as `:1.0`, and zbus
//! refuses a message with any other ("Invalid unique name"). There is one peer here and nothing for its name to tell, so
//! each message gets one that zbus reads before it does.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixStream, unix},
};
use zbus::{
    Message,
    connection::socket::{ReadHalf, Socket, Split, WriteHalf},
    export::async_trait::async_trait,
};

/// An open private socket.
#[derive(Debug)]
pub(super) struct PrivateSocket(pub(super) UnixStream);

impl Socket for PrivateSocket {
    type ReadHalf = Reader;
    type WriteHalf = Writer;

    fn split(self) -> Split<Reader, Writer> {
        let (read, write) = self.0.into_split();
        Split::new(Reader(Bytes(read)), Writer(write))
    }
}

/// What comes, message by message.
#[derive(Debug)]
pub(super) struct Reader(Bytes);

#[async_trait]
impl ReadHalf for Reader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        self.0.recvmsg(buffer).await
    }

    async fn receive_message(
        &mut self,
        sequence: u64,
        received: &mut Vec<u8>,
        descriptors: &mut Vec<OwnedFd>,
    ) -> zbus::Result<Message> {
        self.0.fill(received, FIXED_HEADER).await?;
        let length = message_length(received)?;
        self.0.fill(received, length).await?;
        let mut message: Vec<u8> = received.drain(..length).collect();
        make_sender_unique(&mut message);
        // zbus finds a whole message received already, and reads nothing more.
        self.0.receive_message(sequence, &mut message, descriptors).await
    }
}

/// What comes, as bytes.
#[derive(Debug)]
struct Bytes(unix::OwnedReadHalf);

impl Bytes {
    /// Reads until there are at least that many bytes.
    async fn fill(&mut self, received: &mut Vec<u8>, wanted: usize) -> io::Result<()> {
        while received.len() < wanted {
            if self.0.read_buf(received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}

#[async_trait]
impl ReadHalf for Bytes {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        Ok((self.0.read(buffer).await?, Vec::new()))
    }
}

/// What goes out, as it is.
#[derive(Debug)]
pub(super) struct Writer(unix::OwnedWriteHalf);

#[async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, buffer: &[u8], _descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.0.write(buffer).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

/// Byte order, type, flags, version, length of the body, serial number, length of the fields: `yyyyuuu`. The fields follow.
const FIXED_HEADER: usize = 16;
/// The specification's bound for a whole message, 128 MiB.
const LONGEST: usize = 1 << 27;
/// The code of the header field SENDER.
const SENDER: u8 = 7;

/// How long the message is that these bytes begin.
fn message_length(start: &[u8]) -> zbus::Result<usize> {
    let (Some(body), Some(fields)) = (number(start, 4), number(start, 12)) else {
        return Err(zbus::Error::IncorrectEndian);
    };
    match fields.checked_add(FIXED_HEADER).and_then(|header| header.next_multiple_of(8).checked_add(body)) {
        Some(length) if length <= LONGEST => Ok(length),
        _ => Err(zbus::Error::ExcessData),
    }
}

/// Gives the sender the form of a unique name, of the same length: `:rg.freedesktop.systemd1`. A message that has none,
/// or that cannot be read, is left to zbus as it is.
fn make_sender_unique(message: &mut [u8]) {
    if let Some(name) = sender(message).and_then(|at| message.get_mut(at)) {
        *name = b':';
    }
}

/// Where the sender's name begins. The fields are an `a(yv)` in which each value is a string, a signature or a number.
fn sender(message: &[u8]) -> Option<usize> {
    let end = FIXED_HEADER + number(message, 12)?;
    let mut at = FIXED_HEADER;
    while at < end {
        let [code, _, kind, _] = *message.get(at..at + 4)?.first_chunk()?;
        let value = at + 4;
        if code == SENDER {
            return Some(value + 4);
        }
        let length = match kind {
            b's' | b'o' => 4 + number(message, value)? + 1,
            b'g' => 1 + usize::from(*message.get(value)?) + 1,
            b'u' => 4,
            _ => return None,
        };
        at = (value + length).next_multiple_of(8);
    }
    None
}

/// The number at that place, in the message's byte order.
fn number(message: &[u8], at: usize) -> Option<usize> {
    let bytes = *message.get(at..at.checked_add(4)?)?.first_chunk()?;
    let number = match message.first()? {
        b'l' => u32::from_le_bytes(bytes),
        b'B' => u32::from_be_bytes(bytes),
        _ => return None,
    };
    usize::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;
    use zbus::{ObjectPath, message, wire::Endian};

    use super::*;

    /// As long as the name under which systemd sends, which zbus would not write.
    const UNIQUE: &str = ":rg.freedesktop.systemd1";
    const SYSTEMD: &str = "org.freedesktop.systemd1";

    fn signal<'m>(member: &'m str, serial: u32, endian: Endian) -> message::Builder<'m> {
        Message::signal("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", member)
            .serial(NonZeroU32::new(serial).unwrap())
            .endian(endian)
    }

    fn built(message: message::Builder<'_>, text: &str) -> Vec<u8> {
        let job = ObjectPath::try_from("/org/freedesktop/systemd1/job/7").unwrap();
        message.build(&(7_u32, job, text, "done")).unwrap().data().bytes().to_vec()
    }

    /// The message as systemd sends it.
    fn sent(member: &str, serial: u32, endian: Endian, text: &str) -> Vec<u8> {
        let mut message = built(signal(member, serial, endian).sender(UNIQUE), text);
        let at = message.windows(UNIQUE.len()).position(|bytes| bytes == UNIQUE.as_bytes()).unwrap();
        message[at..at + UNIQUE.len()].copy_from_slice(SYSTEMD.as_bytes());
        message
    }

    fn either_endian() -> impl Strategy<Value = Endian> {
        prop_oneof![Just(Endian::Little), Just(Endian::Big)]
    }

    proptest! {
        #[test]
        fn only_the_sender_changes(
            member in "[A-Za-z]{1,20}", text in ".{0,40}", serial in 1_u32.., endian in either_endian()
        ) {
            let mut message = sent(&member, serial, endian, &text);
            make_sender_unique(&mut message);
            prop_assert_eq!(&message, &built(signal(&member, serial, endian).sender(UNIQUE), &text));
            let mut without = built(signal(&member, serial, endian), &text);
            make_sender_unique(&mut without);
            prop_assert_eq!(without, built(signal(&member, serial, endian), &text));
        }

        #[test]
        fn the_first_bytes_say_how_long_a_message_is(
            member in "[A-Za-z]{1,20}", text in ".{0,40}", endian in either_endian()
        ) {
            let message = sent(&member, 1, endian, &text);
            prop_assert_eq!(message_length(&message[..FIXED_HEADER]).unwrap(), message.len());
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200), first in "[lBx]") {
            let mut bytes = [first.as_bytes(), &bytes].concat();
            let _ = message_length(&bytes);
            make_sender_unique(&mut bytes);
        }
    }

    #[test]
    fn a_length_beyond_the_specification_is_refused() {
        let mut message = sent("JobRemoved", 1, Endian::Little, "x");
        message[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(message_length(&message), Err(zbus::Error::ExcessData)));
    }

    /// Messages do not come one per read.
    #[tokio::test]
    async fn messages_are_read_whole_however_they_arrive() {
        let messages =
            ["a", "", "unit-in-three-pieces"].map(|text| sent("JobRemoved", 1, Endian::Little, text)).concat();
        for piece in [1, 17, messages.len()] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let (mut reader, _writer) = PrivateSocket(ours).split().take();
            let pieces: Vec<Vec<u8>> = messages.chunks(piece).map(<[u8]>::to_vec).collect();
            let sending = tokio::spawn(async move {
                for piece in pieces {
                    theirs.write_all(&piece).await.unwrap();
                }
            });
            // What the handshake has read already comes first.
            let (mut received, mut descriptors) = (Vec::new(), Vec::new());
            for (sequence, expected) in ["a", "", "unit-in-three-pieces"].into_iter().enumerate() {
                let message = reader.receive_message(sequence as u64, &mut received, &mut descriptors).await.unwrap();
                let body = message.body();
                let (_, _, unit, _): (u32, ObjectPath<'_>, String, String) = body.deserialize().unwrap();
                assert_eq!(unit, expected);
            }
            sending.await.unwrap();
            let end = reader.receive_message(3, &mut received, &mut descriptors).await;
            assert!(
                matches!(end, Err(zbus::Error::InputOutput(error)) if error.kind() == io::ErrorKind::UnexpectedEof)
            );
        }
    }
}
