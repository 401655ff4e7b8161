//! A brick that can be made to lie: the fault that the checkers must notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use net_raid_proto::frame::Header;
use net_raid_proto::message::{Answer, Reply, Request};
use net_raid_server::brick::Brick;
use net_raid_server::disk::RealDisk;
use net_raid_server::session::Service;

/// A brick, honest unless told otherwise.
pub struct Liar {
    /// The brick.
    pub brick: Brick<RealDisk>,
    /// The next change is answered with yes, and not made.
    pub lies: Arc<AtomicBool>,
}

impl Service for Liar {
    fn handle(&self, header: &Header, request: &Request, payload: &[u8], now_ms: u64, out: &mut Vec<u8>) -> Answer {
        if matches!(request, Request::Change { .. }) && self.lies.swap(false, Ordering::SeqCst) {
            return Ok(Reply::Done);
        }
        self.brick.handle(header, request, payload, now_ms, out)
    }

    fn is_slow(&self, request: &Request) -> bool {
        self.brick.is_slow(request)
    }
}
