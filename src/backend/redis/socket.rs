//! How sockets to a server are set up.

use std::time::Duration;

use redis::{
    Client, RedisResult,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

use super::link::Locate;

/// How long a socket may be idle before its peer is asked for a sign of life.
const IDLE: Duration = Duration::from_secs(10);

/// How long a peer may leave what was sent unacknowledged before it is thought dead: a host that vanishes says nothing.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// A client of the server that `locate` names, for sockets on which small packets go out at once and on which a dead peer
/// is noticed.
pub(super) async fn client(locate: &Locate) -> RedisResult<Client> {
    let info = locate().await?.get_connection_info().clone();
    let settings = settings(info.tcp_settings());
    Client::open(info.set_tcp_settings(settings))
}

fn settings(given: &TcpSettings) -> TcpSettings {
    let mut settings = given.clone().set_nodelay(true);
    if given.keepalive().is_none() {
        settings = settings.set_keepalive(TcpKeepalive::new().with_time(IDLE));
    }
    #[cfg(target_os = "linux")]
    if given.user_timeout().is_none() {
        settings = settings.set_user_timeout(UNACKNOWLEDGED);
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client leaves it off, which makes a command wait for the acknowledgement of the one before.
    #[test]
    fn small_packets_go_out_at_once() {
        assert!(!TcpSettings::default().nodelay());
        assert!(settings(&TcpSettings::default()).nodelay());
    }

    #[test]
    fn what_was_set_stays() {
        let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(77));
        let given = TcpSettings::default().set_keepalive(keepalive);
        let kept = format!("{:?}", settings(&given).keepalive());
        assert_eq!(kept, format!("{:?}", given.keepalive()));
    }
}
