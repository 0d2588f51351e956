//! How sockets to a server are set up.

use std::{io, time::Duration};

use redis::{
    Client, RedisResult,
    io::tcp::{
        TcpSettings,
        socket2::{SockRef, TcpKeepalive},
    },
};
use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
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

/// A connection to whichever address of `host` is the first to answer.
pub(super) async fn open(host: &str, port: u16, settings: &TcpSettings) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    for address in lookup_host((host, port)).await? {
        attempts.spawn(TcpStream::connect(address));
    }
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    while let Some(attempt) = attempts.join_next().await {
        match attempt? {
            Ok(stream) => return set_up(&stream, settings).map(|()| stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn set_up(stream: &TcpStream, settings: &TcpSettings) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(settings.nodelay())?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(settings.user_timeout())?;
    settings.keepalive().map_or(Ok(()), |keepalive| socket.set_tcp_keepalive(keepalive))
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

    #[tokio::test]
    async fn a_socket_is_set_up_as_the_settings_say() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = open("127.0.0.1", port, &settings(&TcpSettings::default())).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
    }

    #[test]
    fn what_was_set_stays() {
        let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(77));
        let given = TcpSettings::default().set_keepalive(keepalive);
        let kept = format!("{:?}", settings(&given).keepalive());
        assert_eq!(kept, format!("{:?}", given.keepalive()));
    }
}
