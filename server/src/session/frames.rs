//! Frames from a stream: no byte of a frame is believed before its checksum, no length before its limit.

use std::io;

use net_raid_proto::frame::{FrameError, FrameKind, HEADER_LEN, Header};
use net_raid_proto::limits::BODY_MAX;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::time::timeout;

use super::FRAME_TIMEOUT;
use super::trouble::Trouble;

/// Bytes read ahead: header and body of a usual request come with one system call, and of a large
/// payload at most this much is copied; the rest goes from the socket straight to its place.
const READ_AHEAD: usize = 8 * 1024;
/// A `Hello` is 16 bytes; a stranger gets no more memory than this.
const HELLO_BODY_MAX: usize = 1024;

/// A frame whose checksums match.
#[derive(Debug)]
pub(super) struct Frame {
    pub header: Header,
    /// Body and payload.
    pub content: Vec<u8>,
}

/// Which frames are acceptable now.
#[derive(Debug, Clone, Copy)]
pub(super) enum Accept {
    /// Small ones of any version.
    Hello,
    /// Requests of the version agreed on.
    Request { version: u16 },
}

impl Accept {
    fn check(self, header: &Header) -> Result<(), Trouble> {
        let (body_max, payload_max) = match self {
            Accept::Hello => (HELLO_BODY_MAX, 0),
            Accept::Request { .. } => (BODY_MAX, usize::MAX),
        };
        if header.body_len as usize > body_max || header.payload_len as usize > payload_max {
            return Err(FrameError::Length { body: header.body_len, payload: header.payload_len }.into());
        }
        if header.kind != FrameKind::Request {
            return Err(Trouble::Direction);
        }
        match self {
            Accept::Request { version } if version != header.version => Err(Trouble::Version(header.version)),
            _ => Ok(()),
        }
    }
}

/// The receiving half of a connection.
pub(super) struct FrameReader<R> {
    input: BufReader<R>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(reader: R) -> Self {
        FrameReader { input: BufReader::with_capacity(READ_AHEAD, reader) }
    }

    /// Whether the next frame needs nothing more from the stream.
    pub fn has_whole_frame(&self) -> bool {
        let Some((header, content)) = self.input.buffer().split_first_chunk() else { return false };
        // A bad header needs nothing more either: it ends the connection.
        Header::decode(header).map_or(true, |h| (h.body_len + h.payload_len) as usize <= content.len())
    }

    /// The next frame, with its content in `content` (empty); `None` when the client closed the
    /// connection. Waits for ever for a first byte. Not cancel safe.
    pub async fn next(&mut self, accept: Accept, content: Vec<u8>) -> Result<Option<Frame>, Trouble> {
        if self.input.fill_buf().await?.is_empty() {
            return Ok(None);
        }
        timeout(FRAME_TIMEOUT, self.rest(accept, content)).await.map_err(|_| Trouble::Late)?.map(Some)
    }

    async fn rest(&mut self, accept: Accept, mut content: Vec<u8>) -> Result<Frame, Trouble> {
        let mut bytes = [0; HEADER_LEN];
        self.input.read_exact(&mut bytes).await?;
        let header = Header::decode(&bytes)?;
        accept.check(&header)?;
        let len = (header.body_len + header.payload_len) as usize;
        content.reserve_exact(len);
        let mut input = (&mut self.input).take(len as u64);
        while content.len() < len {
            // Into capacity that was never written: no time goes into zeroing it.
            if input.read_buf(&mut content).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        if crc32c::crc32c(&content) != header.content_crc {
            return Err(FrameError::ContentCrc.into());
        }
        Ok(Frame { header, content })
    }
}
