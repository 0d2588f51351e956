//! The scripts: whatever has to compare a token in the step that changes the value.
//!
//! Each works on one key, so that Redis Cluster can run it, and reads the header of the value alone, however large the
//! record behind it is.

use std::sync::LazyLock;

use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value, aio::ConnectionLike};

/// A script, and the name that Redis gives it.
#[derive(Debug)]
pub(super) struct Script {
    code: &'static str,
    hash: String,
}

pub(super) static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("claim.lua")));
pub(super) static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("renew.lua")));
pub(super) static COMPLETE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("complete.lua")));
pub(super) static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("release.lua")));
pub(super) static REMOVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("remove.lua")));

/// What nearly all calls have room in, so that they are written without moving.
const ARGUMENTS: usize = 9;
const ROOM: usize = 512;

impl Script {
    fn new(code: &'static str) -> Self {
        let hash = redis::Script::new(code).get_hash().to_owned();
        Self { code, hash }
    }

    /// Runs the script on `key` with the arguments that `write` adds.
    ///
    /// A server that does not have it, which it says before it has done anything, is sent the whole text, once.
    pub(super) async fn run<C: ConnectionLike>(
        &self,
        connection: &mut C,
        key: &str,
        write: impl Fn(&mut Cmd),
    ) -> RedisResult<Value> {
        let call = |command: &str, script: &str| {
            let mut call = Cmd::with_capacity(ARGUMENTS, ROOM);
            call.arg(command).arg(script).arg(1).arg(key);
            write(&mut call);
            call
        };
        let answer = call("EVALSHA", &self.hash).query_async(connection).await;
        match answer {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                call("EVAL", self.code).query_async(connection).await
            }
            answer => answer,
        }
    }
}
